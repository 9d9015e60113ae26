"""The picture of a sweep: a panel for every metric, a point for every seed, a bar for every arm's mean."""

from __future__ import annotations

import os
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from training.sweep_summary import Summary

INK, BLUE, ORANGE, GREY = "#1c2733", "#1f6fb2", "#d1662b", "#8a97a3"
_BETTER = {"max": "more is better", "min": "less is better"}


def draw_summary(summary: Summary, file: Path) -> None:
    """Write the picture as PNG. The baseline is orange; thin lines are the intervals of the table."""
    panels, arms = summary.shown, summary.arms
    longest = max(len(arm.name) for arm in arms)
    width = 0.09 * longest + 2.6 * max(1, len(panels)) + 0.4
    figure = Figure(figsize=(width, 1.1 + 0.36 * len(arms)), layout="constrained", dpi=130)
    FigureCanvasAgg(figure)
    axes_of = figure.subplots(1, max(1, len(panels)), sharey=True, squeeze=False)[0]
    for axes, name in zip(axes_of, panels, strict=False):
        for row, arm in enumerate(arms):
            metric = arm.metrics[name]
            colour = ORANGE if arm.name == summary.baseline else BLUE
            if metric.low is not None and metric.high is not None:
                axes.plot([metric.low, metric.high], [row, row], color=colour, lw=1, alpha=0.6)
            if metric.mean is not None:
                axes.plot([metric.mean] * 2, [row - 0.3, row + 0.3], color=colour, lw=2.5)
            values = [value for value in metric.by_seed.values() if value is not None]
            # Spread over the height of the row, so that equal values stay visible.
            spread = np.linspace(-0.15, 0.15, len(values)) if len(values) > 1 else np.zeros(len(values))
            axes.plot(values, row + spread, "o", ms=4, color=INK, alpha=0.75, mew=0)
        shown = [v for arm in arms for v in arm.metrics[name].by_seed.values() if v is not None]
        if shown:  # an interval over two seeds is wide enough to hide everything else
            margin = 0.5 * (max(shown) - min(shown)) or 0.05 * abs(shown[0]) or 0.05
            low, high = min(shown) - margin, max(shown) + margin
            if any(arm.metrics[name].trials for arm in arms):  # a rate, with room for a whole point
                low, high = max(low, -0.02), min(high, 1.02)
            axes.set_xlim(low, high)
        better = _BETTER.get(summary.directions.get(name, ""))
        axes.set_title(name, size=10)
        axes.set_xlabel(better or "", size=8)
        axes.grid(axis="x", color=GREY, alpha=0.3, lw=0.6)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(labelsize=8, left=False)
    axes_of[0].set_yticks(range(len(arms)), [arm.name for arm in arms])
    axes_of[0].set_ylim(len(arms) - 0.4, -0.6)  # the first arm on top
    beside = file.with_name(f".{file.name}.partial-{os.getpid()}")
    figure.savefig(beside, format="png")
    beside.replace(file)
