"""The ambient loss against Gaussian data, where E[x0 | x] and E[x_n | x] are known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambient_policy import ambient
from tests.core.gaussian import Gaussian

MU, STD, SIGMA_N, SIGMA, X = 0.5, 2.0, 1.0, 3.0, 4.0
DATA = Gaussian(MU, STD)


def partly_noisy_mean(x: float, sigma: float, sigma_n: float, data: Gaussian) -> float:
    """Give E[X_n | X = x]; X_n is Gaussian with variance std^2 + sigma_n^2."""
    return data.mean + (data.std**2 + sigma_n**2) / (data.std**2 + sigma**2) * (x - data.mean)


def test_worked_example():
    """One point with known answers: the conditional means differ, and `mix` turns one into the other."""
    x0_hat = DATA.denoise(np.array(X), SIGMA)
    assert x0_hat == pytest.approx(1.576923, abs=1e-6)
    assert ambient.mix(x0_hat, np.array(X), SIGMA, SIGMA_N) == pytest.approx(1.846154, abs=1e-6)


@given(st.floats(-5, 5), st.floats(0.1, 4), st.floats(0.05, 3), st.floats(1.05, 6))
def test_double_tweedie(x, std, sigma_n, ratio):
    """mix(E[x0 | x]) = E[x_n | x] for every Gaussian and every pair of levels."""
    data, sigma = Gaussian(0.2, std), sigma_n * ratio
    mixed = ambient.mix(data.denoise(np.array(x), sigma), np.array(x), sigma, sigma_n)
    assert mixed == pytest.approx(partly_noisy_mean(x, sigma, sigma_n, data), rel=1e-9, abs=1e-9)


def regress(x: np.ndarray, target: np.ndarray, at: float) -> float:
    """Fit target on x by least squares and read the line at `at`; for Gaussians that is E[target | x]."""
    slope, offset = np.polyfit(x, target, 1)
    return float(slope * at + offset)


def test_learning_from_noisy_samples_gives_the_clean_posterior():
    """Least squares on the ambient target finds E[x0 | x]; on x_n itself it finds E[x_n | x]."""
    rng = np.random.default_rng(0)
    x0 = rng.normal(MU, STD, 2_000_000)
    x_n = ambient.add_noise(x0, 0.0, SIGMA_N, rng.normal(size=x0.size))
    x = ambient.add_noise(x_n, SIGMA_N, SIGMA, rng.normal(size=x0.size))
    assert x.std() == pytest.approx(np.hypot(STD, SIGMA), rel=2e-3)
    assert regress(x, ambient.ambient_target(x_n, x, SIGMA, SIGMA_N), X) == pytest.approx(1.576923, abs=0.01)
    assert regress(x, x_n, X) == pytest.approx(1.846154, abs=0.01)


def test_taking_a_noisy_sample_for_a_clean_one_is_biased():
    """Noising X_n as if it were clean gives E[X_n | X_n + 3 Z = 4] = 1.75 in the example, not 1.576923."""
    wrong = Gaussian(MU, np.hypot(STD, SIGMA_N)).denoise(np.array(X), SIGMA)
    assert wrong == pytest.approx(1.75)


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(-3, 3), st.floats(0.1, 2), st.floats(1.1, 5))
def test_target_loss_is_the_ambient_loss_over_alpha_squared(guess, x_n, x, sigma_n, ratio):
    """So either form may be trained on, and the buffer bounds the factor between them."""
    sigma = sigma_n * ratio
    alpha = 1 - (sigma_n / sigma) ** 2
    target = ambient.ambient_target(np.array(x_n), np.array(x), sigma, sigma_n)
    ambient_loss = (ambient.mix(np.array(guess), np.array(x), sigma, sigma_n) - x_n) ** 2
    assert alpha**2 * (guess - target) ** 2 == pytest.approx(ambient_loss, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("ratio", [3.0, 1.5, 1.1, 1.01])
def test_target_variance_is_known_and_diverges_at_the_sample_s_own_level(ratio):
    """Var[target | x] = Var[x_n | x] / alpha^2, about 1 / alpha near sigma_n: the reason for a buffer."""
    rng, sigma = np.random.default_rng(1), ratio * SIGMA_N
    x_n = rng.normal(MU, np.hypot(STD, SIGMA_N), 400_000)
    x = ambient.add_noise(x_n, SIGMA_N, sigma, rng.normal(size=x_n.size))
    target = ambient.ambient_target(x_n, x, sigma, SIGMA_N)
    alpha = 1 - ratio**-2
    variance = 1 / (1 / (STD**2 + SIGMA_N**2) + 1 / (sigma**2 - SIGMA_N**2)) / alpha**2
    assert (target - DATA.denoise(x, sigma)).var() == pytest.approx(variance, rel=0.01)
    assert ratio > 1.02 or variance > 0.9 / alpha


@given(st.floats(-2, 2), st.floats(-3, 3), st.floats(0.01, 0.8), st.floats(0.02, 0.18))
def test_vp_targets_rebuild_the_sample(x_n, x, v_n, gap):
    """x = sqrt(1 - v^2) x0 + v eps for the correct pair of targets, whatever the sample."""
    v = v_n + gap
    x0, eps = ambient.vp_ambient_targets(np.array(x_n), np.array(x), v, v_n)
    assert np.sqrt(1 - v**2) * x0 + v * eps == pytest.approx(x, rel=1e-6, abs=1e-6)


@given(st.floats(-2, 2), st.floats(-3, 3), st.floats(0.05, 0.95))
def test_vp_targets_without_prior_noise_are_the_plain_ones(x0, z, v):
    """v_n = 0 gives back x0 and the noise that was added."""
    x = np.sqrt(1 - v**2) * x0 + v * z
    target_x0, target_eps = ambient.vp_ambient_targets(np.array(x0), np.array(x), v, 0.0)
    assert target_x0 == pytest.approx(x0, abs=1e-6)
    assert target_eps == pytest.approx(z, abs=1e-6)


def test_vp_and_ve_targets_agree():
    """The same x0 target, reached through either convention."""
    v_n, v = 0.4, 0.8
    x_n, x = np.array(0.7), np.array(-0.3)  # VP samples
    sigma_n, sigma = v_n / np.sqrt(1 - v_n**2), v / np.sqrt(1 - v**2)
    ve = ambient.ambient_target(x_n / np.sqrt(1 - v_n**2), x / np.sqrt(1 - v**2), sigma, sigma_n)
    assert ambient.vp_ambient_targets(x_n, x, v, v_n)[0] == pytest.approx(ve)


def test_eps_target_regresses_to_the_true_slope():
    """Monte Carlo over Gaussian data; a coefficient that is off by v / sqrt(1 - v^2) fails this by far."""
    rng = np.random.default_rng(2)
    v_n, v, std, n = 0.4, 0.6, 1.5, 400_000
    x0, z_n, z = std * rng.normal(size=n), rng.normal(size=n), rng.normal(size=n)
    x_n = np.sqrt(1 - v_n**2) * x0 + v_n * z_n
    keep = np.sqrt((1 - v**2) / (1 - v_n**2))
    x = keep * x_n + np.sqrt(v**2 - keep**2 * v_n**2) * z
    eps = ambient.vp_ambient_targets(x_n, x, v, v_n)[1]
    true_slope = v / ((1 - v**2) * std**2 + v**2)
    assert np.polyfit(x, eps, 1)[0] == pytest.approx(true_slope, abs=0.01)
