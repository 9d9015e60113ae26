"""What each fault does to the deployed nodes, many times: noticed, held, within limits, over and gone?

    OMP_NUM_THREADS=1 python -m benchmarks.fault_table --injections 50

Every row injects one fault into the running stack (`ambient-policy launch bench`, lock-step, the shipped
policy), from fresh starts and at times drawn anew for every launch, until there are enough. An injection is
as meant if the reason that should be given for a hold is given, or none where nobody should hold; and if all
goes on afterwards, or nothing does where somebody must look first. Whatever the row, no target may be further
from the one before than the speed limit allows in a tick. The same command goes on where it was stopped.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
import yaml
from rich.console import Console
from rich.table import Table

from ambient_policy import provenance
from ambient_policy.config import dump_yaml
from ambient_policy.errors import TrialError
from ambient_policy_ros.fault_record import FaultOutcome, FaultRecord
from sim.scenario import load_scenario

RUN = "import sys; from ambient_policy.cli import main; sys.exit(main(sys.argv[1:]))"
IMAGES = "camera/*/color/image_raw"
WRIST, OVERHEAD = (f"camera/{name}/color/image_raw" for name in ("wrist", "overhead"))
ROUNDING_M = 1e-5
"""Of the record's steps of the target."""


@dataclass(frozen=True)
class Row:
    """A fault, and what should come of it."""

    name: str
    fault: dict[str, Any]
    for_s: float
    hold: str = ""
    """What the reason of the policy's or the servo's hold must match; nothing: nobody may hold."""
    latched: bool = False
    """Whether the hold must last until somebody has looked."""


SILENT = "no complete frame|no new chunk"
ROWS = (
    Row("no fault", {"fault": "drop", "channel": "joint_states"}, 1.5),
    Row("one camera silent", {"fault": "drop", "channel": WRIST}, 2.0, SILENT),
    Row("all cameras silent", {"fault": "drop", "channel": IMAGES}, 2.0, SILENT),
    Row(
        "a camera frozen, old stamps", {"fault": "freeze", "channel": OVERHEAD, "restamp": False}, 2.0, SILENT
    ),
    Row("a camera frozen, new stamps", {"fault": "freeze", "channel": OVERHEAD}, 2.0, "frozen"),
    Row("a camera black", {"fault": "black", "channel": OVERHEAD}, 2.0, "shows nothing"),
    Row("all cameras black", {"fault": "black", "channel": IMAGES}, 2.0, "shows nothing"),
    Row("images 0.2 s late", {"fault": "latency", "channel": IMAGES, "delay_s": 0.2}, 2.0),
    Row("images in the wrong order", {"fault": "reorder", "channel": IMAGES}, 2.0),
    Row("pose silent", {"fault": "drop", "channel": "tool/pose"}, 1.5, "tool pose is|no complete frame"),
    Row("pose NaN", {"fault": "nan", "channel": "tool/pose"}, 1.5, "not finite|tool pose is"),
    Row("half of the poses lost", {"fault": "drop", "channel": "tool/pose", "probability": 0.5}, 2.0),
    Row("poses in the wrong order", {"fault": "reorder", "channel": "tool/pose"}, 2.0),
    Row(
        "pose jumps by 30 mm", {"fault": "offset", "by_m": [0.03, 0.0]}, 1.0, "tool pose jumped", latched=True
    ),
    Row("clock 1 s ahead", {"fault": "clock_jump", "by_s": 1.0}, 1.0, "tool pose is|no complete frame"),
    Row("clock 1 s behind", {"fault": "clock_jump", "by_s": -1.0}, 1.0),
    Row("policy hangs", {"fault": "kill", "node": "policy", "signal": "STOP"}, 2.0, "no new chunk"),
    Row("servo hangs", {"fault": "kill", "node": "servo", "signal": "STOP"}, 1.0),
)


@dataclass(frozen=True, kw_only=True)
class Args:
    """What to measure."""

    injections: int = 50
    """Of each row, at least."""
    rows: tuple[str, ...] = ()
    """Names; none: all."""
    policy: Path = Path("bundles/pushing")
    seed: int = 500_000
    """Start of the first trial of a row."""
    trials: int = 6
    """Of each launch."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("benchmarks/results/faults")


def main() -> int:
    """Run what is missing of every row, then print and write the table."""
    args, console = tyro.cli(Args, description=__doc__), Console()
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "fault_table.json"
    document = json.loads(file.read_text()) if file.exists() else {"rows": {}}
    limit_m = load_scenario("pushing").control_period_s * _max_speed_m_s() + ROUNDING_M
    for row in (row for row in ROWS if not args.rows or row.name in args.rows):
        found = [
            FaultOutcome.model_validate(o) for o in document["rows"].get(row.name, {}).get("outcomes", [])
        ]
        launches = document["rows"].get(row.name, {}).get("launches", 0)
        while len(found) < args.injections:
            found += launch(args, row, launches)
            launches += 1
            console.print(f"{row.name}: {len(found)} of {args.injections}")
            document["rows"][row.name] = {
                "launches": launches,
                "summary": summary(row, found, limit_m),
                "outcomes": [outcome.model_dump() for outcome in found],
            }
            head = {"schema_name": "ambient_policy.fault_table", "version": 1, "commit": provenance.commit()}
            partial = file.with_suffix(".partial")
            partial.write_text(json.dumps(head | document, indent=1) + "\n", encoding="utf-8")
            partial.replace(file)
    console.print(table({name: row["summary"] for name, row in document["rows"].items()}))
    return 0


def launch(args: Args, row: Row, number: int) -> list[FaultOutcome]:
    """Launch the stack for some trials; returns the injections that took place.

    Raises:
        TrialError: the launch failed; the text has the end of its output.
    """
    with tempfile.TemporaryDirectory(prefix="fault_table_") as scratch:
        plan, output = Path(scratch) / "plan.yaml", Path(scratch) / "run"
        rng = np.random.default_rng([number, *row.name.encode()])
        faults = list(windows(row, rng))
        plan.write_text(
            yaml.safe_dump({"title": row.name, "seed": number, "faults": faults}), encoding="utf-8"
        )
        given = {"policy": args.policy, "faults": plan, "output": output, "video": "false"}
        if row.latched:  # nothing moves any more; no need to wait for the end
            short = load_scenario("pushing", {"task": {"time_limit_s": 8.0}})
            (Path(scratch) / "short.yaml").write_text(dump_yaml(short), encoding="utf-8")
            given["scenario"] = Path(scratch) / "short.yaml"
        given |= {"trials": args.trials, "seed": args.seed + number * args.trials}
        command = [sys.executable, "-c", RUN, "launch", "bench", *(f"{k}:={v}" for k, v in given.items())]
        job = subprocess.run(command, capture_output=True, text=True, check=False)
        if job.returncode:
            raise TrialError(f"{row.name}: {' '.join(command)}\n{job.stdout[-3000:]}")
        record = FaultRecord.model_validate_json((output / "faults.json").read_text())
    return [o for trial in record.trials for o in trial.faults if o.began_s is not None]


def windows(row: Row, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Yield the row's fault again and again, with pauses to recover in; once where it is latched."""
    start_s = float(rng.uniform(1.5, 4.0))
    for _ in range(1 if row.latched else 4):
        start_s = round(start_s, 2)
        if row.fault["fault"] == "kill":
            yield {**row.fault, "at_s": start_s, "for_s": row.for_s}
        else:
            yield {**row.fault, "from_s": start_s, "until_s": start_s + row.for_s}
        start_s += row.for_s + float(rng.uniform(3.0, 4.5))


def summary(row: Row, found: list[FaultOutcome], limit_m: float) -> dict[str, Any]:
    """Count what was as meant."""
    noticed, after_s = 0, []
    for outcome in found:
        holds = [held for held in (outcome.policy_hold, outcome.servo_hold) if held is not None]
        named = [held for held in holds if row.hold and re.search(row.hold, held.reason)]
        noticed += bool(named) if row.hold else not holds
        after_s += [min(held.after_s for held in named)] if named else []
    steps_m = [m.target_step_m for o in found for m in (o.during, o.after) if m is not None]
    speeds_m_s = [m.speed_m_s for o in found for m in (o.during, o.after) if m is not None]
    back_s = [o.recovered_after_s for o in found if o.recovered_after_s is not None]
    held = sum(o.policy_hold is not None or o.servo_hold is not None for o in found)
    return {
        "injections": len(found),
        "as_meant": noticed,
        "hold_after_median_s": float(np.median(after_s)) if after_s else None,
        "hold_after_max_s": max(after_s, default=None),
        "went_on": held - len(back_s) == (held if row.latched else 0),
        "back_after_max_s": max(back_s, default=None),
        "steps_beyond_limit": sum(step_m > limit_m for step_m in steps_m),
        "largest_step_mm": 1e3 * max(steps_m),
        "largest_speed_m_s": max(speeds_m_s),
    }


def table(rows: dict[str, dict[str, Any]]) -> Table:
    """Lay the rows out."""
    out = Table()
    for column in ("fault", "as meant", "hold after: median, max", "went on", "back after at most"):
        out.add_column(column)
    for column in ("targets beyond the limit", "largest step mm", "tool m/s"):
        out.add_column(column)
    for name, row in rows.items():
        median_s, max_s, back_s = row["hold_after_median_s"], row["hold_after_max_s"], row["back_after_max_s"]
        out.add_row(
            name,
            f"{row['as_meant']} of {row['injections']}",
            "-" if median_s is None else f"{median_s:.2f}, {max_s:.2f} s",
            "yes" if row["went_on"] else "no",
            "-" if back_s is None else f"{back_s:.2f} s",
            str(row["steps_beyond_limit"]),
            f"{row['largest_step_mm']:.1f}",
            f"{row['largest_speed_m_s']:.2f}",
        )
    return out


def _max_speed_m_s() -> float:
    config = Path(__file__).resolve().parents[1] / "ros2_ws/src/ambient_policy/config/pushing.yaml"
    return float(yaml.safe_load(config.read_text())["/**/servo"]["ros__parameters"]["max_speed_m_s"])


if __name__ == "__main__":
    sys.exit(main())
