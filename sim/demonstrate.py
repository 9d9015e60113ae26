"""Turns one run of the scripted operator in the twin into an episode."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ambient_policy.config import StrictModel
from ambient_policy.episodes import Episode, EpisodeMeta
from sim.corruptions import Jitter, JitterProcess
from sim.expert import STYLES, Expert
from sim.scenario import Task
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


class Operator(Protocol):
    """Who moves the tool, one policy period at a time."""

    @property
    def mistake(self) -> int:
        """What it does wrong just now, an index of `sim.corruptions.MISTAKES`."""

    def act(self, slider_pose: Array, tool_xy: Array) -> Array | None:
        """Return the tool position (2,) to reach one period from now, or None when all is done."""

    def satisfied(self, slider_pose: Array) -> bool:
        """Whether the T is close enough to the goal."""

    def replan(self) -> None:
        """Take note that something else has moved the tool."""


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


class Recording:
    """What is seen and done, step by step."""

    def __init__(self, cameras: Iterable[str]) -> None:
        self._rows: dict[str, list[np.ndarray | bool]] = {}
        self._frames: dict[str, list[np.ndarray]] = {name: [] for name in cameras}

    def see(self, station: Station) -> None:
        """Keep the present images."""
        for name, image in station.images().items():
            self._frames[name].append(image)

    def put(self, key: str, values: list[Any]) -> None:
        """Keep a whole array, one value a step."""
        self._rows[key] = values

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
    station: Station,
    *,
    style: str,
    seed: int,
    source: str,
    commit: str,
    disturbance: Disturbance,
    operator: Operator | None = None,
    task: Task | None = None,
    jitter: Jitter | None = None,
    truth: dict[str, Any] | None = None,
) -> Episode | Failure:
    """Let the operator do the task once from the start of `seed`.

    Args:
        style: name of the operator; of a style in `sim.expert.STYLES` when `operator` is None.
        operator: who does it; the scripted operator by default.
        task: what is shown and judged; the scenario's by default, from whose starts it begins in any case.
        jitter: of the operator's hand.
        truth: kept in the episode's meta data. With jitter, or an operator who makes mistakes, the arrays
            hold them step by step.

    Returns:
        An episode when the operator was satisfied within the time limit and the task's rule agrees, else a
        Failure. The result depends on the arguments and the scenario alone.
    """
    scenario, task = station.scenario, task or station.scenario.task
    if operator is None:
        (name,) = [known for known in STYLES if known == style]
        operator = Expert(scenario, name, np.random.default_rng([seed, 0xDE40]))
    disturber = _Disturber(disturbance, np.random.default_rng([seed, 0xD157]))
    low, high = np.array(scenario.limits.workspace_min), np.array(scenario.limits.workspace_max)
    home, period_s = np.array(task.tool_home), scenario.policy_period_s
    tremor = None
    if jitter is not None and jitter.std_m:
        tremor = JitterProcess(jitter, period_s, np.random.default_rng([seed, 0x717]))
    substeps = round(period_s / scenario.control_period_s)
    monitor, recording = OutcomeMonitor(task), Recording(station.cameras)
    mistakes: list[int] = []

    station.reset(sample_start(scenario, seed))
    station.advance(home, round(task.delay_s / scenario.control_period_s))
    parked, kicked = 0, False
    for step in range(round(task.time_limit_s / period_s) + PARKED_STEPS):
        pose, tool = station.slider_pose(), station.tool_xy()
        recording.see(station)
        error, kick = disturber.step()
        if kicked and kick is None:
            operator.replan()
        kicked = kick is not None
        wanted = home if parked else operator.act(pose, tool)
        if wanted is None or parked:
            wanted, error, kick = home, np.zeros(2), None
            parked += 1
        action = np.clip(tool + kick if kick is not None else wanted, low, high)
        if tremor is not None:
            clean, shake = action, tremor.step()
            if not parked:
                action = np.clip(action + shake, low, high)
            recording.add(privileged_clean_action=clean, privileged_jitter=action - clean)
        recording.add(state=tool, action=action, valid=kick is None, privileged_slider_pose=pose)
        mistakes.append(0 if parked else operator.mistake)
        if parked >= PARKED_STEPS:
            break
        station.advance(np.clip(action + error, low, high), substeps)
        now_s = (step + 1) * period_s
        monitor.update(now_s, station.slider_pose(), station.slider_height(), station.tool_xy())
    result = monitor.result()
    if not (parked >= PARKED_STEPS and result.success and operator.satisfied(station.slider_pose())):
        outcome = "unsettled" if result.success else result.name
        return Failure(seed, outcome, result.position_error_m, result.yaw_error_rad)
    if truth and "novice" in truth.get("corruption", {}):
        recording.put("privileged_mistake", mistakes)
    return recording.episode(
        station, result.name, commit=commit, source=source, seed=seed, operator=style, truth=truth or {}
    )
