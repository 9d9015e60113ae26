"""A body as a union of boxes: where they lie, which faces can be pushed, how it rubs on the table."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sim.se2 import Array


@dataclass(frozen=True, kw_only=True)
class Box2:
    """An axis-parallel rectangle in the slider's frame [m]."""

    centre: tuple[float, float]
    size: tuple[float, float]

    def bounds(self, margin_m: float = 0.0) -> tuple[float, float, float, float]:
        """Return (x_min, y_min, x_max, y_max), grown by `margin_m` on every side."""
        (cx, cy), (w, h) = self.centre, self.size
        return (cx - w / 2 - margin_m, cy - h / 2 - margin_m, cx + w / 2 + margin_m, cy + h / 2 + margin_m)


@dataclass(frozen=True)
class Face:
    """One side of the outline, counter-clockwise; `normal` points into the body."""

    start: Array
    tangent: Array
    normal: Array
    length_m: float


class Shape:
    """What all bodies have in common. The origin is the centre of mass of the uniform body."""

    @property
    def boxes(self) -> tuple[Box2, ...]:
        """The boxes, disjoint, in the frame of the centre of mass."""
        raise NotImplementedError

    @property
    def outline(self) -> Array:
        """(n, 2) corners, counter-clockwise [m]."""
        raise NotImplementedError

    @cached_property
    def faces(self) -> tuple[Face, ...]:
        """The sides, in the order of `outline`."""
        faces = []
        for a, b in zip(self.outline, np.roll(self.outline, -1, axis=0), strict=True):
            length = float(np.linalg.norm(b - a))
            t = (b - a) / length
            faces.append(Face(a, t, np.array([-t[1], t[0]]), length))
        return tuple(faces)

    def carries(self, point: tuple[float, float]) -> bool:
        """Whether the body would stand with its centre of mass here: in the convex hull of the outline."""
        angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)
        directions = np.stack([np.cos(angles), np.sin(angles)])
        return bool(np.all((self.outline @ directions).max(axis=0) > np.asarray(point) @ directions))

    @cached_property
    def radius_m(self) -> float:
        """Largest distance of a point of the body from its centre of mass."""
        return float(np.linalg.norm(self.outline, axis=1).max())

    @cached_property
    def friction_radius_m(self) -> float:
        """Mean distance of the support area from the centre of mass.

        Ratio of the largest friction moment to the largest friction force under uniform pressure; the
        half-axis of the ellipsoidal limit surface (Goyal, Ruina & Papadopoulos 1991; Howe & Cutkosky 1996).
        """
        moment = area = 0.0
        for box in self.boxes:
            x0, y0, x1, y1 = box.bounds()
            grid = np.meshgrid(np.linspace(x0, x1, 101)[:-1], np.linspace(y0, y1, 101)[:-1])
            half = ((x1 - x0) / 200, (y1 - y0) / 200)
            moment += float(np.hypot(grid[0] + half[0], grid[1] + half[1]).mean() * np.prod(box.size))
            area += float(np.prod(box.size))
        return float(moment / area)

    def support_points(self, cell_m: float = 0.0406) -> Array:
        """(n, 2) points that carry the T with equal loads as a uniform pressure would.

        Each box is cut into cells of about `cell_m`; each cell gets the four points of a 2x2 Gauss rule,
        which integrates forces and moments of a linear pressure exactly.
        """
        points = []
        g = 1 / (2 * np.sqrt(3))
        for box in self.boxes:
            x0, y0, _, _ = box.bounds()
            n = [max(1, round(s / cell_m)) for s in box.size]
            cell = [s / k for s, k in zip(box.size, n, strict=True)]
            for i in range(n[0]):
                for j in range(n[1]):
                    centre = np.array([x0 + (i + 0.5) * cell[0], y0 + (j + 0.5) * cell[1]])
                    points += [
                        centre + np.array([sx * g * cell[0], sy * g * cell[1]])
                        for sx in (-1, 1)
                        for sy in (-1, 1)
                    ]
        return np.array(points)


@dataclass(frozen=True)
class Tee(Shape):
    """Bar along x, stem towards -y, origin at the centre of mass of the uniform body.

    Args:
        bar, stem: (width, height) of the two boxes [m].
    """

    bar: tuple[float, float]
    stem: tuple[float, float]

    @cached_property
    def boxes(self) -> tuple[Box2, ...]:
        """Bar and stem, in the frame of the centre of mass."""
        area_bar, area_stem = np.prod(self.bar), np.prod(self.stem)
        gap = (self.bar[1] + self.stem[1]) / 2
        y_bar = float(gap * area_stem / (area_bar + area_stem))
        return Box2(centre=(0.0, y_bar), size=self.bar), Box2(centre=(0.0, y_bar - gap), size=self.stem)

    @cached_property
    def outline(self) -> Array:
        """(8, 2) corners, counter-clockwise [m]."""
        x0, y0, x1, y1 = self.boxes[0].bounds()
        u0, v0, u1, _ = self.boxes[1].bounds()
        return np.array([(x0, y1), (x0, y0), (u0, y0), (u0, v0), (u1, v0), (u1, y0), (x1, y0), (x1, y1)])


@dataclass(frozen=True)
class BoxUnion(Shape):
    """Any body without holes made of boxes that touch and do not overlap.

    Args:
        parts: (centre x, centre y, width, depth) of each box [m], in any frame.

    Raises:
        ValueError: boxes overlap, or do not join into one body with a single outline.
    """

    parts: tuple[tuple[float, float, float, float], ...]

    def __post_init__(self) -> None:
        if min((min(w, h) for _, _, w, h in self.parts), default=0) <= 0:
            raise ValueError(f"parts {self.parts} need one box or more, each of positive width and depth")
        _ = self.outline

    @cached_property
    def boxes(self) -> tuple[Box2, ...]:
        """The parts, in the frame of their common centre of area."""
        rows = np.array(self.parts)
        area = rows[:, 2] * rows[:, 3]
        cx, cy = (rows[:, :2] * area[:, None]).sum(0) / area.sum()
        return tuple(Box2(centre=(x - cx, y - cy), size=(w, h)) for x, y, w, h in self.parts)

    @cached_property
    def outline(self) -> Array:
        """(n, 2) corners, counter-clockwise [m]: the boundary of the cells that the boxes' sides cut out."""
        bounds = np.array([box.bounds() for box in self.boxes])
        xs, ys = (np.unique(np.round(bounds[:, [i, i + 2]], 9)) for i in (0, 1))
        x, y = (xs[:-1] + xs[1:]) / 2, (ys[:-1] + ys[1:]) / 2
        count = np.zeros((len(x) + 2, len(y) + 2), dtype=int)  # a border of empty cells all round
        for x0, y0, x1, y1 in bounds:
            count[1:-1, 1:-1] += np.outer((x0 < x) & (x < x1), (y0 < y) & (y < y1))
        if count.max() > 1:
            raise ValueError(f"parts {self.parts} overlap; cut them so that every place is in one box only")
        following: dict[tuple[int, int], tuple[int, int]] = {}
        for i, j in np.argwhere(count):
            corners = [(i - 1, j - 1), (i, j - 1), (i, j), (i - 1, j)]
            beyond = [(i, j - 1), (i + 1, j), (i, j + 1), (i - 1, j)]
            for k in range(4):
                if not count[beyond[k]]:
                    if corners[k] in following:
                        raise ValueError(f"parts {self.parts} meet in a single point; let them share a side")
                    following[corners[k]] = corners[(k + 1) % 4]
        loop = [min(following)]
        while (corner := following.pop(loop[-1])) != loop[0]:
            loop.append(corner)
        if following:
            raise ValueError(f"parts {self.parts} have several outlines: they must touch and leave no hole")
        points = np.array([(xs[i], ys[j]) for i, j in loop])
        ahead, behind = np.roll(points, -1, axis=0) - points, points - np.roll(points, 1, axis=0)
        return points[np.abs(ahead[:, 0] * behind[:, 1] - ahead[:, 1] * behind[:, 0]) > 0]
