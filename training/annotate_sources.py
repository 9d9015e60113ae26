"""The windows of every source as the trainer cuts and normalises them, ready for a classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ambient_policy.normalize import Normalizer
from training.annotate_scores import Pool
from training.classifier import Samples
from training.config import TrainConfig
from training.data import RunData, chunk_indices, load_data
from training.errors import TrainingError
from training.sources import DataConfig, Role, SourceConfig
from training.teaching import source_digest
from training.windows import make_windows


@dataclass(frozen=True)
class SourceWindows:
    """All windows of one source, held-out episodes of the trainer included.

    Attributes:
        frames: (W,) int64 present frame of each window, inside the source; episode: (W,) int64.
        path: (W, H + 1, A) m, the tool at the observation and the labels, for pictures.
        samples: the same windows as the classifier sees them.
    """

    origin: str
    digest: str
    role: Role
    frames: np.ndarray
    episode: np.ndarray
    path: np.ndarray
    samples: Samples


def bare_config(config: TrainConfig, paths: Sequence[str]) -> TrainConfig:
    """Give the config that decides how chunks are cut and normalised, free of method and images.

    Args:
        paths: folders, in the order of the config's sources. With a config of one source the first folder is
            clean and the others are corrupt. None: the paths of the config.
    """
    sources = config.data.sources
    if len(sources) == 1 and len(paths) > 1:
        roles: list[Role] = ["clean", *("corrupt" for _ in paths[1:])]  # type: ignore[list-item]
    elif paths and len(sources) != len(paths):
        raise TrainingError(
            f"--data names {len(paths)} folder(s) and the config has {len(sources)} sources "
            f"({', '.join(s.role for s in sources)}); give one folder for each entry of data.sources"
        )
    else:
        roles = [source.role for source in sources]
        paths = paths or [source.path for source in sources]
    for role in ("clean", "corrupt"):
        if role not in roles:
            raise TrainingError(
                f"no source has role: {role}, and annotating compares both; set it in data.sources, or give "
                "a config of one source and --data CLEAN CORRUPT"
            )
    bare = DataConfig(sources=tuple(SourceConfig(path=p, role=r) for p, r in zip(paths, roles, strict=True)))
    pretrain = config.pretrain.model_copy(update={"steps": 0})
    changes = {"data": bare, "cameras": {}, "pretrain": pretrain, "aux_pose_weight": 0.0}
    return config.model_copy(update=changes)


def read_sources(
    config: TrainConfig, device: torch.device, cache_root: Path | None, *, observed: bool
) -> tuple[list[SourceWindows], Normalizer]:
    """Cut every window of every source of a `bare_config`, and give the normaliser of actions.

    Args:
        observed: let the classifier see the T observed states, (W, T * S).
    """
    data = load_data(config, device, cache_root)
    offset, out = 0, list[SourceWindows]()
    for cache, source in zip(data.caches, data.sources, strict=True):
        out.append(_cut(config, data, len(out), offset, observed))
        if not len(out[-1].frames):
            raise TrainingError(
                f"{source.path} has no window whose labels are all valid; collect more episodes"
            )
        offset += cache.meta.steps
    return out, data.normalization.action


def _cut(config: TrainConfig, data: RunData, number: int, offset: int, observed: bool) -> SourceWindows:
    cache, source = data.caches[number], data.sources[number]
    low, ends = cache.lowdim, cache.lowdim["episode_ends"]
    windows = make_windows(low["valid"], ends, config.windows.horizon)
    labels = low["action"][chunk_indices(windows.now, windows.last, config.windows.horizon)]
    tool = low["state"][windows.now][:, None]
    chunk = labels - tool if config.action.relative_to == "tool" else labels
    device = data.state.device
    state = torch.zeros(len(chunk), 0, device=device)
    if observed:
        back = np.arange(1 - config.windows.obs_steps, 1)
        frames = np.maximum(windows.now[:, None] + back, windows.first[:, None]) + offset
        state = data.state[torch.as_tensor(frames, device=device)].flatten(1)
    normalized = data.normalization.action.apply(chunk)
    return SourceWindows(
        origin=cache.meta.origin,
        digest=source_digest(cache),
        role=source.role,
        frames=windows.now,
        episode=np.searchsorted(ends, windows.now, side="right"),
        path=np.concatenate([tool, labels], axis=1),
        samples=Samples(torch.as_tensor(normalized, dtype=torch.float32, device=device), state),
    )


def pool_of(sources: Sequence[SourceWindows]) -> Pool:
    """Join sources of one role, their episodes counted on."""
    episodes, count = [], 0
    for source in sources:
        episodes.append(source.episode + count)
        count += int(source.episode.max()) + 1
    samples = Samples(*(torch.cat([getattr(s.samples, key) for s in sources]) for key in ("chunk", "state")))
    return Pool(samples, np.concatenate(episodes))
