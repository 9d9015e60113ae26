"""Progress for people on a terminal, plain log lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Item = TypeVar("Item")
console = Console(highlight=False)


class Display:
    """A bar with the newest numbers beside it on a terminal; a line per log elsewhere."""

    def __init__(self, what: str, total: int, progress: Progress | None, task: TaskID | None) -> None:
        self._what, self._total, self._progress, self._task = what, total, progress, task

    def line(self, step: int, text: str, left_s: float) -> None:
        """Show the newest numbers."""
        if self._progress is None or self._task is None:
            console.print(
                f"{self._what} {step}/{self._total}  {text}  {left_s / 60:.1f} min left", soft_wrap=True
            )
        else:
            self._progress.update(self._task, note=text)

    def note(self, step: int, text: str) -> None:
        """Leave a line that stays."""
        console.print(f"{self._what} {step}/{self._total}  {text}", soft_wrap=True)

    def advance(self, step: int) -> None:
        """Move the bar."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=step)


@contextmanager
def display(what: str, total: int, done: int = 0) -> Iterator[Display]:
    """Show a long loop while the block runs."""
    if not console.is_terminal:
        yield Display(what, total, None, None)
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        transient=True,
    ) as progress:
        yield Display(what, total, progress, progress.add_task(what, total=total, completed=done, note=""))


def track(items: Iterable[Item], what: str, total: int, done: int = 0) -> Iterator[Item]:
    """Yield `items` under a bar on a terminal, or with a line every 20 s in a log."""
    last = time.monotonic()
    with display(what, total, done) as show:
        for count, item in enumerate(items, start=done + 1):
            yield item
            show.advance(count)
            if not console.is_terminal and (time.monotonic() - last > 20 or count == total):
                last = time.monotonic()
                console.print(f"{what} {count}/{total}")


class Pace:
    """Steps per second, without the time spent on anything else."""

    def __init__(self, step: int) -> None:
        self._step, self._since = step, time.monotonic()

    def rate(self, step: int) -> float:
        """Give the rate since the last call."""
        now = time.monotonic()
        rate = (step - self._step) / max(now - self._since, 1e-9)
        self._step, self._since = step, now
        return rate

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the block out of the measurement."""
        start = time.monotonic()
        yield
        self._since += time.monotonic() - start
