"""Learning a clean denoiser from samples that are clean only above a noise level.

A corrupt sample is trusted once noise of level `sigma_n` was added to it: x_n = y + sigma_n z, drawn once and
kept (fresh draws could be averaged away, which would teach the corruption after all). It is then taken to a
level sigma > sigma_n, x = x_n + sqrt(sigma^2 - sigma_n^2) z', and teaches E[x0 | x] through the target below.

These are the numpy reference; the training room has its own and is tested against this one. Levels at or
below `sigma_n` are taught by clean data alone: no target exists for them here, and none is made up (the
consistency loss of the literature is for the case without any clean data).
"""

from __future__ import annotations

import math

import numpy as np

from ambient_policy.errors import ConfigError


def add_noise(x_n: np.ndarray, sigma_n: float, sigma: np.ndarray | float, z: np.ndarray) -> np.ndarray:
    """Take a sample at noise level `sigma_n` up to `sigma` with standard normal z of x_n's shape."""
    return x_n + np.sqrt(np.square(sigma) - sigma_n**2) * z


def mix(x0_hat: np.ndarray, x: np.ndarray, sigma: np.ndarray | float, sigma_n: float) -> np.ndarray:
    """Turn a guess of x0 at level `sigma` into the guess of x_n: alpha x0_hat + (1 - alpha) x.

    alpha = (sigma^2 - sigma_n^2) / sigma^2. E[x_n | x] is this mixture of E[x0 | x] and x, so the loss
    |mix(D(x), x) - x_n|^2 has E[x0 | x] as its minimiser without ever seeing x0.
    Source: Daras et al. 2024 (Consistent Diffusion Meets Tweedie), theorem on double Tweedie, in VE form.
    """
    alpha = 1 - np.square(sigma_n / np.asarray(sigma))
    return alpha * x0_hat + (1 - alpha) * x


def ambient_target(x_n: np.ndarray, x: np.ndarray, sigma: np.ndarray | float, sigma_n: float) -> np.ndarray:
    """Solve `mix(target, x) = x_n` for the target, so that |D(x) - target|^2 is a plain denoising loss.

    It equals the ambient loss divided by alpha^2. Its variance grows without bound as sigma falls to sigma_n,
    hence a buffer: train at sigma > sigma_n / sqrt(1 - 1/L) to keep 1 / alpha below L.
    """
    s2, n2 = np.square(sigma), sigma_n**2
    return (s2 * x_n - n2 * x) / (s2 - n2)


def rescaling(sigma: np.ndarray | float, sigma_n: float, bound: float = math.inf) -> np.ndarray:
    """Give min(1 / alpha, bound): the factor by which a rescaled ambient residual exceeds the ambient one.

    The rescaled loss is (1 / alpha)^2 times the ambient loss, which weighs every level like plain denoising
    but has no limit at `sigma_n`. With a finite `bound` L the factor on the squared error is at most L^2, at
    every level.
    """
    alpha = 1 - np.square(sigma_n / np.asarray(sigma, np.float64))
    return 1 / np.maximum(alpha, 1 / bound)


def buffered(sigma_n: np.ndarray | float, bound: float) -> np.ndarray:
    """Give the level above which 1 / alpha stays below `bound` L: sigma_n / sqrt(1 - 1 / L).

    Note that this bounds the factor on the squared error by L^2; to bound that factor by L, pass sqrt(L).
    Source: the buffer of Ambient Diffusion Omni (2025), whose text takes the one for the other.
    """
    if not bound > 1:
        raise ConfigError(f"bound is {bound}, needs a value above 1; see `target:` in the run's config")
    return np.asarray(sigma_n, np.float64) / math.sqrt(1 - 1 / bound)


def vp_add_noise(x_n: np.ndarray, v_n: float, v: np.ndarray | float, z: np.ndarray) -> np.ndarray:
    """Take a VP sample at level `v_n` up to `v` with standard normal z: c x_n + sqrt(v^2 - c^2 v_n^2) z.

    c = sqrt((1 - v^2) / (1 - v_n^2)) rescales the signal; the rest of the variance is new noise.
    """
    c2 = (1 - np.square(v)) / (1 - v_n**2)
    return np.sqrt(c2) * x_n + np.sqrt(np.square(v) - c2 * v_n**2) * z


def vp_ambient_targets(
    x_n: np.ndarray, x: np.ndarray, v: np.ndarray | float, v_n: float
) -> tuple[np.ndarray, np.ndarray]:
    """Give the targets (x0, eps) in VP form; x = sqrt(1 - v^2) x0 + v eps holds for them exactly.

    Args:
        x_n, x: VP samples at levels v_n < v of the same x0, x made from x_n by adding noise.
    """
    v2, n2 = np.square(v), v_n**2
    signal, signal_n = np.sqrt(1 - v2), np.sqrt(1 - n2)
    x0 = (v2 * signal_n * x_n - n2 * signal * x) / (v2 - n2)
    eps = (v * (1 - n2) * x - v * signal * signal_n * x_n) / (v2 - n2)
    return x0, eps
