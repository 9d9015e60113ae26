"""How much of a noisy chunk an optimal denoiser needs in order to clean one action of it.

At low noise an action is best guessed from itself and its nearest neighbours; the context that helps grows
with the noise. For Gaussian chunks this is Wiener's filter and everything is closed form, so the covariance
of the clean chunks is all that is asked of the data.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ambient_policy.errors import ConfigError


def chunk_covariance(chunks: np.ndarray) -> np.ndarray:
    """Estimate the covariance (H, A, H, A) of chunks (N, H, A)."""
    if chunks.ndim != 3 or len(chunks) < 2:
        raise ConfigError(f"chunks of shape {chunks.shape} given, needs (N, H, A) with 2 or more of them")
    flat = np.asarray(chunks, np.float64).reshape(len(chunks), -1)
    flat = flat - flat.mean(axis=0)
    return (flat.T @ flat / len(flat)).reshape(*chunks.shape[1:], *chunks.shape[1:])


def linear_denoiser(covariance: np.ndarray, sigma: float) -> np.ndarray:
    """Give the matrix W (D, D) with E[x0 | x] = mean + W (x - mean): C (C + sigma^2 I)^-1.

    For a stationary chunk, C circulant with spectrum S, it is the circulant with response S / (S + sigma^2).
    Source: Wiener's filter.
    """
    c = np.asarray(covariance, np.float64)
    return np.linalg.solve(c + sigma**2 * np.eye(len(c)), c).T


def crop_around(index: int, length: int, horizon: int) -> slice:
    """Give the crop of `length` actions around `index`, moved to lie within the chunk; crops are nested."""
    start = min(max(index - (length - 1) // 2, 0), horizon - length)
    return slice(start, start + length)


def crop_loss(covariance: np.ndarray, sigma: float, length: int) -> float:
    """Mean squared error, per action, of the best linear guess of each action from the crop around it.

    Args:
        covariance: (H, A, H, A); sigma: noise level in the same units; length: 1..H actions in the crop.
    """
    horizon, size = covariance.shape[:2]
    total = 0.0
    for index in range(horizon):
        crop = crop_around(index, length, horizon)
        n, place = length * size, (index - crop.start) * size
        inner = covariance[crop, :, crop].reshape(n, n)
        rows = linear_denoiser(inner, sigma)[place : place + size]
        explained = np.sum(rows * inner[:, place : place + size].T)
        total += float(np.trace(covariance[index, :, index]) - explained)
    return total / horizon


def receptive_field(
    covariance: np.ndarray, sigmas: Sequence[float] | np.ndarray, tolerance: float = 1e-3
) -> np.ndarray:
    """Find the shortest crop at each noise level whose loss is within `tolerance` of the whole chunk's.

    Args:
        covariance: (H, A, H, A) of clean chunks; sigmas: (G,) increasing, same units.
        tolerance: relative, loss(crop) <= (1 + tolerance) loss(whole chunk).
    Returns:
        (G,) int64, 1..H, never falling with sigma: where noise drowns the whole chunk, short crops are as
        good as long ones again, for want of anything to find, and the length needed just below is kept.
    Source: the test of Daras et al. 2025 (Ambient Diffusion Omni) for images, with the optimal linear
        denoiser in place of a trained one.
    """
    if not tolerance > 0:
        raise ConfigError(f"tolerance is {tolerance}, needs a value above 0")
    horizon = covariance.shape[0]
    lengths = []
    for sigma in sigmas:
        allowed = (1 + tolerance) * crop_loss(covariance, sigma, horizon)
        # Longer crops contain the shorter ones, so the loss falls with the length and bisection is exact.
        low, high = 1, horizon
        while low < high:
            middle = (low + high) // 2
            if crop_loss(covariance, sigma, middle) <= allowed:
                high = middle
            else:
                low = middle + 1
        lengths.append(low)
    return np.maximum.accumulate(np.array(lengths, np.int64))
