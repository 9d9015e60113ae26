"""The data of one run: caches opened, normalised and split, with everything small already on the device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ambient_policy.normalize import Normalizer, fit_isotropic, fit_range
from training.cache import POSE, Cache, open_or_build
from training.config import TrainConfig
from training.errors import TrainingError
from training.frames import FrameStore
from training.object_frame import POSE_UNIT_M
from training.windows import Windows, make_windows


@dataclass(frozen=True)
class Normalization:
    """How numbers enter and leave the network.

    Attributes:
        state: of the tool's position in the world [m], to [-1, 1].
        action: of actions as the network sees them [m]; standard deviation `sigma_data` afterwards.
        pose_offset: (2,) m, centre of the slider positions, for the pretext only.
    """

    state: Normalizer
    action: Normalizer
    sigma_data: float
    pose_offset: np.ndarray


@dataclass(frozen=True)
class WindowTable:
    """Windows on the device: `now`, `first`, `last` (W,) int64 frame indices, grouped by source.

    `counts` holds the windows of each source, in order.
    """

    now: Tensor
    first: Tensor
    last: Tensor
    counts: tuple[int, ...]


@dataclass(frozen=True)
class RunData:
    """All that training draws from.

    Attributes:
        frames: images of all sources, one row of frames.
        state: (N, S) normalised; state_m, action_m: (N, S), (N, A) world [m].
        pose: (N, 4) pretext target (x, y, cos yaw, sin yaw), or None.
        train, validation: windows; train_frames, near_goal, validation_frames: (M,) frame indices.
    """

    caches: tuple[Cache, ...]
    frames: FrameStore
    normalization: Normalization
    state: Tensor
    state_m: Tensor
    action_m: Tensor
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
                    "episodes": len(cache.meta.episodes),
                    "frames": cache.meta.steps,
                    "windows": windows,
                }
                for cache, windows in zip(self.caches, self.train.counts, strict=True)
            ],
            "validation_windows": sum(self.validation.counts),
            "action_unit_m": float(self.normalization.action.scale[0]),
        }


def load_data(config: TrainConfig, device: torch.device, cache_root: Path | None = None) -> RunData:
    """Open or build the caches of `config.data`, split them by episode and fit the normalisers."""
    for index, source in enumerate(config.data.sources):
        if not source.path:
            raise TrainingError(
                f"data.sources.{index} has no path; give it with --data FOLDER or in the config"
            )
    caches = tuple(open_or_build(s.path, config.cameras, cache_root) for s in config.data.sources)
    _check_alike(caches)
    lengths = [cache.meta.steps for cache in caches]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    low = {key: np.concatenate([c.lowdim[key] for c in caches]) for key in ("state", "action")}
    rng = np.random.default_rng([config.seed, 1])
    windows: dict[str, list[Windows]] = {"train": [], "validation": []}
    frames: dict[str, list[np.ndarray]] = {"train": [], "validation": []}
    for cache, offset in zip(caches, offsets, strict=False):
        ends = cache.lowdim["episode_ends"]
        held_out = _hold_out(len(ends), config.validation.fraction, rng)
        episode = np.searchsorted(ends, np.arange(cache.meta.steps), side="right")
        table = make_windows(cache.lowdim["valid"], ends, config.windows.horizon)
        for part, mask in (("train", ~held_out[episode]), ("validation", held_out[episode])):
            w = table.select(mask[table.now])
            windows[part].append(Windows(w.now + offset, w.first + offset, w.last + offset))
            frames[part].append(np.flatnonzero(mask) + offset)
    if not sum(map(len, windows["train"])) or not sum(map(len, windows["validation"])):
        raise TrainingError(
            "too few usable labels: train and validation both need a window whose labels are all valid; "
            "collect more episodes"
        )
    train_frames = np.concatenate(frames["train"])
    normalization = _fit(config, low, windows["train"], train_frames, caches)
    pose, near_goal = _pose(config, caches, normalization, train_frames)

    def put(array: np.ndarray, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.as_tensor(array, dtype=dtype).to(device)

    def table_of(part: str) -> WindowTable:
        now, first, last = (
            put(np.concatenate([getattr(w, column) for w in windows[part]]), torch.int64)
            for column in ("now", "first", "last")
        )
        return WindowTable(now, first, last, tuple(map(len, windows[part])))

    return RunData(
        caches=caches,
        frames=FrameStore([c.images for c in caches], device),
        normalization=normalization,
        state=put(normalization.state.apply(low["state"])),
        state_m=put(low["state"]),
        action_m=put(low["action"]),
        pose=None if pose is None else put(pose),
        train=table_of("train"),
        validation=table_of("validation"),
        train_frames=put(train_frames, torch.int64),
        near_goal=put(near_goal, torch.int64),
        validation_frames=put(np.concatenate(frames["validation"]), torch.int64),
    )


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
    windows: list[Windows],
    train_frames: np.ndarray,
    caches: tuple[Cache, ...],
) -> Normalization:
    now = np.concatenate([w.now for w in windows])
    last = np.concatenate([w.last for w in windows])
    chunks = low["action"][chunk_indices(now, last, config.windows.horizon)]
    if config.action.relative_to == "tool":
        chunks = chunks - low["state"][now][:, None]
        action = fit_isotropic(chunks)
    else:
        action = fit_range(chunks)
    poses = [c.lowdim[POSE][:, :2] for c in caches if POSE in c.lowdim]
    return Normalization(
        state=fit_range(low["state"][train_frames]),
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
    xy = (pose[:, :2] - normalization.pose_offset) / POSE_UNIT_M
    target = np.column_stack([xy, np.cos(pose[:, 2]), np.sin(pose[:, 2])])
    return target, chosen if len(chosen) else train_frames


def _check_alike(caches: tuple[Cache, ...]) -> None:
    for cache in caches[1:]:
        if cache.meta.period_s != caches[0].meta.period_s:
            raise TrainingError(
                f"{cache.meta.origin} runs at {cache.meta.period_s} s a step and {caches[0].meta.origin} at "
                f"{caches[0].meta.period_s}; a chunk has one period, so train them apart"
            )
