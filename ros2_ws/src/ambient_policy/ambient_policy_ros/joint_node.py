"""Joint node: tool targets in, joint trajectories out; for robots that take nothing but trajectories.

Subscribes to joint_states, tool/target and policy/enable; publishes the two points of each trajectory (where
the joints are due, and where they come to rest if no other follows) on
joint_trajectory_controller/joint_trajectory, joints/status, and once a second a report on /diagnostics. Where
the robot has no topic for it, also tool/pose, from the measured joints and with their stamp. Every target
is answered by one trajectory of the same time, and a hold is one too.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from pydantic import Field
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from trajectory_msgs.msg import JointTrajectory

from ambient_policy.chunks import TIME_EPSILON_S
from ambient_policy.joint_servo import JointServo, JointServoConfig, in_order
from ambient_policy.reasons import Once, without_numbers
from ambient_policy_ros import convert, node_main, qos
from ambient_policy_ros.health import Health
from ambient_policy_ros.managed import ManagedNode
from sim.arm_kinematics import ArmKinematics
from sim.arm_model import ArmModel
from sim.scenario import Posture


class JointParameters(ArmModel, Posture, JointServoConfig):
    """ROS parameters of the node: which arm, its posture, how it follows, and these."""

    tool_height_m: float = 0.015
    """Of the tool's tip in the world, at which it is kept."""
    rate_hz: float = Field(default=100.0, gt=0)
    """Of targets; also the highest of the tool poses that are published."""
    publish_pose: bool = True
    """Whether tool/pose is published; not where the robot's own controller does."""
    frame: str = "world"
    """Frame of the tool's poses and targets."""
    stamped: bool = False
    """Whether a trajectory starts at its target's time, rather than when it arrives. That needs clocks that
    agree, and a way shorter than `lead_s`: later, it begins with its braking."""


class JointNode(ManagedNode[JointParameters]):
    """Carries messages to and from a JointServo."""

    def __init__(self) -> None:
        super().__init__("joints", JointParameters)

    def configure(self, config: JointParameters) -> None:
        """Build the arm's kinematics, and listen."""
        self._config = config
        self._arm = ArmKinematics(config, config.tool_height_m, config)
        self._arm.check_reach()
        self._servo = JointServo(config, self._arm, 1 / config.rate_hz)
        self._enabled = False
        self._hold = ""
        self._pose_s = -math.inf
        self._once = Once(self.get_logger().warning)
        self._health = Health(self, "joints", lambda: self._servo.hold, self._condition)
        self._trajectories = self.create_publisher(
            JointTrajectory, "joint_trajectory_controller/joint_trajectory", qos.STATE
        )
        self._poses = (
            self.create_publisher(PoseStamped, "tool/pose", qos.STATE) if config.publish_pose else None
        )
        self._statuses = self.create_publisher(DiagnosticArray, "joints/status", qos.STATUS)
        self.create_subscription(JointState, "joint_states", self._on_joints, qos.STATE)
        self.create_subscription(PoseStamped, "tool/target", self._on_target, qos.STATE)
        self.create_subscription(Bool, "policy/enable", self._on_enable, qos.ENABLE)  # last: see qos.ENABLE
        self.get_logger().info(
            f"joints ready: {', '.join(config.joints)}; a target is due after {config.lead_s} s"
        )

    def deactivate(self) -> None:
        """Send no more: the last trajectory ends in its braking."""
        self._enabled = False
        self._publish_status("enable", self._now_s())

    def _condition(self) -> dict[str, str]:
        """Return what belongs in every report."""
        return {"latched": self._servo.latched, "limited": self._servo.limited}

    def _now_s(self) -> float:
        return convert.seconds(self.get_clock().now().to_msg())

    def _on_enable(self, msg: Bool, info: Mapping[str, int]) -> None:
        wanted = self.enabled_by(msg, info)
        if wanted and not self._enabled:
            self._servo.reset()
            self._pose_s = -math.inf
            self._hold = ""
            self._once.forget()
        self._enabled = wanted
        # Answered also when nothing changes: whoever asked may have missed the first answer.
        self._publish_status("enable", self._now_s())

    def _on_joints(self, msg: JointState) -> None:
        q = in_order(msg.name, msg.position, self._config.joints)
        if q is None:
            return
        if isinstance(q, str):
            self._health.count("refused_states")
            self._servo.reject(q)
            return
        stamp_s = convert.seconds(msg.header.stamp)
        self._servo.observe(q, stamp_s)
        self._health.rate("state")
        if self._poses is not None and stamp_s - self._pose_s > 1 / self._config.rate_hz - TIME_EPSILON_S:
            tip = self._arm.tip_position(q)
            self._poses.publish(convert.pose_msg(tip[:2], stamp_s, self._config.frame, float(tip[2])))
            self._pose_s = stamp_s

    def _on_target(self, msg: PoseStamped) -> None:
        if msg.header.frame_id != self._config.frame:
            self._once(f"target is in frame {msg.header.frame_id!r}, needs {self._config.frame!r}: ignored")
            return
        if not self.active:
            return
        stamp_s = convert.seconds(msg.header.stamp)
        now_s = max(self._now_s(), stamp_s)
        command = self._servo.command(convert.position_xy(msg), stamp_s, now_s)
        if command is not None:
            self._trajectories.publish(
                convert.joint_trajectory_msg(command, self._config.joints, stamped=self._config.stamped)
            )
            self._health.rate("trajectory")
        if without_numbers(self._servo.hold) != without_numbers(self._hold):
            self._hold = self._servo.hold
            self._publish_status("hold" if self._hold else "follow", stamp_s)
        if self._hold:
            self._once(f"holding: {self._hold}")

    def _publish_status(self, event: str, time_s: float) -> None:
        values = {"event": event, "state": "active" if self._enabled else "inactive", "hold": self._hold}
        self._statuses.publish(convert.status_msg("joints", values, time_s, self._hold))


def main() -> int:
    """Run the node until it is told to stop."""
    return node_main.run(JointNode)


if __name__ == "__main__":
    sys.exit(main())
