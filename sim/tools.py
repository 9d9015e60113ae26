"""What moves the rod: the seam between the station and a floating pusher or an arm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pydrake.multibody.tree import RigidBody
from pydrake.systems.framework import Context

from sim.se2 import Array


@dataclass(frozen=True)
class JointSample:
    """Measured joints at one instant; radians (an arm) or metres (the floating pusher)."""

    time_s: float
    """Since the last reset."""
    positions: Array
    velocities: Array


class Tool(Protocol):
    """A rod that follows a position in the plane; adds itself to the plant before it is finalised."""

    body: RigidBody
    """The rod; its frame is at the tip, z up along the rod."""
    joint_names: tuple[str, ...]
    updates_per_period: int
    """Commands to the joints in one control period."""
    limited: str
    """Why the last target could not be followed to the millimetre; empty when it could."""

    def place(self, context: Context, xy: Array) -> None:
        """Write a posture with the tip at `xy` (2,) [m], at rest, in the plant's context; stay there."""

    def follow(self, context: Context, xy: Array, velocity: Array) -> None:
        """Command the joints so that the tip is at `xy` (2,) [m] after this update, at `velocity` [m/s]."""

    def xy(self, context: Context) -> Array:
        """Return the measured tip (2,) in the world [m]."""

    def velocity(self, context: Context) -> Array:
        """Return the measured velocity of the tip (2,) in the world [m/s]."""

    def joint_positions(self, context: Context) -> Array:
        """Return the measured joints (n,), in the order of `joint_names`."""

    def joint_velocities(self, context: Context) -> Array:
        """Return the measured joint velocities (n,)."""
