"""What the losses learn from all of a population, for data that are not Gaussian, by quadrature.

Neither loss removes the bias of corrupt data. Both find the denoiser of the data they are given; only the
levels and the shares at which corrupt data are admitted decide what is learnt.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from ambient_policy import ambient, noise
from ambient_policy.manifold import log_density, posterior_mean
from tests.core.gaussian import Gaussian


@dataclass(frozen=True)
class Points:
    """A distribution on the line: points (N,) with probabilities (N,). Fine grids stand for densities."""

    at: np.ndarray
    probability: np.ndarray

    def denoise(self, x, sigma: float):
        """E[X0 | X0 + sigma Z = x] by the sum over the points, written anew as a witness."""
        x = np.asarray(x, float)
        weight = self.probability * np.exp(-((x[..., None] - self.at) ** 2) / (2 * sigma**2))
        return (weight * self.at).sum(-1) / weight.sum(-1)

    def density(self, x, sigma: float):
        """Density of X0 + sigma Z."""
        bell = np.exp(-((np.asarray(x, float)[..., None] - self.at) ** 2) / (2 * sigma**2))
        return (self.probability * bell).sum(-1) / (sigma * np.sqrt(2 * np.pi))


def on_grid(density) -> Points:
    at = np.linspace(-6, 6, 2401)
    weight = density(at)
    return Points(at, weight / weight.sum())


TWO = Points(np.array([-1.0, 1.0]), np.array([0.5, 0.5]))
CORRUPT = {
    "two points": TWO,
    "three uneven points": Points(np.array([-1.3, 0.2, 0.9]), np.array([0.5, 0.2, 0.3])),
    "one-sided exponential": on_grid(lambda y: np.where(y >= -0.7, np.exp(-(y + 0.7) / 0.6), 0)),
}
SIGMA_N = 0.5
AT = np.array([-1.7, -0.6, 0.05, 0.8, 2.1])


def given_x(q: Points, x: float, sigma_n: float, sigma: float):
    """Nodes and weights of x_n given x: q_n(x_n) N(x; x_n, sigma^2 - sigma_n^2), by the trapezoid rule."""
    nodes = np.linspace(-12, 12, 6001)
    weight = q.density(nodes, sigma_n) * np.exp(-((x - nodes) ** 2) / (2 * (sigma**2 - sigma_n**2)))
    return nodes, weight / weight.sum()


def test_the_witness_knows_two_points():
    """E[X0 | x] of +-1 is tanh(x / sigma^2)."""
    np.testing.assert_allclose(TWO.denoise(AT, 0.7), np.tanh(AT / 0.49), rtol=1e-12)


@pytest.mark.parametrize("name", CORRUPT)
@pytest.mark.parametrize("sigma", [0.55, 0.8, 2.0])
def test_ambient_and_plain_loss_have_the_same_minimiser_for_any_data(name, sigma):
    """With noise up to sigma_n the ambient target averages to E_q[X0 | x], the denoiser of that very data."""
    q = CORRUPT[name]
    for x in AT:
        nodes, weight = given_x(q, x, SIGMA_N, sigma)
        target = ambient.ambient_target(nodes, np.array(x), sigma, SIGMA_N)
        assert weight @ target == pytest.approx(float(q.denoise(x, sigma)), abs=1e-6)


@pytest.mark.parametrize("name", CORRUPT)
def test_the_ambient_loss_is_a_parabola_about_that_minimiser(name):
    """|mix(h, x) - x_n|^2 grows by alpha^2 d^2 for a guess off by d: the loss, not only its target."""
    q, sigma = CORRUPT[name], 0.9
    alpha = 1 - (SIGMA_N / sigma) ** 2
    for x in AT:
        nodes, weight = given_x(q, x, SIGMA_N, sigma)

        def loss(guess: float, x=x, nodes=nodes, weight=weight) -> float:
            return weight @ (ambient.mix(np.array(guess), np.array(x), sigma, SIGMA_N) - nodes) ** 2

        best = float(q.denoise(x, sigma))
        for off in (-0.2, 0.1):
            assert loss(best + off) - loss(best) == pytest.approx(alpha**2 * off**2, abs=1e-7)


@pytest.mark.parametrize("name", CORRUPT)
def test_a_mixture_without_x_is_another_loss(name):
    """With sigma_n^2 / sigma^2 alone as its second term, without x, the minimiser is not the denoiser."""
    q, sigma = CORRUPT[name], 0.9
    alpha = 1 - (SIGMA_N / sigma) ** 2
    off = []
    for x in AT:
        nodes, weight = given_x(q, x, SIGMA_N, sigma)
        off.append(weight @ (nodes - (1 - alpha)) / alpha - float(q.denoise(x, sigma)))
    np.testing.assert_allclose(off, (1 - alpha) / alpha * (AT - 1), atol=1e-6)


@pytest.mark.parametrize("name", CORRUPT)
@pytest.mark.parametrize(("v_n", "v"), [(0.45, 0.5), (0.45, 0.9), (0.1, 0.7)])
def test_the_same_holds_in_vp_for_both_targets(name, v_n, v):
    """E[x0 target | x] = E_q[X0 | x] and E[eps target | x] = E_q[Z | x], each computed from q directly."""
    q, c = CORRUPT[name], np.sqrt((1 - v**2) / (1 - v_n**2))
    spread_n, spread = v_n / np.sqrt(1 - v_n**2), np.sqrt(v**2 - c**2 * v_n**2)
    nodes = np.linspace(-9, 9, 6001)
    for x in AT:
        # Density of x_n = sqrt(1 - v_n^2) (X0 + spread_n Z), times that of x given x_n.
        weight = q.density(nodes / np.sqrt(1 - v_n**2), spread_n) * np.exp(
            -((x - c * nodes) ** 2) / (2 * spread**2)
        )
        weight = weight / weight.sum()
        x0, eps = ambient.vp_ambient_targets(nodes, np.array(x), v, v_n)
        posterior = q.probability * np.exp(-((x - np.sqrt(1 - v**2) * q.at) ** 2) / (2 * v**2))
        posterior = posterior / posterior.sum()
        assert weight @ x0 == pytest.approx(posterior @ q.at, abs=1e-5)
        assert weight @ eps == pytest.approx(posterior @ (x - np.sqrt(1 - v**2) * q.at) / v, abs=1e-5)
        through_ve = q.denoise(noise.ve_from_vp_sample(np.array(x), v), noise.sigma_from_vp(v))
        assert posterior @ q.at == pytest.approx(float(through_ve), abs=1e-9)


def test_the_ambient_loss_on_corrupt_samples_without_that_noise_is_wrong():
    """Taking y itself for x_n gives nobody's denoiser.

    For +-1: E[target | x] = (sigma^2 tanh(x / s^2) - sigma_n^2 x) / s^2 with s^2 = sigma^2 - sigma_n^2.
    """
    sigma, x = 0.8, np.array(0.6)
    s2 = sigma**2 - SIGMA_N**2
    chance = TWO.probability * np.exp(-((x - TWO.at) ** 2) / (2 * s2))
    learnt = chance / chance.sum() @ ambient.ambient_target(TWO.at, x, sigma, SIGMA_N)
    assert learnt == pytest.approx((sigma**2 * np.tanh(0.6 / s2) - SIGMA_N**2 * 0.6) / s2)
    assert abs(learnt - np.tanh(0.6 / sigma**2)) > 0.1


def test_no_loss_removes_the_bias_of_the_data_it_is_given():
    """q is p moved by d, so its denoiser is p's moved by d, and that is what the ambient loss learns from it.

    E_q[X0 | x] = d + E_p[X0 | x - d].
    """
    d, sigma = 0.4, 0.6
    p, q = TWO, Points(TWO.at + d, TWO.probability)
    for x in AT:
        nodes, weight = given_x(q, x, SIGMA_N, sigma)
        ambient_guess = weight @ ambient.ambient_target(nodes, np.array(x), sigma, SIGMA_N)
        assert ambient_guess == pytest.approx(d + np.tanh((x - d) / sigma**2), abs=1e-6)
    assert float(q.denoise(1.0, sigma) - p.denoise(1.0, sigma)) > 0.3


@pytest.mark.parametrize("share", [0.2, 0.75])
@pytest.mark.parametrize("sigma", [0.3, 1.0, 4.0])
def test_co_training_learns_the_density_weighted_mean_of_both_denoisers(share, sigma):
    """(a p(x) D_p + (1 - a) q(x) D_q) / (a p(x) + (1 - a) q(x)); shares without densities are wrong."""
    p, q = Gaussian(-0.5, 0.4), Gaussian(0.8, 0.9)

    def density(data: Gaussian, x, spread: float):
        width = np.hypot(data.std, spread)
        return np.exp(-((x - data.mean) ** 2) / (2 * width**2)) / width

    mixed = on_grid(lambda y: share * density(p, y, 0) + (1 - share) * density(q, y, 0))
    a, b = share * density(p, AT, sigma), (1 - share) * density(q, AT, sigma)
    expected = (a * p.denoise(AT, sigma) + b * q.denoise(AT, sigma)) / (a + b)
    np.testing.assert_allclose(mixed.denoise(AT, sigma), expected, atol=1e-6)
    by_shares = share * p.denoise(AT, sigma) + (1 - share) * q.denoise(AT, sigma)
    off = np.abs(by_shares - expected).max()
    assert off > 0.1 or (sigma == 4.0 and off < 0.05), "densities stop to matter only where noise drowns both"
    # The same through VP: the densities there differ by one factor, which cancels.
    v, scale = noise.vp_from_sigma(sigma), 1 / np.sqrt(1 + sigma**2)
    x = noise.vp_sample(AT, sigma)
    a, b = (
        w
        * np.exp(-((x - np.sqrt(1 - v**2) * g.mean) ** 2) / (2 * ((1 - v**2) * g.std**2 + v**2)))
        / np.sqrt((1 - v**2) * g.std**2 + v**2)
        for w, g in ((share, p), (1 - share, q))
    )
    np.testing.assert_allclose(
        (a * p.denoise(x / scale, sigma) + b * q.denoise(x / scale, sigma)) / (a + b), expected
    )


def test_the_project_s_own_denoiser_of_points_mixes_the_same_way():
    """`manifold.posterior_mean` of two clouds together against the density-weighted mean of one at a time."""
    rng = np.random.default_rng(0)
    p, q = rng.normal(size=(30, 2)), rng.normal(1.0, 0.5, size=(50, 2))
    x, share, sigma = rng.normal(size=(20, 2)) * 2, 0.3, 0.4
    weights = np.concatenate([np.full(30, share / 30), np.full(50, (1 - share) / 50)])
    together = posterior_mean(x, np.concatenate([p, q]), sigma, weights)
    a = (share * np.exp(log_density(x, p, sigma)))[:, None]
    b = ((1 - share) * np.exp(log_density(x, q, sigma)))[:, None]
    apart = (a * posterior_mean(x, p, sigma) + b * posterior_mean(x, q, sigma)) / (a + b)
    np.testing.assert_allclose(together, apart, rtol=1e-9)


def chance_of_zero(clean: int, corrupt: int, share: float | None = None) -> float:
    """P(x0 = 0) that a low level learns: p is even on {0, 1}, q on {-1, 0}, and q's -1s are never admitted.

    share: of the clean source among draws; None draws evenly from all that is admitted.
    """
    share = clean / (clean + corrupt / 2) if share is None else share
    return share / 2 + (1 - share)


def test_labels_by_sample_bias_towards_what_both_have():
    """40 clean, 600 corrupt: 320 of the 340 admitted are zeros, not half."""
    assert chance_of_zero(40, 600) == pytest.approx(320 / 340)
    assert chance_of_zero(50, 2000) == pytest.approx(1025 / 1050)
    # A share for each source restores any wanted value from 1/2 (clean alone) to 1.
    for wanted in (0.5, 0.6, 0.9):
        assert chance_of_zero(40, 600, share=2 * (1 - wanted)) == pytest.approx(wanted)


@pytest.mark.parametrize(("share", "expected"), [(None, 320 / 340), (0.8, 0.6)])
def test_labels_by_sample_bias_what_is_drawn_and_what_is_learnt(share, expected):
    """Monte Carlo over admitted samples, noised: halfway between 0 and 1 the guess is P(1), not 1/2."""
    rng = np.random.default_rng(4)
    p, q = np.repeat([0.0, 1.0], 20), np.repeat([-1.0, 0.0], 300)
    sigma_min = np.where(q == -1, np.inf, 0.0)
    sigma, n = 0.25, 1_000_000
    admitted = q[sigma > sigma_min]
    from_p = rng.random(n) < (len(p) / (len(p) + len(admitted)) if share is None else share)
    x0 = np.where(from_p, rng.choice(p, n), rng.choice(admitted, n))
    assert (x0 == 0).mean() == pytest.approx(expected, abs=0.003)
    x = ambient.add_noise(x0, 0.0, sigma, rng.standard_normal(n))
    for at in (0.5, 0.6):
        probability = np.array([expected, 1 - expected])
        exact = posterior_mean(np.array([at]), np.array([[0.0], [1.0]]), sigma, probability)
        assert at != 0.5 or exact == pytest.approx(1 - expected)
        assert x0[np.abs(x - at) < 0.03].mean() == pytest.approx(exact.item(), abs=0.02)


def test_labels_by_source_do_not_bias():
    """All of q left out below its level: what is left is p, and the guess halfway is 1/2."""
    assert chance_of_zero(40, 0) == 0.5
