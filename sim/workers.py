"""A pool of processes in which each builds its station once and then serves seeds."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, TypeVar

Result = TypeVar("Result")


def _die_with_parent() -> None:
    """End this worker when the parent is gone, however it went: a killed parent must not leave workers."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _start(setup: Callable[..., None], args: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    _die_with_parent()
    setup(*args)


def run_jobs(
    job: Callable[[int], Result],
    seeds: Iterable[int],
    *,
    setup: Callable[..., None],
    setup_args: tuple[Any, ...],
    processes: int,
) -> Iterator[Result]:
    """Yield the result of `job(seed)` for every seed, in the order in which they finish.

    Args:
        setup: called once in every process, before its first job; builds what jobs need.
        processes: 1 or more. The processes are spawned, not forked: Drake and its renderers hold threads.
    """
    # Renderers and BLAS would each start a thread per core and fight the other processes for it.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LP_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        processes, mp_context=context, initializer=_start, initargs=(setup, setup_args)
    )
    try:
        for future in as_completed([pool.submit(job, seed) for seed in seeds]):
            yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
