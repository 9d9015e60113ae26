"""The figure of study 1: error of what was learnt against the exact denoiser, at every noise level."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {
    "naive": "#d1662b",
    "ambient": "#8fc1e3",
    "rescaled": "#1f6fb2",
    "rescaled_eps": "#6b4fa0",
    "oracle": "#5a9e6f",
    "oracle_eps": "#b7a5d6",
    "few_clean_only": "#8a97a3",
    "few_cotrain": "#d1662b",
    "few_ambient": "#8fc1e3",
    "few_rescaled": "#1f6fb2",
    "few_rescaled_natural": "#1c2733",
}
LABELS = {
    "naive": "naive: noisy taken for clean",
    "ambient": "ambient loss",
    "rescaled": "rescaled ambient loss",
    "rescaled_eps": "rescaled, learnt as noise (DDPM form)",
    "oracle": "oracle: clean points",
    "oracle_eps": "oracle, learnt as noise",
    "few_clean_only": "100 clean points only",
    "few_cotrain": "100 clean + noisy, co-trained",
    "few_ambient": "100 clean + noisy, ambient loss",
    "few_rescaled": "100 clean + noisy, rescaled",
    "few_rescaled_natural": "the same, clean share as in the data",
}


def draw(document: dict[str, Any], worlds: list[str], file: Path) -> None:
    """Draw one panel a world for the arms without clean data, and one for those with a few clean points."""
    panels = [(world, few) for world in worlds for few in (False, True) if _names(document[world], few)]
    figure = Figure(figsize=(4.6 * len(panels), 4.2), layout="constrained")
    row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (world, few) in zip(row, panels, strict=True):
        _panel(axes, document, world, few)
    row[0].set_ylabel("root mean square distance to the exact E[X0 | x]")
    figure.savefig(file, dpi=130)


def _names(world: dict[str, Any], few: bool) -> list[str]:
    return [name for name in world["curves"] if name.startswith("few_") == few]


def _panel(axes: Axes, document: dict[str, Any], world: str, few: bool) -> None:
    sigmas, sigma_n = np.array(document["sigmas"]), document["settings"]["sigma_n"]
    axes.axvspan(sigmas[0] * 0.9, sigma_n, color="#f1f1ee", zorder=0)
    axes.plot(
        sigmas, document[world]["naive_bias"], "--", color="#1c2733", lw=1.2, label="naive, closed form"
    )
    for name in _names(document[world], few):
        curves = np.array([seed["exact"] for seed in document[world]["curves"][name].values()])
        axes.plot(sigmas, curves.mean(axis=0), ".-", color=COLOURS[name], label=LABELS[name], lw=1.4, ms=5)
        axes.fill_between(
            sigmas, curves.min(axis=0), curves.max(axis=0), color=COLOURS[name], alpha=0.2, lw=0
        )
    axes.set(xscale="log", yscale="log", xlabel="noise level sigma", xlim=(sigmas[0] * 0.9, sigmas[-1] * 1.1))
    kind = {"five": "five Gaussians", "gaussian": "one Gaussian"}[world]
    axes.set_title(f"{kind}, {'a few clean points' if few else 'noisy points only'}")
    where = "100 clean points teach here" if few else "nobody teaches here"
    axes.text(0.02, 0.015, where, transform=axes.transAxes, fontsize=7, color="#6a6a66")
    axes.legend(fontsize=7, frameon=False)
