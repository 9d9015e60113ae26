"""Delays that are known, found again from stamped samples with jitter, gaps, noise and other rates."""

from __future__ import annotations

import re

import numpy as np
import pytest

from ambient_policy.excitation import ExcitationConfig, excitation
from ambient_policy.limits import MotionLimits
from ambient_policy.time_delay import Delay, Track, Unknown, lowest, measure_delay

LIMITS = MotionLimits(workspace_min=(-1, -1), workspace_max=(1, 1), max_speed_m_s=0.5)
BEGAN_S = 1_700_000_000.0
"""As wall time counts: digits that are lost in differences would show."""


def motion(seed: int = 0, duration_s: float = 12.0) -> Track:
    """Return the true motion at 1 kHz with 0.6 s of rest at either end."""
    config = ExcitationConfig(duration_s=duration_s, seed=seed)
    path = excitation(config, np.array([0.5, 0.1]), LIMITS, 0.001)
    rest = np.tile(path[:1], (600, 1))
    path = np.vstack([rest, path, rest])
    return Track(BEGAN_S + 0.001 * np.arange(len(path)), path)


def slowed(track: Track, lag_s: float) -> Track:
    """Pass a 1 kHz motion through a first-order lag, one small step after the other."""
    out, share = track.positions.copy(), 1 - np.exp(-0.001 / lag_s)
    for k in range(1, len(out)):
        out[k] = out[k - 1] + share * (0.5 * (track.positions[k] + track.positions[k - 1]) - out[k - 1])
    return Track(track.times_s, out)


def sampled(track: Track, rate_hz: float, seed: int, *, delay_s: float = 0.0, noise_m: float = 0.0) -> Track:
    """Sample at jittering times, of which one in twenty is lost; `delay_s` later than the motion."""
    rng = np.random.default_rng(seed)
    times_s = np.arange(track.times_s[0], track.times_s[-1], 1 / rate_hz)
    times_s = np.sort(times_s + rng.uniform(-0.3, 0.3, len(times_s)) / rate_hz)
    times_s = times_s[rng.random(len(times_s)) > 0.05]
    positions = track.at(times_s - delay_s) + noise_m * rng.standard_normal((len(times_s), 2))
    return Track(times_s, positions)


@pytest.mark.parametrize(
    ("delay_s", "target_hz", "pose_hz"),
    [(0.0, 100, 100), (0.013, 100, 100), (0.1, 100, 30), (0.2, 40, 250), (0.3, 100, 100), (0.3, 100, 30)],
)
def test_a_pure_delay_is_found_to_a_millisecond(delay_s: float, target_hz: float, pose_hz: float) -> None:
    true = motion()
    targets = sampled(true, target_hz, 1)
    found = measure_delay(targets, sampled(true, pose_hz, 2, delay_s=delay_s, noise_m=2e-4))
    assert isinstance(found, Delay)
    assert found.delay_s == pytest.approx(delay_s, abs=1e-3)
    assert found.error_s < 1e-3
    assert found.gain == pytest.approx(1.0, abs=0.01)
    assert found.residual_m == pytest.approx(2e-4, rel=0.3)
    assert found.lag is None


@pytest.mark.parametrize(("dead_s", "lag_s"), [(0.0, 0.1), (0.05, 0.1), (0.2, 0.2)])
def test_a_first_order_lag_is_told_from_a_dead_time(dead_s: float, lag_s: float) -> None:
    true = motion(duration_s=20.0)
    poses = sampled(slowed(true, lag_s), 100, 2, delay_s=dead_s, noise_m=1e-4)
    found = measure_delay(sampled(true, 100, 1), poses)
    assert isinstance(found, Delay)
    assert found.lag is not None
    assert found.lag.dead_s == pytest.approx(dead_s, abs=5e-3)
    assert found.lag.lag_s == pytest.approx(lag_s, abs=5e-3)
    assert found.lag.residual_m < 0.5 * found.residual_m
    # The one shift that fits best is less than what very slow motion would see.
    assert dead_s < found.delay_s < dead_s + lag_s
    assert found.gain < 0.97


def test_its_error_is_as_large_as_it_says() -> None:
    """Twelve recordings, each with its own noise: misses over stated errors have a spread near 1."""
    true, scores = motion(duration_s=8.0), []
    for seed in range(12):
        poses = sampled(true, 50, 100 + seed, delay_s=0.05, noise_m=1e-3)
        found = measure_delay(sampled(true, 100, seed), poses)
        assert isinstance(found, Delay)
        scores.append((found.delay_s - 0.05) / found.error_s)
    assert 0.5 < np.sqrt(np.mean(np.square(scores))) < 2.0


def still(track: Track) -> Track:
    return Track(track.times_s, np.full_like(track.positions, 0.3))


@pytest.mark.parametrize(
    ("cause", "effect", "reason"),
    [
        (lambda t: t, still, r"the tool by 0.00 mm \(root mean square\), needs 1 or more"),
        (still, lambda t: t, "the target moved by 0.00 mm"),
        (lambda t: t, lambda t: Track(t.times_s, -t.positions), "moved -.* times as far as its target"),
        (lambda t: t, lambda t: Track(t.times_s, 2 * t.positions), "moved 2.00 times as far"),
        (
            lambda t: t,
            lambda t: Track(t.times_s + 0.7, t.positions),
            "at the end of what is searched|explains",
        ),
        (
            lambda t: t,
            lambda t: Track(t.times_s, t.positions + 0.8 * motion(seed=9).positions),
            "a delay explains 0.* of the tool's motion, needs 0.95 or more",
        ),
    ],
)
def test_what_cannot_be_measured_is_no_number(cause, effect, reason: str) -> None:
    true = motion()
    found = measure_delay(sampled(cause(true), 100, 1), sampled(effect(true), 100, 2))
    assert isinstance(found, Unknown)
    assert re.search(reason, found.reason), found.reason


def test_a_delay_that_hangs_on_one_moment_is_no_number() -> None:
    """A robot that is 0.02 s late in one half of the time and 0.12 s in the other has no one delay."""
    fine = motion(duration_s=20.0)
    true = Track(fine.times_s[::10], fine.positions[::10])
    late_s = np.where(true.times_s < true.times_s.mean(), 0.02, 0.12)
    found = measure_delay(true, Track(true.times_s, true.at(true.times_s - late_s)))
    assert isinstance(found, Unknown)
    assert "is uncertain by 0.0" in found.reason


def test_the_lowest_point_of_a_parabola_is_found_between_the_points() -> None:
    grid = np.arange(-3.0, 4.0)
    assert lowest(grid, (grid - 0.3) ** 2) == (pytest.approx(0.3), False)
    assert lowest(grid, grid) == (-3.0, True)
