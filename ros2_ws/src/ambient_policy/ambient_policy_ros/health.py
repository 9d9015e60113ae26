"""What a node tells of itself once a second on /diagnostics: rates, how long things took, what is wrong."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from ambient_policy_ros import convert, qos

REPORT_PERIOD_S = 1.0


class Health:
    """Counts and times between two reports.

    Args:
        node: publishes them.
        name: of the status.
        trouble: returns what is wrong now, or nothing.
        values: returns further entries of the report.
    """

    def __init__(
        self,
        node: Node,
        name: str,
        trouble: Callable[[], str],
        values: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._node, self._name, self._trouble, self._values = node, name, trouble, values
        self._counts: Counter[str] = Counter()
        self._new: Counter[str] = Counter()
        self._times: defaultdict[str, list[float]] = defaultdict(list)
        self._since_s = self._now_s()
        self._reports = node.create_publisher(DiagnosticArray, "/diagnostics", qos.STATUS)
        # By the wall: a simulated clock that stands still must be seen to stand still.
        node.create_timer(REPORT_PERIOD_S, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def rate(self, *what: str) -> None:
        """Note one more of what is reported as so many a second, from the first report on."""
        self._new.update(what)

    def count(self, what: str, number: int = 1) -> None:
        """Note more of what is reported as a sum."""
        self._counts[what] += number

    def took(self, stage: str, time_s: float) -> None:
        """Note how long a stage took; median and longest since the last report are reported."""
        self._times[stage].append(time_s)

    def _now_s(self) -> float:
        return convert.seconds(self._node.get_clock().now().to_msg())

    def _report(self) -> None:
        now_s = self._now_s()
        # Of the node's clock: a robot that is simulated at twice the speed must not seem twice as fast.
        elapsed_s = now_s - self._since_s
        self._since_s = now_s
        values = dict(self._values())
        for what, number in list(self._new.items()):  # a camera counts in a thread of its own
            values[f"{what}_hz"] = f"{number / elapsed_s if elapsed_s > 0 else math.nan:.1f}"
            self._new[what] = 0
        for stage, times_s in self._times.items():
            if times_s:
                values[f"{stage}_p50_ms"] = f"{1e3 * float(np.median(times_s)):.2f}"
                values[f"{stage}_max_ms"] = f"{1e3 * max(times_s):.2f}"
                times_s.clear()
        values |= {what: str(number) for what, number in self._counts.items()}
        self._reports.publish(convert.status_msg(self._name, values, now_s, self._trouble()))
