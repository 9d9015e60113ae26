"""Lossless RGB video: a camera's frames in one small file that any player shows."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

# Measured on 18 clips of the twin, 128x96, one thread, bytes and CPU time a frame: fast 647 B 0.49 ms
# (an eighth of a replay), veryfast 728 B 0.39 ms, superfast 871 B 0.26 ms, ultrafast 1084 B 0.16 ms, and
# ultrafast with CABAC, which it leaves out, 860 B 0.14 ms. FFV1 searches no motion: files 30 times as large.
CODEC = "libx264rgb"
_OPTIONS = {"qp": "0", "preset": "ultrafast", "x264-params": "cabac=1"}


def write_video(path: Path, frames: np.ndarray, period_s: float) -> None:
    """Write frames (N, h, w, 3) uint8 RGB without loss; odd sizes are fine. One frame lasts `period_s`."""
    import av  # here, not above: 30 MB of codecs that a robot running a policy does not load

    rate = 1 / Fraction(period_s).limit_denominator(1_000_000)
    # bitexact leaves out the random ids and the encoder's version, so equal frames give equal files.
    with av.open(str(path), "w", format="matroska", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(CODEC, rate=rate, options=_OPTIONS)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "rgb24"
        # One thread: many processes write episodes at once, and the thread count changes the bytes.
        stream.codec_context.thread_count = 1
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def read_video(path: Path, shape: Sequence[int]) -> np.ndarray:
    """Read the frames that `write_video` wrote: (N, h, w, 3) uint8, where `shape` is (N, h, w).

    Raises:
        ValueError: says how the file differs from `shape`, or that it cannot be decoded.
    """
    import av

    steps, height, width = shape
    out = np.empty((steps, height, width, 3), np.uint8)
    count = 0
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError("holds no video")
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            for frame in container.decode(stream):
                if (frame.height, frame.width) != (height, width):
                    raise ValueError(f"has frames of {frame.width}x{frame.height}, needs {width}x{height}")
                if count < steps:
                    out[count] = frame.to_ndarray(format="rgb24")
                count += 1
    except av.error.FFmpegError as error:
        raise ValueError(f"cannot be decoded: {error}") from error
    if count != steps:
        raise ValueError(f"has {count} frames, needs {steps}")
    return out
