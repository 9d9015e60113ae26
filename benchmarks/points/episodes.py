"""Write points as demonstrations: an episode is a bag of samples, each frame one action, nothing observed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ambient_policy import provenance
from ambient_policy.episodes import Episode, EpisodeMeta, list_episodes, read_episode, write_episode

PERIOD_S = 0.1


def write_points(folder: Path, points: np.ndarray, episodes: int, source: str, about: dict[str, Any]) -> Path:
    """Write points (N, 2) into `folder`, in order, as `episodes` episodes of about the same length.

    The same points give the same data files. A folder that is whole already is left as it is, and one that a
    killed run left half filled is completed.

    Args:
        source: "target" or "source", as in every dataset of this project.
        about: what the points are, kept as the scenario of every episode.
    """
    there = {path.name for path in list_episodes(folder)} if folder.is_dir() else set()
    for index, part in enumerate(np.array_split(np.asarray(points, np.float64), episodes)):
        name = f"ep{index:04d}"
        if name in there:
            continue
        meta = EpisodeMeta(
            commit=provenance.commit(),
            task="points",
            source=source,
            scenario=about,
            seed=index,
            operator="drawn",
            outcome="success",
            period_s=PERIOD_S,
            steps=len(part),
            cameras={},
        )
        arrays = {"state": np.zeros_like(part), "action": part, "valid": np.ones(len(part), bool)}
        write_episode(folder, name, Episode(meta, arrays))
    return folder


def read_points(folder: Path) -> np.ndarray:
    """Read back the points (N, 2) of a folder."""
    return np.concatenate([read_episode(path).arrays["action"] for path in list_episodes(folder)])
