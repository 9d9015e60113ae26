"""The one figure of a report: how long every chunk took, and how the camera-to-command times spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from ambient_policy.page import page_figure
from ambient_policy.statistics import tail

INK, BLUE, ORANGE, GREY = "#1c2733", "#1f6fb2", "#d1662b", "#8a97a3"
COLOURS = (ORANGE, GREY, "#5a9e6f", BLUE)


def latency_figure(stages: Mapping[str, Sequence[float]], headline: str | None) -> str:
    """Draw times [ms] of every chunk, and the spread of the `headline` stage.

    Args: stages: name -> (N,) times; headline: which of them to show as a histogram.
    Returns: an <svg> element with its text as text, so that it stays sharp in print and can be searched.
    """
    figure = Figure(figsize=(9.6, 2.9), layout="constrained")
    FigureCanvasSVG(figure)  # type: ignore[no-untyped-call]
    over_run, spread = figure.subplots(1, 2, width_ratios=(3, 2))
    for colour, (name, values) in zip(COLOURS[-len(stages) :], stages.items(), strict=False):
        over_run.plot(
            np.arange(1, len(values) + 1), values, ".", ms=3.5, color=colour, label=name, rasterized=True
        )
    over_run.set(xlabel="chunk", ylabel="ms", title="Every chunk of the run")
    over_run.set_ylim(bottom=0)
    over_run.legend(fontsize=8, frameon=False, ncols=2, loc="upper left", bbox_to_anchor=(0, 1.02))
    # Room for the legend above the highest point.
    over_run.set_ylim(top=over_run.get_ylim()[1] * 1.3)

    if headline is None:
        spread.set_axis_off()
    else:
        values = stages[headline]
        times = tail(values)
        spread.hist(values, bins=min(40, max(8, len(values) // 8)), color=BLUE, alpha=0.75)
        for value, name in ((times.p50, "p50"), (times.p99, "p99")):
            spread.axvline(value, color=INK, lw=1, ls="--")
            spread.annotate(
                f" {name} {value:.0f}",
                (value, 0.97),
                xycoords=("data", "axes fraction"),
                fontsize=8,
                va="top",
            )
        spread.set(xlabel="ms", ylabel="chunks", title=headline[:1].upper() + headline[1:])
        spread.set_ylim(top=spread.get_ylim()[1] * 1.15)
        spread.set_xlim(left=0, right=max(times.max * 1.12, 1.0))
    return page_figure(figure, salt="report", dpi=200)
