"""Gaps by name and level, laid over a scenario; `ambient-policy gaps` lists them.

Levels count from 1. The order in which gaps are named does not matter: they are laid on in the table's order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import tyro
from rich.console import Console
from rich.table import Table

from ambient_policy.config import merge, nearest, parse
from ambient_policy.errors import ConfigError
from sim.gap_knobs import COMBINATIONS, GAPS
from sim.scenario import Scenario


def parse_gaps(wanted: Sequence[str] | Mapping[str, int], where: str = "--gap") -> dict[str, int]:
    """Read gaps as written by a user.

    Args:
        wanted: "name=level" or "name" (level 1) each, or a mapping of name to level.
        where: their origin, for the error.

    Raises:
        ConfigError: no such gap or level; names the nearest one, or the levels there are.
    """
    if isinstance(wanted, str) or not isinstance(wanted, Sequence | Mapping):
        raise ConfigError(f"{where}: gaps are {wanted!r}, need `name: level` lines or a list of `name=level`")
    pairs = wanted.items() if isinstance(wanted, Mapping) else [_split(str(text), where) for text in wanted]
    gaps: dict[str, int] = {}
    for name, level in pairs:
        _check(name, level, where)
        gaps[name] = int(level)
    return gaps


def _split(text: str, where: str) -> tuple[str, int]:
    name, _, level = text.partition("=")
    try:
        return name, int(level or 1)
    except ValueError:
        raise ConfigError(f"{where} {text}: level {level!r} is no whole number; write `{name}=1`") from None


def _check(name: str, level: object, where: str) -> None:
    if name not in GAPS and name not in COMBINATIONS:
        raise ConfigError(f"{where}: unknown gap {name!r}; {nearest(str(name), [*GAPS, *COMBINATIONS])}")
    texts = [f"{i} ({entry.text})" for i, entry in enumerate(GAPS[name].levels, 1)] if name in GAPS else ["1"]
    if not isinstance(level, int) or isinstance(level, bool) or not 1 <= level <= len(texts):
        raise ConfigError(f"{where}: gap {name} has no level {level!r}; its levels are {', '.join(texts)}")


def expand(gaps: Mapping[str, int]) -> dict[str, int]:
    """Replace combinations by their gaps, in the table's order; a gap named by itself counts more."""
    chosen: dict[str, int] = {}
    for name in gaps:
        if name in COMBINATIONS:
            chosen |= COMBINATIONS[name][1]
    chosen |= {name: level for name, level in gaps.items() if name in GAPS}
    return {name: chosen[name] for name in GAPS if name in chosen}


def apply_gaps(scenario: Scenario, gaps: Mapping[str, int]) -> Scenario:
    """Lay gaps over a scenario. The result says so in its name and in `applied_gaps`.

    Raises:
        ConfigError: this scenario cannot have such a gap (its values would not fit each other).
    """
    for name, level in expand(gaps).items():
        gap = GAPS[name]
        data = merge(scenario.model_dump(), gap.levels[level - 1].overlay(scenario))
        data["applied_gaps"] = {**scenario.applied_gaps, name: level}
        scenario = parse(data, Scenario, f"scenario {scenario.name} with gap {name}={level}")
    if gaps:
        suffix = "".join(
            f"+{name}" if name in COMBINATIONS else f"+{name}={level}" for name, level in gaps.items()
        )
        scenario = scenario.model_copy(update={"name": scenario.name + suffix})
    return scenario


@dataclass(frozen=True)
class GapsArgs:
    """List the gaps that a scenario can be given, as in `--gap camera_orbit=2 --gap friction`."""


def tables() -> list[Table]:
    """Lay out every gap with its levels, and the combinations."""
    knobs = Table(title="gaps: --gap NAME=LEVEL, or `gaps: {NAME: LEVEL}` in a scenario", show_lines=True)
    for column in ("kind", "name", "what it is", "levels", "magnitudes from"):
        knobs.add_column(column)
    for name, gap in GAPS.items():
        levels = "\n".join(f"{i}  {level.text}" for i, level in enumerate(gap.levels, 1))
        knobs.add_row(gap.kind, f"[bold]{name}[/]", gap.about, levels, gap.source)
    both = Table(title="combinations: --gap NAME", show_lines=True)
    for column in ("name", "what it is", "gaps"):
        both.add_column(column)
    for name, (about, gaps) in COMBINATIONS.items():
        both.add_row(f"[bold]{name}[/]", about, ", ".join(f"{gap}={level}" for gap, level in gaps.items()))
    return [knobs, both]


def main(argv: list[str]) -> int:
    """Run the command."""
    tyro.cli(GapsArgs, args=argv, prog="ambient-policy gaps")
    console = Console()
    for table in tables():
        console.print(table)
    console.print(
        "Next: ambient-policy collect -o data/orbit --gap camera_orbit=2   (pictures: docs/gaps.md)"
    )
    return 0
