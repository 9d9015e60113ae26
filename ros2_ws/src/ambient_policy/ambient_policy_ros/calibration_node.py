"""Moves the tool gently and notes what goes by: targets, poses and pictures with their stamps."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.qos import ReliabilityPolicy
from rclpy.timer import Timer
from sensor_msgs.msg import Image
from std_msgs.msg import Bool

from ambient_policy.chunks import Array, Chunk
from ambient_policy.errors import AmbientPolicyError, TrialError
from ambient_policy.image_delay import shrink
from ambient_policy.latency_calibration import Pictures, Recording
from ambient_policy.servo import Servo
from ambient_policy.time_delay import Track
from ambient_policy_ros import convert, qos
from ambient_policy_ros.servo_node import STOPPED, ServoParameters

DISCOVERY_S = 2.0
"""Who publishes what is known after this (wall time); mostly it takes some tenths of a second."""
REST_S = 0.6
"""Rest before and after the motion: longer than any delay that is looked for."""
BRAKE_S = 0.3
"""After a hold it still sends targets for so long: with limits of acceleration a stop takes that time."""
SILENCE_S = 2.0
"""Without a pose for so long (wall time) it gives up."""
TARGET = "tool/target"
IMAGE = re.compile(r".*/camera/([^/]+)/color/image_raw")


class CalibrationNode(Node):
    """Sends targets by the same `Servo` as the servo node, which must not run: one hand at the tool.

    Args:
        parameters: of the servo: limits, rate, deadman.
    """

    def __init__(self, parameters: ServoParameters) -> None:
        super().__init__("calibrate_latency")
        self.parameters = parameters
        self._servo = Servo(parameters, parameters, 1 / parameters.rate_hz)
        self._targets: list[tuple[float, Array]] = []
        self._poses: list[tuple[float, Array]] = []
        self._pictures: dict[str, list[tuple[float, float, np.ndarray]]] = {}
        self._publisher: Publisher | None = None
        self._timer: Timer | None = None
        self._frame_id, self._hold, self._heard_s = "", "", -math.inf
        self._deadman_s, self._stop_pressed = -math.inf, False
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)
        self.create_subscription(PoseStamped, "tool/pose", self._on_pose, qos.STATE)
        self.create_subscription(Bool, "safety/stop", self._on_stop, qos.STATUS)
        if parameters.deadman_timeout_s:
            self.create_subscription(Bool, "teleop/deadman", self._on_deadman, qos.STATE)

    def look(self, timeout_s: float) -> tuple[Array, bool]:
        """Return where the tool is (2,) [m], and whether the robot is simulated: it then publishes /clock.

        Raises:
            TrialError: no pose within the time, or something else publishes tool/target.
        """
        began_s = time.monotonic()
        self._spin(lambda: time.monotonic() - began_s > DISCOVERY_S and bool(self._poses), timeout_s)
        if not self._poses:
            raise TrialError(
                f"no tool/pose within {timeout_s:g} s; does the robot run, or `ambient-policy launch twin`, "
                "with the same ROS_DOMAIN_ID?"
            )
        self._refuse_rivals(0)
        simulated = self.count_publishers("/clock") > 0
        self.set_parameters([Parameter("use_sim_time", value=simulated)])
        return self._poses[-1][1], simulated

    def watch(self, wanted: Sequence[str]) -> list[str]:
        """Take pictures from these cameras, or from all that publish some; return their names.

        Raises:
            TrialError: a wanted camera publishes nothing.
        """
        topics = {m[1]: name for name, _ in self.get_topic_names_and_types() if (m := IMAGE.fullmatch(name))}
        if missing := sorted(set(wanted) - set(topics)):
            there = ", ".join(sorted(topics)) or "none"
            raise TrialError(f"no camera {missing[0]!r}: nothing is on its topic; there: {there}")
        for name in wanted or sorted(topics):
            offers = self.get_publishers_info_by_topic(topics[name])
            reliable = all(offer.qos_profile.reliability == ReliabilityPolicy.RELIABLE for offer in offers)
            profile = qos.image_in("reliable" if reliable else "best_effort")
            self.create_subscription(Image, topics[name], partial(self._on_image, name), profile)
            self._pictures[name] = []
        return list(self._pictures)

    def drive(self, path: Array) -> Recording:
        """Move along `path` (N, 2) [m], one position a period of the servo, and return what went by.

        Raises:
            TrialError: the servo held the tool, somebody else sent targets, or the poses stopped.
        """
        period_s = 1 / self.parameters.rate_hz
        self._publisher = self.create_publisher(PoseStamped, TARGET, qos.STATE)
        if not self.get_parameter("use_sim_time").value:
            self._timer = self.create_timer(period_s, self._fill_gap)
        self._servo.reset()
        if self._stop_pressed:
            self._servo.latch(STOPPED)
        self._poses.clear()
        self._rest()
        self._servo.following, start_s = True, self._poses[-1][0]
        chunk = Chunk(start_s, path, period_s)
        if refused := self._servo.accept(chunk, start_s):
            raise TrialError(f"the servo refuses the motion: {refused}")
        settled_s = start_s + self.parameters.handover_s + 2 * period_s
        self._spin_until(lambda now_s: now_s > settled_s)
        self._hold = ""
        self._spin_until(lambda now_s: bool(self._hold) or now_s >= chunk.end_s)
        if self._hold:
            self._spin(lambda: False, BRAKE_S)
            raise TrialError(f"the tool was held after {self._poses[-1][0] - start_s:.1f} s: {self._hold}")
        self._rest()
        return self._recording()

    def _recording(self) -> Recording:
        cameras = {}
        for name, seen in self._pictures.items():
            rising = _rising(seen)
            small = [picture for _, _, picture in rising]
            cameras[name] = Pictures(
                np.array([stamp_s for stamp_s, _, _ in rising]),
                np.array([arrived_s for _, arrived_s, _ in rising]),
                np.array(small, dtype=np.float32),
            )
        return Recording(_track(self._targets), _track(self._poses), cameras)

    def _rest(self) -> None:
        self._spin_until(lambda _: True)
        until_s = self._poses[-1][0] + REST_S
        self._spin_until(lambda now_s: now_s >= until_s)

    def _spin_until(self, done: Callable[[float], bool]) -> None:
        """Take messages in until `done`, which is given the stamp of the newest pose [s]."""
        self._heard_s = time.monotonic()
        while not (self._poses and done(self._poses[-1][0])):
            if time.monotonic() - self._heard_s > SILENCE_S:
                raise TrialError(f"no tool/pose for {SILENCE_S:g} s; the tool stays at its last target")
            self._refuse_rivals(1)
            self._spin(lambda: False, 0.02)

    def _spin(self, done: Callable[[], bool], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not done() and (left_s := deadline - time.monotonic()) > 0:
            if not rclpy.ok():
                raise ExternalShutdownException()
            self._executor.spin_once(timeout_sec=left_s)

    def _refuse_rivals(self, ours: int) -> None:
        if (count := self.count_publishers(TARGET)) > ours:
            raise TrialError(
                f"{count - ours} other node(s) publish {TARGET}; two hands at one tool are not safe: end the "
                "launch with the servo, and start robot and cameras without it"
            )

    def _now_s(self) -> float:
        now_s = convert.seconds(self.get_clock().now().to_msg())
        return max(now_s, self._poses[-1][0]) if self._poses else now_s

    def _on_pose(self, msg: PoseStamped) -> None:
        try:
            xy, stamp_s = convert.pose_xy(msg), convert.seconds(msg.header.stamp)
        except AmbientPolicyError as error:
            self._hold = str(error)
            return
        self._frame_id, self._heard_s = msg.header.frame_id, time.monotonic()
        self._servo.observe(xy, stamp_s)
        self._poses.append((stamp_s, xy))
        self._command()

    def _fill_gap(self) -> None:
        if self._servo.started:
            self._command()

    def _command(self) -> None:
        if self._publisher is None:
            return
        now_s, timeout_s = self._now_s(), self.parameters.deadman_timeout_s
        released = timeout_s and now_s - self._deadman_s > timeout_s
        command = self._servo.command(now_s, "deadman is released" if released else "")
        if command is None:
            return
        self._publisher.publish(self.parameters.target_msg(command.position, now_s, self._frame_id))
        self._targets.append((now_s, command.position))
        self._hold = self._hold or command.hold
        if self._timer is not None:
            self._timer.reset()

    def _on_stop(self, msg: Bool) -> None:
        self._stop_pressed = msg.data
        if msg.data:
            self._servo.latch(STOPPED)

    def _on_deadman(self, msg: Bool) -> None:
        self._deadman_s = self._now_s() if msg.data else -math.inf

    def _on_image(self, camera: str, msg: Image) -> None:
        if self._publisher is None:
            return
        arrived_s = self._now_s()
        try:
            picture = shrink(convert.image_array(msg))
        except AmbientPolicyError as error:
            raise TrialError(f"camera {camera}: {error}; leave it out with --cameras") from error
        self._pictures[camera].append((convert.seconds(msg.header.stamp), arrived_s, picture))


def _rising(entries: list[tuple]) -> list[tuple]:
    """Return the entries, which begin with a stamp, in its order and each stamp once."""
    return list({entry[0]: entry for entry in sorted(entries, key=lambda entry: entry[0])}.values())


def _track(entries: list[tuple[float, Array]]) -> Track:
    rising = _rising(entries)
    return Track(np.array([t for t, _ in rising]), np.array([xy for _, xy in rising]))
