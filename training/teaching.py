"""From the method in the config to arrays: bands by window, shares by noise level, contraction noise."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

from ambient_policy.annotation import Annotation, Bands
from ambient_policy.normalize import Normalizer
from training.admission import WindowBands, make_bands, match
from training.cache import Cache
from training.config import TrainConfig
from training.errors import TrainingError
from training.noise_first import Shares
from training.sources import AdmitConfig, DataConfig, SourceConfig


def source_digest(cache: Cache) -> str:
    """Name a source by its labels: SHA-256 over states, actions, valid flags and episode ends."""
    digest = hashlib.sha256()
    for key in ("state", "action", "valid", "episode_ends"):
        digest.update(np.ascontiguousarray(cache.lowdim[key]).tobytes())
    return digest.hexdigest()


def bands_of(
    config: TrainConfig,
    source: SourceConfig,
    cache: Cache,
    now: np.ndarray,
    annotation: tuple[Annotation, tuple[Bands | None, ...]] | None,
) -> WindowBands:
    """Work out what the windows of one source teach; `now` (W,) counts frames inside the source.

    Raises:
        TrainingError: the annotation is missing, or of other data or other chunks.
    """
    if not isinstance(source.admit, AdmitConfig) or not source.admit.annotated:
        return make_bands(source, now)
    if annotation is None:
        raise TrainingError(
            f"admit of {source.path} takes levels from an annotation and none is given; make one with "
            "`ambient-policy annotate` and pass --annotation FOLDER"
        )
    table, bands = annotation
    where = str(config.data.annotation)
    if (table.horizon, table.relative_to) != (config.windows.horizon, config.action.relative_to):
        raise TrainingError(
            f"annotation {where} is of chunks of {table.horizon} actions relative to the {table.relative_to} "
            f"and the config has {config.windows.horizon} relative to the {config.action.relative_to}; "
            "annotate again with this config"
        )
    whole, found = match(table, bands, source_digest(cache), source, where)
    return make_bands(source, now, found, whole)


def check_units(where: str, table: Annotation, action: Normalizer) -> None:
    """Refuse an annotation whose unit of action is not the run's: its levels would mean other distances.

    Raises:
        TrainingError: with both units.
    """
    if not np.allclose(table.action_scale, action.scale, rtol=0.01):
        raise TrainingError(
            f"annotation {where} was made with an action unit of {list(table.action_scale)} m and this run's "
            f"is {action.scale.tolist()} m (fitted to other clean episodes?); annotate again with these data "
            "or set action.unit_m in both"
        )


def make_shares(
    data: DataConfig, windows: tuple[int, ...], annotation: Annotation | None, device: torch.device
) -> Shares:
    """Turn the mixture into a table of weights over ln sigma, one column for each source that a run keeps.

    `windows` counts the training windows of those.
    """
    kept = list(data.kept)
    if data.mixture == "natural":
        return Shares()
    if data.mixture == "weights":
        sigmas, table = [1.0], [list(data.constant_weights())]
    elif data.mixture == "by_sigma":
        sigmas = [point.sigma for point in data.weights_by_sigma]
        table = [list(point.weights) for point in data.weights_by_sigma]
    else:
        if annotation is None or not annotation.mixture:
            raise TrainingError(
                "mixture `annotated` needs an annotation with a mixture; make one with `ambient-policy "
                "annotate` and pass --annotation FOLDER"
            )
        counts = np.zeros(len(data.sources))
        counts[kept] = windows
        clean = np.array([source.role == "clean" for source in data.sources])
        part = np.where(clean, counts / max(counts[clean].sum(), 1), counts / max(counts[~clean].sum(), 1))
        sigmas = list(annotation.sigmas)
        table = [(part * np.where(clean, share, 1 - share)).tolist() for share in annotation.mixture]
    return Shares(
        torch.tensor(sigmas, dtype=torch.float64, device=device).log(),
        torch.tensor(np.array(table)[:, kept], dtype=torch.float64, device=device),
    )


def frozen_noise(
    config: TrainConfig, sources: tuple[SourceConfig, ...], frames: int, action: int, device: torch.device
) -> Tensor | None:
    """Draw the contraction noise of every window (N, H, A) once: fresh draws could be averaged away."""
    if not any(s.used and s.target.kind != "denoise" and s.target.contraction for s in sources):
        return None
    rng = np.random.default_rng([config.seed, 2])
    shape = (frames, config.windows.horizon, action)
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)).to(device)
