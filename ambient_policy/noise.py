"""One noise variable, `sigma`, and what depends on it.

Inside, everything is variance exploding (VE): x = x0 + sigma z with z standard normal, in normalised action
units. Papers and other code bases also write, for the same x0 and z,

    variance preserving (VP)   x = sqrt(1 - v^2) x0 + v z,    v in [0, 1)
    flow matching              x = (1 - u) x0 + u z,          u in [0, 1)

These differ by a factor on x alone, so each conversion below is exact. Levels come in without saying which
convention they use, hence the names. All functions take scalars or arrays and broadcast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from ambient_policy.errors import ConfigError

Level = TypeVar("Level", float, np.ndarray)


def sigma_from_vp(v: Level) -> Level:
    """Convert a VP level v in [0, 1) to sigma = v / sqrt(1 - v^2)."""
    return v / (1 - v**2) ** 0.5


def vp_from_sigma(sigma: Level) -> Level:
    """Convert sigma to the VP level v = sigma / sqrt(1 + sigma^2)."""
    return sigma / (1 + sigma**2) ** 0.5


def sigma_from_flow(u: Level) -> Level:
    """Convert a flow matching time u in [0, 1) to sigma = u / (1 - u)."""
    return u / (1 - u)


def flow_from_sigma(sigma: Level) -> Level:
    """Convert sigma to the flow matching time u = sigma / (1 + sigma)."""
    return sigma / (1 + sigma)


def vp_sample(x: np.ndarray, sigma: Level) -> np.ndarray:
    """Rescale a VE sample at `sigma` to the VP sample with the same x0 and z: x / sqrt(1 + sigma^2)."""
    return x / (1 + sigma**2) ** 0.5


def ve_from_vp_sample(x: np.ndarray, v: Level) -> np.ndarray:
    """Rescale a VP sample at `v` to the VE sample with the same x0 and z: x / sqrt(1 - v^2)."""
    return x / (1 - v**2) ** 0.5


def flow_sample(x: np.ndarray, sigma: Level) -> np.ndarray:
    """Rescale a VE sample at `sigma` to the flow matching sample with the same x0 and z: x / (1 + sigma)."""
    return x / (1 + sigma)


def ve_from_flow_sample(x: np.ndarray, u: Level) -> np.ndarray:
    """Rescale a flow matching sample at `u` to the VE sample with the same x0 and z: x / (1 - u)."""
    return x / (1 - u)


class Preconditioning(NamedTuple):
    """Factors that turn a raw network F into a denoiser D(x, sigma) = skip x + out F(in_ x, noise)."""

    skip: np.ndarray
    out: np.ndarray
    in_: np.ndarray
    noise: np.ndarray


def preconditioning(sigma: float | np.ndarray, sigma_data: float, prediction: str = "x0") -> Preconditioning:
    """Scale the network so that its input and its target have unit variance at every noise level.

    Args:
        sigma: noise level, above 0; any shape.
        sigma_data: standard deviation of the normalised actions.
        prediction: "x0" as said; "eps" makes F the guess of the noise, fed with the VP sample, which is the
            parametrisation of DDPM: skip 1, out -sigma, in 1 / sqrt(1 + sigma^2).
    Source: Karras et al. 2022 (EDM), table 1 and appendix B.6; c_noise = ln(sigma) / 4. Ho et al. 2020.
    """
    sigma = np.asarray(sigma, np.float64)
    if prediction == "eps":
        return Preconditioning(np.ones_like(sigma), -sigma, 1 / np.sqrt(1 + sigma**2), np.log(sigma) / 4)
    total = np.sqrt(sigma**2 + sigma_data**2)
    return Preconditioning(sigma_data**2 / total**2, sigma * sigma_data / total, 1 / total, np.log(sigma) / 4)


def loss_weight(sigma: float | np.ndarray, sigma_data: float) -> np.ndarray:
    """Weight |D - x0|^2 by 1 / out^2, so that the raw network's loss counts the same at every level.

    Source: Karras et al. 2022 (EDM), table 1: lambda = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2.
    """
    sigma = np.asarray(sigma, np.float64)
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2


def karras_ladder(
    steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0, *, end_at_zero: bool = True
) -> np.ndarray:
    """Space `steps` noise levels from `sigma_max` down to `sigma_min`, evenly in sigma^(1/rho).

    Args:
        steps: K, denoiser calls of a one-call-a-step sampler when the ladder ends at zero.
        sigma_min, sigma_max: last and first level above zero. Actions have a standard deviation near 0.5
            here, so a `sigma_max` of 1.5 to 5 suffices; the 80 used for pictures spends steps where nothing
            is decided.
        rho: large values crowd levels near `sigma_min`; 1 is uniform and inf is geometric.
        end_at_zero: append 0, so that the last step lands on the clean guess.
    Returns:
        (K + 1,) with the zero, (K,) without it.
    Source: Karras et al. 2022 (EDM), eq. 5.
    """
    if steps < 1:
        raise ConfigError(f"steps is {steps}, needs 1 or more; see `sampler:` in the run's config")
    if not 0 < sigma_min <= sigma_max < math.inf or (steps > 1 and sigma_min == sigma_max):
        raise ConfigError(
            f"sigma_min is {sigma_min} and sigma_max {sigma_max}, needs 0 < sigma_min < sigma_max; "
            "see `sampler:` in the run's config"
        )
    if not rho > 0:
        raise ConfigError(f"rho is {rho}, needs a value above 0; see `sampler:` in the run's config")
    along = np.linspace(0, 1, steps) if steps > 1 else np.zeros(1)
    if math.isinf(rho):
        sigmas = np.exp((1 - along) * math.log(sigma_max) + along * math.log(sigma_min))
    else:
        sigmas = ((1 - along) * sigma_max ** (1 / rho) + along * sigma_min ** (1 / rho)) ** rho
    # Powers and logarithms round; the ends are what a config promised, so they are set exactly.
    sigmas[0] = sigma_max
    if steps > 1:
        sigmas[-1] = sigma_min
    return np.append(sigmas, 0.0) if end_at_zero else sigmas


def check_ladder(sigmas: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return any noise ladder as (K + 1,) float64, or say why it cannot be walked down."""
    ladder = np.asarray(sigmas, np.float64)
    if ladder.ndim != 1 or ladder.size < 2:
        raise ConfigError(
            f"a noise ladder of shape {ladder.shape} given, needs 2 or more levels in a flat list"
        )
    if not np.isfinite(ladder).all() or ladder[-1] < 0 or not (np.diff(ladder) < 0).all():
        raise ConfigError(f"noise ladder is {ladder.tolist()}, needs finite decreasing levels, none below 0")
    return ladder


def draw_training_sigmas(
    rng: np.random.Generator,
    size: int | tuple[int, ...],
    mean: float = -1.2,
    std: float = 1.4,
    low: float = 0.002,
    high: float = 80.0,
) -> np.ndarray:
    """Draw training noise levels: ln(sigma) is normal, and levels outside [low, high] are set to the bound.

    Source: Karras et al. 2022 (EDM), section 5, with the wider `std` that suits actions.
    """
    return np.clip(np.exp(rng.normal(mean, std, size)), low, high)
