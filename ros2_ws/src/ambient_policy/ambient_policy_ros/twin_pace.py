"""How the twin keeps time: waiting for every answer (lock-step), or by the wall clock (real time).

In lock-step the twin owns time. A tick of 10 ms: publish the tool's pose and /clock, wait for the target of
that very time, apply it. Every tenth tick, after the target: publish the images, wait until the policy has
dealt with them and, if a chunk came of it, until the servo has it. So each answer is to a known question,
nothing depends on the speed of the machine, and a trial repeats. As on a robot, the images of an instant
cannot change the target of that instant.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ambient_policy.errors import TrialError
from ambient_policy_ros.latency import LatencyBook, stage_times
from ambient_policy_ros.twin_link import TwinLink

Array = NDArray[np.float64]
Target = tuple[int, Array]
"""Stamp [ns] and position (2,) world [m]."""
Images = Mapping[str, NDArray[np.uint8]]


class Pace(ABC):
    """Exchanges state for targets at each tick, and images for nothing.

    Args:
        link: the twin's topics.
        book: takes the latencies.
        silence_s: a node that has not answered for this long (wall time) is taken for dead.
    """

    def __init__(self, link: TwinLink, book: LatencyBook, silence_s: float) -> None:
        self._link, self._book, self._silence_s = link, book, silence_s

    def begin(self) -> None:
        """Start a trial."""
        self._link.inbox.target = None

    @abstractmethod
    def target(self, stamp_ns: int, tool_xy: Array, tool_velocity: Array) -> Target | None:
        """Publish the state of this instant; return the target to follow, or None before there is one."""

    @abstractmethod
    def show(self, stamp_ns: int, images: Images) -> None:
        """Publish the images of this instant."""


class LockStep(Pace):
    """Waits for every answer."""

    def target(self, stamp_ns: int, tool_xy: Array, tool_velocity: Array) -> Target | None:
        """Publish the state and wait for the target of the same time."""
        inbox = self._link.inbox
        self._link.publish_state(stamp_ns / 1e9, tool_xy, tool_velocity)
        if not self._link.wait(
            lambda: inbox.target is not None and inbox.target[0] == stamp_ns, self._silence_s
        ):
            raise _silent("servo", f"tool/target for the pose of {stamp_ns / 1e9:.2f} s", self._silence_s)
        return inbox.target

    def show(self, stamp_ns: int, images: Images) -> None:
        """Publish the images, wait for the policy and, if it made a chunk, for the servo."""
        inbox = self._link.inbox
        self._link.publish_images(stamp_ns / 1e9, images)
        if not self._link.wait(lambda: stamp_ns in inbox.frames, self._silence_s):
            raise _silent(
                "policy", f"policy/status for the images of {stamp_ns / 1e9:.2f} s", self._silence_s
            )
        status = inbox.frames[stamp_ns]
        if status.get("chunk_stamp") == str(stamp_ns):
            self._book.planned(stamp_ns, stage_times(status))
            if not self._link.wait(lambda: stamp_ns in inbox.chunks, self._silence_s):
                raise _silent(
                    "servo", f"servo/status for the chunk of {stamp_ns / 1e9:.2f} s", self._silence_s
                )
            self._book.acknowledged(stamp_ns, inbox.chunks[stamp_ns])


class RealTime(Pace):
    """Sleeps until each tick is due and takes whatever has come; counts the ticks that were late."""

    def __init__(self, link: TwinLink, book: LatencyBook, silence_s: float) -> None:
        super().__init__(link, book, silence_s)
        self.ticks = self.late_ticks = 0
        self._start_ns: int | None = None
        self._start_s = 0.0
        self._done: set[int] = set()

    def begin(self) -> None:
        """Start a trial: its first tick is due now."""
        super().begin()
        self._start_ns = None
        self._done.clear()
        now_s = time.monotonic()
        self._link.inbox.heard_s.update(servo=now_s, policy=now_s)

    def target(self, stamp_ns: int, tool_xy: Array, tool_velocity: Array) -> Target | None:
        """Wait until this tick is due, publish the state, and return the newest target."""
        if self._start_ns is None:
            self._start_ns, self._start_s = stamp_ns, time.monotonic()
        due_s = self._start_s + (stamp_ns - self._start_ns) / 1e9
        late_s = time.monotonic() - due_s
        self.ticks += 1
        self.late_ticks += late_s > 0.01
        if late_s > 0.2:  # no burst to catch up: that would be fast motion, not real time
            self._start_s += late_s
        self._link.drain(due_s)
        self._note_answers()
        self._link.publish_state(stamp_ns / 1e9, tool_xy, tool_velocity)
        inbox, now_s = self._link.inbox, time.monotonic()
        for name, topic in (("servo", "tool/target"), ("policy", "policy/status")):
            if now_s - inbox.heard_s[name] > self._silence_s:
                raise _silent(name, topic, now_s - inbox.heard_s[name])
        return inbox.target

    def show(self, stamp_ns: int, images: Images) -> None:
        """Publish the images and go on."""
        self._link.publish_images(stamp_ns / 1e9, images)

    def _note_answers(self) -> None:
        inbox = self._link.inbox
        for stamp_ns in inbox.chunks.keys() - self._done:
            self._book.planned(stamp_ns, stage_times(inbox.frames.get(stamp_ns, {})))
            self._book.acknowledged(stamp_ns, inbox.chunks[stamp_ns])
            self._done.add(stamp_ns)


def _silent(node: str, what: str, for_s: float) -> TrialError:
    return TrialError(
        f"the {node} node went silent: no {what} within {for_s:.0f} s of wall time; see its output "
        "above, and whether it still runs"
    )
