"""`ambient-policy calibrate-latency`: measure how late tool and cameras are, on the robot or its twin."""

from __future__ import annotations

import datetime
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rclpy.node import Node
from rich.console import Console
from rich.table import Table

from ambient_policy.config import parse, read_yaml
from ambient_policy.errors import ConfigError, TrialError
from ambient_policy.excitation import ExcitationConfig, excitation
from ambient_policy.folders import whole_folder
from ambient_policy.latency_calibration import (
    Calibration,
    LatencyRecord,
    NotMeasured,
    parameters_yaml,
    traffic,
)
from ambient_policy.latency_plots import latency_figure
from ambient_policy.provenance import commit
from ambient_policy_ros import node_main
from ambient_policy_ros.calibration_node import CalibrationNode
from ambient_policy_ros.launch_find import ROS_NAME, share_directory
from ambient_policy_ros.servo_node import ServoParameters


@dataclass(frozen=True, kw_only=True)
class Args:
    """Move the tool by 2 cm about where it stands, for 20 s, and see how late tool and pictures follow.

    The servo must not run. For the twin: `ambient-policy launch twin` in another terminal. Put something
    with structure where the wrist camera sees it, and nothing where the tool would touch it.
    """

    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """A new folder for latency.json, latency.yaml and latency.png; by default one under runs/."""
    motion: ExcitationConfig = field(default_factory=ExcitationConfig)
    config: Path | None = None
    """YAML with the servo's parameters, for workspace and limits; by default the shipped pushing.yaml."""
    cameras: tuple[str, ...] = ()
    """Names of the cameras to look at; by default all that publish."""
    yes: bool = False
    """Do not ask before a real robot moves."""
    wait_s: float = 10.0
    """How long to wait for the first tool pose."""


def main(argv: list[str]) -> int:
    """Run the command."""
    args = tyro.cli(Args, args=argv, prog="ambient-policy calibrate-latency")
    share = share_directory(ROS_NAME)
    parameters = servo_parameters(args.config or share / "config/pushing.yaml")
    out = args.out or Path(f"runs/latency-{datetime.datetime.now():%Y%m%d-%H%M%S}")
    if out.exists():
        raise ConfigError(f"--out {out} exists; name a new folder")
    # As the launch files do: without it most 640x480 pictures are lost.
    os.environ.setdefault("FASTRTPS_DEFAULT_PROFILES_FILE", str(share / "config/fastdds.xml"))
    return node_main.run(lambda: CalibrationNode(parameters), lambda node: calibrate(node, args, out))


def servo_parameters(file: Path) -> ServoParameters:
    """Read the servo's entry of a file of ROS parameters.

    Raises:
        ConfigError: there is none, or it does not fit.
    """
    for name, node in read_yaml(file).items():
        if name.split("/")[-1] == "servo" and isinstance(node, dict):
            return parse(node.get("ros__parameters", {}), ServoParameters, f"{file}: {name}")
    raise ConfigError(f"{file} has no parameters of a node `servo`; give the file of your cell with --config")


def calibrate(node: Node, args: Args, out: Path) -> int:
    """Move, measure, tell, and write it down; 1 when nothing could be measured."""
    assert isinstance(node, CalibrationNode)
    console = Console(highlight=False)
    start, simulated = node.look(args.wait_s)
    path = excitation(args.motion, start, node.parameters, 1 / node.parameters.rate_hz)
    cameras = node.watch(args.cameras)
    low, high = 1e3 * (path - start).min(axis=0), 1e3 * (path - start).max(axis=0)
    console.print(
        f"{'twin' if simulated else 'robot'} at x {start[0]:.3f}, y {start[1]:.3f} m; cameras: "
        f"{', '.join(cameras) or 'none'}; the tool will move {args.motion.duration_s:g} s by "
        f"{low[0]:.0f} to {high[0]:.0f} mm in x and {low[1]:.0f} to {high[1]:.0f} mm in y"
    )
    if not simulated and not args.yes:
        confirm()
    recording = node.drive(path)
    found = Calibration.of(recording)
    record = LatencyRecord(
        commit=commit(),
        clock="simulated" if simulated else "wall",
        motion=args.motion,
        start_m=tuple(start.tolist()),
        targets=len(recording.targets.times_s),
        poses=len(recording.poses.times_s),
        traffic={name: traffic(seen) for name, seen in recording.cameras.items()},
        **found.records(),
    )
    text = parameters_yaml(record)
    with whole_folder(out) as folder:
        (folder / "latency.json").write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
        (folder / "latency.yaml").write_text(text, encoding="utf-8")
        (folder / "latency.png").write_bytes(latency_figure(recording, found))
    console.print(table(record))
    print(f"{text}(also in {out}/latency.yaml, with latency.json and latency.png)")
    return int(all(isinstance(one, NotMeasured) for one in (record.actuation, *record.cameras.values())))


def confirm() -> None:
    """Ask on the terminal; anything but yes ends the command.

    Raises:
        TrialError: the answer is not yes, or there is nobody to ask.
    """
    if not sys.stdin.isatty():
        raise TrialError("a real robot would move and nobody can be asked here; look, then give --yes")
    if input("Is the way free, and a hand on the emergency stop? Type yes to move: ").strip() != "yes":
        raise TrialError("not confirmed; nothing has moved")


def table(record: LatencyRecord) -> Table:
    """Lay out what was found."""
    out = Table("", "delay [ms]", "fit", "how it came", title="how late", title_justify="left")
    tool = record.actuation
    poses = f"{record.targets} targets, {record.poses} poses"
    if isinstance(tool, NotMeasured):
        out.add_row("tool/target to tool/pose", "not measured", tool.reason, poses)
    else:
        fit = f"gain {tool.gain:.3f}, {1e3 * tool.residual_m:.2f} mm left"
        if tool.lag_s is not None and tool.dead_s is not None and tool.lag_residual_m is not None:
            fit += (
                f"; better: {1e3 * tool.dead_s:.0f} ms dead time and a lag of {1e3 * tool.lag_s:.0f} ms, "
                f"{1e3 * tool.lag_residual_m:.2f} mm left"
            )
        out.add_row("tool/target to tool/pose", _ms(tool.delay_s, tool.error_s), fit, poses)
    for name, camera in record.cameras.items():
        came = record.traffic[name]
        how = f"{came.pictures} at {came.rate_hz:.0f} Hz, {1e3 * came.arrives_s:.0f} ms after their stamp"
        if isinstance(camera, NotMeasured):
            out.add_row(f"camera {name}", "not measured", camera.reason, how)
        else:
            fit = f"R2 {camera.r2:.3f}, {1e3 * camera.residual_m:.2f} mm left"
            out.add_row(f"camera {name}", _ms(camera.delay_s, camera.error_s), fit, how)
    return out


def _ms(value_s: float, error_s: float) -> str:
    return f"{1e3 * value_s:.1f} +- {1e3 * error_s:.1f}"
