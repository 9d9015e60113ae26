"""Watchdog node: says several times a second whether the other nodes live, and what is wrong if they do not.

Subscribes to /diagnostics; publishes safety/watchdog (std_msgs/String, empty: all is well) and its own entry
on /diagnostics. A servo with `watchdog_timeout_s` moves only while it hears that. So it holds when a node
dies or hangs, when the network between machines is cut, when their clocks differ, and when the watchdog dies.
"""

from __future__ import annotations

import sys
import time

from diagnostic_msgs.msg import DiagnosticArray
from pydantic import Field
from rclpy.clock import Clock, ClockType
from std_msgs.msg import String

from ambient_policy.config import StrictModel
from ambient_policy.watch import Watch
from ambient_policy_ros import convert, node_main, qos
from ambient_policy_ros.health import Health
from ambient_policy_ros.managed import ManagedNode


class WatchdogParameters(StrictModel):
    """ROS parameters of the node."""

    names: tuple[str, ...] = ("policy", "servo")
    """Statuses on /diagnostics that must come; each node of ours reports once a second."""
    timeout_s: float = Field(default=3.0, gt=1)
    """One that has not come for so long is missing."""
    max_clock_error_s: float = Field(default=0.2, gt=0)
    """Stamps further from this node's clock than this come from a machine whose clock is wrong; ages and
    delays would be wrong with it. Not looked at under simulated time."""
    rate_hz: float = Field(default=10.0, ge=1, le=100)
    """How often to say so."""


class WatchdogNode(ManagedNode[WatchdogParameters]):
    """Carries reports to a `Watch`, and what it says to the servo."""

    def __init__(self) -> None:
        super().__init__("watchdog", WatchdogParameters)

    def configure(self, config: WatchdogParameters) -> None:
        """Listen; begin to say what is wrong."""
        self._simulated = bool(self.get_parameter("use_sim_time").value)
        self._watch = Watch(config.names, config.timeout_s, config.max_clock_error_s)
        self._trouble = ""
        self._health = Health(self, "watchdog", self._say)
        self._sayings = self.create_publisher(String, "safety/watchdog", qos.STATE)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_report, qos.STATUS)
        # By the wall: who hangs does so in any time.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(
            1 / config.rate_hz, lambda: self._sayings.publish(String(data=self._say())), clock=steady
        )

    def _on_report(self, msg: DiagnosticArray) -> None:
        now_s = convert.seconds(self.get_clock().now().to_msg())
        error_s = 0.0 if self._simulated else now_s - convert.seconds(msg.header.stamp)
        for status in msg.status:
            self._watch.hear(status.name, time.monotonic(), error_s)

    def _say(self) -> str:
        if not self.active:
            return "not active"
        trouble = self._watch.trouble(time.monotonic())
        if bool(trouble) != bool(self._trouble):
            self.get_logger().warning(trouble or "all is well again")
        self._trouble = trouble
        return trouble


def main() -> int:
    """Run the node until it is told to stop."""
    return node_main.run(WatchdogNode)


if __name__ == "__main__":
    sys.exit(main())
