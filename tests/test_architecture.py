"""Reads the imports of every room and fails on a wrong arrow; looks over the tracked files too.

The rules are allow lists: a new dependency is a decision, made by adding a name here.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

CONFIG_AND_TERMINAL = {"pydantic", "yaml", "tyro", "rich"}
ROS_NODES = "ros2_ws/src/ambient_policy/ambient_policy_ros"
MESSAGES = {
    "builtin_interfaces",
    "rcl_interfaces",
    "diagnostic_msgs",
    "geometry_msgs",
    "nav_msgs",
    "rosgraph_msgs",
    "sensor_msgs",
    "std_msgs",
    "trajectory_msgs",
}


@dataclass(frozen=True)
class Room:
    """One room: where its code lies, and which top-level modules it may import besides Python's own."""

    folder: str
    may: set[str]
    files: dict[str, set[str]] = field(default_factory=dict)
    """Glob of file names -> further modules that those files alone may import."""


ROOMS = (
    Room(
        "ambient_policy",
        {"numpy", "ambient_policy"} | CONFIG_AND_TERMINAL,
        {
            "inference.py": {"onnxruntime"},
            "bench.py": {"onnxruntime"},
            "gemm_floor.py": {"onnx"},
            "quantise.py": {"onnx", "onnxruntime"},
            "images.py": {"cv2"},
            "video.py": {"av"},
            "movie.py": {"av"},
            "statistics.py": {"scipy"},
            "report*.py": {"matplotlib", "PIL"},
            "*_plots.py": {"matplotlib"},
            "page.py": {"jinja2", "matplotlib"},
            "executors.py": {"ray"},
            "data/overview.py": {"PIL"},
            "data/lerobot_*.py": {"pyarrow", "av", "PIL"},
            "data/zarr_format.py": {"zarr", "numcodecs"},
            "data/hdf5_format.py": {"h5py"},
        },
    ),
    Room(
        "training",
        {"numpy", "torch", "onnx", "onnxscript", "safetensors", "ambient_policy", "training"}
        | CONFIG_AND_TERMINAL,
        # It compares both graphs with torch before there is a bundle that the core could open.
        {"parity.py": {"onnxruntime"}, "*_plots.py": {"matplotlib"}},
    ),
    Room(
        "sim",
        {"numpy", "pydrake", "ambient_policy", "sim"} | CONFIG_AND_TERMINAL,
        {
            "film.py": {"PIL"},  # draws on films and stills
            "effects.py": {"cv2"},  # blurs an image
            "gallery*.py": {"PIL", "matplotlib"},  # pictures for the docs
        },
    ),
    Room(
        ROS_NODES,
        {"numpy", "rclpy", "ament_index_python", "ambient_policy", "ambient_policy_ros"}
        | MESSAGES
        | CONFIG_AND_TERMINAL,
        # The twin is simulated; the joint node's kinematics is Drake's, and Drake is at home in sim alone.
        {"twin*.py": {"sim"}, "joint_node.py": {"sim"}, "realsense.py": {"pyrealsense2"}},
    ),
    # These run under ROS 2's own launch, which need not be the Python that has the core.
    Room("launch", {"launch", "launch_ros", "launch_yaml", "ament_index_python"}),
)


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (line, top-level module) of every absolute import, by statement or by a literal name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield node.lineno, name.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module.split(".")[0]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = ast.unparse(node.func).split(".")[-1]
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value.split(".")[0]


def python_files(folder: Path) -> list[Path]:
    """Return the Python files under `folder`, links not followed."""
    return sorted(p for p in folder.rglob("*.py") if "__pycache__" not in p.parts)


def wrong_arrows(root: Path) -> list[str]:
    """Return one line for every import that a room may not make."""
    wrong = []
    for room in ROOMS:
        for path in python_files(root / room.folder):
            may = set(room.may)
            for pattern, further in room.files.items():
                if path.match(pattern):
                    may |= further
            for line, module in imports(ast.parse(path.read_text(encoding="utf-8"))):
                if module not in may and module not in sys.stdlib_module_names:
                    where, allowed = path.relative_to(root), ", ".join(sorted(may))
                    wrong.append(f"{where}:{line} imports {module}; this file may import {allowed}")
    return wrong


def pickles(root: Path) -> list[str]:
    """Return one line for every way of unpickling: loading such a file runs whatever its author put in."""
    wrong = []
    for room in ROOMS:
        for path in python_files(root / room.folder):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            where = path.relative_to(root)
            for line, module in imports(tree):
                if module in {"pickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}:
                    wrong.append(f"{where}:{line} imports {module}")
            for node in ast.walk(tree):
                if not isinstance(node, ast.Call):
                    continue
                if ast.unparse(node.func) in ("torch.load", "torch.save"):
                    wrong.append(f"{where}:{node.lineno} calls {ast.unparse(node.func)}; use safetensors")
                for keyword in node.keywords:
                    if keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False":
                        wrong.append(f"{where}:{node.lineno} allows pickles")
    return wrong


# Built from pieces, so that this file does not match itself. A path counts from its first slash only.
MACHINE_PATHS = tuple("/" + name + "/" for name in ("root", "work", "home", "Users", "tmp/ap"))
REGISTRIES = tuple(
    ".".join(pieces)
    for pieces in (
        ("py" + "pi", "org"),
        ("python" + "hosted", "org"),
        ("registry", "npm" + "js"),
        ("download", "py" + "torch", "org"),
        ("deb", "deb" + "ian", "org"),
        ("archive", "ubu" + "ntu", "com"),
    )
)
UNWANTED = re.compile(
    rb"(?<![\w.~$}\-])(?:" + b"|".join(re.escape(p.encode()) for p in MACHINE_PATHS) + rb")"
    rb"|" + b"|".join(re.escape(host.encode()) for host in REGISTRIES)
)


def machine_traces(name: str, content: bytes) -> list[str]:
    """Return one line for each place or host that only one machine knows; exported models carry them too."""
    found = []
    for match in UNWANTED.finditer(content):
        line = content.count(b"\n", 0, match.start()) + 1
        found.append(f"{name}:{line} has {content[match.start() : match.end() + 30]!r}")
    return found


def test_every_arrow_between_rooms_is_allowed(root: Path) -> None:
    assert wrong_arrows(root) == []


def test_every_room_is_looked_at(root: Path) -> None:
    """A room that moved would otherwise pass unread."""
    for room in ROOMS:
        assert python_files(root / room.folder), f"no Python file under {room.folder}; has the room moved?"


def test_nothing_is_pickled(root: Path) -> None:
    assert pickles(root) == []


def test_launch_is_no_python_package(root: Path) -> None:
    """With an `__init__.py` the folder would hide ROS 2's own `launch` from anything run at the root."""
    assert not (root / "launch" / "__init__.py").exists()


def test_tracked_files_name_no_machine_and_no_registry(root: Path) -> None:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    found = []
    for name in listing.stdout.decode().split("\0"):
        path = root / name
        if name and path.is_file() and not path.is_symlink():
            found += machine_traces(name, path.read_bytes())
    assert found == []


@pytest.mark.parametrize(
    ("where", "text", "complaint"),
    [
        ("ambient_policy/runtime.py", "import torch", "imports torch"),
        ("ambient_policy/runtime.py", "import numpy\nfrom sim.tee import x", "runtime.py:2 imports sim"),
        ("ambient_policy/cli.py", "importlib.import_module('training.train')", "imports training"),
        ("ambient_policy/bundle.py", "import onnxruntime as ort", "imports onnxruntime"),
        ("ambient_policy/runtime.py", "def late():\n    import rclpy", "imports rclpy"),
        ("ambient_policy/runtime.py", "import cv2", "imports cv2"),
        ("training/train.py", "from sim import station", "imports sim"),
        ("training/export.py", "import rclpy.node", "imports rclpy"),
        ("sim/rollout.py", "import training.network", "imports training"),
        ("sim/rollout.py", "from ambient_policy_ros import convert", "imports ambient_policy_ros"),
        (f"{ROS_NODES}/policy_node.py", "import sim.station", "imports sim"),
        (f"{ROS_NODES}/twin_node.py", "import pydrake.all", "imports pydrake"),
        (f"{ROS_NODES}/joint_node.py", "import pydrake.math", "imports pydrake"),
    ],
)
def test_a_planted_wrong_import_is_found(tmp_path: Path, where: str, text: str, complaint: str) -> None:
    path = tmp_path / where
    path.parent.mkdir(parents=True)
    path.write_text(text)
    (line,) = wrong_arrows(tmp_path)
    assert complaint in line


def test_allowed_imports_pass(tmp_path: Path) -> None:
    for where, text in {
        "ambient_policy/inference.py": "import json\nimport numpy as np\nimport onnxruntime",
        "ambient_policy/runtime.py": "from . import inference\nfrom ambient_policy.errors import TrialError",
        f"{ROS_NODES}/twin_node.py": "import rclpy\nimport sim.station",
    }.items():
        (tmp_path / where).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / where).write_text(text)
    assert wrong_arrows(tmp_path) == []


@pytest.mark.parametrize("text", ["import pickle", "numpy.load('x', allow_pickle=True)", "torch.load('x')"])
def test_a_planted_pickle_is_found(tmp_path: Path, text: str) -> None:
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "planted.py").write_text(text)
    assert len(pickles(tmp_path)) == 1


@pytest.mark.parametrize("trace", [MACHINE_PATHS[0] + "x", " " + MACHINE_PATHS[2] + "x/y", REGISTRIES[0]])
def test_a_planted_machine_trace_is_found(trace: str) -> None:
    (line,) = machine_traces("planted.onnx", b"\x08\x07\n" + trace.encode() + b"\x00")
    assert line.startswith("planted.onnx:2 has")
