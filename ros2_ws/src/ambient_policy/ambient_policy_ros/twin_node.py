"""Twin node: stands for the robot; publishes and takes what it does, runs and scores trials.

It owns the simulated station and ROS time (/clock), all in one thread. Everything of a run goes into one
folder: trials.jsonl, latency.jsonl, run.json, stills/, a film, report.html; under a fault plan, faults.json.
"""

from __future__ import annotations

import datetime
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from rclpy.node import Node
from rich.console import Console

from ambient_policy.config import StrictModel
from ambient_policy.errors import ConfigError
from ambient_policy.provenance import commit
from ambient_policy_ros import node_main
from ambient_policy_ros.fault_plan import load_plan
from ambient_policy_ros.fault_record import (
    FaultRecord,
    TrialFaults,
    facts_of,
    outcome_of,
    table,
    write_record,
)
from ambient_policy_ros.latency import LatencyBook
from ambient_policy_ros.parameters import guard_parameters, read_parameters
from ambient_policy_ros.twin_faults import TwinFaults
from ambient_policy_ros.twin_idle import stand_by
from ambient_policy_ros.twin_link import TwinLink
from ambient_policy_ros.twin_pace import LockStep, RealTime
from ambient_policy_ros.twin_record import Recorder, fresh_folder
from ambient_policy_ros.twin_trials import Runner, TrialRunner
from sim.film import FILM, FILM_CAMERA
from sim.scenario import Scenario, load_scenario
from sim.station import Station
from sim.viewer import start_viewer

RUNNERS: dict[str, Runner] = {"lockstep": "ros-lockstep", "realtime": "ros-realtime"}


class TwinParameters(StrictModel):
    """ROS parameters of the node."""

    scenario: str = "pushing"
    """Name of a shipped scenario, or path of a YAML file."""
    trials: int = Field(default=10, ge=0)
    """How many to run. 0: none, and no files; it stands there as a robot until told to stop (realtime)."""
    seed: int = Field(default=100_000, ge=0)
    """Start of the first trial; each further one takes the next seed. Demonstrations use seeds from 0."""
    mode: Literal["lockstep", "realtime"] = "lockstep"
    """Whether to wait for every answer, or never."""
    interface: Literal["pose", "joints"] = "pose"
    """What it takes: targets of the tool, or trajectories of its joints (a scenario with an arm), as a robot
    does that has only a joint_trajectory_controller. No tool/pose then: it is the joint node's work."""
    output: str = ""
    """Folder of the run; by default a new one under runs/."""
    faults: str = ""
    """Fault plan: name of a shipped one, or path of a YAML file; none by default."""
    viewer: bool = False
    """Whether to serve a live 3-D view on this machine (Meshcat)."""
    video: bool = True
    """Whether to film the trials."""
    startup_s: float = Field(default=120.0, gt=0)
    """How long the other nodes may take to load and to answer for the first time (wall time)."""
    silence_s: float = Field(default=10.0, gt=0)
    """A node that has not answered for this long (wall time) later on is taken for dead. With ten times more
    work than cores, answers were seen to take a second."""


class TwinNode(Node):
    """Holds the twin's parameters and its place in the ROS graph; the work is in `TrialRunner`."""

    def __init__(self) -> None:
        super().__init__("twin", automatically_declare_parameters_from_overrides=True)
        self.config = read_parameters(self, TwinParameters)
        guard_parameters(
            self, TwinParameters, lambda: "parameters are read at the start only; restart the twin"
        )


def work(node: TwinNode) -> int:
    """Run the trials, or stand by where there are none."""
    config = node.config
    scenario = load_scenario(config.scenario)
    if config.interface == "joints" and config.faults:
        raise ConfigError(
            f"faults is {config.faults!r} and interface is joints: fault plans speak of tool/pose and "
            "tool/target, which this twin has not; take interface: pose"
        )
    faults = TwinFaults(load_plan(config.faults), scenario.cameras) if config.faults else None
    if config.trials:
        return run_trials(node, scenario, faults)
    if config.interface == "joints":
        raise ConfigError(
            "interface is joints: a twin that stands by takes tool targets; take interface: pose"
        )
    if config.mode != "realtime":
        raise ConfigError(f"mode is {config.mode!r}; without trials nobody answers, so it needs realtime")
    meshcat, url = start_viewer() if config.viewer else (None, "")
    station = Station(scenario, meshcat=meshcat)
    link = TwinLink(node, station.cameras, lambda *_: None, faults, station.joint_names)
    print(f"{scenario.name}: standing by, in real time{url and f'; live view: {url}'}", flush=True)
    stand_by(station, link)
    return 0


def run_trials(node: TwinNode, scenario: Scenario, faults: TwinFaults | None) -> int:
    """Run all trials, then write the report; also after an interrupt, for the trials that have ended."""
    config = node.config
    began = datetime.datetime.now()
    folder = fresh_folder(Path(config.output or f"runs/{scenario.name}-{began:%Y%m%d-%H%M%S}"))
    meshcat, url = start_viewer() if config.viewer else (None, "")
    if url:
        print(f"live view: open {url} in a browser", flush=True)
    station = Station(scenario, meshcat=meshcat, extra_cameras={FILM: FILM_CAMERA})
    joints = config.interface == "joints"
    book = LatencyBook(folder / "latency.jsonl")
    link = TwinLink(node, station.cameras, book.taken_over, faults, station.joint_names, joints=joints)
    pace = (LockStep if config.mode == "lockstep" else RealTime)(
        link, book, config.silence_s, config.startup_s
    )
    recorder = Recorder(folder, station, config.video)
    runner = TrialRunner(
        station, link, pace, book, recorder, RUNNERS[config.mode], config.startup_s, config.silence_s
    )
    ended = successes = 0
    outcomes: list[TrialFaults] = []
    start_s = time.monotonic()
    try:
        for number in range(config.trials):
            seed = config.seed + number
            label = f"trial {number + 1} of {config.trials}, seed {seed}"
            trial = runner.run(number, seed, label)
            ended, successes = ended + 1, successes + trial.success
            when = f" after {trial.time_to_success_s:.1f} s" if trial.success else ""
            held = " and held" if trial.held else ""
            outcome = trial.outcome.replace("_", " ").upper()
            print(f"{label}: {outcome}{when}{held}   [{successes} of {ended} succeeded]", flush=True)
            if faults is not None:
                outcomes.append(outcome_of(faults, runner.motion, trial))
                if (lost := faults.lost()) and ended < config.trials:
                    print(f"the plan has killed {', '.join(lost)}: no more trials; respawn:=true", flush=True)
                    break
    finally:
        wall_s = time.monotonic() - start_s
        facts: dict[str, Any] = {
            "schema_name": "ambient_policy.run",
            "version": 1,
            "title": f"{scenario.name} on the twin, through ROS 2",
            "began": began.astimezone().isoformat(timespec="seconds"),
            "trials": ended,
            "trials_wanted": config.trials,
            "mode": config.mode,
            "interface": config.interface,
            "first_seed": config.seed,
            "scenario_file": config.scenario,
            "provider": link.inbox.facts.get("provider", "unknown"),
            "bundle_sha256": link.inbox.facts.get("bundle_sha256", "unknown"),
            "simulated_s": round(runner.simulated_s, 2),
            "wall_s": round(wall_s, 2),
            "simulated_s_per_wall_s": round(runner.simulated_s / wall_s, 3),
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            "python": platform.python_version(),
            "ros_distro": os.environ.get("ROS_DISTRO", "jazzy wheels"),
            "commit": commit(),
        }
        if faults is not None:
            if len(outcomes) < len(runner.trials):  # the last one was aborted
                outcomes.append(outcome_of(faults, runner.motion, runner.trials[-1]))
            record = FaultRecord(mode=config.mode, plan=faults.plan, trials=outcomes)
            write_record(folder / "faults.json", record)
            facts["faults"] = facts_of(record, config.faults)
        if isinstance(pace, RealTime):
            facts["late_ticks"] = f"{pace.late_ticks} of {pace.ticks} by more than 10 ms"
        link.close()
        book.close()
        report = recorder.finish(facts)
    if faults is not None:
        Console(width=170).print(table(record))
    print(f"{successes} of {ended} trials succeeded; report: {report}", flush=True)
    return 0


def main() -> int:
    """Run the node until the trials are done or it is told to stop."""
    return node_main.run(TwinNode, work)


if __name__ == "__main__":
    sys.exit(main())
