"""What is recorded of a corruption is what was done."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from ambient_policy.episodes import Episode
from sim.corruptions import MISTAKES, Corruption, Jitter, JitterProcess, Novice
from sim.expert import Expert
from sim.pipelines import make_episode
from sim.recipe import Recipe
from sim.scenario import load_scenario
from sim.starts import clearance_m

pytestmark = pytest.mark.sim
PUSHING = load_scenario("pushing")
SEED = 800_002


def demo(seed: int = SEED, pipeline: str = "operator", scenario=PUSHING, **corruption) -> Episode:
    recipe = Recipe(
        commit="c",
        pipeline=pipeline,
        style="planner",
        source="s",
        corruption=Corruption.model_validate(corruption),
        images=False,
        scenario=scenario,
    )
    result = make_episode(recipe, seed)
    assert isinstance(result, Episode), result
    return result


@pytest.fixture(scope="module")
def clean() -> Episode:
    return demo()


def test_without_corruption_there_is_nothing_to_tell(clean):
    assert clean.meta.truth == {}
    assert sorted(clean.arrays) == ["action", "privileged_slider_pose", "state", "valid"]


def test_action_noise_has_its_sigma_and_leaves_all_else_alone(clean):
    noisy = demo(action_noise={"sigma_m": 0.01})
    noise = noisy.arrays["action"] - noisy.arrays["privileged_clean_action"]
    np.testing.assert_allclose(noise, noisy.arrays["privileged_action_noise"], atol=1e-15)
    for key in ("state", "privileged_slider_pose", "valid"):
        np.testing.assert_array_equal(noisy.arrays[key], clean.arrays[key])
    np.testing.assert_array_equal(noisy.arrays["privileged_clean_action"], clean.arrays["action"])
    draws = noise.size
    assert abs(noise.std() / 0.01 - 1) < 4 / np.sqrt(2 * draws), "four standard errors"
    assert abs(noise.mean()) < 4 * 0.01 / np.sqrt(draws)
    lag_one = (noise[1:] * noise[:-1]).mean() / noise.var()
    assert abs(lag_one) < 4 / np.sqrt(draws), "white"
    assert noisy.meta.truth["corruption"] == {"action_noise": {"sigma_m": 0.01}}


def test_noise_of_replayed_plans_too():
    noisy = demo(pipeline="replay", scenario=load_scenario("source"), action_noise={"sigma_m": 0.02})
    clean_action = noisy.arrays["privileged_clean_action"]
    np.testing.assert_array_equal(clean_action[:-1], noisy.arrays["state"][1:])
    assert 0.015 < (noisy.arrays["action"] - clean_action).std() < 0.025


def test_jitter_is_a_stationary_process_of_the_size_and_memory_asked_for():
    process = JitterProcess(Jitter(std_m=0.004, correlation_s=0.3), 0.1, np.random.default_rng(1))
    draws = np.array([process.step() for _ in range(20_000)])
    np.testing.assert_allclose(draws.std(), 0.004, rtol=0.03)
    for lag in (1, 3):
        expected = np.exp(-0.1 * lag / 0.3)
        np.testing.assert_allclose((draws[lag:] * draws[:-lag]).mean() / draws.var(), expected, atol=0.03)


def test_jitter_is_executed_and_is_the_label():
    shaken = demo(jitter={"std_m": 0.003})
    arrays = shaken.arrays
    np.testing.assert_allclose(
        arrays["action"], arrays["privileged_clean_action"] + arrays["privileged_jitter"], atol=1e-15
    )
    moving = slice(0, -14)
    assert 0.002 < arrays["privileged_jitter"][moving].std() < 0.0045
    followed = np.linalg.norm(arrays["state"][1:] - arrays["action"][:-1], axis=1)
    intended = np.linalg.norm(arrays["state"][1:] - arrays["privileged_clean_action"][:-1], axis=1)
    assert followed[:-14].mean() < 0.5 * intended[:-14].mean()
    assert shaken.meta.truth["corruption"]["jitter"]["std_m"] == 0.003


def test_a_novice_is_slower_and_each_mistake_is_marked(clean):
    pauses = demo(novice={"pause_rate": 0.03, "pause_s": (1.0, 1.0)})
    mistake = pauses.arrays["privileged_mistake"]
    stops = mistake == MISTAKES.index("pause")
    assert stops.any()
    assert set(np.unique(mistake)) <= {0, MISTAKES.index("pause")}
    assert stops.sum() % 10 == 0, "whole pauses of ten steps"
    moved = np.linalg.norm(pauses.arrays["action"] - pauses.arrays["state"], axis=1)
    assert moved[stops].max() == 0
    # Apart from its stops it does what it does without them.
    assert len(mistake) - stops.sum() == pytest.approx(clean.meta.steps, abs=8)


def test_mistakes_come_at_the_rates_asked_for():
    """On a T that never moves the operator pushes for ever, which gives something to count."""
    novice = Novice(wrong_push=0.3, overshoot=0.5, pause_rate=0.02, pause_s=(1.0, 1.0), lose_contact=0.05)
    expert = Expert(PUSHING, "planner", np.random.default_rng(3), novice=novice)
    pose, tool = np.array([0.65, 0.0, 1.0]), np.array(PUSHING.task.tool_home)
    seen, steps, pushing = [], 3000, 0
    for _ in range(steps):
        pushing += expert._mode == "push"
        tool = expert.act(pose, tool)
        seen.append(expert.mistake)
    seen = np.array(seen)
    share = 0.02 * 10 / (1 + 0.02 * 10)
    assert np.mean(seen == MISTAKES.index("pause")) == pytest.approx(share, rel=0.35)
    lost = seen == MISTAKES.index("lost_contact")
    onsets = np.sum(np.diff(np.r_[0, lost.astype(int)]) == 1)
    assert onsets == pytest.approx(0.05 * pushing, rel=0.5)
    drives = np.isin(seen, [MISTAKES.index("wrong_push")]).sum()
    assert 0.1 < drives / (pushing - onsets) < 0.6
    assert (seen == MISTAKES.index("overshoot")).any()


def test_a_wrong_goal_is_reached_and_recorded():
    shown = demo(goal={"shift_m": (0.03, -0.02), "turn_deg": 20.0, "spread_m": 0.01})
    goal, meant = np.array(shown.meta.truth["goal"]), np.array(shown.meta.truth["task_goal"])
    np.testing.assert_array_equal(meant, PUSHING.task.goal)
    assert np.abs(goal[:2] - meant[:2] - [0.03, -0.02]).max() <= 0.01
    assert goal[2] == pytest.approx(np.deg2rad(20))
    last = shown.arrays["privileged_slider_pose"][-1]
    assert np.hypot(*(last[:2] - goal[:2])) < 0.006
    assert abs(last[2] - goal[2]) < np.deg2rad(2)
    assert np.hypot(*(last[:2] - meant[:2])) > 0.015, "by the task's own rule it failed"


def test_another_embodiment_touches_at_its_own_radius_and_moves_at_its_own_speed(clean):
    big = demo(embodiment={"pusher_radius_m": 0.025, "speed": 0.5})
    assert big.meta.scenario["pusher"]["radius_m"] == 0.025
    assert big.meta.truth["corruption"]["embodiment"] == {"pusher_radius_m": 0.025, "speed": 0.5}
    gaps = [
        clearance_m(PUSHING, pose, tool)  # of the usual pusher, 10 mm smaller
        for pose, tool in zip(big.arrays["privileged_slider_pose"], big.arrays["state"], strict=True)
    ]
    assert 0.008 < min(gaps) < 0.0105
    speeds = [np.linalg.norm(np.diff(e.arrays["state"], axis=0), axis=1).max() / 0.1 for e in (big, clean)]
    assert speeds[0] == pytest.approx(0.5 * speeds[1], rel=0.15)


@pytest.mark.parametrize(
    ("pipeline", "scenario", "corruption", "complaint"),
    [
        ("replay", "source", {"jitter": {"std_m": 0.01}}, "no physics that could react to corruption.jitter"),
        ("replay", "source", {"novice": {"overshoot": 0.1}}, "corruption.novice is of the operator"),
        ("operator", "source", {}, "needs physics"),
        ("operator", "pushing", {"novice": {"pause_s": (3.0, 1.0)}}, "must rise"),
    ],
)
def test_what_does_not_go_together_is_refused(pipeline, scenario, corruption, complaint):
    with pytest.raises(ValidationError, match=complaint):
        demo(pipeline=pipeline, scenario=load_scenario(scenario), **corruption)
