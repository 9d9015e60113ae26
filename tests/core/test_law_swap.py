"""Some levels from one dataset, the rest from another: what comes out, in closed form and sampled.

With the denoiser of corrupt data q above a level and that of clean data p below it (or the other way round)
the probability flow of Gaussians is solved exactly on each side, so the end is known.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from ambient_policy import noise
from ambient_policy.sampling import METHODS, sample
from tests.core.gaussian import Gaussian

P, Q = Gaussian(0.2, 0.5), Gaussian(1.1, 1.2)
TOP = 60.0


def contraction_std(s_p: float, s_q: float, sigma_m: float) -> float:
    """q above sigma_m, p below: S_p sqrt((S_q^2 + sigma_m^2) / (S_p^2 + sigma_m^2))."""
    return s_p * np.sqrt((s_q**2 + sigma_m**2) / (s_p**2 + sigma_m**2))


def locality_std(s_p: float, s_q: float, sigma_m: float) -> float:
    """p above sigma_m, q below: S_q sqrt((S_p^2 + sigma_m^2) / (S_q^2 + sigma_m^2))."""
    return s_q * np.sqrt((s_p**2 + sigma_m**2) / (s_q**2 + sigma_m**2))


def ladder_through(level: float, bottom: float = 1e-4) -> np.ndarray:
    """A fine ladder from TOP to 0 with `level` on it: the field changes there, and no step may cross that."""
    above = noise.karras_ladder(1500, level, TOP, rho=np.inf, end_at_zero=False)
    below = noise.karras_ladder(1500, bottom, level, rho=np.inf)
    return np.concatenate([above, below[1:]])


def sampled(above: Gaussian, below: Gaussian, level: float, method: str) -> tuple[float, float]:
    """Where the sampler takes the mean of `above`, and how far from there a point one deviation off."""

    def denoise(x: np.ndarray, sigma: float) -> np.ndarray:
        return (above if sigma > level else below).denoise(x, sigma)

    start = above.mean + np.array([0.0, np.hypot(above.std, TOP)])
    *_, (middle, one) = sample(denoise, start, ladder_through(level), method)
    return middle, one - middle


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("level", [0.05, 0.4, 1.5, 10.0])
def test_corrupt_above_and_clean_below(level, method):
    """Spread by the closed form; the mean gap is multiplied by S_p / sqrt(S_p^2 + sigma_m^2)."""
    middle, std = sampled(Q, P, level, method)
    assert std == pytest.approx(contraction_std(P.std, Q.std, level), rel=0.01)
    gap = (Q.mean - P.mean) * P.std / np.hypot(P.std, level)
    assert middle - P.mean == pytest.approx(gap, abs=0.004)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("level", [0.05, 0.4, 1.5, 10.0])
def test_clean_above_and_corrupt_below(level, method):
    """The other way round: spread and mean gap as if both had changed names."""
    middle, std = sampled(P, Q, level, method)
    assert std == pytest.approx(locality_std(P.std, Q.std, level), rel=0.01)
    gap = (P.mean - Q.mean) * Q.std / np.hypot(Q.std, level)
    assert middle - Q.mean == pytest.approx(gap, abs=0.004)


def test_worked_numbers_of_both_swaps():
    """S_p = .5, S_q = 1.2, level .4: .5 sqrt(1.6 / .41) and 1.2 sqrt(.41 / 1.6)."""
    assert contraction_std(0.5, 1.2, 0.4) == pytest.approx(0.987730, abs=1e-6)
    assert locality_std(0.5, 1.2, 0.4) == pytest.approx(0.607454, abs=1e-6)
    *_, std = sampled(Q, P, 0.4, "heun")
    assert std == pytest.approx(0.987730, rel=2e-3)
    *_, std = sampled(P, Q, 0.4, "heun")
    assert std == pytest.approx(0.607454, rel=2e-3)


@pytest.mark.parametrize(
    ("above", "below", "level", "wins"),
    [(Q, P, 1e-3, Q), (Q, P, 40.0, P), (P, Q, 1e-3, P), (P, Q, 40.0, Q)],
)
def test_limits_of_both_swaps(above, below, level, wins):
    """A level near 0 leaves all to the data above it, a high one to the data below: mean and spread."""
    middle, std = sampled(above, below, level, "dpmpp_2m")
    assert middle == pytest.approx(wins.mean, abs=0.03)
    assert std == pytest.approx(wins.std, rel=0.02)


def test_a_sampled_population_follows_the_closed_form():
    """50,000 draws from pure noise: spread and mean of what comes out, q above .4 and p below."""
    rng, level = np.random.default_rng(0), 0.4
    start = Q.mean + np.hypot(Q.std, TOP) * rng.standard_normal(50_000)
    above = noise.karras_ladder(200, level, TOP, np.inf, end_at_zero=False)
    ladder = np.concatenate([above, noise.karras_ladder(200, 1e-3, level, np.inf)[1:]])
    # Not dpmpp_2m here: its first guess below the level still holds some of the field above it.
    *_, out = sample(lambda x, sigma: (Q if sigma > level else P).denoise(x, sigma), start, ladder, "heun")
    assert out.std() == pytest.approx(0.987730, rel=0.015)
    assert out.mean() == pytest.approx(P.mean + 0.9 * 0.5 / np.hypot(0.5, level), abs=0.02)


def test_both_swaps_in_vp():
    """DDIM written in VP, x' = sqrt(1 - v'^2) x0 + v' eps, the level given as v: the same closed forms."""
    v_m = 0.45
    level = noise.sigma_from_vp(v_m)
    ladder = noise.vp_from_sigma(ladder_through(level)[:-1])
    for above, below, expected in (
        (Q, P, contraction_std(P.std, Q.std, level)),
        (P, Q, locality_std(P.std, Q.std, level)),
    ):
        x = np.array([0.0, 1.0]) * np.sqrt((1 - ladder[0] ** 2) * above.std**2 + ladder[0] ** 2)
        x = x + np.sqrt(1 - ladder[0] ** 2) * above.mean
        for v, v_next in pairwise(ladder):
            data, signal = above if v > v_m else below, np.sqrt(1 - v**2)
            gain = signal * data.std**2 / (signal**2 * data.std**2 + v**2)
            x0 = data.mean + gain * (x - signal * data.mean)
            eps = (x - signal * x0) / v
            x = np.sqrt(1 - v_next**2) * x0 + v_next * eps
        gap = (above.mean - below.mean) * below.std / np.hypot(below.std, level)
        assert x[1] - x[0] == pytest.approx(expected, rel=0.01)
        assert x[0] == pytest.approx(below.mean + gap, abs=0.01)
