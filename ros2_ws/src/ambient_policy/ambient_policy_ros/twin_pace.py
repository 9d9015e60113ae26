"""How the twin keeps time: waiting for every answer (lock-step), or by the wall clock (real time).

In lock-step the twin owns time. A tick of 10 ms: publish the tool's pose and /clock, wait for the target of
that very time, apply it. (Or publish the joints, and wait for the joint node's trajectory of that time: the
servo has then answered in between.) Every tenth tick, after the target: publish the images, wait until the
policy has dealt with them and, if a chunk came of it, until the servo has it. So each answer is to a known
question, nothing depends on the speed of the machine, and a trial repeats. As on a robot, the images of an
instant cannot change the target of that instant.

Where faults keep messages back or change them, the twin cannot know which answer is due. It then calls the
roll instead: the answer to that says that a node has dealt with all that has reached it. Nobody waits for a
delayed message, only for the nodes that have received one; nor for a node that the plan has taken away.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ambient_policy.errors import TrialError
from ambient_policy.joint_command import JointCommand
from ambient_policy_ros.fault_plan import NODES
from ambient_policy_ros.latency import LatencyBook, stage_times
from ambient_policy_ros.twin_link import TwinLink

Array = NDArray[np.float64]
Target = tuple[int, Array | JointCommand]
"""Stamp [ns] and position (2,) world [m], or the joints of an arm."""
Images = Mapping[str, NDArray[np.uint8]]

PATIENCE_S = 1.0
"""Under faults, an answer that is due but does not come within this (wall time) is asked for by a roll call:
a node may have its reasons to give none, such as a clock that has jumped."""


class Pace(ABC):
    """Exchanges state for targets at each tick, and images for nothing.

    Args:
        link: the twin's topics.
        book: takes the latencies.
        silence_s: a node that has not answered for this long (wall time) is taken for dead.
        startup_s: how long a node may take that was killed by plan and starts again (wall time).
    """

    def __init__(self, link: TwinLink, book: LatencyBook, silence_s: float, startup_s: float = 120.0) -> None:
        self._link, self._book, self._silence_s, self._startup_s = link, book, silence_s, startup_s

    def begin(self) -> None:
        """Start a trial."""
        self._link.inbox.target = self._link.inbox.answered_ns = None

    @abstractmethod
    def target(self, stamp_ns: int, tool_xy: Array, tool_velocity: Array) -> Target | None:
        """Publish the state of this instant; return the target to follow, or None before there is one."""

    @abstractmethod
    def show(self, stamp_ns: int, images: Images) -> None:
        """Publish the images of this instant."""


class LockStep(Pace):
    """Waits for every answer."""

    def begin(self) -> None:
        """Start a trial."""
        super().begin()
        if self._link.faults is not None:
            self._link.faults.settle = self._call
        self._taken: set[int] = set()
        self._true = True

    def target(self, stamp_ns: int, tool_xy: Array, tool_velocity: Array) -> Target | None:
        """Publish the state and wait for the target of the same time."""
        inbox, faults = self._link.inbox, self._link.faults
        if faults is not None:
            for node in faults.tick(stamp_ns):
                self._welcome(node)
        on_clock = None if faults is None else self._settle_clock
        self._true = self._link.publish_state(stamp_ns / 1e9, tool_xy, tool_velocity, on_clock)
        what = f"{self._link.command_topic} for the state of {stamp_ns / 1e9:.2f} s"
        self._answer(self._link.mover, what, lambda: inbox.answered_ns == stamp_ns, self._true)
        if faults is not None:
            self._link.deliver_targets()
            if self._link.deliver_images() or not self._true:
                self._call()
                self._take_chunks()
        return inbox.target

    def show(self, stamp_ns: int, images: Images) -> None:
        """Publish the images, wait for the policy and, if it made a chunk, for the servo."""
        inbox = self._link.inbox
        true = self._link.publish_images(stamp_ns / 1e9, images)
        what = f"policy/status for the images of {stamp_ns / 1e9:.2f} s"
        self._answer("policy", what, lambda: stamp_ns in inbox.frames, true and self._true)
        self._take_chunks()

    def _settle_clock(self, true: bool) -> None:
        """Let the nodes hear of a time that is wrong, or that old poses follow, before they hear of any pose.

        What they command depends on it, and order between two topics is not promised.
        """
        if not (true and self._true):
            self._call()

    def _take_chunks(self) -> None:
        """Wait until the servo has each chunk that the policy has told of."""
        inbox = self._link.inbox
        for stamp_ns in inbox.frames.keys() - self._taken:
            self._taken.add(stamp_ns)
            status = inbox.frames[stamp_ns]
            if status.get("chunk_stamp") != str(stamp_ns):
                continue
            self._book.planned(stamp_ns, stage_times(status))
            what = f"servo/status for the chunk of {stamp_ns / 1e9:.2f} s"
            self._answer("servo", what, partial(inbox.chunks.__contains__, stamp_ns), True)
            if stamp_ns in inbox.chunks:
                self._book.acknowledged(stamp_ns, inbox.chunks[stamp_ns])

    def _answer(self, node: str, what: str, done: Callable[[], bool], true: bool) -> None:
        """Wait until `done`; under faults, until then or until the node has dealt with all it has received.

        `true` says that all that the answer depends on has gone out as it is.
        """
        faults = self._link.faults
        if faults is None:
            if not self._link.wait(done, self._silence_s):
                raise _silent(node, what, self._silence_s)
        elif node not in faults.away and not (true and self._link.wait(done, PATIENCE_S)):
            self._call()

    def _call(self) -> None:
        """Wait until the nodes that are not away have dealt with all they have received.

        All of them, whoever's answer is due: what one has not said yet would pass for its answer to the next
        call.
        """
        assert self._link.faults is not None
        present = [node for node in NODES if node not in self._link.faults.away]
        if silent := self._link.roll_call(present, self._silence_s) if present else []:
            raise _silent(silent[0], "answer to policy/enable", self._silence_s)

    def _welcome(self, node: str) -> None:
        """Wait for a node that is to be back now."""
        deadline = time.monotonic() + self._startup_s
        while self._link.roll_call([node], 1.0):
            if time.monotonic() > deadline:
                raise TrialError(
                    f"the {node} node, killed by plan, was not back within {self._startup_s:.0f} s of wall "
                    "time; start the bench with respawn:=true, or leave `for_s` out of the plan"
                )
        self._link.drain(time.monotonic() + 0.2)


class RealTime(Pace):
    """Sleeps until each tick is due and takes whatever has come; counts the ticks that were late."""

    def __init__(self, link: TwinLink, book: LatencyBook, silence_s: float, startup_s: float = 120.0) -> None:
        super().__init__(link, book, silence_s, startup_s)
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
        self._link.inbox.heard_s.update({self._link.mover: now_s, "policy": now_s})

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
        while (joints_ns := self._link.next_joints_ns()) is not None and joints_ns < stamp_ns:
            self._link.drain(due_s - (stamp_ns - joints_ns) / 1e9)
            self._link.publish_joints(joints_ns)
        self._link.drain(due_s)
        self._note_answers()
        inbox, faults, now_s = self._link.inbox, self._link.faults, time.monotonic()
        if faults is not None:
            faults.tick(stamp_ns)
        self._link.publish_state(stamp_ns / 1e9, tool_xy, tool_velocity)
        if faults is not None:
            self._link.deliver_targets()
            self._link.deliver_images()
            return inbox.target  # silence may be part of the plan; the end of the trial asks who is there
        for name, topic in ((self._link.mover, self._link.command_topic), ("policy", "policy/status")):
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
