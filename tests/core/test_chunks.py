"""Chunks follow the clock and change over at a fixed age."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambient_policy.chunks import Chunk, ChunkFollower, Hold

RAMP = np.stack([np.arange(17.0), -np.arange(17.0)], axis=1)


def chunk(stamp_s: float, offset: float = 0.0) -> Chunk:
    return Chunk(stamp_s, RAMP + offset, 0.1)


@given(st.floats(0, 1.6))
def test_interpolation_of_a_ramp_is_the_ramp(age_s: float):
    np.testing.assert_allclose(chunk(5.0).at(5.0 + age_s), [age_s * 10, -age_s * 10], atol=1e-4)


@given(st.integers(0, 160), st.floats(0, 2e9))
def test_the_same_age_gives_the_same_bits_at_any_time(ticks: int, zero_s: float):
    rng = np.random.default_rng(ticks)
    positions = rng.standard_normal((17, 2))
    near, far = (Chunk(z, positions, 0.1) for z in (0.0, zero_s))
    np.testing.assert_array_equal(near.at(0.01 * ticks), far.at(zero_s + 0.01 * ticks))


def test_ends_are_kept_outside_the_chunks_time():
    np.testing.assert_array_equal(chunk(5.0).at(0.0), RAMP[0])
    np.testing.assert_array_equal(chunk(5.0).at(99.0), RAMP[-1])
    assert chunk(5.0).end_s == pytest.approx(6.6)


def test_a_chunk_takes_over_at_its_handover_age_whenever_it_arrived():
    for arrival_s in (1.0, 1.02, 1.05):
        follower = ChunkFollower(handover_s=0.05)
        assert follower.accept(chunk(0.2), 0.3) is None
        follower.target(1.0)
        assert follower.accept(chunk(1.0, offset=100.0), arrival_s) is None
        assert follower.target(1.04)[0] == pytest.approx(8.4), "still the old one"
        assert follower.target(1.05)[0] == pytest.approx(100.5), "late steps are dropped by time"


def test_a_late_chunk_takes_over_at_once_and_in_the_middle():
    follower = ChunkFollower(handover_s=0.05)
    follower.accept(chunk(1.0), 1.42)
    np.testing.assert_allclose(follower.target(1.42), [4.2, -4.2])
    assert follower.active_stamp_s == 1.0


def test_a_target_is_due_the_lead_ahead():
    follower = ChunkFollower(0.0, lead_s=0.01)
    follower.accept(chunk(1.0), 1.0)
    np.testing.assert_allclose(follower.target(1.42), [4.3, -4.3])


def test_nothing_yet_is_a_hold_with_its_reason():
    assert ChunkFollower(0.05).target(0.0) == Hold("waiting for a first chunk")


def test_the_last_position_is_kept_for_the_grace_then_held_with_a_reason():
    follower = ChunkFollower(0.0, grace_s=0.2)
    follower.accept(chunk(1.0), 1.0)
    np.testing.assert_array_equal(follower.target(2.8), RAMP[-1])
    assert follower.target(3.1) == Hold("no new chunk: the last one ended 0.5 s ago")


def test_refused_chunks_change_nothing_and_say_why():
    follower = ChunkFollower(0.0)
    follower.accept(chunk(1.0), 1.0)
    follower.target(1.0)
    bad = Chunk(1.1, np.full((17, 2), np.nan), 0.1)
    assert follower.accept(bad, 1.1) == Hold("chunk has values that are not finite")
    assert follower.accept(chunk(0.5), 1.1) == Hold("chunk of 0.500 s came after that of 1.000 s")
    assert follower.accept(chunk(1.0), 9.0) == Hold("chunk ended 6.400 s ago")
    np.testing.assert_allclose(follower.target(1.2), [2.0, -2.0])


def test_reset_forgets():
    follower = ChunkFollower(0.0)
    follower.accept(chunk(1.0), 1.0)
    follower.reset()
    assert isinstance(follower.target(1.0), Hold)
