"""How often each maker of demonstrations succeeds on fresh starts, where, and how long it takes.

.venv/bin/python benchmarks/expert_success.py --seeds 200 --processes 2

Rows: both styles of the scripted operator in `pushing`, `target` and `source_dynamic`; replayed plans in
`source`, executed ones in `source_dynamic`; and the operator under every physics and action gap, level by
level, laid over `pushing` and over `target`. Choose rows with --only, as in --only operator/planner@pushing
"""

from __future__ import annotations

import fnmatch
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from ambient_policy.episodes import Episode
from ambient_policy.provenance import commit
from ambient_policy.statistics import success_rate
from sim.expert import STYLES
from sim.gap_knobs import GAPS
from sim.pipelines import make_episode
from sim.recipe import Recipe
from sim.scenario import load_scenario
from sim.workers import run_jobs


@dataclass(frozen=True, kw_only=True)
class Args:
    """Which starts, which rows."""

    seeds: int = 200
    first_seed: int = 200_000
    only: tuple[str, ...] = ("*",)
    """Shell patterns of rows; --list shows them all."""
    list: bool = False
    processes: int = os.cpu_count() or 1
    out: Path | None = None
    """A JSON file for the numbers; rows of earlier runs in it stay."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    pipeline: str
    style: str
    scenario: str
    gap: str = ""

    @property
    def name(self) -> str:
        """Say who does it, where."""
        return f"{self.pipeline}/{self.style}@{self.scenario}" + (f"+{self.gap}" if self.gap else "")

    def recipe(self) -> Recipe:
        """Make the recipe, without images."""
        scenario = load_scenario(self.scenario, gaps=[self.gap] if self.gap else [])
        fields: dict[str, Any] = {"pipeline": self.pipeline, "style": self.style, "scenario": scenario}
        return Recipe(commit="", source="benchmark", images=False, **fields)


def rows() -> list[Row]:
    """Return every row there is."""
    scenarios = ("pushing", "target", "source_dynamic", "pushing_arm")
    out = [Row("operator", style, scenario) for scenario in scenarios for style in STYLES]
    out += [Row("replay", "planner", "source"), Row("execute", "planner", "source_dynamic")]
    for scenario in ("pushing", "target"):
        for name, gap in GAPS.items():
            if gap.kind in ("physics", "action"):
                levels = range(1, 1 + len(gap.levels))
                out += [Row("operator", "teleop", scenario, f"{name}={level}") for level in levels]
    # A quasi-static twin has no physics that an operator could act in.
    return [row for row in out if row.pipeline == "replay" or not _quasistatic(row)]


def _quasistatic(row: Row) -> bool:
    scenario = load_scenario(row.scenario, gaps=[row.gap] if row.gap else [])
    return scenario.physics.contact == "quasistatic"


_recipe: Recipe


def _setup(recipe: Recipe) -> None:
    global _recipe
    _recipe = recipe


def _job(seed: int) -> tuple[int, float | None, str]:
    result = make_episode(_recipe, seed)
    if isinstance(result, Episode):
        return seed, result.meta.steps * result.meta.period_s, result.meta.outcome
    return seed, None, result.outcome


def main(args: Args) -> None:
    """Run the rows and print one table."""
    console = Console()
    chosen = [row for row in rows() if any(fnmatch.fnmatch(row.name, pattern) for pattern in args.only)]
    if args.list or not chosen:
        console.print("\n".join(row.name for row in (chosen or rows())), highlight=False)
        return
    table = Table(title=f"demonstrations, seeds {args.first_seed} to {args.first_seed + args.seeds - 1}")
    for column in ("who and where", "success", "95 % interval", "median", "90th percentile", "failures"):
        table.add_column(column)
    numbers: dict[str, Any] = {}
    if args.out is not None and args.out.exists():
        numbers = json.loads(args.out.read_text(encoding="utf-8"))["rows"]
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    for row in chosen:
        done = list(run_jobs(_job, seeds, setup=_setup, setup_args=(row.recipe(),), processes=args.processes))
        times = [seconds for _, seconds, _ in done if seconds is not None]
        failures = {seed: outcome for seed, seconds, outcome in sorted(done) if seconds is None}
        rate = success_rate(len(times), len(done))
        middle, slow = np.percentile(times, [50, 90]) if times else (np.nan, np.nan)
        table.add_row(
            row.name,
            f"{rate.successes}/{rate.trials}",
            f"{rate.low:.3f} to {rate.high:.3f}",
            f"{middle:.1f} s",
            f"{slow:.1f} s",
            ", ".join(f"{seed} {outcome}" for seed, outcome in list(failures.items())[:4]) or "none",
        )
        origin = {"commit": commit(), "first_seed": args.first_seed}
        times_s = {"median_s": float(middle), "p90_s": float(slow)}
        numbers[row.name] = {**asdict(rate), **times_s, "failures": failures, **origin}
        console.print(f"{row.name}: {rate.successes}/{rate.trials}", highlight=False)
        if args.out is not None:
            document = {"schema_name": "ambient_policy.expert_success", "version": 1, "rows": numbers}
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(document, indent=1) + "\n")
    console.print(table)


if __name__ == "__main__":
    main(tyro.cli(Args))
