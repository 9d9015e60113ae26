"""The closed loop in the maze: many trials at once, and what became of them. Numpy only, no Drake."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ambient_policy.statistics import Rate, success_rate
from sim.maze.world import PERIOD_S, ROBOT_RADIUS_M, Maze, MazeError, start_and_goal

TRIAL_SEEDS = 1_000_000
"""First seed of trials; clean plans use 0 and up, corrupt ones 100000 and up."""
GOAL_RADIUS_M = 0.1
HOLD_STEPS = 10
"""Steps in a row that the robot must stay at the goal to have held it."""
SPEED_LIMIT_M_S = 2.5
"""Of the robot; a command further away is followed in its direction only this far."""

Policy = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Positions (B, T, 2), oldest first, and goals (B, 2) to the next positions (B, H, 2), one a period [m]."""


@dataclass(frozen=True)
class Trials:
    """What B trials did.

    Attributes:
        success: (B,) the goal was reached, within its radius, without touching a wall before.
        held: (B,) and the robot then stayed there for `HOLD_STEPS` steps in a row within the time.
        collided: (B,) a wall was touched; ends the trial.
        steps: (B,) steps until the goal was reached, or until the trial ended without.
        lengths: (B,) steps that were executed in all.
        paths: (B, N + 1, 2) positions [m]; after the end of a trial its last one is repeated.
        roughness: (B,) mean squared acceleration over the first `steps` steps [m^2/s^4].
    """

    success: np.ndarray
    held: np.ndarray
    collided: np.ndarray
    steps: np.ndarray
    lengths: np.ndarray
    paths: np.ndarray
    roughness: np.ndarray


@dataclass(frozen=True)
class Summary:
    """Rates with their intervals, and the mean roughness of successful trials with its normal 95 % interval.

    The three roughness numbers are NaN when fewer than two trials succeeded.
    """

    success: Rate
    held: Rate
    collided: Rate
    roughness: float
    roughness_low: float
    roughness_high: float
    mean_steps: float
    """Of successful trials."""


def trial_starts_and_goals(maze: Maze, count: int, first: int = TRIAL_SEEDS) -> tuple[np.ndarray, np.ndarray]:
    """Return the starts and goals (B, 2) of the seeds from `first` on."""
    pairs = np.array([start_and_goal(maze, seed) for seed in range(first, first + count)])
    return pairs[:, 0], pairs[:, 1]


def roughness(path: np.ndarray, period_s: float = PERIOD_S) -> float:
    """Return the mean squared second difference of positions (N, 2) [m^2/s^4]; 0 if N < 3."""
    if len(path) < 3:
        return 0.0
    acceleration = np.diff(path, 2, axis=0) / period_s**2
    return float((acceleration**2).sum(axis=1).mean())


def rollout(
    policy: Policy,
    starts: np.ndarray,
    goals: np.ndarray,
    *,
    obs_steps: int,
    execute_steps: int,
    horizon: int,
    max_steps: int,
    maze: Maze | None = None,
    robot_radius_m: float = ROBOT_RADIUS_M,
    goal_radius_m: float = GOAL_RADIUS_M,
    speed_limit_m_s: float = SPEED_LIMIT_M_S,
) -> Trials:
    """Run one trial for every row of `starts` and `goals` (B, 2) and return what became of them.

    Every `execute_steps` steps the policy is asked for `horizon` positions, of which that many are commanded.
    The robot is where it was told to be one period later, no further away than the speed limit lets it.
    Before the first step it stood at its start. Trials that are over (held, or touched a wall) leave it.
    """
    maze = maze or Maze()
    count = len(starts)
    if not 1 <= execute_steps <= horizon or obs_steps < 1 or max_steps < 1:
        raise MazeError(
            f"execute_steps {execute_steps} must be 1 to horizon {horizon}; obs_steps {obs_steps} and "
            f"max_steps {max_steps} 1 or more; see the arguments of the rollout"
        )
    if not maze.free(starts, starts, robot_radius_m).all():
        raise MazeError("some starts touch a wall; draw them with `trial_starts_and_goals`")
    paths = np.empty((count, obs_steps + max_steps, 2))  # with the history that stands still
    paths[:] = np.asarray(starts, float)[:, None]
    success, held, collided = (np.zeros(count, bool) for _ in range(3))
    steps, lengths, inside = (np.zeros(count, int) for _ in range(3))
    here = obs_steps - 1  # column of `paths` where the robot is now
    alive = np.arange(count)
    for step in range(max_steps):
        if step % execute_steps == 0:
            chunk = _ask(policy, paths[alive, here - obs_steps + 1 : here + 1], goals[alive], horizon)
            asked = alive
        command = chunk[np.searchsorted(asked, alive), step % execute_steps]
        move = command - paths[alive, here]
        far = np.linalg.norm(move, axis=1) / (speed_limit_m_s * PERIOD_S)
        now = paths[alive, here] + move / np.maximum(far, 1.0)[:, None]
        free = maze.free(paths[alive, here], now, robot_radius_m)
        paths[alive, here + 1 :] = now[:, None]
        at_goal = free & (np.linalg.norm(now - goals[alive], axis=1) <= goal_radius_m)
        inside[alive] = np.where(at_goal, inside[alive] + 1, 0)
        lengths[alive] = step + 1
        steps[alive[~success[alive]]] = step + 1
        success[alive] |= at_goal
        collided[alive] = ~free
        held[alive] = inside[alive] > HOLD_STEPS  # arrived, and then that many steps
        alive = alive[~(collided[alive] | held[alive])]
        here += 1
        if not len(alive):
            break
    paths = paths[:, obs_steps - 1 :]
    rough = np.array([roughness(path[: n + 1]) for path, n in zip(paths, steps, strict=True)])
    return Trials(success, held, collided, steps, lengths, paths, rough)


def summary(trials: Trials) -> Summary:
    """Count the trials: Wilson intervals of the rates, a normal one of the mean roughness of successes."""
    count, good = len(trials.success), trials.success
    rough = trials.roughness[good]
    mean, half = np.nan, np.nan
    if len(rough) > 1:
        mean, half = rough.mean(), 1.96 * rough.std(ddof=1) / np.sqrt(len(rough))
    return Summary(
        success=success_rate(int(good.sum()), count),
        held=success_rate(int(trials.held.sum()), count),
        collided=success_rate(int(trials.collided.sum()), count),
        roughness=float(mean),
        roughness_low=float(mean - half),
        roughness_high=float(mean + half),
        mean_steps=float(trials.steps[good].mean()) if good.any() else float("nan"),
    )


def _ask(policy: Policy, history: np.ndarray, goal: np.ndarray, horizon: int) -> np.ndarray:
    chunk = np.asarray(policy(history, goal), float)
    if chunk.shape != (len(goal), horizon, 2) or not np.isfinite(chunk).all():
        finite = "finite" if np.isfinite(chunk).all() else "not all finite"
        raise MazeError(
            f"the policy gave {chunk.shape}, {finite}; it must give finite positions "
            f"({len(goal)}, {horizon}, 2)"
        )
    return chunk
