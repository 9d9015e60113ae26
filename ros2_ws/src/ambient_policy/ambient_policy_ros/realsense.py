"""Colour frames of one RealSense camera. The only file that knows librealsense.

A camera is named by its serial number; a recording (`rs-record`, or the SDK's viewer) and a test pattern go
through the same library and stand for one where there is none.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from ambient_policy.config import StrictModel
from ambient_policy.episodes import CameraModel
from ambient_policy.errors import AmbientPolicyError

try:
    import pyrealsense2 as rs
except ImportError as missing:
    raise SystemExit(
        f"error: no RealSense library ({missing}); pip install 'ambient-policy[realsense]', and the system's "
        "package libusb-1.0-0"
    ) from missing


class CameraError(AmbientPolicyError):
    """A camera cannot be opened as asked, or gives no more frames."""


def _digits(value: Any) -> Any:
    """Take a number for what it stands for: ROS makes one of any parameter that looks like it."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class CameraSettings(StrictModel):
    """Which camera, and how it takes pictures."""

    source: Literal["device", "file", "pattern"] = "device"
    """A camera, a recording, or a moving test pattern."""
    serial: Annotated[str, BeforeValidator(_digits)] = ""
    """Serial number of the camera; empty takes the only one that is plugged in."""
    file: str = ""
    """Recording to play, at its own pace."""
    width: int = Field(default=640, ge=1, le=4096)
    """Pixels of a row, in a mode that the camera has."""
    height: int = Field(default=480, ge=1, le=4096)
    """Rows, in a mode that the camera has."""
    rate_hz: int = Field(default=30, ge=1, le=300)
    """Frames a second, in a mode that the camera has."""
    exposure_us: int = Field(default=0, ge=0, le=200_000)
    """0: the camera decides by itself, which makes pictures of one scene differ."""
    gain: int = Field(default=0, ge=0, le=4096)
    """Used with a fixed exposure; 0 leaves it as it is."""
    timeout_s: float = Field(default=1.0, gt=0, le=60)
    """Without a frame for this long the camera counts as lost."""


@dataclass(frozen=True)
class Frame:
    """One picture.

    Attributes:
        pixels: (h, w, 3) uint8 RGB, valid until the next one is asked for.
        device_s: the camera's own stamp [s], on a clock of its own.
        number: counts frames; a gap is a frame that was lost on the way.
    """

    pixels: NDArray[np.uint8]
    device_s: float
    number: int


@dataclass(frozen=True)
class Lens:
    """What the camera says of its own optics."""

    model: CameraModel
    distortion: tuple[float, ...]
    """k1, k2, p1, p2, k3 of the Brown-Conrady model, which ROS calls plumb_bob."""


class RealSense:
    """An open camera; a context manager.

    Args:
        settings: which one, and how.
        frame_id: of the optical frame, for the lens.

    Raises:
        CameraError: nothing to open, or not as asked; the text says what there is.
    """

    def __init__(self, settings: CameraSettings, frame_id: str) -> None:
        self._settings = settings
        self._pattern: _Pattern | None = None
        self._pipeline: Any = None
        if settings.source == "pattern":
            self._pattern = _Pattern(settings)
            stream = self._pattern.stream
            self.serial = "pattern"
        else:
            profile = self._start()
            stream = profile.get_stream(rs.stream.color)
            self.serial = profile.get_device().get_info(rs.camera_info.serial_number)
        self.lens = _lens(stream.as_video_stream_profile(), frame_id)

    def __enter__(self) -> RealSense:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the camera."""
        if self._pattern is not None:
            self._pattern.close()
        elif self._pipeline is not None:
            self._pipeline.stop()
            self._pipeline = None

    def wait(self) -> Frame:
        """Return the next frame.

        Raises:
            CameraError: none came in time; the camera is gone, or its recording has ended.
        """
        timeout_ms = round(1e3 * self._settings.timeout_s)
        try:
            if self._pattern is not None:
                frame = self._pattern.queue.wait_for_frame(timeout_ms)
            else:
                frame = self._pipeline.wait_for_frames(timeout_ms).get_color_frame()
        except RuntimeError as error:
            raise CameraError(f"no frame for {self._settings.timeout_s:g} s ({error})") from error
        pixels = np.asanyarray(frame.get_data())
        return Frame(pixels, 1e-3 * frame.get_timestamp(), frame.get_frame_number())

    def _start(self) -> Any:
        settings, config, self._pipeline = self._settings, rs.config(), rs.pipeline()
        if settings.source == "file":
            if not Path(settings.file).is_file():
                raise CameraError(f"recording {settings.file!r} is not there; set `file`")
            config.enable_device_from_file(settings.file, repeat_playback=False)
        else:
            if settings.serial:
                config.enable_device(settings.serial)
            wanted = (settings.width, settings.height, rs.format.rgb8, settings.rate_hz)
            config.enable_stream(rs.stream.color, *wanted)
        try:
            profile = self._pipeline.start(config)
            if settings.source == "device":
                _expose(profile.get_device().first_color_sensor(), settings)
        except RuntimeError as error:
            raise CameraError(self._refusal(error)) from error
        return profile

    def _refusal(self, error: RuntimeError) -> str:
        settings = self._settings
        if settings.source == "file":
            return f"recording {settings.file!r} cannot be played ({error})"
        there = list(rs.context().query_devices())
        serials = [device.get_info(rs.camera_info.serial_number) for device in there]
        if not serials:
            return "no RealSense camera is plugged in, or its driver may not open it (udev rules)"
        if settings.serial and settings.serial not in serials:
            return f"camera {settings.serial!r} is not plugged in; there is {', '.join(serials)}"
        device = there[serials.index(settings.serial) if settings.serial else 0]
        known = sorted({_mode(p) for p in device.first_color_sensor().get_stream_profiles() if _is_rgb(p)})
        return (
            f"{settings.width}x{settings.height} at {settings.rate_hz} Hz is refused ({error}); camera "
            f"{serials[there.index(device)]} has {', '.join(known)}"
        )


def _is_rgb(profile: Any) -> bool:
    return bool(profile.stream_type() == rs.stream.color and profile.format() == rs.format.rgb8)


def _mode(profile: Any) -> str:
    video = profile.as_video_stream_profile()
    return f"{video.width()}x{video.height()} at {video.fps()} Hz"


def _expose(sensor: Any, settings: CameraSettings) -> None:
    fixed = settings.exposure_us > 0
    sensor.set_option(rs.option.enable_auto_exposure, float(not fixed))
    if fixed:
        # A colour sensor of its own counts in 100 us and ends at 10000; the stereo module, which is the
        # colour sensor of a D405, counts in us and ends far above.
        unit_us = 100 if sensor.get_option_range(rs.option.exposure).max <= 10_000 else 1
        sensor.set_option(rs.option.exposure, settings.exposure_us / unit_us)
        if settings.gain:
            sensor.set_option(rs.option.gain, settings.gain)


def _lens(stream: Any, frame_id: str) -> Lens:
    i = stream.get_intrinsics()
    model = CameraModel(
        width=i.width, height=i.height, fx=i.fx, fy=i.fy, cx=i.ppx, cy=i.ppy, frame_id=frame_id
    )
    return Lens(model, tuple(i.coeffs))


class _Pattern:
    """A software device of the library that is fed stripes, which move with every frame."""

    def __init__(self, settings: CameraSettings) -> None:
        self._settings = settings
        width, height = settings.width, settings.height
        intrinsics = rs.intrinsics()
        intrinsics.width, intrinsics.height = width, height
        intrinsics.fx = intrinsics.fy = 616 / 640 * width
        intrinsics.ppx, intrinsics.ppy = (width - 1) / 2, (height - 1) / 2
        intrinsics.model = rs.distortion.none
        intrinsics.coeffs = [0.0] * 5
        description = rs.video_stream()
        description.type, description.index, description.uid = rs.stream.color, 0, 1
        description.width, description.height, description.fps = width, height, settings.rate_hz
        description.fmt, description.bpp, description.intrinsics = rs.format.rgb8, 3, intrinsics
        self._device = rs.software_device()
        self._sensor = self._device.add_sensor("Color")
        self.stream = self._sensor.add_video_stream(description)
        self.queue = rs.frame_queue(4)
        self._sensor.open(self.stream)
        self._sensor.start(self.queue)
        self._stop = threading.Event()
        self._feeder = threading.Thread(target=self._feed, daemon=True)
        self._feeder.start()

    def close(self) -> None:
        self._stop.set()
        self._feeder.join()
        self._sensor.stop()
        self._sensor.close()

    def _feed(self) -> None:
        settings = self._settings
        period_s, began = 1 / settings.rate_hz, time.monotonic()
        columns = np.arange(settings.width)
        number = 0
        while not self._stop.wait(max(0.0, began + number * period_s - time.monotonic())):
            row = ((columns[:, None] + 4 * number) * [1, 2, 4] % 256).astype(np.uint8)
            frame = rs.software_video_frame()
            frame.pixels = np.ascontiguousarray(np.broadcast_to(row, (settings.height, *row.shape)))
            frame.stride, frame.bpp = 3 * settings.width, 3
            frame.timestamp, frame.domain = 1e3 * number * period_s, rs.timestamp_domain.hardware_clock
            number += 1
            frame.frame_number, frame.profile = number, self.stream.as_video_stream_profile()
            self._sensor.on_video_frame(frame)
