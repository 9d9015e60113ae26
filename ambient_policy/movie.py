"""MP4 films for people: written frame by frame, whole or not there."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import TracebackType

import numpy as np


class Movie:
    """Writes an H.264 film that browsers play; use as a context, so that it is closed and put in place.

    Args:
        path: where the film goes, ending in .mp4; the file appears when the context ends.
        rate_hz: frames per second of the film.
    """

    def __init__(self, path: str | Path, rate_hz: float) -> None:
        import av  # here, not above: a robot running a policy does not load codecs

        self._av = av
        self._path = Path(path)
        self._beside = self._path.with_name(f".{self._path.name}.partial")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(str(self._beside), "w", format="mp4", options={"movflags": "faststart"})
        rate = Fraction(rate_hz).limit_denominator(1000)
        self._stream = self._container.add_stream(
            "libx264", rate=rate, options={"crf": "23", "preset": "veryfast"}
        )
        self._stream.codec_context.thread_count = 1
        self._frames = 0

    def add(self, frame: np.ndarray) -> None:
        """Append one frame (h, w, 3) uint8 RGB; all have the size of the first, and h and w are even."""
        if self._frames == 0:
            self._stream.height, self._stream.width = frame.shape[:2]
            self._stream.pix_fmt = "yuv420p"
        picture = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        self._container.mux(self._stream.encode(picture))
        self._frames += 1

    def close(self) -> None:
        """Finish the file and put it in its place; without a frame there is no file."""
        if self._frames:
            self._container.mux(self._stream.encode())
        self._container.close()
        if self._frames:
            self._beside.replace(self._path)
        else:
            self._beside.unlink(missing_ok=True)

    def __enter__(self) -> Movie:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the film, also after an error: what was filmed until then is worth seeing."""
        self.close()
