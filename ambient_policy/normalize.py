"""Scale vectors to the range that networks and noise levels are defined in, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ambient_policy.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Normalizer:
    """Affine map per dimension: normalised = (x - offset) / scale.

    Attributes:
        offset, scale: (D,) float64, in the unit of x; every scale is positive.
    """

    offset: np.ndarray
    scale: np.ndarray

    def __post_init__(self) -> None:
        for name in ("offset", "scale"):
            array = np.array(getattr(self, name), dtype=np.float64)
            if array.ndim != 1 or not np.isfinite(array).all():
                raise ConfigError(
                    f"normalizer {name} is {array.tolist()}, needs a flat list of finite numbers"
                )
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        if self.offset.shape != self.scale.shape:
            raise ConfigError(
                f"normalizer has {self.offset.size} offsets and {self.scale.size} scales, needs as many"
            )
        if not (self.scale > 0).all():
            raise ConfigError(f"normalizer scale is {self.scale.tolist()}, needs every value above 0")

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Normalise x (..., D)."""
        return (x - self.offset) / self.scale

    def invert(self, x: np.ndarray) -> np.ndarray:
        """Undo `apply` on x (..., D)."""
        return x * self.scale + self.offset

    def to_dict(self) -> dict[str, list[float]]:
        """Give plain lists, for a JSON or YAML file."""
        return {"offset": self.offset.tolist(), "scale": self.scale.tolist()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Normalizer:
        """Read what `to_dict` gave."""
        return cls(np.asarray(data["offset"], np.float64), np.asarray(data["scale"], np.float64))


def fit_range(
    x: np.ndarray, low: Sequence[float] | None = None, high: Sequence[float] | None = None
) -> Normalizer:
    """Fit each dimension of x (..., D) to [-1, 1].

    `low` and `high` (D,) replace the measured extremes, for instance by the workspace's bounds. A dimension
    that never changes keeps its unit and is only shifted to 0.
    """
    flat = _flat(x)
    least = flat.min(axis=0) if low is None else np.asarray(low, np.float64)
    most = flat.max(axis=0) if high is None else np.asarray(high, np.float64)
    half = (most - least) / 2
    return Normalizer((most + least) / 2, np.where(half > 0, half, 1.0))


def fit_isotropic(x: np.ndarray, target_std: float = 0.5) -> Normalizer:
    """Fit one scale to all dimensions of x (..., D) and leave zero where it is.

    For actions relative to the tool: "stay" remains 0, directions keep their angles, and one sigma means the
    same distance along every axis. The root mean square over all entries becomes `target_std`, the data scale
    that the noise levels assume (Karras et al. 2022 use 0.5).
    """
    flat = _flat(x)
    if not target_std > 0:
        raise ConfigError(f"target_std is {target_std}, needs a value above 0")
    rms = float(np.sqrt(np.mean(flat**2)))
    if rms == 0:
        raise ConfigError("every value to normalise is 0; is the tool moving in these episodes?")
    return Normalizer(np.zeros(flat.shape[1]), np.full(flat.shape[1], rms / target_std))


def _flat(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, np.float64)
    if x.ndim < 2 or x.size == 0 or not np.isfinite(x).all():
        raise ConfigError(
            f"cannot fit a normalizer to data of shape {x.shape}: needs finite values, (..., D)"
        )
    return x.reshape(-1, x.shape[-1])
