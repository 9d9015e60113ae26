"""How far two clouds of points are apart."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist


def wasserstein(a: np.ndarray, b: np.ndarray, batch: int = 1000) -> float:
    """Give the Wasserstein-1 distance of two clouds (N, D) each, from exact matchings of batches.

    Every batch of a is matched with one of b so that the sum of distances is least; the answer is the mean
    over the batches. Two clouds of one distribution are not at 0: compare with their floor at this batch.
    """
    _check(a, b)
    out = []
    for start in range(0, len(a) - batch + 1, batch):
        cost = cdist(a[start : start + batch], b[start : start + batch])
        rows, columns = linear_sum_assignment(cost)
        out.append(cost[rows, columns].mean())
    if not out:
        raise ValueError(f"{len(a)} points are less than one batch of {batch}")
    return float(np.mean(out))


def energy_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Give the energy distance sqrt(2 E|A - B| - E|A - A'| - E|B - B'|) of clouds (N, D).

    Pairs of a point with itself are left out, so that the square has no bias; below 0 it counts as 0.
    Source: Szekely and Rizzo 2013, eq. 5.
    """
    _check(a, b)
    n = len(a)
    within = (cdist(a, a).sum() + cdist(b, b).sum()) / (n * (n - 1))
    return float(np.sqrt(max(0.0, 2 * cdist(a, b).mean() - within)))


def _check(a: np.ndarray, b: np.ndarray) -> None:
    if a.ndim != 2 or a.shape != b.shape:
        raise ValueError(f"clouds of shapes {a.shape} and {b.shape}; needs two of the same shape (N, D)")
