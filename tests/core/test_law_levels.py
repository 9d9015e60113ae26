"""Laws about noise levels: contraction of two distributions, the buffer above a level, discrete schedules.

And the arithmetic by which two success rates are told apart.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency

from ambient_policy import ambient, noise
from ambient_policy.manifold import Clouds, total_variation, total_variation_bound
from ambient_policy.statistics import success_rate


def phi(x: float) -> float:
    """Standard normal distribution function."""
    return 0.5 * math.erfc(-x / math.sqrt(2))


@pytest.mark.parametrize("sigma", [0.2, 0.7, 2.0, 9.0])
@pytest.mark.parametrize("dimension", [1, 2])
def test_noise_contracts_two_point_masses(sigma, dimension):
    """Total variation 2 Phi(D / 2 sigma) - 1, found by a sum over a grid; at most D / (2 sigma)."""
    distance = 1.3
    direction = np.array([0.6, 0.8]) if dimension == 2 else np.ones(1)
    clouds = Clouds(np.zeros((1, dimension)) + 0.4, 0.4 + distance * direction[None])
    exact = 2 * phi(distance / (2 * sigma)) - 1
    assert total_variation(clouds, sigma, cells_a_sigma=8) == pytest.approx(exact, abs=2e-3)
    assert total_variation_bound(clouds, sigma) == pytest.approx(min(1, distance / (2 * sigma)))


@given(st.floats(0.01, 50), st.floats(0.01, 50))
def test_the_bound_by_pinsker_holds_and_is_loose_by_a_known_factor(distance, sigma):
    """2 Phi(D / 2 sigma) - 1 <= D / (2 sigma); for much noise the ratio tends to sqrt(2 / pi), about .8."""
    exact, bound = 2 * phi(distance / (2 * sigma)) - 1, distance / (2 * sigma)
    assert exact <= bound
    if bound < 0.01:
        assert exact / bound == pytest.approx(math.sqrt(2 / math.pi), rel=1e-3)


def test_the_bound_holds_for_clouds_and_distance_only_falls():
    """Random clouds in the plane: below the bound at every level, and noise never tells them apart better."""
    rng = np.random.default_rng(0)
    clouds = Clouds(rng.normal(size=(20, 2)), rng.normal(size=(30, 2)) * 0.7 + 0.3)
    sigmas = (0.1, 0.3, 1.0, 3.0, 10.0)
    seen = [total_variation(clouds, sigma) for sigma in sigmas]
    assert all(tv <= total_variation_bound(clouds, sigma) for tv, sigma in zip(seen, sigmas, strict=True))
    assert (np.diff(seen) < 0).all()
    assert seen[0] > 0.5
    assert seen[-1] < 0.05


@pytest.mark.parametrize("bound", [1.5, 2.0, 4.0, 25.0])
@pytest.mark.parametrize("sigma_n", [0.1, 0.8])
def test_the_buffer_bounds_one_over_alpha_and_its_square(bound, sigma_n):
    """sigma > sqrt(1 + 1 / (L - 1)) sigma_n: 1 / alpha <= L, so the loss ratio is bounded by L^2, not by L.

    The ratio is measured on the losses themselves: rescaled residual squared over ambient residual squared.
    """

    def loss_ratio(sigma: float) -> float:
        x_n, x, guess = np.array(0.3), np.array(-0.9), np.array(1.7)
        rescaled = (guess - ambient.ambient_target(x_n, x, sigma, sigma_n)) ** 2
        return float(rescaled / (ambient.mix(guess, x, sigma, sigma_n) - x_n) ** 2)

    start = float(ambient.buffered(sigma_n, bound))
    assert start == pytest.approx(math.sqrt(1 + 1 / (bound - 1)) * sigma_n)
    assert start**2 / (start**2 - sigma_n**2) == pytest.approx(bound)
    assert loss_ratio(start) == pytest.approx(bound**2)
    assert ambient.rescaling(start, sigma_n) == pytest.approx(bound)
    assert loss_ratio(1.01 * start) < bound**2 < loss_ratio((start + sigma_n) / 2)
    # To bound the loss ratio itself by L: sqrt(L) in the place of L.
    tighter = float(ambient.buffered(sigma_n, math.sqrt(bound)))
    assert tighter == pytest.approx(math.sqrt(1 + 1 / (math.sqrt(bound) - 1)) * sigma_n)
    assert loss_ratio(tighter) == pytest.approx(bound)
    assert tighter > start


def test_buffer_numbers():
    """L = 2: sqrt(2) sigma_n. L = 4: (2 / sqrt(3)) sigma_n. L = 10: 1.054 sigma_n."""
    assert ambient.buffered(0.5, 2.0) == pytest.approx(0.5 * math.sqrt(2))
    assert ambient.buffered(1.0, 4.0) == pytest.approx(1.154701, abs=1e-6)
    assert ambient.buffered(1.0, 10.0) == pytest.approx(1.054093, abs=1e-6)


@pytest.mark.parametrize("v_n", [0.2, 0.6])
def test_the_buffer_is_the_same_in_vp(v_n):
    """1 / alpha = v^2 (1 - v_n^2) / (v^2 - v_n^2) in converted levels, L at the buffer.

    The weight of x_n in the x0 target, v^2 sqrt(1 - v_n^2) / (v^2 - v_n^2), is L / sqrt(1 - v_n^2) there.
    """
    bound = 3.0
    v = float(noise.vp_from_sigma(ambient.buffered(noise.sigma_from_vp(v_n), bound)))
    assert v**2 * (1 - v_n**2) / (v**2 - v_n**2) == pytest.approx(bound)
    weight = ambient.vp_ambient_targets(np.array(1.0), np.array(0.0), v, v_n)[0]
    assert weight == pytest.approx(bound / math.sqrt(1 - v_n**2))


def cosine_levels(steps: int) -> np.ndarray:
    """VP levels of `squaredcos_cap_v2` (Nichol and Dhariwal 2021): betas from a cosine, capped at .999."""

    def kept(along: np.ndarray) -> np.ndarray:
        return np.cos((along + 0.008) / 1.008 * np.pi / 2) ** 2

    edges = np.arange(steps + 1) / steps
    betas = np.minimum(1 - kept(edges[1:]) / kept(edges[:-1]), 0.999)
    return np.sqrt(1 - np.cumprod(1 - betas))


def test_a_discrete_schedule_may_have_no_step_in_a_narrow_band():
    """100 cosine steps start at v = .02513, so a band v < .025, sigma < .025008, admits none of them.

    The same band admits nine of 1000 steps: a band belongs to levels, not to steps.
    """
    v = cosine_levels(100)
    assert v[0] == pytest.approx(0.02513, abs=5e-6)
    assert (np.diff(v) > 0).all()
    band = noise.sigma_from_vp(0.025)
    assert band == pytest.approx(0.025008, abs=1e-6)
    assert not (v < 0.025).any()
    assert not (noise.sigma_from_vp(v) < band).any()
    assert (noise.sigma_from_vp(cosine_levels(1000)) < band).sum() == 9
    # A hair wider and one step is in.
    assert (v < 0.0252).sum() == 1


def test_two_success_rates_are_told_apart_as_published():
    """187 of 200 against 169 of 200: z = 2.876, p = .0040 by the pooled z test; Wilson apart."""
    a, b, n = 187, 169, 200
    pooled = (a + b) / (2 * n)
    z = (a - b) / n / math.sqrt(pooled * (1 - pooled) * 2 / n)
    assert z == pytest.approx(2.876, abs=5e-4)
    assert 2 * (1 - phi(z)) == pytest.approx(0.0040, abs=5e-5)
    # An independent witness: the square of z is the chi-squared of the 2 x 2 table.
    test = chi2_contingency([[a, n - a], [b, n - b]], correction=False)
    assert (z**2, 2 * (1 - phi(z))) == pytest.approx((test.statistic, test.pvalue))
    better, worse = success_rate(a, n), success_rate(b, n)
    assert (better.low, better.high) == pytest.approx((0.892, 0.962), abs=5e-4)
    assert (worse.low, worse.high) == pytest.approx((0.788, 0.889), abs=5e-4)
    assert better.low > worse.high
