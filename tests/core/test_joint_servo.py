"""Joint commands: their braking against the cubic spline of a controller, and every hold with its reason."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambient_policy.joint_command import JointCommand
from ambient_policy.joint_servo import JointServo, JointServoConfig, Step, in_order

PERIOD_S = 0.01
HOME = np.array([0.1, -0.2])
ALLOWED_RAD_S = np.array([0.6, 0.6])


class Gantry:
    """Two joints that are the tip's x and y: kinematics that a test can do in its head."""

    joints = ("x", "y")
    max_speed = ALLOWED_RAD_S

    def __init__(self, height_m: float = 0.0) -> None:
        self.height_m = height_m

    def tip_position(self, q: np.ndarray) -> np.ndarray:
        return np.array([*q, self.height_m])

    def off_plane(self, q: np.ndarray) -> tuple[float, float]:
        return self.height_m, 0.0

    def step(self, q: np.ndarray, xy: np.ndarray, period_s: float, brake_s: float) -> Step:
        if np.abs(xy).max() > 1:
            return Step(np.zeros(2), "target is beyond the rails", blocked=True)
        wanted = (xy - q) / period_s
        v = wanted * min(1.0, np.min(self.max_speed / np.maximum(np.abs(wanted), 1e-12)))
        return Step(v, "" if np.allclose(v, wanted) else "joint x is at its speed limit")


class Cell:
    """A servo and a robot that is exactly where it was commanded to be."""

    def __init__(self, **config: float) -> None:
        self.servo = JointServo(JointServoConfig(**config), Gantry(), PERIOD_S)
        self.tick = 100
        self.measured = HOME
        self.sent: list[JointCommand] = []

    def run(self, xy: np.ndarray, ticks: int = 1, *, joints: bool = True) -> list[JointCommand]:
        """Ask for `xy` at some ticks; returns the commands of all ticks so far."""
        for _ in range(ticks):
            self.tick += 1
            now_s = self.tick * PERIOD_S
            if self.sent:
                self.measured, _ = self.sent[-1].at(now_s)
            if joints:
                self.servo.observe(self.measured, now_s)
            command = self.servo.command(xy, now_s, now_s)
            assert command is not None
            self.sent.append(command)
        return self.sent

    def cruise(self) -> np.ndarray:
        """Bring the tip to 0.3 m/s along x, with the soft start behind it; returns the next target."""
        target = HOME.copy()
        for _ in range(100):
            target = target + [0.003, 0]
            self.run(target)
        assert self.sent[-1].velocities == pytest.approx([0.3, 0], abs=1e-6)
        return target


@given(
    v=st.floats(-2, 2),
    brake_s=st.floats(0.02, 1),
    share=st.floats(0, 1),
    lead_s=st.sampled_from([0.01, 0.05]),
)
def test_braking_is_the_cubic_spline_of_the_two_points(v: float, brake_s: float, share: float, lead_s: float):
    """Hermite's cubic between both points, with its basis written out, and rest beyond the last."""
    command = JointCommand(5.0, 5.0 + lead_s, np.array([0.4]), np.array([v]), brake_s)
    s = share
    q = (
        (2 * s**3 - 3 * s**2 + 1) * 0.4
        + (s**3 - 2 * s**2 + s) * brake_s * v
        + (3 * s**2 - 2 * s**3) * command.rest
    )
    positions, velocities = command.at(5.0 + lead_s + s * brake_s)
    assert positions == pytest.approx(q, abs=1e-9)
    assert velocities == pytest.approx([(1 - s) * v], abs=1e-9)
    positions, velocities = command.at(9.0)
    assert positions == pytest.approx(command.rest)
    assert velocities == pytest.approx([0.0])


def test_the_start_is_where_the_joints_are():
    cell = Cell()
    (first,) = cell.run(HOME)
    np.testing.assert_array_equal(first.positions, HOME)
    np.testing.assert_array_equal(first.velocities, 0.0)
    assert first.due_s - first.start_s == pytest.approx(0.01)
    cell.run(HOME + [0.0, 0.02], 200)
    np.testing.assert_allclose(cell.sent[-1].positions, HOME + [0.0, 0.02], atol=1e-9)


def test_it_does_not_start_where_a_person_must_drive_first():
    servo = JointServo(JointServoConfig(), Gantry(height_m=0.185), PERIOD_S)
    assert servo.command(HOME, 1.0, 1.0) is None
    assert servo.hold == "no joint state yet"
    servo.observe(HOME, 1.0)
    assert servo.command(HOME, 1.0, 1.0) is None
    assert servo.hold == (
        "tip is +185 mm from its height and tilted by 0.000 rad, may be 10 mm and 0.05 rad at the start; "
        "drive it there first"
    )


def test_steady_motion_is_followed_to_the_micrometre():
    cell = Cell()
    target = cell.cruise()
    np.testing.assert_allclose(cell.sent[-1].positions, target, atol=1e-6)
    assert cell.servo.hold == cell.servo.limited == ""


def _stale(cell: Cell, target: np.ndarray, since: int) -> None:
    cell.run(target, joints=False)


def _lacking(cell: Cell, target: np.ndarray, since: int) -> None:
    reason = in_order(["y"], [0.0], Gantry.joints)
    assert isinstance(reason, str)
    cell.servo.reject(reason)
    cell.run(target, joints=False)


def _not_finite(cell: Cell, target: np.ndarray, since: int) -> None:
    cell.run(target * np.nan)


def _out_of_reach(cell: Cell, target: np.ndarray, since: int) -> None:
    cell.run(np.array([2.0, 0.0]))


def _late_target(cell: Cell, target: np.ndarray, since: int) -> None:
    cell.tick += 1
    now_s = cell.tick * PERIOD_S
    cell.servo.observe(cell.measured, now_s + 0.2)
    command = cell.servo.command(target, now_s, now_s + 0.2)
    assert command is not None
    cell.sent.append(command)


def _jumped(cell: Cell, target: np.ndarray, since: int) -> None:
    if since == 0:
        cell.servo.observe(cell.measured + [0.1, 0.0], (cell.tick + 0.5) * PERIOD_S)
    cell.run(target)


def _robot_stands(cell: Cell, target: np.ndarray, since: int) -> None:
    cell.tick += 1
    now_s = cell.tick * PERIOD_S
    cell.servo.observe(cell.measured, now_s)
    command = cell.servo.command(target, now_s, now_s)
    assert command is not None
    cell.sent.append(command)


@pytest.mark.parametrize(
    ("what", "reason", "latched"),
    [
        (_stale, r"joint state is 0\.[12]\d s old", False),
        (_lacking, "joint state lacks x", False),
        (_not_finite, r"tool target is \(nan, nan\) m, needs finite", False),
        (_out_of_reach, "target is beyond the rails", False),
        (_late_target, r"tool target is 0\.20 s old", False),
        (_jumped, r"joint x jumped by 0\.1\d\d rad; look, then disable and enable", True),
        (_robot_stands, r"joint x does not follow: 0\.20\d rad from its command; look", True),
    ],
)
def test_whatever_is_wrong_brakes_and_says_why(what, reason: str, latched: bool):
    cell = Cell()
    target = cell.cruise()
    holding: list[JointCommand] = [cell.sent[-1]]
    for since in range(200):
        target = target + [0.003, 0]
        what(cell, target, since)
        if cell.servo.hold:
            assert re.match(reason, cell.servo.hold), cell.servo.hold
            holding.append(cell.sent[-1])
        else:
            holding = [cell.sent[-1]]
        if len(holding) == 15:
            break
    assert len(holding) == 15
    v = np.array([c.velocities[0] for c in holding])
    np.testing.assert_allclose(v[:11], v[0] * np.linspace(1, 0, 11), atol=1e-9, err_msg="evenly in 0.1 s")
    np.testing.assert_allclose(v[11:], 0.0, atol=1e-12)
    way = np.diff([c.positions[0] for c in holding])
    assert 0.29 < v[0] < 0.36
    np.testing.assert_allclose(way, (v[1:] + v[:-1]) / 2 * PERIOD_S, atol=1e-9, err_msg="and nothing jumps")
    rest = holding[-1]
    # Good again: only what nobody needs to look at goes on, slowly at first.
    cell.measured = rest.positions
    cell.run(rest.positions)
    assert bool(cell.servo.hold) == latched
    if latched:
        cell.servo.reset()
        cell.sent.clear()
        cell.measured = HOME + 0.05
        np.testing.assert_allclose(cell.run(HOME + 0.05)[-1].positions, HOME + 0.05, atol=1e-12)
        assert cell.servo.hold == ""


def test_a_hold_of_one_tick_is_no_stop():
    cell = Cell()
    target = cell.cruise()
    cell.run(target * np.nan)
    cell.run(target + [0.006, 0])
    assert cell.sent[-2].velocities[0] == pytest.approx(0.27)
    assert cell.sent[-1].velocities[0] > 0.25


def test_after_a_gap_it_goes_on_from_where_the_braking_has_come():
    cell = Cell()
    target = cell.cruise()
    last = cell.sent[-1]
    cell.tick += 4
    cell.run(target + [0.015, 0])
    now = cell.sent[-1]
    before, _ = last.at(now.due_s - PERIOD_S)
    np.testing.assert_allclose(now.positions - before, now.velocities * PERIOD_S, atol=1e-12)


def test_an_answered_target_gets_the_same_answer():
    cell = Cell()
    target = cell.cruise()
    now_s = cell.tick * PERIOD_S
    assert cell.servo.command(target + [0.003, 0], now_s, now_s) is cell.sent[-1]


def test_a_clock_that_is_set_back_makes_no_jump():
    """The joint states of before are then newer than any, and the commands go on from the last one."""
    cell = Cell()
    target = cell.cruise()
    last, now_s = cell.sent[-1], (cell.tick - 5000) * PERIOD_S
    for _ in range(2):
        target, now_s = target + [0.003, 0], now_s + PERIOD_S
        command = cell.servo.command(target, now_s, now_s)
        assert command is not None
        assert command.due_s == pytest.approx(now_s + 0.01)
        np.testing.assert_allclose(command.velocities, [0.3, 0], atol=1e-6)
        np.testing.assert_allclose(command.positions - last.positions, [0.003, 0], atol=1e-6)
        last = command


def test_a_tip_that_is_behind_catches_up_slowly_and_a_target_that_jumps_is_not_chased():
    cell = Cell(catch_up_m_s=0.05)
    cell.run(HOME, 50)
    cell.run(HOME + [0.1, 0.0], 30)
    speeds = [np.linalg.norm(c.velocities) for c in cell.sent[50:]]
    assert max(speeds) <= 0.05 + 1e-9
    cell.run(HOME + [0.1, 0.0], 200)
    np.testing.assert_allclose(cell.sent[-1].positions, HOME + [0.1, 0.0], atol=1e-9)


def test_a_speed_limit_is_named_and_no_hold():
    cell = Cell(max_speed_m_s=2.0)
    target = cell.cruise()
    for _ in range(10):
        target = target + [0.01, 0]
        cell.run(target)
    assert cell.servo.hold == ""
    assert cell.servo.limited == "joint x is at its speed limit"
    assert cell.sent[-1].velocities[0] == pytest.approx(0.6)


@given(seed=st.integers(0, 2**32 - 1))
def test_no_command_passes_a_speed_limit_whatever_comes(seed: int):
    """Targets that walk, jump, are lost or not finite; states that are late or lost; ticks of any length."""
    rng = np.random.default_rng(seed)
    servo = JointServo(JointServoConfig(), Gantry(), PERIOD_S)
    now_s, target, sent = 10.0, HOME.copy(), []
    servo.observe(HOME, now_s)
    for _ in range(80):
        now_s += rng.choice([0.004, 0.01, 0.012, 0.03])
        target = target + rng.normal(0, rng.choice([0.001, 0.05]), 2)
        wanted = np.array([np.nan, 0]) if rng.random() < 0.1 else target
        if sent and rng.random() < 0.8:
            servo.observe(sent[-1].at(now_s)[0], now_s)
        command = servo.command(wanted, now_s, now_s)
        if command is None:  # it starts with the first good one
            assert not sent
            assert not np.isfinite(wanted).all()
            continue
        if sent:
            gap_s = command.due_s - sent[-1].due_s
            assert (np.abs(command.positions - sent[-1].positions) <= ALLOWED_RAD_S * gap_s + 1e-9).all()
        assert (np.abs(command.velocities) <= ALLOWED_RAD_S + 1e-9).all()
        sent.append(command)
    assert servo.latched == ""


@pytest.mark.parametrize(
    ("names", "positions", "result"),
    [
        (["c", "b", "grip", "a"], [3.0, 2.0, 9.0, 1.0], [1.0, 2.0, 3.0]),
        (["grip"], [9.0], None),
        (["a", "c"], [1.0, 3.0], "joint state lacks b"),
        (["a", "b", "c"], [1.0, float("nan"), 3.0], "joint state has b not finite"),
        (["a", "b", "c"], [1.0, 2.0], r"joint state has 2 positions for the names"),
        (["a", "b", "c", "a"], [1.0, 2.0, 3.0, 4.0], r"joint state has 4 positions for the names"),
    ],
)
def test_joints_are_found_by_their_names(names, positions, result):
    found = in_order(names, positions, ["a", "b", "c"])
    if isinstance(result, str):
        assert isinstance(found, str)
        assert found.startswith(result)
    elif result is None:
        assert found is None
    else:
        np.testing.assert_array_equal(found, result)
