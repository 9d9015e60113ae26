"""From a camera's clock to ours: stamps that do not tremble with the load of the machine."""

from __future__ import annotations

from collections import deque

from ambient_policy.chunks import TIME_EPSILON_S


class StampMapper:
    """Says when a frame was taken, on the clock by which it arrived.

    A frame's transport takes a fixed time and, now and then, more: of the differences between arrival and the
    camera's own stamp in the last seconds, the smallest is the clocks' offset and the fixed time. A camera's
    quartz drifts by up to 0.1 ms a second, which a short window follows.

    Args:
        window_s: how long a difference counts.
        jump_s: a difference this much larger than the smallest one is no late frame but another clock.
    """

    def __init__(self, window_s: float = 10.0, jump_s: float = 1.0) -> None:
        self._window_s, self._jump_s = window_s, jump_s
        self.reset()

    def reset(self) -> None:
        """Forget everything: the camera was started again."""
        # Differences that may still become the smallest: each is smaller than all that came before it.
        self._offsets: deque[tuple[float, float]] = deque()
        self._device_s = self._stamp_s = float("-inf")

    @property
    def offset_s(self) -> float:
        """Smallest difference between arrival and camera stamp [s]; NaN before the first frame."""
        return self._offsets[0][1] if self._offsets else float("nan")

    def stamp(self, device_s: float, arrival_s: float) -> float:
        """Return the stamp of a frame [s]: at most `arrival_s`, and never before the one before it.

        Args:
            device_s: the camera's own stamp.
            arrival_s: when the frame was handed over.
        """
        offset = arrival_s - device_s
        jumped = self._offsets and abs(offset - self.offset_s) > self._jump_s
        if device_s < self._device_s or jumped or arrival_s < self._stamp_s - TIME_EPSILON_S:
            self.reset()
        self._device_s = device_s
        while self._offsets and self._offsets[-1][1] >= offset:
            self._offsets.pop()
        self._offsets.append((arrival_s, offset))
        while self._offsets[0][0] < arrival_s - self._window_s:
            self._offsets.popleft()
        self._stamp_s = max(device_s + self.offset_s, self._stamp_s)
        return self._stamp_s
