"""Run many independent jobs: on this machine, or as tasks of a Ray cluster.

A job is called as `job(item, stop)`. It should be a thin wrapper around child processes, because the local
executor gives every job a thread, not a process. A long job asks `stop()` a few times a second and returns
when it says True; under Ray a cancelled job gets KeyboardInterrupt instead.

Ray moves only `job`, its item and its result between machines. Files are the job's own affair: what jobs read
and write must lie on a file system that every machine sees under the same path.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from ambient_policy.config import nearest
from ambient_policy.errors import ConfigError

Item = TypeVar("Item")
Result = TypeVar("Result")
Stop = Callable[[], bool]
ExecutorName = Literal["local", "ray"]

INSTALL_RAY = "pip install -c constraints.txt -e '.[ray]'"
_CANCEL_S = 90.0
_PROBE_S = 10.0


@dataclass(frozen=True)
class Finished(Generic[Item, Result]):
    """How one job ended: with a result, or with the error that it raised."""

    item: Item
    result: Result | None
    error: BaseException | None = None


@dataclass(frozen=True, kw_only=True)
class RaySettings:
    """Where Ray runs and what a job takes."""

    address: str = "auto"
    """`auto` joins the cluster that runs here, `local` starts one of this machine, or HOST:PORT."""
    cpus: float = 1.0
    """CPU cores that a job keeps from others."""
    gpus: float = 0.0
    """Share of a GPU that a job keeps from others; with 0 Ray hides the GPUs from it."""
    retries: int = 3
    """How often a job starts again after its worker or machine has died. An exception is not retried."""


def run_jobs(
    job: Callable[[Item, Stop], Result],
    items: Iterable[Item],
    *,
    executor: ExecutorName = "local",
    workers: int | None = 2,
    ray: RaySettings | None = None,
) -> Generator[Finished[Item, Result], None, None]:
    """Yield how the job of every item ended, in the order in which they end.

    A job that raises stops no other. Closing the generator starts no further job, tells the running ones to
    stop and waits for them; so does an interrupt that arrives inside it. One that arrives in the caller's
    loop does not reach it: use `with contextlib.closing(run_jobs(...)) as results`.

    Args:
        workers: most jobs at a time, 1 or more; under Ray over all machines together. None: as many as the
            cores of this machine, or of those that are in the Ray cluster at the start, have room for.

    Raises:
        ConfigError: before any job, when Ray is missing, cannot be reached or has no room for one job.
    """
    if workers is not None and workers < 1:
        raise ConfigError(f"workers is {workers}, needs 1 or more; see --workers")
    todo = list(items)
    if executor == "local":
        return _run_local(job, todo, workers or cores())
    if executor == "ray":
        settings = ray or RaySettings()
        connection = _connect(workers or cores(), settings)
        return _run_ray(connection, job, todo, workers or connection.room(settings), settings)
    raise ConfigError(f"unknown executor {executor!r}; {nearest(executor, ('local', 'ray'))}")


def _run_local(
    job: Callable[[Item, Stop], Result], items: list[Item], workers: int
) -> Generator[Finished[Item, Result], None, None]:
    stop = threading.Event()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="job")
    try:
        futures = {pool.submit(job, item, stop.is_set): item for item in items}
        for future in as_completed(futures):
            error = future.exception()
            yield Finished(futures[future], None if error else future.result(), error)
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def cores() -> int:
    """Count the CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class _Connection:
    ray: Any
    own: bool

    def room(self, settings: RaySettings) -> int:
        """Count the jobs that fit on the cluster at a time."""
        there = self.ray.cluster_resources()
        wanted = {"CPU": settings.cpus, "GPU": settings.gpus}
        fits = [int(there.get(kind, 0) // share) for kind, share in wanted.items() if share > 0]
        return max(1, min(fits, default=cores()))


def _connect(workers: int, settings: RaySettings) -> _Connection:
    if importlib.util.find_spec("ray") is None:
        raise ConfigError(f"executor `ray` needs Ray, which is not installed here; run: {INSTALL_RAY}")
    # Ray reports usage to its makers unless told otherwise.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # The meaning that later releases give to num_gpus=0; without it 2.x prints a page of warning.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
    import ray

    if ray.is_initialized():
        connection = _Connection(ray, own=False)
    else:
        starting: dict[str, Any] = {}
        if settings.address == "local":
            starting = {"num_cpus": max(1, round(workers * settings.cpus)), "include_dashboard": False}
        try:
            _probe(settings.address)
            ray.init(address=settings.address, log_to_driver=False, **starting)
        except (OSError, ValueError, RuntimeError, SystemExit) as error:
            raise ConfigError(
                f"no Ray cluster at address {settings.address!r} ({error}); start one with `ray start "
                "--head` and on other machines `ray start --address HOST:PORT`, or use --ray-address local"
            ) from error
        connection = _Connection(ray, own=True)
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(n.get("CPU", 0) >= settings.cpus and n.get("GPU", 0) >= settings.gpus for n in nodes):
        there = ", ".join(f"{n.get('CPU', 0):g} CPU and {n.get('GPU', 0):g} GPU" for n in nodes)
        if connection.own:
            ray.shutdown()
        raise ConfigError(
            f"no machine of the Ray cluster has {settings.cpus:g} CPU and {settings.gpus:g} GPU for one job "
            f"(machines: {there}); ask for less, or add a machine"
        )
    return connection


def _probe(address: str) -> None:
    """Raise OSError when nothing listens at HOST:PORT: Ray itself tries for five minutes, then exits."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=_PROBE_S).close()


def _run_ray(
    connection: _Connection,
    job: Callable[[Item, Stop], Result],
    items: list[Item],
    workers: int,
    settings: RaySettings,
) -> Generator[Finished[Item, Result], None, None]:
    ray = connection.ray
    task = ray.remote(num_cpus=settings.cpus, num_gpus=settings.gpus, max_retries=settings.retries)(_call)
    queue, running = deque(items), dict[Any, Item]()
    try:
        while queue or running:
            while queue and len(running) < workers:
                item = queue.popleft()
                running[task.remote(job, item)] = item
            (ref,), _ = ray.wait(list(running), num_returns=1)
            item = running.pop(ref)
            try:
                finished = Finished[Item, Result](item, ray.get(ref))
            except ray.exceptions.RayError as error:
                finished = Finished(item, None, getattr(error, "cause", None) or error)
            yield finished
    finally:
        if running:
            for ref in running:
                ray.cancel(ref)
            ray.wait(list(running), num_returns=len(running), timeout=_CANCEL_S)
        if connection.own:
            ray.shutdown()


def _call(job: Callable[[Item, Stop], Result], item: Item) -> Result:
    # A cluster started from a script with `&` ignores SIGINT, and its workers inherit that: Ray's cancelling,
    # which interrupts the main thread, would do nothing.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return job(item, _never)


def _never() -> bool:
    return False
