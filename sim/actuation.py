"""How late a command reaches the tool's controller."""

from __future__ import annotations

from collections import deque

import numpy as np
from pydantic import Field

from ambient_policy.config import StrictModel
from sim.se2 import Array


class Actuation(StrictModel):
    """What lies between a target and the controller that tracks it."""

    lag_s: float = Field(default=0.0, ge=0)
    """A setpoint is carried out this much later; a whole number of control periods."""


class DelayLine:
    """Gives every setpoint back a fixed number of control periods after it was put in.

    Args:
        periods: 0 hands each one straight through.
    """

    def __init__(self, periods: int) -> None:
        self._periods = periods
        self._waiting: deque[Array] = deque()

    def reset(self, position_xy: Array) -> None:
        """Forget what was on its way; the line is full of standing at `position_xy` (2,) [m]."""
        rest = np.r_[np.asarray(position_xy, dtype=float), 0.0, 0.0]
        self._waiting = deque([rest] * self._periods)

    def step(self, setpoint: Array) -> Array:
        """Put in this period's setpoint, (4,) position [m] and velocity [m/s]; return the one now due."""
        self._waiting.append(setpoint)
        return self._waiting.popleft()
