"""The figures of a dataset's page; each is an <svg> element."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np

from ambient_policy.data.projection import goal
from ambient_policy.errors import ConfigError
from ambient_policy.page import page_figure
from ambient_policy.spectra import default_band, fit_whitened

matplotlib.use("Agg")
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

if TYPE_CHECKING:
    from ambient_policy.data.overview import Source

COLOURS = ("#1f6fb2", "#d1662b", "#5a9e6f", "#7d5ba6", "#8a97a3", "#b3261e")
INK = "#1c2733"
POSE = "privileged_slider_pose"
MOST_ARROWS = 600


def colour(index: int) -> str:
    """Return the colour of the dataset at `index`."""
    return COLOURS[index % len(COLOURS)]


def outcome_figure(sources: list[Source]) -> str:
    """Draw histograms of the lengths and bars of the outcomes."""
    figure = _figure(9.6, 2.7)
    lengths, outcomes = figure.subplots(1, 2, width_ratios=(3, 2))
    longest = float(max(max(source.seconds) for source in sources))
    bins = np.linspace(0, longest * 1.02, 31)
    for index, source in enumerate(sources):
        share = np.full(len(source.seconds), 100 / len(source.seconds))
        lengths.hist(
            source.seconds, bins, weights=share, histtype="stepfilled", alpha=0.35, color=colour(index)
        )
        lengths.hist(
            source.seconds, bins, weights=share, histtype="step", color=colour(index), label=source.label
        )
    lengths.set(xlabel="s", ylabel="% of the episodes", title="Length of an episode", xlim=(0, bins[-1]))
    if len(sources) > 1:
        lengths.legend(fontsize=8, frameon=False)
    counts = [Counter(e.meta.outcome for e in source.episodes) for source in sources]
    names = [name for name, _ in sum(counts, Counter()).most_common(8)]
    height = 0.8 / len(sources)
    for index, (source, count) in enumerate(zip(sources, counts, strict=True)):
        rows = np.arange(len(names)) + (index - (len(sources) - 1) / 2) * height
        shares = [100 * count[name] / len(source.episodes) for name in names]
        outcomes.barh(rows, shares, height * 0.9, color=colour(index))
        for row, name, part in zip(rows, names, shares, strict=True):
            outcomes.annotate(
                f" {count[name]}", (part, row), va="center", fontsize=8, color=INK, annotation_clip=False
            )
    outcomes.set_yticks(range(len(names)), names)
    outcomes.invert_yaxis()
    outcomes.set(xlabel="% of the episodes", title="Outcome", xlim=(0, 112))
    return _svg(figure)


def spectra_figure(sources: list[Source], segment_steps: int, rng: np.random.Generator) -> str | None:
    """Draw the power of the actions by frequency, and how fast commands move; None if all are too short."""
    figure = _figure(9.6, 3.0)
    spectrum_axes, speed_axes = figure.subplots(1, 2, width_ratios=(3, 2))
    drawn = False
    for index, source in enumerate(sources):
        period_s = source.episodes[0].meta.period_s
        actions = [e.arrays["action"] for e in source.episodes]
        valid = [e.arrays["valid"] for e in source.episodes]
        if fitted := _fit(actions, valid, period_s, segment_steps, rng):
            spectrum, law = fitted
            spectrum_axes.loglog(
                spectrum.frequency_hz,
                spectrum.power * 1e6,
                ".-",
                color=colour(index),
                lw=1.4,
                ms=4,
                label=f"{source.label}: falls as f^-{law.alpha:.2f} ± {law.alpha_error:.2f}"
                if np.isfinite(law.alpha_error)
                else f"{source.label}: falls as f^-{law.alpha:.2f}",
            )
            inside = spectrum.frequency_hz[
                (spectrum.frequency_hz >= law.band_hz[0]) & (spectrum.frequency_hz <= law.band_hz[1])
            ]
            spectrum_axes.loglog(inside, law.at(inside) * 1e6, color=INK, lw=0.8, ls="--")
            drawn = True
        moves = [np.diff(a, axis=0)[v[1:] & v[:-1]] for a, v in zip(actions, valid, strict=True)]
        speed = np.linalg.norm(np.concatenate(moves), axis=1) / period_s * 1000
        if len(speed):
            top = np.quantile(speed, 0.999) * 1.05 or 1.0
            speed_axes.hist(
                speed,
                np.linspace(0, top, 41),
                weights=np.full(len(speed), 100 / len(speed)),
                histtype="step",
                color=colour(index),
            )
    if not drawn:
        return None
    spectrum_axes.set(xlabel="Hz", ylabel="mm²", title="Power of the actions")
    spectrum_axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    spectrum_axes.xaxis.set_major_formatter(FuncFormatter(lambda f, _: f"{f:g}"))
    spectrum_axes.xaxis.set_minor_formatter(NullFormatter())
    spectrum_axes.legend(fontsize=8, frameon=False, loc="lower left")
    speed_axes.set(xlabel="mm/s", ylabel="% of the steps", title="Speed of the commands")
    return _svg(figure)


def _fit(
    actions: list[np.ndarray], valid: list[np.ndarray], period_s: float, steps: int, rng: np.random.Generator
) -> Any:
    """Fit with the segment asked for, or half of it and so on while episodes are too short."""
    while steps >= 16:
        try:
            return fit_whitened(actions, period_s, steps, default_band(steps, period_s), rng, valid)
        except ConfigError:
            steps //= 2
    return None


def plane_figure(sources: list[Source]) -> str:
    """Draw, seen from above, where every episode starts and where the tool goes; one row a dataset."""
    figure = _figure(9.6, 4.3 * len(sources))
    panels = figure.subplots(len(sources), 2, squeeze=False)
    for index, (source, (starts, paths)) in enumerate(zip(sources, panels, strict=True)):
        poses = np.array([e.arrays[POSE][0] for e in source.episodes if POSE in e.arrays])
        tools = np.array([e.arrays["state"][0] for e in source.episodes])
        if len(poses):
            some = poses[:: -(-len(poses) // MOST_ARROWS)]
            # Along the object's own x axis, coloured by its turn, so that gaps in either are seen.
            arrows = starts.quiver(
                some[:, 0],
                some[:, 1],
                np.cos(some[:, 2]),
                np.sin(some[:, 2]),
                np.degrees(np.angle(np.exp(1j * some[:, 2]))),
                cmap="hsv",
                clim=(-180, 180),
                scale=28,
                width=0.004,
                pivot="mid",
            )
            bar = figure.colorbar(arrows, ax=starts, ticks=(-180, -90, 0, 90, 180), shrink=0.7, pad=0.02)
            bar.set_label("turn of the object [deg]", fontsize=8)
            bar.ax.tick_params(labelsize=8)
        starts.plot(tools[:, 0], tools[:, 1], ".", ms=4, color=colour(index), label="tool", rasterized=True)
        if (target := goal(source.episodes[0].meta)) is not None:
            for axes in (starts, paths):
                axes.plot(*target[:2], "+", ms=11, mew=2, color=INK)
                axes.annotate(" goal", target[:2], fontsize=8, color=INK, va="bottom")
        faint = min(0.7, max(0.05, 15 / len(source.episodes)))
        for episode in source.episodes:
            if POSE in episode.arrays:
                paths.plot(
                    *episode.arrays[POSE][:, :2].T, color="#d1662b", lw=0.7, alpha=faint, rasterized=True
                )
            paths.plot(*episode.arrays["state"].T, color="#1f6fb2", lw=0.7, alpha=faint, rasterized=True)
        names = "object" if len(poses) else "tool"
        starts.set(
            title=f"{source.label}: starts of the {names}, {len(source.episodes)} episodes", ylabel="y [m]"
        )
        both = "tool (blue) and object (orange)" if len(poses) else "tool"
        paths.set(title=f"{source.label}: paths of the {both}")
        low, high = _extent([s for s in sources if s.episodes[0].meta.task == source.episodes[0].meta.task])
        for axes in (starts, paths):
            axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
            axes.set_aspect("equal", adjustable="box")
            axes.set_xlabel("x [m]")
            axes.grid(lw=0.4, color="#dfe4e8")
    return _svg(figure)


def _extent(sources: list[Source]) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners (2,) of all that the panels of one task show, so that they can be compared."""
    tracks = [e.arrays["state"] for source in sources for e in source.episodes]
    tracks += [e.arrays[POSE][:, :2] for source in sources for e in source.episodes if POSE in e.arrays]
    low = np.min([t.min(axis=0) for t in tracks], axis=0)
    high = np.max([t.max(axis=0) for t in tracks], axis=0)
    margin = 0.04 * float((high - low).max()) + 1e-3
    return low - margin, high + margin


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)  # type: ignore[no-untyped-call]
    return figure


def _svg(figure: Figure) -> str:
    return page_figure(figure, salt="overview", dpi=160)
