"""What the servo decides, without ROS: which target goes to the robot now, and why.

The one path by which a policy moves a robot: the servo node and the rollouts of `sim/` both run it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ambient_policy.chunks import Chunk, ChunkFollower, Hold
from ambient_policy.config import StrictModel
from ambient_policy.limits import MotionLimits
from ambient_policy.reasons import without_numbers
from ambient_policy.smoothing import Smoother

Array = NDArray[np.float64]

POSE_NOISE_M = 0.005
"""A measured pose may be wrong by this much without being a jump."""
SLOWEST = 0.05
"""Share of the speed limit at which a soft start begins: at none it would never end."""


class ServoConfig(StrictModel):
    """How chunks are followed, and what stops the tool. Limits of motion are apart: `MotionLimits`."""

    handover_s: float = Field(default=0.05, ge=0)
    """Age at which a chunk takes over from the one before; later when it is not there by then."""
    lead_s: float = Field(default=0.01, ge=0, le=0.5)
    """How far ahead of its stamp a target is due: the robot's control period, plus its known delay."""
    max_pose_age_s: float = Field(default=0.2, gt=0)
    """A tool pose older than this is a hold."""
    soft_start_s: float = Field(default=0.0, ge=0)
    """After a hold the speed limit grows to its full value in this time."""
    chunk_speed_ratio: float = Field(default=2.0, ge=1)
    """A chunk with a step faster than this many times the speed limit is refused: no plan for this tool."""
    pose_speed_ratio: float = Field(default=3.0, ge=1)
    """A measured tool faster than this many times the speed limit has jumped: a hold until enabled anew."""
    max_tracking_error_m: float = Field(default=0.15, gt=0)
    """A tool this far from its target does not follow: a hold until enabled anew, back where the tool is."""


@dataclass(frozen=True)
class Command:
    """One target."""

    position: Array
    """(2,) world [m]."""
    hold: str
    """Why the tool is held where it is; empty while it follows a chunk."""
    taken_over_s: float | None
    """Stamp of the chunk that has just taken over, at this very target."""
    limited_by: tuple[str, ...] = ()
    """Limits that changed it; holds and soft starts do not count."""


class Servo:
    """Follows chunks within limits; without one it brings the tool to rest and keeps it there.

    Args:
        config: how.
        limits: workspace, speed, acceleration, jerk.
        period_s: the robot's time for one target. However long a gap was, a target is no further from the one
            before than the speed limit allows in this time: the robot takes it in one period.
    """

    def __init__(self, config: ServoConfig, limits: MotionLimits, period_s: float) -> None:
        self._config, self._limits, self._period_s = config, limits, period_s
        self._smoother = Smoother(limits.windows(period_s), period_s)
        # What the smoother delays is taken from further on in the chunk, so steady motion is on time.
        self._follower = ChunkFollower(config.handover_s, config.lead_s + self._smoother.lag_s)
        self._pose: tuple[Array, float] | None = None
        self.reset()

    def reset(self) -> None:
        """Forget chunks, targets and latches: the next target is where the tool is then."""
        self._follower.reset()
        self._active_s: float | None = None
        self._wanted: Array | None = None
        """Last target before smoothing."""
        self._target_s = -np.inf
        self._commanded: Array | None = None
        self._rest: Array | None = None
        """Where a hold brings the target; None: it stays."""
        self._moving_s = 0.0
        """For how long no hold has been in force."""
        self._checked: tuple[Array, float] | None = None
        self.latched = ""
        """Reason of a hold that only a reset ends."""
        self.following = False
        """Whether chunks are followed; if not, the tool is held."""
        self.holds: Counter[str] = Counter()
        """Targets that held the tool, by kind of reason."""
        self.limited = 0
        """Targets that the limits changed."""

    def observe(self, xy: Array, stamp_s: float) -> None:
        """Take the measured position (2,) of the tool in the world [m]."""
        if self.following and self._checked is not None:
            before, before_s = self._checked
            moved_m, took_s = float(np.linalg.norm(xy - before)), stamp_s - before_s
            allowed_m = (
                self._config.pose_speed_ratio * self._limits.max_speed_m_s * max(took_s, self._period_s)
            )
            if moved_m > allowed_m + POSE_NOISE_M:
                self.latch(f"tool pose jumped by {moved_m:.3f} m in {took_s:.3f} s")
        self._pose = self._checked = (xy, stamp_s)

    def latch(self, reason: str) -> None:
        """Hold until the next reset, for the first reason given."""
        self.latched = self.latched or reason

    def accept(self, chunk: Chunk, now_s: float) -> str:
        """Take a chunk; returns why it is refused, or nothing."""
        speeds = np.linalg.norm(np.diff(chunk.positions, axis=0), axis=1) / chunk.period_s
        limit = self._config.chunk_speed_ratio * self._limits.max_speed_m_s
        if np.max(speeds, initial=0.0) > limit:  # false for NaN, which the follower refuses
            return f"chunk moves at {np.max(speeds):.2f} m/s, more than {limit:.2f}"
        refused = self._follower.accept(chunk, now_s)
        return refused.reason if refused is not None else ""

    @property
    def started(self) -> bool:
        """Whether there has been a target since the last reset."""
        return self._wanted is not None

    @property
    def active_stamp_s(self) -> float | None:
        """Observation time of the chunk that is being followed."""
        return self._follower.active_stamp_s

    def command(self, now_s: float, stop: str = "") -> Command | None:
        """Return the target for now, or None before the tool has ever been measured.

        Args:
            stop: why the tool must be held now, such as a released deadman; empty to go on.
        """
        if self._pose is None:
            return None
        if self._wanted is None:
            # From here on the hold is where the tool was, not where it drifts to: a target that follows the
            # measurement gives way to any push.
            self._wanted, self._target_s = self._pose[0].copy(), now_s - self._period_s
            self._smoother.reset(self._wanted)
        wanted = self._next(now_s, stop)
        hold = wanted.reason if isinstance(wanted, Hold) else ""
        # Rounded, so that steps of 10 ms are exactly that however late the clock reads.
        step_s = round(min(max(now_s - self._target_s, 0.0), self._period_s), 9)
        self._target_s = now_s
        limited_by: tuple[str, ...] = ()
        if isinstance(wanted, Hold):
            self._moving_s = 0.0
            if self._rest is not None:
                self._wanted, _ = self._limits.limit(self._wanted, self._rest, step_s)
        else:
            share = 1.0
            if self._moving_s < self._config.soft_start_s:
                share = max(self._moving_s / self._config.soft_start_s, SLOWEST)
            self._moving_s += step_s
            self._wanted, limited_by = self._limits.limit(self._wanted, wanted, step_s * share)
            if share < 1:
                limited_by = tuple(reason for reason in limited_by if reason != "speed")
        position = self._commanded = self._smoother.push(self._wanted, step_s)
        if self.following:
            self.limited += bool(limited_by)
            if hold:
                self.holds[without_numbers(hold)] += 1
        active_s = self._follower.active_stamp_s
        taken_over_s = active_s if active_s != self._active_s else None
        self._active_s = active_s
        return Command(position, hold, taken_over_s, limited_by)

    def _next(self, now_s: float, stop: str) -> Array | Hold:
        if not self.following:
            return Hold("not enabled")
        assert self._pose is not None
        position, stamp_s = self._pose
        if self._commanded is not None and not self.latched:
            error_m = float(np.linalg.norm(position - self._commanded))
            if error_m > self._config.max_tracking_error_m:
                # A robot that can move again must not jump to where the policy has gone meanwhile.
                self._rest = position
                self.latch(f"tool does not follow: it is {error_m:.3f} m from its target")
        if self.latched:
            return Hold(f"{self.latched}; look, then disable and enable")
        if stop:
            return Hold(stop)
        age_s = now_s - stamp_s
        if age_s > self._config.max_pose_age_s:
            return Hold(f"tool pose is {age_s:.2f} s old")
        return self._follower.target(now_s)
