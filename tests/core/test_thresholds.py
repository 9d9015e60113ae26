"""Thresholds from exact probabilities land where the closed form says, and odd curves are read safely."""

from __future__ import annotations

from math import erf, sqrt

import numpy as np
import pytest

from ambient_policy.errors import ConfigError
from ambient_policy.thresholds import clean_share, find_sigma_max, find_sigma_min, noise_grid, smoothing
from tests.core.bayes_pair import BayesPair, mean_probability

INF = np.inf
GRID = noise_grid(0.01, 10.0, 40)


@pytest.mark.parametrize("tau", [0.01, 0.05, 0.1])
@pytest.mark.parametrize(("d", "s0"), [(0.1, 0.05), (0.3, 0.3), (1.0, 0.2), (2.0, 1.0)])
def test_the_exact_classifier_gives_the_closed_form_of_a_dataset(d: float, s0: float, tau: float) -> None:
    pair = BayesPair(d, s0)
    found = float(find_sigma_min(GRID, pair.dataset_curve(GRID), tau))
    true = pair.sigma_min(tau)
    assert true > GRID[0]
    # One step of the grid is 19 %; a straight line between two levels leaves a small part of it.
    assert found == pytest.approx(true, rel=0.01)


def test_the_closed_form_itself_is_the_numerical_crossing() -> None:
    """Guards the reference: the sampled E_q[c] at the level it names is .5 - tau."""
    pair = BayesPair(0.8, 0.3)
    sigma, rng = pair.sigma_min(0.05), np.random.default_rng(0)
    x = pair.d + np.hypot(pair.s0, sigma) * rng.standard_normal(2_000_000)
    p, q = np.exp(-(x**2) / 2 / (0.09 + sigma**2)), np.exp(-((x - 0.8) ** 2) / 2 / (0.09 + sigma**2))
    assert np.mean(p / (p + q)) == pytest.approx(0.45, abs=3e-4)


def test_the_exact_classifier_gives_every_sample_its_own_level() -> None:
    pair = BayesPair(1.0, 0.2)
    u = np.array([-1.0, 0.2, 0.5, 0.53, 0.6, 0.8, 1.0, 1.5, 2.5])
    found = find_sigma_min(GRID, pair.window_curve(u, GRID), 0.05)
    true = np.array([pair.window_sigma_min(x, 0.05) for x in u])
    np.testing.assert_allclose(found, true, rtol=0.02)
    assert (found[:3] == 0).all(), "samples on the clean side teach everything"
    assert (np.diff(found[3:]) > 0).all(), "the farther on the corrupt side, the higher the level"
    np.testing.assert_array_equal(find_sigma_min(GRID, pair.window_curve(u, GRID), 0.05, first=True), found)


def test_divergence_and_total_variation_bound_each_other() -> None:
    """0.5 - E_q[c] = e has TV^2 / 2 <= e <= TV / 2, here with TV = 2 Phi(m / 2) - 1."""
    for m in (0.05, 0.3, 1.0, 3.0, 8.0):
        tv, e = erf(m / 2 / sqrt(2)), 0.5 - float(mean_probability(m))
        assert tv**2 / 2 <= e <= tv / 2


@pytest.mark.parametrize("tau", [0.001, 0.01, 0.05, 0.2])
def test_equal_sources_may_teach_everything(tau: float) -> None:
    assert find_sigma_min(GRID, np.full(40, 0.5), tau) == 0
    assert find_sigma_max(GRID, np.full(40, 0.5), tau) == INF


def test_edges_of_the_grid_are_said_as_zero_and_inf() -> None:
    rising = np.linspace(0, 0.5, 40)
    curves = np.stack([rising, rising * 0.5, rising * 0.5 + 0.46])
    low = find_sigma_min(GRID, curves, 0.05)
    assert GRID[34] < low[0] < GRID[36]
    assert low[1] == INF
    assert low[2] == 0
    falling = curves[:, ::-1]
    high = find_sigma_max(GRID, falling, 0.05)
    assert GRID[3] < high[0] < GRID[5]
    assert high[1] == 0
    assert high[2] == INF


def test_a_dip_is_kept_out_by_the_last_crossing_and_let_in_by_the_first() -> None:
    curve = np.full(40, 0.5)
    curve[10:20] = 0.3
    safe, literal = find_sigma_min(GRID, curve, 0.05), find_sigma_min(GRID, curve, 0.05, first=True)
    assert GRID[19] < safe < GRID[20]
    assert literal == 0
    assert find_sigma_max(GRID, curve, 0.05) == pytest.approx(GRID[9] * (GRID[10] / GRID[9]) ** 0.25)
    curve[-1] = 0.3
    assert find_sigma_min(GRID, curve, 0.05) == INF


def test_smoothing_leaves_straight_curves_and_averages_noise() -> None:
    matrix = smoothing(GRID, 0.3)
    line = 0.2 + 0.03 * np.log(GRID)
    np.testing.assert_allclose(matrix @ line, line, atol=1e-12)
    noise = np.random.default_rng(0).standard_normal((2000, 40))
    assert (noise @ matrix.T)[:, 5:-5].std() < 0.5
    np.testing.assert_array_equal(smoothing(GRID, 0), np.eye(40))
    np.testing.assert_allclose(smoothing(GRID, 1e-3), np.eye(40), atol=1e-9)
    with pytest.raises(ConfigError, match="smoothing width is -1"):
        smoothing(GRID, -1)


def test_the_clean_share_runs_from_natural_to_one() -> None:
    natural = 50 / 2050
    share = clean_share(BayesPair(1.0, 1e-3).dataset_curve(noise_grid(1e-3, 1e3, 50)), natural)
    assert share[0] == pytest.approx(1, abs=1e-6)
    assert share[-1] == pytest.approx(natural, abs=1e-4)
    assert (np.diff(share) <= 0).all()
    np.testing.assert_allclose(clean_share(np.array([0.0, 0.25, 0.5, 0.52]), 0.2), [1, 0.6, 0.2, 0.2])
    np.testing.assert_allclose(clean_share(np.array([0.4, 0.2, 0.5]), 0.0), [0.6, 0.6, 0.0])
    with pytest.raises(ConfigError, match="natural share is 1.5"):
        clean_share(np.array([0.5]), 1.5)


@pytest.mark.parametrize(
    ("sigmas", "curve", "tau", "complaint"),
    [
        ([0.1, 0.1], [0.1, 0.2], 0.05, "above 0 and increasing"),
        ([0.0, 0.1], [0.1, 0.2], 0.05, "above 0 and increasing"),
        ([0.1, 0.2], [0.1, 0.2, 0.3], 0.05, "shape \\(3,\\) given for 2 noise levels"),
        ([0.1, 0.2], [0.1, np.nan], 0.05, "not all finite"),
        ([0.1, 0.2], [0.1, 0.2], 0.5, "tau is 0.5"),
    ],
)
def test_unusable_curves_are_refused(sigmas: list, curve: list, tau: float, complaint: str) -> None:
    for find in (find_sigma_min, find_sigma_max):
        with pytest.raises(ConfigError, match=complaint):
            find(np.array(sigmas), np.array(curve), tau)


def test_an_impossible_grid_is_refused() -> None:
    for low, high, levels in ((0.0, 1.0, 5), (1.0, 0.5, 5), (0.1, 1.0, 1), (0.1, INF, 5)):
        with pytest.raises(ConfigError, match="2 or more, and 0 < low < high"):
            noise_grid(low, high, levels)
