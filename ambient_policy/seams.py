"""Where one chunk gives way to the next: how much of the old plan the new one keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from ambient_policy.chunks import TIME_EPSILON_S, Array, Chunk
from ambient_policy.config import StrictModel


class SeamConfig(StrictModel):
    """What happens between two chunks."""

    kind: Literal["replace", "prefix", "ensemble", "coherent"] = "replace"
    """replace: the new chunk as it is. prefix: it is sampled knowing what the old one still carries out, and
    agrees with it at first (real-time chunking). ensemble: mean of all chunks that reach that far. coherent:
    of several samples, the one that goes on most as the old chunk does (bidirectional decoding, backward)."""
    frozen_s: float = Field(default=0.1, ge=0)
    """prefix: actions due up to this long after the observation are kept as they are; at least the time until
    the new chunk takes over."""
    slack_m_s: float = Field(default=0.1, gt=0)
    """prefix: by how much the rest of the old plan may be wrong, for each second beyond the frozen part. Less
    makes chunks agree longer, more lets them react sooner."""
    off_plan_m: float = Field(default=0.03, gt=0)
    """prefix: a tool this far from the old plan is not following it, and the new chunk starts afresh."""
    decay: float = Field(default=0.01, ge=0)
    """ensemble: chunk number k, the oldest being 0, weighs exp(-decay k)."""
    candidates: int = Field(default=8, ge=1)
    """coherent: samples of a decision; with 1 it is replace, to the last bit."""
    fading: float = Field(default=0.9, gt=0, le=1)
    """coherent: the distance to the old chunk at an action weighs this many times that at the one before."""


def known_actions(
    config: SeamConfig, old: Chunk, stamp_s: float, tool: Array, horizon: int
) -> tuple[Array, Array] | None:
    """Return what a chunk of the observation at `stamp_s` knows of itself, since the old one is on its way.

    Args:
        tool: (A,) measured at `stamp_s` [m].

    Returns:
        Positions (H, A) in the world [m] and how well each is known, (H,) standard deviations [m]: 0 for
        those that are frozen, then growing, infinite where the old plan has ended. None when nothing is
        known: the old plan has ended, or the tool is not on it.
    Source: frozen actions and a mask that grows softer, Black et al. 2025 (Real-Time Execution of Action
    Chunking Flow Policies), section 3; here as standard deviations.
    """
    if np.linalg.norm(old.at(stamp_s) - tool) > config.off_plan_m:
        return None
    age_s = old.period_s * np.arange(1, horizon + 1)
    due_s = stamp_s + age_s
    if due_s[0] > old.end_s + TIME_EPSILON_S:
        return None
    # Frozen up to the first action at or beyond `frozen_s`: the way to it is already under way.
    frozen_s = old.period_s * np.ceil(config.frozen_s / old.period_s - TIME_EPSILON_S)
    std_m = config.slack_m_s * np.maximum(np.round(age_s - frozen_s, 9), 0.0)
    std_m[due_s > old.end_s + TIME_EPSILON_S] = np.inf
    return np.array([old.at(t) for t in due_s]), std_m


def ensemble(chunks: Sequence[Chunk], decay: float) -> Chunk:
    """Return the newest of `chunks` (oldest first) with each position the mean of all chunks that have it.

    Source: Zhao et al. 2023 (ACT), temporal ensembling.
    """
    newest = chunks[-1]
    positions = newest.positions.copy()
    for i in range(1, len(positions)):
        due_s = newest.stamp_s + i * newest.period_s
        reach = [chunk for chunk in chunks if due_s <= chunk.end_s + TIME_EPSILON_S]
        weights = np.exp(-decay * np.arange(len(reach)))
        positions[i] = np.average([chunk.at(due_s) for chunk in reach], axis=0, weights=weights)
    return Chunk(newest.stamp_s, positions, newest.period_s)


def most_coherent(candidates: Array, old: Chunk, stamp_s: float, fading: float) -> int:
    """Return the number of the candidate that is nearest to what is left of the old chunk.

    Args:
        candidates: (N, H, A) positions in the world [m] for the observation at `stamp_s`; action i is due
            i + 1 periods of `old` later.
        fading: the distance at action i weighs fading^i.

    Returns:
        0 when the old chunk has ended.
    Source: Liu et al. 2024 (Bidirectional Decoding, arXiv 2408.17355), backward coherence; the forward
    contrast there, which needs a second, weaker policy, is left out.
    """
    due_s = stamp_s + old.period_s * np.arange(1, candidates.shape[1] + 1)
    rest = [old.at(t) for t in due_s if t <= old.end_s + TIME_EPSILON_S]
    if not rest:
        return 0
    apart_m = np.linalg.norm(candidates[:, : len(rest)] - np.array(rest), axis=2)
    return int(np.argmin(apart_m @ fading ** np.arange(len(rest))))
