"""The life cycle of the nodes, driven from outside through its services, and their parameters."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import ParameterDescriptor
from rcl_interfaces.srv import DescribeParameters, SetParameters
from rclpy.parameter import Parameter
from std_msgs.msg import Bool

from ambient_policy.chunks import Chunk
from ambient_policy_ros import convert
from ambient_policy_ros.parameters import descriptor
from ambient_policy_ros.policy_node import PolicyParameters
from ambient_policy_ros.servo_node import ServoParameters
from ambient_policy_ros.twin_node import TwinParameters
from ambient_policy_ros.watchdog_node import WatchdogParameters
from tests.helpers_bundle import make_bundle
from tests.ros.test_nodes import SERVO, Robot, moved_m, picture, run_servo, send_line

if TYPE_CHECKING:
    from tests.ros.conftest import Start

pytestmark = pytest.mark.ros


class Manager(Robot):
    """A robot that also manages nodes."""

    def __init__(self) -> None:
        super().__init__()
        self._asked: dict[tuple[str, str], Any] = {}

    def ask(self, node: str, name: str, kind: type, request: object) -> Any:
        """Call a service; None if no answer comes, as when the service has not found this client yet."""
        client = self._asked.get((node, name))
        if client is None:
            client = self._asked[node, name] = self.create_client(kind, f"{node}/{name}")
        assert client.wait_for_service(timeout_sec=60), f"no service {node}/{name}"
        future = client.call_async(request)
        deadline = time.monotonic() + 10
        while not future.done() and time.monotonic() < deadline:
            self._executor.spin_once(timeout_sec=0.1)
        return future.result() if future.done() else None

    def insist(self, node: str, name: str, kind: type, request: object) -> Any:
        """Call a service that may be called twice, until it answers."""
        deadline = time.monotonic() + 60
        while (answer := self.ask(node, name, kind, request)) is None:
            assert time.monotonic() < deadline, f"no answer of {node}/{name}"
        return answer

    def change(self, node: str, transition: int) -> bool:
        before = self.state(node)
        request = ChangeState.Request(transition=Transition(id=transition))
        answer = self.ask(node, "change_state", ChangeState, request)
        return self.state(node) != before if answer is None else bool(answer.success)

    def state(self, node: str) -> str:
        return str(self.insist(node, "get_state", GetState, GetState.Request()).current_state.label)

    def set(self, node: str, name: str, value: object) -> str:
        """Set a parameter; returns why it was refused, or nothing."""
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        (result,) = self.insist(node, "set_parameters", SetParameters, request).results
        assert result.successful == (not result.reason)
        return str(result.reason)

    def describe(self, node: str, name: str) -> ParameterDescriptor:
        request = DescribeParameters.Request(names=[name])
        return self.insist(node, "describe_parameters", DescribeParameters, request).descriptors[0]


@pytest.fixture
def manager() -> Iterator[Manager]:
    rclpy.init()
    node = Manager()
    yield node
    node._executor.shutdown()
    node.destroy_node()
    rclpy.try_shutdown()


def test_a_servo_goes_through_its_states(start_node: Start, manager: Manager) -> None:
    """Unconfigured it takes parameters, inactive it holds and refuses to be enabled, active it moves."""
    node = start_node("servo", use_sim_time="true", autostart="false", **SERVO)
    assert manager.state("servo") == "unconfigured"
    assert "rate_hz out of range Min: 0.0" in manager.set("servo", "rate_hz", -1.0), "ROS itself looks"
    assert "rate_hz is 0.0: input should be greater than 0" in manager.set("servo", "rate_hz", 0.0)
    assert "must be below workspace_max" in manager.set("servo", "workspace_min", [0.5, 0.5])
    assert "undeclared" in manager.set("servo", "rate_Hz", 50.0)
    assert manager.set("servo", "max_speed_m_s", 0.06) == ""
    assert manager.change("servo", Transition.TRANSITION_CONFIGURE)
    assert manager.state("servo") == "inactive"
    locked = "parameters are used at configure; deactivate and clean up first"
    assert manager.set("servo", "max_speed_m_s", 5.0) == locked

    manager.wait(lambda: manager.count_subscribers("policy/enable"), "servo's ear")
    manager.enable.publish(Bool(data=True))
    manager.wait(lambda: manager.statuses("servo/status", "enable"), "answer")
    assert manager.statuses("servo/status", "enable")[-1][1]["state"] == "inactive"

    assert manager.change("servo", Transition.TRANSITION_ACTIVATE)
    manager.set_enabled("servo/status", True)
    run_servo(manager, 0.01, 1, start_s=3.0)
    send_line(manager, 3.0)
    assert moved_m(run_servo(manager, 0.01, 21, start_s=3.1)) == pytest.approx(0.06 * 0.2, rel=1e-6)

    assert manager.change("servo", Transition.TRANSITION_DEACTIVATE)
    assert moved_m(run_servo(manager, 0.01, 20, start_s=3.4)) == 0, "it answers, and holds"
    assert manager.change("servo", Transition.TRANSITION_CLEANUP)
    assert manager.state("servo") == "unconfigured"
    manager.take_all()
    before = len(manager.heard["tool/target"])
    manager.publish_pose(3.7, (0.0, 0.0))

    assert manager.set("servo", "max_speed_m_s", 0.15) == ""
    assert manager.change("servo", Transition.TRANSITION_CONFIGURE)
    assert manager.change("servo", Transition.TRANSITION_ACTIVATE)
    assert len(manager.heard["tool/target"]) == before, "cleaned up, it is silent"
    manager.set_enabled("servo/status", True)
    run_servo(manager, 0.01, 1, start_s=4.0)
    line = np.array([[0.02 * i, 0.0] for i in range(21)])
    manager.chunk.publish(convert.chunk_msg(Chunk(4.0, line, 0.1), "world"))
    manager.wait(lambda: 4.0 in [s for s, _ in manager.statuses("servo/status", "accepted")], "acceptance")
    assert moved_m(run_servo(manager, 0.01, 21, start_s=4.1)) == pytest.approx(0.15 * 0.2, rel=1e-6)
    assert manager.change("servo", Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert node.stop() == 0, node.output()


def test_a_stop_that_was_pressed_before_configuring_counts(start_node: Start, manager: Manager) -> None:
    node = start_node("servo", use_sim_time="true", autostart="false", **SERVO)
    manager.wait(lambda: manager.count_subscribers("safety/stop"), "servo's ear")
    deadline = time.monotonic() + 60
    while "safety/stop was pressed" not in node.output():
        assert time.monotonic() < deadline
        manager.stop.publish(Bool(data=True))
        time.sleep(0.05)
    assert manager.change("servo", Transition.TRANSITION_CONFIGURE)
    assert manager.change("servo", Transition.TRANSITION_ACTIVATE)
    manager.set_enabled("servo/status", True)
    run_servo(manager, 0.01, 1, start_s=3.0)
    send_line(manager, 3.0)
    assert moved_m(run_servo(manager, 0.01, 20, start_s=3.1)) == 0


def test_a_node_that_starts_again_waits_to_be_enabled_again(start_node: Start, manager: Manager) -> None:
    """The topic is latched: what was said to the node before this one still arrives."""
    manager.enable.publish(Bool(data=True))
    node = start_node("servo", use_sim_time="true", **SERVO)
    node.wait_for("policy/enable was said before this node started")
    manager.wait(lambda: manager.statuses("servo/status", "enable"), "answer")
    assert manager.statuses("servo/status", "enable")[-1][1]["state"] == "inactive"
    manager.set_enabled("servo/status", True)
    run_servo(manager, 0.01, 1, start_s=3.0)
    send_line(manager, 3.0)
    assert moved_m(run_servo(manager, 0.01, 20, start_s=3.1)) > 0.01


def test_a_policy_can_be_changed_without_a_new_process(
    tmp_path: Path, start_node: Start, manager: Manager
) -> None:
    first = make_bundle(tmp_path / "first", drift_m=(0.01, 0.0))
    second = make_bundle(tmp_path / "second", drift_m=(0.02, 0.0))
    node = start_node("policy", bundle=first.folder, use_sim_time="true", blank_std=0.0, autostart="false")
    steps_m = []
    for i, bundle in enumerate((first, None, second)):
        assert manager.set("policy", "bundle", str(bundle.folder if bundle else tmp_path / "none")) == ""
        configured = manager.change("policy", Transition.TRANSITION_CONFIGURE)
        if bundle is None:
            assert not configured
            assert manager.state("policy") == "unconfigured"
            assert str(tmp_path / "none") in node.output()
            continue
        assert manager.change("policy", Transition.TRANSITION_ACTIVATE)
        manager.set_enabled("policy/status", True)
        before = len(manager.heard["policy/chunk"])
        manager.publish_pose(1.0 + i)
        manager.publish_image("overhead", 1.0 + i, picture(0))
        manager.wait(lambda n=before: len(manager.heard["policy/chunk"]) > n, "chunk")
        chunk = convert.chunk(manager.heard["policy/chunk"][-1])
        steps_m.append(chunk.positions[2, 0] - chunk.positions[1, 0])
        assert manager.change("policy", Transition.TRANSITION_DEACTIVATE)
        said_off = lambda: manager.statuses("policy/status", "enable")[-1][1]["state"] == "inactive"  # noqa: E731
        manager.wait(said_off, "policy's end")
        assert manager.change("policy", Transition.TRANSITION_CLEANUP)
    np.testing.assert_allclose(steps_m[1], 2 * steps_m[0], rtol=1e-4)
    assert node.stop() == 0, node.output()


def test_parameters_describe_themselves(start_node: Start, manager: Manager) -> None:
    start_node("servo", use_sim_time="true", **SERVO)
    lead = manager.describe("servo", "lead_s")
    assert "How far ahead of its stamp" in lead.description
    assert lead.additional_constraints == ">= 0, <= 0.5"
    (limits,) = lead.floating_point_range
    assert (limits.from_value, limits.to_value) == (0, 0.5)
    # Given as a whole number, as one does in YAML; it stays what it is.
    assert manager.describe("servo", "max_speed_m_s").additional_constraints == "> 0"


@pytest.mark.parametrize("model", [PolicyParameters, ServoParameters, TwinParameters, WatchdogParameters])
def test_every_parameter_has_a_description(model: type) -> None:
    missing = [name for name, field in model.model_fields.items() if not descriptor(field).description]
    assert missing == []
