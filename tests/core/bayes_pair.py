"""Two Gaussians that differ in their mean: every probability and every threshold between them is known.

p = N(0, s0^2 I) and q = N(d e1, s0^2 I). Noisy, both have variance v^2 = s0^2 + sigma^2, and only the first
entry u tells them apart: P(clean | x) = sigmoid(-(d u - d^2 / 2) / v^2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(120)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


def sigmoid(logit: np.ndarray) -> np.ndarray:
    """Give 1 / (1 + exp(-logit)) without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * logit))


def mean_probability(m: np.ndarray | float) -> np.ndarray:
    """Give E_q[c] for sources m = d / v apart: the logit is normal, -m^2/2 +- m, under q."""
    m = np.asarray(m, np.float64)[..., None]
    return (_WEIGHTS * sigmoid(-(m * _NODES + m**2 / 2))).sum(-1)


def bisect(above: object, low: float, high: float) -> float:
    """Find where `above(x)` turns true between low and high, in ln x."""
    for _ in range(200):
        middle = np.sqrt(low * high)
        low, high = (low, middle) if above(middle) else (middle, high)  # type: ignore[operator]
    return float(np.sqrt(low * high))


@dataclass(frozen=True)
class BayesPair:
    """Clean N(0, s0^2), corrupt N(d, s0^2) along the first entry."""

    d: float
    s0: float

    def dataset_curve(self, sigmas: np.ndarray) -> np.ndarray:
        """Give E_q[c] at each level."""
        return mean_probability(self.d / np.sqrt(self.s0**2 + np.asarray(sigmas) ** 2))

    def window_curve(self, u: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
        """Give E_z[c(x0 + sigma z)] (W, G) of samples whose first entry is u (W,)."""
        sigma = np.asarray(sigmas)[:, None]
        v2 = self.s0**2 + sigma**2
        first = np.asarray(u)[:, None, None] + sigma * _NODES
        logit = -(self.d * first - self.d**2 / 2) / v2
        return (_WEIGHTS * sigmoid(logit)).sum(-1)

    def sigma_min(self, tau: float) -> float:
        """Give the dataset's: E_q[c] = .5 - tau at one m*, hence sqrt((d / m*)^2 - s0^2), or 0."""
        m = bisect(lambda m: mean_probability(m) < 0.5 - tau, 1e-4, 50.0)
        square = (self.d / m) ** 2 - self.s0**2
        return float(np.sqrt(square)) if square > 0 else 0.0

    def window_sigma_min(self, u: float, tau: float) -> float:
        """Give a sample's, by bisection; the curve of one sample crosses once when u > d / 2."""

        def above(sigma: float) -> bool:
            return bool(self.window_curve(np.array([u]), np.array([sigma]))[0, 0] > 0.5 - tau)

        return 0.0 if above(1e-6) else bisect(above, 1e-6, 1e4)
