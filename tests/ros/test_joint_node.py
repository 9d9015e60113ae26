"""The joint node: tool targets through it to the twin's arm, in lock-step, and a whole trial."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy")
pytest.importorskip("pydrake")
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from sensor_msgs.msg import JointState

from ambient_policy.config import dump_yaml, parse
from ambient_policy.joint_command import JointCommand
from ambient_policy.trials import read_trials
from ambient_policy_ros import convert, qos
from ambient_policy_ros.joint_node import JointParameters
from ambient_policy_ros.latency import LatencyBook
from ambient_policy_ros.launch_file import describe
from ambient_policy_ros.servo_node import ServoParameters
from ambient_policy_ros.twin_link import TRAJECTORY, TwinLink
from ambient_policy_ros.twin_pace import LockStep
from sim.scenario import load_scenario
from sim.starts import Start
from sim.station import Station
from tests.helpers_bundle import make_bundle

if TYPE_CHECKING:
    from tests.ros.conftest import Start as StartNode

pytestmark = [pytest.mark.ros, pytest.mark.sim]
SCENARIO = load_scenario("pushing_arm")
HOME = np.array(SCENARIO.task.tool_home)
PERIOD_NS = 10_000_000
LIMITS_RAD = np.deg2rad([170, 120, 170, 120, 170, 120, 175])
SPEEDS_RAD_S = np.array([1.7, 1.7, 1.7, 2.2, 2.4, 3.1, 3.1])


class Cell:
    """The twin's arm in lock-step with the joint node; the servo's part is played by a script."""

    def __init__(self, folder: Path) -> None:
        self.node = Node("twin")
        self.station = Station(SCENARIO, cameras=False)
        self.station.reset(Start(np.array([0.4, -0.25, 0.0]), HOME))
        book = LatencyBook(folder / "latency.jsonl")
        self.link = TwinLink(self.node, {}, book.taken_over, None, self.station.joint_names, joints=True)
        self.pace = LockStep(self.link, book, 20.0)
        self.targets = self.node.create_publisher(PoseStamped, "tool/target", qos.STATE)
        self.states = self.node.create_publisher(JointState, "joint_states", qos.STATE)
        self.node.create_subscription(PoseStamped, "tool/pose", self.on_pose, qos.STATE)
        self.node.create_subscription(DiagnosticArray, "joints/status", self.on_status, qos.STATUS)
        self.poses: list[PoseStamped] = []
        self.statuses: list[dict[str, str]] = []
        self.script = HOME
        self.stamp_ns = 1_000_000_000

    def on_pose(self, msg: PoseStamped) -> None:
        self.poses.append(msg)
        self.targets.publish(
            convert.pose_msg(self.script, convert.seconds(msg.header.stamp), msg.header.frame_id)
        )

    def on_status(self, msg: DiagnosticArray) -> None:
        self.statuses.append(convert.status_values(msg))

    def begin(self) -> None:
        """Enable the joint node and give it the first joints."""
        deadline = time.monotonic() + 60
        while "joints" not in self.link.inbox.enabled:
            assert time.monotonic() < deadline, "the joint node never answered"
            self.link.publish_enable(True)
            self.link.wait(lambda: "joints" in self.link.inbox.enabled, 0.5)
        assert self.node.count_publishers(TRAJECTORY) == 1
        first = (self.stamp_ns, self.station.joint_positions(), self.station.joint_velocities())
        self.link.queue_joints([first], first=True)
        self.pace.begin()

    def follow(self, target: np.ndarray) -> JointCommand:
        """Run one control period with the script at `target`; returns the command that was carried out."""
        self.script = target
        answer = self.pace.target(self.stamp_ns, self.station.tool_xy(), self.station.tool_velocity())
        assert answer is not None
        stamp_ns, command = answer
        assert stamp_ns == self.stamp_ns
        assert isinstance(command, JointCommand)
        now_s = self.stamp_ns / 1e9
        self.station.advance_joints([command.at(now_s + 0.005), command.at(now_s + 0.01)])
        self.link.queue_joints(
            [
                (self.stamp_ns + 5_000_000 * (k + 1), s.positions, s.velocities)
                for k, s in enumerate(self.station.joint_samples)
            ]
        )
        self.stamp_ns += PERIOD_NS
        return command

    def say_until(self, event: str, hold: str, names: list[str], joints: np.ndarray) -> None:
        """Publish joints and a target at new times until the node's newest status is this one."""
        deadline, velocities = time.monotonic() + 20, np.zeros(len(joints))
        while not self.statuses or (self.statuses[-1]["event"], self.statuses[-1]["hold"]) != (event, hold):
            assert time.monotonic() < deadline, self.statuses
            now_s = self.stamp_ns / 1e9
            self.link.publish_clock(now_s)
            self.states.publish(convert.joint_state_msg(names, joints, velocities, now_s))
            self.targets.publish(convert.pose_msg(self.script, now_s, "world"))
            self.link.wait(lambda: self.link.inbox.answered_ns == self.stamp_ns, 0.2)
            self.stamp_ns += PERIOD_NS


@pytest.fixture
def cell(tmp_path: Path, start_node: StartNode) -> Iterator[Cell]:
    rclpy.init()
    start_node("joint", use_sim_time="true", stamped="true")
    cell = Cell(tmp_path)
    yield cell
    cell.link.close()
    cell.node.destroy_node()
    rclpy.try_shutdown()


def test_the_measured_tip_follows_scripted_targets(cell: Cell) -> None:
    """A circle of 80 mm at 100 mm/s, then anything at all; limits are kept, and it holds with a reason."""
    cell.begin()
    errors, q, v, commands = [], [], [], []
    for i in range(250):
        angle = 2 * np.pi * i / 250
        target = HOME + 0.04 * np.array([np.cos(angle) - 1, np.sin(angle)])
        commands.append(cell.follow(target))
        errors.append(np.linalg.norm(cell.station.tool_xy() - target))
    assert max(errors) < 8e-3, "while it takes up speed, softly"
    assert max(errors[60:]) < 1e-3
    poses = np.array([[p.pose.position.x, p.pose.position.y, p.pose.position.z] for p in cell.poses])
    stamps = [convert.nanoseconds(p.header.stamp) for p in cell.poses]
    assert stamps == [1_000_000_000 + PERIOD_NS * i for i in range(250)], "one pose a tick of 200 Hz joints"
    assert np.abs(poses[:, 2] - 0.015).max() < 1e-3
    assert np.linalg.norm(poses[1:, :2] - poses[:-1, :2], axis=1).max() < 2e-3
    rng = np.random.default_rng(0)
    target = cell.script
    for i in range(120):
        if i % 40 == 0:
            goal = HOME + rng.uniform(-0.5, 0.5, 2)
        step = goal - target
        target = target + step * min(1.0, 0.005 / np.linalg.norm(step))
        commands.append(cell.follow(target))
        q += [s.positions for s in cell.station.joint_samples]
        v += [s.velocities for s in cell.station.joint_samples]
    assert (np.abs(q) < LIMITS_RAD).all()
    assert (np.abs(v) < SPEEDS_RAD_S).all()
    assert (np.abs([c.velocities for c in commands]) <= 0.8 * SPEEDS_RAD_S + 1e-9).all()
    rest = commands[-1].rest
    names, joints = list(cell.station.joint_names), cell.station.joint_positions()
    cell.say_until("hold", "joint state has arm_joint_1 not finite", names, joints * np.nan)
    _, held = cell.link.inbox.target or (0, None)
    assert isinstance(held, JointCommand)
    np.testing.assert_allclose(held.rest, rest, atol=0.05)
    cell.say_until("follow", "", ["grip", *names[::-1]], np.r_[9.0, joints[::-1]])
    assert cell.link.inbox.refused == 0


def test_policy_servo_joints_and_twin_run_a_trial(root: Path, tmp_path: Path, start_node: StartNode) -> None:
    scenario = tmp_path / "arm.yaml"
    arm = load_scenario("pushing_arm", {"task": {"time_limit_s": 0.8}})
    scenario.write_text(dump_yaml(arm))
    bundle = make_bundle(
        tmp_path / "bundle", cameras=tuple(arm.cameras), width=128, height=96, drift_m=(0.0, -0.01)
    )
    config = yaml.safe_load((root / "ros2_ws/src/ambient_policy/config/pushing.yaml").read_text())
    start_node("servo", use_sim_time="true", **config["/**/servo"]["ros__parameters"])
    start_node("policy", use_sim_time="true", bundle=bundle.folder)
    start_node("joint", use_sim_time="true", stamped="true")
    run = {"scenario": scenario, "output": tmp_path / "run", "video": "false", "interface": "joints"}
    twin = start_node("twin", trials=2, silence_s=60.0, **run)
    assert twin.wait(180) == 0, twin.output()
    trials = read_trials(tmp_path / "run/trials.jsonl")
    assert [t.outcome for t in trials] == ["timeout", "timeout"], twin.output()
    assert all(t.chunks > 0 for t in trials)
    assert not any("joint" in kind or "does not follow" in kind for t in trials for kind in t.holds)
    assert json.loads((tmp_path / "run/run.json").read_text())["interface"] == "joints"


def test_the_launch_file_starts_it_where_it_is_asked_for(root: Path, tmp_path: Path) -> None:
    path = root / "launch/pushing.launch.yaml"
    for arguments, wanted in (
        ({}, False),
        ({"interface": "joints", "scenario": "pushing_arm"}, True),
        ({"interface": "joints", "robot": "none"}, True),
    ):
        processes = {p.name: p for p in describe(path, arguments, tmp_path)}
        assert ("joints" in processes) == wanted
        if wanted:
            assert processes["joints"].command[2] == "ambient_policy_ros.joint_node"


def test_the_shipped_parameters_are_those_of_the_twins_arm_and_of_the_servo(root: Path) -> None:
    config = yaml.safe_load((root / "ros2_ws/src/ambient_policy/config/pushing.yaml").read_text())
    joints = parse(config["/**/joints"]["ros__parameters"], JointParameters, "pushing.yaml")
    servo = parse(config["/**/servo"]["ros__parameters"], ServoParameters, "pushing.yaml")
    assert joints == JointParameters()
    assert SCENARIO.arm is not None
    assert joints.nominal == SCENARIO.arm.nominal
    assert joints.tool_height_m == SCENARIO.pusher.tip_height_m
    assert (joints.lead_s, joints.rate_hz, joints.max_speed_m_s) == (
        servo.lead_s,
        servo.rate_hz,
        servo.max_speed_m_s,
    )
