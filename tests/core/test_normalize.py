"""Normalisers are affine, invertible and survive a file."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ambient_policy.errors import ConfigError
from ambient_policy.normalize import Normalizer, fit_isotropic, fit_range

data = hnp.arrays(np.float64, (7, 3, 2), elements=st.floats(-100, 100))


@given(data, st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=2))
def test_invert_undoes_apply(x, scale):
    """For any offset and positive scale, also through JSON."""
    normalizer = Normalizer(x[0, 0], np.array(scale))
    again = Normalizer.from_dict(json.loads(json.dumps(normalizer.to_dict())))
    np.testing.assert_allclose(again.invert(normalizer.apply(x)), x, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(again.scale, normalizer.scale)


@given(data)
def test_fit_range_fills_minus_one_to_one(x):
    """Each dimension's extremes land on -1 and 1; one that never changes lands on 0."""
    y = fit_range(x).apply(x).reshape(-1, 2)
    moving = np.ptp(x.reshape(-1, 2), axis=0) > 1e-6
    np.testing.assert_allclose(y.min(axis=0)[moving], -1, atol=1e-6)
    np.testing.assert_allclose(y.max(axis=0)[moving], 1, atol=1e-6)
    constant = np.ptp(x.reshape(-1, 2), axis=0) == 0
    np.testing.assert_allclose(y[:, constant], 0, atol=1e-6)


def test_fit_range_takes_given_bounds():
    """The workspace may be wider than the data."""
    normalizer = fit_range(np.array([[0.1, 0.1], [0.2, 0.3]]), low=[-0.5, -0.25], high=[0.5, 0.25])
    np.testing.assert_allclose(normalizer.apply(np.array([0.5, -0.25])), [1, -1])


def test_fit_isotropic_keeps_zero_and_angles():
    """One scale for all dimensions: root mean square 0.5, no shift, the same direction."""
    x = np.random.default_rng(0).normal(scale=[0.02, 0.002], size=(1000, 16, 2))
    normalizer = fit_isotropic(x)
    y = normalizer.apply(x)
    assert np.sqrt(np.mean(y**2)) == pytest.approx(0.5)
    np.testing.assert_array_equal(normalizer.apply(np.zeros(2)), 0)
    np.testing.assert_allclose(np.arctan2(y[..., 1], y[..., 0]), np.arctan2(x[..., 1], x[..., 0]))


def test_a_normalizer_cannot_be_changed_afterwards():
    """Neither through itself nor through the array it was made of."""
    offset = np.zeros(2)
    normalizer = Normalizer(offset, np.ones(2))
    offset[0] = 5
    assert normalizer.offset[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        normalizer.scale[0] = 2


@pytest.mark.parametrize(
    ("offset", "scale", "message"),
    [
        ([0.0], [0.0], "normalizer scale is [0.0], needs every value above 0"),
        ([0.0, 1.0], [1.0], "normalizer has 2 offsets and 1 scales"),
        ([np.nan], [1.0], "normalizer offset is [nan], needs a flat list of finite numbers"),
        ([[0.0]], [1.0], "needs a flat list"),
    ],
)
def test_bad_normalizers_are_refused(offset, scale, message):
    """Each with its values."""
    with pytest.raises(ConfigError) as error:
        Normalizer(np.array(offset), np.array(scale))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((0, 2)), "data of shape (0, 2)"),
        (np.array([[np.inf, 1.0]]), "needs finite values"),
        (np.zeros((4, 2)), "every value to normalise is 0; is the tool moving"),
    ],
)
def test_data_that_cannot_be_fitted_is_refused(x, message):
    """An empty, broken or motionless data set would otherwise give a useless scale."""
    with pytest.raises(ConfigError) as error:
        fit_isotropic(x)
    assert message in str(error.value)
