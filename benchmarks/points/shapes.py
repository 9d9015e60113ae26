"""A thin spiral, and the same spiral drawn by someone who only knows straight lines.

The clean points lie along a smooth spiral of a turn and a quarter. The corrupt ones are right about where
along it they are and how many lie where, and wrong about its shape: every sixth of it is replaced by its
chord. The corruption is not noise: it depends on the place alone, vanishes at the corners and is largest
between them.
"""

from __future__ import annotations

import numpy as np

TURNS = 1.25
INNER, OUTER = 0.3, 1.0
THICKNESS = 0.03
"""Standard deviation of both kinds of points around their line."""
CHORDS = 6


def spiral(t: np.ndarray) -> np.ndarray:
    """Give the spiral's points (N, 2) at t (N,) from 0, inside, to 1."""
    radius = INNER + (OUTER - INNER) * t
    angle = 2 * np.pi * TURNS * t
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)


def chords(t: np.ndarray) -> np.ndarray:
    """Give the points (N, 2) of the spiral's chords at t (N,)."""
    corner = np.minimum(np.floor(t * CHORDS), CHORDS - 1)
    along = (t * CHORDS - corner)[:, None]
    return (1 - along) * spiral(corner / CHORDS) + along * spiral((corner + 1) / CHORDS)


def draw_clean(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw clean points (count, 2)."""
    return spiral(rng.random(count)) + THICKNESS * rng.standard_normal((count, 2))


def draw_corrupt(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw corrupt points (count, 2)."""
    return chords(rng.random(count)) + THICKNESS * rng.standard_normal((count, 2))


def off_spiral(points: np.ndarray) -> np.ndarray:
    """Measure the distance (N,) of points (N, 2) to the spiral's line."""
    from scipy.spatial import cKDTree

    line = spiral(np.linspace(0, 1, 20_001))  # 0.0003 apart, a hundredth of the thickness
    return cKDTree(line).query(points)[0]
