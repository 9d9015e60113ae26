"""Limits on the tool's motion: the last thing that stands between a policy and the robot."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ambient_policy.config import StrictModel

Array = NDArray[np.float64]


class MotionLimits(StrictModel):
    """A box and a speed in the world frame."""

    workspace_min: tuple[float, ...]
    """Lowest corner [m]."""
    workspace_max: tuple[float, ...]
    """Highest corner [m]."""
    max_speed_m_s: float = Field(gt=0)

    @model_validator(mode="after")
    def _is_a_box(self) -> MotionLimits:
        low, high = self.workspace_min, self.workspace_max
        if len(low) != len(high) or any(a >= b for a, b in zip(low, high, strict=False)):
            raise ValueError(f"workspace_min {low} must be below workspace_max {high} along every axis")
        return self

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
