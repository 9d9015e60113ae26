"""One resize for training and robot."""

from __future__ import annotations

import numpy as np
import pytest

from ambient_policy.errors import ConfigError
from ambient_policy.images import to_input

RNG = np.random.default_rng(0)


def test_the_right_size_passes_untouched():
    """Not even copied: the twin's cameras come here ten times a second."""
    image = RNG.integers(0, 256, (96, 128, 3), dtype=np.uint8)
    assert to_input(image, 128, 96) is image


def test_shrinking_by_a_whole_factor_averages_blocks():
    """INTER_AREA has a closed form there: the mean of each block, rounded."""
    image = RNG.integers(0, 256, (480, 640, 3), dtype=np.uint8)
    expected = image.reshape(96, 5, 128, 5, 3).mean(axis=(1, 3))
    small = to_input(image, 128, 96)
    assert (small.dtype, small.shape) == (np.uint8, (96, 128, 3))
    assert np.abs(small - expected).max() <= 0.5 + 1e-6


def test_views_are_accepted():
    """A flipped or cropped view is not contiguous, and gives what its copy gives."""
    image = RNG.integers(0, 256, (192, 256, 3), dtype=np.uint8)[:, ::-1]
    np.testing.assert_array_equal(to_input(image, 128, 96), to_input(image.copy(), 128, 96))


def test_another_aspect_ratio_is_refused():
    """16:9 squeezed into 4:3 would move everything the policy has learnt."""
    with pytest.raises(ConfigError, match=r"camera image is 640x360 and the policy takes 128x96: aspect"):
        to_input(np.zeros((360, 640, 3), np.uint8), 128, 96)
    to_input(np.zeros((481, 640, 3), np.uint8), 128, 96)  # within 1 %


@pytest.mark.parametrize(
    "image", [np.zeros((96, 128), np.uint8), np.zeros((96, 128, 3)), np.zeros((9, 9, 4), np.uint8)]
)
def test_other_arrays_are_refused(image):
    """Grey, float and RGBA images each need a decision that is not ours."""
    with pytest.raises(ConfigError, match=r"needs uint8 \(height, width, 3\), RGB"):
        to_input(image, 128, 96)
