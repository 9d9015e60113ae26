"""What the servo node decides, without ROS: which target goes to the robot now, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ambient_policy.chunks import Chunk, ChunkFollower, Hold
from ambient_policy.limits import MotionLimits
from ambient_policy_ros.reasons import without_numbers

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Command:
    """One target."""

    position: Array
    """(2,) world [m]."""
    hold: str
    """Why the tool is held where it is; empty while it follows a chunk."""
    taken_over_s: float | None
    """Stamp of the chunk that has just taken over, at this very target."""


class Servo:
    """Follows chunks within limits; without one it keeps the tool where it was measured last.

    Args:
        follower: plays the chunks.
        limits: workspace and speed.
        period_s: the robot's time for one target. However long a gap was, a target is no further from the one
            before than the speed limit allows in this time: the robot takes it in one period.
        max_pose_age_s: a measured pose older than this is a hold.
    """

    def __init__(
        self, follower: ChunkFollower, limits: MotionLimits, period_s: float, max_pose_age_s: float
    ) -> None:
        self._follower, self._limits = follower, limits
        self._period_s, self._max_pose_age_s = period_s, max_pose_age_s
        self._pose: tuple[Array, float] | None = None
        self.reset()

    def reset(self) -> None:
        """Forget chunks and targets: the next target is where the tool is then."""
        self._follower.reset()
        self._active_s: float | None = None
        self._target: Array | None = None
        self._target_s = -np.inf
        self.following = False
        """Whether chunks are followed; if not, the tool is held."""
        self.holds: Counter[str] = Counter()
        """Targets that held the tool, by kind of reason."""
        self.limited = 0
        """Targets that the limits changed."""

    def observe(self, xy: Array, stamp_s: float) -> None:
        """Take the measured position (2,) of the tool in the world [m]."""
        self._pose = (xy, stamp_s)

    def accept(self, chunk: Chunk, now_s: float) -> str:
        """Take a chunk; returns why it is refused, or nothing."""
        refused = self._follower.accept(chunk, now_s)
        return refused.reason if refused is not None else ""

    @property
    def started(self) -> bool:
        """Whether there has been a target since the last reset."""
        return self._target is not None

    def command(self, now_s: float) -> Command | None:
        """Return the target for now, or None before the tool has ever been measured."""
        if self._pose is None:
            return None
        if self._target is None:
            # From here on the hold is where the tool was, not where it drifts to: a target that follows the
            # measurement gives way to any push.
            self._target, self._target_s = self._pose[0].copy(), now_s - self._period_s
        wanted = self._wanted(now_s)
        hold = wanted.reason if isinstance(wanted, Hold) else ""
        # Rounded, so that steps of 10 ms are exactly that however late the clock reads.
        step_s = round(min(max(now_s - self._target_s, 0.0), self._period_s), 9)
        if isinstance(wanted, Hold):
            wanted = self._target
        self._target, limited_by = self._limits.limit(self._target, wanted, step_s)
        self._target_s = now_s
        if self.following:
            self.limited += bool(limited_by)
            if hold:
                self.holds[without_numbers(hold)] += 1
        active_s = self._follower.active_stamp_s
        taken_over_s = active_s if active_s != self._active_s else None
        self._active_s = active_s
        return Command(self._target, hold, taken_over_s)

    def _wanted(self, now_s: float) -> Array | Hold:
        if not self.following:
            return Hold("not enabled")
        assert self._pose is not None
        age_s = now_s - self._pose[1]
        if age_s > self._max_pose_age_s:
            return Hold(f"tool pose is {age_s:.2f} s old")
        return self._follower.target(now_s)
