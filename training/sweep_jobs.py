"""One job of a sweep: train one arm with one seed, judge the run, write its result last.

    RUN/job.json        what the job is; compared when the sweep is started again
    RUN/job.log         output of every command, appended over restarts
    RUN/steps.json      the commands that have finished, so that a restart goes on after them
    RUN/evaluate0.json  what the first evaluate command wrote, and so on
    RUN/result.json     JobResult, written last: the job is done

RUN is also the run folder of the trainer, which goes on from its newest checkpoint. A job runs anywhere that
sees the same files: it may be killed at any time and started again, on this machine or another.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from ambient_policy import provenance
from ambient_policy.config import StrictModel, read_yaml
from ambient_policy.documents import read_document
from ambient_policy.errors import AmbientPolicyError
from training.errors import TrainingError
from training.sweep_result import JobResult, collect_metrics, read_evaluation, s_per_step, write_text

GUARD = Path(__file__).with_name("sweep_guard.py")
MARKER = "sweep.json"
_GRACE_S = 60.0
_LOCK_WAIT_S = 90.0
_POLL_S = 0.2
_TAIL = 12


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one job does; plain values, so that it can travel to another machine.

    Attributes:
        folder: absolute; the run folder.
        train: argv of the trainer;  evaluate: argv of each command, and the JSON file it writes, if any.
        settings: flat `key` -> value, everything that decides the result.
        directory: where relative paths count from.
    """

    arm: str
    seed: int
    folder: Path
    train: tuple[str, ...]
    evaluate: tuple[tuple[tuple[str, ...], Path | None], ...]
    settings: dict[str, Any]
    settings_hash: str
    threads: int
    directory: Path

    @property
    def name(self) -> str:
        """Name the job for people."""
        return f"{self.arm} seed {self.seed}"


class JobRecord(StrictModel):
    """job.json: what a run folder was started for."""

    schema_name: Literal["ambient_policy.sweep_job"] = "ambient_policy.sweep_job"
    version: Literal[1] = 1
    arm: str
    seed: int
    settings_hash: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class JobOutcome:
    """How a job ended, for the one who waits for it."""

    status: Literal["finished", "failed", "stopped"]
    message: str = ""
    wall_s: float = 0.0


class _Failed(Exception):
    """A command of the job failed; the text is for the user."""


class _Stopped(Exception):
    """The sweep is being stopped."""


def run_job(job: Job, stop: Callable[[], bool]) -> JobOutcome:
    """Run a job to its end. Every failure is an outcome, so one job cannot take the others down."""
    started = time.monotonic()
    try:
        _run(job, stop)
    except _Stopped:
        return JobOutcome("stopped", wall_s=time.monotonic() - started)
    except (_Failed, AmbientPolicyError, OSError) as error:
        return JobOutcome("failed", str(error), time.monotonic() - started)
    return JobOutcome("finished", wall_s=time.monotonic() - started)


def _run(job: Job, stop: Callable[[], bool]) -> None:
    if not (job.folder.parents[1] / MARKER).is_file() or not job.directory.is_dir():
        raise _Failed(
            f"{job.folder.parents[1]} and {job.directory} are not both visible on {os.uname().nodename}; "
            "a sweep needs a file system that all its machines share under the same paths"
        )
    job.folder.mkdir(parents=True, exist_ok=True)
    with (
        _locked(job.folder / ".lock", _LOCK_WAIT_S, stop) as lock,
        (job.folder / "job.log").open("ab") as log,
    ):
        record = JobRecord(arm=job.arm, seed=job.seed, settings_hash=job.settings_hash, settings=job.settings)
        write_text(job.folder / "job.json", record.model_dump_json(indent=1) + "\n")
        done = _finished_steps(job)
        commands: list[tuple[str, tuple[str, ...], Path | None]] = [("train", job.train, None)]
        commands += [(f"evaluate{i}", argv, out) for i, (argv, out) in enumerate(job.evaluate)]
        for index, (name, argv, out) in enumerate(commands):
            if index < len(done):
                continue
            if out is not None:
                out.unlink(missing_ok=True)
            began = time.monotonic()
            _command(name, argv, job, log, lock, stop)
            if name == "train":
                _check_trained(job.folder)
            elif out is not None:
                read_evaluation(out)
            done.append({"name": name, "argv": list(argv), "wall_s": round(time.monotonic() - began, 3)})
            write_text(job.folder / "steps.json", json.dumps(done, indent=1) + "\n")
        metrics, trials = collect_metrics(job.folder, [out for _, out in job.evaluate if out])
        result = JobResult(
            commit=provenance.commit(),
            arm=job.arm,
            seed=job.seed,
            settings_hash=job.settings_hash,
            metrics=metrics,
            trials=trials,
            train_s_per_step=s_per_step(job.folder),
            wall_s={step["name"]: step["wall_s"] for step in done},
        )
        write_text(job.folder / "result.json", result.model_dump_json() + "\n")


def read_job(folder: Path) -> JobRecord | None:
    """Read what a run folder was started for; None when it was not started."""
    if not (folder / "job.json").is_file():
        return None
    return read_document(folder / "job.json", JobRecord, "ambient_policy.sweep_job", 1, TrainingError)


@contextlib.contextmanager
def _locked(file: Path, wait_s: float, stop: Callable[[], bool]) -> Iterator[int]:
    """Hold the run folder; its commands inherit the lock, so one that outlived its sweep is waited for."""
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if stop():
                    raise _Stopped from None
                if time.monotonic() > deadline:
                    raise _Failed(
                        f"another process has been working in {file.parent} for {wait_s:.0f} s; "
                        "let it end, or end it"
                    ) from None
                time.sleep(_POLL_S)
        yield handle
    finally:
        os.close(handle)


def _finished_steps(job: Job) -> list[dict[str, Any]]:
    """Give the commands that a former start finished, up to the first that is not what the job says now."""
    file = job.folder / "steps.json"
    steps = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    wanted = [list(job.train), *(list(argv) for argv, _ in job.evaluate)]
    done = []
    for step, argv in zip(steps, wanted, strict=False):
        if step["name"] != "train" and step["argv"] != argv:
            break
        done.append(step)
    return done


def _command(
    name: str, argv: tuple[str, ...], job: Job, log: IO[bytes], lock: int, stop: Callable[[], bool]
) -> None:
    log.write(f"\n$ {shlex.join(argv)}\n".encode())
    log.flush()
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(GUARD), str(_GRACE_S), *argv],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=subprocess.STDOUT,
        cwd=job.directory,
        env=_environment(job.threads),
        pass_fds=(lock,),
        start_new_session=True,  # Ctrl-C reaches the sweep, which stops its jobs in order
    )
    try:
        while True:
            if stop():
                raise _Stopped
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = process.wait(_POLL_S)
                break
    finally:
        assert process.stdin is not None
        process.stdin.close()  # the guard then stops the command
        try:
            process.wait(_GRACE_S + 10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if stop():
        raise _Stopped
    if status != 0:
        how = f"was ended by signal {status - 128}" if status > 128 else f"ended with status {status}"
        raise _Failed(f"{name} {how}; {_tail(job.folder / 'job.log')}")


def _environment(threads: int) -> dict[str, str]:
    own = str(Path(sys.executable).parent)  # so that `python` and `ambient-policy` are those of the sweep
    limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    path = os.pathsep.join(filter(None, (own, os.environ.get("PATH"))))
    return {**os.environ, **limits, "PATH": path, "PYTHONUNBUFFERED": "1"}


def _tail(log: Path) -> str:
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 20_000))
        lines = stream.read().decode("utf-8", "replace").splitlines()
    kept = [line for line in lines if line.strip()][-_TAIL:]
    return "\n".join([f"the last lines of {log}:", *(f"  {line}" for line in kept)])


def _check_trained(folder: Path) -> None:
    """Raise unless the trainer reached its last step: told to stop, it ends early and with status 0.

    Reads the files themselves: the trainer's own modules would load torch, for seconds and 300 MB.
    """
    config = read_yaml(folder / "config.yaml")
    fine = config.get("finetune", {}).get("steps", 0)
    wanted = ("finetune", fine) if fine else ("policy", config["optim"]["steps"])
    states = [json.loads(file.read_text()) for file in (folder / "checkpoints").glob("[!.]*/state.json")]
    reached = [(state["phase"], state["step"]) for state in states]
    if wanted not in reached:
        listed = ", ".join(f"{phase} {step}" for phase, step in sorted(reached)) or "none"
        raise _Failed(
            f"training ended before {wanted[0]} step {wanted[1]} (checkpoints: {listed}), as if it was told "
            f"to stop; the same sweep goes on from there; {_tail(folder / 'job.log')}"
        )
