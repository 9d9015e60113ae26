"""A replayed plan shows exactly the plan, in the look of its scenario, and touches no physics."""

from __future__ import annotations

import numpy as np
import pytest

from ambient_policy.episodes import Episode
from sim.demonstrate import PARKED_STEPS, Failure
from sim.pipelines import make_episode
from sim.plan import Planner
from sim.plan_model import PlanConfig
from sim.recipe import Recipe
from sim.scenario import load_scenario
from sim.starts import sample_start
from sim.station import Station

pytestmark = pytest.mark.sim
SOURCE = load_scenario("source")


def replayed(seed: int, **changes) -> Episode | Failure:
    fields = {"commit": "c", "pipeline": "replay", "style": "planner", "source": "source", "scenario": SOURCE}
    return make_episode(Recipe(**{**fields, **changes}), seed)


@pytest.fixture(scope="module")
def episode() -> Episode:
    result = replayed(41)
    assert isinstance(result, Episode)
    return result


def test_states_are_the_plan_and_actions_are_the_next_states(episode):
    drawn = SOURCE.drawn(41)
    planner, start = Planner(drawn, PlanConfig()), sample_start(drawn, 41)
    goal = np.array(drawn.task.goal)
    plan = planner.plan(start.slider_pose, goal, start.tool_xy, np.random.default_rng(0))
    motion = planner.motion(plan, start.tool_xy, np.array(drawn.task.tool_home))
    state, action = episode.arrays["state"], episode.arrays["action"]
    tool, pose = motion.at(0.1 * np.arange(len(state)))
    np.testing.assert_array_equal(state, tool)
    recorded = episode.arrays["privileged_slider_pose"]
    np.testing.assert_array_equal(recorded[:, :2], pose[:, :2])
    np.testing.assert_allclose(np.cos(recorded[:, 2] - pose[:, 2]), 1, atol=1e-12)
    assert np.abs(recorded[:, 2]).max() <= np.pi
    np.testing.assert_array_equal(action[:-1], state[1:])
    np.testing.assert_allclose(
        action[-PARKED_STEPS:], np.tile(drawn.task.tool_home, (PARKED_STEPS, 1)), atol=1e-9
    )
    np.testing.assert_allclose(episode.arrays["privileged_slider_pose"][-1], goal, atol=2e-6)
    assert episode.arrays["valid"].all()


def test_images_are_those_of_the_poses(episode):
    station = Station(SOURCE.drawn(41))
    for i in (0, episode.meta.steps // 2, episode.meta.steps - 1):
        station.place(episode.arrays["privileged_slider_pose"][i], episode.arrays["state"][i])
        for name, image in station.images().items():
            np.testing.assert_array_equal(episode.images[name][i], image)
    assert len({frames.tobytes() for frames in episode.images["overhead"]}) > 20, "something moves"


def test_every_demonstration_has_a_goal_of_its_own_and_says_so(episode):
    goals = []
    for seed in (41, 42, 43):
        result = episode if seed == 41 else replayed(seed, images=False)
        truth = result.meta.truth
        assert truth["task_goal"] == list(SOURCE.task.goal)
        offset = np.array(truth["goal"]) - truth["task_goal"]
        assert np.abs(offset[:2]).max() <= 0.01
        assert abs(offset[2]) <= np.deg2rad(1)
        np.testing.assert_allclose(
            result.arrays["privileged_slider_pose"][-1], truth["goal"], atol=2e-6, err_msg="ends at its own"
        )
        goals.append(tuple(truth["goal"]))
    assert len(set(goals)) == 3


def test_without_a_plan_there_is_a_failure_that_says_so():
    narrow = SOURCE.limits.model_copy(update={"workspace_min": (0.58, 0.1)})
    result = replayed(
        44, scenario=SOURCE.model_copy(update={"limits": narrow}), plan=PlanConfig(attempts=1), images=False
    )
    assert isinstance(result, Failure)
    assert result.outcome == "no_plan"
    assert result.position_error_m > 0
