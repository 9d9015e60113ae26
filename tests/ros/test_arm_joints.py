"""The arm's joints on the topics: all seven, at 200 Hz by their stamps, in lock-step and in real time."""

from __future__ import annotations

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
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState

from ambient_policy.config import dump_yaml
from ambient_policy_ros import convert
from sim.scenario import load_scenario
from tests.helpers_bundle import make_bundle

if TYPE_CHECKING:
    from tests.ros.conftest import Start

pytestmark = [pytest.mark.ros, pytest.mark.sim]

LIMITS_RAD = np.deg2rad([170, 120, 170, 120, 170, 120, 175])
SPEEDS_RAD_S = np.array([1.7, 1.7, 1.7, 2.2, 2.4, 3.1, 3.1])
EVERY = QoSProfile(depth=2000, reliability=ReliabilityPolicy.RELIABLE)


class Listener(Node):
    """Writes down every joint state, in the order in which they come."""

    def __init__(self) -> None:
        super().__init__("listener")
        self.joints: list[JointState] = []
        self.arrived_s: list[float] = []
        self.create_subscription(JointState, "joint_states", self._on_joints, EVERY)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)

    def _on_joints(self, msg: JointState) -> None:
        self.joints.append(msg)
        self.arrived_s.append(time.monotonic())

    def listen(self, count: int, timeout_s: float) -> None:
        """Take messages in until there are `count` joint states."""
        deadline = time.monotonic() + timeout_s
        while len(self.joints) < count:
            assert time.monotonic() < deadline, f"{len(self.joints)} of {count} joint states in {timeout_s} s"
            self._executor.spin_once(timeout_sec=0.1)


@pytest.fixture
def listener() -> Iterator[Listener]:
    rclpy.init()
    node = Listener()
    yield node
    node._executor.shutdown()
    node.destroy_node()
    rclpy.try_shutdown()


@pytest.mark.parametrize("mode", ["lockstep", "realtime"])
def test_seven_joints_at_200_hz(
    mode: str, start_node: Start, root: Path, tmp_path: Path, listener: Listener
) -> None:
    scenario = tmp_path / "arm.yaml"
    arm = load_scenario("pushing_arm", {"task": {"time_limit_s": 1000.0}})
    scenario.write_text(dump_yaml(arm))
    cameras = {"cameras": tuple(arm.cameras), "width": 128, "height": 96}
    bundle = make_bundle(tmp_path / "bundle", **cameras, drift_m=(0.0, -0.01))
    config = yaml.safe_load((root / "ros2_ws/src/ambient_policy/config/pushing.yaml").read_text())
    start_node("servo", use_sim_time="true", **config["/**/servo"]["ros__parameters"])
    start_node("policy", use_sim_time="true", bundle=bundle.folder)
    run = {"scenario": scenario, "output": tmp_path / "run", "video": "false", "mode": mode}
    start_node("twin", trials=1, silence_s=60.0, **run)
    listener.listen(200, 180)

    stamps = np.array([convert.nanoseconds(m.header.stamp) for m in listener.joints])
    steps = np.diff(stamps)
    # A listener that gets no processor may miss some: the publisher keeps 20.
    assert (steps > 0).all()
    assert not (steps % 5_000_000).any()
    together = steps == 5_000_000
    assert together.mean() > 0.9
    assert {tuple(m.name) for m in listener.joints} == {tuple(f"arm_joint_{i}" for i in range(1, 8))}
    q = np.array([m.position for m in listener.joints])
    v = np.array([m.velocity for m in listener.joints])
    assert q.shape == v.shape == (len(stamps), 7)
    assert (np.abs(q) < LIMITS_RAD).all()
    assert (np.abs(v) < SPEEDS_RAD_S).all()
    moved = np.linalg.norm(q[-1] - q[0])
    assert moved > 0.01, "the policy moves the arm, so frozen joints would show"
    slope = np.diff(q, axis=0)[together] / 0.005
    np.testing.assert_allclose(slope, v[1:][together], atol=1e-6, err_msg="each with its own stamp")
    if mode == "realtime":
        took_s = listener.arrived_s[-1] - listener.arrived_s[0]
        assert took_s > 0.9 * (stamps[-1] - stamps[0]) / 1e9, "they come as time passes, not in a burst"
