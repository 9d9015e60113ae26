"""What a planner believes of pushing, and the few numbers that describe one push of a plan."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from pydantic import Field

from ambient_policy.config import StrictModel
from sim import se2
from sim.quasistatic import LimitSurface, Pushes, contact_spans, elementary_pushes
from sim.scenario import Scenario
from sim.se2 import Array


class PlanConfig(StrictModel):
    """The planner of the replayed plans: its beliefs, its limits, its costs."""

    friction: float | None = Field(default=None, ge=0)
    """Between pusher and T, as the planner believes it; None: the scenario's (0.1 in `source`, as in the
    reference; 1/3 in `target`)."""
    limit_surface: Literal["reference", "uniform"] = "reference"
    """Half-axis of the limit surface: the reference's 0.3 of the largest radius of the T (33 mm), or that of
    a uniform pressure (55 mm), which is what the twin comes close to."""
    face_share: tuple[float, float] = (0.2, 0.8)
    """Part of a face that may be touched. Near the inner corners less, as the pusher would not fit."""
    smooth: bool = True
    """Let SNOPT optimise all pushes together; False keeps the beam search's own."""
    attempts: int = Field(default=4, ge=1)
    """How often another face sequence is tried when one leads to no plan."""
    max_pushes: int = Field(default=10, ge=1)
    free_speed_m_s: float = Field(default=0.20, gt=0)
    push_speed_m_s: float = Field(default=0.06, gt=0)
    acceleration_m_s2: float = Field(default=0.4, gt=0)
    """Bound on the tool's acceleration; it comes to rest whenever it touches or leaves the T."""
    per_push_metre: float = 1.0
    per_free_metre: float = 0.3
    """Of the straight line from where a push ends to where the next begins."""
    per_turn: float = 0.02
    """Per square of a push's turn of the T [rad^2]."""
    per_slope: float = 0.002
    """Per square of the share of the friction cone in use: prefers to push straight."""

    def faster(self, factor: float) -> PlanConfig:
        """Return a config with all speeds times `factor`."""
        if factor == 1.0:
            return self
        free, push = self.free_speed_m_s * factor, self.push_speed_m_s * factor
        return self.model_copy(update={"free_speed_m_s": free, "push_speed_m_s": push})


@dataclass(frozen=True)
class Push:
    """One push: the contact point sticks to the T, the force keeps its direction in the T's frame."""

    face: int
    along_m: float
    """Of the contact point from the start of the face."""
    slope: float
    """Tangential over normal force; inside the friction cone when its size is at most the friction."""
    length_m: float
    """Way of the contact point."""


class PushModel:
    """Quasi-static pushing of the body of a scenario by its pusher, as a `PlanConfig` believes it.

    The centre of mass is the scenario's.
    """

    def __init__(self, scenario: Scenario, config: PlanConfig) -> None:
        slider, pusher = scenario.slider, scenario.pusher
        self.tee, self.radius_m, self.config = slider.tee, pusher.radius_m, config
        self.friction = pusher.friction if config.friction is None else config.friction
        half_axis = self.tee.friction_radius_m
        if config.limit_surface == "reference":
            half_axis = 0.3 * self.tee.radius_m
        self.surface = LimitSurface(half_axis, slider.centre_of_mass_m)
        self.spans = contact_spans(self.tee, self.radius_m, share=config.face_share)
        self._start = np.array([face.start for face in self.tee.faces])
        self._tangent = np.array([face.tangent for face in self.tee.faces])
        self._normal = np.array([face.normal for face in self.tee.faces])

    @cached_property
    def table(self) -> Pushes:
        """The pushes that the beam search chooses from."""
        share = self.config.face_share
        return elementary_pushes(
            self.tee, self.friction, self.radius_m, margin_m=0.0, share=share, surface=self.surface
        )

    def displacement(self, face: int, along_m: Array, slope: Array, length_m: Array) -> Array:
        """Return how a push moves the T (..., 3), in its frame at the start. Takes complex numbers too."""
        point = self._start[face] + np.multiply.outer(along_m, self._tangent[face])
        force = self._normal[face] + np.multiply.outer(slope, self._tangent[face])
        twist = self.surface.twist(point, force)
        vx = twist[..., 0] - twist[..., 2] * point[..., 1]
        vy = twist[..., 1] + twist[..., 2] * point[..., 0]
        # Not a norm: its absolute value would lose the complex step that `sim.smooth` differentiates by.
        return se2.exp(twist / np.sqrt(vx**2 + vy**2)[..., None], length_m)

    def tool_at(self, face: int, along_m: Array, distance_m: float = 0.0) -> Array:
        """Return the pusher's axis (..., 2) in the T's frame, touching, or `distance_m` in front of it."""
        back = (self.radius_m + distance_m) * self._normal[face]
        return self._start[face] + np.multiply.outer(along_m, self._tangent[face]) - back

    def tool_world(self, pose: Array, push: Push) -> Array:
        """Return the pusher's axis (2,) in the world, touching a T at `pose` (3,)."""
        return se2.to_world(pose, self.tool_at(push.face, np.asarray(push.along_m)))

    def apply(self, pose: Array, push: Push, part: Array | float = 1.0) -> Array:
        """Return where the T is (..., 3) after `part` (...) of a push that began at `pose` (3,)."""
        length = np.asarray(part, dtype=float) * push.length_m
        along, slope = np.asarray(push.along_m), np.asarray(push.slope)
        return se2.compose(pose, self.displacement(push.face, along, slope, length))

    def push_of(self, index: int, length_m: float) -> Push:
        """Name an entry of `table` by its face, contact point and force."""
        table = self.table
        return Push(int(table.face[index]), float(table.along_m[index]), float(table.slope[index]), length_m)
