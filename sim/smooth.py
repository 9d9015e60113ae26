"""Let SNOPT choose all pushes of a plan together, their faces given, so that the T ends at the goal exactly.

The face sequence is the discrete part and comes from a search; what is left is smooth and small: contact
point, direction of force and length of every push.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydrake.autodiffutils import ExtractGradient, ExtractValue, InitializeAutoDiff
from pydrake.solvers import MathematicalProgram, SnoptSolver, SolverOptions

from sim import se2
from sim.plan_model import Push, PushModel
from sim.se2 import Array

LENGTH_UNIT_M = 0.05
"""Of the solver's variables, so that all are about 1."""
SHORTEST_M, LONGEST_M = 0.002, 0.25
POSITION_UNIT_M, YAW_UNIT_RAD = 0.01, 0.1
_STEP = 1e-30


@dataclass(frozen=True)
class Smoothed:
    """What SNOPT made of a guess; costs by the same formula, [m] in the units of `PlanConfig`."""

    pushes: tuple[Push, ...]
    success: bool
    """The solver was content and the T ends within 1e-6 of the goal."""
    cost_before: float
    cost_after: float
    cpu_s: float


class _Problem:
    """Cost and end pose of a face sequence by x (..., 3 K): along, slope and length of each push."""

    def __init__(
        self, model: PushModel, start: Array, goal: Array, tool_xy: Array, faces: Sequence[int]
    ) -> None:
        self.model, self.start, self.faces, self.tool_xy = model, start, faces, tool_xy
        self.goal, self.config = goal, model.config
        self._memory: tuple[bytes, Array, Array] | None = None

    def unpack(self, x: Array) -> list[tuple[int, Array, Array, Array]]:
        mu = self.model.friction
        return [
            (f, x[..., 3 * k] * LENGTH_UNIT_M, x[..., 3 * k + 1] * mu, x[..., 3 * k + 2] * LENGTH_UNIT_M)
            for k, f in enumerate(self.faces)
        ]

    def pack(self, pushes: Sequence[Push]) -> Array:
        mu = self.model.friction or 1.0
        rows = [(p.along_m / LENGTH_UNIT_M, p.slope / mu, p.length_m / LENGTH_UNIT_M) for p in pushes]
        return np.array(rows).ravel()

    def bounds(self) -> tuple[Array, Array]:
        rows = [
            ((low / LENGTH_UNIT_M, -1.0, SHORTEST_M / LENGTH_UNIT_M), (high / LENGTH_UNIT_M, 1.0, 5.0))
            for low, high in (self.model.spans[f] for f in self.faces)
        ]
        return np.array([r[0] for r in rows]).ravel(), np.array([r[1] for r in rows]).ravel()

    def values(self, x: Array) -> Array:
        """Return cost and scaled end error, (..., 4); x may be complex."""
        cfg = self.config
        pose = np.broadcast_to(self.start.astype(x.dtype), (*x.shape[:-1], 3))
        tool: Array | None = None
        cost = 0.0
        for k, (face, along, slope, length) in enumerate(self.unpack(x)):
            tool_body = self.model.tool_at(face, along)
            before = se2.compose(pose, _point(tool_body))[..., :2]
            gap = before - (self.tool_xy if tool is None else tool)
            free = np.sqrt((gap**2).sum(-1) + 1e-6)
            step = self.model.displacement(face, along, slope, length)
            pose = se2.compose(pose, step)
            tool = se2.compose(pose, _point(tool_body))[..., :2]
            cost = cost + cfg.per_push_metre * length + cfg.per_free_metre * free
            cost = cost + cfg.per_turn * step[..., 2] ** 2 + cfg.per_slope * x[..., 3 * k + 1] ** 2
        error = (pose - self.goal) / np.array([POSITION_UNIT_M, POSITION_UNIT_M, YAW_UNIT_RAD])
        return np.concatenate([np.asarray(cost)[..., None], error], -1)

    def derivatives(self, x: Array) -> tuple[Array, Array]:
        """Return values (4,) and Jacobian (4, 3 K), exact to rounding by a complex step (Squire 1998)."""
        if self._memory is None or self._memory[0] != x.tobytes():
            out = self.values(x + 1j * _STEP * np.eye(len(x)))
            self._memory = (x.tobytes(), out[0].real, out.imag.T / _STEP)
        return self._memory[1], self._memory[2]

    def part(self, x: Any, rows: slice) -> Any:
        """Evaluate some rows of the values for Drake: with numbers, or with AutoDiff."""
        if x.dtype != object:
            return self.values(x)[rows]
        value, jacobian = self.derivatives(ExtractValue(x).ravel())
        return InitializeAutoDiff(value[rows], jacobian[rows] @ ExtractGradient(x)).ravel()


def _point(xy: Array) -> Array:
    return np.concatenate([xy, np.zeros_like(xy[..., :1])], -1)


def smooth(
    model: PushModel, start: Array, goal: Array, tool_xy: Array, guess: Sequence[Push], iterations: int = 200
) -> Smoothed:
    """Optimise the pushes of `guess`, whose faces stay, so that the T goes from `start` (3,) to `goal` (3,).

    Short and smooth: see the costs of `PlanConfig`. `tool_xy` (2,): where the pusher comes from.
    """
    began = time.process_time()
    reached = start
    for push in guess:
        reached = model.apply(reached, push)
    # Whole turns: the goal is the one next to where the guess ends.
    wanted = np.array([*goal[:2], reached[2] - se2.wrap(reached[2] - goal[2])])
    problem = _Problem(model, np.asarray(start, float), wanted, tool_xy, [p.face for p in guess])
    low, high = problem.bounds()
    x0 = np.clip(problem.pack(guess), low, high)
    program = MathematicalProgram()
    x = program.NewContinuousVariables(len(x0))
    program.AddBoundingBoxConstraint(low, high, x)
    program.AddCost(lambda v: problem.part(v, slice(0, 1))[0], vars=x)
    program.AddConstraint(lambda v: problem.part(v, slice(1, 4)), np.zeros(3), np.zeros(3), vars=x)
    options = SolverOptions()
    solver = SnoptSolver()
    options.SetOption(solver.solver_id(), "Major iterations limit", iterations)
    options.SetOption(solver.solver_id(), "Major feasibility tolerance", 1e-9)
    options.SetOption(solver.solver_id(), "Major optimality tolerance", 1e-5)
    result = solver.Solve(program, x0, options)
    found = np.clip(result.GetSolution(x), low, high)
    pushes = tuple(
        Push(face, float(along), float(slope), float(length))
        for face, along, slope, length in problem.unpack(found)
    )
    after = problem.values(found)
    miss = np.abs(after[1:] * [POSITION_UNIT_M, POSITION_UNIT_M, YAW_UNIT_RAD]).max()
    return Smoothed(
        pushes,
        bool(result.is_success() and miss < 1e-6),
        float(problem.values(x0)[0]),
        float(after[0]),
        time.process_time() - began,
    )
