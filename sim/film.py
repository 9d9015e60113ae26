"""The camera that films a trial for people: over the table's edge, wide enough for the whole task."""

from __future__ import annotations

import cv2
import numpy as np

from sim.scenario import Camera

FILM_CAMERA = Camera(
    parent="world",
    rpy=(-2.45, 0.0, 1.5708),
    xyz=(1.10, -0.03, 0.55),
    fx=560.0,
    fy=560.0,
    cx=319.5,
    cy=239.5,
    scale=0.75,
)
"""480x360 pixels from the side of the overhead camera, a little further back."""


def caption(frame: np.ndarray, text: str) -> np.ndarray:
    """Return a copy of `frame` (h, w, 3) with one line of text at the top left."""
    out = np.ascontiguousarray(frame.copy())
    for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(out, text, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, width, cv2.LINE_AA)
    return out
