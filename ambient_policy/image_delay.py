"""How long before its stamp a picture was exposed, from any pictures in which the tool's motion shows.

No markers and no calibration: small grey pictures are regressed on the tool's position, once for each delay
that may be the true one, and the true one predicts best what it has not seen. A camera beside the robot sees
the tool move, one on the wrist sees the world move; for some 20 mm both are nearly linear in the pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ambient_policy.chunks import Array
from ambient_policy.time_delay import (
    BLOCKS,
    LARGEST_ERROR_S,
    LEAST_MOTION_M,
    Track,
    Unknown,
    blocks_of,
    delay_grid,
    jackknife,
    lowest,
    rms_m,
)

WIDTH = 64
"""Of a small picture, at most."""
LEAST_IMAGES = 60
LEAST_R2 = 0.7
"""Held-out share of the tool's variance that the pictures must predict."""
RIDGES = np.geomspace(1e-4, 1.0, 5)
"""Ridge penalties that are tried, as shares of the pictures' mean variance."""


@dataclass(frozen=True)
class ImageDelay:
    """A camera whose pictures tell where the tool was.

    Attributes:
        delay_s: by how much its stamps are later than what it shows.
        error_s: its standard error, delete-one-block jackknife.
        r2: share of the tool's variance that pictures predict, which the predictor has not seen.
        residual_m: what is left, root mean square over both axes.
        predicted: (N, 2) world [m], where each picture says that the tool was; held out.
    """

    delay_s: float
    error_s: float
    r2: float
    residual_m: float
    predicted: Array


def shrink(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return a small grey picture of (h, w, 3): means over squares, at most `WIDTH` of them wide."""
    side = -(-image.shape[1] // WIDTH)
    rows, columns = image.shape[0] // side, image.shape[1] // side
    cut = image[: rows * side, : columns * side].reshape(rows, side, columns, side, -1)
    return cut.mean(axis=(1, 3, 4), dtype=np.float32)


def measure_image_delay(stamps_s: Array, pictures: NDArray[np.float32], pose: Track) -> ImageDelay | Unknown:
    """Return by how much the stamps (N,) of small pictures (N, h, w) are later than the motion in them.

    Held out are stretches of time, not single pictures: neighbours are too much alike.
    """
    if len(stamps_s) < LEAST_IMAGES:
        return Unknown(f"{len(stamps_s)} pictures came during the motion, needs {LEAST_IMAGES} or more")
    grid = delay_grid()
    tool = np.stack([pose.at(stamps_s - d) for d in grid], axis=1)  # (N, D, 2)
    motion_m = rms_m(tool - tool.mean(axis=0))
    if motion_m < LEAST_MOTION_M:
        return Unknown(
            f"the tool moved by {1e3 * motion_m:.2f} mm (root mean square), needs "
            f"{1e3 * LEAST_MOTION_M:.0f} or more"
        )
    flat = pictures.reshape(len(pictures), -1).astype(float)
    flat -= flat.mean(axis=0)
    alike = flat @ flat.T
    variance = float(np.trace(alike)) / len(alike)
    if variance == 0:
        return Unknown("all its pictures are the same, to the last bit")
    block = blocks_of(stamps_s)
    tries = [_held_out(alike, ridge * variance, tool, block) for ridge in RIDGES]
    wrong = [_missed(tool, predicted, block) for predicted in tries]
    predicted, missed = min(zip(tries, wrong, strict=True), key=lambda pair: pair[1].mean(axis=0).min())
    delay_s, at_end = lowest(grid, missed.mean(axis=0))
    r2 = 1 - float(missed.mean(axis=0).min())
    if r2 < LEAST_R2:
        return Unknown(
            f"its pictures predict {max(r2, 0):.2f} of the tool's motion, needs {LEAST_R2} or more"
        )
    if at_end:
        return Unknown(f"the best delay is at the end of what is searched, {grid[0]:g} to {grid[-1]:.1f} s")
    error_s = jackknife([lowest(grid, np.delete(missed, b, axis=0).mean(axis=0))[0] for b in range(BLOCKS)])
    if error_s > LARGEST_ERROR_S:
        return Unknown(f"{delay_s:.3f} s is uncertain by {error_s:.3f} s, needs {LARGEST_ERROR_S} or less")
    nearest = int(np.argmin(np.abs(grid - delay_s)))
    best = predicted[:, nearest]
    return ImageDelay(delay_s, error_s, r2, rms_m(best - tool[:, nearest]), best)


def _held_out(alike: Array, ridge: float, tool: Array, block: np.ndarray) -> Array:
    """Predict each block's tool positions (N, D, 2) from its pictures by ridge regression on the others.

    `alike` (N, N) has the inner products of the pictures, so the cost does not depend on their size.
    """
    predicted = np.empty_like(tool)
    for b in range(BLOCKS):
        test, train = block == b, block != b
        inverse = np.linalg.solve(
            alike[np.ix_(train, train)] + ridge * np.eye(train.sum()), alike[train][:, test]
        )
        mean = tool[train].mean(axis=0)
        predicted[test] = np.einsum("ij,idk->jdk", inverse, tool[train] - mean) + mean
    return predicted


def _missed(tool: Array, predicted: Array, block: np.ndarray) -> Array:
    """Return the share (B, D) of the tool's mean variance that the predictions miss, by block and delay."""
    wrong = np.square(predicted - tool).sum(axis=2)
    variance = np.square(tool - tool.mean(axis=0)).sum(axis=2).mean(axis=0)
    return np.stack([wrong[block == b].mean(axis=0) for b in range(BLOCKS)]) / variance
