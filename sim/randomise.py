"""What differs from one episode to the next, drawn from its seed: camera poses, colours, the goal."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from ambient_policy.config import StrictModel
from sim.look import Camera, Look, Vec3

if TYPE_CHECKING:
    from sim.scenario import Scenario, Task


class Randomise(StrictModel):
    """How far things may differ; nothing by default.

    Camera poses and colours are drawn as the reference draws them: each axis uniform, a colour at a uniform
    distance in a random direction, drawn again until it is one.
    """

    camera_m: float = Field(default=0.0, ge=0)
    """Each coordinate of `cameras` moves by at most this."""
    camera_deg: float = Field(default=0.0, ge=0)
    """Each of their roll, pitch and yaw turns by at most this."""
    cameras: tuple[str, ...] = ("overhead",)
    """The cameras that move, and whose background changes. The reference leaves its wrist camera alone."""
    background_radius: float = Field(default=0.0, ge=0)
    """Largest RGB distance of the background of `cameras` from its nominal colour."""
    colour_radius: float | Literal["any"] = 0.0
    """Largest RGB distance of slider, pusher and table from their nominal colours; `any`: any colour."""
    goal_m: float = Field(default=0.0, ge=0)
    """Each coordinate of the goal moves by at most this: the T is brought to a place near the one meant."""
    goal_deg: float = Field(default=0.0, ge=0)
    """The goal turns by at most this."""

    @property
    def active(self) -> bool:
        """Whether two episodes can differ."""
        return any(
            (
                self.camera_m,
                self.camera_deg,
                self.background_radius,
                self.colour_radius,
                self.goal_m,
                self.goal_deg,
            )
        )


def draw_colour(rng: np.random.Generator, nominal: Vec3, radius: float | Literal["any"]) -> Vec3:
    """Draw a colour at most `radius` from `nominal`, with all channels in [0, 1]."""
    if radius == "any":
        r, g, b = rng.uniform(0, 1, 3)
        return float(r), float(g), float(b)
    while True:
        direction = rng.standard_normal(3)
        r, g, b = np.asarray(nominal) + rng.uniform(0, radius) * direction / np.linalg.norm(direction)
        if min(r, g, b) >= 0 and max(r, g, b) <= 1:
            return float(r), float(g), float(b)


def _camera(rule: Randomise, camera: Camera, look: Look, rng: np.random.Generator) -> Camera:
    xyz = np.asarray(camera.xyz) + rng.uniform(-1, 1, 3) * rule.camera_m
    rpy = np.asarray(camera.rpy) + rng.uniform(-1, 1, 3) * np.deg2rad(rule.camera_deg)
    update: dict[str, Any] = {"xyz": tuple(xyz.tolist()), "rpy": tuple(rpy.tolist())}
    if rule.background_radius:
        nominal = look.background if camera.background is None else camera.background
        update["background"] = draw_colour(rng, nominal, rule.background_radius)
    return camera.model_copy(update=update)


def _goal(rule: Randomise, task: Task, rng: np.random.Generator) -> Task:
    offset = rng.uniform(-1, 1, 3) * [rule.goal_m, rule.goal_m, np.deg2rad(rule.goal_deg)]
    return task.model_copy(update={"goal": tuple((np.asarray(task.goal) + offset).tolist())})


def draw(scenario: Scenario, seed: int, *, goal: bool = True) -> Scenario:
    """Return the scenario of one episode, with nothing left to draw in it.

    Each kind of thing has a stream of its own, so switching one on leaves the others as they were.

    Args:
        goal: False leaves the goal where it is meant to be.
    """
    rule, noisy = scenario.randomise, scenario.look.effects.noise_sigma > 0
    if not rule.active and not noisy:
        return scenario

    def stream(name: str) -> np.random.Generator:
        return np.random.default_rng([seed, 0xD7A3, zlib.crc32(name.encode())])

    look, task = scenario.look, scenario.task
    cameras = {
        name: _camera(rule, camera, look, stream(f"camera {name}")) if name in rule.cameras else camera
        for name, camera in scenario.cameras.items()
    }
    if rule.colour_radius:
        parts = ("slider", "pusher", "table")
        rng = stream("colours")
        look = look.model_copy(
            update={part: draw_colour(rng, getattr(look, part), rule.colour_radius) for part in parts}
        )
    if goal and (rule.goal_m or rule.goal_deg):
        task = _goal(rule, task, stream("goal"))
    return scenario.model_copy(
        update={
            "seed": seed,
            "cameras": cameras,
            "look": look,
            "task": task,
            "randomise": Randomise(),
        }
    )
