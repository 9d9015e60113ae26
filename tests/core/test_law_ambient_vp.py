"""Ambient laws in variance preserving form, against Gaussian data whose every posterior is known.

x_n = sqrt(1 - v_n^2) x0 + v_n z, x = c x_n + sqrt(v^2 - c^2 v_n^2) z' with c^2 = (1 - v^2) / (1 - v_n^2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambient_policy import ambient, noise
from tests.core.gaussian import Gaussian

DATA = Gaussian(-0.4, 0.8)
V_N, V = 0.5, 0.8

levels = st.tuples(st.floats(0.02, 0.8), st.floats(0.02, 0.18)).map(lambda pair: (pair[0], sum(pair)))


@dataclass(frozen=True)
class Vp:
    """X0 ~ N(mean, std^2) seen at VP level v."""

    data: Gaussian
    v: float

    @property
    def mean(self) -> float:
        """E[x]."""
        return np.sqrt(1 - self.v**2) * self.data.mean

    @property
    def variance(self) -> float:
        """Var[x]."""
        return (1 - self.v**2) * self.data.std**2 + self.v**2


def keep(v_n: float, v: float) -> float:
    """Give c, the share of a sample at v_n that is left at v."""
    return np.sqrt((1 - v**2) / (1 - v_n**2))


def clean_mean(x, v: float, data: Gaussian):
    """E[x0 | x], from the joint Gaussian of x0 and x."""
    return data.mean + np.sqrt(1 - v**2) * data.std**2 / Vp(data, v).variance * (x - Vp(data, v).mean)


def partly_noisy_mean(x, v_n: float, v: float, data: Gaussian):
    """E[x_n | x], from the joint Gaussian of x_n and x."""
    before, now = Vp(data, v_n), Vp(data, v)
    return before.mean + keep(v_n, v) * before.variance / now.variance * (x - now.mean)


def partly_noisy_variance(v_n: float, v: float, data: Gaussian) -> float:
    """Var[x_n | x], the same at every x."""
    c = keep(v_n, v)
    return 1 / (1 / Vp(data, v_n).variance + c**2 / (v**2 - c**2 * v_n**2))


def draw(count: int, v_n: float, v: float, data: Gaussian, seed: int):
    """Draw x0, x_n and x."""
    rng = np.random.default_rng(seed)
    x0 = rng.normal(data.mean, data.std, count)
    x_n = ambient.vp_add_noise(x0, 0.0, v_n, rng.standard_normal(count))
    return x0, x_n, ambient.vp_add_noise(x_n, v_n, v, rng.standard_normal(count))


@given(levels, st.floats(-2, 2), st.floats(-3, 3))
def test_adding_noise_in_vp_is_adding_it_in_ve_and_rescaling(pair, x_n, z):
    """The VP step from v_n to v, the VE step between the converted levels, and c x_n + noise agree."""
    v_n, v = pair
    added = float(ambient.vp_add_noise(np.array(x_n), v_n, v, np.array(z)))
    sigma_n, sigma = noise.sigma_from_vp(v_n), noise.sigma_from_vp(v)
    ve = ambient.add_noise(noise.ve_from_vp_sample(np.array(x_n), v_n), sigma_n, sigma, np.array(z))
    assert added == pytest.approx(float(noise.vp_sample(ve, sigma)), abs=1e-9)
    new_noise = np.sqrt((v**2 - v_n**2) / (1 - v_n**2))
    assert added == pytest.approx(keep(v_n, v) * x_n + new_noise * z, abs=1e-9)


def test_adding_noise_in_two_steps_is_adding_it_in_one():
    """Mean and variance at v do not depend on v_n: what a step must keep for x to be at level v at all."""
    _, _, x = draw(1_000_000, V_N, V, DATA, seed=4)
    assert x.mean() == pytest.approx(Vp(DATA, V).mean, abs=0.005)
    assert x.var() == pytest.approx(Vp(DATA, V).variance, rel=0.005)


@given(levels, st.floats(-1, 1), st.floats(0.1, 3), st.floats(-4, 4))
def test_double_tweedie_in_vp(pair, mean, std, x):
    """The targets are linear in x_n; at E[x_n | x] they must be E[x0 | x] and E[z | x], not E[x_n | x]."""
    (v_n, v), data = pair, Gaussian(mean, std)
    x0, eps = ambient.vp_ambient_targets(partly_noisy_mean(x, v_n, v, data), np.array(x), v, v_n)
    expected = clean_mean(x, v, data)
    assert x0 == pytest.approx(expected, abs=1e-6)
    assert eps == pytest.approx((x - np.sqrt(1 - v**2) * expected) / v, abs=1e-6)


@given(st.floats(0.02, 0.98), st.floats(-4, 4))
def test_the_clean_posterior_is_the_same_through_ve(v, x):
    """E[x0 | x] in VP is the VE denoiser at sigma = v / sqrt(1 - v^2) of x / sqrt(1 - v^2)."""
    ve = DATA.denoise(noise.ve_from_vp_sample(np.array(x), v), noise.sigma_from_vp(v))
    assert ve == pytest.approx(clean_mean(x, v, DATA), abs=1e-9)


def test_worked_example_in_vp():
    """mean -.4, std .8, v_n .5, v .8, x 1.1: both means by hand; they differ."""
    x = np.array(1.1)
    # Var x = .36 * .64 + .64 = .8704, Var x_n = .75 * .64 + .25 = .73, c = .6 / sqrt(.75); E x = -.24.
    assert clean_mean(x, V, DATA) == pytest.approx(-0.4 + 0.6 * 0.64 / 0.8704 * 1.34)
    assert clean_mean(x, V, DATA) == pytest.approx(0.191176, abs=1e-6)
    assert partly_noisy_mean(x, V_N, V, DATA) == pytest.approx(0.432217, abs=1e-6)
    x0, eps = ambient.vp_ambient_targets(np.array(0.432217), x, V, V_N)
    assert (x0, eps) == (pytest.approx(0.191176, abs=1e-5), pytest.approx(1.231618, abs=1e-5))


def test_learning_in_vp_from_noisy_samples_gives_the_clean_posterior():
    """Least squares on 10^6 draws: the ambient targets find E[x0 | x] and E[z | x]."""
    _, x_n, x = draw(1_000_000, V_N, V, DATA, seed=0)
    x0, eps = ambient.vp_ambient_targets(x_n, x, V, V_N)
    at = 1.1
    assert np.polyval(np.polyfit(x, x0, 1), at) == pytest.approx(0.191176, abs=0.01)
    assert np.polyval(np.polyfit(x, eps, 1), at) == pytest.approx(1.231618, abs=0.01)


def test_taking_a_noisy_vp_sample_for_a_clean_one_is_biased():
    """Noised from level 0 instead of v_n, and x_n as the target: the guess is .2881 and not .1912."""
    _, x_n, _ = draw(1_000_000, V_N, V, DATA, seed=1)
    x = ambient.vp_add_noise(x_n, 0.0, V, np.random.default_rng(2).standard_normal(x_n.size))
    wrong = Gaussian(Vp(DATA, V_N).mean, np.sqrt(Vp(DATA, V_N).variance))
    biased = clean_mean(1.1, V, wrong)
    assert biased == pytest.approx(0.288101, abs=1e-6)
    assert np.polyval(np.polyfit(x, x_n, 1), 1.1) == pytest.approx(biased, abs=0.01)


@given(levels)
def test_the_eps_target_weighs_x_by_what_the_algebra_says(pair):
    """v (1 - v_n^2) / (v^2 - v_n^2).

    A form in print has v^2 / sqrt(1 - v^2) in the place of v: too large by v / sqrt(1 - v^2).
    """
    v_n, v = pair
    weight = ambient.vp_ambient_targets(np.array(0.0), np.array(1.0), v, v_n)[1]
    assert weight == pytest.approx(v * (1 - v_n**2) / (v**2 - v_n**2), rel=1e-9)
    printed = v**2 * (1 - v_n**2) / ((v**2 - v_n**2) * np.sqrt(1 - v**2))
    assert printed / weight == pytest.approx(v / np.sqrt(1 - v**2), rel=1e-9)


@pytest.mark.parametrize("v", [0.9, 0.6, 0.53, 0.505])
def test_vp_target_variance_is_known_and_diverges_at_the_sample_s_own_level(v):
    """Var[x0 target | x] = Var[x_n | x] (v^2 sqrt(1 - v_n^2) / (v^2 - v_n^2))^2, the reason for a buffer."""
    _, x_n, x = draw(400_000, V_N, v, DATA, seed=2)
    x0, _ = ambient.vp_ambient_targets(x_n, x, v, V_N)
    factor = v**2 * np.sqrt(1 - V_N**2) / (v**2 - V_N**2)
    variance = partly_noisy_variance(V_N, v, DATA) * factor**2
    assert (x0 - clean_mean(x, v, DATA)).var() == pytest.approx(variance, rel=0.015)
    assert v > 0.51 or variance > 10


@pytest.mark.parametrize("form", ["ve", "vp"])
def test_three_losses_have_three_floors_and_one_minimiser(form):
    """Denoising, ambient and rescaled ambient loss at E[x0 | x]: their floors are posterior variances.

    Moving the guess off E[x0 | x] by d adds d^2, alpha^2 d^2 and d^2: no other guess does better in any.
    """
    v_n, v = V_N, V
    sigma_n, sigma = noise.sigma_from_vp(v_n), noise.sigma_from_vp(v)
    x0, x_n, x = draw(1_000_000, v_n, v, DATA, seed=3)
    target = ambient.vp_ambient_targets(x_n, x, v, v_n)[0]
    ve_n, ve = noise.ve_from_vp_sample(x_n, v_n), noise.ve_from_vp_sample(x, v)
    if form == "ve":
        target = ambient.ambient_target(ve_n, ve, sigma, sigma_n)
    alpha = 1 - (sigma_n / sigma) ** 2
    best = clean_mean(x, v, DATA)
    floor_n = 1 / (1 / (DATA.std**2 + sigma_n**2) + 1 / (sigma**2 - sigma_n**2))

    def losses(guess: np.ndarray) -> np.ndarray:
        return np.array(
            [
                np.mean((guess - x0) ** 2),
                np.mean((ambient.mix(guess, ve, sigma, sigma_n) - ve_n) ** 2),
                np.mean((guess - target) ** 2),
            ]
        )

    floors = np.array([1 / (DATA.std**-2 + sigma**-2), floor_n, floor_n / alpha**2])
    np.testing.assert_allclose(losses(best), floors, rtol=0.01)
    assert np.ptp(floors) > 0.2
    for off in (-0.3, 0.3):
        expected = np.array([1, alpha**2, 1]) * off**2
        np.testing.assert_allclose(losses(best + off) - losses(best), expected, atol=0.003)
