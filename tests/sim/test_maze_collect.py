"""Smooth plans are smooth, and a collected folder is the same however it came about."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from ambient_policy.episodes import list_episodes, read_episode
from ambient_policy.errors import ConfigError
from sim.maze.collect import HOLD_STEPS, episode, main, plan
from sim.maze.rollout import roughness
from sim.maze.world import PERIOD_S, PLAN_CLEARANCE_M, Maze, MazeError, polyline_length, start_and_goal

pytestmark = pytest.mark.sim
MAZE = Maze()


def contents(out) -> dict[str, bytes]:
    return {
        f"{folder.name}/{file.name}": file.read_bytes()
        for folder in list_episodes(out)
        for file in folder.iterdir()
    }


def test_smooth_plans_are_smooth_free_and_at_rest_at_both_ends():
    from sim.maze import gcs

    smooth, jagged = [], []
    for seed in range(6):
        start, goal = start_and_goal(MAZE, seed)
        path = plan(MAZE, "gcs", seed)
        np.testing.assert_allclose(path[[0, -1]], [start, goal], atol=1e-6)
        # Moves between samples cut a bend of the limit's curvature by less than a (period / 2)^2 / 2 = 2 mm.
        assert MAZE.distance(path[:-1], path[1:]).min() >= PLAN_CLEARANCE_M - 0.002
        velocity = np.diff(path, axis=0) / PERIOD_S
        acceleration = np.diff(velocity, axis=0) / PERIOD_S
        jerk = np.diff(acceleration, axis=0) / PERIOD_S
        assert np.linalg.norm(velocity, axis=1).max() <= gcs.SPEED_LIMIT_M_S
        assert np.linalg.norm(acceleration, axis=1).max() <= gcs.ACCELERATION_LIMIT_M_S2 + 1e-6
        # A jump of the velocity or the acceleration would show as a jerk of 1 / period: 15 and more.
        assert np.linalg.norm(jerk, axis=1).max() < 6.0
        assert np.linalg.norm(velocity[[0, -1]], axis=1).max() < 0.02
        assert np.linalg.norm(goal - start) <= polyline_length(path)
        assert len(path) > 20
        smooth.append(roughness(path))
        jagged.append(roughness(plan(MAZE, "rrt", seed)))
    assert np.mean(jagged) > 3 * np.mean(smooth)


def test_a_goal_behind_walls_has_no_smooth_plan():
    from sim.maze import gcs

    split = Maze("+--+--+\n|  |  |\n+  +  +\n|  |  |\n+--+--+\n")
    with pytest.raises(MazeError, match="no smooth path from"):
        gcs.plan(split, np.array([0.5, 0.5]), np.array([1.5, 0.5]))


@pytest.mark.parametrize("kind", ["gcs", "rrt"])
def test_an_episode_says_where_it_goes_and_ends_by_staying(kind):
    made = episode(MAZE, kind, 3, "test")
    state, action = made.arrays["state"], made.arrays["action"]
    np.testing.assert_array_equal(action[:-1], state[1:])
    np.testing.assert_array_equal(state[-HOLD_STEPS - 1 :], np.repeat(state[-1:], HOLD_STEPS + 1, axis=0))
    np.testing.assert_array_equal(action[-HOLD_STEPS - 1 :], np.repeat(state[-1:], HOLD_STEPS + 1, axis=0))
    assert (state[-HOLD_STEPS - 2] != state[-1]).any()
    np.testing.assert_array_equal(made.arrays["goal"], np.repeat(state[-1:], len(state), axis=0))
    assert made.arrays["valid"].all()
    assert (made.meta.task, made.meta.operator) == ("maze", kind)
    assert made.meta.source == {"gcs": "target", "rrt": "source"}[kind]


@pytest.mark.parametrize(("kind", "seed"), [("gcs", 0), ("rrt", 100_000)])
def test_resumed_equals_uninterrupted(kind, seed, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AMBIENT_POLICY_COMMIT", "test")
    common = ["--kind", kind, "--first-seed", str(seed), "--episodes"]
    assert main([str(tmp_path / "whole"), *common, "4", "--processes", "1"]) == 0
    assert main([str(tmp_path / "torn"), *common, "2", "--processes", "1"]) == 0
    assert len(list_episodes(tmp_path / "torn")) == 2
    (tmp_path / "torn" / f"ep{seed:06d}").rename(tmp_path / "gone")
    assert main([str(tmp_path / "torn"), *common, "4", "--processes", "2"]) == 0
    assert "1 of 4 seeds are done already" in capsys.readouterr().out
    assert contents(tmp_path / "torn") == contents(tmp_path / "whole")
    made = read_episode(tmp_path / "whole" / f"ep{seed + 3:06d}")
    assert made.meta.seed == seed + 3
    np.testing.assert_array_equal(made.arrays["goal"][0], made.arrays["state"][-1])
    np.testing.assert_allclose(made.arrays["goal"][0], start_and_goal(MAZE, seed + 3)[1], atol=1e-6)


def test_two_kinds_in_one_folder_are_refused(tmp_path):
    assert main([str(tmp_path), "--kind", "rrt", "--episodes", "1", "--processes", "1"]) == 0
    with pytest.raises(ConfigError, match="holds plans of another recipe: kind differ"):
        main([str(tmp_path), "--kind", "gcs", "--episodes", "1"])
    with pytest.raises(ConfigError, match="--episodes 0 and --processes"):
        main([str(tmp_path), "--episodes", "0"])


def test_a_seed_without_a_plan_is_noted_and_not_tried_again(tmp_path, monkeypatch, capsys):
    import sim.maze.collect as module

    def refuse(*_):
        raise MazeError("no way")

    monkeypatch.setattr(module, "plan", refuse)
    module._setup(tmp_path, "rrt", "test")
    assert module._job(5).steps == 0
    assert "no way" in (tmp_path / "ep000005.failed.json").read_text()
    arguments = [str(tmp_path), "--kind", "rrt", "--first-seed", "5", "--episodes", "1", "--processes", "1"]
    assert main(arguments) == 0
    assert "1 of 1 seeds are done already" in capsys.readouterr().out
    assert not list_episodes(tmp_path)


def test_the_closed_loop_needs_no_drake():
    code = "import sys, sim.maze.rollout, sim.maze.collect; sys.exit('pydrake' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
