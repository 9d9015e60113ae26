"""The floating pusher: a rod on two prismatic joints, which stands for an arm where none is needed."""

from __future__ import annotations

import numpy as np
from pydrake.multibody.plant import MultibodyPlant
from pydrake.systems.framework import Context

from sim.bodies import add_pusher
from sim.scenario import Scenario
from sim.se2 import Array


class FloatingPusher:
    """A `sim.tools.Tool` whose joints are its x and y [m]."""

    joint_names: tuple[str, ...] = ("tool_x", "tool_y")
    updates_per_period: int = 1
    limited: str = ""

    def __init__(self, plant: MultibodyPlant, scenario: Scenario) -> None:
        self.body = add_pusher(plant, scenario)
        self._plant, self._instance = plant, self.body.model_instance()

    def place(self, context: Context, xy: Array) -> None:
        """Put the tip at `xy` (2,) [m], at rest."""
        self._plant.SetPositions(context, self._instance, xy)
        self._plant.SetVelocities(context, self._instance, np.zeros(2))
        self.follow(context, xy, np.zeros(2))

    def follow(self, context: Context, xy: Array, velocity: Array) -> None:
        """Pull the tip towards `xy` (2,) [m] with spring and damper, at `velocity` [m/s]."""
        port = self._plant.get_desired_state_input_port(self._instance)
        port.FixValue(context, np.concatenate([xy, velocity]))

    def xy(self, context: Context) -> Array:
        """Return the measured tip (2,) [m]."""
        return self.joint_positions(context)

    def velocity(self, context: Context) -> Array:
        """Return the measured velocity of the tip (2,) [m/s]."""
        return self.joint_velocities(context)

    def joint_positions(self, context: Context) -> Array:
        """Return x and y (2,) [m]."""
        return self._plant.GetPositions(context, self._instance).copy()

    def joint_velocities(self, context: Context) -> Array:
        """Return the velocities along x and y (2,) [m/s]."""
        return self._plant.GetVelocities(context, self._instance).copy()
