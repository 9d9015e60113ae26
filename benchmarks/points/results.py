"""Result files: whole or not there; a mean over seeds comes with its interval."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ambient_policy.statistics import mean_interval

Interval = tuple[float, float | None, float | None]
"""Mean, and the ends of its 95 % interval over the seeds; one seed has none."""


def interval(values: list[float]) -> Interval:
    """Give the mean over seeds with Student's interval."""
    found = mean_interval(values)
    return (found.mean, found.low, found.high) if len(values) > 1 else (found.mean, None, None)


def write_json(file: Path, document: dict[str, Any]) -> None:
    """Write a document; numbers keep six digits, more than seeds agree on."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps(_short(document), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    beside.replace(file)


def once(file: Path, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Read what was computed before, or compute it and keep it; remove the file to have it done again."""
    if not file.is_file():
        write_json(file, compute())
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _short(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_short(inner) for inner in value]
    return value
