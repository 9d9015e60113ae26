"""How often the scripted operator succeeds on fresh starts, in both styles, and how long it takes.

.venv/bin/python benchmarks/expert_success.py --seeds 200
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from ambient_policy.episodes import Episode
from ambient_policy.statistics import success_rate
from sim.demonstrate import Disturbance, demonstrate
from sim.expert import STYLES, StyleName
from sim.scenario import Scenario, load_scenario
from sim.station import Station
from sim.workers import run_jobs


@dataclass(frozen=True, kw_only=True)
class Args:
    """Which starts, where."""

    seeds: int = 200
    first_seed: int = 200_000
    scenario: str = "pushing"
    processes: int = os.cpu_count() or 1


_station: Station
_style: StyleName


def _setup(scenario: Scenario, style: StyleName) -> None:
    global _station, _style
    _station, _style = Station(scenario, cameras=False), style


def _job(seed: int) -> float | None:
    result = demonstrate(
        _station, style=_style, seed=seed, source="target", commit="", disturbance=Disturbance()
    )
    return result.meta.steps * result.meta.period_s if isinstance(result, Episode) else None


def main(args: Args) -> None:
    """Run both styles and print one table."""
    table = Table(title=f"scripted operator, seeds {args.first_seed} to {args.first_seed + args.seeds - 1}")
    for column in ("style", "success", "95 % interval", "median", "90th percentile"):
        table.add_column(column)
    scenario = load_scenario(args.scenario)
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    for style in STYLES:
        setup_args = (scenario, style)
        times = list(run_jobs(_job, seeds, setup=_setup, setup_args=setup_args, processes=args.processes))
        good = [t for t in times if t is not None]
        rate = success_rate(len(good), len(times))
        table.add_row(
            style,
            f"{rate.successes}/{rate.trials}",
            f"{rate.low:.3f} to {rate.high:.3f}",
            f"{np.median(good):.1f} s",
            f"{np.percentile(good, 90):.1f} s",
        )
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Args))
