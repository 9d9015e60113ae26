"""Pictures of an annotation: the curves behind it, how the windows spread, and what the ends look like."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ambient_policy.annotation import Annotation, Bands
from training.annotate_bands import Judgement
from training.annotate_sources import SourceWindows

BLUE, ORANGE, GREY, GREEN = "#1f6fb2", "#d1662b", "#8a97a3", "#5a9e6f"


def draw(
    folder: Path,
    annotation: Annotation,
    bands: Sequence[Bands | None],
    judgements: Sequence[Judgement | None],
    sources: Sequence[SourceWindows],
) -> None:
    """Write curves_<i>.png, histogram_<i>.png and windows_<i>.png for every corrupt source i."""
    clean = np.concatenate([source.path for source in sources if source.role == "clean"])
    for i, (band, judged) in enumerate(zip(bands, judgements, strict=True)):
        if band is None or judged is None:
            continue
        _save(curves(annotation, i, judged), folder / f"curves_{i}.png")
        _save(histogram(annotation, i, band), folder / f"histogram_{i}.png")
        _save(ends(annotation, i, band, sources[i].path, clean), folder / f"windows_{i}.png")


def curves(annotation: Annotation, number: int, judged: Judgement) -> Figure:
    """Draw E_q[c], its crops' and the accuracy against sigma, with the threshold and what it gave."""
    source, sigmas = annotation.sources[number], annotation.sigmas
    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.semilogx(sigmas, source.mean_probability, "o-", ms=3, color=BLUE, label="E[c], whole chunks")
    if source.mean_crop_probability:
        left.semilogx(
            sigmas, source.mean_crop_probability, "s--", ms=3, color=GREEN, label="E[c], crops L(sigma)"
        )
    left.axhline(0.5 - annotation.tau, color=GREY, lw=1, label=f"0.5 - tau = {0.5 - annotation.tau:.2f}")
    for level, name, colour in ((source.sigma_min, "min", BLUE), (source.sigma_max, "max", GREEN)):
        if 0 < level < np.inf:
            left.axvline(level, color=colour, lw=1, ls=":")
            left.annotate(f" sigma_{name} {level:.3g}", (level, 0.02), color=colour, fontsize=8)
    left.set(xlabel="sigma [normalised]", ylabel="probability of clean", ylim=(0, 0.55))
    left.set_title(f"{source.origin}: held-out windows")
    left.legend(fontsize=8, frameon=False, loc="center right")
    right.semilogx(sigmas, judged.whole.accuracy, "o-", ms=3, color=BLUE, label="whole chunks")
    if judged.crops is not None:
        right.semilogx(sigmas, judged.crops.accuracy, "s--", ms=3, color=GREEN, label="crops")
    right.semilogx(sigmas, annotation.mixture, "-", color=ORANGE, label="clean share of the mixture")
    right.axhline(0.5, color=GREY, lw=1)
    right.set(xlabel="sigma [normalised]", ylabel="balanced accuracy, share", ylim=(0, 1.02))
    right.set_title("Held-out accuracy, and the mixture that fits")
    right.legend(fontsize=8, frameon=False)
    return figure


def histogram(annotation: Annotation, number: int, band: Bands) -> Figure:
    """Draw how sigma_min spreads over the windows; exactly 0 and inf stand apart."""
    source, level = annotation.sources[number], band.sigma_min
    inside = level[(level > 0) & np.isfinite(level)]
    edges = np.linspace(np.log10(annotation.sigmas[0]), np.log10(annotation.sigmas[-1]), 33)
    step = edges[1] - edges[0]
    share, _ = np.histogram(np.log10(inside), edges)
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.bar(edges[:-1], 100 * share / len(level), step, align="edge", color=BLUE)
    zero, never = edges[0] - 3 * step, edges[-1] + 3 * step
    axes.bar([zero], [100 * np.mean(level == 0)], 2 * step, color=GREEN)
    axes.bar([never], [100 * np.mean(np.isinf(level))], 2 * step, color=ORANGE)
    decades = [d for d in range(-4, 4) if edges[0] - 1e-9 <= d <= edges[-1] + 1e-9]
    axes.set_xticks([zero, *decades, never], ["0", *(f"{10.0**d:g}" for d in decades), "inf"])
    axes.set(xlabel="sigma_min [normalised]", ylabel="windows [%]")
    axes.set_title(
        f"{source.origin}: t_n = 0 for {100 * source.share_all:.1f} %, never for "
        f"{100 * source.share_none:.1f} % of {source.windows} windows",
        fontsize=10,
    )
    return figure


def ends(
    annotation: Annotation, number: int, band: Bands, path: np.ndarray, clean: np.ndarray, count: int = 24
) -> Figure:
    """Draw windows from both ends of the histogram beside clean ones, each from its tool position."""
    order = np.argsort(band.sigma_min, kind="stable")
    # Ties are common (all the zeros): take them evenly, not the first episode's.
    groups = []
    for part in (order[: max(1, len(order) // 20)], order[-max(1, len(order) // 20) :]):
        level = band.sigma_min[part]
        same = np.flatnonzero(band.sigma_min == level[0]) if (level == level[0]).all() else part
        groups.append(same[np.linspace(0, len(same) - 1, min(count, len(same))).astype(int)])
    picks = np.linspace(0, len(clean) - 1, min(count, len(clean))).astype(int)
    figure = Figure(figsize=(9.6, 3.5), layout="constrained")
    panels = figure.subplots(1, 3, sharex=True, sharey=True)
    low, high = (band.sigma_min[group] for group in groups)
    _trace(panels[0], clean[picks], BLUE, "clean")
    _trace(panels[1], path[groups[0]], GREEN, f"corrupt, sigma_min {_span(low)}")
    _trace(panels[2], path[groups[1]], ORANGE, f"corrupt, sigma_min {_span(high)}")
    figure.suptitle(annotation.sources[number].origin, fontsize=10)
    return figure


def _span(levels: np.ndarray) -> str:
    least, most = float(levels.min()), float(levels.max())
    return f"{least:.3g}" if least == most else f"{least:.3g} to {most:.3g}"


def _trace(axes: Axes, paths: np.ndarray, colour: str, title: str) -> None:
    for path in paths:
        moved = 1e3 * (path - path[0])
        axes.plot(moved[:, 0], moved[:, 1], "-", lw=0.8, color=colour, alpha=0.8)
    axes.set_title(title, fontsize=9)
    axes.set(xlabel="x [mm]", aspect="equal")
    axes.set_ylabel("y [mm]")


def _save(figure: Figure, file: Path) -> None:
    FigureCanvasAgg(figure)
    figure.savefig(file, dpi=110)
