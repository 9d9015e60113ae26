"""Pictures that must not move a robot: blank ones, and ones that stay the same while the tool moves."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Image = NDArray[np.uint8]


class ImageChecks:
    """Looks at every frame before the policy does.

    A frozen driver repeats its last picture with new stamps, so age alone does not show it. A camera that
    stands still and sees the tool move cannot show the same bytes as before; while the tool rests it can, in
    a simulation at least. A camera on the tool can show a bare simulated table for 0.3 m without a changed
    bit (35 of 57 trials of the shipped policy had that), so name one only where its pictures have noise.

    Args:
        blank_std: a picture whose values (0 to 255) spread less than this shows nothing; 0: not checked.
        frozen_m: how far the tool moves [m] before the picture of a camera below must have changed.
        frozen_cameras: which cameras are looked at for that.
    """

    def __init__(self, blank_std: float, frozen_m: float, frozen_cameras: Collection[str]) -> None:
        self._blank_std, self._frozen_m, self._frozen_cameras = blank_std, frozen_m, frozen_cameras
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
            if camera not in self._frozen_cameras:
                continue
            seen = self._seen.get(camera)
            if seen is None or not np.array_equal(seen[0], image):
                self._seen[camera] = (image, tool)
            elif (moved_m := float(np.linalg.norm(tool - seen[1]))) > self._frozen_m:
                faults.append(
                    f"camera `{camera}` is frozen: the same picture since the tool moved by {moved_m:.3f} m"
                )
        return "; ".join(faults)
