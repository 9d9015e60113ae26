"""Laws of the servo: never too fast, never outside, never moved by a hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambient_policy.chunks import Chunk
from ambient_policy.limits import MotionLimits
from ambient_policy.servo import Servo, ServoConfig

PERIOD_S = 0.01
LIMITS = MotionLimits(workspace_min=(-1, -1), workspace_max=(1, 1), max_speed_m_s=0.5)


def servo(handover_s: float = 0.05, following: bool = True) -> Servo:
    out = Servo(
        ServoConfig(handover_s=handover_s, lead_s=0.0, chunk_speed_ratio=1000, max_tracking_error_m=1000),
        LIMITS,
        PERIOD_S,
    )
    out.following = following
    return out


def straight(stamp_s: float, speed_m_s: float = 0.1) -> Chunk:
    return Chunk(stamp_s, np.arange(9)[:, None] * np.array([[speed_m_s * 0.1, 0.0]]), 0.1)


def test_nothing_is_commanded_before_the_tool_was_measured() -> None:
    assert servo().command(1.0) is None


def test_a_hold_stays_where_it_began_while_the_measurement_drifts() -> None:
    """A target that followed the measurement would give way to any push."""
    held = servo(following=False)
    for i in range(50):
        held.observe(np.array([0.1 + 0.001 * i, 0.2]), 0.01 * i)
        command = held.command(0.01 * i)
        assert command is not None
        np.testing.assert_array_equal(command.position, [0.1, 0.2])
        assert command.hold == "not enabled"


def test_a_chunk_is_followed_from_its_handover_on() -> None:
    follower = servo(handover_s=0.05)
    reports = []
    for i in range(30):
        now_s = 0.01 * i
        follower.observe(np.zeros(2), now_s)
        if i == 2:
            assert follower.accept(straight(0.0), now_s) == ""
        command = follower.command(now_s)
        assert command is not None
        reports.append((command.taken_over_s, command.hold))
        if i >= 5:
            np.testing.assert_allclose(command.position, [0.1 * now_s, 0.0], atol=1e-12)
    assert [i for i, (stamp_s, _) in enumerate(reports) if stamp_s is not None] == [5]
    assert all(hold == "waiting for a first chunk" for _, hold in reports[:5])
    assert follower.holds == {"waiting for a first chunk": 5}


@given(
    st.lists(st.tuples(st.floats(0.001, 0.3), st.floats(-3, 3), st.floats(-3, 3)), min_size=1, max_size=30)
)
def test_speed_and_workspace_hold_for_any_chunks_at_any_times(
    events: list[tuple[float, float, float]],
) -> None:
    limited = servo(handover_s=0.0)
    now_s = 0.0
    limited.observe(np.zeros(2), 0.0)
    last = limited.command(0.0)
    assert last is not None
    for step_s, x, y in events:
        now_s += step_s
        limited.observe(np.zeros(2), now_s)
        limited.accept(Chunk(now_s, np.array([[x, y], [y, x]]), 0.1), now_s)
        command = limited.command(now_s)
        assert command is not None
        moved_m = np.linalg.norm(command.position - last.position)
        assert moved_m <= LIMITS.max_speed_m_s * min(step_s, PERIOD_S) + 1e-9
        assert np.all(np.abs(command.position) <= 1)
        last = command


def test_a_stale_pose_is_a_hold() -> None:
    blind = servo(handover_s=0.0)
    blind.observe(np.zeros(2), 0.0)
    blind.accept(straight(0.0), 0.0)
    moving = [blind.command(0.01 * i) for i in range(15)]
    stopped = [blind.command(0.01 * i) for i in range(25, 40)]
    assert moving[-1] is not None
    assert moving[-1].hold == ""
    assert all(c is not None and c.hold.startswith("tool pose is 0.") for c in stopped)
    assert len({tuple(c.position) for c in stopped if c is not None}) == 1


def test_the_same_time_asked_twice_gives_the_same_target() -> None:
    twice = servo(handover_s=0.0)
    twice.observe(np.zeros(2), 0.0)
    twice.accept(straight(0.0, speed_m_s=5.0), 0.0)
    twice.command(0.0)
    first, again = twice.command(0.01), twice.command(0.01)
    assert first is not None
    assert again is not None
    np.testing.assert_array_equal(first.position, again.position)
    assert first.position[0] == pytest.approx(0.005), "at the speed limit"
    assert twice.limited == 2


def test_a_reset_forgets_chunks_and_counts() -> None:
    used = servo(handover_s=0.0)
    used.observe(np.array([0.5, 0.5]), 0.0)
    used.accept(straight(0.0), 0.0)
    used.command(0.01)
    used.reset()
    used.following = True
    used.observe(np.array([0.2, 0.1]), 0.02)
    command = used.command(0.02)
    assert command is not None
    np.testing.assert_array_equal(command.position, [0.2, 0.1])
    assert used.limited == 0


def test_an_old_chunk_is_refused_with_its_reason() -> None:
    assert "chunk ended 0.200 s ago" in servo().accept(straight(0.0), 1.0)


SMOOTH = LIMITS.model_copy(update={"max_acceleration_m_s2": 10.0, "max_jerk_m_s3": 400.0})


def positions(moved: Servo, times_s: np.ndarray) -> np.ndarray:
    """Return the commands (N, 2) at these times, with a tool that stays where it is measured: at 0."""
    out = []
    for now_s in times_s:
        moved.observe(np.zeros(2), now_s)
        command = moved.command(now_s)
        assert command is not None
        out.append(command.position)
    return np.array(out)


def test_smoothing_makes_steady_motion_neither_late_nor_early() -> None:
    smooth = Servo(ServoConfig(handover_s=0.0, lead_s=0.0, max_tracking_error_m=9), SMOOTH, PERIOD_S)
    smooth.following = True
    smooth.accept(straight(0.0), 0.0)
    times_s = 0.01 * np.arange(60)
    out = positions(smooth, times_s)
    np.testing.assert_allclose(out[20:, 0], 0.1 * times_s[20:], atol=1e-9)


def test_a_hold_brakes_within_the_limits_and_ends_at_rest() -> None:
    smooth = Servo(ServoConfig(handover_s=0.0, lead_s=0.0, max_tracking_error_m=9), SMOOTH, PERIOD_S)
    smooth.following = True
    smooth.accept(straight(0.0, speed_m_s=0.4), 0.0)
    before = positions(smooth, 0.01 * np.arange(40))
    smooth.latch("a reason")
    after = positions(smooth, 0.01 * np.arange(40, 70))
    out = np.vstack([before, after])[20:]
    assert np.linalg.norm(np.diff(out, 2, axis=0), axis=1).max() / PERIOD_S**2 <= 10.0 + 1e-6
    assert np.linalg.norm(np.diff(out, 3, axis=0), axis=1).max() / PERIOD_S**3 <= 400.0 + 1e-3
    assert len({tuple(p) for p in after[-10:].round(12)}) == 1, "at rest"
    assert 0 < np.linalg.norm(after[-1] - before[-1]) < 0.4 * 0.15 / 2 + 0.01, "brakes at once"


def test_a_long_gap_makes_no_jump() -> None:
    smooth = Servo(ServoConfig(handover_s=0.0, lead_s=0.0, max_tracking_error_m=9), SMOOTH, PERIOD_S)
    smooth.following = True
    smooth.accept(straight(0.0, speed_m_s=0.4), 0.0)
    times_s = np.concatenate([0.01 * np.arange(30), 0.5 + 0.01 * np.arange(10)])
    out = positions(smooth, times_s)
    assert np.linalg.norm(np.diff(out, axis=0), axis=1).max() <= 0.5 * PERIOD_S + 1e-9


def test_a_latch_keeps_its_first_reason_until_a_reset() -> None:
    held = servo(handover_s=0.0)
    held.latch("one")
    held.latch("two")
    held.observe(np.zeros(2), 0.0)
    held.accept(straight(0.0), 0.0)
    for now_s in (0.0, 0.1, 0.5):
        held.observe(np.zeros(2), now_s)
        command = held.command(now_s)
        assert command is not None
        assert command.hold == "one; look, then disable and enable"
    held.reset()
    held.following = True
    held.accept(straight(0.5), 0.5)
    command = held.command(0.5)
    assert command is not None
    assert command.hold == ""


def test_a_tool_that_jumps_is_a_latched_hold_and_one_that_runs_is_not() -> None:
    running = servo(handover_s=0.0)
    for i in range(20):  # 0.5 m/s, and as much again for three lost poses
        running.observe(np.array([0.005 * i, 0.0]), 0.01 * i)
    running.observe(np.array([0.095 + 0.02, 0.0]), 0.23)
    assert running.latched == ""
    running.observe(np.array([0.095 + 0.02 + 0.03, 0.0]), 0.24)
    assert running.latched == "tool pose jumped by 0.030 m in 0.010 s"
    idle = servo(following=False)
    idle.observe(np.zeros(2), 0.0)
    idle.observe(np.ones(2), 0.01)
    assert idle.latched == "", "a person may move it while it is off"


def test_a_chunk_that_no_tool_could_follow_is_refused() -> None:
    strict = Servo(ServoConfig(), LIMITS, PERIOD_S)
    assert strict.accept(straight(0.0, speed_m_s=0.9), 0.0) == ""
    assert strict.accept(straight(0.1, speed_m_s=1.1), 0.1) == "chunk moves at 1.10 m/s, more than 1.00"
    nan = Chunk(0.2, np.full((3, 2), np.nan), 0.1)
    assert "not finite" in strict.accept(nan, 0.2)


def test_a_stop_from_outside_holds_while_it_lasts() -> None:
    manned = servo(handover_s=0.0)
    manned.observe(np.zeros(2), 0.0)
    manned.accept(straight(0.0), 0.0)
    holds = []
    for stop in ("", "deadman is released", ""):
        command = manned.command(0.1, stop)
        assert command is not None
        holds.append(command.hold)
    assert holds == ["", "deadman is released", ""]


def test_a_soft_start_ramps_the_speed_after_every_hold() -> None:
    soft = Servo(
        ServoConfig(handover_s=0.0, lead_s=0.0, soft_start_s=0.2, max_tracking_error_m=9), LIMITS, PERIOD_S
    )
    soft.following = True
    soft.accept(straight(0.0, speed_m_s=0.9), 0.0)
    speeds = np.linalg.norm(np.diff(positions(soft, 0.01 * np.arange(41)), axis=0), axis=1) / PERIOD_S
    np.testing.assert_allclose(speeds[:20], 0.5 * np.maximum(0.05 * np.arange(1, 21), 0.05), atol=1e-9)
    np.testing.assert_allclose(speeds[20:], 0.5, atol=1e-9)
    soft.command(0.41, "a stop")
    again = positions(soft, 0.42 + 0.01 * np.arange(2))
    assert np.linalg.norm(again[1] - again[0]) < 0.1 * 0.005 + 1e-9
    assert soft.limited >= 20


def test_a_tool_that_stays_behind_is_fetched_and_held() -> None:
    """The robot refuses its targets for a while: nothing may be left to jump to when it takes them again."""
    left = Servo(ServoConfig(handover_s=0.0, lead_s=0.0, max_tracking_error_m=0.03), LIMITS, PERIOD_S)
    left.following = True
    left.accept(straight(0.0, speed_m_s=0.4), 0.0)
    out = positions(left, 0.01 * np.arange(30))
    assert left.latched == "tool does not follow: it is 0.032 m from its target"
    assert np.abs(out).max() == pytest.approx(0.032)
    assert np.linalg.norm(np.diff(out, axis=0), axis=1).max() <= 0.005 + 1e-9
    np.testing.assert_array_equal(out[-5:], 0)
    left.reset()
    assert left.latched == ""
