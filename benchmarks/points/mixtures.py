"""Gaussian mixtures in the plane: the one kind of data whose exact denoiser is known at every noise level."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Mixture:
    """X0 is drawn from component k with probability weights[k].

    Attributes:
        weights: (K,), adding up to 1; means: (K, D); covariances: (K, D, D).
    """

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Draw `count` points (count, D), in no order."""
        component = rng.choice(len(self.weights), count, p=self.weights)
        roots = np.linalg.cholesky(self.covariances)
        z = rng.standard_normal((count, self.means.shape[1]))
        return self.means[component] + np.einsum("nij,nj->ni", roots[component], z)

    def blurred(self, sigma: float) -> Mixture:
        """Give the distribution of X0 + sigma Z."""
        return replace(self, covariances=self.covariances + sigma**2 * np.eye(self.means.shape[1]))

    def posterior_mean(self, x: np.ndarray, sigma: float) -> np.ndarray:
        """Give E[X0 | X0 + sigma Z = x] at x (N, D): what a perfect denoiser answers."""
        return self._posterior(x, 1.0, sigma)

    def vp_posterior_mean(self, x: np.ndarray, v: float) -> np.ndarray:
        """Give E[X0 | sqrt(1 - v^2) X0 + v Z = x] at VP samples x (N, D)."""
        return self._posterior(x, float(np.sqrt(1 - v**2)), v)

    def _posterior(self, x: np.ndarray, scale: float, noise: float) -> np.ndarray:
        """Give E[X0 | scale X0 + noise Z = x]: Gaussian conditioning in each component, then Bayes' rule."""
        total = scale**2 * self.covariances + noise**2 * np.eye(self.means.shape[1])
        inverse = np.linalg.inv(total)
        away = x[:, None] - scale * self.means  # (N, K, D)
        solved = np.einsum("kij,nkj->nki", inverse, away)
        means = self.means + scale * np.einsum("kij,nkj->nki", self.covariances, solved)
        log = np.log(self.weights) - 0.5 * np.log(np.linalg.det(total)) - 0.5 * (away * solved).sum(-1)
        share = np.exp(log - log.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        return np.einsum("nk,nkd->nd", share, means)


def gaussian() -> Mixture:
    """Give one Gaussian with standard deviations 0.9 and 0.25 along axes turned by 30 degrees."""
    return Mixture(np.ones(1), np.array([[0.2, -0.1]]), _turned([(0.9, 0.25, 30.0)]))


def five() -> Mixture:
    """Give five narrow Gaussians of different shapes, mostly 0.8 to 1.2 apart."""
    shapes = [
        (0.30, 0.06, 45.0),
        (0.08, 0.25, 0.0),
        (0.20, 0.07, -30.0),
        (0.12, 0.12, 0.0),
        (0.25, 0.05, 80.0),
    ]
    means = np.array([[0.0, 0.0], [1.0, 0.3], [-0.9, 0.5], [-0.4, -0.9], [0.7, -0.8]])
    return Mixture(np.array([0.3, 0.2, 0.2, 0.15, 0.15]), means, _turned(shapes))


def _turned(shapes: list[tuple[float, float, float]]) -> np.ndarray:
    """Turn (std, std, degrees) of each component into its covariance."""
    out = []
    for first, second, degrees in shapes:
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        turn = np.array([[c, -s], [s, c]])
        out.append(turn @ np.diag([first**2, second**2]) @ turn.T)
    return np.array(out)
