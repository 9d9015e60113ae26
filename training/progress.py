"""Progress for people on a terminal, plain log lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Item = TypeVar("Item")
console = Console(highlight=False)


def bar() -> Progress:
    """Make a progress bar with counts, rate-based time left and a free text field."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        transient=True,
    )


def track(items: Iterable[Item], what: str, total: int, done: int = 0) -> Iterator[Item]:
    """Yield `items` under a bar on a terminal, or with a line every 20 s in a log."""
    if console.is_terminal:
        with bar() as progress:
            task = progress.add_task(what, total=total, completed=done, note="")
            for item in items:
                yield item
                progress.advance(task)
        return
    last = time.monotonic()
    for count, item in enumerate(items, start=done + 1):
        yield item
        if time.monotonic() - last > 20 or count == total:
            last = time.monotonic()
            console.print(f"{what}: {count}/{total}")
