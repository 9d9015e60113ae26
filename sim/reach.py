"""Where the arm can put the rod's tip: a ring round its base."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.cameras import X_TF
from sim.se2 import Array

SHOULDER_HEIGHT_M, UPPER_ARM_M, FOREARM_M, WRIST_TO_FLANGE_M = 0.36, 0.42, 0.40, 0.081
"""Along the stretched arm: base to shoulder, to elbow, to wrist, to the frame of link 7."""
ELBOW_DEG = (15.0, 118.0)
"""Bend of the elbow at the outer and the inner edge of the reach. Straighter than 15 degrees, 0.1 m/s along
the arm would take more than the elbow's 2.2 rad/s; its limit is 120."""


@dataclass(frozen=True)
class Reach:
    """Ring round the base's axis in which the tip can be with the rod upright."""

    inner_m: float
    outer_m: float
    centre: tuple[float, float] = (0.0, 0.0)
    """Where the base's axis is in the world [m]."""

    @classmethod
    def of(cls, tip_height_m: float) -> Reach:
        """Solve the triangle shoulder, elbow, wrist at the two extreme bends of the elbow."""
        wrist_m = tip_height_m + float(X_TF.translation()[2]) + WRIST_TO_FLANGE_M
        rise = wrist_m - SHOULDER_HEIGHT_M
        bends = np.cos(np.deg2rad(ELBOW_DEG))
        outer, inner = np.sqrt(UPPER_ARM_M**2 + FOREARM_M**2 + 2 * UPPER_ARM_M * FOREARM_M * bends)
        return cls(float(np.sqrt(inner**2 - rise**2)), float(np.sqrt(outer**2 - rise**2)))

    def contains(self, xy: Array) -> NDArray[np.bool_]:
        """Return whether each point (..., 2) [m] is in the ring."""
        radius = np.linalg.norm(xy - np.asarray(self.centre), axis=-1)
        return np.asarray((radius >= self.inner_m) & (radius <= self.outer_m))

    def nearest(self, xy: Array) -> Array:
        """Return the point (2,) of the ring closest to `xy` (2,) [m]."""
        centre = np.asarray(self.centre)
        offset = np.asarray(xy, dtype=float) - centre
        radius = float(np.hypot(*offset))
        if radius < 1e-9:
            return centre + [self.inner_m, 0.0]
        return centre + offset * (np.clip(radius, self.inner_m, self.outer_m) / radius)
