"""What the twin costs: episodes per minute, images per second, memory; next to another program if you like.

.venv/bin/python benchmarks/twin_speed.py                              # all tables
.venv/bin/python benchmarks/twin_speed.py --kinds source --memory 500  # does memory grow over 500 episodes?
.venv/bin/python benchmarks/twin_speed.py --against other.py           # and side by side with another twin
.venv/bin/python benchmarks/twin_speed.py --against other.py --processes 2        # ours on two cores

`other.py` is started as `python other.py KIND FIRST_SEED EPISODES '[[width, height], ...]'` (a size for each
camera, no shadows) and prints as its last line {"wall_s": .., "cpu_s": .., "steps": .., "episodes": ..}: the
sum over its episodes, without start-up. Rounds alternate, so both meet the same load.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from ambient_policy.episodes import write_episode
from sim.cameras import camera_model
from sim.collect import CollectArgs, recipe_of
from sim.demonstrate import Failure
from sim.pipelines import make_episode
from sim.recipe import Recipe
from sim.scenario import Scenario, load_scenario
from sim.starts import Start
from sim.station import Station
from sim.workers import run_jobs

Kind = Literal["source", "target", "arm"]
KINDS: dict[Kind, dict[str, str]] = {
    "source": {"scenario": "source", "pipeline": "replay"},
    "target": {"scenario": "target", "pipeline": "operator"},
    "arm": {"scenario": "pushing_arm", "pipeline": "operator"},
}


@dataclass(frozen=True, kw_only=True)
class Args:
    """Measure the twin."""

    kinds: tuple[Kind, ...] = ("source", "target", "arm")
    rounds: int = 2
    episodes: int = 4
    """In each round."""
    processes: int = 1
    """Of ours, as `collect --processes` has them; the other program is started as it is."""
    shadows: bool = False
    """As the scenarios have them; without, no camera casts any."""
    against: Path | None = None
    """A program to run in alternation."""
    memory: int = 0
    """Make so many episodes in one process and say how its memory grows."""
    rates: bool = True
    """Also measure physics and images apart."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """A JSON file for the numbers."""


@dataclass
class Cost:
    """What some episodes took, written to disk and all, without start-up."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    steps: int = 0
    episodes: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            *(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)),
        )


_recipe: Recipe


def _setup(recipe: Recipe) -> None:
    global _recipe
    _recipe = recipe
    make_episode(recipe, 0)  # builds the station, compiles shaders


def _job(seed: int) -> tuple[Cost, float, float]:
    """Make and write one episode; return its cost, the memory that the process holds then [MB], and when."""
    wall, cpu = time.perf_counter(), time.process_time()
    made = make_episode(_recipe, seed)
    steps = 0
    if not isinstance(made, Failure):
        steps = made.meta.steps
        with tempfile.TemporaryDirectory() as folder:
            write_episode(folder, f"{seed:06d}", made)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    cost = Cost(time.perf_counter() - wall, time.process_time() - cpu, steps, 1)
    return cost, pages * os.sysconf("SC_PAGE_SIZE") / 1e6, time.time()


def _recipe_for(kind: Kind, shadows: bool) -> Recipe:
    recipe = recipe_of(CollectArgs(out=Path(), **KINDS[kind]))  # type: ignore[arg-type]
    if shadows:
        return recipe
    plain = {k: c.model_copy(update={"shadows": False}) for k, c in recipe.scenario.cameras.items()}
    return recipe.model_copy(update={"scenario": recipe.scenario.model_copy(update={"cameras": plain})})


def _ours(recipe: Recipe, seeds: range, processes: int = 1) -> tuple[Cost, list[float]]:
    ended = list(run_jobs(_job, seeds, setup=_setup, setup_args=(recipe,), processes=processes))
    total = sum((cost for cost, _, _ in ended), Cost())
    # From the beginning of the first episode to the end of the last: processes work side by side.
    total.wall_s = max(time_s for *_, time_s in ended) - min(
        time_s - cost.wall_s for cost, _, time_s in ended
    )
    return total, [memory for _, memory, _ in ended]


def _theirs(program: Path, kind: Kind, recipe: Recipe, seeds: range) -> Cost:
    models = [camera_model(name, c) for name, c in recipe.scenario.cameras.items()]
    sizes = json.dumps([[m.width, m.height] for m in models])
    command = [sys.executable, str(program), kind, str(seeds[0]), str(len(seeds)), sizes]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Cost(**json.loads(done.stdout.strip().splitlines()[-1]))


def episodes_table(args: Args, console: Console) -> dict[str, dict[str, Cost]]:
    """Print episodes per minute of one process, ours and the other program's."""
    ours = "one process" if args.processes == 1 else f"{args.processes} processes"
    table = Table(title=f"{ours}, episodes written to disk")
    columns = ("", "episodes/min", "per CPU min", "steps", "CPU ms a step", "images/s", "images per CPU s")
    for column in columns:
        table.add_column(column)
    costs: dict[str, dict[str, Cost]] = {}
    for kind in args.kinds:
        recipe = _recipe_for(kind, args.shadows)
        sums = {"ours": Cost()} | ({"theirs": Cost()} if args.against else {})
        for r in range(args.rounds):
            seeds = range(1 + r * args.episodes, 1 + (r + 1) * args.episodes)
            sums["ours"] += _ours(recipe, seeds, args.processes)[0]
            if args.against:
                sums["theirs"] += _theirs(args.against, kind, recipe, seeds)
        cameras = len(recipe.scenario.cameras)
        for who, c in sums.items():
            table.add_row(
                f"{kind}, {who}",
                f"{60 * c.episodes / c.wall_s:.1f}",
                f"{60 * c.episodes / c.cpu_s:.1f}",
                f"{c.steps / c.episodes:.0f}",
                f"{1e3 * c.cpu_s / c.steps:.1f}",
                f"{cameras * c.steps / c.wall_s:.0f}",
                f"{cameras * c.steps / c.cpu_s:.0f}",
            )
        if args.against:
            a, b = sums["ours"], sums["theirs"]
            per_episode = b.cpu_s / b.episodes / (a.cpu_s / a.episodes)
            table.add_row(
                f"{kind}, ratio",
                f"{b.wall_s / b.episodes / (a.wall_s / a.episodes):.2f}",
                f"{per_episode:.2f}",
                "",
                f"{b.cpu_s / b.steps / (a.cpu_s / a.steps):.2f}",
            )
        costs[kind] = sums
    console.print(table)
    return costs


def memory_line(args: Args, console: Console) -> dict[str, list[float]]:
    """Print how the memory of a process grows over many episodes, once it has settled."""
    grown: dict[str, list[float]] = {}
    for kind in args.kinds:
        _, sizes = _ours(_recipe_for(kind, args.shadows), range(1, 1 + args.memory))
        tenth = max(1, len(sizes) // 10)
        first, last = np.median(sizes[tenth : 2 * tenth]), np.median(sizes[-tenth:])
        console.print(
            f"{kind}: {len(sizes)} episodes in one process, {sizes[0]:.0f} MB after the first, median "
            f"{first:.0f} MB in the second tenth, {last:.0f} MB in the last, at most {max(sizes):.0f} MB"
        )
        grown[kind] = sizes
    return grown


def _rate(step: Callable[[int], None], count: int) -> tuple[float, float]:
    """Return steps per wall second and per CPU second."""
    for i in range(5):
        step(i)
    wall, cpu = time.perf_counter(), time.process_time()
    for i in range(count):
        step(i)
    return count / (time.perf_counter() - wall), count / (time.process_time() - cpu)


def _pushing(station: Station) -> Callable[[int], None]:
    """Push the T back and forth through its goal, so that contact is always being computed."""
    goal = np.array(station.scenario.task.goal)
    station.reset(Start(goal, goal[:2] + [0, 0.075]))

    def step(i: int) -> None:
        station.advance(goal[:2] + [0, 0.075 - 0.0004 * (i % 400)])

    return step


def _scaled(scenario: Scenario, scale: float, *, shadows: bool = False) -> Scenario:
    cameras = {
        k: c.model_copy(update={"scale": scale, "shadows": shadows}) for k, c in scenario.cameras.items()
    }
    return scenario.model_copy(update={"cameras": cameras})


def rates_tables(console: Console) -> None:
    """Print the cost of physics and of images, each alone, in this process."""
    scenario = load_scenario("pushing")
    table = Table(title="simulated seconds per second while pushing, no cameras")
    for column in ("contact", "time step", "per wall second", "per CPU second"):
        table.add_column(column)
    for contact, step_s in (("spheres", 0.01), ("spheres", 0.005), ("hydroelastic", 0.005)):
        physics = scenario.physics.model_copy(update={"contact": contact, "time_step_s": step_s})
        station = Station(scenario.model_copy(update={"physics": physics}), cameras=False)
        wall, cpu = _rate(_pushing(station), 1000)
        period = scenario.control_period_s
        table.add_row(contact, f"{1e3 * step_s:.0f} ms", f"{wall * period:.1f}", f"{cpu * period:.1f}")
    console.print(table)
    table = Table(title="images per second, one camera, moving scene")
    for column in ("size", "shadows", "per wall second", "per CPU second"):
        table.add_column(column)
    for scale, shadows in ((0.2, False), (0.2, True), (1.0, False), (1.0, True)):
        station = Station(_scaled(scenario, scale, shadows=shadows))
        move = _pushing(station)

        def shoot(i: int, station: Station = station, move: Callable[[int], None] = move) -> None:
            move(i)
            station.image("overhead")

        wall, cpu = _rate(shoot, 40 if scale == 1 else 150)
        model = station.cameras["overhead"]
        table.add_row(f"{model.width}x{model.height}", str(shadows), f"{wall:.0f}", f"{cpu:.0f}")
    console.print(table)


def main() -> None:
    """Print the tables that were asked for."""
    args, console = tyro.cli(Args), Console()
    found: dict[str, object] = {}
    if args.memory:
        found["memory_mb"] = memory_line(args, console)
    else:
        costs = episodes_table(args, console)
        found["costs"] = {kind: {who: vars(c) for who, c in by.items()} for kind, by in costs.items()}
        if args.rates:
            rates_tables(console)
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    # Spawned workers find the functions of this file by its name, not by __main__'s: they load it again as
    # __mp_main__, which multiprocessing arranges.
    main()
