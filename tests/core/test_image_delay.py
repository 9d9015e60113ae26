"""Late stamps of cameras, found again from pictures of a scene that moves by known amounts."""

from __future__ import annotations

import re

import numpy as np
import pytest

from ambient_policy.image_delay import ImageDelay, measure_image_delay, shrink
from ambient_policy.time_delay import Track, Unknown
from tests.core.test_time_delay import motion, sampled

PIXEL_M = 0.008
"""As of the twin's overhead camera: the whole motion is a few pixels."""


def blobs(positions: np.ndarray, *, moving: bool = True, noise: float = 2.0) -> np.ndarray:
    """Draw (N, 24, 32) pictures: a bright spot that goes with the tool among dark ones that stay."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:24, :32]
    spot = positions[:, :, None, None] / PIXEL_M if moving else np.zeros((len(positions), 2, 1, 1))
    centre = positions.mean(axis=0)[:, None, None] / PIXEL_M
    x, y = (spot[:, k] - (centre[k] if moving else 0.0) for k in (0, 1))
    pictures = 120 + 90 * np.exp(-((columns - 17.3 - x) ** 2 + (rows - 11.6 - y) ** 2) / (2 * 1.5**2))
    pictures -= 60 * np.exp(-((columns - 5) ** 2 + (rows - 6) ** 2) / 20)
    return (pictures + noise * rng.standard_normal(pictures.shape)).astype(np.float32)


def stamps(track: Track, rate_hz: float) -> np.ndarray:
    """Return jittering times of pictures, of which one in twenty is lost."""
    return sampled(track, rate_hz, 5).times_s


@pytest.mark.parametrize(("delay_s", "rate_hz"), [(0.0, 10), (0.1, 10), (0.3, 10), (0.033, 30), (0.2, 30)])
def test_a_late_stamp_is_found_to_a_few_milliseconds(delay_s: float, rate_hz: float) -> None:
    true = motion(duration_s=20.0)
    shown_s = stamps(true, rate_hz)
    pose = sampled(true, 100, 2, noise_m=1e-4)
    found = measure_image_delay(shown_s + delay_s, blobs(true.at(shown_s)), pose)
    assert isinstance(found, ImageDelay)
    assert found.delay_s == pytest.approx(delay_s, abs=4e-3)
    assert found.error_s < 4e-3
    assert found.r2 > 0.95
    assert found.predicted.shape == (len(shown_s), 2)
    assert np.sqrt(np.mean((found.predicted - true.at(shown_s)) ** 2)) == pytest.approx(
        found.residual_m, rel=0.2
    )


@pytest.mark.parametrize(
    ("draw", "reason"),
    [
        (lambda p: blobs(p, moving=False), r"its pictures predict 0\.\d\d of the tool's motion, needs 0.7"),
        (lambda p: blobs(0 * p, noise=0.0, moving=False), "all its pictures are the same"),
        (lambda p: blobs(p)[:40], "40 pictures came during the motion, needs 60 or more"),
    ],
)
def test_pictures_that_do_not_show_the_motion_give_no_number(draw, reason: str) -> None:
    true = motion(duration_s=20.0)
    pictures = draw(true.at(stamps(true, 10)))
    found = measure_image_delay(stamps(true, 10)[: len(pictures)], pictures, true)
    assert isinstance(found, Unknown)
    assert re.search(reason, found.reason), found.reason


def test_a_tool_that_stood_still_gives_no_number() -> None:
    true = motion(duration_s=20.0)
    still = Track(true.times_s, np.full_like(true.positions, 0.1))
    found = measure_image_delay(stamps(true, 10), blobs(true.at(stamps(true, 10))), still)
    assert isinstance(found, Unknown)
    assert "the tool moved by 0.00 mm" in found.reason


def test_a_small_picture_has_the_means_of_squares() -> None:
    image = np.zeros((4, 130, 3), np.uint8)
    image[:3, :3] = 90
    image[0, 3, 0] = 27
    small = shrink(image)
    assert small.shape == (1, 43)
    np.testing.assert_allclose(small[0, :3], [90, 1, 0])
