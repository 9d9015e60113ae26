"""Where a point of the table appears in a camera that stands in the world."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ambient_policy.episodes import CameraModel, EpisodeMeta


def world_camera(meta: EpisodeMeta, camera: str) -> tuple[CameraModel, np.ndarray] | None:
    """Return the camera's model and its pose X_WC (4, 4), if the episode's scenario says where it stands.

    None for a camera that moves with the tool, and for scenarios of another kind.
    """
    entry = _mapping(_mapping(meta.scenario).get("cameras")).get(camera)
    entry = _mapping(entry)
    if entry.get("parent") != "world" or camera not in meta.cameras:
        return None
    rpy, xyz = _vec3(entry.get("rpy")), _vec3(entry.get("xyz"))
    if rpy is None or xyz is None:
        return None
    X_WC = np.eye(4)
    X_WC[:3, :3] = rotation(*rpy)
    X_WC[:3, 3] = xyz
    return meta.cameras[camera], X_WC


def rotation(roll: float, pitch: float, yaw: float) -> np.ndarray:
    """Return R (3, 3) = Rz(yaw) Ry(pitch) Rx(roll), angles in rad."""
    (sr, cr), (sp, cp), (sy, cy) = ((math.sin(a), math.cos(a)) for a in (roll, pitch, yaw))
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


def to_pixels(points: np.ndarray, model: CameraModel, X_WC: np.ndarray) -> np.ndarray:
    """Project world points (N, 3) [m] to pixels (N, 2), x right and y down; nan behind the camera."""
    inside = (points - X_WC[:3, 3]) @ X_WC[:3, :3]
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = inside[:, :2] / inside[:, 2:]
    scaled[inside[:, 2] <= 0] = np.nan
    return scaled * (model.fx, model.fy) + (model.cx, model.cy)


def tip_height_m(meta: EpisodeMeta) -> float:
    """Return the height of the tool's tip above the table, where the scenario says it; else 0."""
    height = _mapping(_mapping(meta.scenario).get("pusher")).get("tip_height_m", 0.0)
    return float(height) if isinstance(height, (int, float)) else 0.0


def goal(meta: EpisodeMeta) -> tuple[float, float, float] | None:
    """Return the goal x, y [m] and yaw [rad] of the scenario, if it has one."""
    return _vec3(_mapping(_mapping(meta.scenario).get("task")).get("goal"))


def _vec3(found: Any) -> tuple[float, float, float] | None:
    """Return three numbers, or None for anything else: a scenario may hold what it likes."""
    if not isinstance(found, (list, tuple)) or len(found) != 3:
        return None
    if not all(isinstance(value, (int, float)) for value in found):
        return None
    return float(found[0]), float(found[1]), float(found[2])


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
