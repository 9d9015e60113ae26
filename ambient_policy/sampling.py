"""Walk a noisy action chunk down a noise ladder.

Every sampler solves dx/dsigma = (x - D(x, sigma)) / sigma, the probability flow of variance exploding noise
(Karras et al. 2022, eq. 3 with t = sigma), where D is the denoiser, the guess of the clean chunk. They differ
in order and in denoiser calls:

    method     order  calls a step         good for
    ddim       1      1                    the plain choice; one step gives the mean
    heun       2      2, the last step 1   fine ladders, reference answers; overshoots on few wide steps
    dpmpp_2m   2      1                    few steps: it remembers the guess of the step before

Arrays are only added and multiplied by Python floats, so numpy arrays and torch tensors both go through, and
the exporter unrolls the very code that is tested here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Literal, TypeVar

import numpy as np

from ambient_policy.config import nearest
from ambient_policy.errors import ConfigError
from ambient_policy.noise import check_ladder

Array = TypeVar("Array")
Denoise = Callable[[Array, float], Array]
"""Maps (x, sigma) to the guess of the clean chunk, of x's shape (B, H, A)."""

Method = Literal["ddim", "heun", "dpmpp_2m"]
METHODS: tuple[Method, ...] = ("ddim", "heun", "dpmpp_2m")


def denoise_step(x: Array, x0_hat: Array, sigma: float, sigma_next: float) -> Array:
    """Take a noisy action chunk from noise level `sigma` down to `sigma_next`: DDIM, which is Euler in sigma.

    Args:
        x, x0_hat: (B, H, A), noisy chunk and clean guess, normalised action units.
        sigma, sigma_next: sigma > sigma_next >= 0, noise standard deviation, same units.
    Returns:
        (B, H, A); equals `x0_hat` when `sigma_next` is 0.
    Source: Song et al. 2021 (DDIM), eq. 12 without its random term, in sigma form.
    """
    return x0_hat + (sigma_next / sigma) * (x - x0_hat)  # type: ignore[operator, return-value]


def heun_step(denoise: Denoise[Array], x: Array, sigma: float, sigma_next: float) -> Array:
    """Take a chunk (B, H, A) from `sigma` to `sigma_next` with the trapezoidal rule: two denoiser calls.

    The slope at sigma 0 is not defined, so a step that ends there is a `denoise_step`.
    Source: Karras et al. 2022 (EDM), algorithm 1 without churn.
    """
    x0_hat = denoise(x, sigma)
    ahead = denoise_step(x, x0_hat, sigma, sigma_next)
    if sigma_next == 0:
        return ahead
    slope = (x - x0_hat) / sigma  # type: ignore[operator]
    slope_ahead = (ahead - denoise(ahead, sigma_next)) / sigma_next  # type: ignore[operator]
    return x + (sigma_next - sigma) * 0.5 * (slope + slope_ahead)


def dpmpp_2m_step(
    x: Array, x0_hat: Array, x0_hat_before: Array, sigma_before: float, sigma: float, sigma_next: float
) -> Array:
    """Take a chunk (B, H, A) from `sigma` to `sigma_next`, using also the guess made at `sigma_before`.

    With lambda = -ln(sigma) the flow is linear but for the guess, which is extrapolated along lambda to the
    middle of the step. A step to 0 has no middle in lambda, so it is a `denoise_step`.
    Source: Lu et al. 2022 (DPM-Solver++), algorithm 2, with alpha = 1.
    """
    if sigma_next == 0:
        return denoise_step(x, x0_hat, sigma, sigma_next)
    half_ratio = 0.5 * math.log(sigma / sigma_next) / math.log(sigma_before / sigma)
    guess = x0_hat + half_ratio * (x0_hat - x0_hat_before)  # type: ignore[operator]
    return denoise_step(x, guess, sigma, sigma_next)


def sample(
    denoise: Denoise[Array], x: Array, sigmas: Sequence[float] | np.ndarray, method: str = "ddim"
) -> Iterator[Array]:
    """Yield the chunk after every step; the last one is the answer.

    Args:
        denoise: (x, sigma) -> clean guess of x's shape.
        x: (B, H, A), noise of standard deviation `sigmas[0]`; the only randomness, so runs repeat.
        sigmas: (K + 1,), decreasing; end it at 0 for a clean chunk.
        method: "ddim", "heun" or "dpmpp_2m".
    Yields:
        K chunks (B, H, A), at `sigmas[1]`, `sigmas[2]`, ...
    """
    if method not in METHODS:
        raise ConfigError(f"sampling method is {method!r}; {nearest(method, METHODS)}; see `sampler:`")
    return _walk(denoise, x, [float(level) for level in check_ladder(sigmas)], method)


def _walk(denoise: Denoise[Array], x: Array, sigmas: list[float], method: str) -> Iterator[Array]:
    before: tuple[Array, float] | None = None
    for sigma, sigma_next in pairwise(sigmas):
        if method == "heun":
            x = heun_step(denoise, x, sigma, sigma_next)
        else:
            x0_hat = denoise(x, sigma)
            if method == "ddim" or before is None:
                x = denoise_step(x, x0_hat, sigma, sigma_next)
            else:
                x = dpmpp_2m_step(x, x0_hat, *before, sigma, sigma_next)
            before = (x0_hat, sigma)
        yield x
