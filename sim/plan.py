"""Whole plans, open loop: a beam search for the faces, SNOPT for the rest, free ways between."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sim.plan_model import PlanConfig, Push, PushModel
from sim.plan_motion import Motion, MotionMaker, join
from sim.push_planner import PlannerConfig, PushPlanner, pose_error
from sim.scenario import Scenario
from sim.se2 import Array
from sim.smooth import Smoothed, smooth

ENOUGH_M = 0.006
"""A plan that was not smoothed may end this far from the goal, in the measure of `pose_error`."""
GUESS_M = 0.03
"""SNOPT starts from beam plans that end at least this close."""


@dataclass(frozen=True)
class Plan:
    """Pushes that bring the T from a start to a goal, by the planner's model."""

    start: Array
    goal: Array
    pushes: tuple[Push, ...]
    poses: Array
    """(K + 1, 3) of the T before the first push and after each."""
    smoothed: Smoothed | None
    """What SNOPT did; None when the beam search's own pushes are used."""
    tried: tuple[Smoothed, ...] = ()
    """All that SNOPT was asked for on the way."""
    attempts: int = 1


class Planner:
    """Plans for one scenario: keeps the model, its table of pushes and the free ways."""

    def __init__(self, scenario: Scenario, config: PlanConfig) -> None:
        self.scenario, self.config = scenario, config
        self.model = PushModel(scenario, config)
        self.motions = MotionMaker(self.model)

    def plan(self, slider_pose: Array, goal: Array, tool_xy: Array, rng: np.random.Generator) -> Plan | None:
        """Return a plan, or None when no attempt gave one. The first attempt draws nothing from `rng`."""
        tried: list[Smoothed] = []
        for attempt in range(self.config.attempts):
            noise = 0.0 if attempt == 0 else 0.006
            guess = self._beam(slider_pose, goal, tool_xy, noise, rng)
            pushes, found = self._best(slider_pose, goal, tool_xy, guess, tried)
            if pushes is None:
                continue
            poses = self._poses(slider_pose, pushes)
            plan = Plan(slider_pose, goal, pushes, poses, found, tuple(tried), attempt + 1)
            if self._inside(plan, tool_xy):
                return plan
        return None

    def motion(self, plan: Plan, tool_xy: Array, home: Array | None) -> Motion | None:
        """Return the whole motion of a plan from `tool_xy` (2,) on, to `home` (2,) at the end unless None.

        None when a way would touch the T or leave the workspace.
        """
        parts, tool, leave = [], np.asarray(tool_xy, float), None
        for index, push in enumerate(plan.pushes):
            contact = self.model.tool_at(push.face, np.asarray(push.along_m))
            free = self.motions.walk(plan.poses[index], tool, contact, leave, push)
            if free is None:
                return None
            arc = self.motions.push(plan.poses[index], push, index)
            parts += [free, arc]
            tool, leave = arc.tool_xy[-1], push
        if home is not None:
            back = self.motions.walk_home(plan.poses[-1], tool, np.asarray(home), leave)
            if back is None:
                return None
            parts.append(back)
        whole = join(parts)
        low, high = self.scenario.limits.workspace_min, self.scenario.limits.workspace_max
        inside = (whole.tool_xy >= low) & (whole.tool_xy <= high)
        return whole if inside.all() else None

    def _beam(
        self, pose: Array, goal: Array, tool_xy: Array, noise: float, rng: np.random.Generator
    ) -> list[Push]:
        """Search, take the first push, search again from where the model says it ends."""
        search = PushPlanner(self.model.table, PlannerConfig(choice_noise=noise), rng)
        pushes: list[Push] = []
        tool = tool_xy
        for _ in range(self.config.max_pushes):
            step = search.plan(pose, goal, tool)
            if step is None:
                break
            push = self.model.push_of(step.index, step.length_m)
            pose = self.model.apply(pose, push)
            tool = self.model.tool_world(pose, push)
            last = pushes[-1] if pushes else None
            if last is not None and replace(last, length_m=0.0) == replace(push, length_m=0.0):
                push = replace(push, length_m=last.length_m + push.length_m)
                pushes.pop()
            pushes.append(push)
        return pushes

    def _best(
        self, pose: Array, goal: Array, tool_xy: Array, guess: list[Push], tried: list[Smoothed]
    ) -> tuple[tuple[Push, ...] | None, Smoothed | None]:
        """Smooth the guess and its beginnings that come near the goal; take the cheapest that succeeds."""
        poses = self._poses(pose, guess)
        near = [k for k in range(2, len(guess) + 1) if pose_error(poses[k], goal) < GUESS_M]
        best: Smoothed | None = None
        if self.config.smooth:
            for k in near[:3]:
                found = smooth(self.model, pose, goal, tool_xy, guess[:k])
                tried.append(found)
                if found.success and (best is None or found.cost_after < best.cost_after):
                    best = found
        if best is not None:
            return best.pushes, best
        if guess and pose_error(poses[-1], goal) < ENOUGH_M:
            return tuple(guess), None
        return None, None

    def _poses(self, pose: Array, pushes: tuple[Push, ...] | list[Push]) -> Array:
        poses = [np.asarray(pose, float)]
        for push in pushes:
            poses.append(self.model.apply(poses[-1], push))
        return np.array(poses)

    def _inside(self, plan: Plan, tool_xy: Array) -> bool:
        return self.motion(plan, tool_xy, None) is not None
