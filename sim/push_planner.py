"""Beam search over a few pushes in a row: which face, where, which way, how far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim import se2
from sim.quasistatic import Pushes
from sim.se2 import Array

LENGTHS_M = np.array([0.003, 0.006, 0.010, 0.016, 0.025, 0.040, 0.060, 0.090, 0.130, 0.180])
YAW_WEIGHT_M = 0.08
"""One radian of yaw error counts as this much distance."""


def pose_error(pose: Array, goal: Array) -> Array:
    """Return the weighted distance (...) of poses (..., 3) from a goal (3,) [m]."""
    return np.sqrt(
        (pose[..., 0] - goal[0]) ** 2
        + (pose[..., 1] - goal[1]) ** 2
        + (YAW_WEIGHT_M * se2.wrap(pose[..., 2] - goal[2])) ** 2
    )


@dataclass(frozen=True)
class PlannedPush:
    """The first push of the best sequence found."""

    index: int
    length_m: float


@dataclass(frozen=True, kw_only=True)
class PlannerConfig:
    """Costs are in metres of remaining pose error."""

    depth: int = 3
    beam: int = 24
    per_metre: float = 0.05
    per_push: float = 0.0024
    per_travel_metre: float = 0.010
    """Of the free motion to the first contact."""
    reach_m: float = 0.24
    """The slider's centre stays within this distance of the goal along each axis."""
    choice_noise: float = 0.0
    """Standard deviation added to the cost of each first contact: people do not choose alike."""


Reachable = Callable[[Array, NDArray[np.intp]], NDArray[np.bool_]]
"""Tells for poses (..., 3) of the slider whether the tool gets to the contact of the pushes (...)."""


class PushPlanner:
    """Plans with the quasi-static model. Costs of acting shrink near the goal, else it would stop short.

    Args:
        pushes: the table to choose from.
        reachable: None where the tool gets everywhere. A push is taken if the tool gets to both its ends.
    """

    def __init__(
        self,
        pushes: Pushes,
        config: PlannerConfig,
        rng: np.random.Generator,
        reachable: Reachable | None = None,
    ) -> None:
        self._pushes, self._config, self._rng, self._reachable = pushes, config, rng, reachable
        n = len(pushes)
        self._displacement = se2.exp(pushes.twist[:, None, :], LENGTHS_M[None, :]).reshape(-1, 3)
        self._push_of = np.repeat(np.arange(n), len(LENGTHS_M))
        self._length = np.tile(LENGTHS_M, n)

    def plan(self, slider_pose: Array, goal: Array, tool_xy: Array) -> PlannedPush | None:
        """Return the first push to make from here, or None when no push improves on standing still."""
        cfg = self._config
        pose = np.asarray(slider_pose, dtype=float)
        error = float(pose_error(pose, goal))
        effort = min(1.0, error / 0.04)
        first_cost = cfg.per_travel_metre * effort * self._travel(pose, tool_xy)
        if cfg.choice_noise:
            first_cost = first_cost + cfg.choice_noise * effort * self._rng.standard_normal(len(self._pushes))
        step_cost = cfg.per_metre * min(1.0, error / 0.03) * self._length + cfg.per_push * effort
        best_total, best_first = error, None
        costs, poses, firsts = np.zeros(1), pose[None], np.array([-1])
        for depth in range(cfg.depth):
            reached = se2.compose(poses[:, None, :], self._displacement[None])
            cost = costs[:, None] + step_cost[None]
            if depth == 0:
                cost = cost + first_cost[self._push_of][None]
            total = pose_error(reached, goal) + cost
            outside = np.any(np.abs(reached[..., :2] - goal[:2]) > cfg.reach_m, axis=-1)
            # A slider that already lies outside may be pushed anywhere that brings it closer.
            total = np.where(
                outside & (np.abs(reached[..., :2] - goal[:2]).max(-1) >= np.abs(pose[:2] - goal[:2]).max()),
                np.inf,
                total,
            )
            if self._reachable is not None:
                at_start = self._reachable(poses[:, None, :], np.arange(len(self._pushes))[None])
                at_end = self._reachable(reached, self._push_of[None])
                total = np.where(at_start[:, self._push_of] & at_end, total, np.inf)
            width = min(cfg.beam * 12, total.size)
            order = np.argpartition(total, width - 1, axis=None)[:width]
            order = order[np.argsort(total.flat[order], kind="stable")]
            rows, columns = np.unravel_index(order, total.shape)
            leaders = columns if depth == 0 else firsts[rows]
            if total.flat[order[0]] < best_total:
                best_total, best_first = float(total.flat[order[0]]), int(leaders[0])
            # One survivor for each (parent, push): lengths of the same push are near-duplicates.
            _, keep = np.unique(np.stack([rows, self._push_of[columns]]), axis=1, return_index=True)
            keep = np.sort(keep)[: cfg.beam]
            keep = keep[np.isfinite(total[rows[keep], columns[keep]])]
            if not len(keep):
                break
            costs, poses = cost[rows[keep], columns[keep]], reached[rows[keep], columns[keep]]
            firsts = leaders[keep]
        if best_first is None:
            return None
        return PlannedPush(int(self._push_of[best_first]), float(self._length[best_first]))

    def _travel(self, pose: Array, tool_xy: Array) -> Array:
        c, s = np.cos(pose[2]), np.sin(pose[2])
        p = self._pushes.point
        world = pose[:2] + np.stack([c * p[:, 0] - s * p[:, 1], s * p[:, 0] + c * p[:, 1]], -1)
        return np.linalg.norm(world - tool_xy, axis=1)
