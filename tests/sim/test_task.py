"""The task's rule at its edges, and starts that obey it."""

from __future__ import annotations

import numpy as np
import pytest

from ambient_policy.errors import ConfigError
from sim import se2
from sim.scenario import Scenario, load_scenario
from sim.starts import clearance_m, sample_start
from sim.task import OutcomeMonitor

SCENARIO = load_scenario("pushing")
GOAL, HOME = np.array(SCENARIO.task.goal), np.array(SCENARIO.task.tool_home)
AWAY = np.array([0.2, 0.0, 0.0])


def watch(samples, **task) -> OutcomeMonitor:
    monitor = OutcomeMonitor(SCENARIO.task.model_copy(update=task))
    for time_s, pose, tool in samples:
        monitor.update(time_s, pose, 0.0159, tool)
    return monitor


@pytest.mark.parametrize(
    ("offset", "yaw_deg", "tool_m", "success"),
    [
        ((0.0149, 0.0), 0.0, 0.0, True),
        ((0.0151, 0.0), 0.0, 0.0, False),
        ((0.0107, 0.0107), 0.0, 0.0, False),  # the distance is Euclidean
        ((0.0, 0.0), 3.49, 0.0, True),
        ((0.0, 0.0), -3.49, 0.0, True),
        ((0.0, 0.0), 3.51, 0.0, False),
        ((0.0, 0.0), 0.0, 0.0399, True),
        ((0.0, 0.0), 0.0, 0.0401, False),
    ],
)
def test_success_is_all_three_tolerances_at_one_instant(offset, yaw_deg, tool_m, success):
    pose = GOAL + [*offset, np.deg2rad(yaw_deg)]
    monitor = watch([(0.01, pose, HOME + [tool_m, 0]), (0.02, GOAL + AWAY, HOME)])
    assert monitor.result().success is success


def test_yaw_is_taken_round_the_circle():
    assert watch([(0.01, GOAL + [0, 0, 2 * np.pi], HOME)]).result().success


def test_held_needs_a_whole_second_without_a_break():
    inside = [(0.01 * i, GOAL, HOME) for i in range(1, 102)]
    assert watch(inside[:-1]).result().held is False
    assert watch(inside).result().held is True
    broken = inside[:60] + [(0.61, GOAL + AWAY, HOME)] + [(0.01 * i, GOAL, HOME) for i in range(62, 162)]
    result = watch(broken).result()
    assert (result.success, result.held, result.time_to_success_s) == (True, False, 0.01)


def test_a_trial_goes_on_after_an_instant_of_success_and_ends_when_held():
    monitor = watch([(0.01, GOAL, HOME)])
    assert not monitor.finished
    assert watch([(0.01 * i, GOAL, HOME) for i in range(1, 102)]).finished


def test_outcomes_of_failures():
    near, far = GOAL + [0.029, 0, np.deg2rad(6.9)], GOAL + [0.031, 0, 0]
    assert watch([(75.0, near, HOME)]).result().name == "missed_goal"
    assert watch([(75.0, far, HOME)]).result().name == "timeout"
    monitor = OutcomeMonitor(SCENARIO.task)
    monitor.update(1.0, far, -0.001, HOME)
    assert monitor.finished
    assert monitor.result().name == "fell"


def test_the_whole_tee_starts_in_the_box_away_from_the_tool():
    tee, half = SCENARIO.slider.tee, np.array(SCENARIO.task.start_box) / 2
    yaws = []
    for seed in range(200):
        start = sample_start(SCENARIO, seed)
        corners = np.array([se2.to_world(start.slider_pose, c) for c in tee.outline])
        assert np.all(np.abs(corners - GOAL[:2]) <= half + 1e-12)
        assert clearance_m(SCENARIO, start.slider_pose, start.tool_xy) > 0
        np.testing.assert_array_equal(start.slider_pose, sample_start(SCENARIO, seed).slider_pose)
        yaws.append(start.slider_pose[2])
    counts, _ = np.histogram(yaws, bins=4, range=(-np.pi, np.pi))
    assert counts.min() > 25, "all directions occur"


def test_a_box_too_small_is_refused_with_the_cure():
    small = SCENARIO.model_copy(update={"task": SCENARIO.task.model_copy(update={"start_box": (0.05, 0.05)})})
    with pytest.raises(ConfigError, match=r"enlarge task\.start_box"):
        sample_start(small, 0, max_tries=50)


def test_scenario_errors_name_the_key_and_the_cure(tmp_path):
    with pytest.raises(ConfigError, match="shipped scenarios: .*pushing"):
        load_scenario("puhsing")
    with pytest.raises(ConfigError, match="friction"):
        load_scenario("pushing", {"slider": {"frictoin": 0.3}})
    with pytest.raises(ConfigError, match="must be a whole number"):
        load_scenario("pushing", {"control_period_s": 0.03})


def test_defaults_are_the_reference_task():
    assert isinstance(SCENARIO, Scenario)
    task, slider = SCENARIO.task, SCENARIO.slider
    assert (task.goal, task.tool_home, task.start_box) == ((0.587, -0.0355, 0.0), (0.587, 0.15), (0.4, 0.3))
    assert (task.position_tolerance_m, task.yaw_tolerance_deg, task.home_tolerance_m) == (0.015, 3.5, 0.04)
    assert (task.time_limit_s, task.delay_s, slider.mass_kg, slider.friction) == (75.0, 1.0, 0.1, 0.5)


@pytest.mark.parametrize("name", ["pushing_near_goal", "pushing_at_goal"])
def test_starts_near_the_goal_differ_only_in_their_starts(name):
    near = load_scenario(name)
    same = {"start_box": SCENARIO.task.start_box, "start_reach_m": 1.0, "start_yaw_deg": 180.0}
    assert near.model_copy(update={"task": near.task.model_copy(update=same)}) == SCENARIO
    offsets = np.array([sample_start(near, seed).slider_pose for seed in range(100)]) - GOAL
    assert np.abs(offsets[:, 2]).max() <= np.deg2rad(near.task.start_yaw_deg)
    assert np.abs(offsets[:, 0]).max() <= near.task.start_reach_m
    assert (offsets[:, :2].min(axis=0) < 0).all()
    assert (offsets[:, :2].max(axis=0) > 0).all()
