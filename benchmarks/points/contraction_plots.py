"""The figure of study 2: what was generated, and how its distance depends on the noise level."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.points.episodes import read_points
from benchmarks.points.runs import denoiser_of, generate
from benchmarks.points.shapes import spiral

SHOWN = {
    "clean_only": "150 clean points only",
    "cotrain": "co-training, half clean",
    "ambient_per_dataset": "ambient, one sigma_min",
    "ambient_per_window": "ambient, sigma_min a point",
    "idea3_rescaled": "contraction, rescaled loss",
    "oracle": "oracle: 5150 clean points",
}
INK, BLUE, ORANGE, GREY, GREEN = "#1c2733", "#1f6fb2", "#d1662b", "#8a97a3", "#5a9e6f"


def draw(document: dict[str, Any], out: Path, file: Path) -> None:
    """Draw data, samples of the first seed, and both distances over the sweep of sigma_min."""
    seed = document["settings"]["seeds"][0]
    figure = Figure(figsize=(13, 6.6), layout="constrained")
    axes = figure.subplots(2, 5)
    data = out / f"data{seed}"
    _cloud(axes[0, 0], read_points(data / "corrupt"), "the data: clean (orange), corrupt", GREY)
    clean = read_points(data / "clean")
    axes[0, 0].plot(*clean.T, ".", ms=2.5, color=ORANGE)
    places = [axes[0, 1], axes[0, 2], axes[0, 3], axes[0, 4], axes[1, 0], axes[1, 1]]
    for place, (name, title) in zip(places, SHOWN.items(), strict=True):
        place.set_axis_off()
        if seed not in document["measured"].get(name, {}):
            continue
        points = generate(denoiser_of(out / f"seed{seed}" / name), 2500, np.random.default_rng([seed, 9]))
        off = 1e3 * document["measured"][name][seed]["off_curve"]
        _cloud(place, points, f"{title}\noff the curve {off:.0f}e-3", BLUE)
    titles = {
        "wasserstein": "Wasserstein distance",
        "energy": "energy distance",
        "off_curve": "distance to the curve",
    }
    for place, (key, title) in zip(axes[1, 2:], titles.items(), strict=True):
        _sweep(place, document, key, title)
    figure.savefig(file, dpi=130)


def _cloud(axes: Axes, points: np.ndarray, title: str, colour: str) -> None:
    axes.plot(*spiral(np.linspace(0, 1, 400)).T, color=INK, lw=0.6)
    axes.plot(*points.T, ".", ms=1, color=colour)
    axes.set(xlim=(-1.15, 1.15), ylim=(-1.0, 1.3), aspect="equal")
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()


def _sweep(axes: Axes, document: dict[str, Any], key: str, title: str) -> None:
    measured, levels = document["measured"], document["settings"]["sweep"]

    def values(name: str) -> np.ndarray:
        return np.array([row[key] for row in measured[name].values()])

    # Admitting everything and nothing belong to the sweep, at its ends.
    ends = {"cotrain": levels[0] / 2, "clean_only": levels[-1] * 2}
    at = {"cotrain": ends["cotrain"], **{f"idea1_{level:g}": level for level in levels}}
    at = {name: x for name, x in (at | {"clean_only": ends["clean_only"]}).items() if name in measured}
    for name, x in at.items():
        axes.plot(np.full(len(values(name)), x), values(name), ".", color=BLUE, ms=4, alpha=0.5)
    means = [values(name).mean() for name in at]
    axes.plot(list(at.values()), means, "-", color=BLUE, lw=1.4, label="sigma_min by hand")
    found = [f["dataset"] for f in document["found"].values() if f["dataset"] is not None]
    for name, colour, marker, label in (
        ("ambient_per_dataset", ORANGE, "D", "found, for all points"),
        ("per_dataset_natural", ORANGE, "*", "the same, natural clean share"),
        ("ambient_per_window", ORANGE, "s", "found, for each point"),
        ("idea3", INK, "^", "contraction, ambient loss"),
        ("idea3_rescaled", INK, "v", "contraction, rescaled"),
    ):
        if found and name in measured:
            axes.plot(
                np.mean(found), values(name).mean(), marker, color=colour, ms=6, mfc="none", label=label
            )
    for name, colour, style in (("oracle", GREEN, "-"), ("fresh clean points", GREEN, ":")):
        if name in measured:
            axes.axhline(values(name).mean(), color=colour, ls=style, lw=1, label=name)
    axes.set(xscale="log", xlabel="sigma_min")
    ticks = [ends["cotrain"], *levels, ends["clean_only"]]
    axes.set_xticks(ticks, ["0", *(f"{level:g}" for level in levels), "inf"])
    axes.minorticks_off()
    axes.set_title(title, fontsize=9)
    axes.set_ylim(bottom=0)
    if key == "energy":
        axes.legend(fontsize=6.5, frameon=False, loc="upper center")
        axes.set_ylim(top=1.7 * axes.get_ylim()[1])
