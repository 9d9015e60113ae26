"""Numbers of one job: what the trainer logged and what the evaluate commands wrote."""

from __future__ import annotations

import difflib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from ambient_policy.config import StrictModel
from ambient_policy.documents import read_document
from training.errors import TrainingError

Metric = Annotated[float, pydantic.Field(allow_inf_nan=False)]


class JobResult(StrictModel):
    """result.json: numbers of one finished job."""

    schema_name: Literal["ambient_policy.sweep_result"] = "ambient_policy.sweep_result"
    version: Literal[1] = 1
    commit: str
    arm: str
    seed: int
    settings_hash: str
    metrics: dict[str, Metric | None]
    """Last validation of the trainer (`val/...`) and what the evaluate commands wrote; None: not measured."""
    trials: dict[str, tuple[Literal[0, 1], ...]]
    """Outcome of every trial, in the order of the starts."""
    train_s_per_step: float | None
    """In the fastest stretch of the policy phase."""
    wall_s: dict[str, float]
    """Of each command, its last start only: `train`, `evaluate0`, ..."""


def read_result(folder: Path) -> JobResult:
    """Read the result of a finished job."""
    return read_document(folder / "result.json", JobResult, "ambient_policy.sweep_result", 1, TrainingError)


def write_text(file: Path, text: str) -> None:
    """Write a file whole or not at all."""
    beside = file.with_name(f".{file.name}.partial-{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    beside.replace(file)


def read_evaluation(file: Path) -> tuple[dict[str, float | None], dict[str, tuple[int, ...]]]:
    """Read what an evaluate command wrote.

    Returns: metrics by name, None where the command wrote null or NaN; trials by name, each 0 or 1. Trials
        also count as a metric of their name, their mean.
    """

    def refuse(why: str) -> TrainingError:
        return TrainingError(
            f"{file} {why}; an evaluate command writes to {{out}} a flat JSON object of numbers, or "
            '{"metrics": {name: number}, "trials": {name: [0 or 1, ...]}} with any further keys'
        )

    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise refuse("was not written") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise refuse(f"cannot be read ({error})") from error
    if not isinstance(data, dict):
        raise refuse(f"holds a {type(data).__name__}")
    nested = any(isinstance(data.get(key), dict) for key in ("metrics", "trials"))
    for key in set(data) - {"metrics", "trials"} if nested else ():  # others say where the file is from
        if close := difflib.get_close_matches(key, ("metrics", "trials"), cutoff=0.7):
            raise refuse(f"has the key {key!r}, which looks like `{close[0]}`")
    given = data.get("metrics", {}) if nested else data
    outcomes = data.get("trials", {}) if nested else {}
    if not isinstance(given, Mapping) or not isinstance(outcomes, Mapping):
        raise refuse("has `metrics` or `trials` that are no objects")
    metrics = {}
    for name, value in given.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise refuse(f"gives {name} the value {value!r}")
        if value is not None and math.isinf(value):
            raise refuse(f"gives {name} an infinite value (write null for what was not measured)")
        metrics[name] = None if value is None or math.isnan(value) else float(value)
    trials = {}
    for name, values in outcomes.items():
        if not isinstance(values, list) or not values or any(v not in (0, 1) for v in values):
            raise refuse(f"has trials {name!r} that are not a list of 0 and 1")
        trials[name] = tuple(int(v) for v in values)
        mean = sum(trials[name]) / len(values)
        if (said := metrics.get(name)) is not None and abs(said - mean) > 1e-6:
            raise refuse(f"gives {name} as {said} and trials whose mean is {mean}")
        metrics[name] = mean
    return metrics, trials


def collect_metrics(
    folder: Path, evaluations: list[Path]
) -> tuple[dict[str, float | None], dict[str, tuple[int, ...]]]:
    """Join the trainer's last validation and all evaluations; a name given twice is an error."""
    metrics: dict[str, float | None] = {}
    for line in _log_lines(folder):
        metrics |= {
            key: value if math.isfinite(value) else None
            for key, value in line.items()
            if key.startswith("val/") and isinstance(value, int | float)
        }
    trials: dict[str, tuple[int, ...]] = {}
    for file in evaluations:
        found, outcomes = read_evaluation(file)
        if twice := sorted(found.keys() & metrics.keys()):
            raise TrainingError(f"{file} gives {twice[0]}, which is there already; rename it in one command")
        metrics |= found
        trials |= outcomes
    return metrics, trials


def s_per_step(folder: Path) -> float | None:
    """Give the trainer's seconds a step in the fastest stretch between two log lines of the policy phase.

    The fastest, because other work on the machine only ever slows a stretch: medians of jobs of equal cost
    differed by a factor of two while the load of the machine changed.
    """
    times = [
        1 / line["it_per_s"]
        for line in _log_lines(folder)
        if line.get("phase") == "policy" and line.get("it_per_s")
    ]
    return min(times, default=None)


def _log_lines(folder: Path) -> list[dict[str, Any]]:
    file = folder / "metrics.jsonl"
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
