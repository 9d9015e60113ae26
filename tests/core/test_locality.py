"""The receptive field against Wiener's filter: stationary, white and constant chunks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from ambient_policy.errors import ConfigError
from ambient_policy.locality import (
    chunk_covariance,
    crop_around,
    crop_loss,
    linear_denoiser,
    receptive_field,
)

SIGMAS = np.exp(np.linspace(np.log(0.01), np.log(10), 16))


def spectrum(n: int, alpha: float) -> np.ndarray:
    return np.maximum(np.abs(np.fft.fftfreq(n)) * n, 1.0) ** -alpha


def circulant(power: np.ndarray) -> np.ndarray:
    n = len(power)
    row = np.fft.ifft(power).real
    return row[(np.arange(n)[:, None] - np.arange(n)) % n]


def markov(horizon: int, correlation: float) -> np.ndarray:
    steps = np.abs(np.arange(horizon)[:, None] - np.arange(horizon))
    return (correlation**steps)[:, None, :, None]


@pytest.mark.parametrize("sigma", [0.01, 0.3, 2.0])
def test_the_denoiser_of_a_stationary_chunk_is_wieners_circulant(sigma: float) -> None:
    power = spectrum(64, 2.0)
    wiener = circulant(power / (power + sigma**2))
    np.testing.assert_allclose(linear_denoiser(circulant(power), sigma), wiener, atol=1e-10)


def test_its_kernel_widens_with_the_noise() -> None:
    widths = []
    for sigma in (0.01, 0.03, 0.1, 0.3, 1.0):
        kernel = np.abs(linear_denoiser(circulant(spectrum(64, 2.0)), sigma)[32])
        away = np.abs(np.arange(64) - 32)
        widths.append(float(np.sum(kernel * away) / np.sum(kernel)))
    assert widths == sorted(widths)
    assert widths[-1] > 5 * widths[0]


def test_the_receptive_field_grows_from_one_action() -> None:
    field = receptive_field(markov(16, 0.9), SIGMAS)
    assert field[0] == 1
    assert field[-1] > 6
    assert (np.diff(field) >= 0).all()
    assert field.dtype == np.int64


def test_each_length_is_the_shortest_that_holds_the_bound() -> None:
    covariance = markov(12, 0.8)
    sigmas = SIGMAS[:10]
    for sigma, length in zip(sigmas, receptive_field(covariance, sigmas, 0.01), strict=True):
        allowed = 1.01 * crop_loss(covariance, sigma, 12)
        assert crop_loss(covariance, sigma, int(length)) <= allowed
        assert length == 1 or crop_loss(covariance, sigma, int(length) - 1) > allowed


def test_independent_actions_need_no_context_and_a_constant_needs_all() -> None:
    assert (receptive_field(markov(16, 0.0), SIGMAS) == 1).all()
    constant = np.ones((16, 1, 16, 1))
    assert (receptive_field(constant, SIGMAS) == 16).all()


def test_the_loss_is_that_of_drawn_samples() -> None:
    """Guards the closed form: least squares on drawn chunks can do no better, and reaches it."""
    rng, horizon, sigma, length = np.random.default_rng(0), 6, 0.7, 3
    mix = rng.standard_normal((horizon * 2, horizon * 2)) / 3
    x0 = (rng.standard_normal((200_000, horizon * 2)) @ mix).reshape(-1, horizon, 2)
    x = x0 + sigma * rng.standard_normal(x0.shape)
    total = 0.0
    for index in range(horizon):
        seen = x[:, crop_around(index, length, horizon)].reshape(len(x), -1)
        weights, *_ = np.linalg.lstsq(seen, x0[:, index], rcond=None)
        total += np.mean(np.sum((x0[:, index] - seen @ weights) ** 2, axis=1)) / horizon
    assert crop_loss(chunk_covariance(x0), sigma, length) == pytest.approx(total, rel=2e-3)


def test_crops_hold_their_index_and_are_nested() -> None:
    for index in range(7):
        crops = [crop_around(index, length, 7) for length in range(1, 8)]
        for length, crop in enumerate(crops, start=1):
            assert 0 <= crop.start <= index < crop.stop <= 7
            assert crop.stop - crop.start == length
            if crop.start > 0 and crop.stop < 7:
                assert index - crop.start == (length - 1) // 2, "away from the ends it lies in the middle"
        for inner, outer in pairwise(crops):
            assert outer.start <= inner.start
            assert inner.stop <= outer.stop


def test_unusable_arguments_are_refused() -> None:
    with pytest.raises(ConfigError, match="tolerance is 0"):
        receptive_field(markov(4, 0.5), SIGMAS, 0)
    with pytest.raises(ConfigError, match="shape \\(1, 4, 2\\) given"):
        chunk_covariance(np.zeros((1, 4, 2)))
