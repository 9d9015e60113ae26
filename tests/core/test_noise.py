"""Conversions are exact and inverse to each other; preconditioning does what its derivation promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambient_policy import noise
from ambient_policy.errors import ConfigError

sigmas = st.floats(1e-4, 1e3)
SIGMA_DATA = 0.5


@given(sigmas)
def test_level_conversions_are_inverses(sigma):
    """There and back, through both other conventions."""
    assert noise.sigma_from_vp(noise.vp_from_sigma(sigma)) == pytest.approx(sigma, rel=1e-6)
    assert noise.sigma_from_flow(noise.flow_from_sigma(sigma)) == pytest.approx(sigma, rel=1e-9)
    assert 0 < noise.vp_from_sigma(sigma) < 1
    assert 0 < noise.flow_from_sigma(sigma) < 1


@given(sigmas, st.floats(-2, 2), st.floats(-3, 3))
def test_samples_convert_between_the_three_definitions(sigma, x0, z):
    """The same x0 and z written in each convention must be one another's conversion."""
    ve = np.array(x0 + sigma * z)
    v, u = noise.vp_from_sigma(sigma), noise.flow_from_sigma(sigma)
    vp, flow = math.sqrt(1 - v**2) * x0 + v * z, (1 - u) * x0 + u * z
    assert noise.vp_sample(ve, sigma) == pytest.approx(vp, rel=1e-6, abs=1e-9)
    assert noise.flow_sample(ve, sigma) == pytest.approx(flow, rel=1e-6, abs=1e-9)
    assert noise.ve_from_vp_sample(noise.vp_sample(ve, sigma), v) == pytest.approx(ve, rel=1e-5, abs=1e-9)
    assert noise.ve_from_flow_sample(noise.flow_sample(ve, sigma), u) == pytest.approx(ve, rel=1e-6, abs=1e-9)


def test_known_levels():
    """Numbers that can be checked by hand; .02513 is where the usual 100-step cosine schedule starts."""
    assert noise.sigma_from_vp(0.6) == pytest.approx(0.75)
    assert noise.sigma_from_flow(0.75) == pytest.approx(3.0)
    assert noise.vp_from_sigma(1.0) == pytest.approx(math.sqrt(0.5))
    assert noise.sigma_from_vp(0.02513) == pytest.approx(0.025138, abs=1e-6)


@given(sigmas, st.floats(0.05, 5.0))
def test_preconditioning_gives_unit_variance_to_input_and_target(sigma, sigma_data):
    """Of a network that must output (x0 - skip x) / out, for data of that standard deviation."""
    c = noise.preconditioning(sigma, sigma_data)
    assert c.in_**2 * (sigma_data**2 + sigma**2) == pytest.approx(1)
    assert ((1 - c.skip) ** 2 * sigma_data**2 + c.skip**2 * sigma**2) / c.out**2 == pytest.approx(1, rel=1e-5)
    assert noise.loss_weight(sigma, sigma_data) * c.out**2 == pytest.approx(1)
    assert c.noise == pytest.approx(math.log(sigma) / 4)


@given(sigmas)
def test_skip_is_the_choice_that_amplifies_the_network_least(sigma):
    """EDM derives `skip` as the minimiser of `out`, where out^2 is the target's variance."""

    def out2(skip: float) -> float:
        return (1 - skip) ** 2 * SIGMA_DATA**2 + skip**2 * sigma**2

    c = noise.preconditioning(sigma, SIGMA_DATA)
    assert out2(float(c.skip)) <= min(out2(float(c.skip) + 1e-3), out2(float(c.skip) - 1e-3))


def test_preconditioning_limits():
    """Without noise the denoiser is the identity; in pure noise it is the network alone."""
    quiet, loud = noise.preconditioning(1e-6, SIGMA_DATA), noise.preconditioning(1e6, SIGMA_DATA)
    assert (quiet.skip, quiet.out) == (pytest.approx(1), pytest.approx(0, abs=1e-5))
    assert (loud.skip, loud.out) == (pytest.approx(0, abs=1e-5), pytest.approx(SIGMA_DATA))


def test_preconditioning_broadcasts():
    """A batch of levels (B, 1, 1) scales a batch of chunks (B, H, A)."""
    assert noise.preconditioning(np.ones((5, 1, 1)), 0.5).skip.shape == (5, 1, 1)


@given(
    st.integers(1, 40), st.floats(1e-3, 0.5), st.floats(0.6, 80), st.sampled_from([1.0, 3.0, 7.0, math.inf])
)
def test_ladder_has_its_promised_ends_and_falls(steps, low, high, rho):
    """K + 1 levels, first sigma_max, last but one sigma_min, last 0."""
    ladder = noise.karras_ladder(steps, low, high, rho)
    assert ladder.shape == (steps + 1,)
    assert (ladder[0], ladder[-1]) == (high, 0)
    assert steps == 1 or ladder[-2] == low
    np.testing.assert_array_equal(noise.check_ladder(ladder), ladder)


def test_ladder_spacing_is_even_in_the_power_that_rho_names():
    """Differences of sigma^(1/rho), or of ln sigma for inf, are equal."""
    for rho, warp in ((7.0, lambda s: s ** (1 / 7)), (1.0, lambda s: s), (math.inf, np.log)):
        ladder = noise.karras_ladder(9, 0.02, 5.0, rho, end_at_zero=False)
        steps = np.diff(warp(ladder))
        np.testing.assert_allclose(steps, steps[0], rtol=1e-9)


def test_training_levels_follow_the_generator_and_the_bounds():
    """Seeded draws repeat; their logarithm has the mean and deviation asked for."""
    first, second = (noise.draw_training_sigmas(np.random.default_rng(3), 200_000) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    inside = np.log(first[(first > 0.002) & (first < 80)])
    assert inside.mean() == pytest.approx(-1.2, abs=0.02)
    assert inside.std() == pytest.approx(1.4, abs=0.02)
    assert first.min() >= 0.002
    assert first.max() <= 80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0.1, 1.0), "steps is 0, needs 1 or more"),
        ((4, 0.0, 1.0), "sigma_min is 0.0 and sigma_max 1.0, needs 0 < sigma_min < sigma_max"),
        ((4, 2.0, 1.0), "needs 0 < sigma_min < sigma_max"),
        ((4, 0.1, math.inf), "needs 0 < sigma_min < sigma_max"),
        ((4, 0.1, 1.0, 0.0), "rho is 0.0, needs a value above 0"),
    ],
)
def test_bad_ladders_are_refused(arguments, message):
    """Each with its value and the accepted range."""
    with pytest.raises(ConfigError) as error:
        noise.karras_ladder(*arguments)
    assert message in str(error.value)
