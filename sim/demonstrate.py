"""Turns one run of the scripted operator in the twin into an episode."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ambient_policy.config import StrictModel
from ambient_policy.episodes import Episode, EpisodeMeta
from sim.expert import Expert, StyleName
from sim.se2 import Array
from sim.starts import sample_start
from sim.station import Station
from sim.task import OutcomeMonitor


class Disturbance(StrictModel):
    """What pushes the operator off its path, so that the data show recovery (DART, Laskey et al. 2017)."""

    action_noise_m: float = 0.0
    """Standard deviation per axis of a slow error of what is executed; the label stays the operator's."""
    kick_rate: float = 0.0
    """Chance per step that the tool is dragged off for 3 to 8 steps; those labels are marked not valid."""
    kick_step_m: tuple[float, float] = (0.003, 0.012)
    """Shortest and longest step of such a drag."""


@dataclass(frozen=True)
class Failure:
    """Why a seed gave no episode."""

    seed: int
    outcome: str
    position_error_m: float
    yaw_error_rad: float


PARKED_STEPS = 12
"""The tool rests at home this long at the end, so that a chunk of 16 learns to stay."""


class _Disturber:
    """Draws the disturbance of each step."""

    def __init__(self, config: Disturbance, rng: np.random.Generator) -> None:
        self._config, self._rng = config, rng
        self._noise = np.zeros(2)
        self._kick_left = 0
        self._kick = np.zeros(2)

    def step(self) -> tuple[Array, Array | None]:
        """Return the error to add to the action (2,) and, while a kick lasts, its step (2,), else None."""
        cfg, rng = self._config, self._rng
        # A first-order filter with unit stationary variance: correlation time of about four steps.
        self._noise = 0.8 * self._noise + 0.6 * cfg.action_noise_m * rng.standard_normal(2)
        if self._kick_left == 0 and rng.random() < cfg.kick_rate:
            angle = rng.uniform(-np.pi, np.pi)
            self._kick_left = int(rng.integers(3, 9))
            self._kick = rng.uniform(*cfg.kick_step_m) * np.array([np.cos(angle), np.sin(angle)])
        if self._kick_left > 0:
            self._kick_left -= 1
            return self._noise, self._kick
        return self._noise, None


class _Recording:
    """What is seen and done, step by step."""

    def __init__(self, cameras: Iterable[str]) -> None:
        self._rows: dict[str, list[np.ndarray | bool]] = {}
        self._frames: dict[str, list[np.ndarray]] = {name: [] for name in cameras}

    def see(self, station: Station) -> None:
        """Keep the present images."""
        for name, image in station.images().items():
            self._frames[name].append(image)

    def add(self, **row: np.ndarray | bool) -> None:
        """Keep one value of every array."""
        for key, value in row.items():
            self._rows.setdefault(key, []).append(value)

    def episode(self, station: Station, outcome: str, **origin: Any) -> Episode:
        """Make an episode of all that was kept; `origin` are the fields of its meta data on who and what."""
        scenario = station.scenario
        arrays = {key: np.array(values) for key, values in self._rows.items()}
        meta = EpisodeMeta(
            task=scenario.name,
            scenario=scenario.model_dump(mode="json"),
            outcome=outcome,
            period_s=scenario.policy_period_s,
            steps=len(arrays["state"]),
            cameras=station.cameras,
            **origin,
        )
        return Episode(meta, arrays, {name: np.stack(images) for name, images in self._frames.items()})


def demonstrate(
    station: Station, *, style: StyleName, seed: int, source: str, commit: str, disturbance: Disturbance
) -> Episode | Failure:
    """Let the operator do the task once from the start of `seed`.

    Returns:
        An episode when the operator was satisfied within the time limit and the task's rule agrees, else a
        Failure. The result depends on the arguments and the scenario alone.
    """
    scenario, task = station.scenario, station.scenario.task
    expert = Expert(scenario, style, np.random.default_rng([seed, 0xDE40]))
    disturber = _Disturber(disturbance, np.random.default_rng([seed, 0xD157]))
    low, high = np.array(scenario.limits.workspace_min), np.array(scenario.limits.workspace_max)
    home, period_s = np.array(task.tool_home), scenario.policy_period_s
    substeps = round(period_s / scenario.control_period_s)
    monitor, recording = OutcomeMonitor(task), _Recording(station.cameras)

    station.reset(sample_start(scenario, seed))
    station.advance(home, round(task.delay_s / scenario.control_period_s))
    parked, kicked = 0, False
    for step in range(round(task.time_limit_s / period_s) + PARKED_STEPS):
        pose, tool = station.slider_pose(), station.tool_xy()
        recording.see(station)
        error, kick = disturber.step()
        if kicked and kick is None:
            expert.replan()
        kicked = kick is not None
        wanted = home if parked else expert.act(pose, tool)
        if wanted is None or parked:
            wanted, error, kick = home, np.zeros(2), None
            parked += 1
        action = np.clip(tool + kick if kick is not None else wanted, low, high)
        recording.add(state=tool, action=action, valid=kick is None, privileged_slider_pose=pose)
        if parked >= PARKED_STEPS:
            break
        station.advance(np.clip(action + error, low, high), substeps)
        now_s = (step + 1) * period_s
        monitor.update(now_s, station.slider_pose(), station.slider_height(), station.tool_xy())
    result = monitor.result()
    if not (parked >= PARKED_STEPS and result.success and expert.satisfied(station.slider_pose())):
        outcome = "unsettled" if result.success else result.name
        return Failure(seed, outcome, result.position_error_m, result.yaw_error_rad)
    return recording.episode(station, result.name, commit=commit, source=source, seed=seed, operator=style)
