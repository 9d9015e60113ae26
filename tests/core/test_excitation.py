"""The calibration's motion is gentle, bounded, and begins and ends at rest where the tool stood."""

from __future__ import annotations

import numpy as np
import pytest

from ambient_policy.errors import ConfigError
from ambient_policy.excitation import ExcitationConfig, excitation
from ambient_policy.limits import MotionLimits

START = np.array([0.5, -0.1])
WIDE = {"workspace_min": (0.0, -1.0), "workspace_max": (1.0, 1.0), "max_speed_m_s": 0.5}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"max_speed_m_s": 0.03},
        {"max_acceleration_m_s2": 0.1},
        {"max_acceleration_m_s2": 10.0, "max_jerk_m_s3": 0.5},
    ],
)
def test_it_keeps_every_limit_and_rests_at_both_ends(seed: int, limits: dict) -> None:
    config, period_s = ExcitationConfig(seed=seed), 0.01
    bounds = MotionLimits(**{**WIDE, **limits})
    path = excitation(config, START, bounds, period_s)
    assert path.shape == (2001, 2)
    np.testing.assert_allclose(path[[0, -1]], [START, START], atol=1e-12)
    assert np.abs(path - START).max() <= config.amplitude_m * (1 + 1e-9)
    change, used = path, []
    speed_m_s = min(config.speed_m_s, bounds.max_speed_m_s)
    for limit in (speed_m_s, bounds.max_acceleration_m_s2, bounds.max_jerk_m_s3):
        change = np.diff(change, axis=0) / period_s
        used.append(np.linalg.norm(change, axis=1).max() / (limit or np.inf))
    assert max(used) <= 1 + 1e-9
    reached = np.abs(path - START).max() / config.amplitude_m
    assert max(*used, reached) == pytest.approx(1.0), "as large as it may be"
    speeds = np.linalg.norm(np.diff(path, axis=0), axis=1) / period_s
    assert speeds[[0, -1]].max() < 1e-3


def test_a_motion_that_would_leave_the_workspace_is_refused() -> None:
    limits = MotionLimits(**{**WIDE, "workspace_min": (0.49, -1.0)})
    with pytest.raises(ConfigError, match=r"the workspace is \[0.49, -1.0\] to \[1.0, 1.0\]; move the tool"):
        excitation(ExcitationConfig(), START, limits, 0.01)
