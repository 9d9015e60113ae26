"""Gives every test the same surroundings: its own ROS domain, quiet logs, repeatable random examples."""

from __future__ import annotations

import importlib.util
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

# Set before anything imports rclpy, and inherited by the nodes that tests start. Overwritten on purpose: a
# test must never reach the robot that the user's own ROS_DOMAIN_ID points to, nor a second run of the tests.
os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ.pop("ROS_LOCALHOST_ONLY", None)
os.environ["ROS_LOG_DIR"] = tempfile.mkdtemp(prefix="ambient-policy-ros-log-")
os.environ.setdefault(
    "FASTRTPS_DEFAULT_PROFILES_FILE",
    str(ROOT / "ros2_ws" / "src" / "ambient_policy" / "config" / "fastdds.xml"),
)
os.environ["MPLBACKEND"] = "Agg"
# One thread a process: the tests start several processes, and two busy pools on two cores starve each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No deadline: a loaded machine is slow at times, which says nothing about the code.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")

NEEDS = {"ros": "rclpy", "sim": "pydrake", "train": "torch", "ray": "ray"}
"""Marker -> the package without which such a test is skipped."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip a test whose room is not installed; `make test` installs every room and forbids such a skip."""
    if os.environ.get("AMBIENT_POLICY_TEST_ALL") == "1":
        return
    for marker, package in NEEDS.items():
        if importlib.util.find_spec(package) is None:
            skip = pytest.mark.skip(reason=f"{package} is not installed")
            for item in items:
                if item.get_closest_marker(marker):
                    item.add_marker(skip)


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def _ray_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tell Ray, which reads this once when it is imported, to leave no token in the home folder."""
    token = tmp_path_factory.mktemp("ray") / "token"
    token.write_text(secrets.token_hex(16))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
        yield


@pytest.fixture(scope="module")
def two_nodes(_ray_environment: None) -> Iterator[Any]:
    """Give a real Ray cluster of two machines with one core each, both of them processes on this one.

    Its `second` is the one that a test may take away.
    """
    import ray
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 * 1024 * 1024}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        cluster.second = cluster.add_node(**node)
        ray.init(address=cluster.address, log_to_driver=False)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()
