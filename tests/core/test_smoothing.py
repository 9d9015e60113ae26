"""Laws of the smoother: whatever comes in, what goes out keeps box, speed, acceleration and jerk."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambient_policy.config import parse
from ambient_policy.errors import ConfigError
from ambient_policy.limits import MotionLimits
from ambient_policy.smoothing import Smoother

DT_S = 0.01
LIMITS = MotionLimits(
    workspace_min=(-0.2, -0.2),
    workspace_max=(0.2, 0.2),
    max_speed_m_s=0.5,
    max_acceleration_m_s2=8.0,
    max_jerk_m_s3=200.0,
)
WISHES = st.lists(
    st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.integers(1, 30)), min_size=1, max_size=12
).map(lambda runs: np.array([(x, y) for x, y, n in runs for _ in range(n)]))


def smoothed(wishes: np.ndarray, step_s: float = DT_S) -> np.ndarray:
    """Return the positions (N, 2) for wishes (N, 2), from rest at the origin."""
    smoother = Smoother(LIMITS.windows(DT_S), DT_S)
    smoother.reset(np.zeros(2))
    target, out = np.zeros(2), []
    for wish in wishes:
        target, _ = LIMITS.limit(target, wish, step_s)
        out.append(smoother.push(target, step_s))
    return np.array(out)


def largest(differences: np.ndarray) -> float:
    return float(np.linalg.norm(differences, axis=1).max(initial=0.0))


@given(WISHES)
def test_every_limit_holds_for_any_wish(wishes: np.ndarray) -> None:
    # At rest before, so that the start counts too.
    out = np.vstack([np.zeros((3, 2)), smoothed(wishes)])
    assert np.all(np.abs(out) <= 0.2 + 1e-12)
    assert largest(np.diff(out, 1, axis=0)) / DT_S <= 0.5 + 1e-9
    assert largest(np.diff(out, 2, axis=0)) / DT_S**2 <= 8.0 + 1e-6
    assert largest(np.diff(out, 3, axis=0)) / DT_S**3 <= 200.0 + 1e-4


def test_the_windows_are_the_shortest_that_hold() -> None:
    """There, back and there again reaches both limits to a tenth: longer windows would only be later."""
    assert LIMITS.windows(DT_S) == (13, 8)
    out = smoothed(np.repeat([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]], [30, 13, 13], axis=0))
    assert largest(np.diff(out, 2, axis=0)) / DT_S**2 > 0.9 * 8.0
    assert largest(np.diff(out, 3, axis=0)) / DT_S**3 > 0.9 * 200.0


@given(WISHES, st.lists(st.floats(0.0, 0.01), min_size=12 * 30, max_size=12 * 30))
def test_speed_and_box_hold_for_any_ticks(wishes: np.ndarray, steps_s: list[float]) -> None:
    smoother = Smoother(LIMITS.windows(DT_S), DT_S)
    smoother.reset(np.zeros(2))
    target = last = np.zeros(2)
    for wish, step_s in zip(wishes, steps_s, strict=False):
        target, _ = LIMITS.limit(target, wish, step_s)
        position = smoother.push(target, step_s)
        assert np.linalg.norm(position - last) <= 0.5 * step_s + 1e-9
        assert np.all(np.abs(position) <= 0.2 + 1e-12)
        last = position


def test_a_target_that_stops_is_reached_at_rest() -> None:
    first, second = LIMITS.windows(DT_S)
    wishes = np.repeat([[0.1, 0.05]], 23 + first + second, axis=0)
    out = smoothed(wishes)
    np.testing.assert_allclose(out[23 + first + second - 2 :], np.tile([0.1, 0.05], (2, 1)), atol=1e-15)


def test_steady_motion_is_late_by_the_lag() -> None:
    smoother = Smoother((6, 4), DT_S)
    smoother.reset(np.zeros(1))
    assert smoother.lag_s == pytest.approx(0.04)
    out = [smoother.push(np.array([0.3 * DT_S * k]), DT_S)[0] for k in range(1, 40)]
    np.testing.assert_allclose(out[9:], 0.3 * (DT_S * np.arange(10, 40) - 0.04), atol=1e-12)


def test_without_limits_nothing_changes() -> None:
    free = LIMITS.model_copy(update={"max_acceleration_m_s2": None, "max_jerk_m_s3": None})
    smoother = Smoother(free.windows(DT_S), DT_S)
    smoother.reset(np.zeros(2))
    assert smoother.lag_s == 0
    np.testing.assert_array_equal(smoother.push(np.array([0.1, 0.2]), DT_S), [0.1, 0.2])


def test_a_jerk_limit_alone_is_refused() -> None:
    box = {"workspace_min": [0.0], "workspace_max": [1.0], "max_speed_m_s": 1.0}
    with pytest.raises(ConfigError, match="needs max_acceleration_m_s2"):
        parse({**box, "max_jerk_m_s3": 5.0}, MotionLimits, "limits.yaml")
