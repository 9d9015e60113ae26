"""Success of a policy against injected latency, through the real nodes, in lock-step and in real time.

    OMP_NUM_THREADS=1 python -m benchmarks.latency_curve --trials 20

Every trial is launched as users launch it (`ambient-policy launch bench`), with a fault plan that delays the
images, or the targets on their way back, all trial long. The mode `direct` has no nodes: the same runtime and
servo in one process, in lock-step, whose plans come late by the latency of the images, or whose robot by that
of the targets; a tenth of the time. The same command goes on where it was stopped; what is done is kept in
--out: trials/CONDITION.jsonl, latency_curve.json and latency_curve.png.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import tyro
import yaml
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from ambient_policy import provenance
from ambient_policy.bundle import load_bundle
from ambient_policy.errors import TrialError
from ambient_policy.inference import Policy
from ambient_policy.statistics import success_rate
from ambient_policy.trials import Trial, append_trial, read_trials
from sim.rollout import RolloutConfig, run_trial
from sim.scenario import load_scenario
from sim.station import Station

CHANNELS = {"images": "camera/*/color/image_raw", "command": "tool/target"}
Mode = Literal["direct", "lockstep", "realtime"]
RUN = "import sys; from ambient_policy.cli import main; sys.exit(main(sys.argv[1:]))"
TITLES = {"direct": "lock-step, one process", "lockstep": "lock-step, nodes", "realtime": "real time, nodes"}
COLOURS = {"images": "#1f6fb2", "command": "#b3541e"}


@dataclass(frozen=True, kw_only=True)
class Args:
    """What to measure."""

    policy: Path = Path("bundles/pushing")
    trials: int = 20
    """Of each condition."""
    seed: int = 100_000
    """Start of the first trial; all conditions take the same starts."""
    latencies_s: tuple[float, ...] = (0.0, 0.1, 0.2, 0.4)
    channels: tuple[Literal["images", "command"], ...] = ("images", "command")
    modes: tuple[Mode, ...] = ("direct", "lockstep", "realtime")
    scenario: str = "pushing"
    out: Path = Path("benchmarks/results/latency")


@dataclass(frozen=True)
class Condition:
    """One point of a curve."""

    mode: Mode
    channel: str
    """Of CHANNELS; at 0 s they are one condition, `none`."""
    latency_s: float

    @property
    def name(self) -> str:
        """Name of its file of trials."""
        return f"{self.mode}-{self.channel}-{self.latency_s:g}"

    def plan(self) -> dict[str, Any]:
        """Return its fault plan."""
        faults = []
        if self.latency_s:
            faults = [{"fault": "latency", "channel": CHANNELS[self.channel], "delay_s": self.latency_s}]
        return {"title": f"{self.latency_s:g} s on {self.channel}", "faults": faults}


def conditions(args: Args) -> list[Condition]:
    """Return what is to be measured, each once."""
    wanted = [
        Condition(mode, channel if latency_s else "none", latency_s)
        for mode in args.modes
        for latency_s in args.latencies_s
        for channel in args.channels
    ]
    return list(dict.fromkeys(wanted))


def main(args: Args) -> None:
    """Run what is missing, then write the curve."""
    console = Console(highlight=False)
    (args.out / "trials").mkdir(parents=True, exist_ok=True)
    todo = conditions(args)
    # Round by round: a curve of few trials is there early, and all conditions share the machine's load.
    for round_ in range(args.trials):
        for condition in todo:
            if args.seed + round_ not in {trial.seed for trial in done(args, condition)}:
                trial = run(args, condition, args.seed + round_)
                append_trial(file_of(args, condition), trial)
                console.print(f"{condition.name}, seed {trial.seed}: {trial.outcome}")
        write(args, todo)
    show(args, todo, console)


def file_of(args: Args, condition: Condition) -> Path:
    """Return where the trials of a condition are kept."""
    return args.out / "trials" / f"{condition.name}.jsonl"


def done(args: Args, condition: Condition) -> list[Trial]:
    """Return the trials of a condition among the wanted seeds."""
    file = file_of(args, condition)
    trials = read_trials(file) if file.exists() else []
    return [trial for trial in trials if args.seed <= trial.seed < args.seed + args.trials]


@cache
def stand(policy: Path, scenario: str, lag_s: float) -> tuple[Station, Policy]:
    """Return a twin whose robot is late by `lag_s`, and the policy."""
    late = load_scenario(scenario, {"actuation": {"lag_s": lag_s}})
    return Station(late), Policy(load_bundle(policy))


def run(args: Args, condition: Condition, seed: int) -> Trial:
    """Run one trial: in this process (`direct`), else by launching the whole stack.

    Raises:
        TrialError: it ended with an error; the text has the end of its output.
    """
    if condition.mode == "direct":
        lag_s = condition.latency_s if condition.channel == "command" else 0.0
        config = RolloutConfig(delay_s=condition.latency_s if condition.channel == "images" else 0.0)
        return run_trial(*stand(args.policy, args.scenario, lag_s), seed, config)
    with tempfile.TemporaryDirectory(prefix="latency_curve_") as scratch:
        plan, output = Path(scratch) / "plan.yaml", Path(scratch) / "run"
        plan.write_text(yaml.safe_dump(condition.plan()), encoding="utf-8")
        given = {"policy": args.policy, "scenario": args.scenario, "mode": condition.mode, "seed": seed}
        given |= {"faults": plan, "output": output, "trials": 1, "video": "false"}
        command = [sys.executable, "-c", RUN, "launch", "bench", *(f"{k}:={v}" for k, v in given.items())]
        job = subprocess.run(command, capture_output=True, text=True, check=False)
        if job.returncode:
            raise TrialError(f"{condition.name}, seed {seed}: {' '.join(command)}\n{job.stdout[-3000:]}")
        (trial,) = read_trials(output / "trials.jsonl")
    return trial


def rows(args: Args, todo: list[Condition]) -> list[dict[str, Any]]:
    """Return one row for each condition that has trials."""
    found = []
    for condition in todo:
        trials = done(args, condition)
        if not trials:
            continue
        rate = success_rate(sum(trial.success for trial in trials), len(trials))
        times_s = sorted(t.time_to_success_s for t in trials if t.time_to_success_s is not None)
        found.append(
            {
                "mode": condition.mode,
                "channel": condition.channel,
                "latency_s": condition.latency_s,
                "trials": rate.trials,
                "successes": rate.successes,
                "low": round(rate.low, 4),
                "high": round(rate.high, 4),
                "median_time_s": times_s[len(times_s) // 2] if times_s else None,
                "wall_s": round(sum(t.wall_s for t in trials), 1),
            }
        )
    return found


def write(args: Args, todo: list[Condition]) -> None:
    """Write the rows and the picture."""
    found = rows(args, todo)
    bundles = {(t.policy, t.bundle_commit) for condition in todo for t in done(args, condition)}
    document = {
        "schema_name": "ambient_policy.latency_curve",
        "version": 1,
        "commit": provenance.commit(),
        "policy": str(args.policy),
        "bundles": sorted(bundles),
        "scenario": args.scenario,
        "first_seed": args.seed,
        "rows": found,
    }
    file = args.out / "latency_curve.json"
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    partial.replace(file)
    draw(found, args.out / "latency_curve.png")


def draw(found: list[dict[str, Any]], file: Path) -> None:
    """Draw one panel for each mode: success with its 95 % interval over the latency."""
    modes = list(dict.fromkeys(row["mode"] for row in found))
    figure = Figure(figsize=(4.6 * len(modes), 3.4), layout="constrained")
    for axes, mode in zip(figure.subplots(1, len(modes), squeeze=False)[0], modes, strict=True):
        for shift_s, (channel, colour) in zip((-0.004, 0.004), COLOURS.items(), strict=True):
            own = [r for r in found if r["mode"] == mode and r["channel"] in (channel, "none")]
            own.sort(key=lambda r: r["latency_s"])
            x = [r["latency_s"] + shift_s for r in own]  # so that neither hides the other
            y = [r["successes"] / r["trials"] for r in own]
            bars = [[b - r["low"] for b, r in zip(y, own, strict=True)]]
            bars += [[r["high"] - b for b, r in zip(y, own, strict=True)]]
            axes.errorbar(x, y, yerr=bars, color=colour, marker="o", capsize=3, label=f"{channel} delayed")
        axes.set(title=TITLES[mode], xlabel="injected latency [s]", ylabel="success", ylim=(-0.03, 1.03))
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)
    figure.savefig(file, dpi=150)


def show(args: Args, todo: list[Condition], console: Console) -> None:
    """Print the rows."""
    table = Table("mode", "delayed", "latency [s]", "success", "95 %", "median time [s]", "wall [s]")
    for row in rows(args, todo):
        median = "-" if row["median_time_s"] is None else f"{row['median_time_s']:.1f}"
        table.add_row(
            row["mode"],
            row["channel"],
            f"{row['latency_s']:g}",
            f"{row['successes']} of {row['trials']}",
            f"{row['low']:.2f} to {row['high']:.2f}",
            median,
            f"{row['wall_s']:.0f}",
        )
    console.print(table)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
