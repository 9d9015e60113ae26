"""Planar rigid motions as arrays `(..., 3)` of x [m], y [m], yaw [rad]."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def wrap(angle_rad: ArrayLike) -> Array:
    """Bring angles into [-pi, pi)."""
    return (np.asarray(angle_rad, dtype=float) + np.pi) % (2 * np.pi) - np.pi


def exp(twist: Array, distance: Array | float) -> Array:
    """Move along a constant body twist.

    Args:
        twist: (..., 3) body velocity (vx, vy, omega), per unit of `distance`.
        distance: (...) how far to go, same units.
    Returns:
        (..., 3) displacement in the body frame at the start.
    Source: exponential of se(2), e.g. Lynch & Park, Modern Robotics, eq. 3.92 in the plane.
    """
    angle, vx, vy = (np.asarray(twist[..., i] * distance) for i in (2, 0, 1))
    small = np.abs(angle) < 1e-8
    safe = np.where(small, 1.0, angle)
    a = np.where(small, 1 - angle**2 / 6, np.sin(safe) / safe)
    b = np.where(small, angle / 2, (1 - np.cos(safe)) / safe)
    return np.stack([a * vx - b * vy, b * vx + a * vy, angle], -1)


def compose(pose: Array, displacement: Array) -> Array:
    """Apply a displacement, given in the body frame of `pose`; shapes (..., 3) broadcast."""
    c, s = np.cos(pose[..., 2]), np.sin(pose[..., 2])
    return np.stack(
        [
            pose[..., 0] + c * displacement[..., 0] - s * displacement[..., 1],
            pose[..., 1] + s * displacement[..., 0] + c * displacement[..., 1],
            pose[..., 2] + displacement[..., 2],
        ],
        -1,
    )


def to_body(pose: Array, point: Array) -> Array:
    """Express a world point (2,) in the frame of `pose` (3,)."""
    c, s = np.cos(pose[2]), np.sin(pose[2])
    d = np.asarray(point) - pose[:2]
    return np.array([c * d[0] + s * d[1], -s * d[0] + c * d[1]])


def to_world(pose: Array, point: Array) -> Array:
    """Express a body point (2,) of `pose` (3,) in the world."""
    c, s = np.cos(pose[2]), np.sin(pose[2])
    return pose[:2] + np.array([c * point[0] - s * point[1], s * point[0] + c * point[1]])
