"""Clean plans: shortest smooth paths through the free boxes, by Drake's graph of convex sets."""

from __future__ import annotations

import numpy as np
from pydrake.common import Parallelism
from pydrake.geometry.optimization import GraphOfConvexSetsOptions, HPolyhedron, Point
from pydrake.planning import GcsTrajectoryOptimization
from pydrake.solvers import Binding, ClarabelSolver, Cost, QuadraticCost

from sim.maze.world import PERIOD_S, PLAN_CLEARANCE_M, Maze, MazeError

ORDER = 6
"""Of the Bezier curve in each box."""
SMOOTHNESS = 100.0
"""Weight of the squared second differences of control points against 1 for a metre of path."""
SPEED_LIMIT_M_S = 1.5
ACCELERATION_LIMIT_M_S2 = 1.5
ROUNDED_PATHS = 10


def plan(maze: Maze, start: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Plan from `start` to `goal` (2,) and return positions (N + 1, 2), one every `PERIOD_S` [m].

    Minimises path length, duration and squared second differences of the control points. Velocity and
    acceleration are continuous, and zero at both ends. Curves lie in the hull of their control points, thus
    inside boxes that are free by `PLAN_CLEARANCE_M`.

    Raises: MazeError when the solver finds no path.
    Source: Marcucci et al. 2023, "Motion planning around obstacles with convex optimization".
    """
    boxes = maze.free_boxes(PLAN_CLEARANCE_M)
    cells = [set(opening) for opening in maze.openings]
    edges = [(i, j) for i, a in enumerate(cells) for j, b in enumerate(cells) if i != j and a & b]
    gcs = GcsTrajectoryOptimization(2)
    # All boxes take the same time: only then is continuity in the curves' own parameter continuity in time.
    regions = gcs.AddRegions(
        [HPolyhedron.MakeBox(box[:2], box[2:]) for box in boxes], edges, ORDER, h_min=1.0, h_max=1.0
    )
    first, last = (
        gcs.AddRegions([Point(start)], 0, h_min=0, h_max=0),
        gcs.AddRegions([Point(goal)], 0, h_min=0, h_max=0),
    )
    for edge in (gcs.AddEdges(first, regions), gcs.AddEdges(regions, last)):
        edge.AddZeroDerivativeConstraints(1)
        edge.AddZeroDerivativeConstraints(2)
    for derivative in (1, 2):
        regions.AddPathContinuityConstraints(derivative)
    regions.AddPathLengthCost(1.0)
    regions.AddTimeCost(1.0)
    gcs.AddVelocityBounds(np.full(2, -3.0), np.full(2, 3.0))  # per unit of the parameter
    control = regions.vertex_control_points()  # (2, ORDER + 1)
    bends = np.diff(np.eye(ORDER + 1), 2, axis=0)
    # Said to be convex, which it is: rounding leaves eigenvalues of -1e-15, and Drake would refuse those.
    cost = QuadraticCost(2 * SMOOTHNESS * bends.T @ bends, np.zeros(ORDER + 1), 0.0, True)
    for axis in control:
        regions.AddVertexCost(Binding[Cost](cost, axis))
    options = GraphOfConvexSetsOptions()
    options.convex_relaxation, options.max_rounded_paths, options.preprocessing = True, ROUNDED_PATHS, True
    options.solver, options.parallelism = ClarabelSolver(), Parallelism(False)
    curve, result = gcs.SolvePath(first, last, options)
    if not result.is_success():
        raise MazeError(f"no smooth path from {start} to {goal}: {result.get_solution_result()}")
    return _timed(curve)


def _timed(curve) -> np.ndarray:
    """Stretch time until both limits hold and the end falls on a period; evenly, which keeps it smooth."""
    begin, end = curve.start_time(), curve.end_time()
    fine = np.linspace(begin, end, 50 * max(1, round(end - begin)) + 1)
    speed = np.linalg.norm(curve.MakeDerivative(1).vector_values(fine), axis=0).max()
    bend = np.linalg.norm(curve.MakeDerivative(2).vector_values(fine), axis=0).max()
    stretch = max(speed / SPEED_LIMIT_M_S, np.sqrt(bend / ACCELERATION_LIMIT_M_S2))
    steps = int(np.ceil(stretch * (end - begin) / PERIOD_S))
    return np.ascontiguousarray(curve.vector_values(np.linspace(begin, end, steps + 1)).T)
