"""Corrupt plans: what a plain RRT finds, neither smoothed nor shortened, followed at constant speed."""

from __future__ import annotations

import numpy as np

from sim.maze.world import PERIOD_S, PLAN_CLEARANCE_M, Maze, MazeError

SPEED_M_S = 0.75
"""About the mean speed of the clean plans: 0.69 over seeds 0 to 49, where this gives 0.73 after sampling."""
STEP_M = 0.2
GOAL_BIAS = 0.02
BATCH = 16
"""Samples that are drawn and checked together; one of them does not see the nodes of the others."""
MAX_NODES = 20_000


def plan(maze: Maze, start: np.ndarray, goal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Plan from `start` to `goal` (2,) and return positions (N + 1, 2), one every `PERIOD_S` [m].

    The robot is at speed from the first step to the last. Nodes and edges keep `PLAN_CLEARANCE_M` from walls;
    the straight moves between two samples cut corners by less than half a step of 8 cm.

    Raises: MazeError when `MAX_NODES` nodes do not reach the goal.
    Source: LaValle 1998, "Rapidly-exploring random trees".
    """
    return follow(tree_path(maze, start, goal, rng), SPEED_M_S * PERIOD_S)


def tree_path(maze: Maze, start: np.ndarray, goal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Grow a tree from `start` until it reaches `goal` and return the corners (K, 2) of the path."""
    nodes, parents, count = np.empty((MAX_NODES + BATCH, 2)), np.zeros(MAX_NODES + BATCH, int), 1
    nodes[0] = start
    size = np.array(maze.shape) * maze.cell_m
    while count < MAX_NODES:
        samples = rng.uniform(size=(BATCH, 2)) * size
        samples[rng.uniform(size=BATCH) < GOAL_BIAS] = goal
        tree = nodes[:count]
        # |s - n|^2 without |s|^2, which does not change which node is nearest.
        nearest = np.argmin((tree**2).sum(1) - 2 * samples @ tree.T, axis=1)
        away = samples - tree[nearest]
        length = np.linalg.norm(away, axis=1)
        reach = np.minimum(1.0, STEP_M / np.maximum(length, 1e-9))
        new = np.where(reach[:, None] < 1, tree[nearest] + reach[:, None] * away, samples)
        good = np.flatnonzero((length > 1e-9) & maze.free(tree[nearest], new, PLAN_CLEARANCE_M))
        nodes[count : count + len(good)], parents[count : count + len(good)] = new[good], nearest[good]
        at_goal = count + np.flatnonzero((new[good] == goal).all(1))
        count += len(good)
        if len(at_goal):
            return nodes[_ancestry(parents, int(at_goal[0]))]
    raise MazeError(
        f"{MAX_NODES} nodes of the tree did not reach {goal} from {start}; is there a way at all?"
    )


def follow(corners: np.ndarray, step_m: float) -> np.ndarray:
    """Return points (N + 1, 2) every `step_m` along a path (K, 2), and its end after a shorter step."""
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))])
    at = np.append(np.arange(0.0, along[-1] - 1e-9, step_m), along[-1])
    return np.stack([np.interp(at, along, corners[:, k]) for k in range(2)], axis=1)


def _ancestry(parents: np.ndarray, node: int) -> list[int]:
    """Return the nodes from the root to `node`."""
    path = [node]
    while path[-1]:
        path.append(int(parents[path[-1]]))
    return path[::-1]
