"""From probabilities of "clean" over noise levels to the levels that a sample may teach.

c(x, sigma) is the probability that a noisy chunk came from the clean source, both sources being equally
likely beforehand. The rule of this project, per window or per source:

    sigma_min   the level above which E[c] > 0.5 - tau
    sigma_max   the level below which E[c of a crop as long as the receptive field] > 0.5 - tau

For a whole source 0.5 - E_q[c] = (1/4) int (p - q)^2 / (p + q) is an f-divergence, so noise can only lower
it: E_q[c] rises with sigma, and a curve that falls back under the rule shows an error of the classifier or,
for a single window, a level where that window is untypical of the clean data. `sigma_min` is therefore the
last crossing: every level that it admits satisfies the rule. The first crossing (`first=True`) is the literal
infimum of the papers; it admits more, and the two agree wherever the curve rises.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ambient_policy.errors import ConfigError

Grid = Sequence[float] | np.ndarray


def noise_grid(low: float, high: float, levels: int) -> np.ndarray:
    """Give `levels` noise levels (G,), evenly spaced in ln sigma, both ends included."""
    if not 0 < low < high or not np.isfinite(high) or levels < 2:
        raise ConfigError(
            f"a grid of {levels} noise levels from {low} to {high}; needs 2 or more, and 0 < low < high < inf"
        )
    return np.exp(np.linspace(np.log(low), np.log(high), levels))


def smoothing(sigmas: Grid, width: float) -> np.ndarray:
    """Give the matrix (G, G) that smooths curves along ln sigma: `curves @ smoothing(...).T`.

    Each level takes the value of a straight line fitted around it with Gaussian weights of standard deviation
    `width` in ln sigma. Straight curves pass unchanged, up to both ends, so a crossing is not shifted the way
    a one-sided average would. `width` 0 changes nothing.
    """
    at = np.log(np.asarray(sigmas, np.float64))
    if not width >= 0:
        raise ConfigError(f"smoothing width is {width}, needs 0 or more (in ln sigma)")
    if width == 0:
        return np.eye(len(at))
    away = at[None] - at[:, None]  # (G, G): of each level, as seen from the level of that row
    weight = np.exp(-0.5 * (away / width) ** 2)
    total, first, second = (weight.sum(1), (weight * away).sum(1), (weight * away**2).sum(1))
    determinant = total * second - first**2
    # A neighbour that weighs nothing leaves no line to fit: that level stays as it is.
    lonely = determinant <= 1e-12 * total * second
    rows = weight * (second[:, None] - first[:, None] * away)
    rows[~lonely] /= determinant[~lonely, None]
    rows[lonely] = np.eye(len(at))[lonely]
    return rows


def find_sigma_min(sigmas: Grid, probability: np.ndarray, tau: float, *, first: bool = False) -> np.ndarray:
    """Find the level above which `probability` exceeds 0.5 - tau.

    Args:
        sigmas: (G,) increasing. probability: (..., G), smoothed.
        first: take the first crossing instead of the last.
    Returns:
        (...,) float64; between two grid levels by a straight line in ln sigma; 0 when the rule holds from the
        lowest level on, inf when it does not hold at the highest one (`first`: at none).
    Source: Daras et al. 2025 (Ambient Diffusion Omni), section 3; balanced classes, see `docs/annotation.md`.
    """
    grid, curve, threshold = _checked(sigmas, probability, tau)
    good = curve > threshold
    if first:
        index = np.argmax(good, axis=-1)
        never = ~good.any(axis=-1)
    else:
        index = len(grid) - np.argmin(good[..., ::-1], axis=-1)
        index = np.where(good.all(axis=-1), 0, index)
        never = index == len(grid)
    found = _between(grid, curve, np.clip(index, 1, len(grid) - 1), threshold)
    return np.where(never, np.inf, np.where(index == 0, 0.0, found))


def find_sigma_max(sigmas: Grid, probability: np.ndarray, tau: float) -> np.ndarray:
    """Find the level below which `probability` (of crops) exceeds 0.5 - tau at every grid level.

    Args and interpolation as in `find_sigma_min`.
    Returns:
        (...,) float64; 0 when the rule fails at the lowest level, inf when it holds at all.
    """
    grid, curve, threshold = _checked(sigmas, probability, tau)
    good = curve > threshold
    index = np.argmin(good, axis=-1)  # the first level that fails
    found = _between(grid, curve, np.clip(index, 1, len(grid) - 1), threshold)
    return np.where(good.all(axis=-1), np.inf, np.where(index == 0, 0.0, found))


def clean_share(mean_probability: np.ndarray, natural: float) -> np.ndarray:
    """Turn E_q[c] (G,) over increasing levels into a share of clean samples at each level.

    share = natural + (1 - natural) 2e,   e = 0.5 - E_q[c] in [0, 0.5].

    2e lies between TV^2 and TV, the total variation distance of the two noisy sources: 0 when they cannot be
    told apart, where every sample is as good as another and the natural share n_p / (n_p + n_q) is right, and
    1 when they are disjoint, where a corrupt sample only misleads. The training mixture is then at most
    (1 - natural) (1 - TV^2) TV < 0.39 from the clean source. As noise can only lower e, each level takes the
    largest e of the levels from it upwards.
    """
    if not 0 <= natural <= 1:
        raise ConfigError(f"natural share is {natural}, needs a value from 0 to 1")
    e = np.clip(0.5 - np.asarray(mean_probability, np.float64), 0, 0.5)
    rising = np.maximum.accumulate(e[::-1])[::-1]
    return natural + (1 - natural) * 2 * rising


def _checked(sigmas: Grid, probability: np.ndarray, tau: float) -> tuple[np.ndarray, np.ndarray, float]:
    grid, curve = np.asarray(sigmas, np.float64), np.asarray(probability, np.float64)
    if grid.ndim != 1 or len(grid) < 2 or not (np.diff(grid) > 0).all() or not grid[0] > 0:
        raise ConfigError(f"noise levels {grid.tolist()} must be 2 or more, above 0 and increasing")
    if curve.shape[-1:] != grid.shape:
        raise ConfigError(f"probabilities of shape {curve.shape} given for {len(grid)} noise levels")
    if not np.isfinite(curve).all():
        raise ConfigError("probabilities are not all finite; has the classifier diverged? lower its lr")
    if not 0 <= tau < 0.5:
        raise ConfigError(f"tau is {tau}, needs 0 <= tau < 0.5")
    return grid, curve, 0.5 - tau


def _between(grid: np.ndarray, curve: np.ndarray, index: np.ndarray, threshold: float) -> np.ndarray:
    """Find where the curve crosses the threshold between levels `index - 1` and `index`."""
    low = np.take_along_axis(curve, (index - 1)[..., None], -1)[..., 0]
    high = np.take_along_axis(curve, index[..., None], -1)[..., 0]
    rise = np.where(high == low, 1.0, high - low)
    along = np.clip((threshold - low) / rise, 0, 1)
    at = np.log(grid)
    return np.exp(at[index - 1] + along * (at[index] - at[index - 1]))
