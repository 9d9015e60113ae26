"""Limits on the tool's motion: the last thing that stands between a policy and the robot."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ambient_policy.config import StrictModel

Array = NDArray[np.float64]


class MotionLimits(StrictModel):
    """A box in the world frame, and how fast motion and its changes may be; each the length of a vector."""

    workspace_min: tuple[float, ...]
    """Lowest corner [m]."""
    workspace_max: tuple[float, ...]
    """Highest corner [m]."""
    max_speed_m_s: float = Field(gt=0)
    """Length of the velocity."""
    max_acceleration_m_s2: float | None = Field(default=None, gt=0)
    """None: any."""
    max_jerk_m_s3: float | None = Field(default=None, gt=0)
    """None: any. Needs a limit of acceleration."""

    @model_validator(mode="after")
    def _is_a_box(self) -> MotionLimits:
        low, high = self.workspace_min, self.workspace_max
        if len(low) != len(high) or any(a >= b for a, b in zip(low, high, strict=False)):
            raise ValueError(f"workspace_min {low} must be below workspace_max {high} along every axis")
        if self.max_jerk_m_s3 is not None and self.max_acceleration_m_s2 is None:
            raise ValueError(f"max_jerk_m_s3 is {self.max_jerk_m_s3}: it needs max_acceleration_m_s2 as well")
        return self

    def windows(self, period_s: float) -> tuple[int, int]:
        """Return the windows of a `Smoother` with which no motion passes the limits, in periods."""
        speed, acceleration, jerk = self.max_speed_m_s, self.max_acceleration_m_s2, self.max_jerk_m_s3
        first = 1 if acceleration is None else math.ceil(2 * speed / acceleration / period_s - 1e-9)
        second = (
            1
            if acceleration is None or jerk is None
            else math.ceil(2 * acceleration / jerk / period_s - 1e-9)
        )
        return max(first, 1), max(second, 1)

    def limit(self, previous: Array, wanted: Array, dt_s: float) -> tuple[Array, tuple[str, ...]]:
        """Return the nearest allowed position (A,) to `wanted`, and what was limited.

        Args:
            previous: (A,) the position commanded last [m].
            wanted: (A,) [m]; values that are not finite give `previous`.
            dt_s: time between the two.
        """
        if not np.isfinite(wanted).all():
            return previous.copy(), ("not finite",)
        reasons = []
        inside = np.clip(wanted, self.workspace_min, self.workspace_max)
        if np.any(inside != wanted):
            reasons.append("workspace")
        step = inside - previous
        length, longest = float(np.linalg.norm(step)), self.max_speed_m_s * dt_s
        if length > longest:
            reasons.append("speed")
            inside = previous + step * (longest / length)
        return inside, tuple(reasons)
