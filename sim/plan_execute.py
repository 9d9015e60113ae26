"""Carries plans out in real contact: each push open loop, but begun where the T was measured to be."""

from __future__ import annotations

from collections import deque

import numpy as np

from sim import se2
from sim.plan import Plan, Planner
from sim.plan_motion import Motion, join
from sim.push_planner import pose_error
from sim.se2 import Array

LOST_M = 0.03
"""A T that lies further than this from where the plan has it, in the measure of `pose_error`: plan again."""


class PlanFollower:
    """Drives the tool along plans until the T is home, as `sim.demonstrate` asks an operator to.

    A push is the plan's face, contact point, force and length; the way to it and its arc start from the
    measured pose. When the plan is through and the T is not home, another one is made from where it lies.

    Args:
        rng: used when a first attempt at a plan fails.
        stop_m, stop_deg: when it is satisfied.
    """

    def __init__(
        self, planner: Planner, rng: np.random.Generator, *, stop_m: float = 0.006, stop_deg: float = 2.0
    ) -> None:
        self._planner, self._rng = planner, rng
        self._stop = (stop_m, np.deg2rad(stop_deg))
        scenario = planner.scenario
        self._goal, self._home = np.array(scenario.task.goal), np.array(scenario.task.tool_home)
        self._period_s = scenario.policy_period_s
        self._targets: deque[Array] = deque()
        self._plan: Plan | None = None
        self._next = 0
        self._going_home = False
        self._kicked = False
        self.plans = 0
        """How many plans were made."""

    def satisfied(self, slider_pose: Array) -> bool:
        """Whether the T is close enough to the goal."""
        d = slider_pose - self._goal
        return bool(np.hypot(d[0], d[1]) < self._stop[0] and abs(se2.wrap(d[2])) < self._stop[1])

    def replan(self) -> None:
        """Forget what is under way: something else has moved the tool."""
        self._targets.clear()
        self._plan, self._going_home, self._kicked = None, False, True

    @property
    def mistake(self) -> int:
        """Plans make none that they know of."""
        return 0

    def act(self, slider_pose: Array, tool_xy: Array) -> Array | None:
        """Return the tool position (2,) to reach one policy period from now, or None when all is done."""
        if not self._targets:
            if self._going_home and self.satisfied(slider_pose):
                return None
            self._fill(slider_pose, tool_xy)
        return self._targets.popleft() if self._targets else tool_xy.copy()

    def _fill(self, pose: Array, tool_xy: Array) -> None:
        leave = None
        if self._plan is not None and self._next > 0:
            leave = self._plan.pushes[self._next - 1]
        motion: Motion | None
        if self.satisfied(pose):
            self._going_home = True
            motion = self._planner.motions.walk_home(pose, tool_xy, self._home, leave)
            self._queue(motion)
            return
        self._going_home = False
        plan = self._plan
        if plan is None or self._next >= len(plan.pushes) or self._astray(plan, pose):
            self.plans += 1
            plan = self._planner.plan(pose, self._goal, tool_xy, self._rng)
            previous, self._plan, self._next = leave, plan, 0
        else:
            previous = leave
        if plan is None:
            return
        push = plan.pushes[self._next]
        model = self._planner.model
        contact = model.tool_at(push.face, np.asarray(push.along_m))
        free = self._planner.motions.walk(pose, tool_xy, contact, previous, push)
        if free is None:
            self._plan = None
            return
        self._next += 1
        self._queue(join([free, self._planner.motions.push(pose, push, self._next - 1)]))

    def _astray(self, plan: Plan, pose: Array) -> bool:
        return bool(pose_error(pose, plan.poses[self._next]) > LOST_M)

    def _queue(self, motion: Motion | None) -> None:
        if motion is None:
            return
        count = int(np.ceil(motion.duration_s / self._period_s))
        tool, _ = motion.at((1 + np.arange(count)) * self._period_s)
        self._targets.extend(tool)
