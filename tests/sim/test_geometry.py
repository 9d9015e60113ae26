"""Plane geometry against independent formulas."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import expm

from sim import se2
from sim.free_path import FreePath
from sim.push_planner import PlannerConfig, PushPlanner, pose_error
from sim.quasistatic import elementary_pushes
from sim.tee import Tee

TEE = Tee((0.1651, 0.04064), (0.04064, 0.12447))
NUMBER = st.floats(-2, 2)
POSE = st.tuples(NUMBER, NUMBER, NUMBER).map(np.array)


def matrix(pose: np.ndarray) -> np.ndarray:
    c, s = np.cos(pose[2]), np.sin(pose[2])
    return np.array([[c, -s, pose[0]], [s, c, pose[1]], [0, 0, 1]])


@given(POSE, st.floats(0, 1))
def test_exp_is_the_matrix_exponential(twist, distance):
    generator = np.array([[0, -twist[2], twist[0]], [twist[2], 0, twist[1]], [0, 0, 0]])
    np.testing.assert_allclose(matrix(se2.exp(twist, distance)), expm(generator * distance), atol=1e-9)


@given(POSE, POSE)
def test_compose_is_the_matrix_product(a, b):
    np.testing.assert_allclose(matrix(se2.compose(a, b)), matrix(a) @ matrix(b), atol=1e-9)


@given(POSE, st.tuples(NUMBER, NUMBER).map(np.array))
def test_body_and_world_are_inverse(pose, point):
    np.testing.assert_allclose(se2.to_world(pose, se2.to_body(pose, point)), point, atol=1e-9)


def sampled_area() -> np.ndarray:
    """Points spread evenly over the T: the independent witness for its integrals."""
    rng = np.random.default_rng(0)
    (b, s), n = TEE.boxes, 200_000
    share = np.prod(b.size) / (np.prod(b.size) + np.prod(s.size))
    counts = (round(n * share), n - round(n * share))
    return np.concatenate(
        [
            rng.uniform(-0.5, 0.5, (k, 2)) * box.size + box.centre
            for k, box in zip(counts, (b, s), strict=True)
        ]
    )


def test_the_frame_is_the_centre_of_mass_35_mm_from_the_bar():
    np.testing.assert_allclose(sampled_area().mean(axis=0), 0, atol=3e-4)
    assert TEE.boxes[0].centre[1] == pytest.approx(0.03548, abs=1e-5)
    assert TEE.radius_m == pytest.approx(0.1112, abs=1e-4)


def test_friction_radius_is_the_mean_distance():
    assert TEE.friction_radius_m == pytest.approx(np.hypot(*sampled_area().T).mean(), rel=3e-3)


def test_feet_carry_the_first_and_second_moments_of_the_area():
    feet, area = TEE.support_points(), sampled_area()
    assert feet.shape == (28, 2)
    np.testing.assert_allclose(feet.mean(axis=0), 0, atol=3e-4)
    np.testing.assert_allclose((feet**2).mean(axis=0), (area**2).mean(axis=0), rtol=0.02)


def test_normals_point_into_the_body():
    for face in TEE.faces:
        middle = (face.start + 0.5 * face.length_m * face.tangent) + 1e-4 * face.normal
        assert any(
            x0 < middle[0] < x1 and y0 < middle[1] < y1 for x0, y0, x1, y1 in (b.bounds() for b in TEE.boxes)
        )


def test_contact_points_move_at_unit_speed_and_a_central_push_goes_straight():
    pushes = elementary_pushes(TEE, 1 / 3, 0.015)
    velocity = pushes.twist[:, :2] + pushes.twist[:, 2:] * np.stack(
        [-pushes.point[:, 1], pushes.point[:, 0]], 1
    )
    np.testing.assert_allclose(np.linalg.norm(velocity, axis=1), 1)
    assert np.all((velocity * pushes.normal).sum(axis=1) > 0), "a push moves into the body"
    through_com = (
        np.abs(pushes.point[:, 0] * pushes.normal[:, 1] - pushes.point[:, 1] * pushes.normal[:, 0]) < 1e-9
    )
    straight = np.abs(pushes.twist[:, 2]) < 1e-9
    assert np.any(through_com & straight)


def test_planned_push_brings_the_model_closer():
    pushes = elementary_pushes(TEE, 1 / 3, 0.015)
    planner = PushPlanner(pushes, PlannerConfig(), np.random.default_rng(0))
    rng = np.random.default_rng(1)
    goal = np.array([0.587, -0.0355, 0.0])
    for _ in range(20):
        pose = goal + rng.uniform(-1, 1, 3) * [0.1, 0.1, np.pi]
        push = planner.plan(pose, goal, np.array([0.587, 0.15]))
        reached = se2.compose(pose, se2.exp(pushes.twist[push.index], push.length_m))
        assert np.isfinite(pose_error(reached, goal))
    assert planner.plan(goal, goal, goal[:2]) is None, "at the goal no push helps"


@given(st.floats(0, 2 * np.pi), st.floats(0, 2 * np.pi))
def test_routes_never_touch_the_tee(a, b):
    paths = FreePath(TEE, 0.015)
    ends = [0.16 * np.array([np.cos(t), np.sin(t)]) for t in (a, b)]
    points = [ends[0], *paths.route(*ends)]
    for p, q in pairwise(points):
        for s in np.linspace(0, 1, 60):
            x, y = p + s * (q - p)
            for box in TEE.boxes:
                x0, y0, x1, y1 = box.bounds()
                assert np.hypot(max(x0 - x, 0, x - x1), max(y0 - y, 0, y - y1)) >= 0.015
    np.testing.assert_array_equal(points[-1], ends[1])
