"""Policy and servo as real processes, fed over topics as a robot would feed them."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("rclpy")
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Path as PathMsg
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import Bool
from trajectory_msgs.msg import MultiDOFJointTrajectory

from ambient_policy.chunks import Chunk
from ambient_policy.errors import AmbientPolicyError
from ambient_policy_ros import convert, qos
from ambient_policy_ros.managed import ManagedNode
from ambient_policy_ros.policy_node import PolicyNode
from ambient_policy_ros.servo_node import ServoNode
from tests.helpers_bundle import expected_chunk, make_bundle

if TYPE_CHECKING:
    from tests.ros.conftest import Running, Start

pytestmark = pytest.mark.ros

SERVO = {
    "workspace_min": "[-0.5,-0.5]",
    "workspace_max": "[0.5,0.5]",
    "max_speed_m_s": 0.2,
    "lead_s": 0.01,
    # This robot stays where it is, whatever it is told.
    "max_tracking_error_m": 9.0,
}


class Robot(Node):
    """The other end of every topic, in the test's own process."""

    def __init__(self) -> None:
        super().__init__("robot")
        self.clock = self.create_publisher(Clock, "/clock", qos.CLOCK)
        self.pose = self.create_publisher(PoseStamped, "tool/pose", qos.STATE)
        self.images = {
            name: self.create_publisher(Image, f"camera/{name}/color/image_raw", qos.IMAGE_OUT)
            for name in ("overhead", "wrist")
        }
        self.chunk = self.create_publisher(MultiDOFJointTrajectory, "policy/chunk", qos.CHUNK)
        self.stop = self.create_publisher(Bool, "safety/stop", qos.STATUS)
        self.deadman = self.create_publisher(Bool, "teleop/deadman", qos.STATE)
        self.heard: dict[str, list] = {}
        for kind, topic in (
            (MultiDOFJointTrajectory, "policy/chunk"),
            (PathMsg, "policy/path"),
            (PoseStamped, "tool/target"),
            (DiagnosticArray, "policy/status"),
            (DiagnosticArray, "servo/status"),
            (DiagnosticArray, "/diagnostics"),
        ):
            self.create_subscription(kind, topic, self.heard.setdefault(topic, []).append, qos.STATUS)
        self.enable = self.create_publisher(Bool, "policy/enable", qos.ENABLE)  # last: see qos.ENABLE
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)

    def wait(self, done: Callable[[], object], what: str, timeout_s: float = 60) -> None:
        """Take messages in until `done`."""
        deadline = time.monotonic() + timeout_s
        while not done():
            assert time.monotonic() < deadline, f"no {what} within {timeout_s} s; heard {self.counts()}"
            self._executor.spin_once(timeout_sec=0.1)

    def take_all(self) -> None:
        """Take in what has come, without waiting."""
        before = -1
        while (now := sum(self.counts().values())) != before:
            before = now
            self._executor.spin_once(timeout_sec=0)

    def counts(self) -> dict[str, int]:
        return {topic: len(messages) for topic, messages in self.heard.items()}

    def statuses(self, topic: str, event: str) -> list[tuple[float, dict[str, str]]]:
        """Return (stamp, values) of the statuses of one event."""
        found = [(convert.seconds(m.header.stamp), convert.status_values(m)) for m in self.heard[topic]]
        return [(stamp_s, values) for stamp_s, values in found if values["event"] == event]

    def set_enabled(self, topic: str, value: bool) -> dict[str, str]:
        """Switch, and wait until the node has answered; said again until it is heard."""
        state, before = "active" if value else "inactive", len(self.statuses(topic, "enable"))
        deadline = time.monotonic() + 60
        while not any(v["state"] == state for _, v in self.statuses(topic, "enable")[before:]):
            assert time.monotonic() < deadline, f"{topic} never said {state}"
            self.enable.publish(Bool(data=value))
            self._executor.spin_once(timeout_sec=0.2)
        return next(v for _, v in self.statuses(topic, "enable")[before:] if v["state"] == state)

    def publish_pose(self, time_s: float, xy: tuple[float, float] = (0.1, 0.2)) -> None:
        self.pose.publish(convert.pose_msg(np.array(xy), time_s, "world"))

    def publish_image(self, camera: str, time_s: float, image: np.ndarray) -> None:
        self.images[camera].publish(convert.image_msg(image, time_s, camera))


@pytest.fixture
def robot() -> Iterator[Robot]:
    rclpy.init()
    node = Robot()
    yield node
    node._executor.shutdown()
    node.destroy_node()
    rclpy.try_shutdown()


def picture(seed: int, width: int = 32, height: int = 24) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("simulated", [True, False])
def test_images_and_tool_pose_become_a_chunk(
    tmp_path: Path, start_node: Start, robot: Robot, simulated: bool
) -> None:
    """The whole edge: two cameras of twice the input's size, pose and clock; the chunk worked out by hand."""
    gains = {"drift_m": (0.01, -0.005), "features_gain": 0.5, "noise_gain": 0.25}
    bundle = make_bundle(tmp_path / "bundle", cameras=("overhead", "wrist"), **gains)
    sim_time = str(simulated).lower()
    node = start_node("policy", bundle=bundle.folder, use_sim_time=sim_time, seed=7, blank_std=0.0)
    robot.set_enabled("policy/status", True)
    assert robot.statuses("policy/status", "enable")[-1][1]["policy"] == "hand-made"

    images = {
        name: np.full((24, 32, 3), 50 + 100 * i, np.uint8) for i, name in enumerate(("overhead", "wrist"))
    }
    # As a message holds it: to the nanosecond.
    now_s = 12.3 if simulated else convert.seconds(convert.stamp(time.time()))
    robot.clock.publish(convert.clock_msg(now_s))
    robot.publish_pose(now_s - 0.01, (9.0, 9.0))
    for name, image in images.items():
        robot.publish_image(name, now_s, image)
    # The pose of the images' own time comes last, and is still the one that counts.
    robot.publish_pose(now_s)
    robot.wait(lambda: robot.heard["policy/path"] and robot.statuses("policy/status", "frame"), "frame")

    chunk = convert.chunk(robot.heard["policy/chunk"][0])
    spec = bundle.manifest
    features = np.concatenate([np.full(3, image.mean() / 255) for image in images.values()])
    noise = np.random.default_rng(7).standard_normal((spec.action.horizon, 2)).astype(np.float32)
    wanted = expected_chunk(spec, np.stack([features] * 2), np.tile([0.1, 0.2], (2, 1)), noise, **gains)
    assert (chunk.stamp_s, chunk.period_s) == (now_s, 0.1)
    np.testing.assert_array_equal(chunk.positions[0], [0.1, 0.2])
    np.testing.assert_allclose(chunk.positions[1:], wanted, atol=1e-6)

    ((stamp_s, values),) = robot.statuses("policy/status", "frame")
    chunk_ns = str(convert.nanoseconds(convert.stamp(now_s)))
    assert (stamp_s, values["chunk_stamp"], values["hold"]) == (now_s, chunk_ns, "")
    assert float(values["encode_ms"]) > 0
    assert float(values["denoise_ms"]) > 0
    path = robot.heard["policy/path"][0]
    assert len(path.poses) == spec.action.horizon + 1
    assert node.stop() == 0, node.output()


def test_a_picture_that_is_stamped_late_belongs_to_an_earlier_pose(
    tmp_path: Path, start_node: Start, robot: Robot
) -> None:
    late = {"delayed_cameras": "[overhead]", "image_delay_s": "[0.05]"}
    bundle = make_bundle(tmp_path / "bundle")
    node = start_node("policy", bundle=bundle.folder, use_sim_time="true", **late)
    robot.set_enabled("policy/status", True)
    robot.clock.publish(convert.clock_msg(12.3))
    robot.publish_pose(12.25, (0.1, 0.2))
    robot.publish_image("overhead", 12.3, picture(0))
    robot.publish_pose(12.3, (0.3, 0.2))
    robot.wait(lambda: robot.heard["policy/chunk"], "chunk")
    chunk = convert.chunk(robot.heard["policy/chunk"][0])
    assert chunk.stamp_s == pytest.approx(12.25)
    np.testing.assert_array_equal(chunk.positions[0], [0.1, 0.2])
    assert node.stop() == 0, node.output()


def test_replanning_history_and_a_fresh_start(tmp_path: Path, start_node: Start, robot: Robot) -> None:
    """A chunk every `replan_steps` frames; after disable and enable both plan and noise begin anew."""
    bundle = make_bundle(tmp_path / "bundle", noise_gain=1.0)
    start_node("policy", bundle=bundle.folder, use_sim_time="true", replan_steps=2)
    chunks = []
    for trial in range(2):
        robot.set_enabled("policy/status", True)
        for i in range(4):
            now_s = 1.0 + 10 * trial + 0.1 * i
            robot.publish_pose(now_s)
            robot.publish_image("overhead", now_s, picture(0))
            frames = 4 * trial + i + 1
            robot.wait(lambda n=frames: len(robot.statuses("policy/status", "frame")) >= n, "status")
        robot.set_enabled("policy/status", False)
        robot.wait(lambda n=2 * (trial + 1): len(robot.heard["policy/chunk"]) >= n, "chunk")
        chunks.append([convert.chunk(m).positions for m in robot.heard["policy/chunk"][2 * trial :]])
    assert [len(pair) for pair in chunks] == [2, 2]
    np.testing.assert_array_equal(chunks[0], chunks[1])
    assert np.abs(chunks[0][0] - chunks[0][1]).max() > 1e-3, "each chunk has noise of its own"


def test_what_is_missing_becomes_a_hold_with_its_reason(
    tmp_path: Path, start_node: Start, robot: Robot
) -> None:
    bundle = make_bundle(tmp_path / "bundle", cameras=("overhead", "wrist"))
    node = start_node("policy", bundle=bundle.folder, use_sim_time="true", max_age_s=0.3)
    robot.set_enabled("policy/status", True)

    def hold_after(time_s: float, text: str) -> None:
        robot.clock.publish(convert.clock_msg(time_s))
        robot.publish_pose(time_s)
        robot.publish_image("overhead", time_s, picture(0))
        robot.wait(lambda: any(text in v["hold"] for _, v in robot.statuses("policy/status", "hold")), text)

    hold_after(5.0, "no image from camera `wrist` yet")
    robot.publish_image("wrist", 5.0, picture(1))
    robot.wait(lambda: robot.statuses("policy/status", "frame"), "frame")
    hold_after(6.0, "no complete frame for 1.00 s (ages: overhead 0.00 s, wrist 1.00 s, tool 0.00 s)")
    robot.publish_image("wrist", 6.0, picture(1, width=24))
    robot.wait(
        lambda: "aspect ratios differ" in robot.statuses("policy/status", "hold")[-1][1]["hold"], "aspect"
    )
    node.wait_for("holding: no image from camera `wrist` yet (said once)")
    assert not [v for _, v in robot.statuses("policy/status", "frame") if v["hold"]]


def test_disabled_the_policy_is_silent(tmp_path: Path, start_node: Start, robot: Robot) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    start_node("policy", bundle=bundle.folder, use_sim_time="true")
    robot.set_enabled("policy/status", False)
    robot.publish_pose(1.0)
    robot.publish_image("overhead", 1.0, picture(0))
    # Its answer to another enable comes after whatever it would have said to the image.
    robot.set_enabled("policy/status", True)
    assert robot.heard["policy/chunk"] == []
    assert robot.statuses("policy/status", "frame") == []


def run_servo(robot: Robot, period_s: float, ticks: int, start_s: float) -> list[tuple[float, np.ndarray]]:
    """Publish poses one by one, each when the target for the one before has come."""
    for i in range(ticks):
        now_s = start_s + i * period_s
        robot.publish_pose(now_s, (0.0, 0.0))
        robot.wait(
            lambda s=now_s: (
                robot.heard["tool/target"]
                and abs(convert.seconds(robot.heard["tool/target"][-1].header.stamp) - s) < 1e-9
            ),
            f"target of {now_s}",
        )
    return [
        (convert.seconds(m.header.stamp), convert.pose_xy(m)) for m in robot.heard["tool/target"][-ticks:]
    ]


def test_servo_answers_every_pose_within_the_speed_limit(start_node: Start, robot: Robot) -> None:
    """In lock-step: 100 poses, 100 targets of the same times, whose motion is the chunk's, cut at 0.2 m/s."""
    node = start_node("servo", use_sim_time="true", **SERVO)
    robot.set_enabled("servo/status", True)
    targets = run_servo(robot, 0.01, 10, start_s=2.0)
    assert all(np.array_equal(xy, [0, 0]) for _, xy in targets), "held where it was measured"
    # 0.1 m/s for half a second, then nearly twice what is allowed, and out of the workspace.
    positions = np.array(
        [[0.01 * i, 0.0] for i in range(6)] + [[0.05 + 0.039 * i, 0.0] for i in range(1, 16)]
    )
    robot.chunk.publish(convert.chunk_msg(Chunk(2.1, positions, 0.1), "world"))
    robot.wait(lambda: robot.statuses("servo/status", "accepted"), "acknowledgement")
    assert robot.statuses("servo/status", "accepted")[0][0] == 2.1

    targets = run_servo(robot, 0.01, 100, start_s=2.1)
    speeds = [np.linalg.norm(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(targets)]
    assert max(speeds) <= 0.2 * (1 + 1e-6)
    # At 2.3 s the target is where the tool is due 10 ms later.
    np.testing.assert_allclose(targets[20][1], [0.021, 0.0], atol=1e-9)
    assert max(speeds[60:]) == pytest.approx(0.2), "it runs at the limit"
    (taken_over,) = robot.statuses("servo/status", "taken_over")
    assert taken_over[0] == 2.1
    assert taken_over[1]["at_ns"] == "2150000000"

    counts = robot.set_enabled("servo/status", False)
    assert int(counts["limited_ticks"]) > 10
    assert counts["holds"] == '{"waiting for a first chunk": 15}'
    assert node.stop(signal.SIGTERM) == 0, node.output()


def test_servo_keeps_its_rate_and_holds_when_poses_stop(start_node: Start, robot: Robot) -> None:
    """In real time, from a robot that reports its pose at 5 Hz, and then no more."""
    node = start_node("servo", **SERVO)
    robot.set_enabled("servo/status", True)
    began_s = time.time()
    line = np.array([[0.002 * i, 0.0] for i in range(60)])
    robot.chunk.publish(convert.chunk_msg(Chunk(began_s, line, 0.1), "world"))
    pauses_s = []
    for _ in range(10):
        robot.publish_pose(time.time(), (0.0, 0.0))
        pose_s = time.monotonic() + 0.19
        while time.monotonic() < pose_s:
            before_s = time.monotonic()
            time.sleep(0.01)
            pauses_s.append(time.monotonic() - before_s)
            robot.take_all()
    robot.wait(
        lambda: any("tool pose is" in v["hold"] for _, v in robot.statuses("servo/status", "hold")), "hold"
    )
    times = np.array([convert.seconds(m.header.stamp) for m in robot.heard["tool/target"]])
    # What this machine makes of 10 ms just now is the measure: with all cores busy, every timer is late.
    assert np.median(np.diff(times)) <= 1.5 * max(0.01, float(np.median(pauses_s)))
    assert convert.pose_xy(robot.heard["tool/target"][-1])[0] > 0.005
    node.wait_for("holding: tool pose is")
    assert node.stop() == 0, node.output()


def test_servo_refuses_chunks_it_must_not_follow(start_node: Start, robot: Robot) -> None:
    start_node("servo", use_sim_time="true", **SERVO)
    robot.set_enabled("servo/status", True)
    run_servo(robot, 0.01, 1, start_s=3.0)
    line = np.zeros((3, 2))
    robot.chunk.publish(convert.chunk_msg(Chunk(3.0, line, 0.1), "camera"))
    robot.wait(lambda: robot.statuses("servo/status", "refused"), "refusal")
    robot.chunk.publish(convert.chunk_msg(Chunk(3.0, line * np.nan, 0.1), "world"))
    robot.wait(lambda: len(robot.statuses("servo/status", "refused")) == 2, "two refusals")
    robot.chunk.publish(convert.chunk_msg(Chunk(3.0, np.array([[0.0, 0.0], [0.6, 0.0]]), 0.1), "world"))
    robot.wait(lambda: len(robot.statuses("servo/status", "refused")) == 3, "three refusals")
    reasons = [values["reason"] for _, values in robot.statuses("servo/status", "refused")]
    assert reasons == [
        "chunk is in frame 'camera', the tool pose in 'world'",
        "chunk has values that are not finite",
        "chunk moves at 6.00 m/s, more than 0.40",
    ]


def moved_m(targets: list[tuple[float, np.ndarray]]) -> float:
    return float(np.linalg.norm(targets[-1][1] - targets[0][1]))


def send_line(robot: Robot, stamp_s: float) -> None:
    """Send a chunk of 2 s at 0.1 m/s and wait until it is accepted."""
    line = np.array([[0.01 * i, 0.0] for i in range(21)])
    robot.chunk.publish(convert.chunk_msg(Chunk(stamp_s, line, 0.1), "world"))
    accepted = lambda: [s for s, _ in robot.statuses("servo/status", "accepted") if s == stamp_s]  # noqa: E731
    robot.wait(accepted, f"acknowledgement of {stamp_s}")


def test_a_pressed_stop_holds_until_it_is_released_and_the_servo_enabled_again(
    start_node: Start, robot: Robot
) -> None:
    node = start_node("servo", use_sim_time="true", **SERVO)
    robot.set_enabled("servo/status", True)
    run_servo(robot, 0.01, 1, start_s=3.0)
    send_line(robot, 3.0)
    assert moved_m(run_servo(robot, 0.01, 20, start_s=3.1)) > 0.015

    robot.stop.publish(Bool(data=True))
    node.wait_for("safety/stop was pressed")
    assert moved_m(run_servo(robot, 0.01, 20, start_s=3.3)) == 0
    robot.set_enabled("servo/status", False)
    robot.set_enabled("servo/status", True)
    send_line(robot, 3.5)
    assert moved_m(run_servo(robot, 0.01, 20, start_s=3.6)) == 0, "it is still pressed"
    robot.stop.publish(Bool(data=False))
    node.wait_for("safety/stop was released")
    assert moved_m(run_servo(robot, 0.01, 20, start_s=3.8)) == 0, "nobody has looked yet"
    robot.set_enabled("servo/status", False)
    robot.set_enabled("servo/status", True)
    send_line(robot, 4.0)
    assert moved_m(run_servo(robot, 0.01, 20, start_s=4.2)) > 0.015
    holds = [values["hold"] for _, values in robot.statuses("servo/status", "hold")]
    assert "safety/stop was pressed; look, then disable and enable" in holds


def test_a_servo_reports_its_health_every_second(start_node: Start, robot: Robot) -> None:
    start_node("servo", use_sim_time="true", **SERVO)
    robot.set_enabled("servo/status", True)
    clock_s = 5.0

    def tick() -> None:
        nonlocal clock_s
        clock_s += 0.02
        stamp = convert.stamp(clock_s)
        robot.clock.publish(Clock(clock=stamp))
        robot.publish_pose(clock_s, (0.0, 0.0))
        robot._executor.spin_once(timeout_sec=0.02)

    def reports() -> list[dict[str, str]]:
        return [convert.status_values(m) for m in robot.heard["/diagnostics"] if m.status[0].name == "servo"]

    deadline = time.monotonic() + 60
    while len(reports()) < 4:
        assert time.monotonic() < deadline
        tick()
    last = reports()[-1]
    assert last["state"] == "active"
    # Simulated poses every 20 ms are 50 a second, however fast the test runs; a target answers each.
    assert float(last["pose_hz"]) == pytest.approx(50, rel=0.5)
    assert float(last["target_hz"]) == pytest.approx(50, rel=0.5)
    assert int(last["missed_deadlines"]) > 3, "its targets are to come every 10 ms"
    assert robot.heard["/diagnostics"][-1].status[0].message == "waiting for a first chunk"
    robot.chunk.publish(convert.chunk_msg(Chunk(clock_s - 0.3, np.zeros((30, 2)), 0.1), "world"))
    while "image_to_command_p50_ms" not in reports()[-1]:
        assert time.monotonic() < deadline
        tick()
    assert float(reports()[-1]["image_to_command_p50_ms"]) >= 300
    assert reports()[-1]["late_chunks"] == "1"
    assert reports()[-1]["accepted_chunks"] == "1"


def test_a_servo_that_is_switched_off_brakes(start_node: Start, robot: Robot) -> None:
    limits = {"max_acceleration_m_s2": 4.0, "max_jerk_m_s3": 100.0}
    start_node("servo", use_sim_time="true", **SERVO, **limits)
    robot.set_enabled("servo/status", True)
    run_servo(robot, 0.01, 1, start_s=3.0)
    send_line(robot, 3.0)
    moving = run_servo(robot, 0.01, 60, start_s=3.1)
    robot.set_enabled("servo/status", False)
    braking = run_servo(robot, 0.01, 40, start_s=3.7)
    out = np.array([xy for _, xy in moving[-10:] + braking])
    assert np.linalg.norm(out[-1] - out[9]) > 0.002, "not from one tick to the next"
    assert np.linalg.norm(np.diff(out, 2, axis=0), axis=1).max() / 0.01**2 <= 4.0 + 1e-6
    np.testing.assert_array_equal(out[-1], out[-5])


def test_the_tool_moves_only_while_the_deadman_is_held(start_node: Start, robot: Robot) -> None:
    pose = {"height_m": 0.115, "orientation": "[1.0,0.0,0.0,0.0]"}
    start_node("servo", use_sim_time="true", deadman_timeout_s=0.2, **pose, **SERVO)
    robot.set_enabled("servo/status", True)
    run_servo(robot, 0.01, 1, start_s=3.0)
    send_line(robot, 3.0)
    assert moved_m(run_servo(robot, 0.01, 20, start_s=3.1)) == 0
    robot.deadman.publish(Bool(data=True))
    deadline = time.monotonic() + 60
    while not robot.statuses("servo/status", "taken_over"):
        assert time.monotonic() < deadline
        robot.publish_pose(3.31, (0.0, 0.0))
        robot._executor.spin_once(timeout_sec=0.05)
    robot.take_all()
    targets = run_servo(robot, 0.01, 60, start_s=3.32)
    assert moved_m(targets) > 0.015
    assert moved_m(targets[-20:]) == 0, "silent for longer than 0.2 s"
    holds = [values["hold"] for _, values in robot.statuses("servo/status", "hold")]
    assert holds.count("deadman is released") == 2
    target = robot.heard["tool/target"][-1].pose
    assert (target.position.z, target.orientation.x, target.orientation.w) == (0.115, 1.0, 0.0)


@pytest.mark.parametrize(
    ("make", "parameters", "text"),
    [
        (PolicyNode, {"bundle": "/no/such/bundle"}, "/no/such/bundle"),
        (PolicyNode, {"bundle": "x", "replan_stps": 2}, "unknown key; did you mean `replan_steps`"),
        (ServoNode, {**SERVO, "max_speed_m_s": -1.0}, "max_speed_m_s is -1.0"),
        (ServoNode, {**SERVO, "workspace_max": "[-0.6,0.5]"}, "must be below workspace_max"),
        (ServoNode, {**SERVO, "orientation": "[1.0,0.0,0.0,1.0]"}, "its length is 1.4142, a rotation's is 1"),
    ],
)
def test_wrong_parameters_are_named(make: type[ManagedNode], parameters: dict, text: str) -> None:
    arguments = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    rclpy.init(args=["--ros-args", *arguments])
    try:
        with pytest.raises(AmbientPolicyError, match=text):
            make().start()
    finally:
        rclpy.try_shutdown()


def test_a_node_that_cannot_start_ends_with_2_and_no_traceback(start_node: Start) -> None:
    process: Running = start_node("policy")
    assert process.wait(60) == 2
    assert "bundle: missing, and it has no default" in process.output()
    assert "Traceback" not in process.output()
