"""The papers of the repository against the repository: commands, entry points, pins, the ROS package."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import yaml

COMMANDS = {
    "bench",
    "calibrate-latency",
    "analyse",
    "annotate",
    "collect",
    "data",
    "evaluate",
    "export",
    "gaps",
    "inspect",
    "launch",
    "quantise",
    "replay",
    "report",
    "sweep",
    "train",
}
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs/decisions/README.md")


def canonical(name: str) -> str:
    """Return a distribution's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def names_of(requirements: list[str]) -> set[str]:
    """Return the distributions that a list of requirements asks for."""
    return {canonical(re.match(r"[A-Za-z0-9._-]+", text)[0]) for text in requirements}  # type: ignore[index]


def pins_of(file: Path) -> dict[str, str]:
    """Read a constraints file whose every line is NAME==VERSION or a comment."""
    lines = [line.split("#")[0].strip() for line in file.read_text().splitlines()]
    pairs = [line.split("==") for line in lines if line]
    assert all(len(pair) == 2 for pair in pairs), f"{file.name} must hold exact pins only"
    return {canonical(name): version for name, version in pairs}


@pytest.fixture(scope="module")
def project(root: Path) -> dict:
    return tomllib.loads((root / "pyproject.toml").read_text())["project"]


def targets(root: Path) -> set[str]:
    """Return the Makefile's targets."""
    return set(re.findall(r"^([a-z][a-z-]*):", (root / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_make_command_in_the_papers_exists(root: Path, document: str) -> None:
    for target in re.findall(r"(?:^|`|&& )make ([a-z-]+)", (root / document).read_text(), re.MULTILINE):
        assert target in targets(root), f"{document} says `make {target}`"


def test_the_two_commands_are_in_the_readme(root: Path) -> None:
    text = (root / "README.md").read_text()
    assert "make demo" in text
    assert "make test" in text


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_subcommand_in_the_papers_exists(root: Path, document: str) -> None:
    said = re.findall(r"ambient-policy ([a-z]+)(?= |`|$)", (root / document).read_text(), re.MULTILINE)
    assert set(said) <= COMMANDS


@pytest.mark.parametrize("document", ["README.md", "Makefile"])
def test_every_launch_argument_in_the_papers_is_declared(root: Path, document: str) -> None:
    launches = [yaml.safe_load(file.read_text())["launch"] for file in (root / "launch").glob("*.yaml")]
    declared = {entry["arg"]["name"] for launch in launches for entry in launch if "arg" in entry}
    said = set(re.findall(r"\b([a-z_]+):=", (root / document).read_text()))
    assert said
    assert said <= declared


@pytest.mark.parametrize("document", [*DOCUMENTS, "CHANGELOG.md"])
def test_every_link_between_the_papers_leads_somewhere(root: Path, document: str) -> None:
    file = root / document
    for link in re.findall(r"\]\(([^)#]+)\)", file.read_text()):
        if not link.startswith("https://"):
            assert (file.parent / link).exists(), f"{document} links {link}"


def test_every_decision_is_listed(root: Path) -> None:
    folder = root / "docs" / "decisions"
    index = (folder / "README.md").read_text()
    for record in sorted(folder.glob("0*.md")):
        assert f"({record.name})" in index
        text = record.read_text()
        assert all(f"**{part}.**" in text for part in ("Context", "Decision", "Consequences")), record.name


def test_every_command_is_an_entry_point_that_resolves() -> None:
    """Each `main` takes the words after its name; none is found by the core importing another room."""
    found = {entry.name: entry for entry in entry_points(group="ambient_policy.commands")}
    assert set(found) == COMMANDS
    for entry in found.values():
        assert callable(entry.load()), entry.value


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_answers_help(command: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "ambient_policy.cli", command, "--help"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert "usage" in run.stdout.lower()


def test_constraints_pin_what_the_extras_name(root: Path, project: dict) -> None:
    """But the two GPU extras, which need two different versions of one package."""
    pins = pins_of(root / "constraints.txt")
    extras = project["optional-dependencies"]
    asked = names_of(project["dependencies"]) | {
        name for extra, listed in extras.items() if not extra.startswith("gpu") for name in names_of(listed)
    }
    assert asked - set(pins) == set()
    assert pins["drake"] == "1.51.1"
    assert int(pins["setuptools"].split(".")[0]) < 80, "colcon-core asks for setuptools below 80"


def test_every_installed_ros_wheel_is_pinned(root: Path) -> None:
    """One unpinned `ros-X` resolves to another ROS release."""
    pins = pins_of(root / "constraints.txt")
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True
    )
    wheels = [line.split("==") for line in listing.stdout.splitlines() if line.startswith("ros-")]
    unpinned = [
        f"{name}=={version}" for name, version in wheels if pins.get(canonical(name), version) != version
    ]
    assert unpinned == []


def test_constraints_for_apt_keep_numpy_where_its_messages_are(root: Path, project: dict) -> None:
    pins = pins_of(root / "constraints-apt.txt")
    assert pins["numpy"].startswith("1.26.")
    asked = names_of(project["dependencies"]) | names_of(project["optional-dependencies"]["cpu"])
    assert asked - set(pins) == set()
    assert not [name for name in pins if name.startswith("ros-")], "there, ROS comes from apt"


def test_one_onnxruntime_an_extra(project: dict) -> None:
    """Two of them in one environment overwrite each other."""
    for extra, listed in project["optional-dependencies"].items():
        wanted = {name for name in names_of(listed) if name.startswith("onnxruntime")}
        expected = {"cpu": {"onnxruntime"}, "gpu": {"onnxruntime-gpu"}, "gpu-cu12": {"onnxruntime-gpu"}}
        assert wanted == expected.get(extra, set()), extra
    assert not {name for name in names_of(project["dependencies"]) if name.startswith("onnxruntime")}


def test_scripts_can_be_run(root: Path) -> None:
    for script in ("tools/setup", ".ci/run"):
        assert (root / script).stat().st_mode & 0o111, f"{script} is not executable"
        subprocess.run(["bash", "-n", script], cwd=root, check=True)


def test_setup_refuses_what_it_does_not_know(root: Path) -> None:
    run = subprocess.run(["tools/setup", "everything"], cwd=root, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "'everything', needs 'demo' or 'test'" in run.stderr


def test_colcon_takes_the_ros_package_for_one(root: Path) -> None:
    """A package.xml that does not parse still builds, as plain Python: no launch file is found."""
    colcon = shutil.which("colcon", path=str(Path(sys.executable).parent))
    if colcon is None:
        pytest.skip("colcon is not installed")
    run = subprocess.run(
        [colcon, "--log-base", "/dev/null", "list", "--base-paths", "ros2_ws/src"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == ["ambient_policy", "ros2_ws/src/ambient_policy", "(ros.ament_python)"]
