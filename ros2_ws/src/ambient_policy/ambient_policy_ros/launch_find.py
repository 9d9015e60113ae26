"""Where ROS packages, their executables and our launch files are: a built workspace, the source tree, a venv.

A sourced workspace (AMENT_PREFIX_PATH) comes first, as in ROS 2. Without one, this package is found where it
stands: pip makes no `lib/<package>/` folder, so its nodes run as `python -m ambient_policy_ros.<node>`.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from ambient_policy.errors import AmbientPolicyError

ROS_NAME = "ambient_policy"
MODULES = "ambient_policy_ros"


class NotFound(AmbientPolicyError):
    """A package, executable or launch file is not on this machine."""


def share_directory(package: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the share folder of a ROS package: config, launch files, package.xml."""
    source = Path(__file__).resolve().parents[1]
    for prefix in _prefixes(environment):
        if (prefix / "share/ament_index/resource_index/packages" / package).is_file():
            return prefix / "share" / package
    if package == ROS_NAME and (source / "package.xml").is_file():
        return source
    installed = Path(sys.prefix) / "share" / package
    if (installed / "package.xml").is_file():
        return installed
    raise NotFound(
        f"ROS package {package!r} is not installed: not in AMENT_PREFIX_PATH "
        f"({environment.get('AMENT_PREFIX_PATH') or 'not set'}) nor in {sys.prefix}/share; install it "
        f"(Ubuntu: apt install ros-jazzy-{package.replace('_', '-')}) and source its workspace"
    )


def executable(package: str, name: str, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the command that starts a package's executable."""
    for prefix in _prefixes(environment):
        path = prefix / "lib" / package / name
        if os.access(path, os.X_OK):
            return [str(path)]
    if package == ROS_NAME and name.isidentifier() and importlib.util.find_spec(f"{MODULES}.{name}"):
        return [sys.executable, "-m", f"{MODULES}.{name}"]
    folders = (
        ", ".join(str(prefix / "lib" / package) for prefix in _prefixes(environment))
        or "no ROS workspace is sourced"
    )
    share = share_directory(package, environment)  # says it better when the whole package is missing
    raise NotFound(f"package {package!r} ({share}) has no executable {name!r}; looked in: {folders}")


def launch_file(name: str) -> Path:
    """Return the path of a launch file, given as a path or as the name of one of ours, such as `pushing`."""
    if name.endswith((".yaml", ".yml")) or os.sep in name:
        path = Path(name)
    else:
        path = share_directory(ROS_NAME) / "launch" / f"{name}.launch.yaml"
    if not path.is_file():
        raise NotFound(
            f"no launch file at {path}; ours: {', '.join(launch_names())}; or give the path of a .launch.yaml"
        )
    return path.resolve()


def launch_names() -> list[str]:
    """List the launch files that `launch_file` finds by name."""
    folder = share_directory(ROS_NAME) / "launch"
    return sorted(path.name.removesuffix(".launch.yaml") for path in folder.glob("*.launch.yaml"))


def _prefixes(environment: Mapping[str, str]) -> list[Path]:
    return [Path(part) for part in environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if part]
