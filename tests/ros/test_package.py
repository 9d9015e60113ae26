"""The ROS package: built by colcon as any other, and its numbers agree with the twin's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytest.importorskip("ambient_policy_ros")
from ambient_policy_ros import launch_find
from ambient_policy_ros.launch_file import declared_arguments, describe

COLCON = Path(sys.executable).with_name("colcon")


@pytest.fixture(scope="module")
def package(root: Path) -> Path:
    return root / "ros2_ws/src/ambient_policy"


def parameters(package: Path) -> dict:
    document = yaml.safe_load((package / "config/pushing.yaml").read_text())
    return {name.removeprefix("/**/"): node["ros__parameters"] for name, node in document.items()}


def test_the_launch_folder_is_a_relative_link(package: Path) -> None:
    """One copy of each launch file; an absolute path would break colcon and every other clone."""
    assert os.readlink(package / "launch") == "../../../launch"


@pytest.mark.sim
def test_servo_limits_are_those_of_the_scenario(package: Path) -> None:
    from ambient_policy.limits import MotionLimits
    from ambient_policy.servo import ServoConfig
    from sim.scenario import load_scenario

    scenario, servo = load_scenario("pushing"), parameters(package)["servo"]
    rollout = {**scenario.limits.model_dump(), **ServoConfig().model_dump()}
    for name in MotionLimits.model_fields.keys() | ServoConfig.model_fields.keys():
        value = servo.get(name)
        assert (tuple(value) if isinstance(value, list) else value) == rollout[name], name
    assert servo["lead_s"] == scenario.control_period_s


def test_policy_parameters_are_those_of_a_rollout(package: Path) -> None:
    """A trial through ROS and one without must decide by the same numbers."""
    from ambient_policy.runtime import RuntimeConfig

    policy, defaults = parameters(package)["policy"], RuntimeConfig()
    # Which cameras may freeze is for the robot to say; in a rollout none can.
    shared = RuntimeConfig.model_fields.keys() & policy.keys() - {"frozen_cameras"}
    assert {key: policy[key] for key in shared} == {key: getattr(defaults, key) for key in shared}


def test_every_argument_of_the_job_says_what_it_means(root: Path) -> None:
    for argument in declared_arguments(root / "launch/pushing.launch.yaml"):
        assert argument.description, argument.name
        assert argument.default is not None, f"{argument.name} must have a default: the demo gives few"


def test_the_job_without_the_twin(root: Path, tmp_path: Path) -> None:
    """On a robot: no twin, wall time, and no wall round this machine."""
    file = root / "launch/pushing.launch.yaml"
    twin = {process.name: process for process in describe(file, {}, tmp_path)}
    robot = {process.name: process for process in describe(file, {"robot": "none"}, tmp_path)}
    assert list(twin) == ["policy", "servo", "twin"]
    assert list(robot) == ["policy", "servo", "watchdog"]

    def given(command: list[str]) -> dict:
        values = [
            yaml.safe_load(Path(word).read_text()) for word in command if word.startswith(str(tmp_path))
        ]
        return {k: v for value in values for k, v in value["/**"]["ros__parameters"].items()}

    assert all(given(twin[name].command)["use_sim_time"] for name in ("policy", "servo"))
    assert not any(given(robot[name].command)["use_sim_time"] for name in ("policy", "servo", "watchdog"))
    assert given(twin["servo"].command)["watchdog_timeout_s"] == 0, "a lock-step trial must not depend on it"
    assert given(robot["servo"].command)["watchdog_timeout_s"] == 0.5
    assert twin["policy"].environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert twin["policy"].environment["FASTRTPS_DEFAULT_PROFILES_FILE"].endswith("config/fastdds.xml")
    assert all(process.shutdown_on_exit for process in twin.values())


def test_the_twin_alone_has_no_servo_beside_it(root: Path, tmp_path: Path) -> None:
    """What calibrates moves the tool by itself, and refuses to share it."""
    (twin,) = describe(root / "launch/twin.launch.yaml", {}, tmp_path)
    assert (twin.name, twin.environment["ROS_AUTOMATIC_DISCOVERY_RANGE"]) == ("twin", "LOCALHOST")


def test_rviz_that_is_not_installed_is_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(launch_find.NotFound, match="ROS package 'rviz2' is not installed: .*ros-jazzy-rviz2"):
        describe_rviz(root, tmp_path)


def describe_rviz(root: Path, tmp_path: Path) -> None:
    try:
        describe(root / "launch/pushing.launch.yaml", {"rviz": "true"}, tmp_path)
    except Exception as error:
        raise error.__cause__ or error from None


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """Build the package with colcon into a folder of its own."""
    if not COLCON.exists():
        pytest.skip("colcon is not installed")
    folder = tmp_path_factory.mktemp("overlay")
    # A copy: the build leaves an egg-info beside the sources.
    source = folder / "ws/src/ambient_policy"
    shutil.copytree(root / "ros2_ws/src/ambient_policy", source, ignore=shutil.ignore_patterns("*.egg-info"))
    result = subprocess.run(
        [COLCON, "build", "--base-paths", "src", "--event-handlers", "console_direct+"],
        cwd=folder / "ws",
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return folder / "ws/install/ambient_policy"


@pytest.mark.ros
def test_colcon_takes_it_for_a_ros_package(package: Path) -> None:
    """A package.xml that does not parse would still build, as plain Python that ROS does not find."""
    if not COLCON.exists():
        pytest.skip("colcon is not installed")
    listing = subprocess.run(
        [COLCON, "list", "--base-paths", str(package)], capture_output=True, text=True, check=True, timeout=60
    )
    assert listing.stdout.split()[0::2] == ["ambient_policy", "(ros.ament_python)"]


@pytest.mark.ros
def test_colcon_installs_what_ros_looks_for(overlay: Path) -> None:
    environment = {"AMENT_PREFIX_PATH": str(overlay)}
    share = launch_find.share_directory("ambient_policy", environment)
    assert share == overlay / "share/ambient_policy"
    files = {path.relative_to(share).as_posix() for path in share.rglob("*") if path.is_file()}
    assert {
        "package.xml",
        "launch/pushing.launch.yaml",
        "launch/pushing.launch.py",
        "config/pushing.yaml",
        "config/fastdds.xml",
        "config/pushing.rviz",
    } <= files
    for node in ("policy_node", "servo_node", "twin_node", "watchdog_node"):
        assert launch_find.executable("ambient_policy", node, environment) == [
            str(overlay / "lib/ambient_policy" / node)
        ]


@pytest.mark.ros
def test_the_built_node_runs(overlay: Path) -> None:
    """Its first line names the interpreter of this environment, which has the core."""
    result = subprocess.run(
        [overlay / "lib/ambient_policy/servo_node"], capture_output=True, text=True, check=False, timeout=60
    )
    assert result.returncode == 2
    assert "max_speed_m_s: missing" in result.stderr
