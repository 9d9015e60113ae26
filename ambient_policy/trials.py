"""Trials on disk: one line of JSON each, only ever appended."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Literal

from pydantic import Field

from ambient_policy.config import StrictModel, parse
from ambient_policy.errors import ConfigError, TrialError


class Trial(StrictModel):
    """One attempt at the task by one policy."""

    schema_name: Literal["ambient_policy.trial"] = "ambient_policy.trial"
    version: Literal[1] = 1
    policy: str
    bundle_commit: str
    scenario: str
    seed: int
    runner: Literal["direct", "ros-lockstep", "ros-realtime"]
    outcome: Literal["success", "missed_goal", "timeout", "fell", "aborted"]
    success: bool
    """The goal was met at some instant."""
    held: bool
    """The goal was kept for the task's hold time."""
    time_to_success_s: float | None = None
    time_to_held_s: float | None = None
    duration_s: float
    final_position_error_m: float
    final_yaw_error_rad: float
    holds: dict[str, int] = Field(default_factory=dict)
    """Reason of a hold to the number of control ticks it lasted."""
    limited_ticks: int = 0
    """Control ticks at which the motion limits changed the target."""
    chunks: int = 0
    settings: str = "{}"
    """How the policy was run where that was not as usual: JSON of the runner's own settings."""
    video: str | None = None
    commit: str
    wall_s: float


def append_trial(path: str | Path, trial: Trial) -> None:
    """Add one line and put it on the disk before returning: a crash loses at most the running trial."""
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(trial.model_dump_json() + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_trials(path: str | Path) -> list[Trial]:
    """Read every trial of a file. A last line without its end, as a power cut leaves it, is left out.

    Raises:
        TrialError: no such file, or a line that is not a trial (named by its number).
    """
    path = Path(path)
    if not path.is_file():
        raise TrialError(
            f"no trials at {path}; run `ambient-policy evaluate` or `ambient-policy launch` first"
        )
    text = path.read_text(encoding="utf-8")
    trials = []
    for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), start=1):
        try:
            trials.append(parse(json.loads(line), Trial, f"{path}, line {number}"))
        except (json.JSONDecodeError, ConfigError) as error:
            raise TrialError(f"{path}, line {number} is not a trial: {error}; remove that line") from error
    return trials
