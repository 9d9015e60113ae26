"""Gaussian data, for which every denoiser, every posterior and every sampler's answer is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Gaussian:
    """Data X0 ~ N(mean, std^2), each entry by itself."""

    mean: float
    std: float

    def denoise(self, x: np.ndarray, sigma: float) -> np.ndarray:
        """Give E[X0 | X0 + sigma Z = x]."""
        return self.mean + self.std**2 / (self.std**2 + sigma**2) * (x - self.mean)

    def flow(self, x: np.ndarray, sigma: float, sigma_next: float) -> np.ndarray:
        """Solve the probability flow exactly: distances to the mean shrink with the deviation."""
        ratio = np.sqrt((self.std**2 + sigma_next**2) / (self.std**2 + sigma**2))
        return self.mean + ratio * (x - self.mean)
