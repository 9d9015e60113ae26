"""From pushes to motion in time: free ways round the T, arcs of pushing, one even speed profile for both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sim import se2
from sim.free_path import FreePath
from sim.plan_model import Push, PushModel
from sim.se2 import Array

STEP_M = 0.0005
"""Between the points of a path."""
FREE = -1


@dataclass(frozen=True)
class Motion:
    """Tool and T over time, M samples that are not evenly spaced.

    Attributes:
        time_s: (M,) from 0 on.
        tool_xy: (M, 2) world [m].
        slider_pose: (M, 3) world [m, m, rad], as the model has it.
        push: (M,) index of the push in hand, or `FREE`.
        speed_m_s: (M,) of the tool; between two samples it changes evenly.
    """

    time_s: Array
    speed_m_s: Array
    tool_xy: Array
    slider_pose: Array
    push: np.ndarray

    def at(self, time_s: ArrayLike) -> tuple[Array, Array]:
        """Return tool (N, 2) and T (N, 3) at times (N,); before the start and after the end it rests."""
        t = np.clip(time_s, 0.0, self.duration_s)
        i = np.clip(np.searchsorted(self.time_s, t, side="right") - 1, 0, len(self.time_s) - 2)
        whole = np.maximum(self.time_s[i + 1] - self.time_s[i], 1e-12)
        part = np.clip((t - self.time_s[i]) / whole, 0, 1)
        first, last = self.speed_m_s[i], self.speed_m_s[i + 1]
        way = (first * part + (last - first) * part**2 / 2) / np.maximum((first + last) / 2, 1e-12)
        share = np.where(part == 1, 1.0, way)[:, None]
        tool = self.tool_xy[i] + share * (self.tool_xy[i + 1] - self.tool_xy[i])
        return tool, self.slider_pose[i] + share * (self.slider_pose[i + 1] - self.slider_pose[i])

    @property
    def duration_s(self) -> float:
        """Time of the last sample."""
        return float(self.time_s[-1])


def join(motions: Iterable[Motion]) -> Motion:
    """Let motions follow one another."""
    parts, offset = list(motions), 0.0
    times = []
    for part in parts:
        times.append(part.time_s + offset)
        offset += part.duration_s
    return Motion(
        np.concatenate(times),
        np.concatenate([p.speed_m_s for p in parts]),
        np.concatenate([p.tool_xy for p in parts]),
        np.concatenate([p.slider_pose for p in parts]),
        np.concatenate([p.push for p in parts]),
    )


def time_along(points: Array, speed_m_s: float, acceleration_m_s2: float) -> tuple[Array, Array]:
    """Return when a path (M, 2) is at each of its points (M,), and how fast (M,): from rest to rest.

    The squares of tangential and centripetal acceleration may each use half of the bound's square. One pass
    forwards and one backwards, as in Bobrow, Dubowsky & Gibson 1985.
    """
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    if not steps.sum():
        return np.zeros(len(points)), np.zeros(len(points))
    share = acceleration_m_s2 / np.sqrt(2)
    heading = np.unwrap(np.arctan2(*np.diff(points, axis=0).T[::-1]))
    mean_step = np.maximum((steps[1:] + steps[:-1]) / 2, 1e-12)
    curvature = np.abs(np.diff(heading)) / mean_step
    squared = np.full(len(points), speed_m_s**2)
    squared[1:-1] = np.minimum(squared[1:-1], share / np.maximum(curvature, 1e-9))
    squared[0] = squared[-1] = 0.0
    for i in range(1, len(points)):
        squared[i] = min(squared[i], squared[i - 1] + 2 * share * steps[i - 1])
    for i in range(len(points) - 2, -1, -1):
        squared[i] = min(squared[i], squared[i + 1] + 2 * share * steps[i])
    speed = np.sqrt(squared)
    # Exact for a constant acceleration between two points.
    taken = np.where(steps > 0, 2 * steps / np.maximum(speed[1:] + speed[:-1], 1e-9), 0.0)
    return np.concatenate([[0.0], np.cumsum(taken)]), speed


def rounded(corners: Sequence[Array], blend_m: float) -> Array:
    """Return a line (M, 2) from the first of `corners` to the last, each cut by a parabola of `blend_m`."""
    points = [np.asarray(corners[0], float)]
    for before, corner, after in zip(corners[:-2], corners[1:-1], corners[2:], strict=True):
        legs = [float(np.linalg.norm(end - corner)) for end in (before, after)]
        reach = min(blend_m, *(leg / 2 for leg in legs))
        if reach < STEP_M:
            points.append(corner)
            continue
        a = corner + (before - corner) * (reach / legs[0])
        b = corner + (after - corner) * (reach / legs[1])
        t = np.linspace(0, 1, max(3, int(np.ceil(2 * reach / STEP_M))))[:, None]
        points.extend((1 - t) ** 2 * a + 2 * t * (1 - t) * corner + t**2 * b)
    points.append(np.asarray(corners[-1], float))
    return _resampled(np.array(points))


def _resampled(points: Array) -> Array:
    lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    at = np.linspace(0, lengths[-1], max(2, int(np.ceil(lengths[-1] / STEP_M)) + 1))
    return np.stack([np.interp(at, lengths, c) for c in points.T], -1)


class MotionMaker:
    """Makes the motions of a plan for one model. What it makes never overlaps the T, or it returns None."""

    APPROACH_M = 0.012

    def __init__(self, model: PushModel) -> None:
        self._model, self._config = model, model.config
        self._paths = FreePath(model.tee, model.radius_m)

    def walk(
        self, pose: Array, tool_xy: Array, goal_body: Array, leave: Push | None, arrive: Push | None
    ) -> Motion | None:
        """Bring the tool from `tool_xy` (2,) in the world to `goal_body` (2,) in the frame of a T at rest.

        Args:
            leave, arrive: pushes that ended here and begin there; the tool leaves and arrives along their
                normals.
        """
        here = se2.to_body(pose, tool_xy)
        corners = [here]
        if leave is not None:
            corners.append(here - self.APPROACH_M * self._model.tee.faces[leave.face].normal)
        elif self._paths.too_close(here):
            corners.append(self._paths.retreat(here))
        last = goal_body
        if arrive is not None:
            last = self._model.tool_at(arrive.face, np.asarray(arrive.along_m), self.APPROACH_M)
        corners += self._paths.route(corners[-1], last)
        if arrive is not None:
            corners.append(goal_body)
        for blend_m in (0.03, 0.015, 0.007, 0.003, 0.0):
            path = rounded(corners, blend_m)
            touching = arrive is not None or leave is not None
            if self._clear(path, 0.0 if touching else 0.001):
                return self._motion(path, self._config.free_speed_m_s, pose)
        return None

    def walk_home(self, pose: Array, tool_xy: Array, home: Array, leave: Push | None) -> Motion | None:
        """Bring the tool to `home` (2,) in the world."""
        return self.walk(pose, tool_xy, se2.to_body(pose, home), leave, None)

    def push(self, pose: Array, push: Push, index: int) -> Motion:
        """Move tool and T along one push that begins at `pose` (3,)."""
        count = max(3, int(np.ceil(push.length_m / STEP_M)) + 1)
        poses = self._model.apply(pose, push, np.linspace(0, 1, count))
        body = self._model.tool_at(push.face, np.asarray(push.along_m))
        tool = np.array([se2.to_world(p, body) for p in poses])
        timing = time_along(tool, self._config.push_speed_m_s, self._config.acceleration_m_s2)
        return Motion(*timing, tool, poses, np.full(count, index))

    def _motion(self, path: Array, speed_m_s: float, pose: Array) -> Motion:
        c, s = np.cos(pose[2]), np.sin(pose[2])
        world = pose[:2] + path @ np.array([[c, s], [-s, c]])
        timing = time_along(world, speed_m_s, self._config.acceleration_m_s2)
        return Motion(*timing, world, np.tile(pose, (len(path), 1)), np.full(len(path), FREE))

    def _clear(self, path: Array, margin_m: float) -> bool:
        gap = np.full(len(path), np.inf)
        for box in self._model.tee.boxes:
            x0, y0, x1, y1 = box.bounds()
            dx = np.maximum(np.maximum(x0 - path[:, 0], path[:, 0] - x1), 0)
            dy = np.maximum(np.maximum(y0 - path[:, 1], path[:, 1] - y1), 0)
            gap = np.minimum(gap, np.hypot(dx, dy))
        # A tool that has just pushed may lie a little inside the T's outline as it was measured.
        slack = 1e-6 if margin_m > 0 else 1.5e-3
        inner = gap[1:-1] if margin_m == 0 and len(gap) > 2 else gap
        return bool(inner.min() >= self._model.radius_m + margin_m - slack)
