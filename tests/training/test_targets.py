"""Targets in torch against the numpy reference of the core, and the losses against what they stand for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ambient_policy import ambient, noise
from training import targets
from training.policy import preconditioning
from training.targets import Levels

pytestmark = pytest.mark.train
RNG = np.random.default_rng(3)
SIGMA_N = np.array([0.0, 0.05, 0.3, 0.3, 1.2])
SIGMA = np.array([0.4, 0.06, 0.31, 5.0, 1.9])
X_N, Z, RAW = RNG.normal(size=(3, 5, 6, 2))


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(array, np.float64))


def wide(array: np.ndarray) -> np.ndarray:
    return array[:, None, None]


def test_adding_noise_is_the_cores():
    levels = Levels(tensor(SIGMA), tensor(SIGMA_N), torch.ones(5))
    ours = targets.add_noise(tensor(X_N), levels, tensor(Z))
    core = np.stack([ambient.add_noise(X_N[i], SIGMA_N[i], SIGMA[i], Z[i]) for i in range(5)])
    np.testing.assert_allclose(ours.numpy(), core, rtol=1e-12)


def test_targets_are_the_cores():
    x = X_N + Z
    for i in range(5):
        args = (X_N[i], x[i], SIGMA[i], SIGMA_N[i])
        ours = targets.ambient_target(*map(tensor, args))
        np.testing.assert_allclose(ours.numpy(), ambient.ambient_target(*args), rtol=1e-9)


@pytest.mark.parametrize(("v_n", "v"), [(0.0, 0.5), (0.3, 0.35), (0.6, 0.95)])
def test_vp_targets_and_noise_are_the_cores(v_n, v):
    ours = targets.vp_ambient_targets(*map(tensor, (X_N, Z, v, v_n)))
    for mine, core in zip(ours, ambient.vp_ambient_targets(X_N, Z, v, v_n), strict=True):
        np.testing.assert_allclose(mine.numpy(), core, rtol=1e-9)
    noisy = targets.vp_add_noise(*map(tensor, (X_N, v_n, v, Z)))
    np.testing.assert_allclose(noisy.numpy(), ambient.vp_add_noise(X_N, v_n, v, Z), rtol=1e-9)


def test_alpha_and_rescaling_are_the_cores():
    for bound in (1.0, 4.0, 1e6):
        ours = targets.rescaling(tensor(SIGMA), tensor(SIGMA_N), torch.full((5,), bound, dtype=torch.float64))
        core = [ambient.rescaling(s, n, bound) for s, n in zip(SIGMA, SIGMA_N, strict=True)]
        np.testing.assert_allclose(ours.numpy(), core, rtol=1e-9)


@pytest.mark.parametrize("prediction", ["x0", "eps"])
@pytest.mark.parametrize("kind", ["denoise", "ambient", "rescaled"])
def test_the_residual_is_the_weighted_error_of_the_clean_guess(kind, prediction):
    """|residual|^2 = |mix(D) - x_n|^2 / c_out^2 for ambient, and |D - target|^2 / c_out^2 for the others.

    The other side uses the core's own functions, so a wrong sign or weight in one of them shows.
    """
    sigma_n = np.zeros(5) if kind == "denoise" else SIGMA_N
    factor = targets.rescaling(
        tensor(SIGMA), tensor(sigma_n), torch.full((5,), 1e9 if kind == "rescaled" else 1.0).double()
    )
    levels = Levels(tensor(SIGMA), tensor(sigma_n), factor)
    x = targets.add_noise(tensor(X_N), levels, tensor(Z))
    c_skip, c_out, _, _ = preconditioning(tensor(wide(SIGMA)), 0.5, prediction)
    loss = targets.residual(tensor(RAW), x, tensor(X_N), levels, c_skip, c_out).square().numpy()
    c = noise.preconditioning(wide(SIGMA), 0.5, prediction)
    guess = c.skip * x.numpy() + c.out * RAW
    for i in range(5):
        if kind == "ambient":
            error = ambient.mix(guess[i], x[i].numpy(), SIGMA[i], sigma_n[i]) - X_N[i]
        else:
            error = guess[i] - ambient.ambient_target(X_N[i], x[i].numpy(), SIGMA[i], sigma_n[i])
        np.testing.assert_allclose(loss[i], (error / c.out[i]) ** 2, rtol=1e-6)


def test_without_prior_noise_every_target_is_plain_denoising_to_the_last_bit():
    """sigma_n = 0: the same noisy input and the same residual, in single precision as in training."""
    sigma = torch.from_numpy(np.exp(RNG.normal(-1.2, 1.4, 4000))).float()
    x_n, z, raw = torch.randn(3, 4000, 4, 2, generator=torch.Generator().manual_seed(0)).unbind(0)
    zero = torch.zeros_like(sigma)
    plain = Levels(sigma)
    c_skip, c_out, _, _ = preconditioning(sigma[:, None, None], 0.5)
    want_x = targets.add_noise(x_n, plain, z)
    want = targets.residual(raw, want_x, x_n, plain, c_skip, c_out)
    for bound in (1.0, 4.0):
        levels = Levels(sigma, zero, targets.rescaling(sigma, zero, torch.full_like(sigma, bound)))
        x = targets.add_noise(x_n, levels, z)
        assert torch.equal(x, want_x)
        assert torch.equal(targets.residual(raw, x, x_n, levels, c_skip, c_out), want)


def test_rescaled_loss_is_bounded_and_finite_down_to_the_samples_own_level():
    """The factor on the squared error is at most bound^2, and nothing is infinite at sigma = sigma_n."""
    sigma_n = torch.full((200,), 0.3)
    sigma = 0.3 + torch.cat([torch.zeros(1), torch.logspace(-6, 1, 199)])
    rescale = targets.rescaling(sigma, sigma_n, torch.full_like(sigma, 3.0))
    assert float(rescale.max()) == pytest.approx(3.0)
    assert float(rescale[-1]) == pytest.approx(1.0, abs=1e-3)
    levels = Levels(sigma, sigma_n, rescale)
    c_skip, c_out, _, _ = preconditioning(sigma[:, None, None], 0.5)
    x_n = torch.randn(200, 4, 2)
    x = targets.add_noise(x_n, levels, torch.randn(200, 4, 2))
    assert torch.isfinite(targets.residual(torch.randn(200, 4, 2), x, x_n, levels, c_skip, c_out)).all()


def test_learning_from_noisy_samples_alone_finds_the_clean_posterior_in_ve_and_vp():
    """Least squares over D = a x + b with each loss, against the Gaussian's own posterior mean."""
    rng = np.random.default_rng(0)
    mean, std, sigma_n, sigma = 0.3, 0.8, 0.6, 1.1
    x0 = rng.normal(mean, std, 400_000)
    x_n = x0 + sigma_n * rng.normal(size=x0.size)
    levels = Levels(tensor([sigma]), tensor([sigma_n]), torch.ones(1))
    x = targets.add_noise(tensor(x_n)[None, :, None], levels, tensor(rng.normal(size=(1, x0.size, 1))))[
        0, :, 0
    ]
    slope = std**2 / (std**2 + sigma**2)
    found = np.polyfit(x.numpy(), targets.ambient_target(tensor(x_n), x, *map(tensor, (sigma, sigma_n))), 1)
    np.testing.assert_allclose(found, [slope, mean * (1 - slope)], atol=0.01)
    v_n, v = noise.vp_from_sigma(sigma_n), noise.vp_from_sigma(sigma)
    y_n = noise.vp_sample(x_n, sigma_n)
    y = targets.vp_add_noise(*map(tensor, (y_n, v_n, v, rng.normal(size=x0.size))))
    clean, eps = targets.vp_ambient_targets(tensor(y_n), y, tensor(v), tensor(v_n))
    spread = (1 - v**2) * std**2 + v**2
    np.testing.assert_allclose(np.polyfit(y, clean, 1)[0], np.sqrt(1 - v**2) * std**2 / spread, atol=0.01)
    np.testing.assert_allclose(np.polyfit(y, eps, 1)[0], v / spread, atol=0.01)
