"""One command to the joints of an arm: where they are due, and how they come to rest if no other follows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class JointCommand:
    """Joints due at a time, and an even braking from there: a sender that dies leaves an arm that stops.

    Attributes:
        start_s: time of the tool target that it answers.
        due_s: when the joints are due, after `start_s`.
        positions: (n,) at `due_s` [rad].
        velocities: (n,) at `due_s` [rad/s].
        brake_s: from `due_s` to rest.
    """

    start_s: float
    due_s: float
    positions: Array
    velocities: Array
    brake_s: float

    @property
    def rest(self) -> Array:
        """Positions (n,) [rad] at rest, where the braking ends."""
        return self.positions + self.velocities * (self.brake_s / 2)

    def at(self, time_s: float) -> tuple[Array, Array]:
        """Return positions and velocities (n,) at a time.

        Before `due_s` the velocity is that of `due_s`. A cubic spline from there to `rest`, which is what a
        joint_trajectory_controller makes of the two points, is this very parabola.
        """
        after_s = time_s - self.due_s
        if after_s <= 0:
            return self.positions + after_s * self.velocities, self.velocities
        after_s = min(after_s, self.brake_s)
        way_s = after_s - after_s**2 / (2 * self.brake_s)
        return self.positions + way_s * self.velocities, (1 - after_s / self.brake_s) * self.velocities
