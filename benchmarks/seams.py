"""How smooth chunks follow each other, and how often the task succeeds, when decisions take time.

    python -m benchmarks.seams bundles/pushing --trials 50

Every way of joining chunks runs the same seeded trials in the twin; a decision is made to take 0 to 0.3 s. A
seam is the tick at which another chunk takes over: its velocity step is the change of the commanded velocity
from one tick (10 ms) to the next. The same command goes on where it was stopped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from ambient_policy import provenance
from ambient_policy.bundle import load_bundle
from ambient_policy.inference import Policy
from ambient_policy.runtime import RuntimeConfig
from ambient_policy.seams import SeamConfig
from ambient_policy.statistics import success_rate
from sim.rollout import RolloutConfig, run_trial
from sim.scenario import load_scenario
from sim.station import Station
from sim.workers import run_jobs

Kind = Literal["replace", "prefix", "ensemble", "coherent"]


@dataclass(frozen=True, kw_only=True)
class Args:
    """What to measure."""

    bundle: tyro.conf.Positional[Path]
    kinds: tuple[Kind, ...] = ("replace", "prefix", "ensemble", "coherent")
    delays_s: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3)
    trials: int = 50
    first_seed: int = 400_000
    scenario: str = "pushing"
    processes: int = 1
    out: Path = Path("benchmarks/results/seams")


@dataclass(frozen=True)
class Condition:
    """One row: how chunks are joined, and how long a decision takes."""

    kind: Kind
    delay_s: float

    @property
    def name(self) -> str:
        """Name of its file."""
        return f"{self.kind}-{self.delay_s:g}"

    def rollout(self) -> RolloutConfig:
        """Return how its trials are run: a chunk takes over after 50 ms, or when it is there."""
        seam = SeamConfig(kind=self.kind, frozen_s=max(self.delay_s, 0.05) + 0.01)
        # An ensemble is made of the chunks of every frame.
        runtime = RuntimeConfig(seam=seam, replan_steps=1 if self.kind == "ensemble" else None)
        return RolloutConfig(delay_s=self.delay_s, runtime=runtime)


@dataclass(frozen=True)
class Smoothness:
    """Of the commands of one trial.

    Attributes:
        seam_steps_m_s: velocity step at every seam.
        jerk_m_s3: root mean square of the third difference of the commands, over all ticks.
        largest_step_m_s: largest velocity step of all ticks.
    """

    seam_steps_m_s: tuple[float, ...]
    jerk_m_s3: float
    largest_step_m_s: float

    @classmethod
    def of(cls, commands: np.ndarray, stamps: list[float | None], period_s: float) -> Smoothness:
        """Measure commands (N, 2) [m] that followed the chunks of `stamps`."""
        steps = np.linalg.norm(np.diff(commands, 2, axis=0), axis=1) / period_s  # entry i: about tick i + 1
        changed = [a is not None and a != b for a, b in pairwise(stamps)]
        seams = 1 + np.flatnonzero(changed)
        # The first command of a chunk changes the velocity twice: to get there, and to go on from there.
        at_seams = [float(steps[max(i - 2, 0) : i].max()) for i in seams if i >= 2]
        jerk = np.diff(commands, 3, axis=0) / period_s**3
        rms = float(np.sqrt((jerk**2).sum(axis=1).mean()))
        return cls(tuple(at_seams), rms, float(steps.max(initial=0.0)))


_trial: Callable[[int], dict[str, Any]]


def _setup(bundle: Path, scenario: str, rollout: RolloutConfig) -> None:
    global _trial  # one station and one policy for the life of the worker
    station = Station(load_scenario(scenario))
    policy = Policy(load_bundle(bundle), prefix=rollout.runtime.seam.kind == "prefix")

    def trial(seed: int) -> dict[str, Any]:
        commands: list[np.ndarray] = []
        stamps: list[float | None] = []

        def note(now_s: float, command: np.ndarray, stamp_s: float | None) -> None:
            commands.append(command)
            stamps.append(stamp_s)

        result = run_trial(station, policy, seed, rollout, on_command=note)
        smooth = Smoothness.of(np.array(commands), stamps, station.scenario.control_period_s)
        return {**result.model_dump(), **vars(smooth)}

    _trial = trial


def _job(seed: int) -> dict[str, Any]:
    return _trial(seed)


def measure(args: Args, condition: Condition) -> list[dict[str, Any]]:
    """Run the trials that are not there yet; return all of a condition."""
    file = args.out / "trials" / f"{condition.name}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    found = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    missing = sorted(
        set(range(args.first_seed, args.first_seed + args.trials)) - {row["seed"] for row in found}
    )
    setup_args = (args.bundle, args.scenario, condition.rollout())
    ended: Iterator[dict[str, Any]] = iter(())
    if missing:
        ended = run_jobs(_job, missing, setup=_setup, setup_args=setup_args, processes=args.processes)
    for row in ended:
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(row) + "\n")
        found.append(row)
    return [row for row in found if args.first_seed <= row["seed"] < args.first_seed + args.trials]


def summarise(condition: Condition, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Work out one row of the table."""
    rate = success_rate(sum(row["success"] for row in rows), len(rows))
    seams = np.concatenate([row["seam_steps_m_s"] for row in rows])
    times = [row["time_to_success_s"] for row in rows if row["success"]]
    return {
        "kind": condition.kind,
        "delay_s": condition.delay_s,
        "successes": rate.successes,
        "trials": rate.trials,
        "low": rate.low,
        "high": rate.high,
        "median_time_s": float(np.median(times)) if times else None,
        "seam_median_mm_s": 1e3 * float(np.median(seams)),
        "seam_p95_mm_s": 1e3 * float(np.percentile(seams, 95)),
        "seam_max_mm_s": 1e3 * float(seams.max()),
        "jerk_rms_m_s3": float(np.mean([row["jerk_m_s3"] for row in rows])),
        "largest_step_mm_s": 1e3 * max(row["largest_step_m_s"] for row in rows),
    }


def draw(found: list[dict[str, Any]], file: Path) -> None:
    """Draw success and the velocity step at seams over the delay."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    success, seams = figure.subplots(1, 2)
    for kind in dict.fromkeys(row["kind"] for row in found):
        rows = [row for row in found if row["kind"] == kind]
        x = [row["delay_s"] for row in rows]
        y = [row["successes"] / row["trials"] for row in rows]
        bars = [[b - row["low"] for b, row in zip(y, rows, strict=True)]]
        bars += [[row["high"] - b for b, row in zip(y, rows, strict=True)]]
        success.errorbar(x, y, yerr=bars, marker="o", capsize=3, label=kind)
        seams.plot(x, [row["seam_p95_mm_s"] for row in rows], marker="o", label=kind)
    success.set(xlabel="time a decision takes [s]", ylabel="success", ylim=(-0.03, 1.03))
    seams.set(
        xlabel="time a decision takes [s]", ylabel="velocity step at seams, 95 % [mm/s]", ylim=(0, None)
    )
    for axes in (success, seams):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(file, dpi=150)


def main(args: Args) -> None:
    """Measure what is missing, write numbers and picture, print the table."""
    console = Console(highlight=False)
    found = []
    for delay_s in args.delays_s:
        for kind in args.kinds:
            condition = Condition(kind, delay_s)
            found.append(summarise(condition, measure(args, condition)))
            row = found[-1]
            console.print(f"{condition.name}: {row['successes']}/{row['trials']}")
            document = {
                "schema_name": "ambient_policy.seams",
                "version": 1,
                "commit": provenance.commit(),
                "bundle": load_bundle(args.bundle).digest,
                "scenario": args.scenario,
                "first_seed": args.first_seed,
                "rows": found,
            }
            (args.out / "seams.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    draw(found, args.out / "seams.png")
    table = Table(
        "seam",
        "delay [s]",
        "success",
        "95 %",
        "median [s]",
        "step at seams, median, 95 %, max [mm/s]",
        "jerk",
    )
    for row in found:
        table.add_row(
            row["kind"],
            f"{row['delay_s']:g}",
            f"{row['successes']}/{row['trials']}",
            f"{row['low']:.2f} to {row['high']:.2f}",
            "-" if row["median_time_s"] is None else f"{row['median_time_s']:.1f}",
            f"{row['seam_median_mm_s']:.0f}, {row['seam_p95_mm_s']:.0f}, {row['seam_max_mm_s']:.0f}",
            f"{row['jerk_rms_m_s3']:.0f}",
        )
    console.print(table)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
