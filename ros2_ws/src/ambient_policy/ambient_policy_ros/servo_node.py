"""Servo node: action chunks in, a stream of tool targets out, inside the workspace and below the speed limit.

Subscribes to policy/chunk, tool/pose, policy/enable, safety/stop, safety/watchdog and teleop/deadman;
publishes tool/target (PoseStamped, >= 100 Hz), servo/status, and once a second a report on /diagnostics.
Silent until it is enabled for the first time; when disabled it holds the tool where it is.

What drives it: every tool pose is answered by one target of the same time. That is exact in lock-step (one
answer to one question, in whatever order /clock and the pose arrive) and smooth in real time (no beat between
the robot's rate and a second timer, and up to one period less delay). On a real robot a timer fills gaps: it
keeps `rate_hz` where poses come more slowly, and makes a hold of a pose that no longer comes.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from pydantic import Field, field_validator
from std_msgs.msg import Bool, String
from trajectory_msgs.msg import MultiDOFJointTrajectory

from ambient_policy.chunks import Array
from ambient_policy.errors import AmbientPolicyError
from ambient_policy.limits import MotionLimits
from ambient_policy.reasons import Once, without_numbers
from ambient_policy.servo import Servo, ServoConfig
from ambient_policy_ros import convert, node_main, qos
from ambient_policy_ros.health import Health
from ambient_policy_ros.managed import ManagedNode

STOPPED = "safety/stop was pressed"
MISSED = 1.5
"""A target that comes later than this many periods after the one before has missed its deadline."""
LOG_AFTER_S = 0.5
"""A hold is logged when it has lasted this long: every start holds for a moment, until the first chunk."""


class ServoParameters(MotionLimits, ServoConfig):
    """ROS parameters of the node: limits in the frame of the tool pose, how to follow, and these."""

    rate_hz: float = Field(default=100.0, gt=0)
    """Lowest rate of targets."""
    height_m: float = Field(default=0.0, ge=-2, le=2)
    """z of every target, for a controller that takes the whole pose; the twin takes x and y."""
    orientation: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 1.0)
    """Of every target, likewise: x, y, z, w of the tool in the frame of the tool pose."""
    deadman_timeout_s: float = Field(default=0.0, ge=0)
    """The tool moves only while teleop/deadman has said true within this time; 0: no deadman."""
    watchdog_timeout_s: float = Field(default=0.0, ge=0)
    """The tool moves only while safety/watchdog has said within this time that all is well; 0: none."""

    @field_validator("orientation")
    @classmethod
    def _is_a_rotation(cls, q: tuple[float, ...]) -> tuple[float, ...]:
        length = math.hypot(*q)
        if not abs(length - 1) < 1e-3:
            raise ValueError(f"its length is {length:.4f}, a rotation's is 1; x, y, z, w")
        return tuple(value / length for value in q)

    def target_msg(self, xy: Array, time_s: float, frame_id: str) -> PoseStamped:
        """Make the target at `xy` (2,) [m]; with height and orientation, as x and y alone mean z = 0."""
        return convert.pose_msg(xy, time_s, frame_id, self.height_m, self.orientation)


class ServoNode(ManagedNode[ServoParameters]):
    """Carries messages to and from a Servo."""

    def __init__(self) -> None:
        super().__init__("servo", ServoParameters)
        # Heard in every state: who presses it does not ask whether the node is configured.
        self._stop_pressed = False
        self.create_subscription(Bool, "safety/stop", self._on_stop, qos.STATUS)

    def configure(self, config: ServoParameters) -> None:
        """Make the servo, and listen."""
        self._servo = Servo(config, config, 1 / config.rate_hz)
        self._deadman_timeout_s = config.deadman_timeout_s
        self._deadman_s = -math.inf
        """When it was last said to be held."""
        self._watchdog_timeout_s = config.watchdog_timeout_s
        self._watchdog = ("the watchdog is silent", -math.inf)
        """What it said last (nothing: all is well), and when."""
        self._pose_s = -math.inf
        self._once = Once(self.get_logger().warning)
        self._ever_enabled = False
        self._frame_id = ""
        self._hold = ""
        self._hold_since_s = 0.0

        self._config = config
        self._handover_s, self._period_s = config.handover_s, 1 / config.rate_hz
        self._target_s = math.inf
        self._health = Health(self, "servo", lambda: self._hold, self._condition)
        self._targets = self.create_publisher(PoseStamped, "tool/target", qos.STATE)
        self._statuses = self.create_publisher(DiagnosticArray, "servo/status", qos.STATUS)
        self.create_subscription(PoseStamped, "tool/pose", self._on_pose, qos.STATE)
        self.create_subscription(MultiDOFJointTrajectory, "policy/chunk", self._on_chunk, qos.CHUNK)
        if self._deadman_timeout_s:
            self.create_subscription(Bool, "teleop/deadman", self._on_deadman, qos.STATE)
        if self._watchdog_timeout_s:
            self.create_subscription(String, "safety/watchdog", self._on_watchdog, qos.STATE)
        self.create_subscription(Bool, "policy/enable", self._on_enable, qos.ENABLE)  # last: see qos.ENABLE
        # Starts again at every target, so it fires only when a pose is overdue. Not under /clock: no time
        # passes between two poses there, and a timer would cost as much as a pose.
        self._timer = None
        if not self.get_parameter("use_sim_time").value:
            self._timer = self.create_timer(1 / config.rate_hz, self._fill_gap)
        low, high = config.workspace_min, config.workspace_max
        self.get_logger().info(
            f"servo ready: x {low[0]} to {high[0]} m, y {low[1]} to {high[1]} m, {config.max_speed_m_s} m/s"
        )

    def deactivate(self) -> None:
        """Bring the tool to rest and keep it there, as when disabled; clean-up silences the node."""
        self._publish_status("enable", self._now_s(), self._switch(False))

    def _condition(self) -> dict[str, str]:
        """Return what belongs in every report."""
        heard = math.isfinite(self._pose_s)
        return {
            "state": "active" if self._servo.following else "inactive",
            "latched": self._servo.latched,
            "limited_ticks": str(self._servo.limited),
            "pose_age_s": f"{self._now_s() - self._pose_s:.3f}" if heard else "none yet",
        }

    def _now_s(self) -> float:
        return convert.seconds(self.get_clock().now().to_msg())

    def _on_enable(self, msg: Bool, info: Mapping[str, int]) -> None:
        # Answered also when nothing changes: whoever asked may have missed the first answer.
        self._publish_status("enable", self._now_s(), self._switch(self.enabled_by(msg, info)))

    def _switch(self, on: bool) -> dict[str, str]:
        """Follow chunks or not; returns what was counted while it did."""
        if on == self._servo.following:
            return {}
        counts = {"limited_ticks": str(self._servo.limited), "holds": json.dumps(self._servo.holds)}
        if on:  # else it brakes from where it is
            self._servo.reset()
            counts = {}
        self._servo.following = on
        if self._stop_pressed:
            self._servo.latch(STOPPED)
        self._ever_enabled, self._hold = True, ""
        self._once.forget()
        return counts

    def _on_stop(self, msg: Bool) -> None:
        if msg.data != self._stop_pressed:
            self.get_logger().warning(f"safety/stop was {'pressed' if msg.data else 'released'}")
        self._stop_pressed = msg.data
        if msg.data and self.configured:
            self._servo.latch(STOPPED)

    def _on_deadman(self, msg: Bool) -> None:
        self._deadman_s = self._heard_s() if msg.data else -math.inf

    def _on_watchdog(self, msg: String) -> None:
        self._watchdog = (msg.data and f"watchdog: {msg.data}", self._heard_s())

    def _heard_s(self) -> float:
        # A clock that follows /clock may not have heard yet of the time of the newest pose.
        return max(self._now_s(), self._pose_s)

    def _on_chunk(self, msg: MultiDOFJointTrajectory) -> None:
        if not self._servo.following:
            return
        age_s = self._now_s() - convert.seconds(msg.header.stamp)
        if age_s > self._handover_s:
            self._health.count("late_chunks")
        reason = f"chunk is in frame {msg.header.frame_id!r}, the tool pose in {self._frame_id!r}"
        if msg.header.frame_id == self._frame_id or not self._frame_id:
            try:
                reason = self._servo.accept(convert.chunk(msg), self._now_s())
            except AmbientPolicyError as error:
                reason = str(error)
        if reason:
            self._once(f"chunk refused: {reason}")
        event = "refused" if reason else "accepted"
        self._health.count(f"{event}_chunks")
        at_ns = str(round(self._now_s() * 1e9))
        self._publish_status(event, convert.seconds(msg.header.stamp), {"reason": reason, "at_ns": at_ns})

    def _on_pose(self, msg: PoseStamped) -> None:
        try:
            xy = convert.pose_xy(msg)
        except AmbientPolicyError as error:
            self._once(str(error))
            return
        stamp_s = convert.seconds(msg.header.stamp)
        self._frame_id = msg.header.frame_id
        self._servo.observe(xy, stamp_s)
        self._pose_s = stamp_s
        self._health.rate("pose")
        self._command(max(self._now_s(), stamp_s))

    def _fill_gap(self) -> None:
        # Never the first target: that one must answer a pose, which says where to hold the tool.
        if self._servo.started:
            self._command(self._now_s())

    def _command(self, now_s: float) -> None:
        if not self._ever_enabled:
            return
        command = self._servo.command(now_s, self._stop(now_s))
        if command is None:
            return
        self._targets.publish(self._config.target_msg(command.position, now_s, self._frame_id))
        self._health.rate("target")
        if now_s - self._target_s > MISSED * self._period_s:
            self._health.count("missed_deadlines")
        self._target_s = now_s
        if self._timer is not None:
            self._timer.reset()
        if command.taken_over_s is not None:
            self._health.took("image_to_command", now_s - command.taken_over_s)
            self._hold = ""
            self._publish_status("taken_over", command.taken_over_s, {"at_ns": str(round(now_s * 1e9))})
        elif without_numbers(command.hold) != without_numbers(self._hold):
            self._hold, self._hold_since_s = command.hold, now_s
            self._publish_status("hold" if command.hold else "follow", now_s, {})
        elif command.hold and self._servo.following and now_s - self._hold_since_s > LOG_AFTER_S:
            self._once(f"holding: {command.hold}")

    def _stop(self, now_s: float) -> str:
        """Return why the tool must be held although the policy may go on, or nothing."""
        if self._deadman_timeout_s and now_s - self._deadman_s > self._deadman_timeout_s:
            return "deadman is released"
        if not self._watchdog_timeout_s:
            return ""
        trouble, said_s = self._watchdog
        return "the watchdog is silent" if now_s - said_s > self._watchdog_timeout_s else trouble

    def _publish_status(self, event: str, time_s: float, values: dict[str, str]) -> None:
        state = "active" if self._servo.following else "inactive"
        every = {"event": event, "state": state, "hold": self._hold, **values}
        self._statuses.publish(convert.status_msg("servo", every, time_s, self._hold))


def main() -> int:
    """Run the node until it is told to stop."""
    return node_main.run(ServoNode)


if __name__ == "__main__":
    sys.exit(main())
