"""A small known motion that shows how late a robot and its cameras are: tones of several frequencies."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from ambient_policy.chunks import Array
from ambient_policy.config import StrictModel
from ambient_policy.errors import ConfigError
from ambient_policy.limits import MotionLimits

TONES = 6
"""For each axis."""


class ExcitationConfig(StrictModel):
    """How the tool is moved about where it stands."""

    duration_s: float = Field(default=20.0, ge=4)
    amplitude_m: float = Field(default=0.02, gt=0, le=0.05)
    """The tool goes no further than this from where it stands, along each axis."""
    speed_m_s: float = Field(default=0.1, gt=0)
    """It is never faster than this, nor than the cell's limits."""
    low_hz: float = Field(default=0.15, gt=0)
    high_hz: float = Field(default=1.2, gt=0)
    """Slow enough for most robots to follow; fast enough that 10 ms are seen (0.3 mm, typically)."""
    ramp_s: float = Field(default=1.5, gt=0)
    """It grows from rest in this time, and dies away in it."""
    seed: int = Field(default=0, ge=0)
    """Of the phases."""


def excitation(config: ExcitationConfig, start: Array, limits: MotionLimits, period_s: float) -> Array:
    """Return the motion, (N, 2) world [m], one position a period; the first and the last are `start`.

    Each axis has frequencies of its own between `low_hz` and `high_hz`, so that one is not taken for the
    other, and no shift in time but the true one fits all of them.

    Args:
        start: (2,) where the tool is [m].

    Raises:
        ConfigError: it would leave the workspace.
    """
    count = round(config.duration_s / period_s)
    time_s = period_s * np.arange(count + 1)
    tones_hz = np.geomspace(config.low_hz, config.high_hz, 2 * TONES).reshape(TONES, 2)
    phases = np.random.default_rng(config.seed).uniform(0, 2 * np.pi, tones_hz.shape)
    motion = np.sin(2 * np.pi * time_s[:, None, None] * tones_hz + phases).sum(axis=1)
    to_end_s = np.minimum(time_s, time_s[-1] - time_s)
    motion *= (0.5 - 0.5 * np.cos(np.pi * np.clip(to_end_s / config.ramp_s, 0, 1)))[:, None]
    motion *= config.amplitude_m / np.abs(motion).max()
    motion *= min(1.0, 1 / _strain(motion, limits, config.speed_m_s, period_s))
    path = start + motion
    low, high = path.min(axis=0), path.max(axis=0)
    if np.any(low < limits.workspace_min) or np.any(high > limits.workspace_max):
        raise ConfigError(
            f"from {np.round(start, 3).tolist()} m the motion reaches {np.round(low, 3).tolist()} to "
            f"{np.round(high, 3).tolist()} m, the workspace is {list(limits.workspace_min)} to "
            f"{list(limits.workspace_max)}; move the tool inwards, or take a smaller --motion.amplitude-m"
        )
    return path


def _strain(motion: Array, limits: MotionLimits, speed_m_s: float, period_s: float) -> float:
    """Return by how much the motion passes the strictest of its limits; 1 is just allowed."""
    allowed = (
        min(speed_m_s, limits.max_speed_m_s),
        limits.max_acceleration_m_s2,
        limits.max_jerk_m_s3,
    )
    largest, change = 0.0, motion
    for limit in allowed:
        change = np.diff(change, axis=0) / period_s
        if limit is not None:
            largest = max(largest, float(np.linalg.norm(change, axis=1).max()) / limit)
    return largest
