"""The rule of the pushing task: when a trial has succeeded, and how the others ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sim import se2
from sim.scenario import Task
from sim.se2 import Array

OutcomeName = Literal["success", "missed_goal", "timeout", "fell"]


@dataclass(frozen=True)
class Outcome:
    """How a trial went. Times are seconds since its clock started."""

    name: OutcomeName
    success: bool
    """The goal was met at some instant: T, yaw and tool together."""
    held: bool
    """The goal was met without a break for `task.hold_s`."""
    time_to_success_s: float | None
    time_to_held_s: float | None
    duration_s: float
    position_error_m: float
    yaw_error_rad: float

    def trial_fields(self) -> dict[str, Any]:
        """Return the fields of an `ambient_policy.trials.Trial` that the outcome decides."""
        return {
            "outcome": self.name,
            "success": self.success,
            "held": self.held,
            "time_to_success_s": self.time_to_success_s,
            "time_to_held_s": self.time_to_held_s,
            "duration_s": self.duration_s,
            "final_position_error_m": self.position_error_m,
            "final_yaw_error_rad": self.yaw_error_rad,
        }


class OutcomeMonitor:
    """Watches one trial, sample by sample (the reference checks every 10 ms).

    Success is instantaneous: slider within `position_tolerance_m` and `yaw_tolerance_deg` of the goal and
    tool within `home_tolerance_m` of its home. The trial goes on until the goal was also held for `hold_s`,
    or time is up.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._met_since: float | None = None
        self._success_s: float | None = None
        self._held_s: float | None = None
        self._fell = False
        self._time_s = 0.0
        self._errors = (np.inf, np.inf, np.inf)

    def errors(self, slider_pose: Array, tool_xy: Array) -> tuple[float, float, float]:
        """Return distance of the T [m], of its yaw [rad] and of the tool [m] from where they must end."""
        goal = np.asarray(self._task.goal)
        return (
            float(np.hypot(*(slider_pose[:2] - goal[:2]))),
            float(abs(se2.wrap(slider_pose[2] - goal[2]))),
            float(np.hypot(*(np.asarray(tool_xy) - self._task.tool_home))),
        )

    def update(self, time_s: float, slider_pose: Array, slider_height_m: float, tool_xy: Array) -> None:
        """Take one sample; `time_s` counts from the start of the trial's clock."""
        if self.finished:
            return
        self._time_s = time_s
        self._errors = self.errors(slider_pose, tool_xy)
        self._fell = slider_height_m < 0
        tolerances = (
            self._task.position_tolerance_m,
            np.deg2rad(self._task.yaw_tolerance_deg),
            self._task.home_tolerance_m,
        )
        if all(e <= t for e, t in zip(self._errors, tolerances, strict=True)):
            if self._met_since is None:
                self._met_since = time_s
            if self._success_s is None:
                self._success_s = time_s
            if time_s - self._met_since >= self._task.hold_s - 1e-9:
                self._held_s = time_s
        else:
            self._met_since = None

    @property
    def finished(self) -> bool:
        """Whether nothing that follows can change the outcome."""
        return self._held_s is not None or self._fell or self._time_s >= self._task.time_limit_s - 1e-9

    def result(self) -> Outcome:
        """Return the outcome as it stands."""
        position, yaw, _ = self._errors
        near = position <= 2 * self._task.position_tolerance_m and yaw <= 2 * np.deg2rad(
            self._task.yaw_tolerance_deg
        )
        name: OutcomeName = "timeout"
        if self._success_s is not None:
            name = "success"
        elif self._fell:
            name = "fell"
        elif near:
            name = "missed_goal"
        return Outcome(
            name=name,
            success=self._success_s is not None,
            held=self._held_s is not None,
            time_to_success_s=self._success_s,
            time_to_held_s=self._held_s,
            duration_s=self._time_s,
            position_error_m=position,
            yaw_error_rad=yaw,
        )
