"""How often SNOPT smooths a plan, how long that takes, and what it saves.

.venv/bin/python benchmarks/plan_smoothing.py --seeds 200
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ambient_policy.provenance import commit
from ambient_policy.statistics import success_rate
from sim.plan import Plan, Planner
from sim.plan_model import PlanConfig
from sim.scenario import load_scenario
from sim.starts import sample_start


@dataclass(frozen=True, kw_only=True)
class Args:
    """Which starts, which planner."""

    seeds: int = 200
    first_seed: int = 200_000
    scenario: str = "source"
    plan: PlanConfig = field(default_factory=PlanConfig)
    out: Path = Path("benchmarks/results/demonstrations/smoothing.json")


def main(args: Args) -> None:
    """Plan for every seed and print one table."""
    scenario, console = load_scenario(args.scenario), Console()
    plans: list[Plan] = []
    seconds, durations = [], []
    for seed in track(range(args.first_seed, args.first_seed + args.seeds), "plans", console=console):
        drawn = scenario.drawn(seed)
        planner, start = Planner(drawn, args.plan), sample_start(drawn, seed)
        began = time.process_time()
        goal = np.array(drawn.task.goal)
        plan = planner.plan(start.slider_pose, goal, start.tool_xy, np.random.default_rng([seed, 0x97A4]))
        seconds.append(time.process_time() - began)
        if plan is not None:
            motion = planner.motion(plan, start.tool_xy, np.array(drawn.task.tool_home))
            durations += [motion.duration_s] if motion is not None else []
            plans.append(plan)
    tried = [one for plan in plans for one in plan.tried]
    good = [one for one in tried if one.success]
    found = success_rate(len(plans), args.seeds)
    chosen = [plan.smoothed for plan in plans if plan.smoothed is not None]
    numbers = {
        "plans found": f"{found.successes}/{found.trials}, 95 % {found.low:.3f} to {found.high:.3f}",
        "of them smoothed": f"{len(chosen)}/{len(plans)}",
        "calls of SNOPT that succeed": f"{len(good)}/{len(tried)}",
        "CPU time of a call, median and 90 % (ms)": _spread([1e3 * one.cpu_s for one in tried]),
        "CPU time of a plan, median and 90 % (ms)": _spread([1e3 * s for s in seconds]),
        "mean cost of the guess": f"{np.mean([c.cost_before for c in chosen]):.4f}",
        "mean cost after": f"{np.mean([c.cost_after for c in chosen]):.4f}",
        "pushes per plan": f"{np.mean([len(p.pushes) for p in plans]):.2f}",
        "plans of a second or later attempt": str(sum(p.attempts > 1 for p in plans)),
        "duration, median and 90 % (s)": _spread(durations),
    }
    table = Table("", "")
    for key, value in numbers.items():
        table.add_row(key, value)
    console.print(table)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    settings = {"seeds": args.seeds, "first_seed": args.first_seed, "plan": args.plan.model_dump()}
    document = {"commit": commit(), **settings, "scenario": args.scenario, "numbers": numbers}
    args.out.write_text(json.dumps(document, indent=1) + "\n")


def _spread(values: list[float]) -> str:
    return "{:.3g}, {:.3g}".format(*np.percentile(values, [50, 90]))


if __name__ == "__main__":
    main(tyro.cli(Args))
