"""Jerk-limited motion from targets that only keep a speed limit: two moving averages, one after the other."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Smoother:
    """Averages targets over a window of time, and the result over another.

    An average of positions lies between them, so it never leaves a convex workspace nor outruns a speed limit
    that its targets keep. Its acceleration over one period is the change of speed over the window, divided by
    the window: at most 2 v / T1; and the jerk after the second window is at most 2 a / T2. A target that
    stops is reached, at rest, after both windows.

    Args:
        windows: length of each average, in periods; 1 changes nothing.
        period_s: time between two targets that are both in an average.
    """

    def __init__(self, windows: tuple[int, int], period_s: float) -> None:
        self._weights = np.convolve(np.ones(windows[0]) / windows[0], np.ones(windows[1]) / windows[1])
        self._ages_s = period_s * np.arange(len(self._weights))
        self._period_s = period_s
        self._past: deque[tuple[float, Array]] = deque()
        self._now_s = 0.0

    @property
    def lag_s(self) -> float:
        """By how much steady motion comes late."""
        return float(self._ages_s[-1] / 2)

    def reset(self, position: Array) -> None:
        """Be at rest at `position` (A,) [m]."""
        self._past = deque([(self._now_s, position)])

    def push(self, target: Array, step_s: float) -> Array:
        """Take the target (A,) that is due `step_s` after the one before; return the position (A,) [m]."""
        if len(self._weights) == 1:
            return target
        self._now_s += step_s
        if step_s == 0:
            self._past.pop()
        self._past.append((self._now_s, target))
        oldest_s = self._now_s - self._ages_s[-1] - 2 * self._period_s
        while len(self._past) > 1 and self._past[1][0] < oldest_s:
            self._past.popleft()
        times_s = [time_s for time_s, _ in self._past]
        targets = np.array([position for _, position in self._past])
        wanted_s = self._now_s - self._ages_s
        return np.array([self._weights @ np.interp(wanted_s, times_s, axis) for axis in targets.T])
