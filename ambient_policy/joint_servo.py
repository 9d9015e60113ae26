"""What makes joint commands of tool targets, without ROS and without knowing how an arm is built.

The commanded joints begin where the measured ones are and are integrated from there, so a push against the
tool does not shift them. Whatever is wrong is a hold with its reason: the last command brakes evenly to rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ambient_policy.chunks import TIME_EPSILON_S
from ambient_policy.config import StrictModel
from ambient_policy.joint_command import JointCommand

Array = NDArray[np.float64]

JOINT_NOISE_RAD = 0.01
"""A measured joint may be wrong by this much without being a jump."""
SLOWEST = 0.05
"""Share of the speed limits at which a soft start begins: at none it would never end."""


class JointServoConfig(StrictModel):
    """How tool targets become joint commands, and what stops the arm."""

    lead_s: float = Field(default=0.01, gt=0, le=0.5)
    """How far ahead of its target's stamp a command is due; that of the servo node."""
    brake_s: float = Field(default=0.1, gt=0)
    """Time in which every command comes to rest by itself, from any speed."""
    soft_start_s: float = Field(default=0.2, ge=0)
    """At the start and after a hold, the joints' speed limits grow to their full values in this time."""
    max_speed_m_s: float = Field(default=0.5, gt=0)
    """Of targets; that of the servo node. One that jumps further is caught up with."""
    catch_up_m_s: float = Field(default=0.05, gt=0)
    """A tip that is behind is at most this much faster than its target."""
    max_state_age_s: float = Field(default=0.1, gt=0)
    """A joint state or a target older than this is a hold."""
    max_joint_error_rad: float = Field(default=0.2, gt=0)
    """A joint this far from where it was commanded to be does not follow: a hold until enabled anew."""
    jump_ratio: float = Field(default=3.0, ge=1)
    """A measured joint faster than this many times its speed limit has jumped: a hold until enabled anew."""
    start_height_m: float = Field(default=0.01, gt=0)
    """At the start the tip must be this near to its height ..."""
    start_tilt_rad: float = Field(default=0.05, gt=0)
    """... and the tool this near to upright: a person drives it there, not this."""


@dataclass(frozen=True)
class Step:
    """What an arm's kinematics makes of a target."""

    velocity: Array
    """Joint velocities (n,) [rad/s] within limits."""
    reason: str = ""
    """Why the tip will not be at its target after this step; empty when it will."""
    blocked: bool = False
    """Whether no more time would bring it there: out of reach, a joint at its end, no solution."""


class Kinematics(Protocol):
    """An arm whose tool stands upright at one height; `sim.arm_kinematics` is one."""

    joints: tuple[str, ...]
    """Names, in the order of every array (n,)."""
    max_speed: Array
    """Speed limits (n,) [rad/s]."""

    def tip_position(self, q: Array) -> Array:
        """Return where the tip is in the world (3,) [m]."""

    def off_plane(self, q: Array) -> tuple[float, float]:
        """Return how far the tip is above its height [m] and how far the tool is from upright [rad]."""

    def step(self, q: Array, xy: Array, period_s: float, brake_s: float) -> Step:
        """Return velocities towards a tip at `xy` (2,) [m] that can still brake within the limits."""


class JointServo:
    """Follows tool targets with joints, or brakes and says why.

    Args:
        config: how.
        kinematics: of the arm.
        period_s: longest time that one command advances the joints by; after a gap they go on from where the
            braking has brought them.
    """

    def __init__(self, config: JointServoConfig, kinematics: Kinematics, period_s: float) -> None:
        self._config, self._arm, self._period_s = config, kinematics, period_s
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next command begins where the joints are measured then."""
        self._measured: tuple[Array, float] | None = None
        self._last: JointCommand | None = None
        self._target: Array | None = None
        self._fault = ""
        """What is wrong with the newest joint state."""
        self._moving_s = 0.0
        """For how long the soft start has gone on."""
        self.latched = ""
        """Reason of a hold that only a reset ends."""
        self.hold = ""
        """Why the arm is held; empty while it follows."""
        self.limited = ""
        """Which limit keeps the tip behind its target; empty if none does."""

    def observe(self, q: Array, stamp_s: float) -> None:
        """Take the measured joints (n,) [rad]."""
        self._fault = ""
        if self._measured is not None:
            before, before_s = self._measured
            if stamp_s <= before_s:  # overtaken on the way; a clock that was set back ends in a stale state
                return
            allowed = self._config.jump_ratio * self._arm.max_speed * (stamp_s - before_s) + JOINT_NOISE_RAD
            self._latch(np.abs(q - before) - allowed, np.abs(q - before), "jumped by {:.3f} rad")
        self._measured = (q, stamp_s)
        if self._last is not None:
            error = np.abs(q - self._last.at(stamp_s)[0])
            self._latch(
                error - self._config.max_joint_error_rad,
                error,
                "does not follow: {:.3f} rad from its command",
            )

    def reject(self, reason: str) -> None:
        """Take note that the newest joint state cannot be used: a hold until one can."""
        self._fault = reason

    def command(self, xy: Array, stamp_s: float, now_s: float) -> JointCommand | None:
        """Return the command for a tool target `xy` (2,) [m] of `stamp_s`; None before the arm may start."""
        config = self._config
        due_s = stamp_s + config.lead_s
        reason = self._trouble(xy, stamp_s, now_s)
        if self._last is None:
            self.hold = reason or self._not_at_the_start()
            if self.hold or self._measured is None:
                return None
            q = self._measured[0]
            self._last = JointCommand(stamp_s, due_s - self._period_s, q, np.zeros_like(q), config.brake_s)
        last, gap_s = self._last, due_s - self._last.due_s
        if -config.max_state_age_s < gap_s < TIME_EPSILON_S:
            return last  # answered already
        if gap_s <= 0:  # the clock was set back
            last, gap_s = replace(last, due_s=due_s - self._period_s), self._period_s
        # Rounded, so that steps of 10 ms are exactly that however late the clock reads.
        step_s = round(min(gap_s, self._period_s), 9)
        self.limited = ""
        if not reason:
            q, _ = last.at(due_s - step_s)
            step = self._arm.step(q, xy, step_s, config.brake_s)
            reason = step.reason if step.blocked else ""
        if reason:
            q, v = last.at(due_s)
            brake_s = max(last.brake_s - gap_s, self._period_s)
            # A hold of one tick must not end in a velocity of almost nothing.
            self._moving_s = config.soft_start_s * float(np.max(np.abs(v) / self._arm.max_speed))
        else:
            share = self._share(q, xy, step, step_s)
            self.limited = step.reason if share == 1.0 else ""
            v, brake_s = share * step.velocity, config.brake_s
            q = q + v * step_s
            self._moving_s += step_s
        self.hold = reason
        if np.isfinite(xy).all():
            self._target = xy
        self._last = JointCommand(stamp_s, due_s, q, v, brake_s)
        return self._last

    def _share(self, q: Array, xy: Array, step: Step, step_s: float) -> float:
        """Return how much of a step to take: all joints alike, so that the tip does not leave its line."""
        moved_m = np.linalg.norm(
            self._arm.tip_position(q + step.velocity * step_s) - self._arm.tip_position(q)
        )
        own_m = 0.0 if self._target is None else float(np.linalg.norm(xy - self._target))
        longest_m = self._config.max_speed_m_s * self._period_s
        # One or two targets may be lost on the way; a longer way than theirs is no speed but a jump.
        own_m = min(own_m, longest_m) if own_m < 3.5 * longest_m else 0.0
        allowed_m = own_m + self._config.catch_up_m_s * step_s
        share = min(1.0, allowed_m / max(float(moved_m), 1e-12))
        if self._moving_s < self._config.soft_start_s:
            ramp = max(self._moving_s / self._config.soft_start_s, SLOWEST)
            fastest = float(np.max(np.abs(step.velocity) / self._arm.max_speed))
            share = min(share, ramp / max(fastest, 1e-12))
        return share

    def _trouble(self, xy: Array, stamp_s: float, now_s: float) -> str:
        if self.latched:
            return f"{self.latched}; look, then disable and enable"
        if self._fault:
            return self._fault
        if self._measured is None:
            return "no joint state yet"
        for what, time_s in (("joint state", self._measured[1]), ("tool target", stamp_s)):
            if now_s - time_s > self._config.max_state_age_s:
                return f"{what} is {now_s - time_s:.2f} s old"
        if not np.isfinite(xy).all():
            return f"tool target is ({xy[0]}, {xy[1]}) m, needs finite numbers"
        return ""

    def _not_at_the_start(self) -> str:
        if self._measured is None:
            return ""
        height_m, tilt_rad = self._arm.off_plane(self._measured[0])
        if abs(height_m) > self._config.start_height_m or tilt_rad > self._config.start_tilt_rad:
            return (
                f"tip is {1e3 * height_m:+.0f} mm from its height and tilted by {tilt_rad:.3f} rad, may be "
                f"{1e3 * self._config.start_height_m:.0f} mm and {self._config.start_tilt_rad} rad at the "
                "start; drive it there first"
            )
        return ""

    def _latch(self, excess: Array, value: Array, text: str) -> None:
        """Hold until the next reset if any excess (n,) is above 0, naming the joint."""
        worst = int(np.argmax(excess))
        if excess[worst] > 0 and not self.latched:
            self.latched = f"joint {self._arm.joints[worst]} {text.format(value[worst])}"


def in_order(names: Sequence[str], positions: Sequence[float], joints: Sequence[str]) -> Array | str | None:
    """Return the positions of `joints` (n,) from a state that names its own in any order.

    Returns:
        None where it has none of them, as that of a gripper; why it cannot be used where it lacks some, is
        not finite, or contradicts itself.
    """
    if not set(joints) & set(names):
        return None
    if len(names) != len(positions) or len(set(names)) != len(names):
        return f"joint state has {len(positions)} positions for the names {list(names)}"
    by_name = dict(zip(names, positions, strict=True))
    if missing := [name for name in joints if name not in by_name]:
        return f"joint state lacks {', '.join(missing)}"
    q = np.array([by_name[name] for name in joints], dtype=float)
    if not np.isfinite(q).all():
        return f"joint state has {joints[int(np.argmin(np.isfinite(q)))]} not finite"
    return q
