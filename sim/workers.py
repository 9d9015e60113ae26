"""Jobs by seed, on processes of this machine or on a Ray cluster; a worker builds its station once.

A job is a function of its seed alone, so it may start again on another worker and give the same result. That
happens when a worker dies: other jobs go on, and what had been finished is not touched.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ambient_policy import executors
from ambient_policy.errors import AmbientPolicyError, ConfigError
from ambient_policy.executors import ExecutorName, Finished, RaySettings, Stop

Result = TypeVar("Result")

RETRIES = 3
"""How often a job starts again after its worker has died. An exception is not retried."""
_POLL_S = 0.2

# Renderers and BLAS would each start a thread per core and fight the other processes for it. With 0 the
# software renderer draws in the thread that asks, with 1 in a second one: 15 % more CPU time per image, and
# up to twice the wall time where all cores are busy. The pixels are the same.
THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "LP_NUM_THREADS": "0"}


class WorkerError(AmbientPolicyError):
    """A job ended its worker every time."""


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Who runs the jobs."""

    executor: ExecutorName = "local"
    """local: processes of this machine; ray: a Ray cluster, whose machines share the file system."""
    processes: int | None = None
    """Jobs at a time, under Ray over all machines together. None: one for each core."""
    ray_address: str = "auto"
    """auto: the cluster that runs here; local: start one of this machine alone; or HOST:PORT."""

    def __post_init__(self) -> None:
        if self.processes is not None and self.processes < 1:
            raise ConfigError(f"--processes is {self.processes}, needs 1 or more")


_ready = ""


@dataclass(frozen=True)
class _Task(Generic[Result]):
    """What a worker is sent for every seed."""

    job: Callable[[int], Result]
    setup: Callable[..., None]
    args: tuple[Any, ...]
    run: str = field(default_factory=secrets.token_hex)

    def __call__(self, seed: int, stop: Stop | None = None) -> Result:
        global _ready  # the run that this worker is set up for
        if _ready != self.run:
            # A Ray worker was not started by us; what reads these, reads them late.
            for name, count in THREADS.items():
                os.environ.setdefault(name, count)
            self.setup(*self.args)
            _ready = self.run
        return self.job(seed)


def finished_jobs(
    job: Callable[[int], Result],
    seeds: Iterable[int],
    *,
    setup: Callable[..., None],
    setup_args: tuple[Any, ...],
    workers: Workers,
) -> Generator[Finished[int, Result], None, None]:
    """Yield how `job(seed)` ended for every seed, with a result or an error, in the order in which they end.

    Closing the generator ends running jobs by SystemExit (under Ray KeyboardInterrupt), and waits for that.

    Args:
        job, setup: functions that a worker can import. `setup(*setup_args)` is called in every worker before
            its first job and builds what jobs need. Workers are spawned, not forked: Drake and its renderers
            hold threads.

    Raises:
        ConfigError: before any job, when the workers asked for cannot be had.
    """
    task = _Task(job, setup, setup_args)
    if workers.executor == "local":
        return _run_local(task, list(seeds), workers.processes)
    return executors.run_jobs(
        task,
        seeds,
        executor=workers.executor,
        workers=workers.processes,
        ray=RaySettings(address=workers.ray_address, retries=RETRIES),
    )


def run_jobs(
    job: Callable[[int], Result],
    seeds: Iterable[int],
    *,
    setup: Callable[..., None],
    setup_args: tuple[Any, ...],
    processes: int,
) -> Iterator[Result]:
    """Yield the results of `finished_jobs` on local processes; the first error ends all and is raised."""
    ended = finished_jobs(
        job, seeds, setup=setup, setup_args=setup_args, workers=Workers(processes=processes)
    )
    with contextlib.closing(ended):
        for end in ended:
            if end.error is not None:
                raise end.error
            yield end.result  # type: ignore[misc]


def _run_local(
    task: _Task[Result], seeds: list[int], processes: int | None
) -> Generator[Finished[int, Result], None, None]:
    for name, count in THREADS.items():  # before a process starts, because BLAS reads them at import
        os.environ.setdefault(name, count)
    owner = _Processes(task)
    jobs = executors.run_jobs(owner, seeds, workers=processes)
    try:
        with contextlib.closing(jobs):
            yield from jobs
    finally:
        owner.close()


class _Processes(Generic[Result]):
    """Gives every thread of the local executor a process that serves it alone.

    One pool of all processes would break as a whole when one of them dies, and could not say which seed it
    was at.
    """

    def __init__(self, task: _Task[Result]) -> None:
        self._task = task
        self._thread = threading.local()
        self._pools: list[ProcessPoolExecutor] = []

    def __call__(self, seed: int, stop: Stop) -> Result:
        for _ in range(1 + RETRIES):
            try:
                future, interrupted = self._submit(seed), False
                while not wait([future], _POLL_S).done:
                    interrupted = interrupted or (stop() and self._interrupt())
                return future.result()
            except BrokenProcessPool:
                self._thread.pool = None
                if stop():
                    raise
        raise WorkerError(
            f"seed {seed} ended its process {1 + RETRIES} times: killed, out of memory, or crashed in native "
            "code; `dmesg` tells the first two"
        )

    def _submit(self, seed: int) -> Future[Result]:
        if getattr(self._thread, "pool", None) is None:
            pool = ProcessPoolExecutor(
                1, mp_context=multiprocessing.get_context("spawn"), initializer=_start_process
            )
            self._pools.append(pool)
            self._thread.pool, self._thread.pid = pool, pool.submit(os.getpid)
        return self._thread.pool.submit(self._task, seed)

    def _interrupt(self) -> bool:
        """End what the process does, unless it is still starting and would not yet know the signal."""
        if not self._thread.pid.done():
            return False
        with contextlib.suppress(ProcessLookupError, BrokenProcessPool):
            os.kill(self._thread.pid.result(), signal.SIGTERM)
        return True

    def close(self) -> None:
        """End all processes; no job is running any more."""
        for pool in self._pools:
            pool.shutdown(wait=True, cancel_futures=True)


def _start_process() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop, and says so by SIGTERM
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("interrupted"))
    _die_with_parent()


def _die_with_parent() -> None:
    """End this worker when the parent is gone, however it went: a killed parent must not leave workers."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
