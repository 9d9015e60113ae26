"""How far a long run is: a bar for people on a terminal, a line every half minute in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

LINE_S = 30.0


def pace(done: int, left: int, seconds: float) -> str:
    """Say how fast `done` things were done in `seconds`, and how long as many as are `left` will take."""
    left_s = round(seconds * left / max(done, 1))
    hours, minutes = divmod(left_s // 60, 60)
    remaining = f"{hours} h {minutes} min" if hours else f"{minutes} min {left_s % 60} s"
    return f"{60 * done / max(seconds, 1e-9):.1f} a minute, {remaining} left"


@contextmanager
def progress(
    what: str, total: int, console: Console, done: int = 0, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[str], None]]:
    """Show a run while the block lasts; call what it yields, with a short remark, whenever one more is done.

    Args:
        total, done: how many there are, and how many an earlier run has done.
    """
    start, last, before = clock(), clock(), done
    columns = (TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    note = TextColumn("{task.fields[note]}")
    with Progress(*columns, note, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total, completed=done, note="")

        def advance(remark: str = "") -> None:
            nonlocal done, last
            done += 1
            text = ", ".join(filter(None, [pace(done - before, total - done, clock() - start), remark]))
            bar.update(task, completed=done, note=text)
            if not console.is_terminal and (clock() - last >= LINE_S or done == total):
                last = clock()
                console.print(f"{what} {done}/{total}: {text}", markup=False, highlight=False, soft_wrap=True)

        yield advance
