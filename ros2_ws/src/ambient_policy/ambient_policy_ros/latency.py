"""Where the time of a chunk went, by one monotonic clock: image out, chunk acknowledged, first command in.

The clock starts when the simulated instant of the image is reached, so rendering counts (it stands for
exposure and read-out), and stops when the robot applies the first target that comes from the chunk.
"""

from __future__ import annotations

import json
import math
from collections import deque
from dataclasses import dataclass
from pathlib import Path


@dataclass
class _Frame:
    began_s: float
    sent_s: float
    stages_ms: dict[str, float] | None = None
    acknowledged_s: float | None = None
    taken_over_ns: int | None = None


class LatencyBook:
    """Collects the times of every chunk and writes one JSON line for each to a file.

    Stamps are nanoseconds of ROS time; everything that ends in `_s` is a reading of the same monotonic clock.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._frames: dict[int, _Frame] = {}
        self._applied: deque[tuple[int, float]] = deque(maxlen=500)
        self._trial = 0

    def begin_trial(self, number: int) -> None:
        """Start anew: lines from now on carry this number."""
        self._frames.clear()
        self._applied.clear()
        self._trial = number

    def frame(self, stamp_ns: int, began_s: float, sent_s: float) -> None:
        """Note an image: when its instant was reached, and when it was published."""
        self._frames[stamp_ns] = _Frame(began_s, sent_s)
        for old in [s for s in self._frames if s < stamp_ns - 5_000_000_000]:
            del self._frames[old]

    def planned(self, stamp_ns: int, stages_ms: dict[str, float]) -> None:
        """Note the policy's own stage times for the frame of this stamp."""
        if frame := self._frames.get(stamp_ns):
            frame.stages_ms = stages_ms
            self._write()

    def acknowledged(self, stamp_ns: int, now_s: float) -> None:
        """Note that the servo has the chunk of this stamp."""
        if frame := self._frames.get(stamp_ns):
            frame.acknowledged_s = now_s
            self._write()

    def taken_over(self, stamp_ns: int, target_ns: int) -> None:
        """Note that the target of time `target_ns` is the first that comes from the chunk of this stamp."""
        if frame := self._frames.get(stamp_ns):
            frame.taken_over_ns = target_ns
            self._write()

    def applied(self, target_ns: int, now_s: float) -> None:
        """Note that the robot has begun to follow the target of this stamp."""
        self._applied.append((target_ns, now_s))
        self._write()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self) -> None:
        """Write the chunks whose first command has been applied."""
        for stamp_ns, frame in list(self._frames.items()):
            if frame.taken_over_ns is None or frame.acknowledged_s is None or frame.stages_ms is None:
                continue
            first = next((item for item in self._applied if item[0] >= frame.taken_over_ns), None)
            if first is None:
                continue
            line = {
                "trial": self._trial,
                "chunk_stamp_s": stamp_ns / 1e9,
                "render_ms": _ms(frame.sent_s - frame.began_s),
                **frame.stages_ms,
                "image_to_chunk_ms": _ms(frame.acknowledged_s - frame.began_s),
                "image_to_command_ms": _ms(first[1] - frame.began_s),
                "command_age_ms": (first[0] - stamp_ns) / 1e6,
            }
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
            del self._frames[stamp_ns]


def _ms(seconds: float) -> float:
    return round(1e3 * seconds, 3)


def stage_times(values: dict[str, str]) -> dict[str, float]:
    """Pick the stage times out of a status: every value whose key ends in `_ms`."""
    times = {key: float(text) for key, text in values.items() if key.endswith("_ms") and text}
    return {key: value for key, value in times.items() if math.isfinite(value)}
