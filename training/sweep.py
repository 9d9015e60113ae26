"""`ambient-policy sweep`: a plan to trained and evaluated runs, a table and a plot."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from ambient_policy.executors import ExecutorName, RaySettings, run_jobs

if TYPE_CHECKING:
    from training.sweep_jobs import Job, JobOutcome


@dataclass(frozen=True)
class Args:
    """Train and evaluate a grid of arms and seeds. The same command goes on where it stopped."""

    plan: tyro.conf.Positional[Path]
    """A YAML file; docs/sweep.md shows one."""
    out: Path
    """Folder of the sweep: ARM/seedN for every run, summary.{md,json,png}."""
    executor: ExecutorName = "local"
    """ray: as tasks of a Ray cluster, whose machines share the file system."""
    workers: int = 2
    """Jobs at a time."""
    ray_address: str = "auto"
    """auto: the cluster that runs here; local: start one of this machine alone; or HOST:PORT."""
    ray_cpus: float = 1.0
    """CPU cores that Ray keeps for a job."""
    ray_gpus: float = 0.0
    """Share of a GPU that Ray keeps for a job; with 0 its GPUs are hidden from the job."""
    summary_only: bool = False
    """Make the summary of what is finished, and run nothing."""
    reevaluate: bool = False
    """Judge finished runs again where the plan's evaluate commands changed."""


@dataclass(frozen=True)
class SweepOutcome:
    """What became of the jobs."""

    finished: int
    skipped: int
    failed: tuple[tuple[Job, str], ...]


def main(argv: list[str], trainer: tuple[str, ...] | None = None) -> int:
    """Run the command; return its exit code: 0 when every job has finished, 1 when one failed.

    Args:
        trainer: argv of the train command; this project's own by default.
    """
    args = tyro.cli(
        Args,
        args=argv,
        prog="ambient-policy sweep",
        description="Train and evaluate a grid of arms and seeds.",
    )
    from training.progress import console
    from training.sweep_plan import read_plan
    from training.sweep_summary import write_summary

    plan = read_plan(args.plan)
    if args.summary_only:
        write_summary(plan, args.out, console)
        return 0
    try:
        outcome = sweep(
            args.plan,
            args.out,
            executor=args.executor,
            workers=args.workers,
            ray=RaySettings(address=args.ray_address, cpus=args.ray_cpus, gpus=args.ray_gpus),
            reevaluate=args.reevaluate,
            trainer=trainer,
        )
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on from the last checkpoints")
        raise
    if outcome.finished + outcome.skipped:
        write_summary(plan, args.out, console)
    if not outcome.failed:
        console.print(
            f"next: read {args.out / 'summary.md'}; summary.json holds every number", soft_wrap=True
        )
        return 0
    for job, message in outcome.failed:
        console.print(f"[bold red]failed[/] {job.name}: ", end="", soft_wrap=True)
        console.print(message, markup=False, soft_wrap=True)
    console.print(
        f"{len(outcome.failed)} job(s) failed; next: cure the cause and run the same command, which leaves "
        "finished jobs alone",
        soft_wrap=True,
    )
    return 1


def sweep(
    plan_file: Path,
    out: Path,
    *,
    executor: ExecutorName = "local",
    workers: int = 2,
    ray: RaySettings | None = None,
    reevaluate: bool = False,
    trainer: tuple[str, ...] | None = None,
) -> SweepOutcome:
    """Run every job of a plan that has not finished.

    Args:
        trainer: argv of the train command; this project's own by default.

    Raises:
        AmbientPolicyError: before any job, for whatever is wrong with the plan.
    """
    from training.progress import console, track
    from training.sweep_jobs import MARKER, run_job
    from training.sweep_plan import read_plan
    from training.sweep_result import write_text
    from training.sweep_setup import TRAINER, check_unchanged, make_jobs, pack_data

    plan = read_plan(plan_file)
    jobs = make_jobs(plan, out, trainer or TRAINER)
    check_unchanged(jobs, reevaluate)
    out.mkdir(parents=True, exist_ok=True)
    with _alone(out):
        write_text(out / "plan.yaml", plan_file.read_text(encoding="utf-8"))
        write_text(out / MARKER, '{"schema_name": "ambient_policy.sweep", "version": 1}\n')
        todo = [job for job in jobs if not _is_finished(job)]
        skipped = len(jobs) - len(todo)
        if skipped:
            console.print(f"{skipped} of {len(jobs)} jobs have finished already")
        if todo:
            pack_data(plan)
        failed = []
        running = run_jobs(run_job, todo, executor=executor, workers=workers, ray=ray)
        with contextlib.closing(running) as results:
            for ended in track(results, plan.name, len(jobs), skipped):
                status, message = _judge(ended.result, ended.error)
                minutes = ended.result.wall_s / 60 if ended.result else 0.0
                line = f"{ended.item.name} {status} after {minutes:.1f} min"
                console.print(line, markup=False, soft_wrap=True)
                if status != "finished":
                    failed.append((ended.item, message))
    return SweepOutcome(len(todo) - len(failed), skipped, tuple(failed))


def _is_finished(job: Job) -> bool:
    """Say whether a job has a result for what the plan says now; a result of other commands is removed."""
    from training.sweep_result import read_result

    if not (job.folder / "result.json").is_file():
        return False
    if read_result(job.folder).settings_hash == job.settings_hash:
        return True
    (job.folder / "result.json").unlink()  # only reached with --reevaluate
    return False


def _judge(result: JobOutcome | None, error: BaseException | None) -> tuple[str, str]:
    if result is None:
        return "failed", f"{type(error).__name__}: {error}"
    return result.status, result.message or "it was told to stop"


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep a second sweep out of the folder."""
    from training.errors import TrainingError

    handle = os.open(out / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise TrainingError(f"another sweep is running in {out}; wait for it, or use another --out") from None
    finally:
        os.close(handle)


if __name__ == "__main__":
    from ambient_policy.errors import AmbientPolicyError

    try:
        sys.exit(main(sys.argv[1:]))
    except AmbientPolicyError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
