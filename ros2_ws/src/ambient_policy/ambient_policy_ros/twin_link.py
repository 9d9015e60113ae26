"""The twin's side of the topics: publishes exactly what the robot publishes, and /clock; collects answers."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Bool
from trajectory_msgs.msg import JointTrajectory

from ambient_policy.episodes import CameraModel
from ambient_policy.joint_command import JointCommand
from ambient_policy.reasons import without_numbers
from ambient_policy_ros import convert, qos
from ambient_policy_ros.fault_plan import CLOCK, JOINTS, NODES, POSE, TARGET, image_channel, info_channel
from ambient_policy_ros.twin_faults import TwinFaults

Array = NDArray[np.float64]

FRAME = "world"
TRAJECTORY = "joint_trajectory_controller/joint_trajectory"


@dataclass
class Inbox:
    """What the nodes have said, newest last."""

    answered_ns: int | None = None
    """Stamp of the newest target that the servo, or of the newest trajectory that the joint node has sent."""
    target: tuple[int, Array | JointCommand] | None = None
    """Stamp [ns] and position, or joints, of the newest target that has reached the robot."""
    refused: int = 0
    """Targets that the robot did not take, such as those that are not finite."""
    frames: dict[int, dict[str, str]] = field(default_factory=dict)
    """policy/status of each processed frame, by its stamp [ns]."""
    chunks: dict[int, float] = field(default_factory=dict)
    """Monotonic time at which the servo took or refused a chunk, by the chunk's stamp [ns]."""
    accepted: int = 0
    """Chunks that the servo has taken."""
    policy_holds: Counter[str] = field(default_factory=Counter)
    """Frames that ended in a hold, by its kind."""
    enabled: dict[str, str] = field(default_factory=dict)
    """Newest answer of each node to policy/enable: `active` or `inactive`."""
    facts: dict[str, str] = field(default_factory=dict)
    """What the nodes have said of themselves and of their last trial."""
    heard_s: dict[str, float] = field(default_factory=dict)
    """Monotonic time of the newest message of each node."""
    messages: int = 0
    """Taken in so far, of any kind."""


class TwinLink:
    """Publishes the twin's state and waits for answers, all in the caller's thread.

    Args:
        node: to make publishers and subscriptions on.
        cameras: name -> model of the cameras to publish.
        on_take_over: called with (chunk stamp, target stamp) [ns] when the servo starts to follow a chunk.
        faults: what goes wrong on the way, or None.
        joint_names: of the tool's joints, in the order of the samples given to `queue_joints`.
        joints: be a robot that takes trajectories of its joints and tells their state alone: no tool/pose.
    """

    def __init__(
        self,
        node: Node,
        cameras: Mapping[str, CameraModel],
        on_take_over: Callable[[int, int], None],
        faults: TwinFaults | None = None,
        joint_names: Sequence[str] = ("tool_x", "tool_y"),
        *,
        joints: bool = False,
    ) -> None:
        self.inbox = Inbox()
        self.nodes = (*NODES, "joints") if joints else NODES
        """Whose answers to policy/enable are waited for."""
        self.mover, self.command_topic = ("joints", TRAJECTORY) if joints else ("servo", TARGET)
        """Who commands the robot, and where."""
        self.faults = faults
        self._node, self._cameras, self._on_take_over = node, cameras, on_take_over
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)
        self._clock = self._out(Clock, CLOCK, qos.CLOCK)
        self._pose = None if joints else self._out(PoseStamped, POSE, qos.STATE)
        self._joints = self._out(JointState, JOINTS, qos.STATE)
        self._joint_names = list(joint_names)
        self._joint_queue: deque[tuple[int, Array, Array]] = deque()
        self._images = {
            name: (
                self._out(Image, image_channel(name), qos.IMAGE_OUT),
                self._out(CameraInfo, info_channel(name), qos.IMAGE_OUT),
            )
            for name in cameras
        }
        self._late = [f(name) for name in cameras for f in (image_channel, info_channel)]
        self._arrive: Callable[[PoseStamped], object] = self._take_target
        if faults is not None:
            self._arrive = faults.channel(TARGET, self._take_target)
        if joints:
            node.create_subscription(JointTrajectory, TRAJECTORY, self._on_trajectory, qos.STATE)
            node.create_subscription(DiagnosticArray, "joints/status", self._on_joints, qos.STATUS)
        else:
            node.create_subscription(PoseStamped, TARGET, self._on_target, qos.STATE)
        node.create_subscription(DiagnosticArray, "policy/status", self._on_policy, qos.STATUS)
        node.create_subscription(DiagnosticArray, "servo/status", self._on_servo, qos.STATUS)
        self._enable = node.create_publisher(Bool, "policy/enable", qos.ENABLE)  # last: see qos.ENABLE

    def publish_state(
        self,
        time_s: float,
        tool_xy: Array,
        tool_velocity: Array,
        on_clock: Callable[[bool], None] | None = None,
    ) -> bool:
        """Publish the time, the tool's pose and the joints behind it; returns whether all went as they are.

        The time goes first: a pose that faults have made old is then met by a node that knows the time.
        `on_clock` is called in between, with whether the time went as it is.
        """
        true = self._clock(convert.clock_msg(time_s))
        if self.faults is not None:
            true &= not self.faults.deliver(CLOCK)
        if on_clock is not None:
            on_clock(true)
        if self._pose is not None:
            true &= self._pose(convert.pose_msg(tool_xy, time_s, FRAME))
        self.publish_joints(round(time_s * 1e9))
        if self.faults is not None:
            true &= not self.faults.deliver(POSE)
            self.faults.deliver(JOINTS)
        return true

    def queue_joints(self, samples: Sequence[tuple[int, Array, Array]], *, first: bool = False) -> None:
        """Keep joints to be published when their time has come: stamp [ns], positions (n,), velocities (n,).

        An arm gives more of them than there are ticks. `first` forgets what an earlier trial has left.
        """
        if first:
            self._joint_queue.clear()
        self._joint_queue.extend(samples)

    def next_joints_ns(self) -> int | None:
        """Return the stamp [ns] of the next joints to be published, if there are any."""
        return self._joint_queue[0][0] if self._joint_queue else None

    def publish_joints(self, until_ns: int) -> None:
        """Publish the joints whose stamp [ns] is not later than this, each with its own stamp."""
        while self._joint_queue and self._joint_queue[0][0] <= until_ns:
            stamp_ns, positions, velocities = self._joint_queue.popleft()
            self._joints(convert.joint_state_msg(self._joint_names, positions, velocities, stamp_ns / 1e9))

    def publish_images(self, time_s: float, images: Mapping[str, NDArray[np.uint8]]) -> bool:
        """Publish one frame of every camera, with its calibration; returns whether all went as they are."""
        true = True
        for name, image in images.items():
            image_publisher, info_publisher = self._images[name]
            true &= image_publisher(convert.image_msg(image, time_s, self._cameras[name].frame_id))
            info_publisher(convert.camera_info_msg(self._cameras[name], time_s))
        return true

    def deliver_images(self) -> int:
        """Give out the delayed images that are due; returns how many messages."""
        return 0 if self.faults is None else self.faults.deliver(*self._late)

    def deliver_targets(self) -> int:
        """Let the robot take the delayed targets that are due; returns how many."""
        return 0 if self.faults is None else self.faults.deliver(TARGET)

    def publish_clock(self, time_s: float) -> None:
        """Publish the time alone."""
        self._clock(convert.clock_msg(time_s))

    def publish_enable(self, value: bool) -> None:
        """Let the policy move the tool, or not."""
        self._enable.publish(Bool(data=value))

    def wait(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Take messages in until `done`, at most `timeout_s` of wall time; returns whether it was done."""
        deadline = time.monotonic() + timeout_s
        while not done():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            self._executor.spin_once(timeout_sec=left_s)
        return True

    def rivals(self) -> list[str]:
        """Return the topics on which more than one node answers, as when an earlier launch still runs."""
        topics = (self.command_topic, "tool/target", "policy/status", "servo/status")
        return [topic for topic in topics if self._node.count_publishers(topic) > 1]

    def drain(self, until_s: float) -> None:
        """Take messages in until the monotonic clock reads `until_s`, and all that have come already."""
        while True:
            before = self.inbox.messages
            self._executor.spin_once(timeout_sec=max(until_s - time.monotonic(), 0.0))
            if self.inbox.messages == before and time.monotonic() >= until_s:
                return

    def close(self) -> None:
        """Stop taking messages in."""
        self._executor.shutdown()

    def roll_call(self, nodes: Collection[str], timeout_s: float) -> list[str]:
        """Say policy/enable once more and wait for the answer of each of `nodes`; returns who gave none.

        A node takes messages in the order of their arrival and, of those that wait together, answers this one
        last (see qos.ENABLE). Who has answered has dealt with everything that was delivered before.
        """
        for name in nodes:
            self.inbox.enabled.pop(name, None)
        self.publish_enable(True)
        self.wait(lambda: all(name in self.inbox.enabled for name in nodes), timeout_s)
        return [name for name in nodes if name not in self.inbox.enabled]

    def _out(self, kind: type, topic: str, profile: QoSProfile) -> Callable[[Any], bool]:
        """Make a publisher; returns what takes its messages and tells whether one went out as it is."""
        publisher = self._node.create_publisher(kind, topic, profile)
        if self.faults is not None:
            return self.faults.channel(topic, publisher.publish)

        def publish(msg: Any) -> bool:
            publisher.publish(msg)
            return True

        return publish

    def _on_target(self, msg: PoseStamped) -> None:
        self.inbox.messages += 1
        self.inbox.answered_ns = convert.nanoseconds(msg.header.stamp)
        self.inbox.heard_s["servo"] = time.monotonic()
        self._arrive(msg)

    def _take_target(self, msg: PoseStamped) -> None:
        """Take a target as a robot's driver does: what is no position is refused, and the last one stays."""
        try:
            self.inbox.target = (convert.nanoseconds(msg.header.stamp), convert.pose_xy(msg))
        except convert.MessageError:
            self.inbox.refused += 1

    def _on_trajectory(self, msg: JointTrajectory) -> None:
        self.inbox.messages += 1
        self.inbox.answered_ns = convert.nanoseconds(msg.header.stamp)
        self.inbox.heard_s["joints"] = time.monotonic()
        try:
            command = convert.joint_command(msg, self._joint_names)
        except convert.MessageError as error:
            self.inbox.refused += 1
            self._node.get_logger().warning(str(error), once=True)
        else:
            self.inbox.target = (self.inbox.answered_ns, command)

    def _on_joints(self, msg: DiagnosticArray) -> None:
        self.inbox.messages += 1
        values = convert.status_values(msg)
        if values.get("event") == "enable":
            self._on_enabled("joints", values)

    def _on_policy(self, msg: DiagnosticArray) -> None:
        self.inbox.messages += 1
        self.inbox.heard_s["policy"] = time.monotonic()
        values = convert.status_values(msg)
        if self.faults is not None and values.get("event") in ("frame", "hold"):
            self.faults.note("policy", values["hold"])
        if values.get("event") == "frame":
            _remember(self.inbox.frames, convert.nanoseconds(msg.header.stamp), values)
            if values["hold"]:
                self.inbox.policy_holds[without_numbers(values["hold"])] += 1
        elif values.get("event") == "enable":
            self._on_enabled("policy", values)

    def _on_servo(self, msg: DiagnosticArray) -> None:
        self.inbox.messages += 1
        values, stamp_ns = convert.status_values(msg), convert.nanoseconds(msg.header.stamp)
        event = values.get("event")
        if self.faults is not None and event in ("hold", "follow", "taken_over"):
            self.faults.note("servo", values["hold"])
        if event in ("accepted", "refused"):
            _remember(self.inbox.chunks, stamp_ns, time.monotonic())
            self.inbox.accepted += event == "accepted"
        elif event == "taken_over":
            self._on_take_over(stamp_ns, int(values["at_ns"]))
        elif event == "enable":
            self._on_enabled("servo", values)

    def _on_enabled(self, node: str, values: dict[str, str]) -> None:
        self.inbox.enabled[node] = values.pop("state")
        self.inbox.facts.update(values)


def _remember(entries: dict, key: int, value: object) -> None:
    entries[key] = value
    while len(entries) > 100:
        del entries[next(iter(entries))]
