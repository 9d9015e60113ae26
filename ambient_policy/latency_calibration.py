"""From a recorded motion to the delays of tool and cameras, and to the parameters that make up for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ambient_policy.chunks import Array
from ambient_policy.config import StrictModel
from ambient_policy.excitation import ExcitationConfig
from ambient_policy.image_delay import ImageDelay, measure_image_delay
from ambient_policy.time_delay import Delay, Track, Unknown, measure_delay


@dataclass(frozen=True)
class Pictures:
    """What came from one camera.

    Attributes:
        stamps_s: (N,) rising stamps.
        arrived_s: (N,) when each came, by the clock of the stamps.
        small: (N, h, w) grey, of `image_delay.shrink`.
    """

    stamps_s: Array
    arrived_s: Array
    small: NDArray[np.float32]


@dataclass(frozen=True)
class Recording:
    """A motion as it went by on the topics: targets sent, poses measured, pictures by camera."""

    targets: Track
    poses: Track
    cameras: Mapping[str, Pictures]


class NotMeasured(StrictModel):
    """No number, and why."""

    reason: str


class ActuationRecord(StrictModel):
    """See `time_delay.Delay`; the last three are of dead time and first-order lag, where that fits better."""

    delay_s: float
    error_s: float
    gain: float
    residual_m: float
    dead_s: float | None = None
    lag_s: float | None = None
    lag_residual_m: float | None = None


class CameraRecord(StrictModel):
    """See `image_delay.ImageDelay`."""

    delay_s: float
    error_s: float
    r2: float
    residual_m: float


class CameraTraffic(StrictModel):
    """How pictures came, whatever they show."""

    pictures: int
    rate_hz: float
    arrives_s: float
    """Median time from a picture's stamp to its arrival."""


class LatencyRecord(StrictModel):
    """The document of a calibration."""

    schema_name: Literal["ambient_policy.latency_calibration"] = "ambient_policy.latency_calibration"
    version: Literal[1] = 1
    commit: str
    clock: Literal["simulated", "wall"]
    motion: ExcitationConfig
    start_m: tuple[float, ...]
    """Where the tool stood."""
    targets: int
    poses: int
    actuation: ActuationRecord | NotMeasured
    cameras: dict[str, CameraRecord | NotMeasured]
    traffic: dict[str, CameraTraffic]


@dataclass(frozen=True)
class Calibration:
    """What a recording says."""

    actuation: Delay | Unknown
    cameras: Mapping[str, ImageDelay | Unknown]

    @classmethod
    def of(cls, recording: Recording) -> Calibration:
        """Measure all that can be measured."""
        actuation = measure_delay(recording.targets, recording.poses)
        cameras = {
            name: measure_image_delay(seen.stamps_s, seen.small, recording.poses)
            for name, seen in recording.cameras.items()
        }
        return cls(actuation, cameras)

    def records(self) -> dict[str, Any]:
        """Return the fields `actuation` and `cameras` of a record."""
        tool: ActuationRecord | NotMeasured
        if isinstance(self.actuation, Unknown):
            tool = NotMeasured(reason=self.actuation.reason)
        else:
            found, lag = self.actuation, self.actuation.lag
            tool = ActuationRecord(
                delay_s=found.delay_s,
                error_s=found.error_s,
                gain=found.gain,
                residual_m=found.residual_m,
                dead_s=lag and lag.dead_s,
                lag_s=lag and lag.lag_s,
                lag_residual_m=lag and lag.residual_m,
            )
        cameras: dict[str, CameraRecord | NotMeasured] = {}
        for name, seen in self.cameras.items():
            if isinstance(seen, Unknown):
                cameras[name] = NotMeasured(reason=seen.reason)
            else:
                cameras[name] = CameraRecord(
                    delay_s=seen.delay_s, error_s=seen.error_s, r2=seen.r2, residual_m=seen.residual_m
                )
        return {"actuation": tool, "cameras": cameras}


def traffic(seen: Pictures) -> CameraTraffic:
    """Say how a camera's pictures came."""
    spacing_s = float(np.median(np.diff(seen.stamps_s))) if len(seen.stamps_s) > 1 else np.inf
    late_s = np.median(seen.arrived_s - seen.stamps_s) if len(seen.stamps_s) else np.nan
    return CameraTraffic(pictures=len(seen.stamps_s), rate_hz=1 / spacing_s, arrives_s=float(late_s))


def parameters_yaml(record: LatencyRecord) -> str:
    """Return the lines for the file of ROS parameters; what was not measured is a comment that says why."""
    lines = ["# From `ambient-policy calibrate-latency`; merge them into the parameters of the nodes."]
    tool = record.actuation
    if isinstance(tool, NotMeasured):
        lines.append(f"# lead_s: not measured: {tool.reason}")
    else:
        lead_s = max(tool.delay_s, 0.0)
        lines += ["/**/servo:", "  ros__parameters:", f"    lead_s: {lead_s:.3f}  # +- {tool.error_s:.3f}"]
    measured = {k: c for k, c in record.cameras.items() if isinstance(c, CameraRecord)}
    if measured:
        delays = ", ".join(f"{c.delay_s:.3f}" for c in measured.values())
        errors = ", ".join(f"{c.error_s:.3f}" for c in measured.values())
        lines += ["/**/policy:", "  ros__parameters:", f"    delayed_cameras: [{', '.join(measured)}]"]
        lines += [f"    image_delay_s: [{delays}]  # +- {errors}"]
    for name, camera in record.cameras.items():
        if isinstance(camera, NotMeasured):
            lines.append(f"# image_delay_s of {name}: not measured: {camera.reason}")
    return "\n".join(lines) + "\n"
