"""Watchdog and servo as real processes; the test stands for policy and robot."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("rclpy")
from diagnostic_msgs.msg import DiagnosticArray

from ambient_policy_ros import convert, qos
from tests.ros.test_nodes import SERVO, Robot, robot, send_line

if TYPE_CHECKING:
    from tests.ros.conftest import Start

pytestmark = pytest.mark.ros
__all__ = ["robot"]


def test_the_tool_moves_only_while_the_watchdog_hears_of_all(start_node: Start, robot: Robot) -> None:
    """Silent policy, policy with another clock, hanging watchdog: each is a hold that ends."""
    reports = robot.create_publisher(DiagnosticArray, "/diagnostics", qos.STATUS)
    servo = start_node("servo", watchdog_timeout_s=0.5, **SERVO)
    watchdog = start_node("watchdog", timeout_s=1.5)
    robot.set_enabled("servo/status", True)
    said_s, behind_s, silent = 0.0, 0.0, False

    def live_until(hold: str) -> None:
        """Play policy and robot until the servo says why it holds, or that it follows."""
        nonlocal said_s
        deadline, chunk_s = time.monotonic() + 60, 0.0
        while True:
            now_s = time.time()
            if now_s - said_s > 0.2 and not silent:
                said_s = now_s
                reports.publish(convert.status_msg("policy", {}, now_s - behind_s))
            if now_s - chunk_s > 1.0:
                chunk_s = now_s
                send_line(robot, now_s)
            robot.publish_pose(now_s, (0.0, 0.0))
            robot._executor.spin_once(timeout_sec=0.02)
            states = [
                v["hold"]
                for m in robot.heard["servo/status"]
                if (v := convert.status_values(m))["event"] in ("hold", "follow", "taken_over")
            ]
            if states and (hold in states[-1] if hold else states[-1] == ""):
                return
            assert time.monotonic() < deadline, (hold, states[-5:], servo.output(), watchdog.output())

    live_until("")
    silent = True
    live_until("watchdog: policy has been silent for 1.")
    silent = False
    live_until("")
    behind_s = 2.0
    live_until("watchdog: the clock of policy is 2.0")
    behind_s = 0.0
    live_until("")
    watchdog.process.send_signal(signal.SIGSTOP)
    live_until("the watchdog is silent")
    watchdog.process.send_signal(signal.SIGCONT)
    live_until("")
    assert "policy has been silent" in watchdog.output()
    assert watchdog.stop() == 0, watchdog.output()
    live_until("the watchdog is silent")
    assert servo.stop() == 0, servo.output()
