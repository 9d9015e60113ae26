"""The arm: kinematics against the published lengths, controller against limits, the seam to the station."""

from __future__ import annotations

import re

import numpy as np
import pytest

from ambient_policy.errors import ConfigError
from sim.arm_kinematics import ArmKinematics
from sim.expert import Expert
from sim.reach import Reach
from sim.scenario import Arm, load_scenario
from sim.starts import Start, sample_start
from sim.station import Station

pytestmark = pytest.mark.sim
SCENARIO = load_scenario("pushing_arm")
FLOATING = load_scenario("pushing")
GOAL, HOME = np.array(SCENARIO.task.goal), np.array(SCENARIO.task.tool_home)
TIP_HEIGHT_M = SCENARIO.pusher.tip_height_m
LIMITS_DEG = np.array([170, 120, 170, 120, 170, 120, 175])
SPEEDS_RAD_S = np.array([1.7, 1.7, 1.7, 2.2, 2.4, 3.1, 3.1])
AWAY = np.array([0.8, 0.25, 0.0])
"""A T that is in nobody's way."""


@pytest.fixture(scope="module")
def kinematics() -> ArmKinematics:
    return ArmKinematics(Arm(), TIP_HEIGHT_M)


@pytest.fixture(scope="module")
def blind() -> Station:
    return Station(SCENARIO, cameras=False)


def denavit_hartenberg(q: np.ndarray) -> np.ndarray:
    """Flange of the KUKA LBR iiwa 14 from its published table: d [m], twists of a quarter turn."""
    X = np.eye(4)
    twists = np.deg2rad([-90, 90, 90, -90, -90, 90, 0])
    for angle, d, twist in zip(q, [0.36, 0, 0.42, 0, 0.40, 0, 0.126], twists, strict=True):
        c, s, ct, st = np.cos(angle), np.sin(angle), np.cos(twist), np.sin(twist)
        X = X @ np.array([[c, -s * ct, s * st, 0], [s, c * ct, -c * st, 0], [0, st, ct, d], [0, 0, 0, 1]])
    return X


def tip_by_hand(q: np.ndarray) -> np.ndarray:
    """Pose of the rod's tip: 175 mm beyond the flange, looking back, half a turn about y."""
    return denavit_hartenberg(q) @ np.array([[-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 0.175], [0, 0, 0, 1]])


def test_forward_kinematics_is_that_of_the_published_table(kinematics):
    rng = np.random.default_rng(0)
    for _ in range(20):
        q = np.deg2rad(LIMITS_DEG) * rng.uniform(-1, 1, 7)
        np.testing.assert_allclose(kinematics.tip(q).GetAsMatrix4(), tip_by_hand(q), atol=1e-12)


def test_limits_are_the_published_ones(kinematics):
    margin = np.deg2rad(1.0)
    np.testing.assert_allclose(kinematics.upper, np.deg2rad(LIMITS_DEG) - margin, atol=1e-5)
    np.testing.assert_allclose(kinematics.lower, -np.deg2rad(LIMITS_DEG) + margin, atol=1e-5)
    np.testing.assert_allclose(kinematics.max_speed, 0.8 * SPEEDS_RAD_S)


def test_the_station_carries_the_rod_where_the_table_says(blind):
    blind.reset(Start(AWAY, HOME))
    X = tip_by_hand(blind.joint_positions())
    np.testing.assert_allclose(X[:3, 3], [*HOME, TIP_HEIGHT_M], atol=1e-6)
    np.testing.assert_allclose(X[:3, :3], np.eye(3), atol=1e-3, err_msg="upright, camera to the front")
    np.testing.assert_allclose(blind.tool_xy(), HOME, atol=1e-6)


def test_reach_is_a_triangle(kinematics):
    """Law of cosines by hand: upper arm 0.42, forearm 0.40, wrist 44 mm below the shoulder."""
    reach = Reach.of(0.015)
    for radius, bend_deg in ((reach.inner_m, 118), (reach.outer_m, 15)):
        far = 0.42**2 + 0.40**2 - 2 * 0.42 * 0.40 * np.cos(np.deg2rad(180 - bend_deg))
        assert radius**2 + 0.044**2 == pytest.approx(far)
        for angle in (-1.0, 0.0, 0.7):
            xy = radius * np.array([np.cos(angle), np.sin(angle)])
            q = kinematics.posture(xy)
            np.testing.assert_allclose(tip_by_hand(q)[:3, 3], [*xy, 0.015], atol=1e-5)
            assert abs(q[3]) == pytest.approx(np.deg2rad(bend_deg), abs=1e-4), "the elbow's bend decides"
    np.testing.assert_array_equal(reach.contains(np.array([[0.4, 0.0], [0.3, 0.3], [0.8, 0.2]])), [0, 1, 0])


def test_it_tracks_a_circle_within_a_millimetre_and_its_limits(blind):
    """Round the goal in 5 s: 100 mm/s on a circle of 80 mm."""
    centre, radius = GOAL[:2], 0.08
    blind.reset(Start(AWAY, centre + [radius, 0]))
    errors, heights, tilts, q, v = [], [], [], [], []
    for i in range(1, 501):
        angle = 2 * np.pi * i / 500
        target = centre + radius * np.array([np.cos(angle), np.sin(angle)])
        blind.advance(target)
        assert blind.tool_limited == ""
        X = tip_by_hand(blind.joint_positions())
        errors.append(np.linalg.norm(X[:2, 3] - target))
        heights.append(X[2, 3])
        tilts.append(np.hypot(*X[:2, 2]))
        q += [s.positions for s in blind.joint_samples]
        v += [s.velocities for s in blind.joint_samples]
    assert np.median(errors) < 2e-4
    assert max(errors[20:]) < 1e-3, "the first moments take up speed"
    np.testing.assert_allclose(heights, TIP_HEIGHT_M, atol=2e-4)
    assert max(tilts) < 2e-3
    assert (np.abs(q) < np.deg2rad(LIMITS_DEG)).all()
    assert (np.abs(v) < SPEEDS_RAD_S).all()
    # The simulation steps positions with the new velocities, so their slope is exactly those.
    slope = np.diff(q, axis=0) / blind.joint_period_s
    np.testing.assert_allclose(slope, v[1:], atol=1e-6)


@pytest.mark.parametrize(
    ("target", "nearest"),
    [
        ((1.2, 0.3), 0.8118 * np.array([1.2, 0.3]) / np.hypot(1.2, 0.3)),
        ((0.1, -0.05), 0.4204 * np.array([0.1, -0.05]) / np.hypot(0.1, -0.05)),
    ],
    ids=["too far", "too near"],
)
def test_a_target_out_of_reach_is_approached_and_said(blind, target, nearest):
    blind.reset(Start(AWAY + [0, 0.2, 0], HOME))
    highest, fastest = np.zeros(7), np.zeros(7)
    low, high = TIP_HEIGHT_M, TIP_HEIGHT_M
    for _ in range(200):
        blind.advance(np.array(target))
        for sample in blind.joint_samples:
            highest = np.maximum(highest, np.abs(sample.positions))
            fastest = np.maximum(fastest, np.abs(sample.velocities))
            z = tip_by_hand(sample.positions)[2, 3]
            low, high = min(low, z), max(high, z)
    assert (highest < np.deg2rad(LIMITS_DEG)).all(), np.rad2deg(highest)
    assert (fastest < SPEEDS_RAD_S).all(), fastest
    assert TIP_HEIGHT_M - low < 0.003, "the rod does not hit the table"
    assert high - TIP_HEIGHT_M < 0.003
    np.testing.assert_allclose(blind.tool_xy(), nearest, atol=1e-3)
    distance = f"{np.hypot(*target):.3f} m from the arm's axis, its reach is 0.420 to 0.812 m"
    assert blind.tool_limited == f"target is {distance}"
    blind.advance(HOME, 300)
    assert blind.tool_limited == ""
    np.testing.assert_allclose(blind.tool_xy(), HOME, atol=1e-4)


def test_a_joint_at_its_limit_stops_the_tip_and_is_named(kinematics):
    """Round the base and on: behind it joint 1 would have to turn by more than 170 degrees."""
    q = kinematics.posture(np.array([0.6, 0.0]))
    reasons = []
    for angle in np.linspace(0, 1.5 * np.pi, 1500):
        v, reason = kinematics.velocity(q, 0.6 * np.array([np.cos(angle), np.sin(angle)]), 0.005)
        assert (np.abs(v) <= SPEEDS_RAD_S + 1e-12).all()
        q = q + 0.005 * v
        reasons.append(reason)
        assert (kinematics.lower - 1e-9 <= q).all()
        assert (q <= kinematics.upper + 1e-9).all()
    assert reasons[0] == ""
    assert tip_by_hand(q)[2, 3] == pytest.approx(TIP_HEIGHT_M, abs=1e-3)
    assert re.fullmatch(r"joint 1 is at its limit, the tip \d+ mm behind", reasons[-1]), reasons[-1]


def test_a_jump_of_the_target_takes_the_time_that_the_joints_need(blind):
    """Inwards from near the outer edge, where 1 m/s would take 9 rad/s of the elbow."""
    far, near = np.array([0.79, 0.0]), np.array([0.55, 0.0])
    blind.reset(Start(AWAY, far))
    fastest = np.zeros(7)
    for i in range(100):
        blind.advance(near)
        fastest = np.max([fastest, *(np.abs(s.velocities) for s in blind.joint_samples)], axis=0)
        if i == 9:
            assert np.linalg.norm(blind.tool_xy() - far) < 0.05
            assert re.fullmatch(r"joint 4 is at its speed limit, the tip \d+ mm behind", blind.tool_limited)
    assert (fastest < SPEEDS_RAD_S).all(), fastest
    assert blind.tool_limited == ""
    np.testing.assert_allclose(blind.tool_xy(), near, atol=1e-3)


@pytest.mark.parametrize("xy", [HOME, (0.75, -0.2), (0.4, -0.2)])
def test_a_moving_arm_comes_to_rest_in_the_posture_that_is_placed(kinematics, xy):
    """From the other side of the table, also round the hole. The slowest free motion falls by e in 1.7 s."""
    q = kinematics.posture(np.array([0.45, 0.4]))
    for _ in range(900):
        q = q + 0.02 * kinematics.velocity(q, np.array(xy), 0.02)[0]
    np.testing.assert_allclose(q, kinematics.posture(np.array(xy)), atol=0.002)


def test_placing_depends_on_the_place_alone(blind):
    blind.reset(Start(AWAY, HOME))
    first = blind.joint_positions()
    blind.advance(np.array([0.5, -0.25]), 20)
    blind.place(GOAL, np.array([0.5, -0.25]))
    blind.place(AWAY, HOME)
    np.testing.assert_array_equal(blind.joint_positions(), first)
    np.testing.assert_array_equal(blind.joint_velocities(), 0.0)


def test_equal_histories_give_equal_bits():
    def run(station: Station) -> list[np.ndarray]:
        station.reset(sample_start(SCENARIO, 5))
        for i in range(60):
            station.advance(HOME + [0, -0.003 * i])
        return [station.slider_pose(), station.tool_xy(), station.joint_positions()]

    one, two = Station(SCENARIO, cameras=False), Station(SCENARIO, cameras=False)
    first = run(one)
    one.reset(sample_start(SCENARIO, 6))
    one.advance(HOME + [0.05, 0], 10)
    for again in (run(one), run(two)):
        for a, b in zip(first, again, strict=True):
            np.testing.assert_array_equal(a, b)


def test_joints_come_at_200_hz(blind):
    blind.reset(Start(AWAY, HOME))
    assert blind.joint_samples == ()
    times = []
    for i in range(5):
        blind.advance(HOME - [0, 0.002 * i], 2)
        times += [s.time_s for s in blind.joint_samples]
        assert blind.time_s == times[-1]
        np.testing.assert_array_equal(blind.joint_samples[-1].positions, blind.joint_positions())
    np.testing.assert_allclose(np.diff([0.0, *times]), 0.005, rtol=1e-9)
    assert blind.joint_period_s == pytest.approx(0.005)
    assert blind.joint_names == tuple(f"arm_joint_{i}" for i in range(1, 8))


def test_the_floating_pusher_is_its_own_two_joints():
    station = Station(FLOATING, cameras=False)
    station.advance(HOME - [0.01, 0.02], 10)
    assert station.joint_names == ("tool_x", "tool_y")
    assert [s.time_s for s in station.joint_samples] == pytest.approx(0.01 * np.arange(1, 11))
    np.testing.assert_array_equal(station.joint_positions(), station.tool_xy())
    np.testing.assert_array_equal(station.joint_velocities(), station.tool_velocity())
    assert station.tool_limited == ""


def test_both_tools_push_alike():
    """The T does not feel who holds the rod: same targets, nearly the same end."""
    poses = []
    for scenario in (FLOATING, SCENARIO):
        station = Station(scenario, cameras=False)
        station.reset(Start(GOAL, GOAL[:2] + [0.04, 0.09]))
        for i in range(150):
            station.advance(GOAL[:2] + [0.04, 0.09 - 0.0006 * i])
        poses.append(station.slider_pose())
    moved = poses[0] - GOAL
    assert np.linalg.norm(moved[:2]) > 0.03
    np.testing.assert_allclose(poses[1][:2], poses[0][:2], atol=0.003)
    assert poses[1][2] == pytest.approx(poses[0][2], abs=0.05)


def test_the_cameras_see_the_same_but_for_the_arm():
    """Same pose of the wrist camera; overhead, the table differs only where the arm is."""
    images = []
    for scenario in (FLOATING, SCENARIO):
        station = Station(scenario)
        station.reset(Start(GOAL, HOME))
        images.append(station.images())
        wrist = station.camera_pose("wrist").GetAsMatrix4()
        images[-1]["pose"] = wrist
    np.testing.assert_allclose(images[1]["pose"], images[0]["pose"], atol=1e-3)
    differs = np.abs(images[1]["overhead"].astype(int) - images[0]["overhead"]).max(axis=2) > 30
    assert 0.005 < differs.mean() < 0.15
    assert np.flatnonzero(differs.any(axis=1)).max() < 0.4 * len(differs), "it comes in from the far side"


@pytest.mark.parametrize("seed", [300013, 300021])
def test_the_expert_keeps_the_rod_within_reach(blind, seed):
    """The T lies so near that some of its sides cannot be pushed, and some ways round it not be walked."""
    start = sample_start(SCENARIO, seed)
    assert np.hypot(*start.slider_pose[:2]) < 0.5
    blind.reset(start)
    expert = Expert(SCENARIO, "planner", np.random.default_rng([seed, 0xDE40]))
    limited = 0
    for _ in range(250):
        action = expert.act(blind.slider_pose(), blind.tool_xy())
        if action is None:
            break
        blind.advance(action, 10)
        limited += bool(blind.tool_limited)
    assert expert.satisfied(blind.slider_pose())
    assert limited < 30


def test_periods_must_divide():
    with pytest.raises(ConfigError, match="arm.update_s / physics.time_step_s = 0.005 / 0.01"):
        load_scenario("pushing", {"arm": {}})
    with pytest.raises(ConfigError, match="control_period_s / arm.update_s = 0.01 / 0.004"):
        load_scenario("pushing_arm", {"arm": {"update_s": 0.004}, "physics": {"time_step_s": 0.002}})
