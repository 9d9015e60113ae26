"""Faults of a camera, put on a rendered image: blur, exposure, noise."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from sim.look import ImageEffects


def apply_effects(
    image: NDArray[np.uint8], effects: ImageEffects, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Blur, expose and add noise, in that order; the light is blurred by the lens before it is counted.

    Args:
        image: (h, w, 3) RGB.
        rng: of the noise.
    Returns:
        (h, w, 3) RGB; the very same array when no effect is set.
    """
    if not effects.active:
        return image
    values = image.astype(np.float32)
    if effects.blur_width:
        values = cv2.GaussianBlur(
            values, (0, 0), effects.blur_width * image.shape[1], borderType=cv2.BORDER_REPLICATE
        )
    values = values * np.float32(2.0**effects.exposure_stops)
    if effects.noise_sigma:
        values = values + rng.normal(0.0, 255 * effects.noise_sigma, image.shape).astype(np.float32)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
