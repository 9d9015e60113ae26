"""Camera image to policy input: one function for the training cache and the robot, so they cannot differ."""

from __future__ import annotations

import numpy as np

from ambient_policy.errors import ConfigError

ASPECT_TOLERANCE = 0.01


def to_input(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resize a camera image to what the encoder takes.

    Args:
        image: (h, w, 3) uint8, RGB.
        width, height: wanted size [px]; same aspect ratio as the image within 1 %.
    Returns:
        (height, width, 3) uint8; the very same array when the size already fits.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ConfigError(f"camera image is {image.dtype} {image.shape}, needs uint8 (height, width, 3), RGB")
    have_h, have_w = image.shape[:2]
    if (have_w, have_h) == (width, height):
        return image
    if abs(have_w * height / (have_h * width) - 1) > ASPECT_TOLERANCE:
        raise ConfigError(
            f"camera image is {have_w}x{have_h} and the policy takes {width}x{height}: aspect ratios differ "
            f"by more than {ASPECT_TOLERANCE:.0%}, resizing would distort; choose a camera mode of that ratio"
        )
    import cv2  # here, not above: the twin's cameras already have the right size and need no resizing

    # AREA averages the pixels that fall together; LINEAR would skip most of them at 640 -> 128 and alias.
    return cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=cv2.INTER_AREA)
