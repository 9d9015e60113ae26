"""Collision-free motion of the pusher round the T, in the T's frame: shortest path over inflated corners."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

import numpy as np

from sim.se2 import Array
from sim.tee import Shape

Bounds = tuple[float, float, float, float]


def _segment_hits(a: Array, b: Array, boxes: Sequence[Bounds]) -> bool:
    d = b - a
    for x0, y0, x1, y1 in boxes:
        enter, leave = 0.0, 1.0
        for axis, low, high in ((0, x0, x1), (1, y0, y1)):
            if abs(d[axis]) < 1e-12:
                if not low < a[axis] < high:
                    enter, leave = 1.0, 0.0
                    break
                continue
            u, v = sorted(((low - a[axis]) / d[axis], (high - a[axis]) / d[axis]))
            enter, leave = max(enter, u), min(leave, v)
        if enter < leave - 1e-9:
            return True
    return False


def _inside(p: Array, boxes: Sequence[Bounds]) -> bool:
    return any(x0 < p[0] < x1 and y0 < p[1] < y1 for x0, y0, x1, y1 in boxes)


class FreePath:
    """Routes a disc of radius `radius_m` round the T, keeping `clearance_m` from it."""

    def __init__(self, tee: Shape, radius_m: float, clearance_m: float = 0.008) -> None:
        def grown(margin: float) -> list[Bounds]:
            return [box.bounds(radius_m + margin) for box in tee.boxes]

        self._near = grown(clearance_m - 0.0015)
        self._blocked = grown(clearance_m)
        self._touching = grown(0.0005)
        corners = [
            np.array(q)
            for x0, y0, x1, y1 in grown(clearance_m + 0.004)
            for q in ((x0, y0), (x0, y1), (x1, y0), (x1, y1))
        ]
        self._corners = [q for q in corners if not _inside(q, self._blocked)]
        self._open = {
            (i, j): not _segment_hits(p, q, self._blocked)
            for i, p in enumerate(self._corners)
            for j, q in enumerate(self._corners)
        }

    def too_close(self, p: Array) -> bool:
        """Whether the disc at `p` (2,) is inside the clearance of the T."""
        return _inside(p, self._near)

    def retreat(
        self, p: Array, step_m: float = 0.014, passable: Callable[[Array], bool] | None = None
    ) -> Array:
        """Return a point (2,) a short step away from the T, from a place too close to it.

        Args:
            passable: says which points (2,) the tool can reach; None for all.
        """
        q = self._step_away(p, step_m, passable, touching=False)
        # At a rounded corner the disc may be deeper in the boxes than the first quarter of a step. Only where
        # reach is limited: the floating pusher waits there, and its demonstrations stay what they were.
        if q is None and passable is not None:
            q = self._step_away(p, step_m, passable, touching=True)
        return p if q is None else q

    def _step_away(
        self, p: Array, step_m: float, passable: Callable[[Array], bool] | None, *, touching: bool
    ) -> Array | None:
        best, best_score = None, -np.inf
        for angle in np.linspace(0, 2 * np.pi, 24, endpoint=False):
            q = p + step_m * np.array([np.cos(angle), np.sin(angle)])
            if not touching and (
                _inside(q, self._touching) or _segment_hits(p + 0.25 * (q - p), q, self._touching)
            ):
                continue
            if passable is not None and not passable(q):
                continue
            depth = sum(
                max(0.0, min(q[0] - x0, x1 - q[0], q[1] - y0, y1 - q[1])) for x0, y0, x1, y1 in self._blocked
            )
            if -depth > best_score:
                best, best_score = q, -depth
        return best

    def route(
        self, start: Array, goal: Array, passable: Callable[[Array], bool] | None = None
    ) -> list[Array]:
        """Return way points from `start` (excluded) to `goal`; a straight line when nothing else is open.

        Args:
            passable: says which corners (2,) the tool can reach; None for all. If there is no way by those,
                the others are taken too: the tool then slides along the edge of its reach.
        """
        path = self.find(start, goal, passable)
        if path is None and passable is not None:
            path = self.find(start, goal)
        return [goal] if path is None else path

    def find(
        self, start: Array, goal: Array, passable: Callable[[Array], bool] | None = None
    ) -> list[Array] | None:
        """Return way points from `start` (excluded) to `goal`, past passable corners only, or None."""
        if not _segment_hits(start, goal, self._blocked):
            return [goal]
        n = len(self._corners)
        leave = [not _segment_hits(start, q, self._blocked) for q in self._corners]
        usable = [passable is None or passable(q) for q in self._corners]
        leave = [free and fine for free, fine in zip(leave, usable, strict=True)]
        arrive = [not _segment_hits(q, goal, self._blocked) for q in self._corners]
        cost = [np.inf] * (n + 1)
        parent = [-1] * (n + 1)
        queue: list[tuple[float, int]] = []
        for i in range(n):
            if leave[i]:
                cost[i] = float(np.linalg.norm(self._corners[i] - start))
                heapq.heappush(queue, (cost[i], i))
        while queue:
            c, i = heapq.heappop(queue)
            if i == n:
                break
            if c > cost[i]:
                continue
            steps = [(j, self._corners[j]) for j in range(n) if j != i and usable[j] and self._open[i, j]]
            if arrive[i]:
                steps.append((n, goal))
            for j, q in steps:
                d = c + float(np.linalg.norm(q - self._corners[i]))
                if d < cost[j]:
                    cost[j], parent[j] = d, i
                    heapq.heappush(queue, (d, j))
        if not np.isfinite(cost[n]):
            return None
        path, i = [goal], parent[n]
        while i >= 0:
            path.append(self._corners[i])
            i = parent[i]
        return path[::-1]
