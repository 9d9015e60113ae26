"""Pictures for people: the goal is drawn where the T will be, and the file is what was drawn."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sim.film import FILM, FILM_CAMERA, goal_outline, save_picture, take_picture
from sim.scenario import load_scenario
from sim.starts import Start
from sim.station import Station

pytestmark = pytest.mark.sim


@pytest.fixture(scope="module")
def station() -> Station:
    return Station(load_scenario("pushing"), cameras=False, extra_cameras={FILM: FILM_CAMERA})


def test_the_outline_is_the_foot_of_a_tee_at_the_goal(station):
    """Of a T at its goal the camera sees the top and the near sides, inside the outline or above it."""
    task = station.scenario.task
    station.reset(Start(np.array(task.goal), np.array(task.tool_home)))
    dark = station.image(FILM).max(axis=2) < 60
    area = np.zeros(dark.shape, np.uint8)
    cv2.fillPoly(area, [np.round(goal_outline(station)).astype(np.int32)], 1)
    covered = dark[area > 0].mean()
    assert covered > 0.7, "the T hides most of its foot"
    rows = np.flatnonzero(dark.any(axis=1)), np.flatnonzero(area.any(axis=1))
    assert abs(int(rows[0].max()) - int(rows[1].max())) <= 2, "and stands on its nearest edge"


def test_a_picture_has_caption_and_outline_and_survives_the_disk(station, tmp_path):
    plain, drawn = station.image(FILM), take_picture(station, "trial 1")
    assert drawn.shape == plain.shape == (360, 480, 3)
    assert (drawn != plain)[:24].any()
    assert (drawn != plain)[100:].any()
    save_picture(tmp_path / "x.png", drawn)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "x.png"))[..., ::-1], drawn)
