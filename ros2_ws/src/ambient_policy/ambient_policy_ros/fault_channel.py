"""One topic with its faults: takes messages, and gives them out late, changed, out of order or never."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ambient_policy_ros import fault_messages
from ambient_policy_ros.fault_plan import (
    Black,
    ClockJump,
    Drop,
    Freeze,
    Jitter,
    Latency,
    Nan,
    Offset,
    OnChannel,
    Reorder,
)

_EPSILON_S = 1e-6


@dataclass(eq=False)
class Injection:
    """One fault of the plan on one channel, and what it has done in this trial."""

    number: int
    """Place in the plan, from 0."""
    fault: OnChannel
    rng: np.random.Generator = field(default_factory=np.random.default_rng)
    seen: int = 0
    """Messages that came while it was on."""
    hit: int = 0
    """Of these, the ones it changed, delayed, or kept."""
    undelivered: int = 0
    """Messages that it delayed and that the end of the trial found undelivered."""
    done: int = 0
    """Entries of `Drop.at_s` that are behind."""

    def restart(self, rng: np.random.Generator) -> None:
        """Start a trial."""
        self.rng, self.seen, self.hit, self.undelivered, self.done = rng, 0, 0, 0, 0

    def strikes(self, now_s: float) -> bool:
        """Return whether a message of now is hit."""
        if isinstance(self.fault, Drop) and self.fault.at_s is not None:
            times_s = sorted(self.fault.at_s)
            due = self.done < len(times_s) and now_s >= times_s[self.done] - _EPSILON_S
            self.done += due
            return due
        return float(self.rng.random()) < getattr(self.fault, "probability", 1.0)


class Channel:
    """A queue between a sender and a receiver; without faults every message passes at once, as it is.

    Args:
        send: gives a message to the receiver.
        injections: faults, applied in this order.
        settle: called between two messages that are due at once: a receiver that keeps only the newest would
            else get one or both, by chance.
    """

    def __init__(
        self,
        send: Callable[[Any], object],
        injections: Sequence[Injection],
        settle: Callable[[], object] = lambda: None,
    ) -> None:
        self.injections = tuple(injections)
        self._send, self._settle = send, settle
        self._queue: deque[tuple[float, Any, list[Injection]]] = deque()
        """When due, what, and what has made it late or other than it was; none overtakes those before it."""
        self._held: tuple[Any, Injection] | None = None
        """Waits to be overtaken."""
        self._last: Any = None
        """Newest message while no freeze was on."""

    def clear(self) -> None:
        """Forget what has not been delivered, and count it."""
        for injection in self.injections:
            injection.undelivered += sum(injection in causes for _, _, causes in self._queue)
        if self._held is not None:
            self._held[1].undelivered += 1
        self._queue.clear()
        self._held = self._last = None

    def offer(self, now_s: float, msg: Any) -> bool:
        """Take a message; returns whether it has passed at once, as it is."""
        active = [injection for injection in self.injections if injection.fault.covers(now_s)]
        if not any(isinstance(injection.fault, Freeze) for injection in active):
            self._last = msg
        due_s, keep, hits = now_s, True, []
        for injection in active:
            injection.seen += 1
            if not injection.strikes(now_s):
                continue
            fault = injection.fault
            if isinstance(fault, Reorder) and self._held is not None:
                continue  # the one that overtakes
            injection.hit += 1
            hits.append(injection)
            match fault:
                case Latency():
                    due_s += fault.delay_s
                    if fault.restamp:
                        msg = fault_messages.restamped(msg, fault.delay_s)
                case Jitter():
                    due_s += float(injection.rng.uniform(0, fault.max_s))
                case Drop():
                    keep = False
                case Freeze():
                    msg = fault_messages.again(
                        self._last if self._last is not None else msg, msg, fault.restamp
                    )
                case Reorder():
                    self._held, keep = (msg, injection), False
                case Nan():
                    msg = fault_messages.not_a_number(msg)
                case Black():
                    msg = fault_messages.black(msg)
                case ClockJump():
                    msg = fault_messages.shifted(msg, fault.by_s)
                case Offset():
                    msg = fault_messages.displaced(msg, fault.by_m)
        if keep:
            self._queue.append((due_s, msg, hits))
            if self._held is not None:
                held, injection = self._held
                self._queue.append((due_s, held, [injection]))
                self._held = None
        as_is = keep and not hits and len(self._queue) == 1
        self.deliver(now_s)
        return as_is

    def deliver(self, now_s: float) -> int:
        """Give out what is due; returns how many messages."""
        count = 0
        while self._queue and self._queue[0][0] <= now_s + _EPSILON_S:
            _, msg, _ = self._queue.popleft()
            if count:
                self._settle()
            self._send(msg)
            count += 1
        return count
