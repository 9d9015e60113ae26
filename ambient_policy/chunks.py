"""Action chunks in time: what a policy hands over, and how a controller follows it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

TIME_EPSILON_S = 1e-6
"""Stamps closer than this are equal. Seconds since 1970 in a double are good to 0.24 us."""


@dataclass(frozen=True)
class Hold:
    """No motion, and why. Returned in place of a target or a chunk; never a guess."""

    reason: str


@dataclass(frozen=True)
class Chunk:
    """A stretch of tool motion, tied to the observation that it answers.

    Attributes:
        stamp_s: time of the observation.
        positions: (H + 1, A) world positions [m]; the first is the tool at the observation, number i is due
            at `stamp_s + i * period_s`.
        period_s: between two positions.
    """

    stamp_s: float
    positions: Array
    period_s: float

    @property
    def end_s(self) -> float:
        """When the last position is due."""
        return self.stamp_s + (len(self.positions) - 1) * self.period_s

    def at(self, now_s: float) -> Array:
        """Return the position (A,) due at `now_s`, on straight lines; kept at the ends beyond them."""
        # Rounded to a microsecond, so that the same age gives the same bits wherever time counts from.
        phase = round((now_s - self.stamp_s) / self.period_s, 5)
        phase = min(max(phase, 0.0), len(self.positions) - 1.0)
        i = min(int(phase), len(self.positions) - 2)
        return self.positions[i] + (phase - i) * (self.positions[i + 1] - self.positions[i])


class ChunkFollower:
    """Plays chunks by the clock: late steps are dropped by time, and chunks change over at a fixed age.

    A chunk takes over `handover_s` after its observation, or when it arrives if that is later. The fixed age
    makes the motion the same whether inference took no time (lock-step) or most of `handover_s` (real time).

    Args:
        handover_s: age at which a chunk takes over.
        lead_s: how far ahead of now a target is due, the time that the robot takes to get there: one period
            of its controller, plus its delay if that is known. Without it every change of chunk loses that
            much motion, as a chunk starts where the tool is measured.
        grace_s: how long the last position is kept after a chunk has run out before this becomes a hold.
    """

    def __init__(self, handover_s: float, lead_s: float = 0.0, grace_s: float = 0.2) -> None:
        self._handover_s, self._lead_s, self._grace_s = handover_s, lead_s, grace_s
        self._active: Chunk | None = None
        self._next: Chunk | None = None

    def reset(self) -> None:
        """Forget every chunk."""
        self._active = self._next = None

    def accept(self, chunk: Chunk, now_s: float) -> Hold | None:
        """Take a chunk; returns a Hold that says why when it cannot be used, and then nothing has changed."""
        if not np.isfinite(chunk.positions).all():
            return Hold("chunk has values that are not finite")
        newest = self._next or self._active
        if newest is not None and chunk.stamp_s < newest.stamp_s - TIME_EPSILON_S:
            return Hold(f"chunk of {chunk.stamp_s:.3f} s came after that of {newest.stamp_s:.3f} s")
        if chunk.end_s < now_s - TIME_EPSILON_S:
            return Hold(f"chunk ended {now_s - chunk.end_s:.3f} s ago")
        self._next = chunk
        return None

    def target(self, now_s: float) -> Array | Hold:
        """Return the tool position (A,) to command now, or a Hold."""
        if self._next is not None and now_s >= self._next.stamp_s + self._handover_s - TIME_EPSILON_S:
            self._active, self._next = self._next, None
        if self._active is None:
            return Hold("waiting for a first chunk")
        overdue = now_s - self._active.end_s
        if overdue > self._grace_s + TIME_EPSILON_S:
            return Hold(f"no new chunk: the last one ended {overdue:.1f} s ago")
        return self._active.at(now_s + self._lead_s)

    @property
    def active_stamp_s(self) -> float | None:
        """Observation time of the chunk that is being played."""
        return None if self._active is None else self._active.stamp_s
