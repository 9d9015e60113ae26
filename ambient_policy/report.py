"""From the files of a run to one page that can be mailed: outcomes, latency, pictures, and their origin."""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console

from ambient_policy import provenance
from ambient_policy.page import write_page
from ambient_policy.report_inputs import Run, Still, read_run
from ambient_policy.report_plot import latency_figure
from ambient_policy.statistics import Rate, success_rate, tail
from ambient_policy.trials import Trial

HEADLINE_STAGE = "image_to_command_ms"
STAGES = {
    "render_ms": "camera image",
    "encode_ms": "image encoder",
    "denoise_ms": "denoising",
    "image_to_chunk_ms": "camera stamp to chunk at the servo",
    HEADLINE_STAGE: "camera stamp to command",
    "command_age_ms": "the same by the robot's clock",
}
"""Key in latency.jsonl -> its name on the page, in the order in which a frame passes them.

All but the last are wall time. In lock-step the twin's clock stands still while it waits, so by that clock a
command is as old as the planned hand-over; in real time the two agree.
"""
DRAWN = ("encode_ms", "denoise_ms", "image_to_chunk_ms", HEADLINE_STAGE)
"""The stages that the figure shows."""

RUNNERS = {
    "direct": "in the twin, without ROS",
    "ros-lockstep": "through ROS 2 in lock-step: the twin waits for every answer",
    "ros-realtime": "through ROS 2 in real time: the twin waits for nobody",
}
OUTCOMES = {
    "success": "success",
    "missed_goal": "missed the goal",
    "timeout": "out of time",
    "fell": "fell off the table",
    "aborted": "aborted",
}
PICTURED_TRIALS = 24
"""With more trials than this, the page pictures the failures first."""


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Write report.html into the folder of a run."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder with trials.jsonl and, if they were recorded, latency.jsonl, run.json, stills/ and a video."""


def main(argv: list[str]) -> int:
    """Run `ambient-policy report RUN_DIR`."""
    config = tyro.cli(ReportConfig, args=argv, prog="ambient-policy report", description=__doc__)
    page = write_report(config.run)
    Console(highlight=False).print(f"report written; open [bold]{page}[/bold] in a browser", soft_wrap=True)
    return 0


def write_report(run_dir: Path) -> Path:
    """Write `run_dir`/report.html from the run's files and return its path.

    The page is whole in itself, but for the video, which it links beside it.

    Raises:
        TrialError: a file of the run is missing or broken; the text names it.
    """
    run = read_run(Path(run_dir))
    page = run.folder / "report.html"
    write_page(page, "report_template.html.j2", **view(run))
    return page


def view(run: Run) -> dict[str, Any]:
    """Work out every number and text of the page from the files of a run."""
    stages = {name: stage_values(run, key) for key, name in STAGES.items()}
    stages = {name: values for name, values in stages.items() if values}
    drawn = {STAGES[key]: stages[STAGES[key]] for key in DRAWN if STAGES[key] in stages}
    headline = STAGES[HEADLINE_STAGE]
    times_s = [t.time_to_success_s for t in run.trials if t.time_to_success_s is not None]
    return {
        "title": str(run.facts.get("title", f"{run.trials[0].scenario}: {run.trials[0].policy}")),
        "made": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "success": success_rate(sum(t.success for t in run.trials), len(run.trials)),
        "held": success_rate(sum(t.held for t in run.trials), len(run.trials)),
        "median_time_s": float(np.median(times_s)) if times_s else None,
        "groups": groups(run.trials),
        "rows": [row(number, trial) for number, trial in enumerate(run.trials, start=1)],
        "longest_s": max(t.duration_s for t in run.trials) or 1.0,
        "latency": {name: tail(values) for name, values in stages.items()},
        "headline_latency": tail(stages[headline]) if headline in stages else None,
        "figure": latency_figure(drawn, headline if headline in drawn else None) if drawn else None,
        "pictures": pictures(run),
        "pictures_left_out": max(0, len({(s.kind, s.number) for s in run.stills}) - PICTURED_TRIALS),
        # A trial's own film is linked in its row.
        "videos": [name for name in run.videos if name not in {t.video for t in run.trials}],
        "runners": sorted({RUNNERS.get(t.runner, t.runner) for t in run.trials}),
        "lockstep": any(t.runner == "ros-lockstep" for t in run.trials),
        "provenance": provenance_rows(run),
        "report_commit": provenance.commit(),
    }


def stage_values(run: Run, key: str) -> list[float]:
    """Return the times [ms] of one stage in the order of the chunks; chunks without it are left out."""
    return [float(line[key]) for line in run.latency if line.get(key) is not None]


def groups(trials: list[Trial]) -> list[tuple[str, str, Rate, Rate]]:
    """Return (policy, runner, success, held) for each pair in the run; empty when there is only one."""
    pairs = list(dict.fromkeys((t.policy, t.runner) for t in trials))
    if len(pairs) < 2:
        return []
    out = []
    for policy, runner in pairs:
        own = [t for t in trials if (t.policy, t.runner) == (policy, runner)]
        success, held = (
            success_rate(k, len(own)) for k in (sum(t.success for t in own), sum(t.held for t in own))
        )
        out.append((policy, RUNNERS.get(runner, runner), success, held))
    return out


def row(number: int, trial: Trial) -> dict[str, Any]:
    """Return one line of the table of trials, in the units people read: seconds, millimetres, degrees."""
    return {
        "number": number,
        "seed": trial.seed,
        "outcome": OUTCOMES.get(trial.outcome, trial.outcome),
        "success": trial.success,
        "held": trial.held,
        "time_s": trial.time_to_success_s,
        "held_s": trial.time_to_held_s,
        "duration_s": trial.duration_s,
        "error_mm": trial.final_position_error_m * 1000,
        "error_deg": math.degrees(abs(trial.final_yaw_error_rad)),
        "holds": ", ".join(f"{reason} ({ticks} ticks)" for reason, ticks in sorted(trial.holds.items())),
        "video": trial.video,
    }


def pictures(run: Run) -> list[dict[str, Any]]:
    """Return caption, success (None if unknown) and stills of each trial; failures first if too many."""
    by_trial: dict[tuple[str | None, int | str | None], list[Still]] = {}
    for still in run.stills:
        by_trial.setdefault((still.kind, still.number if still.kind else still.name), []).append(still)
    out = []
    for (kind, number), stills in by_trial.items():
        trial = trial_of(run.trials, kind, number)
        stills.sort(key=lambda s: s.when == "end")
        seed = f"seed {trial.seed}: {OUTCOMES.get(trial.outcome, trial.outcome)}" if trial else None
        caption = seed or (f"{kind} {number}" if kind else stills[0].name)
        out.append({"caption": caption, "success": trial.success if trial else None, "stills": stills})
    if len(out) > PICTURED_TRIALS:
        out.sort(key=lambda item: item["success"] is not False)
    return out[:PICTURED_TRIALS]


def trial_of(trials: list[Trial], kind: str | None, number: int | str | None) -> Trial | None:
    """Find the trial that a still belongs to: by seed, or by its place in the run counted from 0."""
    if kind == "seed":
        return next((t for t in trials if t.seed == number), None)
    if kind == "trial" and isinstance(number, int) and number < len(trials):
        return trials[number]
    return None


def provenance_rows(run: Run) -> list[tuple[str, str]]:
    """Return (what, value): the trials' own record first, then everything in run.json."""
    seeds = sorted({t.seed for t in run.trials})
    consecutive = len(seeds) > 1 and seeds == list(range(seeds[0], seeds[-1] + 1))

    def each(values: set[str]) -> str:
        return ", ".join(sorted(values))

    rows = [
        ("policy", each({t.policy for t in run.trials})),
        ("bundle commit", each({t.bundle_commit for t in run.trials})),
        ("code commit", each({t.commit for t in run.trials})),
        ("scenario", each({t.scenario for t in run.trials})),
        ("seeds", f"{seeds[0]} to {seeds[-1]}" if consecutive else ", ".join(map(str, seeds))),
        ("runner", each({t.runner for t in run.trials})),
        ("wall time of the trials", f"{sum(t.wall_s for t in run.trials):.0f} s"),
    ]
    taken = {name for name, _ in rows}
    taken |= {"title", "schema name", "version", "trials", "seed", "first seed", "mode", "commit", "wall s"}
    for name, value in flat(run.facts):
        if name not in taken:
            seconds = name.endswith(" s")
            rows.append((name.removesuffix(" s"), f"{value} s" if seconds else value))
    return rows


def flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Return (dotted name, text) of every leaf of a JSON value; long lists are cut."""
    if value is None:
        return []
    if isinstance(value, dict):
        return [
            pair
            for key, item in value.items()
            for pair in flat(item, f"{name} {key}".strip().replace("_", " "))
        ]
    if isinstance(value, list):
        text = " ".join(map(str, value)) if "command" in name else ", ".join(map(str, value))
        return [(name, text if len(text) <= 400 else text[:400] + " ...")]
    return [(name, str(value))]
