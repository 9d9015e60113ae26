"""Laws of the servo: never too fast, never outside, never moved by a hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambient_policy.chunks import Chunk, ChunkFollower
from ambient_policy.limits import MotionLimits

pytest.importorskip("ambient_policy_ros")
from ambient_policy_ros.servo import Servo

PERIOD_S = 0.01
LIMITS = MotionLimits(workspace_min=(-1, -1), workspace_max=(1, 1), max_speed_m_s=0.5)


def servo(handover_s: float = 0.05, following: bool = True) -> Servo:
    out = Servo(ChunkFollower(handover_s), LIMITS, PERIOD_S, 0.2)
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
