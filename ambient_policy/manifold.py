"""Denoising as projection: the exact denoiser of a finite set of points, and two sets to compare.

The best guess of x0 from x = x0 + sigma z, when x0 is one of N points, is their mean weighted by how likely
each is. At small sigma that is the nearest point, a projection onto the manifold the points were drawn from;
at large sigma it is the mean of them all. Two manifolds in the same place but of different shape therefore
give the same answer at large sigma and different ones at small sigma: corrupt data teach the first, not the
second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ambient_policy.errors import ConfigError

_BLOCK = 4_000_000
"""Distances held at once; a (grid, points) table of all of them would not fit for fine grids."""


@dataclass(frozen=True)
class Clouds:
    """Points of a clean and of a corrupt manifold: `clean` (N, D), `corrupt` (M, D), in one unit."""

    clean: np.ndarray
    corrupt: np.ndarray


def log_density(
    x: np.ndarray, points: np.ndarray, sigma: float, weights: np.ndarray | None = None
) -> np.ndarray:
    """Give ln of the density at x (..., D) of a point of `points` (N, D) plus sigma z; shape (...,).

    Args:
        weights: (N,) probabilities of the points; equal ones by default. A weight of 0 takes a point out.
    """
    x, flat, points, log_weights = _prepare(x, points, sigma, weights)
    out = np.empty(len(flat))
    for rows in _blocks(len(flat), len(points)):
        out[rows] = _log_sum(_log_joint(flat[rows], points, sigma, log_weights))
    dimension = points.shape[1]
    return (out - dimension * math.log(sigma * math.sqrt(2 * math.pi))).reshape(x.shape[:-1])


def posterior_mean(
    x: np.ndarray, points: np.ndarray, sigma: float, weights: np.ndarray | None = None
) -> np.ndarray:
    """Give E[x0 | x0 + sigma z = x] for x0 one of `points` (N, D), at x (..., D): the exact denoiser.

    Stable at any sigma > 0: the largest exponent is taken out before anything is raised to it, so that far
    from all points, where every density is 0 in double precision, the nearest one still wins.

    Args:
        weights: (N,) probabilities of the points; equal ones by default.
    Source: Karras et al. 2022 (EDM), eq. 57, with weights.
    """
    x, flat, points, log_weights = _prepare(x, points, sigma, weights)
    out = np.empty_like(flat)
    for rows in _blocks(len(flat), len(points)):
        log_joint = _log_joint(flat[rows], points, sigma, log_weights)
        responsibility = np.exp(log_joint - log_joint.max(axis=1, keepdims=True))
        out[rows] = responsibility @ points / responsibility.sum(axis=1, keepdims=True)
    return out.reshape(x.shape)


def projection_gap(clouds: Clouds, sigma: float, draws: int, rng: np.random.Generator) -> float:
    """Give the root mean square distance between both denoisers, at noisy clean points.

    x is a clean point plus sigma z, `draws` of them, which is where a sampler of the clean policy asks. As
    sigma grows the distance tends to that between the means of the clouds, 0 if these agree.
    """
    x = clouds.clean[rng.integers(len(clouds.clean), size=draws)]
    x = x + sigma * rng.standard_normal(x.shape)
    gap = posterior_mean(x, clouds.clean, sigma) - posterior_mean(x, clouds.corrupt, sigma)
    return float(np.sqrt(np.mean(np.sum(gap**2, axis=1))))


def total_variation(clouds: Clouds, sigma: float, *, cells_a_sigma: float = 3.0, most: int = 600) -> float:
    """Give the total variation between both clouds with noise sigma, by a sum over a grid; D is 1 or 2.

    The cells are sigma / `cells_a_sigma` wide; an axis that would need more than `most` of them gets `most`.
    """
    if not sigma > 0:
        raise ConfigError(f"sigma is {sigma}, needs a value above 0")
    both = np.concatenate([clouds.clean, clouds.corrupt])
    if both.shape[1] not in (1, 2):
        raise ConfigError(f"points have {both.shape[1]} coordinates; a grid is affordable for 1 or 2")
    axes, cell = [], 1.0
    for low, high in zip(both.min(axis=0) - 6 * sigma, both.max(axis=0) + 6 * sigma, strict=True):
        count = min(most, math.ceil((high - low) / sigma * cells_a_sigma))
        cell *= (high - low) / count
        axes.append(low + (np.arange(count) + 0.5) * (high - low) / count)
    difference = _grid_density(axes, clouds.clean, sigma) - _grid_density(axes, clouds.corrupt, sigma)
    return float(0.5 * np.abs(difference).sum() * cell)


def total_variation_bound(clouds: Clouds, sigma: float) -> float:
    """Bound `total_variation` by d_TV(P, Q) D / (2 sigma), D the diameter of both clouds together, at most 1.

    Finite clouds that share no point have d_TV(P, Q) = 1; shared points only lower it, so 1 is used.
    Source: Daras et al. 2025 (Ambient Diffusion Omni), contraction by optimal coupling and Pinsker.
    """
    both = np.concatenate([clouds.clean, clouds.corrupt])
    diameter = max(float(np.linalg.norm(both - point, axis=1).max()) for point in both)
    return min(1.0, diameter / (2 * sigma))


def example_clouds(points: int = 400, teeth: int = 9, height: float = 0.18) -> Clouds:
    """Make a smooth S, `points` evenly spaced along it, and a zig-zag across it, point i beside point i.

    Both are unchanged by a half turn about 0, so their means agree and the two denoisers meet at large sigma.

    Args:
        teeth: how often the zig-zag changes side; height: how far it strays from the S.
    """
    t = np.linspace(-1, 1, 20 * points)
    along = np.concatenate([[0], np.cumsum(np.hypot(np.diff(t), np.diff(_s(t))))])
    t = np.interp(np.linspace(0, along[-1], points), along, t)
    # A triangle wave, odd in t.
    wave = 2 / np.pi * np.arcsin(np.sin(np.pi * teeth * t / 2))
    return Clouds(np.stack([t, _s(t)], axis=1), np.stack([t, _s(t) + height * wave], axis=1))


def read_points(file: Path) -> np.ndarray:
    """Read (N, 2) points from a CSV file (x,y lines, a header is skipped) or the array `points` of an NPZ."""
    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as stored:
                if "points" not in stored.files:
                    have = ", ".join(stored.files) or "nothing"
                    raise ConfigError(f"{file} has no array `points`; it has {have}")
                points = np.asarray(stored["points"], np.float64)
        else:
            lines = file.read_text(encoding="utf-8").splitlines()
            if not lines:
                raise ValueError("it is empty")
            points = np.loadtxt(lines[_headers(lines) :], delimiter=",", ndmin=2)
    except (OSError, ValueError, EOFError) as error:
        raise ConfigError(f"cannot read points from {file}: {error}; give x,y lines or an NPZ") from error
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 2 or not np.isfinite(points).all():
        raise ConfigError(
            f"{file} holds an array {points.shape}; needs 2 or more finite points with 2 coordinates"
        )
    return points


def _headers(lines: list[str]) -> int:
    """1 when the first line holds names, which are no numbers; 0 otherwise."""
    try:
        [float(word) for line in lines[:1] for word in line.split(",")]
    except ValueError:
        return 1
    return 0


def _s(t: np.ndarray) -> np.ndarray:
    return 0.6 * np.sin(np.pi * t)


def _prepare(
    x: np.ndarray, points: np.ndarray, sigma: float, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    x, points = np.asarray(x, np.float64), np.asarray(points, np.float64)
    if points.ndim != 2 or not points.size or x.shape[-1:] != points.shape[1:]:
        raise ConfigError(f"points are {points.shape} and x {x.shape}; needs (N, D) with N >= 1 and (..., D)")
    if not sigma > 0:
        raise ConfigError(f"sigma is {sigma}, needs a value above 0")
    weights = np.ones(len(points)) if weights is None else np.asarray(weights, np.float64)
    if weights.shape != points.shape[:1] or not (weights >= 0).all() or not weights.sum() > 0:
        raise ConfigError(
            f"weights of shape {weights.shape} given; needs one for each of the {len(points)} points, none "
            "below 0, not all 0"
        )
    kept = weights > 0
    return x, x.reshape(-1, points.shape[1]), points[kept], np.log(weights[kept] / weights.sum())


def _grid_density(axes: list[np.ndarray], points: np.ndarray, sigma: float) -> np.ndarray:
    """Density on a grid; a Gaussian is a product over axes, so points x cells exponentials suffice."""
    bells = [
        np.exp(-(np.subtract.outer(axis, points[:, i]) ** 2) / (2 * sigma**2)) for i, axis in enumerate(axes)
    ]
    total = bells[0] @ bells[1].T if len(bells) == 2 else bells[0].sum(axis=1)
    return total / (len(points) * (sigma * math.sqrt(2 * math.pi)) ** len(bells))


def _log_joint(x: np.ndarray, points: np.ndarray, sigma: float, log_weights: np.ndarray) -> np.ndarray:
    """ln(weight) - |x - point|^2 / (2 sigma^2), (rows, N)."""
    # Differences first: for clouds far from 0, |x|^2 - 2 x.p + |p|^2 would cancel.
    square = np.zeros((len(x), len(points)))
    for axis in range(points.shape[1]):
        square += np.subtract.outer(x[:, axis], points[:, axis]) ** 2
    return log_weights - square / (2 * sigma**2)


def _log_sum(log_joint: np.ndarray) -> np.ndarray:
    most = log_joint.max(axis=1)
    return most + np.log(np.exp(log_joint - most[:, None]).sum(axis=1))


def _blocks(rows: int, columns: int) -> list[slice]:
    size = max(1, _BLOCK // columns)
    return [slice(start, start + size) for start in range(0, rows, size)]
