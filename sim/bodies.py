"""Puts the T, the table and the pusher of a scenario into a MultibodyPlant."""

from __future__ import annotations

import numpy as np
from pydrake.geometry import (
    AddCompliantHydroelasticProperties,
    AddContactMaterial,
    AddRigidHydroelasticProperties,
    Box,
    Cylinder,
    HalfSpace,
    ProximityProperties,
    Sphere,
)
from pydrake.math import RigidTransform
from pydrake.multibody.plant import CoulombFriction, MultibodyPlant
from pydrake.multibody.tree import (
    FixedOffsetFrame,
    ModelInstanceIndex,
    PdControllerGains,
    PrismaticJoint,
    RigidBody,
    SpatialInertia,
    UnitInertia,
)

from sim.look import Vec3
from sim.scenario import Physics, Scenario, Slider

TABLE_SIZE = (1.22, 0.761, 0.05)
TABLE_CENTRE_X = 0.486
FOOT_RADIUS_M = 0.003
"""Of the spheres that carry the T."""
SIDE_GAP_M = 0.002
"""The boxes that the pusher touches end this far above the table, so that only the feet rub."""


def slider_inertia(slider: Slider) -> SpatialInertia:
    """Return the T's inertia about its own frame (centre of the uniform body, mid height).

    A centre of mass elsewhere moves all: the inertia about it stays that of the uniform body.
    """
    if slider.inertia == "placeholder":
        moment = 1e-5 / slider.mass_kg
        total = SpatialInertia(slider.mass_kg, np.zeros(3), UnitInertia(moment, moment, moment))
        return _moved(total, slider)
    boxes = slider.tee.boxes
    area = sum(float(np.prod(b.size)) for b in boxes)
    total = SpatialInertia.Zero()
    for box in boxes:
        mass = slider.mass_kg * float(np.prod(box.size)) / area
        part = SpatialInertia.SolidBoxWithMass(mass, box.size[0], box.size[1], slider.height_m)
        total += part.Shift(-np.array([*box.centre, 0.0]))
    return _moved(total, slider)


def _moved(inertia: SpatialInertia, slider: Slider) -> SpatialInertia:
    if slider.centre_of_mass_m == (0.0, 0.0):
        return inertia
    return inertia.Shift(-np.array([*slider.centre_of_mass_m, 0.0]))


def _material(
    physics: Physics, friction: float, *, rigid: bool = False, mesh_m: float = 0.01, modulus: float = 1e6
) -> ProximityProperties:
    properties = ProximityProperties()
    hydroelastic = physics.contact == "hydroelastic"
    AddContactMaterial(
        dissipation=20.0,
        point_stiffness=None if hydroelastic else 1e5,
        friction=CoulombFriction(friction, friction),
        properties=properties,
    )
    if hydroelastic and rigid:
        AddRigidHydroelasticProperties(mesh_m, properties)
    elif hydroelastic:
        AddCompliantHydroelasticProperties(mesh_m, modulus, properties)
    return properties


def _rgba(colour: Vec3) -> np.ndarray:
    return np.array([*colour, 1.0])


def add_table(plant: MultibodyPlant, scenario: Scenario) -> None:
    """Add the table: a half space to collide with (1.5 to 2.4 times faster than a box), a box to look at."""
    world = plant.world_body()
    plant.RegisterCollisionGeometry(
        world,
        RigidTransform(),
        HalfSpace(),
        "table",
        _material(scenario.physics, scenario.slider.friction, rigid=True),
    )
    centre = RigidTransform([TABLE_CENTRE_X, 0, -TABLE_SIZE[2] / 2])
    plant.RegisterVisualGeometry(world, centre, Box(*TABLE_SIZE), "table", _rgba(scenario.look.table))


def add_slider(plant: MultibodyPlant, scenario: Scenario) -> RigidBody:
    """Add the T; its frame is at the centre of the uniform body, mid height."""
    slider, physics = scenario.slider, scenario.physics
    body = plant.AddRigidBody("slider", plant.AddModelInstance("slider"), slider_inertia(slider))
    material = _material(physics, slider.friction)
    feet = physics.contact == "spheres"
    for i, box in enumerate(slider.tee.boxes):
        X_SB = RigidTransform([*box.centre, 0.0])
        plant.RegisterVisualGeometry(
            body, X_SB, Box(*box.size, slider.height_m), f"box_{i}", _rgba(scenario.look.slider)
        )
        height = slider.height_m - (2 * SIDE_GAP_M if feet else 0.0)
        plant.RegisterCollisionGeometry(body, X_SB, Box(*box.size, height), f"box_{i}", material)
    if feet:
        for i, (x, y) in enumerate(slider.tee.support_points()):
            X_SF = RigidTransform([x, y, FOOT_RADIUS_M - slider.height_m / 2])
            plant.RegisterCollisionGeometry(body, X_SF, Sphere(FOOT_RADIUS_M), f"foot_{i}", material)
    return body


def add_rod(plant: MultibodyPlant, instance: ModelInstanceIndex, scenario: Scenario) -> RigidBody:
    """Add the cylinder that pushes, on no joint yet; its body frame is at the tip, z along the rod.

    Drake combines friction of two bodies as 2ab/(a+b), so the rod's own coefficient is solved for.
    """
    pusher = scenario.pusher
    pair, other = pusher.friction, scenario.slider.friction
    own = pair * other / (2 * other - pair)
    centre = np.array([0, 0, pusher.length_m / 2])
    inertia = SpatialInertia.SolidCylinderWithMass(
        pusher.mass_kg, pusher.radius_m, pusher.length_m, [0, 0, 1]
    )
    body = plant.AddRigidBody("tool", instance, inertia.Shift(-centre))
    rod = Cylinder(pusher.radius_m, pusher.length_m)
    plant.RegisterVisualGeometry(body, RigidTransform(centre), rod, "rod", _rgba(scenario.look.pusher))
    material = _material(scenario.physics, own, mesh_m=0.005, modulus=1e5)
    plant.RegisterCollisionGeometry(body, RigidTransform(centre), rod, "rod", material)
    return body


def add_pusher(plant: MultibodyPlant, scenario: Scenario) -> RigidBody:
    """Add the pusher on two prismatic joints with position control; its body frame is at the tip."""
    pusher = scenario.pusher
    instance = plant.AddModelInstance("tool")
    base = plant.AddFrame(
        FixedOffsetFrame("tool_base", plant.world_frame(), RigidTransform([0, 0, pusher.tip_height_m]))
    )
    carriage = plant.AddRigidBody(
        "carriage", instance, SpatialInertia.SolidSphereWithMass(pusher.mass_kg, 0.01)
    )
    body = add_rod(plant, instance, scenario)
    joints = (
        plant.AddJoint(PrismaticJoint("tool_x", base, carriage.body_frame(), [1, 0, 0])),
        plant.AddJoint(PrismaticJoint("tool_y", carriage.body_frame(), body.body_frame(), [0, 1, 0])),
    )
    gains = PdControllerGains(p=pusher.stiffness_n_m, d=pusher.damping_ns_m)
    for joint in joints:
        actuator = plant.AddJointActuator(joint.name(), joint, 100.0)
        actuator.set_controller_gains(gains)
        # Gains set on the wrong actuator are silently ignored by Drake and the tool just stands still.
        assert plant.GetJointActuatorByName(joint.name()).has_controller()
    return body
