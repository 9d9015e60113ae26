"""Motion limits never let a target leave the box or outrun the speed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambient_policy.config import parse
from ambient_policy.errors import ConfigError
from ambient_policy.limits import MotionLimits

LIMITS = MotionLimits(workspace_min=(0.2, -0.3), workspace_max=(0.8, 0.3), max_speed_m_s=0.5)
INSIDE = st.tuples(st.floats(0.2, 0.8), st.floats(-0.3, 0.3)).map(np.array)
ANYWHERE = st.tuples(st.floats(allow_nan=True), st.floats(allow_infinity=True)).map(np.array)


@given(INSIDE, ANYWHERE)
def test_whatever_is_wanted_the_result_is_inside_and_slow_enough(previous, wanted):
    position, _ = LIMITS.limit(previous, wanted, 0.01)
    assert np.all(position >= np.array([0.2, -0.3]) - 1e-12)
    assert np.all(position <= np.array([0.8, 0.3]) + 1e-12)
    assert np.linalg.norm(position - previous) <= 0.005 + 1e-12


@given(INSIDE, st.floats(-np.pi, np.pi), st.floats(0, 0.0049))
def test_allowed_motion_passes_untouched(previous, angle, length):
    wanted = previous + length * np.array([np.cos(angle), np.sin(angle)])
    wanted = np.clip(wanted, LIMITS.workspace_min, LIMITS.workspace_max)
    position, reasons = LIMITS.limit(previous, wanted, 0.01)
    np.testing.assert_array_equal(position, wanted)
    assert reasons == ()


def test_reasons_are_named():
    home = np.array([0.5, 0.0])
    assert LIMITS.limit(home, np.array([0.5, 0.31]), 10.0)[1] == ("workspace",)
    assert LIMITS.limit(home, np.array([0.6, 0.0]), 0.01)[1] == ("speed",)
    position, reasons = LIMITS.limit(home, np.array([np.nan, 0.0]), 0.01)
    assert reasons == ("not finite",)
    np.testing.assert_array_equal(position, home)


def test_a_box_inside_out_is_refused():
    with pytest.raises(ConfigError, match="must be below workspace_max"):
        parse(
            {"workspace_min": [1.0], "workspace_max": [0.0], "max_speed_m_s": 1}, MotionLimits, "limits.yaml"
        )
