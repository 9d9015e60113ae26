"""The twin's side of the topics: publishes exactly what the robot publishes, and /clock; collects answers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Bool

from ambient_policy.episodes import CameraModel
from ambient_policy_ros import convert, qos
from ambient_policy_ros.reasons import without_numbers

Array = NDArray[np.float64]

FRAME = "world"
JOINTS = ["tool_x", "tool_y"]


@dataclass
class Inbox:
    """What the nodes have said, newest last."""

    target: tuple[int, Array] | None = None
    """Stamp [ns] and position of the newest target."""
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
    """

    def __init__(
        self, node: Node, cameras: Mapping[str, CameraModel], on_take_over: Callable[[int, int], None]
    ) -> None:
        self.inbox = Inbox()
        self._node, self._cameras, self._on_take_over = node, cameras, on_take_over
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)
        self._clock = node.create_publisher(Clock, "/clock", qos.CLOCK)
        self._pose = node.create_publisher(PoseStamped, "tool/pose", qos.STATE)
        self._joints = node.create_publisher(JointState, "joint_states", qos.STATE)
        self._images = {
            name: (
                node.create_publisher(Image, f"camera/{name}/color/image_raw", qos.IMAGE_OUT),
                node.create_publisher(CameraInfo, f"camera/{name}/color/camera_info", qos.IMAGE_OUT),
            )
            for name in cameras
        }
        node.create_subscription(PoseStamped, "tool/target", self._on_target, qos.STATE)
        node.create_subscription(DiagnosticArray, "policy/status", self._on_policy, qos.STATUS)
        node.create_subscription(DiagnosticArray, "servo/status", self._on_servo, qos.STATUS)
        self._enable = node.create_publisher(Bool, "policy/enable", qos.ENABLE)  # last: see qos.ENABLE

    def publish_state(self, time_s: float, tool_xy: Array, tool_velocity: Array) -> None:
        """Publish the tool's pose, the joints behind it, and the time."""
        self._pose.publish(convert.pose_msg(tool_xy, time_s, FRAME))
        self._joints.publish(convert.joint_state_msg(JOINTS, tool_xy, tool_velocity, time_s))
        self._clock.publish(convert.clock_msg(time_s))

    def publish_images(self, time_s: float, images: Mapping[str, NDArray[np.uint8]]) -> None:
        """Publish one frame of every camera, with its calibration."""
        for name, image in images.items():
            image_publisher, info_publisher = self._images[name]
            image_publisher.publish(convert.image_msg(image, time_s, self._cameras[name].frame_id))
            info_publisher.publish(convert.camera_info_msg(self._cameras[name], time_s))

    def publish_clock(self, time_s: float) -> None:
        """Publish the time alone."""
        self._clock.publish(convert.clock_msg(time_s))

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
        topics = ("tool/target", "policy/status", "servo/status")
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

    def _on_target(self, msg: PoseStamped) -> None:
        self.inbox.messages += 1
        self.inbox.target = (convert.nanoseconds(msg.header.stamp), convert.pose_xy(msg))
        self.inbox.heard_s["servo"] = time.monotonic()

    def _on_policy(self, msg: DiagnosticArray) -> None:
        self.inbox.messages += 1
        self.inbox.heard_s["policy"] = time.monotonic()
        values = convert.status_values(msg)
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
