"""Which windows may teach which noise levels: the bands of a run, from its config and annotation table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from ambient_policy.ambient import buffered
from ambient_policy.annotation import Annotation, Bands, SourceAnnotation
from training.config import DiffusionConfig
from training.errors import TrainingError
from training.sources import AdmitConfig, SourceConfig, TargetConfig


@dataclass(frozen=True)
class WindowBands:
    """What each of W windows teaches; all (W,) float32, in normalised action units.

    Attributes:
        sigma_min: it teaches the levels above, inf for none; the buffer is included.
        sigma_max: it teaches the levels up to here, 0 for none.
        sigma_n: level of the noise that its sample has in the upper band; 0 for plain denoising.
        contraction: level of the noise to be added to bring it there; 0 when the sample has it already.
        bound: largest factor on the ambient residual, 1 for the ambient loss as it is.
    """

    sigma_min: np.ndarray
    sigma_max: np.ndarray
    sigma_n: np.ndarray
    contraction: np.ndarray
    bound: np.ndarray

    def select(self, keep: np.ndarray) -> WindowBands:
        """Keep the windows where the (W,) mask or index says so."""
        return WindowBands(*(getattr(self, field.name)[keep] for field in fields(self)))


def join(bands: Sequence[WindowBands]) -> WindowBands:
    """Put the bands of several sources one after the other."""
    return WindowBands(
        *(np.concatenate([getattr(b, field.name) for b in bands]) for field in fields(WindowBands))
    )


def all_levels(count: int) -> WindowBands:
    """Let `count` windows teach every level."""
    return make_bands(SourceConfig(), np.zeros(count, np.int64))


def no_levels(count: int) -> WindowBands:
    """Let `count` windows teach nothing."""
    return make_bands(SourceConfig(admit="none"), np.zeros(count, np.int64))


def make_bands(
    source: SourceConfig,
    now: np.ndarray,
    found: Bands | None = None,
    whole: SourceAnnotation | None = None,
) -> WindowBands:
    """Work out the bands of one source.

    Args:
        now: (W,) present frame of each window, counted inside the source.
        found: its bands by window, from the annotation table; whole: its `SourceAnnotation`. Either may be
            None when the config does not ask for it.
    """
    count = len(now)
    admit = source.admit if isinstance(source.admit, AdmitConfig) else AdmitConfig()
    if not source.used:  # in the run for its units and its held-out episodes only
        upper, lower = np.full(count, np.inf), np.zeros(count)
    else:
        upper = _levels(admit.sigma_min, "sigma_min", math.inf, now, found, whole)
        lower = _levels(admit.sigma_max, "sigma_max", 0.0, now, found, whole)
    target = source.target
    sigma_n = np.zeros(count)
    if target.kind != "denoise":
        sigma_n = upper if target.sigma_n == "sigma_min" else np.full(count, target.sigma_n)
        upper = np.maximum(upper, _start(sigma_n, target))
    ambient = target.kind != "denoise"
    bound = target.bound if target.kind == "rescaled_ambient" else 1.0
    sigma_n = np.where(np.isfinite(upper), sigma_n, 0.0)
    arrays = (
        upper,
        np.minimum(lower, upper),
        sigma_n,
        sigma_n if ambient and target.contraction else np.zeros(count),
        np.full(count, bound),
    )
    return WindowBands(*(array.astype(np.float32) for array in arrays))


def _start(sigma_n: np.ndarray, target: TargetConfig) -> np.ndarray:
    """Where the ambient loss may begin: at the sample's own level, or a buffer above it."""
    return buffered(sigma_n, target.bound) if target.kind == "rescaled_ambient" else sigma_n


def _levels(
    asked: float | str,
    key: str,
    none: float,
    now: np.ndarray,
    found: Bands | None,
    whole: SourceAnnotation | None,
) -> np.ndarray:
    if asked == "none":
        return np.full(len(now), none)
    if asked == "dataset":
        return np.full(len(now), float(getattr(whole, key)))
    if asked == "window":
        assert found is not None
        at = found.at(now)
        return at[0] if key == "sigma_min" else at[1]
    return np.full(len(now), float(asked))


def match(
    annotation: Annotation, bands: Sequence[Bands | None], digest: str, source: SourceConfig, where: str
) -> tuple[SourceAnnotation, Bands | None]:
    """Find a source in an annotation table by the digest of its labels.

    Raises:
        TrainingError: the table is of other data, or lacks the bands by window that are asked for.
    """
    for whole, found in zip(annotation.sources, bands, strict=True):
        if whole.digest == digest:
            per_window = isinstance(source.admit, AdmitConfig) and "window" in (
                source.admit.sigma_min,
                source.admit.sigma_max,
            )
            if per_window and found is None:
                raise TrainingError(
                    f"annotation {where} has no bands by window for {whole.origin} (role {whole.role}); use "
                    "`dataset`, or annotate it as a corrupt source"
                )
            return whole, found
    known = ", ".join(f"{s.origin} ({s.digest[:12]})" for s in annotation.sources)
    raise TrainingError(
        f"annotation {where} is of another dataset: it knows {known} and {source.path} is {digest[:12]}; "
        "annotate these data with `ambient-policy annotate`, or give the table that belongs to them"
    )


def check_coverage(
    bands: Sequence[WindowBands], sources: Sequence[SourceConfig], diffusion: DiffusionConfig
) -> None:
    """Refuse a source that teaches nothing, and levels that nobody teaches.

    Raises:
        TrainingError: says which, and what to change.
    """
    low, high = diffusion.sigma_min, diffusion.sigma_max
    starts, ends = [], []
    for index, (band, source) in enumerate(zip(bands, sources, strict=True)):
        if not source.used:
            continue
        start, end = float(band.sigma_min.min()), float(band.sigma_max.max())
        if start >= high and end < low:
            raise TrainingError(
                f"data.sources.{index} ({source.path}) has no admissible window at any noise level: training "
                f"draws sigma in [{low:g}, {high:g}], and its windows teach only above {start:g} or up to "
                f"{end:g}; raise tau when annotating, set its `admit`, or write `admit: none`"
            )
        starts.append(start)
        ends.append(end)
    start, end = min(starts), max(ends)
    if start >= low and end < start:
        gap = f"[{max(low, end):g}, {min(high, start):g}]"
        raise TrainingError(
            f"no source teaches the noise levels {gap}, and training draws sigma in [{low:g}, {high:g}]; "
            f"admit a clean source there, or set diffusion.sigma_min above {start:g}"
        )
