"""Inverse kinematics of the arm: the rod's tip at a point of the plane, rod upright, joints within limits.

Five numbers of the tip are given (x, y, height, no tilt about x or y). Of seven joints two freedoms are left:
the elbow's swivel returns to the nominal posture, and the last joint keeps the camera's heading. Neither may
disturb the tip; the heading is given up first where the last joint has no room. Six joints have it alone.

By default it is the twin's arm; an `ArmModel` makes it any other (docs/robots.md).
"""

from __future__ import annotations

import numpy as np
from pydrake.math import RigidTransform, RotationMatrix
from pydrake.multibody.inverse_kinematics import (
    DifferentialInverseKinematicsParameters,
    DifferentialInverseKinematicsStatus,
    DoDifferentialInverseKinematics,
    InverseKinematics,
)
from pydrake.multibody.plant import MultibodyPlant
from pydrake.multibody.tree import FixedOffsetFrame, JacobianWrtVariable
from pydrake.solvers import SnoptSolver

from ambient_policy.errors import ConfigError
from ambient_policy.joint_servo import Step
from sim.arm_model import ArmModel, add_arm
from sim.scenario import Posture
from sim.se2 import Array

MAX_TIP_SPEED_M_S = 1.0
"""Of the commanded tip after a jump of the target; the joints' limits are lower in most directions."""
FOLLOWED_M = 0.001
"""A commanded tip further than this from its target is said not to follow."""


class ArmKinematics:
    """Postures and joint velocities for a tip that stays upright at one height.

    Args:
        arm: nominal posture and rates.
        tip_height_m: of the rod's tip in the world; the twin's table is at 0.
        model: which arm; None for the twin's.

    Raises:
        ConfigError: the arm's URDF and parameters do not fit each other.
    """

    def __init__(self, arm: Posture, tip_height_m: float, model: ArmModel | None = None) -> None:
        model = ArmModel() if model is None else model
        self._arm, self._height_m = arm, tip_height_m
        self.reach, self.joints = model.reach(tip_height_m), model.joints
        self._plant = MultibodyPlant(0.0)
        instance = add_arm(self._plant, model)
        link = self._plant.GetFrameByName(model.tool_link, instance)
        self._tip = self._plant.AddFrame(FixedOffsetFrame("tip", link, model.X_TF.inverse()))
        self._plant.Finalize()
        self._world = self._plant.world_frame()
        self._context = self._plant.CreateDefaultContext()
        self._check(arm, model)
        self.lower = self._plant.GetPositionLowerLimits() + model.limit_margin_rad
        self.upper = self._plant.GetPositionUpperLimits() - model.limit_margin_rad
        self.max_speed = model.speed_share * self._plant.GetVelocityUpperLimits()
        self._nominal = np.clip(arm.nominal, self.lower, self.upper)
        x, y = self.tip(self._nominal).translation()[:2] - self.reach.centre
        self._nominal_bearing = np.arctan2(y, x)
        # A joint with the tip on its axis, such as the last, only turns the camera.
        self._moves_tip = np.linalg.norm(self._jacobian()[3:], axis=0) > 1e-9
        self._centring = np.where(self._moves_tip, arm.centring_per_s, 0.0)

    def _check(self, arm: Posture, model: ArmModel) -> None:
        names = self._plant.GetPositionNames(add_model_instance_prefix=False, always_add_suffix=False)
        if tuple(names) != model.joints:
            raise ConfigError(
                f"joints are {list(model.joints)}; from base to tool the URDF has {list(names)}"
            )
        if len(arm.nominal) != len(names):
            raise ConfigError(f"nominal has {len(arm.nominal)} numbers, needs one for each of {list(names)}")
        for name, limit in zip(names, self._plant.GetVelocityUpperLimits(), strict=True):
            if not np.isfinite(limit):
                raise ConfigError(f"joint {name!r} has no velocity limit in the URDF; write one there")

    def tip(self, q: Array) -> RigidTransform:
        """Return the pose of the tip in the world for joints `q` (7,) [rad]."""
        self._plant.SetPositions(self._context, q)
        return self._tip.CalcPoseInWorld(self._context)

    def tip_position(self, q: Array) -> Array:
        """Return where the tip is in the world (3,) [m]."""
        return self.tip(q).translation()

    def off_plane(self, q: Array) -> tuple[float, float]:
        """Return how far the tip is above its height [m] and how far the tool is from upright [rad]."""
        X_WT = self.tip(q)
        up = float(np.clip(X_WT.rotation().matrix()[2, 2], -1.0, 1.0))
        return float(X_WT.translation()[2]) - self._height_m, float(np.arccos(up))

    def check_reach(self) -> None:
        """Look whether there are postures at the edges of the reach, in the nominal posture's direction.

        Raises:
            ConfigError: there is none.
        """
        ahead = np.array([np.cos(self._nominal_bearing), np.sin(self._nominal_bearing)])
        for radius_m in (self.reach.inner_m, self.reach.outer_m):
            if self.solve(self.reach.centre + radius_m * ahead) is None:
                raise ConfigError(
                    f"reach_m is {self.reach.inner_m:.3f} to {self.reach.outer_m:.3f}: no posture within "
                    f"limits has the tip {radius_m:.3f} m from the base, upright at {self._height_m} m; "
                    "narrow the ring, or correct the pose of flange or base, or tool_height_m"
                )

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
        x, y = xy - np.asarray(self.reach.centre)
        guess, turn = self._nominal.copy(), np.arctan2(y, x) - self._nominal_bearing
        guess[[0, -1]] += turn
        result = SnoptSolver().Solve(prog, np.clip(guess, self.lower, self.upper))
        return np.clip(result.GetSolution(q), self.lower, self.upper) if result.is_success() else None

    def velocity(self, q: Array, xy: Array, period_s: float) -> tuple[Array, str]:
        """Return joint velocities (n,) [rad/s] and reason of the `step` to a tip at `xy` (2,) [m]."""
        step = self.step(q, xy, period_s)
        return step.velocity, step.reason

    def step(self, q: Array, xy: Array, period_s: float, brake_s: float = 0.0) -> Step:
        """Return joint velocities that bring the tip to `xy` (2,) [m] within `period_s`, or why not.

        Where speed limits forbid, the tip goes straight towards it as fast as they allow, but stays in the
        ring; out of reach it goes to the nearest point of the ring.

        Args:
            brake_s: no joint is faster than lets it come to rest evenly in this time within its limits.
        """
        nearest = self.reach.nearest(xy)
        X_WT = self.tip(q)
        x_axis, z_axis = X_WT.rotation().matrix()[:, 0], X_WT.rotation().matrix()[:, 2]
        ahead = self._ahead(X_WT.translation()[:2], nearest, period_s)
        gap = np.array([*ahead, self._height_m]) - X_WT.translation()
        tilt = np.array([z_axis[1], -z_axis[0]])  # of z_axis x vertical
        jacobian = self._jacobian()
        slowest, fastest = -self.max_speed, self.max_speed
        if brake_s:
            way_s = period_s + brake_s / 2
            slowest = np.clip((self.lower - q) / way_s, slowest, 0.0)
            fastest = np.clip((self.upper - q) / way_s, 0.0, fastest)
        # Downhill on the cost of `solve`, so that both come to rest in the same posture.
        wanted = self._centring * (self._nominal - q) - self._arm.heading_per_s * x_axis[1] * jacobian[2]
        result = DoDifferentialInverseKinematics(
            q,
            np.zeros(len(q)),
            np.concatenate([tilt, gap]) / period_s,
            jacobian[[0, 1, 3, 4, 5]],
            self._parameters(q + wanted, period_s, slowest, fastest),
        )
        if result.status == DifferentialInverseKinematicsStatus.kNoSolutionFound:
            return Step(np.zeros(len(q)), "inverse kinematics found no joint velocities", blocked=True)
        v = np.clip(result.joint_velocities, slowest, fastest)
        v = np.clip(v, (self.lower - q) / period_s, (self.upper - q) / period_s)
        stuck = result.status == DifferentialInverseKinematicsStatus.kStuck
        used = np.abs(v) / np.maximum(np.where(v < 0, -slowest, fastest), 1e-9)
        radius_m = self._radius_outside(np.asarray(xy, dtype=float), nearest)
        reason = self._reason(q + v * period_s, used, stuck, radius_m, nearest)
        return Step(v, reason, bool(reason) and (stuck or radius_m > 0))

    def _jacobian(self) -> Array:
        """Return how joint velocities turn and move the tip (6, n), where the joints are now."""
        return self._plant.CalcJacobianSpatialVelocity(
            self._context, JacobianWrtVariable.kV, self._tip, np.zeros(3), self._world, self._world
        )

    def _ahead(self, here: Array, there: Array, period_s: float) -> Array:
        """Return the point to go to in this period: a step towards `there` (2,), round the ring's hole."""
        step = there - here
        longest, distance = MAX_TIP_SPEED_M_S * period_s, float(np.linalg.norm(step))
        if distance <= longest:
            return there
        return self.reach.nearest(here + step * (longest / distance))

    def _parameters(
        self, nominal: Array, period_s: float, slowest: Array, fastest: Array
    ) -> DifferentialInverseKinematicsParameters:
        n = len(nominal)
        parameters = DifferentialInverseKinematicsParameters(n, n)
        parameters.set_time_step(period_s)
        parameters.set_joint_position_limits((self.lower, self.upper))
        parameters.set_joint_velocity_limits((slowest, fastest))
        parameters.set_joint_centering_gain(np.eye(n))
        parameters.set_nominal_joint_position(nominal)
        return parameters

    def _radius_outside(self, wanted: Array, nearest: Array) -> float:
        """Return how far a target outside the reach is from the base's axis [m]; 0 for one inside."""
        outside = np.linalg.norm(wanted - nearest) > FOLLOWED_M
        return float(np.hypot(*(wanted - self.reach.centre))) if outside else 0.0

    def _reason(self, q: Array, used: Array, stuck: bool, radius_m: float, nearest: Array) -> str:
        if radius_m:
            return (
                f"target is {radius_m:.3f} m from the arm's axis, its reach is "
                f"{self.reach.inner_m:.3f} to {self.reach.outer_m:.3f} m"
            )
        lag_m = float(np.linalg.norm(self.tip(q).translation()[:2] - nearest))
        if lag_m <= FOLLOWED_M:
            return ""
        at_limit = np.where(self._moves_tip, np.minimum(q - self.lower, self.upper - q), np.inf)
        if at_limit.min() < 1e-4:
            return f"joint {at_limit.argmin() + 1} is at its limit, the tip {1e3 * lag_m:.0f} mm behind"
        if stuck:
            return f"no joint velocities bring the tip towards its target, {1e3 * lag_m:.0f} mm behind"
        return f"joint {np.argmax(used) + 1} is at its speed limit, the tip {1e3 * lag_m:.0f} mm behind"
