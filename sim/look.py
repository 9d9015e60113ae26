"""What the cameras of a scenario are and what they see: cameras, lights, colours, and faults of the image."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ambient_policy.config import StrictModel

Vec2 = tuple[float, float]
Vec3 = tuple[float, float, float]


class Light(StrictModel):
    """A directional light."""

    position: Vec3
    """It shines from here towards the origin of `frame`."""
    colour: Vec3 = (1.0, 1.0, 1.0)
    intensity: float = Field(default=1.0, ge=0)
    frame: Literal["world", "camera"] = "world"
    """`camera`: the optical frame (z forward, y down), so that the light goes where the camera goes."""


class Camera(StrictModel):
    """One colour camera; intrinsics as calibrated at `calibrated_size`, rendered `scale` times that size."""

    parent: Literal["world", "flange"]
    rpy: Vec3
    """Roll, pitch, yaw [rad] of the optical frame (z forward, y down) in the parent."""
    xyz: Vec3
    """Position in the parent [m]. `flange` is link 7 of the reference's arm: 0.22 m above the tip, z down."""
    fx: float = 616.704
    fy: float = 616.777
    cx: float = 318.05
    cy: float = 244.107
    calibrated_size: tuple[int, int] = (640, 480)
    scale: float = Field(default=1.0, gt=0, le=1)
    shadows: bool = False
    lights: tuple[Light, ...] | None = None
    """Of this camera's renderer alone. None: those of `look`."""
    background: Vec3 | None = None
    """Of this camera's renderer alone. None: that of `look`."""


class ImageEffects(StrictModel):
    """What a real camera adds to a clean picture, in the order in which it happens."""

    blur_width: float = Field(default=0.0, ge=0, lt=0.1)
    """Standard deviation of a Gaussian blur, as a share of the image's width."""
    exposure_stops: float = Field(default=0.0, ge=-4, le=4)
    """Brightness is multiplied by two to this power, then clipped."""
    noise_sigma: float = Field(default=0.0, ge=0, lt=1)
    """Standard deviation of noise per pixel and channel, as a share of full scale."""

    @property
    def active(self) -> bool:
        """Whether anything is done to the image at all."""
        return bool(self.blur_width or self.exposure_stops or self.noise_sigma)


class Look(StrictModel):
    """Colours and lights; RGB in [0, 1]."""

    slider: Vec3 = (0.15, 0.15, 0.15)
    pusher: Vec3 = (1.0, 0.345, 0.1)
    table: Vec3 = (0.7, 0.7, 0.7)
    background: Vec3 = (0.55, 0.45, 0.35)
    lights: tuple[Light, ...] = ()
    """None: one white light at each camera."""
    effects: ImageEffects = ImageEffects()
