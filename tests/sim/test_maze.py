"""The maze's world: collision is exact, and its plans are what they are said to be."""

from __future__ import annotations

import numpy as np
import pytest

from sim.maze import rrt
from sim.maze.world import PERIOD_S, PLAN_CLEARANCE_M, Maze, MazeError, polyline_length, start_and_goal

MAZE = Maze()
LARGE = Maze("""
+--+--+--+--+--+
|              |
+  +  +--+  +  +
|  |  |     |  |
+  +  +  +--+  +
|     |        |
+  +--+  +  +--+
|  |     |  |  |
+  +--+  +  +  +
|     |        |
+--+--+--+--+--+
""")
ONE_WALL = "+--+--+\n|     |\n+--+  +\n|     |\n+--+--+\n"


def distance_by_sampling(start: np.ndarray, end: np.ndarray, maze: Maze, count: int = 4001) -> np.ndarray:
    """Return (N,) the least distance to a wall over many points of each move, point by point."""
    nearest = []
    for a, b in zip(start, end, strict=True):
        points = a + np.linspace(0, 1, count)[:, None] * (b - a)
        gaps = [
            np.hypot(*np.maximum(np.maximum(wall[:2] - points, points - wall[2:]), 0).T).min()
            for wall in maze.walls
        ]
        nearest.append(min(gaps))
    return np.array(nearest)


def test_walls_of_a_small_maze_are_known():
    maze = Maze(ONE_WALL, cell_m=2.0, wall_m=0.2)
    assert maze.shape == (2, 2)
    assert set(maze.openings) == {((0, 0), (1, 0)), ((0, 1), (1, 1)), ((1, 0), (1, 1))}
    expected = {
        (-0.1, -0.1, 4.1, 0.1),
        (-0.1, 1.9, 2.1, 2.1),
        (-0.1, 3.9, 4.1, 4.1),
        (-0.1, -0.1, 0.1, 4.1),
        (3.9, -0.1, 4.1, 4.1),
    }
    assert {tuple(wall) for wall in maze.walls.round(9).tolist()} == expected
    # By hand: past the end of the inner wall; through it; a point; along it; diagonally off its corner.
    start = np.array([[3.0, 1.0], [1.0, 1.0], [3.0, 3.0], [0.5, 1.5], [2.4, 1.2]])
    end = np.array([[3.0, 3.0], [1.0, 3.0], [3.0, 3.0], [1.5, 1.5], [3.0, 2.4]])
    corner = abs((2.1 - 2.4) * 1.2 - (1.9 - 1.2) * 0.6) / np.hypot(0.6, 1.2)
    np.testing.assert_allclose(maze.distance(start, end), [0.9, 0.0, 0.9, 0.4, corner], atol=1e-12)


def test_collision_agrees_with_dense_sampling():
    rng = np.random.default_rng(0)
    start = rng.uniform(-0.2, 5.2, size=(400, 2))
    end = start + rng.normal(scale=0.7, size=(400, 2)) * (rng.uniform(size=(400, 1)) > 0.1)  # some stand
    end[:60, 0], end[60:120, 1] = start[:60, 0], start[60:120, 1]  # parallel to walls
    start[:30, 1] = end[:30, 1] = np.resize(LARGE.walls[:, 1], 30)  # along their faces
    exact, sampled = LARGE.distance(start, end), distance_by_sampling(start, end, LARGE)
    spacing = np.linalg.norm(end - start, axis=1) / 4000
    assert ((exact <= sampled + 1e-12) & (sampled <= exact + spacing / 2 + 1e-12)).all()
    assert 0.2 < (exact == 0).mean() < 0.8
    clear = np.abs(sampled - 0.1) > spacing
    np.testing.assert_array_equal(LARGE.free(start, end, 0.1)[clear], (sampled >= 0.1)[clear])


@pytest.mark.parametrize("maze", [MAZE, LARGE], ids=["shipped", "large"])
def test_every_cell_can_be_reached_and_free_boxes_are_free(maze):
    reached, grew = {(0, 0)}, True
    while grew:
        more = {cell for pair in maze.openings if reached & set(pair) for cell in pair}
        grew, reached = bool(more - reached), reached | more
    assert len(reached) == maze.shape[0] * maze.shape[1]
    rng = np.random.default_rng(1)
    boxes = maze.free_boxes(PLAN_CLEARANCE_M)
    points = (
        boxes[:, None, :2] + rng.uniform(size=(len(boxes), 200, 2)) * (boxes[:, 2:] - boxes[:, :2])[:, None]
    )
    flat = points.reshape(-1, 2)
    assert maze.distance(flat, flat).min() >= PLAN_CLEARANCE_M - 1e-12


def test_starts_and_goals_are_free_apart_and_belong_to_their_seed():
    pairs = np.array([start_and_goal(MAZE, seed) for seed in range(300)])
    columns, rows = MAZE.shape
    for points in (pairs[:, 0], pairs[:, 1]):
        assert MAZE.free(points, points, PLAN_CLEARANCE_M).all()
        assert (np.histogram2d(*points.T, bins=MAZE.shape, range=[[0, columns], [0, rows]])[0] > 0).sum() > 7
    assert np.linalg.norm(pairs[:, 1] - pairs[:, 0], axis=1).min() >= 2.0
    np.testing.assert_array_equal(pairs[7], start_and_goal(MAZE, 7))
    assert len(np.unique(pairs[:, 0], axis=0)) == 300


def test_rrt_plan_is_free_jagged_at_constant_speed_and_the_same_again():
    for seed in range(100_000, 100_020):
        start, goal = start_and_goal(MAZE, seed)
        path = rrt.plan(MAZE, start, goal, np.random.default_rng(seed))
        np.testing.assert_array_equal(path, rrt.plan(MAZE, start, goal, np.random.default_rng(seed)))
        assert not np.array_equal(path[:9], rrt.plan(MAZE, start, goal, np.random.default_rng(seed + 1))[:9])
        np.testing.assert_array_equal(path[[0, -1]], [start, goal])
        corners = rrt.tree_path(MAZE, start, goal, np.random.default_rng(seed))
        assert MAZE.free(corners[:-1], corners[1:], PLAN_CLEARANCE_M).all()
        legs = np.linalg.norm(np.diff(corners, axis=0), axis=1)
        assert legs.max() <= rrt.STEP_M + 1e-9
        # Between samples the arc is one step long, the straight move a little shorter at a corner.
        steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
        assert steps.max() <= rrt.SPEED_M_S * PERIOD_S + 1e-9
        assert 0.9 * polyline_length(corners) <= polyline_length(path) <= polyline_length(corners) + 1e-9
        assert len(path) - 1 == np.ceil(polyline_length(corners) / (rrt.SPEED_M_S * PERIOD_S) - 1e-6)


def test_following_a_right_angle_samples_it_by_length():
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 0.7]])
    expected = [[0, 0], [0.4, 0], [0.8, 0], [1, 0.2], [1, 0.6], [1, 0.7]]
    np.testing.assert_allclose(rrt.follow(corners, 0.4), expected, atol=1e-12)


def test_no_way_is_said_so(monkeypatch):
    closed = Maze("+--+--+\n|  |  |\n+--+--+\n")
    monkeypatch.setattr(rrt, "MAX_NODES", 500)
    with pytest.raises(MazeError, match="500 nodes of the tree did not reach"):
        rrt.plan(closed, np.array([0.5, 0.5]), np.array([1.5, 0.5]), np.random.default_rng(0))


def test_what_is_no_layout_is_refused():
    with pytest.raises(MazeError, match=r"2 lines of lengths \[4\]; it needs an odd number"):
        Maze("+--+\n|  |\n")
    with pytest.raises(MazeError, match="4 lines of lengths"):
        Maze("+--+\n|  |\n+--+\n|  |\n")
    with pytest.raises(MazeError, match=r"lengths \[4, 7\]"):
        Maze("+--+\n|     |\n+--+\n")
    with pytest.raises(MazeError, match="no start and goal 9.0 m apart in 1000 draws"):
        MAZE.start_and_goal(np.random.default_rng(0), apart_m=9.0)
