"""Joint commands with real kinematics: of the twin's arm, and of a stranger that parameters describe."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from pydrake.math import RollPitchYaw

from ambient_policy.config import parse
from ambient_policy.errors import ConfigError
from ambient_policy.joint_command import JointCommand
from ambient_policy.joint_servo import JointServo, JointServoConfig
from ambient_policy.limits import MotionLimits
from ambient_policy.smoothing import Smoother
from sim.arm_kinematics import ArmKinematics
from sim.arm_model import ArmModel
from sim.scenario import Posture, load_scenario
from sim.starts import Start
from sim.station import Station

pytestmark = pytest.mark.sim
PERIOD_S = 0.01
MARGIN_RAD = np.deg2rad(1.0)

# Six joints in the manner of a UR5: (name, xyz, rpy) of each in its parent, turning about z.
CHAIN = (
    ("pan", (0, 0, 0.163), (0, 0, 0)),
    ("lift", (0, 0, 0), (math.pi / 2, 0, 0)),
    ("elbow", (-0.425, 0, 0), (0, 0, 0)),
    ("wrist_1", (-0.392, 0, 0.133), (0, 0, 0)),
    ("wrist_2", (0, -0.0997, 0), (math.pi / 2, 0, 0)),
    ("wrist_3", (0, 0.0996, 0), (-math.pi / 2, 0, 0)),
)
JOINTS = tuple(name for name, _, _ in CHAIN)
BASE_XYZ, BASE_RPY = (0.3, -0.1, 0.02), (0.0, 0.0, 0.5)
STRANGER = {
    "base_link": "foot",
    "base_xyz_m": BASE_XYZ,
    "base_rpy_rad": BASE_RPY,
    "joints": JOINTS,
    "tool_link": "wrist_3",
    "flange_xyz_m": (0.0, 0.0, 0.2),
    "flange_rpy_rad": (math.pi, 0.0, 0.0),
    "reach_m": (0.3, 0.65),
}
POSTURE = Posture(nominal=(0.0, -1.9, -2.0, -0.8, 1.57, 0.0))


def write_urdf(path: Path, **changes: str) -> Path:
    """Write it: fixed to a `world`, with a mesh that is nowhere and a gripper that nobody commands."""
    text = '<robot name="stranger"><link name="world"/><link name="foot"/><joint name="fix" type="fixed">'
    text += '<parent link="world"/><child link="foot"/><origin xyz="0 0 7"/></joint>'
    parent = "foot"
    mesh = '<visual><geometry><mesh filename="package://nowhere/link.stl"/></geometry></visual>'
    for name, xyz, rpy in CHAIN:
        x, r = (" ".join(map(str, numbers)) for numbers in (xyz, rpy))
        text += f'<link name="{name}">{mesh}</link><joint name="{name}" type="revolute"><axis xyz="0 0 1"/>'
        text += f'<parent link="{parent}"/><child link="{name}"/><origin xyz="{x}" rpy="{r}"/>'
        text += '<limit lower="-6.28" upper="6.28" velocity="3.0" effort="50"/></joint>'
        parent = name
    text += '<link name="finger"/><joint name="grip" type="prismatic"><parent link="wrist_3"/>'
    text += '<child link="finger"/><axis xyz="1 0 0"/><limit lower="0" upper="0.1" velocity="1" effort="5"/>'
    text += "</joint></robot>"
    for old, new in changes.items():
        text = text.replace(old, new)
    path.write_text(text)
    return path


@pytest.fixture
def stranger(tmp_path: Path) -> ArmKinematics:
    model = ArmModel(urdf=str(write_urdf(tmp_path / "arm.urdf")), **STRANGER)
    return ArmKinematics(POSTURE, 0.05, model)


@pytest.fixture(scope="module")
def ours() -> ArmKinematics:
    return ArmKinematics(Posture(), 0.015)


def frame(xyz: tuple[float, ...], rpy: tuple[float, ...]) -> np.ndarray:
    X = np.eye(4)
    X[:3, :3], X[:3, 3] = RollPitchYaw(*rpy).ToRotationMatrix().matrix(), xyz
    return X


def about_z(angle: float) -> np.ndarray:
    return frame((0, 0, 0), (0, 0, angle))


def drive(arm: ArmKinematics, q: np.ndarray, targets: np.ndarray, **config: float) -> list[JointCommand]:
    """Run a servo of joints on a robot that is exactly where it was commanded to be."""
    servo = JointServo(JointServoConfig(**config), arm, PERIOD_S)
    sent: list[JointCommand] = []
    for i, target in enumerate(targets):
        now_s = 5.0 + i * PERIOD_S
        servo.observe(sent[-1].at(now_s)[0] if sent else q, now_s)
        command = servo.command(target, now_s, now_s)
        assert command is not None, servo.hold
        sent.append(command)
    assert servo.latched == ""
    return sent


def test_a_strangers_forward_kinematics_is_the_product_of_its_frames(stranger: ArmKinematics):
    """And neither its gripper, its meshes nor the height at which the URDF fixes it to the world matter."""
    rng = np.random.default_rng(0)
    for _ in range(10):
        q = rng.uniform(-3, 3, 6)
        X = frame(BASE_XYZ, BASE_RPY)
        for angle, (_, xyz, rpy) in zip(q, CHAIN, strict=True):
            X = X @ frame(xyz, rpy) @ about_z(angle)
        X = X @ frame((0, 0, 0.2), (math.pi, 0, 0))
        np.testing.assert_allclose(stranger.tip(q).GetAsMatrix4(), X, atol=1e-12)
    np.testing.assert_allclose(stranger.upper, 6.28 - MARGIN_RAD)
    np.testing.assert_allclose(stranger.max_speed, 0.8 * 3.0)


def test_a_stranger_follows_a_circle_upright_at_its_height(stranger: ArmKinematics):
    stranger.check_reach()
    centre = np.array(BASE_XYZ[:2]) + 0.45 * np.array([np.cos(0.9), np.sin(0.9)])
    points = np.array([centre, BASE_XYZ[:2], [0.0, 0.5]])
    np.testing.assert_array_equal(stranger.reach.contains(points), [True, False, False])
    angle = np.linspace(0, 2 * np.pi, 400)
    circle = centre + 0.08 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    start = stranger.solve(circle[0])
    assert start is not None
    sent = drive(stranger, start, circle)
    tips = np.array([stranger.tip_position(c.positions) for c in sent])
    errors = np.linalg.norm(tips[:, :2] - circle, axis=1)
    assert errors[100:].max() < 1e-4
    assert errors.max() < 5e-3, "while it takes up speed"
    assert np.abs(tips[:, 2] - 0.05).max() < 1e-4
    assert max(stranger.off_plane(c.positions)[1] for c in sent) < 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_limits_of_joints_and_speeds_are_kept_for_targets_like_the_servos(ours: ArmKinematics, seed: int):
    """To and fro at 0.5 m/s, beyond the reach and behind the base; where braking ends is inside as well."""
    rng = np.random.default_rng(seed)
    limits = MotionLimits(
        workspace_min=(-0.9, -0.9),
        workspace_max=(0.9, 0.9),
        max_speed_m_s=0.5,
        max_acceleration_m_s2=5.0,
    )
    smoother = Smoother(limits.windows(PERIOD_S), PERIOD_S)
    wanted = np.array([0.587, 0.15])
    smoother.reset(wanted)
    start, targets = ours.solve(wanted), []
    assert start is not None
    for _ in range(12):
        goal = rng.uniform(-0.9, 0.9, 2)
        for _ in range(60):
            wanted, _ = limits.limit(wanted, goal, PERIOD_S)
            targets.append(smoother.push(wanted, PERIOD_S))
    sent = drive(ours, start, np.array(targets))
    q = np.array([c.positions for c in sent])
    for positions in (q, np.array([c.rest for c in sent])):
        assert (positions > ours.lower - 1e-6).all()
        assert (positions < ours.upper + 1e-6).all()
    assert (np.abs([c.velocities for c in sent]) < ours.max_speed + 1e-9).all()
    assert (np.abs(np.diff(q, axis=0)) < ours.max_speed * PERIOD_S + 1e-9).all(), "and nothing jumps"
    heights = [ours.off_plane(positions)[0] for positions in q]
    assert np.abs(heights).max() < 3e-3, "braking leaves the plane by a little, following does not"


def test_a_target_out_of_reach_is_held_and_a_joint_at_its_end_too(ours: ArmKinematics):
    servo = JointServo(JointServoConfig(), ours, PERIOD_S)
    q = ours.solve(np.array([0.6, 0.0]))
    assert q is not None
    reasons, command = [], None
    angles = np.concatenate([np.linspace(0, 1.5 * np.pi, 1500), np.full(60, 1.5 * np.pi)])
    radii = 0.6 * np.ones(len(angles))
    for i, (angle, radius) in enumerate(zip(angles, radii, strict=True)):
        now_s = 5.0 + i * PERIOD_S
        servo.observe(command.at(now_s)[0] if command else q, now_s)
        command = servo.command(radius * np.array([np.cos(angle), np.sin(angle)]), now_s, now_s)
        assert command is not None
        reasons.append(servo.hold)
    assert reasons[0] == ""
    assert reasons[-1].startswith("joint 1 is at its limit"), reasons[-1]
    assert command.velocities == pytest.approx(np.zeros(7), abs=1e-9)
    servo.observe(command.at(99.9)[0], 99.9)
    held = servo.command(np.array([0.0, 0.95]), 99.9, 99.9)
    assert held is not None
    assert servo.hold == "target is 0.950 m from the arm's axis, its reach is 0.420 to 0.812 m"
    np.testing.assert_array_equal(held.positions, command.rest)


def test_a_station_told_its_own_joints_moves_alike():
    """What `advance` commands to the joints, given back by `advance_joints`: the same bits."""
    scenario = load_scenario("pushing_arm")
    start = Start(np.array([0.62, -0.02, 0.3]), np.array(scenario.task.tool_home))
    one, two = Station(scenario, cameras=False), Station(scenario, cameras=False)
    one.reset(start)
    two.reset(start)
    arm, q, update_s = ArmKinematics(Posture(), 0.015), one.joint_positions(), one.joint_period_s
    before = start.tool_xy
    for i in range(80):
        after, commands = start.tool_xy - [0, 0.003 * i], []
        for xy in (before + (after - before) * 0.5, after):
            v, _ = arm.velocity(q, xy, update_s)
            q = q + v * update_s
            commands.append((q, v))
        before = after
        one.advance(after)
        two.advance_joints(commands)
        for a, b in zip(one.joint_samples, two.joint_samples, strict=True):
            assert a.time_s == b.time_s
            np.testing.assert_array_equal(a.positions, b.positions)
            np.testing.assert_array_equal(a.velocities, b.velocities)
    np.testing.assert_array_equal(one.slider_pose(), two.slider_pose())
    assert one.slider_pose()[1] < start.slider_pose[1] - 0.01, "it pushed"


@pytest.mark.parametrize(
    "overrides", [{}, {"arm": {}, "physics": {"time_step_s": 0.005}, "actuation": {"lag_s": 0.1}}]
)
def test_a_station_without_an_arm_or_with_a_lag_takes_no_joints(overrides):
    with pytest.raises(ConfigError, match=r"it needs an `arm:` and actuation.lag_s 0, which is"):
        Station(load_scenario("pushing", overrides), cameras=False).advance_joints([])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"urdf": "nowhere.urdf"}, "urdf is 'nowhere.urdf', which cannot be used"),
        ({"base_link": "fot"}, "base_link names 'fot', the URDF has none; did you mean `foot`"),
        ({"base_link": "pan"}, "base_link is 'pan', which hangs on 'foot'; name the root"),
        ({"tool_link": "wrist_4"}, "tool_link names 'wrist_4', the URDF has none; did you mean `wrist_"),
        (
            {"joints": (*JOINTS[:5], "wrist3")},
            "joints names 'wrist3', the URDF has none; did you mean `wrist_3`",
        ),
        ({"joints": JOINTS[::-1]}, r"from base to tool the URDF has \['pan', 'lift'"),
        ({"joints": JOINTS[:5]}, "nominal has 6 numbers, needs one for each of"),
        (
            {"reach_m": (0.3, 1.1)},
            r"no posture within limits has the tip 1.100 m from the base, upright at 0.05",
        ),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, change: dict, complaint: str):
    urdf = str(write_urdf(tmp_path / "arm.urdf"))
    with pytest.raises(ConfigError, match=complaint):
        ArmKinematics(POSTURE, 0.05, ArmModel(**{"urdf": urdf, **STRANGER, **change})).check_reach()


def test_a_joint_without_a_speed_limit_is_refused(tmp_path: Path):
    urdf = write_urdf(tmp_path / "arm.urdf", **{' velocity="3.0"': ""})
    with pytest.raises(ConfigError, match="joint 'pan' has no velocity limit in the URDF"):
        ArmKinematics(POSTURE, 0.05, ArmModel(urdf=str(urdf), **STRANGER))


def test_a_urdf_of_ones_own_needs_its_reach():
    with pytest.raises(ConfigError, match="reach_m is missing: with a URDF of your own"):
        parse({"urdf": "x.urdf"}, ArmModel, "test")
    with pytest.raises(ConfigError, match=r"reach_m is \(0.5, 0.3\), needs 0 <= inner < outer"):
        parse({"reach_m": [0.5, 0.3]}, ArmModel, "test")
