"""The arm as a tool: seven joints under position control that carry the rod."""

from __future__ import annotations

import numpy as np
from pydrake.multibody.plant import MultibodyPlant
from pydrake.multibody.tree import PdControllerGains
from pydrake.systems.framework import Context

from sim.arm_kinematics import ArmKinematics
from sim.arm_model import add_arm
from sim.bodies import add_rod
from sim.cameras import X_TF
from sim.scenario import Arm, Scenario
from sim.se2 import Array


class ArmTool:
    """A `sim.tools.Tool` of seven revolute joints [rad].

    Each update, differential inverse kinematics moves the *commanded* joints; springs and dampers in the
    joints follow them. The arm's own controller carries its weight, so gravity does not act on it here.

    Args:
        plant: takes the arm, its base at the world's origin.
        scenario: its `arm` must be set.
    """

    def __init__(self, plant: MultibodyPlant, scenario: Scenario) -> None:
        assert scenario.arm is not None
        arm = scenario.arm
        self._plant, self._instance = plant, add_arm(plant)
        self._period_s = arm.update_s
        self.updates_per_period = round(scenario.control_period_s / arm.update_s)
        self.body = add_rod(plant, self._instance, scenario)
        flange = plant.GetFrameByName("arm_link_7", self._instance)
        plant.WeldFrames(flange, self.body.body_frame(), X_TF.inverse())
        self.joint_names = tuple(f"arm_joint_{i}" for i in range(1, 8))
        for name in self.joint_names:
            self._set_gains(arm, name)
        plant.set_gravity_enabled(self._instance, False)
        self.kinematics = ArmKinematics(arm, scenario.pusher.tip_height_m)
        self.limited = ""
        self._commanded = np.zeros(7)

    def place(self, context: Context, xy: Array) -> None:
        """Take the posture for a tip at `xy` (2,) [m], or as near as it can be, at rest."""
        self._commanded = self.kinematics.posture(xy)
        self._plant.SetPositions(context, self._instance, self._commanded)
        self._plant.SetVelocities(context, self._instance, np.zeros(7))
        self._command(context, np.zeros(7))
        _, self.limited = self.kinematics.velocity(self._commanded, xy, self._period_s)

    def follow(self, context: Context, xy: Array, velocity: Array) -> None:
        """Move the commanded joints so that the tip is at `xy` (2,) [m], as far as limits allow."""
        joint_velocity, self.limited = self.kinematics.velocity(self._commanded, xy, self._period_s)
        self._commanded = self._commanded + joint_velocity * self._period_s
        self._command(context, joint_velocity)

    def follow_joints(self, context: Context, positions: Array, velocities: Array) -> None:
        """Command the joints themselves: (7,) [rad] and [rad/s], for the end of this update."""
        self._commanded, self.limited = positions, ""
        self._command(context, velocities)

    def xy(self, context: Context) -> Array:
        """Return the measured tip (2,) [m]."""
        return self._plant.EvalBodyPoseInWorld(context, self.body).translation()[:2].copy()

    def velocity(self, context: Context) -> Array:
        """Return the measured velocity of the tip (2,) [m/s]."""
        return self._plant.EvalBodySpatialVelocityInWorld(context, self.body).translational()[:2].copy()

    def joint_positions(self, context: Context) -> Array:
        """Return the measured joints (7,) [rad]."""
        return self._plant.GetPositions(context, self._instance).copy()

    def joint_velocities(self, context: Context) -> Array:
        """Return the measured joint velocities (7,) [rad/s]."""
        return self._plant.GetVelocities(context, self._instance).copy()

    def _command(self, context: Context, joint_velocity: Array) -> None:
        port = self._plant.get_desired_state_input_port(self._instance)
        port.FixValue(context, np.concatenate([self._commanded, joint_velocity]))

    def _set_gains(self, arm: Arm, name: str) -> None:
        actuator = self._plant.GetJointActuatorByName(name)
        actuator.set_controller_gains(PdControllerGains(p=arm.stiffness_nm_rad, d=arm.damping_nms_rad))
        # Gains set on the wrong actuator are silently ignored by Drake and the arm just stands still.
        assert actuator.has_controller()
