"""Which arm it is: its URDF, where it stands, what it carries. The defaults are the twin's own."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from pydantic import Field, model_validator
from pydrake.math import RigidTransform, RollPitchYaw
from pydrake.multibody.parsing import Parser
from pydrake.multibody.plant import MultibodyPlant
from pydrake.multibody.tree import Joint, ModelInstanceIndex

from ambient_policy.config import StrictModel, nearest
from ambient_policy.errors import ConfigError
from sim.look import Vec2, Vec3
from sim.reach import Reach

OURS = Path(__file__).parent / "models/arm.urdf"


class ArmModel(StrictModel):
    """An arm whose tool stands upright at one height. Poses as (x, y, z) [m] and roll, pitch, yaw [rad]."""

    urdf: str = ""
    """Path of the robot's URDF, xacro expanded; shapes and meshes are not read. Empty: the twin's arm."""
    base_link: str = "arm_base"
    """Root of the URDF, or what it fixes to `world`."""
    base_xyz_m: Vec3 = (0.0, 0.0, 0.0)
    base_rpy_rad: Vec3 = (0.0, 0.0, 0.0)
    """Pose of `base_link` in the world, the frame of the tool's poses; this one counts, not the URDF's."""
    joints: tuple[str, ...] = tuple(f"arm_joint_{i}" for i in range(1, 8))
    """Names of the joints that move the tool, from base to tool. Any others stay at zero."""
    tool_link: str = "arm_link_7"
    flange_xyz_m: Vec3 = (0.0, 0.0, 0.22)
    flange_rpy_rad: Vec3 = (0.0, math.pi, 0.0)
    """Pose of `tool_link` seen from the tool's tip, whose z points up and x where the wrist camera heads."""
    reach_m: Vec2 | None = None
    """Radii of the ring round the base, seen from above, in which targets are followed; None: the twin's."""
    limit_margin_rad: float = Field(default=float(np.deg2rad(1.0)), ge=0)
    """Commands stay this far inside the joint limits, so that no overshoot leaves them."""
    speed_share: float = Field(default=0.8, gt=0, le=1)
    """Of the joints' speed limits that is commanded: the twin's overshoot by up to 15 % after a jump."""

    @model_validator(mode="after")
    def _knows_its_reach(self) -> ArmModel:
        if self.urdf and self.reach_m is None:
            raise ValueError("reach_m is missing: with a URDF of your own it must be given (docs/robots.md)")
        if self.reach_m is not None and not 0 <= self.reach_m[0] < self.reach_m[1]:
            raise ValueError(f"reach_m is {self.reach_m}, needs 0 <= inner < outer")
        return self

    @property
    def X_WB(self) -> RigidTransform:
        """Base in the world."""
        return RigidTransform(RollPitchYaw(*self.base_rpy_rad), self.base_xyz_m)

    @property
    def X_TF(self) -> RigidTransform:
        """Flange, or what `tool_link` is, in the tool's frame."""
        return RigidTransform(RollPitchYaw(*self.flange_rpy_rad), self.flange_xyz_m)

    def reach(self, tip_height_m: float) -> Reach:
        """Return the ring round the base's axis for a tip at this height."""
        if self.reach_m is None:
            return Reach.of(tip_height_m)
        return Reach(*self.reach_m, centre=self.base_xyz_m[:2])


def add_arm(plant: MultibodyPlant, model: ArmModel | None = None) -> ModelInstanceIndex:
    """Add an arm to a plant that is not final, with its base where it stands; by default the twin's.

    Raises:
        ConfigError: the URDF cannot be read, or has not the links and joints that the model names.
    """
    model = ArmModel() if model is None else model
    try:
        (instance,) = Parser(plant).AddModels(model.urdf or str(OURS))
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"urdf is {model.urdf!r}, which cannot be used: {error}") from None
    links = [plant.get_body(index).name() for index in plant.GetBodyIndices(instance)]
    joints = {(j := plant.get_joint(i)).name(): j for i in plant.GetJointIndices(instance)}
    for key, wanted, known in (
        ("base_link", (model.base_link,), links),
        ("tool_link", (model.tool_link,), links),
        ("joints", model.joints, [name for name, joint in joints.items() if joint.num_positions() == 1]),
    ):
        for name in wanted:
            if name not in known:
                raise ConfigError(f"{key} names {name!r}, the URDF has none; {nearest(name, known)}")
    base = plant.GetFrameByName(model.base_link, instance)
    for name, joint in joints.items():
        if joint.child_body().name() == model.base_link:
            if (parent := joint.parent_body()) != plant.world_body():
                raise ConfigError(
                    f"base_link is {model.base_link!r}, which hangs on {parent.name()!r}; name the root"
                )
            plant.RemoveJoint(joint)
        elif joint.num_positions() and name not in model.joints:
            _weld(plant, joint)
    plant.WeldFrames(plant.world_frame(), base, model.X_WB)
    return instance


def _weld(plant: MultibodyPlant, joint: Joint) -> None:
    """Put a fixed joint at zero in the place of one that is not commanded, such as a gripper's."""
    for index in plant.GetJointActuatorIndices():  # one model's, Drake tells only of a final plant
        actuator = plant.get_joint_actuator(index)
        if actuator.joint().index() == joint.index():
            plant.RemoveJointActuator(actuator)
    parent, child = joint.frame_on_parent(), joint.frame_on_child()
    plant.RemoveJoint(joint)
    plant.WeldFrames(parent, child)
