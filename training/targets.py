"""What a denoiser is asked for, in torch: plain, ambient, or rescaled ambient, one sample beside the other.

`ambient_policy/ambient.py` is the reference and explains the method. Everything here works on the raw output
F of a preconditioned network, D = c_skip x + c_out F, so that no large weight multiplies a small difference,
and stays finite at every level: a target divided by alpha is never formed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Levels:
    """Noise levels of a batch of N samples.

    Attributes:
        sigma: (N,) level at which the network sees the sample.
        sigma_n: (N,) level that the sample has before, or None when all are clean. 0 is plain denoising.
        rescale: (N,) factor on the ambient residual, min(1 / alpha, bound) or 1; None with `sigma_n` None.
    """

    sigma: Tensor
    sigma_n: Tensor | None = None
    rescale: Tensor | None = None


def alpha(sigma: Tensor, sigma_n: Tensor) -> Tensor:
    """Give (sigma^2 - sigma_n^2) / sigma^2 without cancellation; 1 where sigma_n is 0."""
    return (sigma - sigma_n) * (sigma + sigma_n) / (sigma * sigma)


def rescaling(sigma: Tensor, sigma_n: Tensor, bound: Tensor) -> Tensor:
    """Give min(1 / alpha, bound), finite at every level for a finite bound. See `ambient.rescaling`."""
    return 1 / torch.maximum(alpha(sigma, sigma_n), 1 / bound)


def add_noise(x_n: Tensor, levels: Levels, noise: Tensor) -> Tensor:
    """Take samples x_n (N, H, A) at `sigma_n` up to `sigma` with standard normal noise of their shape."""
    if levels.sigma_n is None:
        return x_n + levels.sigma[:, None, None] * noise
    # sqrt(sigma * sigma) is sigma to the last bit, so sigma_n = 0 is plain denoising to the last bit.
    added = torch.sqrt((levels.sigma - levels.sigma_n) * (levels.sigma + levels.sigma_n))
    return x_n + added[:, None, None] * noise


def residual(raw: Tensor, x: Tensor, x_n: Tensor, levels: Levels, c_skip: Tensor, c_out: Tensor) -> Tensor:
    """Error of the raw network output, scaled as the loss weights it.

    (alpha D + (1 - alpha) x - x_n) / c_out, times the rescaling. Its mean square is the EDM-weighted loss:
    plain for sigma_n = 0, ambient for rescale = 1, rescaled ambient for rescale = 1 / alpha.

    Args:
        raw: (N, H, A), the network's F; x: its noisy input before scaling; x_n: the samples before noise.
        c_skip, c_out: (N, 1, 1).
    """
    if levels.sigma_n is None or levels.rescale is None:
        return raw - (x_n - c_skip * x) / c_out
    a = alpha(levels.sigma, levels.sigma_n)[:, None, None]
    error = a * raw - (x_n - (a * c_skip + (1 - a)) * x) / c_out
    return levels.rescale[:, None, None] * error


def ambient_target(x_n: Tensor, x: Tensor, sigma: Tensor, sigma_n: Tensor) -> Tensor:
    """Solve for the x0 that the ambient loss asks for; all broadcast. See `ambient.ambient_target`."""
    s2, n2 = sigma * sigma, sigma_n * sigma_n
    return (s2 * x_n - n2 * x) / (s2 - n2)


def vp_add_noise(x_n: Tensor, v_n: Tensor, v: Tensor, z: Tensor) -> Tensor:
    """Take a VP sample from level v_n to v; all broadcast. See `ambient.vp_add_noise`."""
    c2 = (1 - v * v) / (1 - v_n * v_n)
    return c2.sqrt() * x_n + (v * v - c2 * v_n * v_n).sqrt() * z


def vp_ambient_targets(x_n: Tensor, x: Tensor, v: Tensor, v_n: Tensor) -> tuple[Tensor, Tensor]:
    """Give the VP targets (x0, eps); all broadcast. See `ambient.vp_ambient_targets`."""
    v2, n2 = v * v, v_n * v_n
    signal, signal_n = (1 - v2).sqrt(), (1 - n2).sqrt()
    x0 = (v2 * signal_n * x_n - n2 * signal * x) / (v2 - n2)
    eps = (v * (1 - n2) * x - v * signal * signal_n * x_n) / (v2 - n2)
    return x0, eps
