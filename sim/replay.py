"""Replays plans: poses of T and tool are written as the quasi-static plan has them and rendered, without
physics. This is how the reference makes its source data."""

from __future__ import annotations

from typing import Any

import numpy as np

from ambient_policy.episodes import Episode
from sim import se2
from sim.demonstrate import PARKED_STEPS, Failure, Recording
from sim.plan import Planner
from sim.plan_model import PlanConfig
from sim.scenario import Scenario
from sim.starts import sample_start
from sim.station import Station
from sim.task import OutcomeMonitor


def replay(
    station: Station,
    scenario: Scenario,
    config: PlanConfig,
    *,
    seed: int,
    source: str,
    commit: str,
    truth: dict[str, Any],
) -> Episode | Failure:
    """Plan from the start of `seed` to the goal of `scenario`, and show the plan on `station`.

    Args:
        scenario: the station's, but for the goal of its task.

    Returns:
        An episode whose actions are the tool's next positions, or a Failure `no_plan`. A plan that takes
        longer than the task's time limit is one that ends there.
    """
    task, period_s = scenario.task, scenario.policy_period_s
    start, home = sample_start(station.scenario, seed), np.array(task.tool_home)
    planner = Planner(scenario, config)
    goal = np.array(task.goal)
    plan = planner.plan(start.slider_pose, goal, start.tool_xy, np.random.default_rng([seed, 0x97A4]))
    motion = planner.motion(plan, start.tool_xy, home) if plan is not None else None
    monitor = OutcomeMonitor(task)
    if plan is None or motion is None:
        position, yaw, _ = monitor.errors(start.slider_pose, start.tool_xy)
        return Failure(seed, "no_plan", position, yaw)
    steps = int(np.ceil(motion.duration_s / period_s)) + PARKED_STEPS
    tool, pose = motion.at(np.arange(steps + 1) * period_s)
    pose[:, 2] = se2.wrap(pose[:, 2])
    recording = Recording(station.cameras)
    height_m = scenario.slider.height_m / 2
    for i in range(steps):
        station.place(pose[i], tool[i])
        recording.see(station)
        recording.add(state=tool[i], action=tool[i + 1], valid=True, privileged_slider_pose=pose[i])
        monitor.update(i * period_s, pose[i], height_m, tool[i])
    result = monitor.result()
    if not result.success:
        return Failure(seed, result.name, result.position_error_m, result.yaw_error_rad)
    known = {**truth, "plan": {"pushes": len(plan.pushes), "smoothed": plan.smoothed is not None}}
    return recording.episode(
        station, result.name, commit=commit, source=source, seed=seed, operator="replayed plan", truth=known
    )
