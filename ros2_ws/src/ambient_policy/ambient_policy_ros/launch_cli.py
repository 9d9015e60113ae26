"""`ambient-policy launch NAME [argument:=value ...]`: `ros2 launch` for machines with ROS from PyPI wheels.

Plain argument reading, not tyro: `name:=value` is how every ROS 2 user types launch arguments.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ambient_policy_ros import launch_find, launch_runner
from ambient_policy_ros.launch_file import declared_arguments, describe
from ambient_policy_ros.launch_substitutions import LaunchError

USAGE = """usage: ambient-policy launch NAME [argument:=value ...] [--show-args]

NAME is one of: {names}; or the path of a .launch.yaml file.
--show-args lists what NAME accepts. On a machine with ROS 2 the same file runs under
`ros2 launch ambient_policy NAME.launch.yaml`."""


def main(argv: list[str]) -> int:
    """Run a launch file; returns the exit code of the node that ended it."""
    words = [word for word in argv if not word.startswith("-")]
    options = [word for word in argv if word.startswith("-")]
    if not words or "--help" in options or "-h" in options:
        print(USAGE.format(names=", ".join(launch_find.launch_names())))
        return 0 if options else 2
    for option in options:
        if option not in ("--show-args", "-s"):
            raise LaunchError(
                f"unknown option {option!r}; known: --show-args, --help; arguments are name:=value"
            )
    path = launch_find.launch_file(words[0])
    if options:
        _show_arguments(path)
        return 0
    with tempfile.TemporaryDirectory(prefix="ambient_policy_launch_") as scratch:
        return launch_runner.run(describe(path, parse_arguments(words[1:]), Path(scratch)))


def parse_arguments(words: list[str]) -> dict[str, str]:
    """Read `name:=value` words.

    Raises:
        LaunchError: a word of another form, or a name given twice.
    """
    arguments: dict[str, str] = {}
    for word in words:
        name, mark, value = word.partition(":=")
        if not mark or not name:
            raise LaunchError(f"launch argument {word!r} is not of the form name:=value")
        if name in arguments:
            raise LaunchError(f"launch argument {name!r} is given twice: {arguments[name]!r} and {value!r}")
        arguments[name] = value
    return arguments


def _show_arguments(path: Path) -> None:
    table = Table(title=f"{path.name}: arguments, given as name:=value", title_justify="left")
    for column in ("name", "default", "accepts", "meaning"):
        table.add_column(column, overflow="fold")
    for argument in declared_arguments(path):
        default = "(must be given)" if argument.default is None else argument.default or '""'
        table.add_row(argument.name, default, " | ".join(argument.choices) or "text", argument.description)
    Console().print(table)
