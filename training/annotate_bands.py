"""From probabilities to bands: judge every corrupt source against the clean ones and apply the rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ambient_policy import provenance
from ambient_policy.annotation import Annotation, Bands, SourceAnnotation
from ambient_policy.locality import chunk_covariance, receptive_field
from ambient_policy.thresholds import clean_share, find_sigma_max, find_sigma_min, noise_grid, smoothing
from training.annotate_scores import Pool, Scores, ScoreSettings, cross_fit
from training.annotate_sources import SourceWindows, pool_of
from training.classifier import ClassifierSettings
from training.config import TrainConfig

Advance = Callable[[str, int, int], None]


@dataclass(frozen=True)
class BandSettings:
    """Grid, rule and locality."""

    tau: float = 0.05
    sigma_low: float = 0.01
    sigma_high: float = 10.0
    levels: int = 20
    smooth: float = 0.25
    """Width of the smoothing in ln sigma; the levels are 0.36 apart."""
    crossing: Literal["last", "first"] = "last"
    locality: bool = True
    tolerance: float = 1e-3
    """Of the receptive field: how much worse than from the whole chunk an action may be guessed."""


@dataclass(frozen=True)
class Judgement:
    """One corrupt source against all clean ones.

    `crops` is None without locality, and `whole` itself where the receptive field is always the whole chunk.
    """

    whole: Scores
    crops: Scores | None


def annotate(
    config: TrainConfig,
    sources: Sequence[SourceWindows],
    action_scale: Sequence[float],
    settings: BandSettings,
    scoring: ScoreSettings,
    classifier: ClassifierSettings,
    *,
    observed: bool,
    seed: int,
    advance: Advance = lambda what, done, total: None,
) -> tuple[Annotation, list[Bands | None], list[Judgement | None]]:
    """Find the bands of all corrupt sources.

    Each is told apart from the clean ones by classifiers of its own: with several kinds of corruption in one
    class, 0.5 - tau would mean something else for each kind.

    Returns:
        the table; one `Bands` and one `Judgement` a source, None for the clean ones.
    """
    grid = noise_grid(settings.sigma_low, settings.sigma_high, settings.levels)
    matrix = smoothing(grid, settings.smooth)
    clean = pool_of([source for source in sources if source.role == "clean"])
    lengths = None
    if settings.locality:
        covariance = chunk_covariance(clean.samples.chunk.cpu().double().numpy())
        lengths = receptive_field(covariance, grid, settings.tolerance)
    judgements: list[Judgement | None] = []
    for number, source in enumerate(sources):
        judgements.append(None)
        if source.role == "corrupt":
            judgements[-1] = _judge(
                clean, pool_of([source]), grid, lengths, classifier, scoring, seed + 1000 * number, advance
            )
    entries, bands = [], []
    for source, judged in zip(sources, judgements, strict=True):
        entry, band = _conclude(source, judged, grid, matrix, settings)
        entries.append(entry)
        bands.append(band)
    found = [judged for judged in judgements if judged is not None]
    corrupt = [entry for entry in entries if entry.role == "corrupt"]
    counts = [entry.windows for entry in corrupt]
    # Several corrupt sources: the mean of their divergences bounds that of their mixture from above.
    pooled = np.average([entry.mean_probability for entry in corrupt], axis=0, weights=counts)
    natural = len(clean.episode) / (len(clean.episode) + sum(counts))
    annotation = Annotation(
        commit=provenance.commit(),
        sigmas=tuple(grid.tolist()),
        tau=settings.tau,
        horizon=config.windows.horizon,
        relative_to=config.action.relative_to,
        action_scale=tuple(float(scale) for scale in action_scale),
        observed=observed,
        how={
            "seed": seed,
            "bands": dataclasses.asdict(settings),
            "scores": dataclasses.asdict(scoring),
            "classifier": dataclasses.asdict(classifier),
            "calibration": [judged.whole.calibration.round(5).tolist() for judged in found],
            "steps": [judged.whole.steps.tolist() for judged in found],
        },
        accuracy=tuple(np.mean([judged.whole.accuracy for judged in found], axis=0).clip(0, 1).tolist()),
        receptive_field=() if lengths is None else tuple(lengths.tolist()),
        sources=tuple(entries),
        mixture=tuple(clean_share(pooled, natural).clip(0, 1).tolist()),
    )
    return annotation, bands, judgements


def _judge(
    clean: Pool,
    corrupt: Pool,
    grid: np.ndarray,
    lengths: np.ndarray | None,
    classifier: ClassifierSettings,
    scoring: ScoreSettings,
    seed: int,
    advance: Advance,
) -> Judgement:
    whole = cross_fit(clean, corrupt, grid, classifier, scoring, seed, advance=advance)
    crops = None
    if lengths is not None and (lengths == clean.samples.chunk.shape[1]).all():
        crops = whole  # the crops are the chunks
    elif lengths is not None:
        crops = cross_fit(
            clean,
            corrupt,
            grid,
            classifier,
            scoring,
            seed + 1,
            lengths,
            lambda what, done, total: advance(f"crops: {what}", done, total),
        )
    return Judgement(whole, crops)


def _conclude(
    source: SourceWindows,
    judged: Judgement | None,
    grid: np.ndarray,
    matrix: np.ndarray,
    settings: BandSettings,
) -> tuple[SourceAnnotation, Bands | None]:
    """Apply the rule to one source: a band for every window, and one for their mean."""
    if judged is None:
        clean = SourceAnnotation(
            origin=source.origin, digest=source.digest, role=source.role, windows=len(source.frames)
        )
        return clean, None
    first = settings.crossing == "first"
    each = judged.whole.corrupt @ matrix.T
    mean = each.mean(axis=0)
    low, dataset = (find_sigma_min(grid, curve, settings.tau, first=first) for curve in (each, mean))
    high, dataset_high, crop_mean = np.zeros(len(each)), np.zeros(()), None
    if judged.crops is not None:
        crops = judged.crops.corrupt @ matrix.T
        crop_mean = crops.mean(axis=0)
        high = np.minimum(find_sigma_max(grid, crops, settings.tau), low)
        dataset_high = np.minimum(find_sigma_max(grid, crop_mean, settings.tau), dataset)
    entry = SourceAnnotation(
        origin=source.origin,
        digest=source.digest,
        role=source.role,
        windows=len(source.frames),
        sigma_min=float(dataset),
        sigma_max=float(dataset_high),
        mean_probability=tuple(mean.clip(0, 1).tolist()),
        mean_crop_probability=() if crop_mean is None else tuple(crop_mean.clip(0, 1).tolist()),
        per_window=True,
        share_all=float(np.mean(low == 0)),
        share_none=float(np.mean(np.isinf(low))),
    )
    return entry, Bands(source.frames, low, high)
