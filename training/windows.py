"""Which frames and labels make a training sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Windows:
    """Windows over a row of frames in which episodes follow each other.

    Attributes:
        now: (W,) int64, frame of the present observation.
        first, last: (W,) int64, first and last frame of that window's episode.
    """

    now: np.ndarray
    first: np.ndarray
    last: np.ndarray

    def __len__(self) -> int:
        return len(self.now)

    def select(self, keep: np.ndarray) -> Windows:
        """Keep the windows where the (W,) mask or index says so."""
        return Windows(self.now[keep], self.first[keep], self.last[keep])

    def shifted(self, by: int) -> Windows:
        """Count frames from a row that begins `by` frames earlier."""
        return Windows(self.now + by, self.first + by, self.last + by)


def make_windows(valid: np.ndarray, episode_ends: np.ndarray, horizon: int) -> Windows:
    """List every window all of whose labels may be learnt from.

    A window at frame t is labelled by the actions of frames t .. t + H - 1. Past the end of its episode the
    last command is repeated, so the labels looked at are those that exist.

    Args:
        valid: (N,) bool, label of each frame usable.
        episode_ends: (E,) index one past each episode's last frame.
    """
    frames = np.arange(len(valid), dtype=np.int64)
    ends = np.asarray(episode_ends, dtype=np.int64)
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    episode = np.searchsorted(ends, frames, side="right")
    first, last = starts[episode], ends[episode] - 1
    bad_before = np.concatenate([[0], np.cumsum(~valid)])
    stop = np.minimum(frames + horizon - 1, last)
    usable = bad_before[stop + 1] == bad_before[frames]
    return Windows(frames, first, last).select(usable)
