"""The closed loop of the maze: a perfect policy succeeds, a straight one collides where it must."""

from __future__ import annotations

import numpy as np
import pytest

from sim.maze import rrt
from sim.maze.rollout import (
    GOAL_RADIUS_M,
    HOLD_STEPS,
    SPEED_LIMIT_M_S,
    TRIAL_SEEDS,
    Trials,
    rollout,
    roughness,
    summary,
    trial_starts_and_goals,
)
from sim.maze.world import PERIOD_S, ROBOT_RADIUS_M, Maze, MazeError, start_and_goal

MAZE = Maze()
CORRIDOR = Maze("+--+--+--+\n|        |\n+--+--+--+\n")
TWO_ROOMS = Maze("+--+--+\n|  |  |\n+  +  +\n|  |  |\n+  +  +\n|  |  |\n+--+--+\n")
LOOP = {"obs_steps": 4, "execute_steps": 8, "horizon": 16, "max_steps": 300}


def straight(history: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Go straight to the goal, 7 cm a step."""
    here = history[:, -1]
    away = goal - here
    length = np.linalg.norm(away, axis=1, keepdims=True)
    along = np.minimum(0.07 * np.arange(1, 17), length)  # (B, H)
    return here[:, None] + along[..., None] * (away / np.maximum(length, 1e-9))[:, None]


class Replay:
    """Knows every goal's plan, and where on it the robot is."""

    def __init__(self, plans: list[np.ndarray], goals: np.ndarray) -> None:
        self.plans, self.goals, self.seen = plans, goals, []

    def __call__(self, history: np.ndarray, goal: np.ndarray) -> np.ndarray:
        self.seen.append(history)
        chunks = []
        for now, g in zip(history[:, -1], goal, strict=True):
            path = self.plans[int(np.argmin(np.linalg.norm(self.goals - g, axis=1)))]
            at = int(np.argmin(np.linalg.norm(path - now, axis=1)))
            chunks.append(path[np.minimum(at + np.arange(1, 17), len(path) - 1)])
        return np.array(chunks)


def test_a_replayed_plan_succeeds_exactly():
    starts, goals = trial_starts_and_goals(MAZE, 20)
    plans = [
        rrt.plan(MAZE, s, g, np.random.default_rng(i))
        for i, (s, g) in enumerate(zip(starts, goals, strict=True))
    ]
    policy = Replay(plans, goals)
    trials = rollout(policy, starts, goals, **LOOP)
    assert trials.success.all()
    assert trials.held.all()
    assert not trials.collided.any()
    for i, plan in enumerate(plans):
        away = np.linalg.norm(plan - goals[i], axis=1)
        arrived = int(np.argmax(away <= GOAL_RADIUS_M))
        assert trials.steps[i] == arrived
        np.testing.assert_array_equal(trials.paths[i, : len(plan)], plan)
        assert (trials.paths[i, len(plan) :] == plan[-1]).all()
        assert trials.roughness[i] == roughness(plan[: arrived + 1])
    # The first history stands at the start; later ones are the last four positions; finished rows are gone.
    np.testing.assert_array_equal(policy.seen[0], np.repeat(starts[:, None], 4, axis=1))
    np.testing.assert_array_equal(policy.seen[1], trials.paths[:, 5:9])
    asked = [len(h) for h in policy.seen]
    over = trials.lengths
    assert asked == [int((over > 8 * k).sum()) for k in range(len(asked))]
    assert asked[-1] < asked[0]


def test_going_straight_collides_where_sampling_says():
    starts, goals = trial_starts_and_goals(MAZE, 100)
    trials = rollout(straight, starts, goals, **LOOP)
    assert 20 < trials.collided.sum() < 95
    for i in range(100):
        line = np.linspace(0, 1, 20_001)[:, None] * (goals[i] - starts[i]) + starts[i]
        gap = np.min(
            [np.hypot(*np.maximum(np.maximum(w[:2] - line, line - w[2:]), 0).T) for w in MAZE.walls], axis=0
        )
        hit = np.flatnonzero(gap < ROBOT_RADIUS_M)
        length = np.linalg.norm(goals[i] - starts[i])
        assert trials.collided[i] == bool(len(hit))
        if len(hit):
            before, after = np.ceil(length * (hit[0] + np.array([-1, 0])) / 20_000 / 0.07)
            assert before <= trials.steps[i] == trials.lengths[i] <= after
            assert not trials.success[i]
            assert not trials.held[i]
        else:
            assert trials.steps[i] == np.ceil((length - GOAL_RADIUS_M) / 0.07 - 1e-9)
            assert trials.lengths[i] == trials.steps[i] + HOLD_STEPS
            assert trials.held[i]


def test_flying_past_succeeds_but_does_not_hold():
    start, goal = np.array([[0.5, 0.5]]), np.array([[1.55, 0.5]])

    def past(history: np.ndarray, goal: np.ndarray) -> np.ndarray:
        return history[:, -1:] + np.arange(1, 17)[:, None] * np.array([0.1, 0.0])

    trials = rollout(past, start, goal, **(LOOP | {"max_steps": 20}), maze=CORRIDOR)
    assert (trials.success[0], trials.held[0], trials.collided[0]) == (True, False, False)
    assert (trials.steps[0], trials.lengths[0]) == (10, 20)
    trials = rollout(past, start, goal, **LOOP, maze=CORRIDOR)  # on to the wall at the end of the corridor
    assert (trials.success[0], trials.held[0], trials.collided[0]) == (True, False, True)


def test_a_goal_that_is_entered_through_a_touch_of_a_wall_is_not_reached():
    start, goal = np.array([[0.5, 0.3]]), np.array([[0.5, 0.1]])

    def onto_the_wall(history: np.ndarray, goal: np.ndarray) -> np.ndarray:
        return np.full((1, 16, 2), (0.5, 0.06))  # 1 cm from the wall, 4 cm from the goal

    trials = rollout(onto_the_wall, start, goal, **LOOP)
    assert (trials.success[0], trials.held[0], trials.collided[0]) == (False, False, True)
    assert trials.lengths[0] == 1


def test_coming_and_going_is_not_holding():
    start, goal = np.array([[0.5, 0.5]]), np.array([[0.5, 0.7]])

    def swing(history: np.ndarray, goal: np.ndarray) -> np.ndarray:
        chunk = np.repeat(goal[:, None], 16, axis=1)
        chunk[:, 4] = (0.5, 0.5)  # seven steps there, one away
        return chunk

    trials = rollout(swing, start, goal, **LOOP)
    assert (trials.success[0], trials.held[0], trials.lengths[0]) == (True, False, 300)


def test_the_robot_is_no_faster_than_its_limit_and_cannot_jump_a_wall():
    start, goal = np.array([[0.5, 0.5], [0.5, 0.2]]), np.array([[1.5, 0.5], [0.5, 2.75]])

    def jump(history: np.ndarray, goal: np.ndarray) -> np.ndarray:
        return np.repeat(goal[:, None], 16, axis=1)

    trials = rollout(jump, start, goal, **LOOP, maze=TWO_ROOMS)
    assert trials.collided.tolist() == [True, False]
    assert trials.held.tolist() == [False, True]
    steps = np.linalg.norm(np.diff(trials.paths[1], axis=0), axis=1)
    assert steps.max() == pytest.approx(SPEED_LIMIT_M_S * PERIOD_S)
    assert trials.steps[1] == np.ceil(2.45 / (SPEED_LIMIT_M_S * PERIOD_S))


def test_roughness_of_known_paths():
    t = np.arange(0, 20 + 1e-9, PERIOD_S)
    parabola = np.stack([0.5 * 3.0 * t**2, -0.5 * 4.0 * t**2], axis=1)
    assert roughness(parabola) == pytest.approx(25.0, rel=1e-9)
    w, a = 2 * np.pi / 2.0, 0.3  # ten whole turns
    wave = np.stack([a * np.sin(w * t), np.zeros_like(t)], axis=1)
    second = (2 * a * (1 - np.cos(w * PERIOD_S)) / PERIOD_S**2) ** 2 / 2  # of sampled sines, exactly
    assert roughness(wave[:-1]) == pytest.approx(second, rel=0.02)
    assert roughness(wave + 5.0 * t[:, None]) == pytest.approx(roughness(wave))
    assert roughness(wave[:2]) == 0.0


def test_summary_counts_and_brackets():
    rough = np.array([1.0, 2.0, 3.0, 99.0])
    good = np.array([True, True, True, False])
    path = np.zeros((4, 2, 2))
    steps = np.array([10, 20, 30, 99])
    trials = Trials(good, np.array([True, True, False, False]), ~good, steps, steps, path, rough)
    got = summary(trials)
    assert (got.success.successes, got.held.successes, got.collided.successes) == (3, 2, 1)
    assert (got.success.low, got.success.high) == pytest.approx((0.3006, 0.9544), abs=1e-4)  # Wilson, by hand
    assert (got.roughness, got.mean_steps) == (2.0, 20.0)
    assert got.roughness_high - 2.0 == pytest.approx(1.96 / np.sqrt(3))
    none = summary(Trials(*[np.zeros(4, bool)] * 2, good, steps, steps, path, rough))
    assert np.isnan([none.roughness, none.roughness_low, none.mean_steps]).all()


def test_trials_have_seeds_of_their_own():
    starts, goals = trial_starts_and_goals(MAZE, 3)
    start, goal = start_and_goal(MAZE, TRIAL_SEEDS + 2)
    np.testing.assert_array_equal([starts[2], goals[2]], [start, goal])
    assert TRIAL_SEEDS == 1_000_000


def test_what_makes_no_loop_is_refused():
    starts, goals = trial_starts_and_goals(MAZE, 3)
    with pytest.raises(MazeError, match="execute_steps 17 must be 1 to horizon 16"):
        rollout(straight, starts, goals, **(LOOP | {"execute_steps": 17}))
    with pytest.raises(MazeError, match=r"gave \(3, 16, 2\), not all finite; it must give finite positions"):
        rollout(lambda h, g: straight(h, g) * np.nan, starts, goals, **LOOP)
    with pytest.raises(MazeError, match=r"gave \(3, 8, 2\), finite"):
        rollout(lambda h, g: straight(h, g)[:, :8], starts, goals, **LOOP)
    with pytest.raises(MazeError, match="some starts touch a wall"):
        rollout(straight, np.array([[0.0, 0.0]]), np.array([[1.5, 1.5]]), **LOOP)
