"""Known faults of demonstrations: what is done to them, drawn from the episode's seed, and recorded as truth.

Each is off by default; several may be on together. What was done is kept twice: sizes in the episode's
`truth`, and step by step in arrays whose names begin with `privileged_`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from ambient_policy.config import StrictModel
from ambient_policy.episodes import Episode
from sim import se2
from sim.scenario import Scenario
from sim.se2 import Array

MISTAKES = ("none", "wrong_push", "overshoot", "pause", "lost_contact")
"""Meaning of the numbers in `privileged_mistake`."""


class Jitter(StrictModel):
    """A hand that trembles: what it commands is executed, and is the label."""

    std_m: float = Field(default=0.0, ge=0)
    """Standard deviation per axis."""
    correlation_s: float = Field(default=0.2, ge=0)
    """Time over which the tremor forgets itself (to 1/e); 0 for white."""


class Novice(StrictModel):
    """An operator who does not know how."""

    wrong_push: float = Field(default=0.0, ge=0, le=1)
    """Chance that a push is made at a place and in a direction picked at random."""
    overshoot: float = Field(default=0.0, ge=0)
    """Mean of the exponentially distributed share by which a push goes too far."""
    pause_rate: float = Field(default=0.0, ge=0, le=1)
    """Chance per step that the operator stops to think."""
    pause_s: tuple[float, float] = (1.0, 3.0)
    """Shortest and longest such stop."""
    lose_contact: float = Field(default=0.0, ge=0, le=1)
    """Chance per step of pushing that the tool comes off and strays for a second."""

    @property
    def active(self) -> bool:
        """Whether anything is wrong with this operator."""
        return any((self.wrong_push, self.overshoot, self.pause_rate, self.lose_contact))


class WrongGoal(StrictModel):
    """The demonstration is of another goal than the task's: shifted in the world, and by a random part."""

    shift_m: tuple[float, float] = (0.0, 0.0)
    turn_deg: float = 0.0
    spread_m: float = Field(default=0.0, ge=0)
    """Each coordinate moves by a further uniform amount of at most this."""
    spread_deg: float = Field(default=0.0, ge=0)

    @property
    def active(self) -> bool:
        """Whether the goal differs."""
        return any((*self.shift_m, self.turn_deg, self.spread_m, self.spread_deg))


class Embodiment(StrictModel):
    """Another robot does the task."""

    pusher_radius_m: float | None = Field(default=None, gt=0)
    """None: the scenario's."""
    speed: float = Field(default=1.0, gt=0)
    """Factor on all speeds of the operator or planner."""


class ActionNoise(StrictModel):
    """White Gaussian noise on the labels alone; what is executed and seen stays clean."""

    sigma_m: float = Field(default=0.0, ge=0)
    """Standard deviation per axis and step. In units of training: divided by the metres of an action unit,
    which `ambient-policy analyse spectra` prints."""


class Corruption(StrictModel):
    """All that is wrong with a set of demonstrations."""

    jitter: Jitter = Jitter()
    novice: Novice = Novice()
    goal: WrongGoal = WrongGoal()
    embodiment: Embodiment = Embodiment()
    action_noise: ActionNoise = ActionNoise()

    @model_validator(mode="after")
    def _pause_is_a_range(self) -> Corruption:
        low, high = self.novice.pause_s
        if not 0 < low <= high:
            raise ValueError(f"novice.pause_s {self.novice.pause_s} must rise and be above 0")
        return self

    def embodied(self, scenario: Scenario) -> Scenario:
        """Return the scenario with the robot that really does it."""
        radius = self.embodiment.pusher_radius_m
        if radius is None:
            return scenario
        return scenario.model_copy(update={"pusher": scenario.pusher.model_copy(update={"radius_m": radius})})

    def goal_of(self, scenario: Scenario, seed: int) -> Array:
        """Return the goal (3,) that the demonstration of `seed` is for."""
        goal = np.array(scenario.task.goal)
        if not self.goal.active:
            return goal
        rng, config = np.random.default_rng([seed, 0x60A1]), self.goal
        turn = np.deg2rad(config.turn_deg + config.spread_deg * rng.uniform(-1, 1))
        shift = np.array(config.shift_m) + config.spread_m * rng.uniform(-1, 1, 2)
        return np.array([*(goal[:2] + shift), se2.wrap(goal[2] + turn)])

    def truth(self, goal: Array, task_goal: Array) -> dict[str, Any]:
        """Return what goes into an episode's `truth`: every active corruption, and the goal if it differs.

        Args:
            goal: (3,) the demonstration's own; task_goal: (3,) the one meant, before anything was drawn.
        """
        none = Corruption().model_dump(mode="json")
        active = {k: v for k, v in self.model_dump(mode="json").items() if v != none[k]}
        truth: dict[str, Any] = {"corruption": active} if active else {}
        if not np.array_equal(goal, task_goal):
            truth |= {"goal": goal.tolist(), "task_goal": np.asarray(task_goal).tolist()}
        return truth


def with_goal(scenario: Scenario, goal: Array) -> Scenario:
    """Return the scenario with another goal of its task; itself when it is the same."""
    wanted = tuple(float(v) for v in goal)
    if wanted == tuple(scenario.task.goal):
        return scenario
    return scenario.model_copy(update={"task": scenario.task.model_copy(update={"goal": wanted})})


class JitterProcess:
    """A stationary first-order process (Ornstein & Uhlenbeck 1930), sampled every period."""

    def __init__(self, config: Jitter, period_s: float, rng: np.random.Generator) -> None:
        self._std, self._rng = config.std_m, rng
        self._keep = float(np.exp(-period_s / config.correlation_s)) if config.correlation_s else 0.0
        self._value = self._std * rng.standard_normal(2)

    def step(self) -> Array:
        """Return the tremor (2,) of the next step [m]."""
        fresh = self._std * np.sqrt(1 - self._keep**2) * self._rng.standard_normal(2)
        self._value = self._keep * self._value + fresh
        return self._value


def add_action_noise(episode: Episode, config: ActionNoise, seed: int) -> Episode:
    """Return the episode with noisy labels; the noise and the clean labels are kept beside them."""
    if not config.sigma_m:
        return episode
    action = episode.arrays["action"]
    noise = config.sigma_m * np.random.default_rng([seed, 0xAC71]).standard_normal(action.shape)
    arrays = {"privileged_clean_action": action, **episode.arrays}
    arrays |= {"action": action + noise, "privileged_action_noise": noise}
    return dataclasses.replace(episode, arrays=arrays)
