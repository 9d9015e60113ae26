"""The scripted operator: plans a push, walks round the T to it, pushes by feedback, replans, and parks the
tool.

It sees the true pose of the slider. Two styles: `planner` is quick and even; `teleop` chooses less well,
drives at a wandering speed, pauses, trembles and overshoots, as a person with a joystick does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sim import se2
from sim.corruptions import MISTAKES, Novice
from sim.free_path import FreePath
from sim.push_planner import PlannedPush, PlannerConfig, PushPlanner, pose_error
from sim.quasistatic import elementary_pushes
from sim.reach import Reach
from sim.scenario import Scenario
from sim.se2 import Array

BEFORE_M = 0.012
"""The tool goes to this distance of the contact, and straight on from there."""
MOST_PLANS = 8
"""An arm that cannot walk to the contacts of so many plans takes the first, and slides along its reach."""
StyleName = Literal["planner", "teleop"]


@dataclass(frozen=True, kw_only=True)
class Style:
    """How an operator moves."""

    planner: PlannerConfig
    free_speed_m_s: float = 0.20
    push_speed_m_s: float = 0.06
    speed_spread: float = 0.0
    """Step of the Ornstein-Uhlenbeck process whose exponential multiplies both speeds."""
    pause_rate: float = 0.0
    """Chance per step of a pause of 0.2 to 0.6 s."""
    tremor_m: float = 0.0
    length_spread: float = 0.0
    """Relative standard deviation of how far a push goes."""

    def faster(self, factor: float) -> Style:
        """Return the style with both speeds times `factor`."""
        free, push = self.free_speed_m_s * factor, self.push_speed_m_s * factor
        return replace(self, free_speed_m_s=free, push_speed_m_s=push)


STYLES: dict[StyleName, Style] = {
    "planner": Style(planner=PlannerConfig()),
    "teleop": Style(
        planner=PlannerConfig(depth=2, choice_noise=0.004),
        free_speed_m_s=0.16,
        push_speed_m_s=0.05,
        speed_spread=0.25,
        pause_rate=0.02,
        tremor_m=0.0008,
        length_spread=0.2,
    ),
}


class Expert:
    """Drives the tool, one policy period at a time, until the T is home and the tool parked.

    Args:
        scenario: geometry, friction, goal.
        style: name of an entry of `STYLES`.
        rng: all its randomness.
        speed: factor on both its speeds.
        novice: what it does badly.
        stop_m, stop_deg: it is satisfied at this much better than the task asks.
    """

    def __init__(
        self,
        scenario: Scenario,
        style: StyleName,
        rng: np.random.Generator,
        *,
        speed: float = 1.0,
        novice: Novice | None = None,
        stop_m: float = 0.006,
        stop_deg: float = 2.0,
    ) -> None:
        self._style, self._rng = STYLES[style].faster(speed), rng
        self._novice = novice or Novice()
        self._goal = np.asarray(scenario.task.goal)
        self._home = np.asarray(scenario.task.tool_home)
        self._radius = scenario.pusher.radius_m
        self._period = scenario.policy_period_s
        self._stop = (stop_m, np.deg2rad(stop_deg))
        tee = scenario.slider.tee
        self._pushes = elementary_pushes(tee, scenario.pusher.friction, self._radius)
        self._barred = np.zeros(len(self._pushes), dtype=bool)
        self._reach = None if scenario.arm is None else Reach.of(scenario.pusher.tip_height_m)
        reachable = None if self._reach is None else self._reachable
        self._planner = PushPlanner(self._pushes, self._style.planner, rng, reachable)
        self._paths = FreePath(tee, self._radius)
        self._mode: Literal["plan", "free", "approach", "push", "home"] = "plan"
        self._push = PlannedPush(0, 0.0)
        self._left_m = 0.0
        self._pause = 0
        self._log_speed = 0.0
        self._thinking = self._stray_left = 0
        self._stray = np.zeros(2)
        self._planned_m = np.inf
        self._wrong = False
        self._mistake = 0

    @property
    def mistake(self) -> int:
        """What was wrong with the last action: an index of `sim.corruptions.MISTAKES`."""
        return self._mistake

    def satisfied(self, slider_pose: Array) -> bool:
        """Whether the T is close enough to the goal for this operator."""
        d = slider_pose - self._goal
        return bool(np.hypot(d[0], d[1]) < self._stop[0] and abs(se2.wrap(d[2])) < self._stop[1])

    def replan(self) -> None:
        """Forget the push in hand: something else has moved the tool."""
        self._mode = "plan"

    def act(self, slider_pose: Array, tool_xy: Array) -> Array | None:
        """Return the tool position (2,) to reach one policy period from now, or None when all is done."""
        self._mistake = 0
        if (held_up := self._hold_up(tool_xy)) is not None:
            return held_up
        if self._pause > 0:
            self._pause -= 1
            return tool_xy + self._tremor()
        if self._style.pause_rate and self._rng.random() < self._style.pause_rate:
            self._pause = int(self._rng.integers(2, 7))
        factor = self._speed_factor()
        # A novice who pushes does not see in time that it is enough.
        watching = not (self._novice.overshoot and self._mode == "push")
        if self._mode != "home" and watching and self.satisfied(slider_pose):
            self._mode = "home"
        if self._mode == "home" and not self.satisfied(slider_pose):
            self._mode = "plan"
        if self._mode == "home":
            if np.linalg.norm(tool_xy - self._home) < 0.002:
                return None
            return self._walk(slider_pose, tool_xy, se2.to_body(slider_pose, self._home), factor)
        if self._mode == "plan" and not self._choose(slider_pose, tool_xy):
            return tool_xy.copy()
        body_xy = se2.to_body(slider_pose, tool_xy)
        contact = self._pushes.tool_at_contact(self._push.index, self._radius)
        before = contact - BEFORE_M * self._pushes.normal[self._push.index]
        if self._mode == "free":
            if np.linalg.norm(body_xy - contact) < 0.006:
                self._mode = "push"
            elif np.linalg.norm(body_xy - before) < 0.003:
                self._mode = "approach"
            else:
                return self._walk(slider_pose, tool_xy, before, factor)
        if self._mode == "approach":
            gap = contact - body_xy
            distance = float(np.linalg.norm(gap))
            if distance >= 0.003:
                step = min(1.0, 0.5 * self._style.free_speed_m_s * factor * self._period / distance)
                return se2.to_world(slider_pose, body_xy + gap * step) + self._tremor()
            self._mode = "push"
        return self._drive(slider_pose, body_xy, contact, factor)

    def _choose(self, slider_pose: Array, tool_xy: Array) -> bool:
        push = self._plan(slider_pose, tool_xy)
        if push is None:
            return False
        self._wrong = bool(self._novice.wrong_push and self._rng.random() < self._novice.wrong_push)
        if self._wrong:
            push = self._any_push(slider_pose)
        spread = self._style.length_spread
        self._push, self._mode = push, "free"
        self._left_m = push.length_m * float(np.clip(1 + spread * self._rng.standard_normal(), 0.5, 1.5))
        self._planned_m = np.inf
        if self._novice.overshoot:
            further = self._left_m * self._novice.overshoot * float(self._rng.exponential())
            self._planned_m, self._left_m = further, self._left_m + further
        if spread:
            self._pause = int(self._rng.integers(0, 4))
        return True

    def _plan(self, slider_pose: Array, tool_xy: Array) -> PlannedPush | None:
        """Plan a push; of an arm, one to which it can walk without leaving its reach, if there is any."""
        first = push = self._planner.plan(slider_pose, self._goal, tool_xy)
        if self._reach is None:
            return first
        passable, here = self._passable(slider_pose), se2.to_body(slider_pose, tool_xy)
        if self._paths.too_close(here):
            here = self._paths.retreat(here, passable=passable)
        self._barred[:] = False
        for _ in range(MOST_PLANS):
            if push is None:
                break
            before = self._pushes.tool_at_contact(push.index, self._radius + BEFORE_M)
            if self._paths.find(here, before, passable) is not None:
                return push
            point = self._pushes.point
            self._barred |= np.linalg.norm(point - point[push.index], axis=1) < BEFORE_M
            push = self._planner.plan(slider_pose, self._goal, tool_xy)
        return first

    def _any_push(self, slider_pose: Array) -> PlannedPush:
        """Pick a push of 10 to 40 mm at random, among those that leave the T within reach."""
        lengths = self._rng.uniform(0.010, 0.040, len(self._pushes))
        ends = se2.compose(slider_pose, se2.exp(self._pushes.twist, lengths))
        away = np.abs(ends[:, :2] - self._goal[:2]).max(axis=1)
        fine = np.flatnonzero(away < self._style.planner.reach_m)
        # From outside the reach, the push that brings it back most.
        index = int(self._rng.choice(fine)) if len(fine) else int(np.argmin(away))
        return PlannedPush(index, float(lengths[index]))

    def _hold_up(self, tool_xy: Array) -> Array | None:
        """Return what a novice who thinks or has lost the T does (2,); None when nothing is the matter."""
        novice = self._novice
        if not novice.active or self._mode == "home":
            return None
        if self._stray_left > 0:
            self._stray_left -= 1
            self._mistake = MISTAKES.index("lost_contact")
            return tool_xy + self._stray + self._tremor()
        if novice.lose_contact and self._mode == "push" and self._rng.random() < novice.lose_contact:
            steps = max(1, round(1.0 / self._period))
            angle = self._rng.uniform(-np.pi, np.pi)
            step_m = 0.05 / steps
            self._stray = step_m * np.array([np.cos(angle), np.sin(angle)])
            self._stray_left, self._mode = steps - 1, "plan"
            self._mistake = MISTAKES.index("lost_contact")
            return tool_xy + self._stray + self._tremor()
        if self._thinking == 0 and novice.pause_rate and self._rng.random() < novice.pause_rate:
            self._thinking = round(self._rng.uniform(*novice.pause_s) / self._period)
        if self._thinking > 0:
            self._thinking -= 1
            self._mistake = MISTAKES.index("pause")
            return tool_xy + self._tremor()
        return None

    def _reachable(self, poses: Array, pushes: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Whether an arm gets to where these pushes touch, and to where the tool waits just before."""
        assert self._reach is not None
        touching = self._pushes.point - self._pushes.normal * self._radius
        waiting = touching - BEFORE_M * self._pushes.normal
        fine = [
            self._reach.contains(se2.compose(poses, np.c_[p, np.zeros(len(p))][pushes])[..., :2])
            for p in (touching, waiting)
        ]
        return fine[0] & fine[1] & ~self._barred[pushes]

    def _passable(self, slider_pose: Array) -> Callable[[Array], bool] | None:
        reach = self._reach
        if reach is None:
            # A novice strays to where `retreat` finds a way only if told the reach, which has no end here.
            return (lambda _: True) if self._novice.active else None
        return lambda corner: bool(reach.contains(se2.to_world(slider_pose, corner)))

    def _walk(self, slider_pose: Array, tool_xy: Array, goal_body: Array, factor: float) -> Array:
        here = se2.to_body(slider_pose, tool_xy)
        left = self._style.free_speed_m_s * factor * self._period
        passable = self._passable(slider_pose)
        if self._paths.too_close(here) and np.linalg.norm(here - goal_body) > 0.003:
            away = self._paths.retreat(here, passable=passable) - here
            here = here + away * min(1.0, left / max(float(np.linalg.norm(away)), 1e-9))
        else:
            for point in self._paths.route(here, goal_body, passable):
                distance = float(np.linalg.norm(point - here))
                if distance > left:
                    here = here + (point - here) * (left / distance)
                    break
                here, left = point, left - distance
        return se2.to_world(slider_pose, here) + self._tremor()

    def _drive(self, slider_pose: Array, body_xy: Array, contact: Array, factor: float) -> Array:
        error = float(pose_error(slider_pose, self._goal))
        step = min(
            self._style.push_speed_m_s * factor * self._period, self._left_m + 0.0005, 0.002 + 0.1 * error
        )
        if self._wrong:
            self._mistake = MISTAKES.index("wrong_push")
        elif self._left_m <= self._planned_m < np.inf:
            self._mistake = MISTAKES.index("overshoot")
        twist = self._pushes.twist[self._push.index]
        target = se2.to_world(se2.compose(slider_pose, se2.exp(twist, step)), contact)
        self._left_m -= step
        ahead = se2.compose(slider_pose, se2.exp(twist, min(max(self._left_m, 0.0), 0.01)))
        slipped = np.linalg.norm(body_xy - contact) > 0.02
        if self._left_m <= 0.0006 or slipped or pose_error(ahead, self._goal) > error + 0.02:
            self._mode = "plan"
        return target + self._tremor()

    def _speed_factor(self) -> float:
        if not self._style.speed_spread:
            return 1.0
        self._log_speed += -0.3 * self._log_speed + self._style.speed_spread * self._rng.standard_normal()
        return float(np.clip(np.exp(self._log_speed), 0.35, 1.8))

    def _tremor(self) -> Array:
        if not self._style.tremor_m:
            return np.zeros(2)
        return self._style.tremor_m * self._rng.standard_normal(2)
