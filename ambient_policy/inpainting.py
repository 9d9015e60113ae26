"""Sample a chunk of which some actions are known, without a gradient of the network.

The guess D(x, sigma) of a denoiser is the mean of the clean chunk given the noisy one, and sigma^2 times its
Jacobian is the covariance (Robbins 1956, Efron 2011). With a Gaussian of that mean and covariance in place
of the true posterior, knowing some actions moves the guess by the Kalman gain. The covariance is symmetric,
so its product with a vector is a directional derivative of D: one more call of the network, no backward
pass, and hence a graph like any other. One step down the residual stands for the inverse in the gain.

Known actions alone (replacing them in every guess, as in RePaint) hardly move the others: on smooth random
chunks of spread 0.5, the first four known, the fifth misses its conditional mean by 0.23; with this by 0.07,
and 0.05 is its true standard deviation (`tests/core/test_inpainting.py`).
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import numpy as np

from ambient_policy.sampling import Denoise

Array = TypeVar("Array")

PROBE = 0.2
"""Length of the finite difference, as a share of sigma, the scale on which D bends. Shorter ones cost digits:
at 0.05 graph and network differed by 7e-5 of a unit."""
LONGEST = 100.0
"""Bound of the step. It is 1 where the chunk's actions are independent and spread alike; a network is no
exact mean, so its Jacobian may give anything."""
_TINY = 1e-12


class Operations(Protocol[Array]):
    """What goes beyond sums and products."""

    def inner(self, a: Array, b: Array) -> Array:
        """Return the sum of a * b over (H, A), as (B, 1, 1)."""

    def root(self, a: Array) -> Array:
        """Return the square root."""

    def clip(self, a: Array, low: float, high: float) -> Array:
        """Return the nearest value in [low, high]."""


class NumpyOperations:
    """For numpy arrays."""

    def inner(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return the sum of a * b over (H, A), as (B, 1, 1)."""
        return np.asarray((a * b).sum(axis=(-2, -1), keepdims=True))

    def root(self, a: np.ndarray) -> np.ndarray:
        """Return the square root."""
        return np.sqrt(a)

    def clip(self, a: np.ndarray, low: float, high: float) -> np.ndarray:
        """Return the nearest value in [low, high]."""
        return np.clip(a, low, high)


def knowing(
    denoise: Denoise[Any],
    known: Any,
    mask: Any,
    variance: Any,
    sigma_data: float,
    operations: Operations[Any],
) -> Denoise[Any]:
    """Return a denoiser that knows some actions of the clean chunk.

    Args:
        denoise: (x, sigma) -> guess, (B, H, A), normalised action units.
        known: (B, H, A), the actions; any finite value where the mask is 0.
        mask: (B, H, 1), 1 where an action is known, else 0.
        variance: (B, H, 1), of what is known; 0 for exactly, and then the sampler ends there exactly.
        sigma_data: spread of the actions.
    Source: Song et al. 2023 (Pseudoinverse-guided diffusion), eq. 7, with the covariance of Boys et al. 2023
    (Tweedie moment projection) in place of a multiple of 1.
    """

    def drawn(x: Any, sigma: float) -> Any:
        inner, guess = operations.inner, denoise(x, sigma)
        alone = sigma**2 * sigma_data**2 / (sigma**2 + sigma_data**2)  # of one action by itself
        missing = mask * (known - guess)
        direction = missing / (variance + alone)
        reach = PROBE * sigma / operations.root(inner(direction, direction) + _TINY)
        moved = (denoise(x + reach * direction, sigma) - guess) * sigma**2 / reach
        answer = mask * moved + variance * direction
        step = operations.clip(inner(missing, answer) / (inner(answer, answer) + _TINY), 0.0, LONGEST)
        guess = guess + step * moved
        exact = mask * _TINY / (variance + _TINY)
        return guess + exact * (known - guess)

    return drawn
