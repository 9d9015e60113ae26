"""`ambient-policy collect`: a dataset of demonstrations from the twin, by seed, in parallel, resumable."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import traceback
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from ambient_policy.config import parse
from ambient_policy.episodes import Episode, write_episode
from ambient_policy.errors import AmbientPolicyError, ConfigError, EpisodeError
from ambient_policy.provenance import commit
from sim.corruptions import Corruption
from sim.demonstrate import Disturbance, Failure
from sim.expert import StyleName
from sim.pipelines import make_episode
from sim.plan_model import PlanConfig
from sim.progress import progress
from sim.recipe import PipelineName, Recipe
from sim.scenario import load_scenario
from sim.seeds import wanted_seeds
from sim.workers import Workers, finished_jobs

GIVE_UP = 3
"""A run stops when so many seeds have ended in an error and none without."""


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
    shard: str | None = None
    """K/N: only every Nth of these seeds, counted so that shards 1/N to N/N make the whole dataset."""
    scenario: str = "pushing"
    """A shipped scenario, or a YAML file."""
    gap: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """NAME=LEVEL of a gap to lay over the scenario; may be given several times. See `ambient-policy gaps`."""
    pipeline: PipelineName = "operator"
    """Who makes them: the scripted `operator`, closed loop; `replay` of plans without physics; or `execute`,
    the same plans in the physics of the scenario."""
    style: StyleName = "teleop"
    """Of the operator."""
    source: str | None = None
    """Name of the population that these demonstrations belong to. None: "target" for the operator's, "source"
    for plans."""
    disturbance: Disturbance = field(default_factory=Disturbance)
    corruption: Corruption = field(default_factory=Corruption)
    """What is wrong with the demonstrations; kept in each episode as truth."""
    plan: PlanConfig = field(default_factory=PlanConfig)
    """Of `replay` and `execute`."""
    images: bool = True
    """Without, episodes hold no camera images."""
    workers: Annotated[Workers, tyro.conf.arg(name="")] = field(default_factory=Workers)


@dataclass(frozen=True)
class Done:
    """What became of one seed."""

    seed: int
    steps: int
    failure: Failure | None


@dataclass(frozen=True)
class Collected:
    """What a run did: seeds that are done, and seeds that ended in an error and may be tried again."""

    done: list[Done]
    errors: dict[int, BaseException]


_recipe: Recipe
_out: Path


def _setup(recipe: Recipe, out: Path) -> None:
    global _recipe, _out  # `sim.pipelines` keeps one station for the life of the worker
    _seen_here(out)
    _recipe, _out = recipe, out


def _job(seed: int) -> Done:
    return _keep(_out, seed, make_episode(_recipe, seed))


def _keep(out: Path, seed: int, result: Episode | Failure) -> Done:
    """Write what became of a seed, once: a worker may die, or be taken for dead, after it has written."""
    if isinstance(result, Failure):
        note = out / f"{seed:06d}.failed.json"
        beside = note.with_suffix(f".partial-{os.getpid()}")
        beside.write_text(json.dumps(asdict(result)) + "\n")
        beside.replace(note)
        return Done(seed, 0, result)
    try:
        write_episode(out, f"{seed:06d}", result)
    except (EpisodeError, OSError):
        if not _made(out, seed)[0]:
            raise
    return Done(seed, result.meta.steps, None)


def _made(out: Path, seed: int) -> tuple[bool, bool]:
    """Tell whether a seed has left an episode, and whether it has left a note of its failure."""
    return (out / f"{seed:06d}" / "meta.json").is_file(), (out / f"{seed:06d}.failed.json").is_file()


def recipe_of(args: CollectArgs) -> Recipe:
    """Make the recipe that the arguments ask for; ConfigError when they do not go together."""
    wanted = {
        "commit": commit(),
        "pipeline": args.pipeline,
        "style": args.style,
        "source": args.source or ("target" if args.pipeline == "operator" else "source"),
        "disturbance": args.disturbance,
        "corruption": args.corruption,
        "plan": args.plan,
        "images": args.images,
        "scenario": load_scenario(args.scenario, gaps=args.gap),
    }
    return parse(wanted, Recipe, "the arguments of collect")


def _check_recipe(out: Path, recipe: Recipe) -> None:
    """Write the recipe, or refuse to mix two in one folder. The commit may differ: code moves on."""
    file = out / "collect.json"
    if not file.exists():
        beside = file.with_suffix(f".partial-{os.getpid()}")
        beside.write_text(recipe.model_dump_json(indent=1) + "\n")
        beside.replace(file)
        return
    # Through the model: a folder of an earlier release lacks what has had a default since.
    old = json.loads(parse(json.loads(file.read_text()), Recipe, str(file)).model_dump_json())
    new = json.loads(recipe.model_dump_json())
    changed = [key for key in new if key != "commit" and old.get(key) != new[key]]
    if changed:
        raise ConfigError(
            f"{out} holds demonstrations of another recipe: {', '.join(changed)} differ from {file}; "
            "choose another --out, or the same arguments to go on"
        )


def _seen_here(out: Path) -> None:
    """Raise ConfigError on a machine that does not see the folder of the dataset."""
    if not (out / "collect.json").is_file():
        raise ConfigError(
            f"{socket.gethostname()} does not see {out}; with --executor ray the folder of --out must be on "
            "a file system that all machines share; or collect a --shard on each machine and merge them"
        )


def collect(args: CollectArgs, console: Console) -> Collected:
    """Run what is missing of the seeds asked for and return what became of them."""
    seeds = wanted_seeds(args.first_seed, args.episodes, args.shard)
    out = args.out.resolve()  # a Ray worker has a working folder of its own
    recipe = recipe_of(args)
    out.mkdir(parents=True, exist_ok=True)
    _check_recipe(out, recipe)
    missing = [s for s in seeds if not any(_made(out, s))]
    if len(missing) < len(seeds):
        console.print(
            f"{len(seeds) - len(missing)} of {len(seeds)} seeds are done already; going on with the rest"
        )
    done, errors, failed = list[Done](), dict[int, BaseException](), 0
    what = args.style if args.pipeline == "operator" else args.pipeline
    jobs = finished_jobs(_job, missing, setup=_setup, setup_args=(recipe, out), workers=args.workers)
    with (
        contextlib.closing(jobs) as ended,
        progress(f"{what} demos", len(seeds), console, len(seeds) - len(missing)) as advance,
    ):
        for end in ended:
            if end.result is not None:
                done.append(end.result)
                failed += end.result.failure is not None
            else:
                assert end.error is not None
                errors[end.item] = end.error
                if isinstance(end.error, ConfigError) or (not done and len(errors) >= GIVE_UP):
                    raise end.error
            advance(f"{failed} without an episode" if failed else "")
    return Collected(done, errors)


def main(argv: list[str]) -> int:
    """Run the command; return 1 when a seed ended in an error, which a failed demonstration is not."""
    args = tyro.cli(CollectArgs, args=argv, prog="ambient-policy collect")
    console = Console()
    collected = collect(args, console)
    done = collected.done
    failed = Counter(d.failure.outcome for d in done if d.failure)
    kept = [d for d in done if not d.failure]
    if done:
        steps = sum(d.steps for d in kept)
        console.print(
            f"[bold]{len(kept)}[/] of {len(done)} seeds gave an episode, {steps} steps in all; "
            f"failures: {dict(failed) or 'none'}"
        )
    for seed, error in collected.errors.items():
        line = f"seed {seed} ended in an error: {type(error).__name__}: {error}"
        console.print(line, markup=False, soft_wrap=True)
    bugs = [e for e in collected.errors.values() if not isinstance(e, AmbientPolicyError)]
    if bugs:
        traceback.print_exception(bugs[0])
    if collected.errors:
        console.print(f"{len(collected.errors)} seeds are missing; the same command tries them again")
        return 1
    console.print(
        f"Next: ambient-policy inspect {args.out}/{args.first_seed:06d}   or   "
        f"ambient-policy train pushing --data {args.out} --out runs/NAME"
    )
    return 0
