"""What can be wrong with a dataset. The code names the kind, so that `repair` and scripts can act on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

Level = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        level: an error makes the data unusable or wrong; a warning may be meant.
        where: the episode's name, or the file's.
    """

    level: Level
    code: str
    where: str
    what: str
    remedy: str


def table(findings: Iterable[Finding], most: int = 200) -> Table:
    """Lay findings out for a terminal, errors first."""
    ordered = sorted(findings, key=lambda f: (f.level, f.code, f.where))
    out = Table(box=None, title_justify="left", pad_edge=False)
    for name in ("", "where", "what", "remedy"):
        out.add_column(name, overflow="fold")
    for finding in ordered[:most]:
        style = "bold red" if finding.level == "error" else "yellow"
        cells = (finding.where, f"{finding.what} [{finding.code}]", finding.remedy)
        out.add_row(Text(finding.level, style), *map(Text, cells))
    if len(ordered) > most:
        out.add_row("", "", Text(f"and {len(ordered) - most} more; --json FILE has them all"), "")
    return out


def show(findings: list[Finding], console: Console) -> None:
    """Print findings, if there are any."""
    if findings:
        console.print(table(findings))
