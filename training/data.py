"""The data of one run: caches opened, normalised and split, with everything small already on the device."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ambient_policy.annotation import read_annotation
from ambient_policy.normalize import Normalizer, fit_isotropic, fit_range
from training.admission import WindowBands, all_levels, check_coverage, join, no_levels
from training.cache import POSE, Cache, open_or_build
from training.config import TrainConfig
from training.errors import TrainingError
from training.frames import FrameStore
from training.noise_first import Shares
from training.object_frame import POSE_UNIT_M
from training.policy import ACTION_SIZE
from training.sources import SourceConfig
from training.teaching import (
    bands_of,
    check_units,
    frozen_noise,
    make_shares,
    source_digest,
)
from training.windows import Windows, make_windows


@dataclass(frozen=True)
class Normalization:
    """How numbers enter and leave the network.

    Attributes:
        state: of the tool's position in the world [m], to [-1, 1], and of whatever else is told.
        action: of actions as the network sees them [m]; standard deviation `sigma_data` afterwards.
        pose_offset: (2,) m, centre of the object's positions, for the pretext and a pose that is told.
    """

    state: Normalizer
    action: Normalizer
    sigma_data: float
    pose_offset: np.ndarray


@dataclass(frozen=True)
class WindowTable:
    """Windows on the device, grouped by source.

    Attributes:
        now, first, last: (W,) int64 frame indices; counts: windows of each source, in order.
        bands: what each window teaches, fields (W,) float32.
    """

    now: Tensor
    first: Tensor
    last: Tensor
    counts: tuple[int, ...]
    bands: DeviceBands


@dataclass(frozen=True)
class DeviceBands:
    """`WindowBands` on the device; all (W,) float32."""

    sigma_min: Tensor
    sigma_max: Tensor
    sigma_n: Tensor
    contraction: Tensor
    bound: Tensor

    @classmethod
    def of(cls, bands: WindowBands, device: torch.device) -> DeviceBands:
        """Upload."""
        return cls(**{name: torch.as_tensor(values, device=device) for name, values in vars(bands).items()})


@dataclass(frozen=True)
class RunData:
    """All that training draws from.

    Attributes:
        sources: what the config says about each cache; shares: how often each is drawn.
        frames: images of all sources, one row of frames.
        state: (N, S) normalised; tool_m, action_m: (N, A) world [m].
        frozen: (N, H, A) standard normal noise of every window, or None when no source is contracted.
        pose: (N, 4) pretext target (x, y, cos yaw, sin yaw), or None.
        train, validation: windows; train_frames, near_goal, validation_frames: (M,) frame indices.
    """

    caches: tuple[Cache, ...]
    sources: tuple[SourceConfig, ...]
    shares: Shares
    frames: FrameStore
    normalization: Normalization
    state: Tensor
    tool_m: Tensor
    action_m: Tensor
    frozen: Tensor | None
    pose: Tensor | None
    train: WindowTable
    validation: WindowTable
    train_frames: Tensor
    near_goal: Tensor
    validation_frames: Tensor

    def summary(self) -> dict[str, Any]:
        """Describe the data for the run folder and the bundle."""
        return {
            "sources": [
                {
                    "origin": cache.meta.origin,
                    "key": cache.meta.key,
                    "role": source.role,
                    "digest": source_digest(cache),
                    "episodes": len(cache.meta.episodes),
                    "frames": cache.meta.steps,
                    "windows": windows,
                }
                for cache, source, windows in zip(self.caches, self.sources, self.train.counts, strict=True)
            ],
            "validation_windows": sum(self.validation.counts),
            "action_unit_m": float(self.normalization.action.scale[0]),
        }


def load_data(config: TrainConfig, device: torch.device, cache_root: Path | None = None) -> RunData:
    """Open or build the caches of `config.data`, split them by episode, fit normalisers and set the bands.

    A clean source that is not used for training still gives units and held-out episodes, so that arms which
    differ in what they learn from agree in both; a corrupt one that is not used is not opened.
    """
    for index in config.data.kept:
        if not config.data.sources[index].path:
            raise TrainingError(
                f"data.sources.{index} has no path; give it with --data FOLDER or in the config"
            )
    sources = tuple(config.data.sources[i] for i in config.data.kept)
    caches = tuple(open_or_build(s.path, config.cameras, cache_root) for s in sources)
    _check_alike(caches, config)
    offsets = np.cumsum([0, *(cache.meta.steps for cache in caches)])
    told = () if config.object_pose is None else (config.object_pose,)
    keys = ("state", "action", *config.state, *told)
    low = {key: np.concatenate([c.lowdim[key] for c in caches]) for key in keys}
    seen = np.concatenate([low[key].reshape(len(low[key]), -1) for key in ("state", *config.state)], axis=1)
    splits = _split(config, sources, caches, offsets)
    train, held_out = [part.train for part in splits], [part.validation for part in splits]
    if not sum(map(len, train)) or not sum(map(len, held_out)):
        raise TrainingError(
            "too few usable labels: train and validation both need a window whose labels are all valid; "
            "collect more episodes"
        )
    annotation = read_annotation(config.data.annotation) if config.data.annotation else None
    bands = [
        bands_of(config, source, cache, windows.now - offset, annotation)
        for source, cache, windows, offset in zip(sources, caches, train, offsets, strict=False)
    ]
    check_coverage(bands, sources, config.diffusion)
    train_frames = np.concatenate([part.train_frames for part in splits])
    normalization = _fit(config, low, seen, [part.fitted for part in splits], caches)
    state = normalization.state.apply(seen)
    if config.object_pose is not None:
        told_pose = pose_entries(low[config.object_pose], normalization.pose_offset)
        state = np.concatenate([state, told_pose], axis=1)
    if config.data.needs_annotation and annotation is not None:
        check_units(str(config.data.annotation), annotation[0], normalization.action)
    pose, near_goal = _pose(config, caches, normalization, train_frames)

    def put(array: np.ndarray, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.as_tensor(array, dtype=dtype).to(device)

    def table_of(windows: list[Windows], taught: WindowBands) -> WindowTable:
        columns = [np.concatenate([getattr(w, name) for w in windows]) for name in ("now", "first", "last")]
        now, first, last = (put(column, torch.int64) for column in columns)
        return WindowTable(now, first, last, tuple(map(len, windows)), DeviceBands.of(taught, device))

    counts = tuple(map(len, train))
    return RunData(
        caches=caches,
        sources=sources,
        shares=make_shares(config.data, counts, annotation and annotation[0], device),
        frames=FrameStore([c.images for c in caches], [c.meta.steps for c in caches], device),
        normalization=normalization,
        state=put(state),
        tool_m=put(low["state"]),
        action_m=put(low["action"]),
        frozen=frozen_noise(config, sources, int(offsets[-1]), ACTION_SIZE, device),
        pose=None if pose is None else put(pose),
        train=table_of(train, join(bands)),
        validation=table_of(held_out, all_levels(sum(map(len, held_out)))),
        train_frames=put(train_frames, torch.int64),
        near_goal=put(near_goal, torch.int64),
        validation_frames=put(np.concatenate([part.validation_frames for part in splits]), torch.int64),
    )


@dataclass(frozen=True)
class _Split:
    """One source, in frames of the whole run: windows to train and to judge on, and to fit units to."""

    train: Windows
    validation: Windows
    fitted: Windows
    train_frames: np.ndarray
    validation_frames: np.ndarray


def _split(
    config: TrainConfig, sources: tuple[SourceConfig, ...], caches: tuple[Cache, ...], offsets: np.ndarray
) -> list[_Split]:
    """Hold out some episodes of every source; only clean ones judge and set units, if there are any."""
    rng = np.random.default_rng([config.seed, 1])
    clean = any(source.role == "clean" for source in sources)
    out = []
    for source, cache, offset in zip(sources, caches, offsets, strict=False):
        ends = cache.lowdim["episode_ends"]
        held_out = _hold_out(len(ends), config.validation.fraction, rng)
        held_out = held_out[np.searchsorted(ends, np.arange(cache.meta.steps), side="right")]
        table = make_windows(cache.lowdim["valid"], ends, config.windows.horizon)
        judged = source.role == "clean" or not clean
        train, validation = ~held_out & source.used, held_out & judged
        out.append(
            _Split(
                table.select(train[table.now]).shifted(int(offset)),
                table.select(validation[table.now]).shifted(int(offset)),
                table.select(np.full(len(table), judged)).shifted(int(offset)),
                np.flatnonzero(train) + offset,
                np.flatnonzero(validation) + offset,
            )
        )
    return out


def only_clean(data: RunData) -> RunData:
    """Let every clean source teach everything and the others nothing, for the fine-tuning."""
    counts = zip(data.sources, data.train.counts, strict=True)
    bands = join(
        [all_levels(count) if source.role == "clean" else no_levels(count) for source, count in counts]
    )
    return replace(data, train=replace(data.train, bands=DeviceBands.of(bands, data.state.device)))


def chunk_indices(now: np.ndarray, last: np.ndarray, horizon: int) -> np.ndarray:
    """Frames whose actions label the windows, (W, H); the last command is repeated past an episode's end."""
    return np.minimum(now[:, None] + np.arange(horizon), last[:, None])


def _hold_out(episodes: int, fraction: float, rng: np.random.Generator) -> np.ndarray:
    if episodes < 2:
        raise TrainingError(f"{episodes} episode(s) in a source: one is held out, so at least 2 are needed")
    count = min(episodes - 1, max(1, round(fraction * episodes)))
    mask = np.zeros(episodes, dtype=bool)
    mask[rng.choice(episodes, count, replace=False)] = True
    return mask


def _fit(
    config: TrainConfig,
    low: dict[str, np.ndarray],
    seen: np.ndarray,
    fitted: list[Windows],
    caches: tuple[Cache, ...],
) -> Normalization:
    """Fit to all windows of the clean sources, held-out ones too: a unit must not depend on the seed."""
    now = np.concatenate([w.now for w in fitted])
    last = np.concatenate([w.last for w in fitted])
    episodes = np.unique(np.concatenate([np.column_stack([w.first, w.last]) for w in fitted]), axis=0)
    frames = np.concatenate([np.arange(first, end + 1) for first, end in episodes])
    chunks = low["action"][chunk_indices(now, last, config.windows.horizon)]
    relative = config.action.relative_to == "tool"
    if relative:
        chunks = chunks - low["state"][now][:, None]
    if config.action.unit_m is not None:
        action = Normalizer(np.zeros(ACTION_SIZE), np.full(ACTION_SIZE, config.action.unit_m))
    else:
        action = fit_isotropic(chunks) if relative else fit_range(chunks)
    key = config.object_pose or POSE
    poses = [c.lowdim[key][:, :2] for c in caches if key in c.lowdim]
    return Normalization(
        state=fit_range(seen[frames]),
        action=action,
        sigma_data=float(np.sqrt(np.mean(action.apply(chunks) ** 2))),
        pose_offset=np.concatenate(poses).mean(axis=0) if poses else np.zeros(2),
    )


def _pose(
    config: TrainConfig, caches: tuple[Cache, ...], normalization: Normalization, train_frames: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray]:
    """Pretext targets (N, 4), and the training frames near where demonstrations end."""
    without = [cache.meta.origin for cache in caches if POSE not in cache.lowdim]
    if without:
        if config.pretrain.steps or config.aux_pose_weight:
            raise TrainingError(
                f"episodes of {', '.join(without)} carry no `{POSE}`, which the pretext learns from; "
                "set pretrain.steps: 0 and aux_pose_weight: 0 (real-robot data has no such array)"
            )
        return None, train_frames
    pose = np.concatenate([cache.lowdim[POSE] for cache in caches])
    finals = np.concatenate([cache.lowdim[POSE][cache.lowdim["episode_ends"] - 1] for cache in caches])
    goal_xy = np.median(finals[:, :2], axis=0)
    goal_yaw = np.arctan2(np.median(np.sin(finals[:, 2])), np.median(np.cos(finals[:, 2])))
    turn = np.angle(np.exp(1j * (pose[:, 2] - goal_yaw)))
    near = (np.linalg.norm(pose[:, :2] - goal_xy, axis=1) < config.pretrain.near_goal_m) & (
        np.abs(turn) < np.deg2rad(config.pretrain.near_goal_deg)
    )
    chosen = train_frames[near[train_frames]]
    return pose_entries(pose, normalization.pose_offset), chosen if len(chosen) else train_frames


def pose_entries(pose: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Write poses (..., 3) x, y [m], yaw [rad] as networks read them: (..., 4) x, y in 0.1 m, cos, sin."""
    xy = (pose[..., :2] - offset) / POSE_UNIT_M
    return np.concatenate([xy, np.cos(pose[..., 2:]), np.sin(pose[..., 2:])], axis=-1)


def _check_alike(caches: tuple[Cache, ...], config: TrainConfig) -> None:
    for cache in caches:
        if cache.meta.period_s != caches[0].meta.period_s:
            raise TrainingError(
                f"{cache.meta.origin} runs at {cache.meta.period_s} s a step and {caches[0].meta.origin} at "
                f"{caches[0].meta.period_s}; a chunk has one period, so train them apart"
            )
        told = {} if config.object_pose is None else {config.object_pose: 3}
        for key, size in (config.state | told).items():
            array = cache.lowdim.get(key)
            found = "no such array" if array is None else f"{array.size // max(1, len(array))} numbers a step"
            if array is None or array.size != size * len(array):
                known = ", ".join(sorted(set(cache.lowdim) - {"episode_ends", "valid"}))
                where = "object_pose: " if key in told else "state."
                raise TrainingError(
                    f"{where}{key} needs {size} numbers a step and the episodes of {cache.meta.origin} have "
                    f"{found}; they have {known}"
                )
