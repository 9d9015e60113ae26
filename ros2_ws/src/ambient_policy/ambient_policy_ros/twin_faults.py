"""The layer between the twin's link and its topics that makes things go wrong by plan; no node knows of it.

Delays are counted in the twin's time and end on a control tick (10 ms), in lock-step and in real time alike.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from ambient_policy.reasons import without_numbers
from ambient_policy_ros import fault_processes
from ambient_policy_ros.fault_channel import Channel, Injection
from ambient_policy_ros.fault_plan import (
    CLOCK,
    JOINTS,
    POSE,
    TARGET,
    FaultPlan,
    Kill,
    image_channel,
    info_channel,
)


class TwinFaults:
    """Carries out a plan, trial after trial, and notes what the nodes said meanwhile.

    Args:
        plan: what goes wrong.
        cameras: names of the cameras.

    Raises:
        ConfigError: the plan speaks of a channel that there is not.
    """

    def __init__(self, plan: FaultPlan, cameras: Collection[str]) -> None:
        self.plan = plan
        names = [f(camera) for camera in cameras for f in (image_channel, info_channel)]
        names += [POSE, JOINTS, CLOCK, TARGET]
        self.injections = {
            name: [Injection(number, fault) for number, fault in plan.on(name, names)] for name in names
        }
        self.away: dict[str, int] = {}
        """Nodes that the plan has killed or stopped, and that are not back: name -> number in the plan."""
        self.holds: list[tuple[float, str, str]] = []
        """Time in the trial [s], node, and the hold that began then, or nothing where one ended."""
        self._channels: dict[str, Channel] = {}
        self._kills = [(number, fault) for number, fault in enumerate(plan.faults) if isinstance(fault, Kill)]
        self.has_killed = False
        """Whether any node has been killed in this run, stopped ones aside."""
        self._sent: set[int] = set()
        self._back: set[int] = set()
        self._stopped: set[str] = set()
        self._zero_ns: int | None = None
        self.time_s = 0.0
        """Time in the trial."""
        self.settle: Callable[[], object] = lambda: None
        """Waits until the nodes have dealt with what they have received; in lock-step."""

    def channel(self, name: str, send: Callable[[Any], object]) -> Callable[[Any], bool]:
        """Return what takes a topic's messages instead of `send`, and tells whether one passed as it is."""
        # Targets come from a node, which cannot be waited for while it is being listened to.
        settle = (lambda: None) if name == TARGET else (lambda: self.settle())
        channel = self._channels[name] = Channel(send, self.injections[name], settle)

        def offer(msg: Any) -> bool:
            if self._zero_ns is None:
                send(msg)
                return True
            return channel.offer(self.time_s, msg)

        return offer

    def begin_trial(self, number: int, stamp_ns: int) -> None:
        """Start trial `number`; its time 0 is `stamp_ns`."""
        self._zero_ns, self.time_s = stamp_ns, 0.0
        for name, injections in sorted(self.injections.items()):
            for injection in injections:
                seeds = [self.plan.seed, number, injection.number, *name.encode()]
                injection.restart(np.random.default_rng(seeds))
        self.holds, self._sent, self._back = [], set(), set()
        self.away.clear()

    def tick(self, stamp_ns: int) -> list[str]:
        """Go on to the tick of `stamp_ns`: kill, stop and wake what is due. Returns nodes to be back now."""
        assert self._zero_ns is not None
        self.time_s = round((stamp_ns - self._zero_ns) / 1e9, 9)
        back: list[str] = []
        for number, fault in self._kills:
            if number not in self._sent and self.time_s >= fault.at_s - 1e-6:
                fault_processes.send(fault.node, signal.Signals[f"SIG{fault.signal}"])
                self._sent.add(number)
                self.away[fault.node] = number
                if fault.signal == "STOP":
                    self._stopped.add(fault.node)
                else:
                    self.has_killed = True
            due = fault.until_s is not None and self.time_s >= fault.until_s - 1e-6
            if number in self._sent and number not in self._back and due:
                self._back.add(number)
                self._wake(fault.node)
                self.away.pop(fault.node, None)
                back.append(fault.node)
        return back

    def deliver(self, *names: str) -> int:
        """Give out what is due on these channels; returns how many messages."""
        return sum(self._channels[name].deliver(self.time_s) for name in names)

    def end_trial(self) -> None:
        """Stop all faults: what is under way is lost, and stopped nodes go on."""
        self._zero_ns = None
        for channel in self._channels.values():
            channel.clear()
        for node in list(self._stopped):
            self._wake(node)
            self.away.pop(node, None)

    def note(self, node: str, hold: str) -> None:
        """Take the hold that a node has told of, or nothing for none."""
        last = next((text for _, who, text in reversed(self.holds) if who == node), "")
        if self._zero_ns is not None and without_numbers(hold) != without_numbers(last):
            self.holds.append((self.time_s, node, hold))

    def lost(self) -> list[str]:
        """Return the nodes that the plan has killed and that nothing has started again."""
        return [node for node in self.away if fault_processes.find(node) is None]

    def _wake(self, node: str) -> None:
        if node in self._stopped:
            self._stopped.discard(node)
            fault_processes.send(node, signal.SIGCONT)
