"""Pictures of the twin for people: a wide view of the table, with the goal drawn on it and a line of text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sim import se2
from sim.cameras import camera_model
from sim.scenario import Camera
from sim.station import Station

FILM = "film"
"""Name under which a station must have the camera: `Station(scenario, extra_cameras={FILM: FILM_CAMERA})`."""
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
_GOAL_COLOUR = (40, 150, 60)


def take_picture(station: Station, text: str = "") -> NDArray[np.uint8]:
    """Render the film camera now: (360, 480, 3) RGB, the goal outlined, `text` at the top left."""
    picture = Image.fromarray(station.image(FILM))
    draw = ImageDraw.Draw(picture)
    outline = goal_outline(station)
    draw.line([*outline, outline[0]], fill=_GOAL_COLOUR, width=2)
    if text:
        font = ImageFont.load_default(size=15)
        draw.text((8, 6), text, fill="white", font=font, stroke_width=2, stroke_fill="black")
    return np.asarray(picture)


def goal_outline(station: Station) -> list[tuple[float, float]]:
    """Project the corners of the T at its goal, on the table, into the film's picture (column, row)."""
    scenario, model = station.scenario, camera_model(FILM, FILM_CAMERA)
    X_CW = station.camera_pose(FILM).inverse()
    corners = []
    for corner in scenario.slider.tee.outline:
        p = X_CW.multiply(np.array([*se2.to_world(np.asarray(scenario.task.goal), corner), 0.0]))
        corners.append((model.fx * p[0] / p[2] + model.cx, model.fy * p[1] / p[2] + model.cy))
    return corners


def save_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture (h, w, 3) RGB as PNG."""
    Image.fromarray(picture).save(path)
