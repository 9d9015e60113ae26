"""The statistics that a LeRobotDataset carries: of every episode, and of all of them."""

from __future__ import annotations

from typing import Any

import numpy as np

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
SAMPLED_FRAMES = 100
"""Frames looked at in an episode, taken evenly, as LeRobot does."""


def of_numbers(values: np.ndarray) -> dict[str, np.ndarray]:
    """Return the statistics of a field (N, ...) over its steps."""
    numbers = values.reshape(len(values), -1).astype(np.float64)
    shape = values.shape[1:] or (1,)
    out = {
        "min": numbers.min(axis=0),
        "max": numbers.max(axis=0),
        "mean": numbers.mean(axis=0),
        "std": numbers.std(axis=0),
        **{name: np.quantile(numbers, q, axis=0) for name, q in QUANTILES.items()},
    }
    return {**{k: v.reshape(shape) for k, v in out.items()}, "count": np.array([len(values)])}


def pixel_counts(frames: np.ndarray) -> tuple[np.ndarray, int]:
    """Return how often each level occurs, (3, 256) by channel, in a sample of frames, and the sample's
    size."""
    rows = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), SAMPLED_FRAMES)).round().astype(int))
    sample = frames[rows]
    counts = np.stack([np.bincount(sample[..., c].ravel(), minlength=256) for c in range(3)])
    return counts, len(rows)


def of_pixels(counts: np.ndarray, frames: int) -> dict[str, np.ndarray]:
    """Return the statistics (3, 1, 1) of images in [0, 1] from the counts of their levels."""
    levels = np.arange(256) / 255
    share = counts / counts.sum(axis=1, keepdims=True)
    mean = share @ levels
    below = np.cumsum(share, axis=1)
    out = {
        "min": levels[(counts > 0).argmax(axis=1)],
        "max": levels[255 - (counts[:, ::-1] > 0).argmax(axis=1)],
        "mean": mean,
        "std": np.sqrt(np.maximum(share @ levels**2 - mean**2, 0)),
        **{name: levels[(below >= q - 1e-12).argmax(axis=1)] for name, q in QUANTILES.items()},
    }
    return {**{k: v.reshape(3, 1, 1) for k, v in out.items()}, "count": np.array([frames])}


def as_json(stats: dict[str, dict[str, np.ndarray]]) -> dict[str, Any]:
    """Return statistics as JSON holds them."""
    return {key: {name: value.tolist() for name, value in each.items()} for key, each in stats.items()}
