"""`python -m sim.maze.collect OUT --kind gcs`: a dataset of plans through the maze, by seed, resumable."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.progress import track

from ambient_policy.config import StrictModel
from ambient_policy.episodes import Episode, EpisodeMeta, write_episode
from ambient_policy.errors import AmbientPolicyError, ConfigError
from ambient_policy.provenance import commit
from sim.maze import rrt
from sim.maze.world import PERIOD_S, PLAN_CLEARANCE_M, Maze, MazeError, start_and_goal
from sim.workers import run_jobs

Kind = Literal["gcs", "rrt"]
SOURCES = {"gcs": "target", "rrt": "source"}
HOLD_STEPS = 10
"""How long the robot is told to stay at the goal: without it a policy never learns to stop."""


@dataclass(frozen=True, kw_only=True)
class Args:
    """Fill a folder with plans through the maze.

    The same command goes on where it stopped; with more episodes it adds to what is there.
    """

    out: Annotated[Path, tyro.conf.Positional]
    """Folder of the dataset."""
    kind: Kind = "gcs"
    """Smooth plans (the target), or the paths of a plain RRT (the source)."""
    episodes: int = 50
    """How many seeds to run, from `first_seed` on. A seed without a plan is noted, and gives no episode."""
    first_seed: int = 0
    """Clean sets use 0 and up, corrupt ones 100000 and up, trials 1000000 and up."""
    processes: int = os.cpu_count() or 1


class Recipe(StrictModel):
    """What makes the episodes of a folder alike; kept in `collect.json` and compared on resume."""

    schema_name: str = "ambient_policy.maze_collect"
    version: int = 1
    commit: str
    kind: Kind
    scenario: dict[str, Any]


@dataclass(frozen=True)
class Done:
    """What became of one seed; 0 steps when there was no plan."""

    seed: int
    steps: int


def plan(maze: Maze, kind: Kind, seed: int) -> np.ndarray:
    """Return the plan (N + 1, 2) of a seed [m]."""
    start, goal = start_and_goal(maze, seed)
    if kind == "rrt":
        return rrt.plan(maze, start, goal, np.random.default_rng([seed, 1]))
    from sim.maze import gcs  # needs Drake

    return gcs.plan(maze, start, goal)


def episode(maze: Maze, kind: Kind, seed: int, commit: str) -> Episode:
    """Turn the plan of a seed into a demonstration that ends by holding the goal for `HOLD_STEPS`."""
    path = plan(maze, kind, seed)
    state = np.concatenate([path, np.repeat(path[-1:], HOLD_STEPS, axis=0)])
    arrays = {
        "state": state,
        "action": np.concatenate([state[1:], state[-1:]]),
        "valid": np.ones(len(state), bool),
        "goal": np.repeat(path[-1:], len(state), axis=0),
    }
    meta = EpisodeMeta(
        commit=commit,
        task="maze",
        source=SOURCES[kind],
        scenario=scenario(maze),
        seed=seed,
        operator=kind,
        outcome="success",
        period_s=PERIOD_S,
        steps=len(state),
        cameras={},
    )
    return Episode(meta, arrays)


def scenario(maze: Maze) -> dict[str, Any]:
    """Return what an episode says of its world."""
    return {**asdict(maze), "plan_clearance_m": PLAN_CLEARANCE_M, "hold_steps": HOLD_STEPS}


_job_of: Callable[[int], Done]


def _setup(out: Path, kind: Kind, commit: str) -> None:
    global _job_of  # what a worker needs for all its seeds
    maze = Maze()
    if kind == "gcs":
        import sim.maze.gcs  # noqa: F401  Drake sets its logger's level when it is imported

        logging.getLogger("drake").setLevel(logging.WARNING)  # three lines a plan otherwise

    def job(seed: int) -> Done:
        try:
            made = episode(maze, kind, seed, commit)
        except MazeError as error:
            note = out / f"{_name(seed)}.failed.json"
            beside = note.with_suffix(".partial")
            beside.write_text(json.dumps({"seed": seed, "error": str(error)}) + "\n")
            beside.replace(note)
            return Done(seed, 0)
        write_episode(out, _name(seed), made)
        return Done(seed, made.meta.steps)

    _job_of = job


def _job(seed: int) -> Done:
    return _job_of(seed)


def _name(seed: int) -> str:
    return f"ep{seed:06d}"


def _check_recipe(out: Path, recipe: Recipe) -> None:
    """Write the recipe, or refuse to mix two in one folder. The commit may differ: code moves on."""
    file = out / "collect.json"
    if not file.exists():
        beside = file.with_suffix(".partial")
        beside.write_text(recipe.model_dump_json(indent=1) + "\n")
        beside.replace(file)
        return
    old, new = json.loads(file.read_text()), json.loads(recipe.model_dump_json())
    if changed := [key for key in new if key != "commit" and old.get(key) != new[key]]:
        raise ConfigError(
            f"{out} holds plans of another recipe: {', '.join(changed)} differ from {file}; "
            "choose another folder, or the same arguments to go on"
        )


def collect(args: Args, console: Console) -> list[Done]:
    """Run what is missing of the seeds asked for and return what became of them."""
    if args.episodes < 1 or args.processes < 1 or args.first_seed < 0:
        raise ConfigError(
            f"--episodes {args.episodes} and --processes {args.processes} must be 1 or more, "
            f"--first-seed {args.first_seed} 0 or more"
        )
    recipe = Recipe(commit=commit(), kind=args.kind, scenario=scenario(Maze()))
    args.out.mkdir(parents=True, exist_ok=True)
    _check_recipe(args.out, recipe)
    seeds = range(args.first_seed, args.first_seed + args.episodes)
    there = {entry.name.removesuffix(".failed.json") for entry in args.out.iterdir()}
    missing = [seed for seed in seeds if _name(seed) not in there]
    if len(missing) < len(seeds):
        console.print(
            f"{len(seeds) - len(missing)} of {len(seeds)} seeds are done already; going on with the rest"
        )
    jobs = run_jobs(
        _job,
        missing,
        setup=_setup,
        setup_args=(args.out, args.kind, recipe.commit),
        processes=args.processes,
    )
    return list(track(jobs, f"{args.kind} plans", len(missing), console=console))


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    args = tyro.cli(Args, args=argv, prog="python -m sim.maze.collect")
    console = Console()
    done = collect(args, console)
    kept = [d for d in done if d.steps]
    console.print(
        f"[bold]{len(kept)}[/] of {len(done)} seeds gave an episode, {sum(d.steps for d in kept)} steps"
    )
    other = "rrt --episodes 5000 --first-seed 100000" if args.kind == "gcs" else "gcs --episodes 50"
    console.print(
        f"Next: the other kind (python -m sim.maze.collect FOLDER --kind {other}), then\n"
        "ambient-policy train benchmarks/maze/maze.yaml --data CLEAN CORRUPT --out runs/NAME"
    )
    return 0


if __name__ == "__main__":
    import sys

    # Spawned workers find the functions of this module by its name, not by __main__'s.
    from sim.maze.collect import main as named_main

    try:
        sys.exit(named_main())
    except AmbientPolicyError as error:
        sys.exit(f"sim.maze.collect: {error}")
