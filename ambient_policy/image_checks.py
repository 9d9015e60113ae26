"""Pictures that must not move a robot: blank ones, and ones that stay the same while the tool moves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Image = NDArray[np.uint8]


class ImageChecks:
    """Looks at every frame before the policy does.

    A frozen driver repeats its last picture with new stamps, so age alone does not show it. A camera that
    sees a tool that has moved cannot show the same bytes as before; while the tool rests it can, in a
    simulation at least, and nothing is lost by waiting.

    Args:
        blank_std: a picture whose values (0 to 255) spread less than this shows nothing; 0: not checked.
        frozen_m: how far the tool moves [m] before a picture must have changed; 0: not checked.
    """

    def __init__(self, blank_std: float, frozen_m: float) -> None:
        self._blank_std, self._frozen_m = blank_std, frozen_m
        self._seen: dict[str, tuple[Image, Array]] = {}
        """By camera: the newest picture that differed from the one before it, and where the tool was then."""

    def fault(self, images: Mapping[str, Image], tool: Array) -> str:
        """Return what is wrong with the images (H, W, 3) of one frame, or nothing.

        Args:
            images: by camera.
            tool: (S,) where the tool was then [m].
        """
        faults = []
        for camera, image in images.items():
            spread = float(image[::4, ::4].std())
            if spread < self._blank_std:
                faults.append(
                    f"camera `{camera}` shows nothing: all values within {spread:.1f} of {image.mean():.0f}"
                )
            seen = self._seen.get(camera)
            if seen is None or not np.array_equal(seen[0], image):
                self._seen[camera] = (image, tool)
            elif self._frozen_m and (moved_m := float(np.linalg.norm(tool - seen[1]))) > self._frozen_m:
                faults.append(
                    f"camera `{camera}` is frozen: the same picture since the tool moved by {moved_m:.3f} m"
                )
        return "; ".join(faults)
