"""Inverse kinematics of the arm: the rod's tip at a point of the plane, rod upright, joints within limits.

Five numbers of the tip are given (x, y, height, no tilt about x or y). Of the seven joints two freedoms are
left: the elbow's swivel returns to the nominal posture, and joint 7 keeps the camera's heading. Neither may
disturb the tip; the heading is given up first where joint 7 has no room.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydrake.math import RigidTransform, RotationMatrix
from pydrake.multibody.inverse_kinematics import (
    DifferentialInverseKinematicsParameters,
    DifferentialInverseKinematicsStatus,
    DoDifferentialInverseKinematics,
    InverseKinematics,
)
from pydrake.multibody.parsing import Parser
from pydrake.multibody.plant import MultibodyPlant
from pydrake.multibody.tree import FixedOffsetFrame, JacobianWrtVariable, ModelInstanceIndex
from pydrake.solvers import SnoptSolver

from sim.cameras import X_TF
from sim.reach import Reach
from sim.scenario import Arm
from sim.se2 import Array

MODEL = Path(__file__).parent / "models/arm.urdf"
LIMIT_MARGIN_RAD = np.deg2rad(1.0)
"""Commands stay this far inside the joint limits, so that no overshoot leaves them."""
SPEED_SHARE = 0.8
"""Of the joints' speed limits that is commanded: their springs overshoot by up to 15 % after a jump."""
MAX_TIP_SPEED_M_S = 1.0
"""Of the commanded tip after a jump of the target; the joints' limits are lower in most directions."""
FOLLOWED_M = 0.001
"""A commanded tip further than this from its target is said not to follow."""


def add_arm(plant: MultibodyPlant) -> ModelInstanceIndex:
    """Add the arm with its base at the world's origin."""
    (instance,) = Parser(plant).AddModels(str(MODEL))
    plant.WeldFrames(plant.world_frame(), plant.GetFrameByName("arm_base", instance))
    return instance


class ArmKinematics:
    """Postures and joint velocities for a tip that stays upright at one height.

    Args:
        arm: nominal posture and rates.
        tip_height_m: of the rod's tip above the table.
    """

    def __init__(self, arm: Arm, tip_height_m: float) -> None:
        self._arm, self._height_m = arm, tip_height_m
        self.reach = Reach.of(tip_height_m)
        self._plant = MultibodyPlant(0.0)
        add_arm(self._plant)
        self._tip = self._plant.AddFrame(
            FixedOffsetFrame("tip", self._plant.GetFrameByName("arm_link_7"), X_TF.inverse())
        )
        self._plant.Finalize()
        self._world = self._plant.world_frame()
        self._context = self._plant.CreateDefaultContext()
        self.lower = self._plant.GetPositionLowerLimits() + LIMIT_MARGIN_RAD
        self.upper = self._plant.GetPositionUpperLimits() - LIMIT_MARGIN_RAD
        self.max_speed = SPEED_SHARE * self._plant.GetVelocityUpperLimits()
        self._nominal = np.clip(arm.nominal, self.lower, self.upper)
        x, y, _ = self.tip(self._nominal).translation()
        self._nominal_bearing = np.arctan2(y, x)
        self._centring = np.array([arm.centring_per_s] * 6 + [0.0])

    def tip(self, q: Array) -> RigidTransform:
        """Return the pose of the tip in the world for joints `q` (7,) [rad]."""
        self._plant.SetPositions(self._context, q)
        return self._tip.CalcPoseInWorld(self._context)

    def posture(self, xy: Array) -> Array:
        """Return the joints (7,) [rad] for a tip at `xy` (2,) [m] or, out of reach, as near as can be.

        It depends on `xy` alone and is where `velocity` would lead in the long run. Where there is no such
        posture, differential inverse kinematics walks from the nominal one as far as it gets.
        """
        q = self.solve(self.reach.nearest(xy))
        if q is None:
            q = self._nominal.copy()
            for _ in range(300):
                q = q + 0.05 * self.velocity(q, xy, 0.05)[0]
        return q

    def solve(self, xy: Array) -> Array | None:
        """Return the joints (7,) [rad] for a tip at `xy` (2,) [m], or None without one within limits."""
        target = np.array([*xy, self._height_m])
        ik = InverseKinematics(self._plant, with_joint_limits=False)
        q, prog = ik.q(), ik.get_mutable_prog()
        prog.AddBoundingBoxConstraint(self.lower, self.upper, q)
        ik.AddPositionConstraint(self._tip, np.zeros(3), self._world, target, target)
        # Upright: a second point of the rod stands above the tip. (An angle of 0 has no gradient.)
        above = target + [0, 0, 0.2]
        slack = np.array([0.0, 0.0, 0.01])
        ik.AddPositionConstraint(self._tip, np.array([0, 0, 0.2]), self._world, above - slack, above + slack)
        prog.AddQuadraticErrorCost(np.diag(self._centring), self._nominal, q)
        identity = RotationMatrix()
        ik.AddOrientationCost(self._world, identity, self._tip, identity, 2 * self._arm.heading_per_s)
        # The nominal posture, turned to the target with the camera turned back: from the bare one, a target
        # far to the side was once answered with a camera that looks sideways.
        guess, turn = self._nominal.copy(), np.arctan2(xy[1], xy[0]) - self._nominal_bearing
        guess[[0, 6]] += turn
        result = SnoptSolver().Solve(prog, np.clip(guess, self.lower, self.upper))
        return np.clip(result.GetSolution(q), self.lower, self.upper) if result.is_success() else None

    def velocity(self, q: Array, xy: Array, period_s: float) -> tuple[Array, str]:
        """Return joint velocities (7,) [rad/s] that bring the tip to `xy` (2,) [m] within `period_s`.

        Where speed limits forbid, the tip goes straight towards it as fast as they allow, but stays in the
        ring; out of reach it goes to the nearest point of the ring. The second value says why the tip will
        not be there; empty when it will.
        """
        nearest = self.reach.nearest(xy)
        X_WT = self.tip(q)
        x_axis, z_axis = X_WT.rotation().matrix()[:, 0], X_WT.rotation().matrix()[:, 2]
        ahead = self._ahead(X_WT.translation()[:2], nearest, period_s)
        gap = np.array([*ahead, self._height_m]) - X_WT.translation()
        tilt = np.array([z_axis[1], -z_axis[0]])  # of z_axis x vertical
        jacobian = self._plant.CalcJacobianSpatialVelocity(
            self._context, JacobianWrtVariable.kV, self._tip, np.zeros(3), self._world, self._world
        )
        # Downhill on the cost of `solve`, so that both come to rest in the same posture.
        wanted = self._centring * (self._nominal - q) - self._arm.heading_per_s * x_axis[1] * jacobian[2]
        result = DoDifferentialInverseKinematics(
            q,
            np.zeros(7),
            np.concatenate([tilt, gap]) / period_s,
            jacobian[[0, 1, 3, 4, 5]],
            self._parameters(q + wanted, period_s),
        )
        if result.status == DifferentialInverseKinematicsStatus.kNoSolutionFound:
            return np.zeros(7), "inverse kinematics found no joint velocities"
        v = np.clip(result.joint_velocities, -self.max_speed, self.max_speed)
        v = np.clip(v, (self.lower - q) / period_s, (self.upper - q) / period_s)
        return v, self._reason(q + v * period_s, v, np.asarray(xy, dtype=float), nearest)

    def _ahead(self, here: Array, there: Array, period_s: float) -> Array:
        """Return the point to go to in this period: a step towards `there` (2,), round the ring's hole."""
        step = there - here
        longest, distance = MAX_TIP_SPEED_M_S * period_s, float(np.linalg.norm(step))
        if distance <= longest:
            return there
        return self.reach.nearest(here + step * (longest / distance))

    def _parameters(self, nominal: Array, period_s: float) -> DifferentialInverseKinematicsParameters:
        parameters = DifferentialInverseKinematicsParameters(7, 7)
        parameters.set_time_step(period_s)
        parameters.set_joint_position_limits((self.lower, self.upper))
        parameters.set_joint_velocity_limits((-self.max_speed, self.max_speed))
        parameters.set_joint_centering_gain(np.eye(7))
        parameters.set_nominal_joint_position(nominal)
        return parameters

    def _reason(self, q: Array, v: Array, wanted: Array, nearest: Array) -> str:
        if np.linalg.norm(wanted - nearest) > FOLLOWED_M:
            return (
                f"target is {np.hypot(*wanted):.3f} m from the arm's axis, its reach is "
                f"{self.reach.inner_m:.3f} to {self.reach.outer_m:.3f} m"
            )
        lag_m = float(np.linalg.norm(self.tip(q).translation()[:2] - nearest))
        if lag_m <= FOLLOWED_M:
            return ""
        # Not joint 7: the tip is on its axis.
        at_limit = np.minimum(q - self.lower, self.upper - q)[:6]
        if at_limit.min() < 1e-4:
            return f"joint {at_limit.argmin() + 1} is at its limit, the tip {1e3 * lag_m:.0f} mm behind"
        fastest = np.argmax(np.abs(v) / self.max_speed) + 1
        return f"joint {fastest} is at its speed limit, the tip {1e3 * lag_m:.0f} mm behind"
