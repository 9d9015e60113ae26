"""The SROS2 policy allows each node exactly the topics and services that it creates."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

pytest.importorskip("rclpy")
from ambient_policy_ros.launch_file import describe
from tests.helpers_bundle import make_bundle
from tests.ros.conftest import PACKAGE
from tests.ros.test_nodes import SERVO, Robot, robot

if TYPE_CHECKING:
    from tests.ros.conftest import Start

pytestmark = pytest.mark.ros
__all__ = ["robot"]

Graph = tuple[set[str], set[str], set[str]]
"""Names of what a node publishes, subscribes to, and serves."""


def allowed(node: str) -> Graph:
    """Return what the policy allows."""
    tree = ElementTree.parse(PACKAGE / "config/sros2_policy.xml")
    (profile,) = tree.findall(f".//enclave[@path='/ambient_policy/{node}']//profile[@node='{node}']")

    def names(kind: str) -> set[str]:
        found = [element.text or "" for element in profile.findall(kind)]
        return {name.replace("~", f"/{node}") if name[0] == "~" else f"/{name}" for name in found}

    publish, subscribe = "topics[@publish='ALLOW']/topic", "topics[@subscribe='ALLOW']/topic"
    return names(publish), names(subscribe), names("services[@reply='ALLOW']/service")


def created(robot: Robot, node: str) -> Graph:
    """Return what the node has created."""
    own = (
        robot.get_publisher_names_and_types_by_node(node, "/"),
        robot.get_subscriber_names_and_types_by_node(node, "/"),
        robot.get_service_names_and_types_by_node(node, "/"),
    )
    publish, subscribe, serve = ({name for name, _ in each} for each in own)
    return publish, subscribe, serve


@pytest.mark.parametrize("node", ["policy", "servo", "joints", "watchdog", "overhead_camera"])
def test_a_node_needs_what_it_is_allowed(tmp_path: Path, start_node: Start, robot: Robot, node: str) -> None:
    kind, parameters = node, {}
    if node == "policy":
        parameters = {"bundle": make_bundle(tmp_path / "bundle", cameras=("overhead", "wrist")).folder}
    elif node == "servo":
        parameters = {**SERVO, "deadman_timeout_s": 0.5, "watchdog_timeout_s": 0.5}
    elif node == "joints":
        pytest.importorskip("pydrake")
        kind = "joint"
    elif node == "overhead_camera":
        pytest.importorskip("pyrealsense2")
        kind, parameters = "camera", {"camera": "overhead", "source": "pattern"}
    start_node(kind, use_sim_time="true", named=node, **parameters)
    deadline = time.monotonic() + 60
    while node not in robot.get_node_names() or created(robot, node) != allowed(node):
        if time.monotonic() > deadline:
            assert created(robot, node) == allowed(node)
        time.sleep(0.1)


def test_every_node_of_the_job_has_its_enclave(root: Path, tmp_path: Path) -> None:
    job = describe(
        root / "launch/pushing.launch.yaml",
        {"robot": "none", "interface": "joints", "cameras": "realsense"},
        tmp_path,
    )
    for process in job:
        assert process.command[process.command.index("--enclave") + 1] == f"/ambient_policy/{process.name}"
        assert allowed(process.name)
