"""`ambient-policy collect`: a dataset of demonstrations from the twin, by seed, in parallel, resumable."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ambient_policy.config import StrictModel
from ambient_policy.episodes import write_episode
from ambient_policy.errors import ConfigError
from ambient_policy.provenance import commit
from sim.demonstrate import Disturbance, Failure, demonstrate
from sim.expert import StyleName
from sim.scenario import Scenario, load_scenario
from sim.station import Station
from sim.workers import run_jobs


@dataclass(frozen=True, kw_only=True)
class CollectArgs:
    """Let the scripted operator fill a folder with demonstrations.

    The same command goes on where it stopped; with more episodes it adds to what is there.
    """

    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder of the dataset."""
    episodes: int = 50
    """How many seeds to run, from `first_seed` on. A seed that fails is noted, and gives no episode."""
    first_seed: int = 0
    scenario: str = "pushing"
    """A shipped scenario, or a YAML file."""
    style: StyleName = "teleop"
    source: str = "target"
    """Name of the population that these demonstrations belong to."""
    disturbance: Disturbance = field(default_factory=Disturbance)
    processes: int = os.cpu_count() or 1


class Recipe(StrictModel):
    """What makes the episodes of a folder alike; kept in `collect.json` and compared on resume."""

    schema_name: str = "ambient_policy.collect"
    version: int = 1
    commit: str
    style: StyleName
    source: str
    disturbance: Disturbance
    scenario: Scenario


@dataclass(frozen=True)
class Done:
    """What became of one seed."""

    seed: int
    steps: int
    failure: Failure | None


_station: Station
_recipe: Recipe
_out: Path


def _setup(recipe: Recipe, out: Path) -> None:
    global _station, _recipe, _out  # one station for the life of the worker
    _station, _recipe, _out = Station(recipe.scenario), recipe, out


def _job(seed: int) -> Done:
    result = demonstrate(
        _station,
        style=_recipe.style,
        seed=seed,
        source=_recipe.source,
        commit=_recipe.commit,
        disturbance=_recipe.disturbance,
    )
    if isinstance(result, Failure):
        note = _out / f"{seed:06d}.failed.json"
        beside = note.with_suffix(".partial")
        beside.write_text(json.dumps(asdict(result)) + "\n")
        beside.replace(note)
        return Done(seed, 0, result)
    write_episode(_out, f"{seed:06d}", result)
    return Done(seed, result.meta.steps, None)


def _check_recipe(out: Path, recipe: Recipe) -> None:
    """Write the recipe, or refuse to mix two in one folder. The commit may differ: code moves on."""
    file = out / "collect.json"
    if not file.exists():
        beside = file.with_suffix(".partial")
        beside.write_text(recipe.model_dump_json(indent=1) + "\n")
        beside.replace(file)
        return
    old, new = json.loads(file.read_text()), json.loads(recipe.model_dump_json())
    changed = [key for key in new if key != "commit" and old.get(key) != new[key]]
    if changed:
        raise ConfigError(
            f"{out} holds demonstrations of another recipe: {', '.join(changed)} differ from {file}; "
            "choose another --out, or the same arguments to go on"
        )


def collect(args: CollectArgs, console: Console) -> list[Done]:
    """Run what is missing of the seeds asked for and return what became of them."""
    if args.episodes < 1 or args.processes < 1:
        raise ConfigError(
            f"--episodes {args.episodes} and --processes {args.processes} must both be 1 or more"
        )
    recipe = Recipe(
        commit=commit(),
        style=args.style,
        source=args.source,
        disturbance=args.disturbance,
        scenario=load_scenario(args.scenario),
    )
    args.out.mkdir(parents=True, exist_ok=True)
    _check_recipe(args.out, recipe)
    seeds = range(args.first_seed, args.first_seed + args.episodes)
    missing = [
        s
        for s in seeds
        if not (args.out / f"{s:06d}").is_dir() and not (args.out / f"{s:06d}.failed.json").is_file()
    ]
    if len(missing) < len(seeds):
        console.print(
            f"{len(seeds) - len(missing)} of {len(seeds)} seeds are done already; going on with the rest"
        )
    done: list[Done] = []
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(f"{args.style} demos", total=len(missing))
        for result in run_jobs(
            _job, missing, setup=_setup, setup_args=(recipe, args.out), processes=args.processes
        ):
            done.append(result)
            progress.advance(task)
            if not console.is_terminal and (len(done) % 50 == 0 or len(done) == len(missing)):
                progress.console.print(f"{len(done)}/{len(missing)} seeds done")
    return done


def main(argv: list[str]) -> int:
    """Run the command."""
    args = tyro.cli(CollectArgs, args=argv, prog="ambient-policy collect")
    console = Console()
    done = collect(args, console)
    failed = Counter(d.failure.outcome for d in done if d.failure)
    kept = [d for d in done if not d.failure]
    if done:
        steps = sum(d.steps for d in kept)
        console.print(
            f"[bold]{len(kept)}[/] of {len(done)} seeds gave an episode, {steps} steps in all; "
            f"failures: {dict(failed) or 'none'}"
        )
    console.print(
        f"Next: ambient-policy inspect {args.out}/{args.first_seed:06d}   or   "
        f"ambient-policy train pushing --data {args.out} --out runs/NAME"
    )
    return 0
