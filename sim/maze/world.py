"""One fixed maze: its walls, exact collision of points and straight moves, and random starts and goals.

Numpy only, and batched: thousands of moves are checked at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ambient_policy.errors import AmbientPolicyError

PERIOD_S = 0.1
ROBOT_RADIUS_M = 0.02
"""Of the disc that must not touch a wall in a trial."""
PLAN_CLEARANCE_M = 0.2
"""Distance that both planners keep from walls: 18 cm more than a trial asks for, over one step of a plan."""
DRAWS = 1000
"""How often a start and a goal are drawn before giving up."""

# A spanning tree (8 openings) and one opening more, so that there is a loop with two ways round.
_LAYOUT = """
+--+--+--+
|        |
+  +--+  +
|     |  |
+  +--+  +
|        |
+--+--+--+
"""


class MazeError(AmbientPolicyError):
    """A layout cannot be read, or no plan or start can be found in it."""


@dataclass(frozen=True)
class Maze:
    """Square cells with thick walls on some of their borders.

    Attributes:
        layout: the picture, one text line for every row of posts (`+`) and every row of cells; the top
            line is the side of largest y.
        cell_m: side of a cell, from the middle of one wall to the middle of the next.
        wall_m: thickness of the walls; they reach half of it beyond both posts.
    """

    layout: str = _LAYOUT
    cell_m: float = 1.0
    wall_m: float = 0.1

    def __post_init__(self) -> None:
        lines = self.layout.strip("\n").splitlines()
        lengths = sorted({len(line) for line in lines})
        if len(lines) < 3 or len(lines) % 2 == 0 or len(lengths) != 1:
            raise MazeError(
                f"the layout has {len(lines)} lines of lengths {lengths}; it needs an odd number of equally "
                "long lines: posts, cells, posts, ..."
            )

    @cached_property
    def _rows(self) -> list[str]:
        return self.layout.strip("\n").splitlines()[::-1]  # row 0 is y = 0

    @property
    def shape(self) -> tuple[int, int]:
        """Return the number of cells along x and along y."""
        return len(self._rows[0]) // 3, len(self._rows) // 2

    @cached_property
    def openings(self) -> list[tuple[tuple[int, int], tuple[int, int]]]:
        """Return the pairs of neighbouring cells (column, row) without a wall between them."""
        columns, rows = self.shape
        found = []
        for i in range(columns):
            for j in range(rows):
                if i + 1 < columns and self._rows[2 * j + 1][3 * i + 3] == " ":
                    found.append(((i, j), (i + 1, j)))
                if j + 1 < rows and self._rows[2 * j + 2][3 * i + 1] == " ":
                    found.append(((i, j), (i, j + 1)))
        return found

    @cached_property
    def walls(self) -> np.ndarray:
        """Return (K, 4) x_low, y_low, x_high, y_high of the wall rectangles [m], straight runs merged."""
        columns, rows = self.shape
        runs = []
        for j in range(rows + 1):
            solid = [self._rows[2 * j][3 * i + 1] != " " for i in range(columns)]
            runs += [(low, j, high, j) for low, high in _runs(solid)]
        for i in range(columns + 1):
            solid = [self._rows[2 * j + 1][3 * i] != " " for j in range(rows)]
            runs += [(i, low, i, high) for low, high in _runs(solid)]
        half = self.wall_m / 2
        return np.array(runs, dtype=float) * self.cell_m + np.array([-half, -half, half, half])

    def free_boxes(self, clearance_m: float) -> np.ndarray:
        """Return (K, 4) boxes low x, y, high x, y, one over the two cells of every opening [m].

        Each is free of walls by `clearance_m` and more; boxes with a cell in common overlap in that cell.
        """
        inset = self.wall_m / 2 + clearance_m
        boxes = [(*low, high[0] + 1, high[1] + 1) for low, high in self.openings]
        return np.array(boxes, dtype=float) * self.cell_m + np.array([inset, inset, -inset, -inset])

    def distance(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Return (N,) the distance between straight moves (N, 2) -> (N, 2) and the nearest wall [m].

        Exact; 0 when a move touches a wall. A point is a move of no length.
        """
        start, end = np.asarray(start, float)[:, None], np.asarray(end, float)[:, None]  # (N, 1, 2)
        low, high = self.walls[:, :2], self.walls[:, 2:]
        move = end - start
        # Where along the move, 0 to 1, it is between the two sides of a wall. A move along an axis divides by
        # 0, and the infinities say in or out; 0 / 0, a move along a face, touches a corner or starts there.
        with np.errstate(divide="ignore", invalid="ignore"):
            first, second = (low - start) / move, (high - start) / move
            enter, leave = np.minimum(first, second).max(-1), np.maximum(first, second).min(-1)
        touches = (enter <= leave) & (enter <= 1) & (leave >= 0)
        # Two convex shapes that do not touch are nearest at a corner of one of them.
        nearest = np.minimum(_to_box(start, low, high), _to_box(end, low, high))
        for x, y in ((0, 1), (2, 1), (0, 3), (2, 3)):
            nearest = np.minimum(nearest, _to_segment(self.walls[:, [x, y]], start, move))
        return np.where(touches, 0.0, nearest).min(-1)

    def free(self, start: np.ndarray, end: np.ndarray, clearance_m: float = ROBOT_RADIUS_M) -> np.ndarray:
        """Tell (N,) which straight moves (N, 2) -> (N, 2) keep `clearance_m` from every wall."""
        return self.distance(start, end) >= clearance_m

    def start_and_goal(
        self, rng: np.random.Generator, apart_m: float = 2.0, clearance_m: float = PLAN_CLEARANCE_M
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw a start and a goal (2,), uniform over the free space and at least `apart_m` apart."""
        boxes, size = self.free_boxes(clearance_m), np.array(self.shape) * self.cell_m
        for _ in range(DRAWS):
            points = rng.uniform(size=(2, 2)) * size
            inside = ((points[:, None] >= boxes[:, :2]) & (points[:, None] <= boxes[:, 2:])).all(-1).any(-1)
            if inside.all() and np.linalg.norm(points[1] - points[0]) >= apart_m:
                return points[0], points[1]
        raise MazeError(
            f"no start and goal {apart_m} m apart in {DRAWS} draws; ask for less, or a larger maze"
        )


def start_and_goal(maze: Maze, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the start and goal (2,) that belong to a seed, the same for planners and trials."""
    return maze.start_and_goal(np.random.default_rng(seed))


def polyline_length(path: np.ndarray) -> float:
    """Return the length of a path (N, 2) [m]."""
    return float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())


def _runs(solid: list[bool]) -> list[tuple[int, int]]:
    """Return (first, past the last) of every run of True."""
    edges = np.flatnonzero(np.diff([False, *solid, False]))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _to_box(point: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.linalg.norm(np.maximum(np.maximum(low - point, point - high), 0.0), axis=-1)


def _to_segment(point: np.ndarray, start: np.ndarray, move: np.ndarray) -> np.ndarray:
    length_2 = (move**2).sum(-1)
    along = ((point - start) * move).sum(-1) / np.where(length_2 > 0, length_2, 1.0)
    return np.linalg.norm(start + np.clip(along, 0.0, 1.0)[..., None] * move - point, axis=-1)
