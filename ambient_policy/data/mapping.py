"""How the fields of another format become an episode: typed, written down, and kept with what was
imported."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import pydantic

from ambient_policy.config import StrictModel
from ambient_policy.episodes import CameraName
from ambient_policy.errors import EpisodeError

Positive = Annotated[float, pydantic.Field(gt=0)]


class Vector(StrictModel):
    """Two columns of a field as x, y in the world."""

    key: str
    columns: tuple[int, int] = (0, 1)
    """Which two columns of the field are x and y."""
    scale: float = 1.0
    """Metres per unit of the field; 1 keeps every bit."""
    offset: tuple[float, float] = (0.0, 0.0)
    """Added after scaling [m]."""
    relative_to: Literal["world", "state"] = "world"
    """`state`: the field is a step from the measured position, not a place."""


class ImageField(StrictModel):
    """One camera. Without intrinsics the focal length is taken as the image's width, which is a
    placeholder."""

    key: str
    fx: Positive | None = None
    fy: Positive | None = None
    cx: float | None = None
    cy: float | None = None


class Mapping(StrictModel):
    """What becomes what."""

    state: Vector
    """Measured tool position."""
    action: Vector
    """Tool position to be reached one period later."""
    cameras: dict[CameraName, ImageField] = pydantic.Field(default_factory=dict)
    extra: dict[str, str] = pydantic.Field(default_factory=dict)
    """Further arrays: our name to their key, taken over bit for bit. `privileged_slider_pose` is x, y,
    yaw."""
    period_s: Positive
    valid: str | None = None
    """Field that says which actions may be learnt from; without it all may."""
    task: str = "pushing"
    source: str = "imported"
    """Name of the population."""
    operator: str = "unknown"
    outcome: str = "unknown"


def vector(
    fields: dict[str, np.ndarray], rule: Vector, what: str, state: np.ndarray | None = None
) -> np.ndarray:
    """Take x, y (N, 2) float64 [m] out of an episode's fields.

    Raises:
        EpisodeError: the field is missing, or has not the columns.
    """
    if rule.key not in fields:
        raise EpisodeError(f"mapping.{what}.key is {rule.key!r}, and there is no such field; {_have(fields)}")
    array = fields[rule.key]
    array = array.reshape(len(array), -1)
    worst = max(rule.columns)
    if worst >= array.shape[1] or min(rule.columns) < 0:
        raise EpisodeError(
            f"mapping.{what}.columns is {list(rule.columns)}, and {rule.key} has {array.shape[1]} columns, "
            f"counted "
            "from 0"
        )
    out = array[:, list(rule.columns)].astype(np.float64)
    if rule.scale != 1.0:
        out = out * rule.scale
    if rule.offset != (0.0, 0.0):
        out = out + np.asarray(rule.offset)
    if rule.relative_to == "state":
        if state is None:
            raise EpisodeError(f"mapping.{what}.relative_to is 'state'; only an action can be relative")
        out = out + state
    return np.ascontiguousarray(out)


def _have(fields: dict[str, np.ndarray]) -> str:
    return "there are " + ", ".join(f"{key} {value.shape[1:]}" for key, value in fields.items())
