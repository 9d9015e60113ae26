"""The figures of `ambient-policy analyse`, as PNG bytes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ambient_policy import spectra
from ambient_policy.manifold import Clouds, posterior_mean

if TYPE_CHECKING:
    from ambient_policy.analyse_manifold import ManifoldReport
    from ambient_policy.analyse_spectra import SpectraReport

INK, GREY = "#1c2733", "#8a97a3"
CLEAN, CORRUPT = "#1f6fb2", ("#d1662b", "#5a9e6f", "#8e5ea2", "#b8860b")
LEVELS = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Noise levels drawn as lines across a spectrum."""


def spectra_figure(report: SpectraReport) -> bytes:
    """Draw spectra, cut-off, gain, and what noise leaves of the difference to the first corrupt source."""
    figure = Figure(figsize=(12.5, 7.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3)
    clean, sigmas = report.sources[0], np.array(report.sigmas)
    frequency, chunk_frequency = np.array(report.frequency_hz), np.array(report.chunk_frequency_hz)
    colours = (CLEAN, *(CORRUPT[i % len(CORRUPT)] for i in range(len(report.sources) - 1)))
    for source, colour in zip(report.sources, colours, strict=True):
        error = "" if source.alpha_error is None else f" ± {source.alpha_error:.2f}"
        label = f"{source.name}: α = {source.alpha:.2f}{error}"
        axes[0, 0].loglog(frequency, source.episode_power, ".-", color=colour, label=label)
        band = np.array(report.band_hz)
        axes[0, 0].loglog(band, source.level * band**-source.alpha, "--", color=INK, lw=1.2, zorder=3)
        axes[0, 1].semilogy(chunk_frequency, source.chunk_power, ".-", color=colour, label=source.name)
        axes[0, 2].semilogx(sigmas, source.cutoff_hz, color=colour, label=source.name)
    _levels(axes[0, 0], [p for s in report.sources for p in s.episode_power])
    _levels(axes[0, 1], [p for s in report.sources for p in s.chunk_power])
    _label(axes[0, 0], "frequency [Hz]", "power [unit²]", "Whole episodes, S ~ f^-α (dashed: fitted band)")
    horizon = len(chunk_frequency)
    _label(axes[0, 1], "frequency [Hz]", "power [unit²]", f"Chunks of {horizon} actions, cosine transform")
    _label(axes[0, 2], "noise level σ", "frequency [Hz]", "Cut-off: chunk power = σ²")
    for one in axes[0]:
        one.legend(fontsize=8, frameon=False)
    ticks = [f for f in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50) if frequency[0] <= f <= frequency[-1]]
    axes[0, 0].set_xticks(ticks, [f"{f:g}" for f in ticks])
    axes[0, 0].set_xticks([], minor=True)
    gain = spectra.wiener_gain(np.array(clean.chunk_power), sigmas)
    mesh = _map(axes[1, 0], chunk_frequency, sigmas, gain, "viridis", 0, 1)
    axes[1, 0].plot(sigmas, clean.cutoff_hz, color="white", lw=1.2)
    _label(
        axes[1, 0], "noise level σ", "frequency [Hz]", f"What denoising keeps of {clean.name}: S / (S + σ²)"
    )
    figure.colorbar(mesh, ax=axes[1, 0])
    _difference(figure, axes[1, 1], axes[1, 2], report, colours)
    unit = f"1 unit = {1000 * report.action_unit_m:.0f} mm"
    figure.suptitle(f"Action spectra, {unit}, {report.period_s:g} s a step", color=INK)
    return _png(figure)


def _difference(
    figure: Figure, left: Axes, right: Axes, report: SpectraReport, colours: tuple[str, ...]
) -> None:
    """Map the ratio to the first corrupt source; draw the largest one of every corrupt source over sigma."""
    clean, *others = report.sources
    if not others:
        for axes in (left, right):
            axes.set_axis_off()
        return
    sigmas = np.array(report.sigmas)
    chunk_frequency = np.array(report.chunk_frequency_hz)
    powers = [np.array(source.chunk_power) for source in (clean, others[0])]
    decibels = 10 * np.log10(spectra.surviving_ratio(powers[0], powers[1], sigmas))
    most = max(1.0, float(np.abs(decibels).max()))
    mesh = _map(left, chunk_frequency, sigmas, decibels, "RdBu", -most, most)
    _label(left, "noise level σ", "frequency [Hz]", f"{clean.name} / {others[0].name} under noise σ [dB]")
    figure.colorbar(mesh, ax=left)
    for source, colour in zip(others, colours[1:], strict=True):
        right.loglog(sigmas, np.array(source.largest_factor) - 1, color=colour, label=source.name)
        if source.chunks_hidden_above:
            right.axvline(source.chunks_hidden_above, color=colour, ls=":")
    if report.clean_halves:
        right.loglog(sigmas, np.array(report.clean_halves) - 1, color=CLEAN, label=f"halves of {clean.name}")
    right.axhline(float(report.settings["tolerance"]), color=GREY, lw=0.8)
    _label(right, "noise level σ", "factor - 1", "Power of a chunk feature, at most")
    right.legend(fontsize=8, frameon=False)


def manifold_figure(report: ManifoldReport, clouds: Clouds, arrows: int = 45) -> bytes:
    """Draw both clouds, the arrows of both denoisers at two noise levels, and their distance over sigma."""
    figure = Figure(figsize=(12.5, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 3)
    rng = np.random.default_rng(report.settings["seed"])
    start = clouds.clean[rng.integers(len(clouds.clean), size=arrows)]
    noise = rng.standard_normal(start.shape)
    for one, sigma, gap in (
        (axes[0], report.sigma_small, report.gap_small),
        (axes[1], report.sigma_large, report.gap_large),
    ):
        x = start + sigma * noise
        for points, colour, name in (
            (clouds.corrupt, CORRUPT[0], "corrupt"),
            (clouds.clean, CLEAN, "clean"),
        ):
            one.plot(*points.T, ".", ms=2.5, color=colour, label=name)
            move = posterior_mean(x, points, sigma) - x
            one.quiver(
                *x.T, *move.T, color=colour, angles="xy", scale_units="xy", scale=1, width=0.004, alpha=0.75
            )
        one.set_aspect("equal", adjustable="datalim")
        _label(one, "", "", f"σ = {sigma:.2g}: the denoisers differ by {gap / sigma:.2g} σ")
        one.legend(fontsize=8, frameon=False, markerscale=4)
    sigmas = np.array(report.sigmas)
    axes[2].loglog(sigmas, np.array(report.gap) / sigmas, color=INK, label="distance of the denoisers / σ")
    axes[2].loglog(
        sigmas, report.total_variation, color=CORRUPT[1], label="total variation of the noisy sets"
    )
    axes[2].loglog(sigmas, report.total_variation_bound, "--", color=CORRUPT[1], label="its bound, D / 2σ")
    for sigma in (report.sigma_small, report.sigma_large):
        axes[2].axvline(sigma, color=GREY, lw=0.8, ls=":")
    _label(axes[2], "noise level σ", "", "Noise brings both together")
    axes[2].legend(fontsize=8, frameon=False)
    return _png(figure)


def _levels(axes: Axes, powers: list[float]) -> None:
    """Draw the power of white noise at some levels, where the spectra are."""
    low, high = min(powers) / 3, max(powers) * 3
    axes.set_ylim(low, high)
    for sigma in LEVELS:
        if low < sigma**2 < high:
            axes.axhline(sigma**2, color=GREY, lw=0.7, ls=":")
            at = (0.995, sigma**2)
            axes.annotate(
                f"σ={sigma:g}", at, xycoords=("axes fraction", "data"), ha="right", va="bottom", size=7
            )


def _map(
    axes: Axes,
    frequency: np.ndarray,
    sigmas: np.ndarray,
    values: np.ndarray,
    colours: str,
    low: float,
    high: float,
) -> matplotlib.collections.QuadMesh:
    axes.set_xscale("log")
    return axes.pcolormesh(
        sigmas, frequency, values.T, cmap=colours, vmin=low, vmax=high, shading="nearest", rasterized=True
    )


def _label(axes: Axes, x: str, y: str, title: str) -> None:
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.set_title(title, fontsize=10, color=INK)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    # Nothing about the day or the library in the file, so that equal numbers give equal bytes.
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    return buffer.getvalue()
