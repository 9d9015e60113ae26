"""Seeded start poses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ambient_policy.errors import ConfigError
from sim import se2
from sim.scenario import Scenario
from sim.se2 import Array


@dataclass(frozen=True)
class Start:
    """Where a trial or a demonstration begins."""

    slider_pose: Array
    """(3,) x [m], y [m], yaw [rad] in the world."""
    tool_xy: Array
    """(2,) world [m]."""


def clearance_m(scenario: Scenario, slider_pose: Array, tool_xy: Array) -> float:
    """Return the gap between the pusher and the T's boxes; negative when they overlap."""
    p = se2.to_body(slider_pose, tool_xy)
    gaps = []
    for box in scenario.slider.tee.boxes:
        x0, y0, x1, y1 = box.bounds()
        gaps.append(np.hypot(max(x0 - p[0], 0, p[0] - x1), max(y0 - p[1], 0, p[1] - y1)))
    return float(min(gaps)) - scenario.pusher.radius_m


def sample_start(scenario: Scenario, seed: int, *, max_tries: int = 10_000) -> Start:
    """Draw a start: yaw uniform, the whole T inside the start box round the goal, not touching the tool at
    home.

    Raises:
        ConfigError: no such pose was found, so the box is too small for this T.
    """
    rng = np.random.default_rng([seed, 0x57A27])
    task, tee = scenario.task, scenario.slider.tee
    centre, half = np.asarray(task.goal[:2]), np.asarray(task.start_box) / 2
    reach = np.minimum(half, task.start_reach_m)
    home = np.asarray(task.tool_home)
    for _ in range(max_tries):
        yaw = task.goal[2] + rng.uniform(-1, 1) * np.deg2rad(task.start_yaw_deg)
        pose = np.array([*rng.uniform(centre - reach, centre + reach), yaw])
        corners = np.array([se2.to_world(pose, c) for c in tee.outline])
        if np.any(np.abs(corners - centre) > half) or clearance_m(scenario, pose, home) < 0.005:
            continue
        return Start(pose, home)
    raise ConfigError(
        f"no start pose in {max_tries} tries: task.start_box {task.start_box} m does not hold a T of radius "
        f"{tee.radius_m:.3f} m; enlarge task.start_box in the scenario"
    )
