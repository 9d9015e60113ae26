"""Videos of a LeRobotDataset: many episodes in one MP4, each from a key frame on."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ambient_policy.errors import EpisodeError

Quality = Literal["lossless", "av1"]
FILE_S = 500.0
"""Longest video file. LeRobot compares times in float32 to 0.1 ms; above 512 s its steps are 0.06 ms."""
KEY_FRAMES = {"lossless": 10, "av1": 2}
"""Frames from one key frame to the next: what a random access has to decode. LeRobot's own AV1 files have
2."""


class VideoFile:
    """Writes episodes one after another into an MP4. Close it, or the file cannot be read."""

    def __init__(self, path: Path, fps: int, size: tuple[int, int], quality: Quality) -> None:
        import av

        path.parent.mkdir(parents=True, exist_ok=True)
        self._av, self._quality, self.frames, self._fps = av, quality, 0, fps
        self._container = av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"})
        gop = str(KEY_FRAMES[quality])
        if quality == "lossless":
            # RGB inside H.264: no colour conversion, so frames come back bit for bit. No B frames: decoders
            # start at time 0 without an edit list.
            codec, pixels = "libx264rgb", "rgb24"
            options = {"qp": "0", "preset": "fast", "g": gop, "bf": "0"}
        else:
            # LeRobot's defaults; the encoder would print twenty lines for every file.
            os.environ.setdefault("SVT_LOG", "1")
            codec, pixels = "libsvtav1", "yuv420p"
            options = {"crf": "30", "g": gop, "preset": "8"}
        stream: Any = self._container.add_stream(codec, rate=Fraction(fps), options=options)
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        stream.codec_context.thread_count = 1
        self._stream = stream

    @property
    def seconds(self) -> float:
        """Length up to now [s]."""
        return self.frames / self._fps

    def add(self, frames: np.ndarray) -> None:
        """Append the frames (N, h, w, 3) uint8 RGB of one episode."""
        for index, frame in enumerate(frames):
            picture = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture.pts = self.frames
            picture.time_base = Fraction(1, self._fps)
            if index == 0:
                picture.pict_type = self._av.video.frame.PictureType.I
            self._container.mux(self._stream.encode(picture))
            self.frames += 1

    def close(self) -> None:
        """Finish the file."""
        self._container.mux(self._stream.encode())
        self._container.close()


class VideoReader:
    """Reads runs of frames out of an MP4, in order without going back to the start for each episode."""

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path, fps
        self._frames: Any = None
        self._next = 0

    def take(self, start: int, count: int) -> np.ndarray:
        """Return frames `start` to `start + count` as (count, h, w, 3) uint8.

        Raises:
            EpisodeError: the file is missing or damaged, or ends before.
        """
        import av

        if not self._path.is_file():
            raise EpisodeError(f"{self._path} is missing; download or export the dataset again")
        try:
            if self._frames is None or start < self._next:
                self._frames, self._next = self._open(), 0
            out: list[np.ndarray] = []
            for at, frame in self._frames:
                self._next = at + 1
                if at >= start:
                    if at != start + len(out):
                        raise EpisodeError(
                            f"{self._path} has no frame {start + len(out)} at {self._fps:g} frames a second"
                        )
                    out.append(frame.to_ndarray(format="rgb24"))
                if len(out) == count:
                    return np.stack(out)
        except (av.error.FFmpegError, OSError) as error:
            raise EpisodeError(
                f"{self._path} cannot be decoded ({error}); download or export it again"
            ) from error
        raise EpisodeError(
            f"{self._path} ends after {self._next} frames; needs {start + count}. It is cut short"
        )

    def _open(self) -> Any:
        import av

        with av.open(str(self._path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            for frame in container.decode(stream):
                yield round(float(frame.time or 0.0) * self._fps), frame
