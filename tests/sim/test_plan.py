"""Plans are what they claim: quasi-static pushes inside the friction cone, from the start to the goal."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from sim import se2
from sim.plan import ENOUGH_M, Plan, Planner
from sim.plan_model import PlanConfig, Push
from sim.plan_motion import FREE, Motion, time_along
from sim.push_planner import pose_error
from sim.scenario import Scenario, load_scenario
from sim.smooth import _Problem, smooth
from sim.starts import clearance_m, sample_start

pytestmark = pytest.mark.sim
SCENARIO = load_scenario("source")
GOAL, HOME = np.array(SCENARIO.task.goal), np.array(SCENARIO.task.tool_home)
SEEDS = range(700_000, 700_004)


class Body:
    """The T and its friction, written down anew: bar 165.1 x 40.64, stem 40.64 x 124.47 mm."""

    def __init__(self, centre=(0.0, 0.0)) -> None:
        bar, stem = 0.1651 * 0.04064, 0.04064 * 0.12447
        top = (0.04064 + 0.12447) / 2 * stem / (bar + stem) + 0.02032
        low, w, s = top - 0.04064, 0.1651 / 2, 0.04064 / 2
        ring = [(-w, top), (-w, low), (-s, low), (-s, low - 0.12447), (s, low - 0.12447), (s, low), (w, low)]
        self.corners = np.array([*ring, (w, top)])
        # The reference's limit surface: largest moment = 0.3 x largest radius x largest force.
        self.ratio = 0.3 * np.linalg.norm(self.corners, axis=1).max()
        self.centre = np.array(centre)

    def face(self, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        a, b = self.corners[k], self.corners[(k + 1) % 8]
        tangent = (b - a) / np.linalg.norm(b - a)
        return a, tangent, np.array([-tangent[1], tangent[0]]), float(np.linalg.norm(b - a))

    def velocity(self, point: np.ndarray, force: np.ndarray) -> np.ndarray:
        """Velocity (vx, vy, spin) of the body's origin along the gradient of f^2 + (m / ratio)^2."""
        arm = point - self.centre
        spin = (arm[0] * force[1] - arm[1] * force[0]) / self.ratio**2
        return np.array([force[0] + spin * self.centre[1], force[1] - spin * self.centre[0], spin])

    def push(self, pose: np.ndarray, push: Push) -> np.ndarray:
        """Integrate one push: the contact point travels `length_m` under a force fixed in the body."""
        start, tangent, normal, _ = self.face(push.face)
        point = start + push.along_m * tangent
        v = self.velocity(point, normal + push.slope * tangent)
        v = v / np.hypot(v[0] - v[2] * point[1], v[1] + v[2] * point[0])

        def rate(_, q):
            c, s = np.cos(q[2]), np.sin(q[2])
            return [c * v[0] - s * v[1], s * v[0] + c * v[1], v[2]]

        return solve_ivp(rate, (0, push.length_m), pose, rtol=1e-10, atol=1e-12).y[:, -1]

    def force(self, twist: np.ndarray) -> tuple[np.ndarray, float]:
        """Force (2,) and moment about the centre of friction behind a twist: the limit surface backwards."""
        at_centre = twist[:2] + twist[2] * np.array([-self.centre[1], self.centre[0]])
        return at_centre, float(twist[2] * self.ratio**2)


def planned(scenario: Scenario, config: PlanConfig, seed: int) -> tuple[Planner, Plan, Motion]:
    planner, start = Planner(scenario, config), sample_start(scenario, seed)
    plan = planner.plan(start.slider_pose, GOAL, start.tool_xy, np.random.default_rng(seed))
    assert plan is not None
    motion = planner.motion(plan, start.tool_xy, HOME)
    assert motion is not None
    return planner, plan, motion


@pytest.fixture(scope="module")
def plans() -> list[tuple[Planner, Plan, Motion]]:
    return [planned(SCENARIO, PlanConfig(), seed) for seed in SEEDS]


def test_an_independent_integration_ends_at_the_goal(plans):
    body = Body()
    for _, plan, motion in plans:
        pose = plan.start
        for push, after in zip(plan.pushes, plan.poses[1:], strict=True):
            pose = body.push(pose, push)
            np.testing.assert_allclose(pose, after, atol=1e-7)
        np.testing.assert_allclose(pose[:2], GOAL[:2], atol=2e-6)
        assert abs(se2.wrap(pose[2] - GOAL[2])) < 2e-6
        np.testing.assert_allclose(motion.slider_pose[-1], plan.poses[-1], atol=1e-12)
        np.testing.assert_array_equal(motion.slider_pose[0], plan.start)
        np.testing.assert_allclose(motion.tool_xy[[0, -1]], [HOME, HOME], atol=1e-9)


def test_every_step_obeys_limit_surface_and_friction_cone(plans):
    """From motion alone: the force behind each small step goes through the contact, inside the cone."""
    body, steps = Body(), 0
    for _, plan, motion in plans:
        for k, push in enumerate(plan.pushes):
            rows = np.flatnonzero(motion.push == k)
            start, tangent, normal, length = body.face(push.face)
            for i, j in pairwise(rows):
                a, b = motion.slider_pose[i], motion.slider_pose[j]
                twist = np.array([*se2.to_body(a, b[:2]), b[2] - a[2]])
                # The chord of a short arc points along its middle.
                c, s = np.cos(-twist[2] / 2), np.sin(-twist[2] / 2)
                twist[:2] = [c * twist[0] - s * twist[1], s * twist[0] + c * twist[1]]
                force, moment = body.force(twist)
                contact = se2.to_body(a, motion.tool_xy[i]) + 0.015 * normal
                arm = contact - body.centre
                assert force @ normal > 0, "a pusher cannot pull"
                assert abs(force @ tangent) <= 0.1 * (force @ normal) + 1e-6 * np.linalg.norm(force)
                np.testing.assert_allclose(
                    moment, arm[0] * force[1] - arm[1] * force[0], atol=1e-5 * np.linalg.norm(force)
                )
                along = (contact - start) @ tangent
                np.testing.assert_allclose((contact - start) @ normal, 0, atol=1e-9)
                np.testing.assert_allclose(along, push.along_m, atol=1e-9, err_msg="the contact sticks")
                assert 0.2 * length - 1e-9 <= along <= 0.8 * length + 1e-9
                steps += 1
    assert steps > 500


def test_free_motion_never_overlaps_the_body_and_leaves_it_at_rest(plans):
    for _, _, motion in plans:
        time_s = np.arange(0, motion.duration_s, 0.01)
        for tool, pose in zip(*motion.at(time_s), strict=True):
            assert clearance_m(SCENARIO, pose, tool) > -2e-5
        free = motion.push == FREE
        together = free[1:] & free[:-1] & (np.diff(motion.time_s) > 0)
        moved = np.abs(np.diff(motion.slider_pose, axis=0)).max(axis=1)
        assert moved[together].max() == 0


def test_speed_and_acceleration_are_bounded(plans):
    config, period = PlanConfig(), 0.02
    for _, _, motion in plans:
        tool, pose = motion.at(np.arange(0, motion.duration_s, period))
        speed = np.linalg.norm(np.diff(tool, axis=0), axis=1) / period
        pushing = np.abs(np.diff(pose, axis=0)).max(axis=1) > 1e-9
        assert speed.max() <= config.free_speed_m_s * 1.001
        assert speed[pushing[: len(speed)]].max() <= config.free_speed_m_s * 0.5
        acceleration = np.linalg.norm(np.diff(tool, 2, axis=0), axis=1) / period**2
        assert acceleration.max() <= 1.15 * config.acceleration_m_s2


def test_a_straight_way_takes_the_time_of_a_trapezoid():
    points = np.stack([np.linspace(0, 0.3, 601), np.zeros(601)], -1)
    along = 0.4 / np.sqrt(2)
    np.testing.assert_allclose(time_along(points, 0.1, 0.4)[0][-1], 0.3 / 0.1 + 0.1 / along, rtol=1e-3)
    short = time_along(points[:41], 0.5, 0.4)[0][-1]  # too short to reach the speed
    np.testing.assert_allclose(short, 2 * np.sqrt(0.02 / along), rtol=1e-3)


def test_smoothing_has_exact_derivatives_and_pays(plans):
    planner, plan, _ = plans[0]
    problem = _Problem(planner.model, plan.start, plan.goal, HOME, [p.face for p in plan.pushes])
    x = problem.pack(plan.pushes)
    values, jacobian = problem.derivatives(x)
    for i in range(len(x)):
        h = np.zeros(len(x))
        h[i] = 1e-6
        slope = (problem.values(x + h) - problem.values(x - h)) / 2e-6
        np.testing.assert_allclose(jacobian[:, i], slope, atol=1e-6 * max(1, np.abs(slope).max()))
    # A feasible but worse guess: solved again from it, the cost falls and the goal is still met.
    worse = x + 0.1 * np.tile([1.0, 0.5, 0.0], len(plan.pushes))
    again = smooth(planner.model, plan.start, plan.goal, HOME, _pushes(problem, worse))
    assert again.success
    assert again.cost_after <= values[0] * 1.02
    stopped = smooth(planner.model, plan.start, plan.goal, HOME, _pushes(problem, worse), iterations=1)
    assert not stopped.success


def _pushes(problem: _Problem, x: np.ndarray) -> list[Push]:
    return [Push(f, float(a), float(s), float(length)) for f, a, s, length in problem.unpack(x)]


def test_the_centre_of_mass_that_the_planner_believes_counts():
    shifted = load_scenario("source", {"slider": {"centre_of_mass_m": (0.0, -0.03)}})
    _, plan, _ = planned(shifted, PlanConfig(), 700_001)
    right, wrong = Body((0.0, -0.03)), Body()
    first = plan.pushes[0]
    np.testing.assert_allclose(right.push(plan.start, first), plan.poses[1], atol=1e-7)
    assert np.abs(wrong.push(plan.start, first) - plan.poses[1]).max() > 1e-3


def test_without_smoothing_the_beam_plan_is_taken_as_it_is():
    _, plan, _ = planned(SCENARIO, PlanConfig(smooth=False), 700_002)
    assert plan.smoothed is None
    assert not plan.tried
    assert 1e-5 < pose_error(plan.poses[-1], GOAL) < ENOUGH_M
