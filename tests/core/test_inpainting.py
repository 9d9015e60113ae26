"""Known truth: chunks that are jointly Gaussian, whose denoiser and whose conditionals are closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from ambient_policy.inpainting import NumpyOperations, knowing
from ambient_policy.noise import karras_ladder
from ambient_policy.sampling import METHODS, sample

H, COUNT, SPREAD = 16, 1500, 0.5


def covariance() -> np.ndarray:
    """Of a tool's positions: the sum of velocities that forget themselves within four steps."""
    step = np.arange(H)
    total = np.tril(np.ones((H, H)))
    positions = total @ np.exp(-np.abs(step[:, None] - step) / 4) @ total.T
    return positions * SPREAD**2 / np.diag(positions).mean()


S = covariance()
TRUE = np.linalg.cholesky(S) @ np.random.default_rng(5).standard_normal((H, 1))


def denoise(x: np.ndarray, sigma: float) -> np.ndarray:
    return S @ np.linalg.solve(S + sigma**2 * np.eye(H), x)


def draw(known: int, std: float = 0.0, *, steps: int = 8, method: str = "dpmpp_2m", count: int = COUNT):
    """Sample chunks that know the first actions of TRUE to within `std`."""
    ladder = karras_ladder(steps, 0.02, 2.5, rho=3.0)
    noise = np.random.default_rng(0).standard_normal((count, H, 1)) * ladder[0]
    mask = (np.arange(H) < known).astype(float)[None, :, None]
    told = knowing(denoise, TRUE[None], mask, std**2 * mask, SPREAD, NumpyOperations())
    *_, chunks = sample(told, noise, ladder, method)
    *_, free = sample(denoise, noise, ladder, method)
    return chunks, free


def conditional(known: int, std: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and covariance of the other actions."""
    gain = S[known:, :known] @ np.linalg.inv(S[:known, :known] + std**2 * np.eye(known))
    return gain @ TRUE[:known], S[known:, known:] - gain @ S[:known, known:]


@pytest.mark.parametrize("method", METHODS)
def test_nothing_known_changes_nothing(method: str) -> None:
    chunks, free = draw(0, method=method, count=20)
    np.testing.assert_array_equal(chunks, free)


@pytest.mark.parametrize("method", METHODS)
def test_known_actions_come_out_exactly(method: str) -> None:
    chunks, _ = draw(3, method=method, count=20)
    np.testing.assert_allclose(chunks[:, :3], np.broadcast_to(TRUE[:3], (20, 3, 1)), atol=1e-9)


@pytest.mark.parametrize(("known", "steps"), [(1, 8), (2, 8), (4, 8), (4, 4), (8, 8)])
def test_the_next_action_follows_from_those_that_are_known(known: int, steps: int) -> None:
    """About twice its true spread off the conditional mean, where a free chunk is four to twelve times."""
    mean, cov = conditional(known)
    chunks, free = draw(known, steps=steps)
    truth = np.sqrt(cov[0, 0])
    error, without = (np.sqrt(((c[:, known] - mean[0]) ** 2).mean()) for c in (chunks, free))
    assert without > 3.4 * truth
    assert error < 2.2 * truth


def test_one_known_action_is_the_kalman_update() -> None:
    """With one number known the inverse is a division, so a single guess is exact, at every level."""
    rng = np.random.default_rng(1)
    mask = np.zeros((1, H, 1))
    mask[0, 4] = 1
    for std in (0.0, 0.1):
        told = knowing(denoise, TRUE[None], mask, std**2 * mask, SPREAD, NumpyOperations())
        for sigma in (0.05, 0.5, 2.0):
            x = rng.standard_normal((5, H, 1)) * sigma
            posterior = sigma**2 * S @ np.linalg.inv(S + sigma**2 * np.eye(H))
            guess = denoise(x, sigma)
            gain = posterior[:, 4] / (posterior[4, 4] + std**2)
            expected = guess + gain[:, None] * (TRUE[4] - guess[:, 4])[:, None]
            np.testing.assert_allclose(told(x, sigma), expected, rtol=1e-6, atol=1e-9)


def test_what_is_known_roughly_is_followed_roughly() -> None:
    std = 0.1
    mean, cov = conditional(4, std)
    chunks, free = draw(4, std)
    error = np.sqrt(((chunks[:, 4] - mean[0]) ** 2).mean())
    assert error < 1.3 * np.sqrt(cov[0, 0])
    kept = np.abs(chunks[:, 0] - TRUE[0]).max()
    assert 1e-3 < kept < np.abs(free[:, 0] - TRUE[0]).max()
