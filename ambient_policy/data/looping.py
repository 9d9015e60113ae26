"""Long loops over episodes: in order, on a few threads, with a bar that tells how long it takes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(function: Callable[[Item], Result], items: Sequence[Item], what: str) -> Iterator[Result]:
    """Yield `function` of every item, in order. Decoders and hashes release the GIL, so threads help.

    Few results wait at a time: a decoded episode is tens of megabytes.
    """
    workers = max(1, min(8, os.cpu_count() or 1))
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    pending: deque[Future[Result]] = deque()
    with (
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
        ThreadPoolExecutor(workers) as pool,
    ):
        task = progress.add_task(what, total=len(items))
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
                    progress.advance(task)
            while pending:
                yield pending.popleft().result()
                progress.advance(task)
        finally:
            for future in pending:
                future.cancel()
