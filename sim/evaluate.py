"""`ambient-policy evaluate`: a bundle in the twin without ROS, over seeded starts, in parallel, resumable."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from ambient_policy.bundle import load_bundle
from ambient_policy.errors import ConfigError
from ambient_policy.inference import Policy
from ambient_policy.movie import Movie
from ambient_policy.runtime import RuntimeConfig
from ambient_policy.seams import SeamConfig
from ambient_policy.servo import ServoConfig
from ambient_policy.statistics import success_rate
from ambient_policy.trials import Trial, append_trial, read_trials
from sim.film import FILM, FILM_CAMERA, take_picture
from sim.progress import progress
from sim.rollout import RolloutConfig, run_trial
from sim.scenario import Scenario, load_scenario
from sim.station import Station
from sim.workers import Workers, finished_jobs


@dataclass(frozen=True, kw_only=True)
class EvaluateArgs:
    """Score a bundle in the twin. The same command goes on where it stopped."""

    bundle: tyro.conf.Positional[Path]
    """Folder of the policy bundle."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for trials.jsonl and films."""
    trials: int = 100
    first_seed: int = 100_000
    """Starts are drawn by seed; demonstrations use seeds from 0, so stay well above them."""
    scenario: str = "pushing"
    gap: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """NAME=LEVEL of a gap to lay over the scenario; may be given several times. See `ambient-policy gaps`."""
    film: Literal["none", "failures", "all"] = "none"
    """Which trials leave a film."""
    replan_steps: int | None = None
    """Frames between two plans; by default what the bundle says."""
    servo: ServoConfig = field(default_factory=ServoConfig)
    delay_s: float = 0.0
    """Simulated time that every decision is made to take."""
    seam: SeamConfig = field(default_factory=SeamConfig)
    workers: Annotated[Workers, tyro.conf.arg(name="")] = field(default_factory=Workers)


_scenario: Scenario
_station: Station
_policy: Policy
_args: EvaluateArgs


def _setup(scenario: Scenario, args: EvaluateArgs) -> None:
    global _scenario, _station, _policy, _args  # one policy for the life of the worker
    _scenario, _args = scenario, args
    _policy = Policy(load_bundle(args.bundle), prefix=args.seam.kind == "prefix")
    if scenario.drawn(0, goal=False) is scenario:  # and one station too, where trials do not differ in it
        _station = _make_station(scenario)


def _rollout(args: EvaluateArgs) -> RolloutConfig:
    return RolloutConfig(
        servo=args.servo,
        delay_s=args.delay_s,
        runtime=RuntimeConfig(replan_steps=args.replan_steps, seam=args.seam),
    )


def _make_station(scenario: Scenario) -> Station:
    return Station(scenario, extra_cameras={FILM: FILM_CAMERA} if _args.film != "none" else None)


def _job(seed: int) -> Trial:
    global _station
    drawn = _scenario.drawn(seed, goal=False)
    if drawn is not _scenario:
        _station = _make_station(drawn)
    config = _rollout(_args)
    if _args.film == "none":
        return run_trial(_station, _policy, seed, config)
    path = _args.out / f"trial_{seed}.mp4"
    rate_hz = 1 / _station.scenario.policy_period_s
    with Movie(path, rate_hz) as movie:
        trial = run_trial(
            _station,
            _policy,
            seed,
            config,
            on_frame=lambda: movie.add(take_picture(_station, f"seed {seed}")),
        )
    if _args.film == "failures" and trial.success:
        path.unlink()
        return trial
    return trial.model_copy(update={"video": path.name})


def evaluate(args: EvaluateArgs, console: Console) -> list[Trial]:
    """Run the trials that `out` does not have yet and return all that were asked for.

    Raises:
        ConfigError: `out` holds trials of another policy, in another scenario, or run with other settings.
    """
    manifest = load_bundle(args.bundle).manifest
    scenario = load_scenario(args.scenario, gaps=args.gap)
    settings = _rollout(args).model_dump_json(exclude_defaults=True)
    file = args.out / "trials.jsonl"
    done = {t.seed: t for t in read_trials(file)} if file.is_file() else {}
    for trial in done.values():
        if (trial.policy, trial.bundle_commit) != (manifest.name, manifest.commit):
            raise ConfigError(
                f"{file} has trials of {trial.policy} ({trial.bundle_commit}), this bundle is "
                f"{manifest.name} ({manifest.commit}); choose another --out"
            )
        if trial.scenario != scenario.name:
            raise ConfigError(
                f"{file} has trials in scenario {trial.scenario}, these are in {scenario.name}; "
                "choose another --out"
            )
        if trial.settings != settings:
            raise ConfigError(
                f"{file} has trials run with {trial.settings}, these are with {settings}; choose another "
                "--out"
            )
    args.out.mkdir(parents=True, exist_ok=True)
    shutil.copy(args.bundle / "manifest.json", args.out / "manifest.json")
    seeds = range(args.first_seed, args.first_seed + args.trials)
    missing = [s for s in seeds if s not in done]
    # A Ray worker has a working folder of its own.
    sent = replace(args, bundle=args.bundle.resolve(), out=args.out.resolve())
    jobs = finished_jobs(_job, missing, setup=_setup, setup_args=(scenario, sent), workers=args.workers)
    with (
        contextlib.closing(jobs) as ended,
        progress("trials", len(seeds), console, len(seeds) - len(missing)) as advance,
    ):
        for end in ended:
            if end.error is not None:
                raise end.error
            assert end.result is not None
            append_trial(file, end.result)
            done[end.item] = end.result
            advance(f"{sum(t.success for t in done.values())} of {len(done)} succeeded")
    return [done[s] for s in seeds if s in done]


def summary(trials: list[Trial]) -> Table:
    """Lay out the rates with Wilson 95 % intervals and the times of the successes."""
    table = Table(title=f"{trials[0].policy}: {len(trials)} trials")
    for column in ("score", "rate", "95 % interval", "mean time", "median"):
        table.add_column(column)
    for name, flags, times in (
        ("success at an instant", [t.success for t in trials], [t.time_to_success_s for t in trials]),
        ("held", [t.held for t in trials], [t.time_to_held_s for t in trials]),
    ):
        rate = success_rate(sum(flags), len(flags))
        seconds = [t for t in times if t is not None]
        table.add_row(
            name,
            f"{rate.successes}/{rate.trials} = {rate.fraction:.3f}",
            f"[{rate.low:.3f}, {rate.high:.3f}]".replace("[", r"\["),
            f"{np.mean(seconds):.1f} s" if seconds else "-",
            f"{np.median(seconds):.1f} s" if seconds else "-",
        )
    return table


def main(argv: list[str]) -> int:
    """Run the command."""
    args = tyro.cli(EvaluateArgs, args=argv, prog="ambient-policy evaluate")
    console = Console()
    trials = evaluate(args, console)
    console.print(summary(trials))
    failed = [t for t in trials if not t.success]
    for trial in failed[:10]:
        console.print(
            f"  seed {trial.seed}: {trial.outcome}, T {1e3 * trial.final_position_error_m:.0f} mm and "
            f"{np.degrees(trial.final_yaw_error_rad):.0f} deg off at the end {trial.video or ''}"
        )
    console.print(f"Next: ambient-policy report {args.out}")
    return 0
