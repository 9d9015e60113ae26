"""What every node does alike: start, spin, and end with a clear exit code."""

from __future__ import annotations

import contextlib
import faulthandler
import signal
import sys
from collections.abc import Callable

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from ambient_policy.errors import AmbientPolicyError
from ambient_policy_ros.managed import ManagedNode

LOOK_UP_S = 0.5
"""A node that spins notices at least this often that it shall end."""
CLEAN_UP_S = 4.0
"""Closing took 0.1 s at most; after this long it hangs, and the process prints where, and ends."""


def run(make: Callable[[], Node], work: Callable[[Node], int] | None = None) -> int:
    """Start ROS, make a node, and spin it (or do `work`) until it ends or a signal comes.

    Once in some thousand ends Fast DDS never comes back from closing a participant. A process that had
    nothing else left to do is then ended by SIGALRM, which `launch_runner` tells from a failure; any other
    ends with 1.

    Returns:
        0 after SIGINT or SIGTERM, 2 after an error that a user can cure, else what `work` returns.
    """
    executor = None
    node = None
    started = False
    code = 1
    try:
        # The launcher may have held an interrupt back, so that it does not strike among the imports.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        rclpy.init()
        started = True
        node = make()
        if isinstance(node, ManagedNode):
            node.start()
        if work is not None:
            code = work(node)
            return code
        # On a signal rclpy first wakes the executor and then ends its context, in another thread. An executor
        # that looks in between waits again, for ever if no message and no timer comes.
        node.create_timer(LOOK_UP_S, _nothing, clock=Clock(clock_type=ClockType.STEADY_TIME))
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        executor.spin()
        code = 0
    except (KeyboardInterrupt, ExternalShutdownException):
        code = 0
    except AmbientPolicyError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except Exception:
        # A signal ends the context at once; whatever was being made then fails, each thing in its own words.
        if not (started and not rclpy.ok()):
            raise
        code = 0
    finally:
        # From here on rclpy takes signals and does nothing about them, and what hangs may keep the
        # interpreter's lock: only the system can end it.
        faulthandler.dump_traceback_later(CLEAN_UP_S, exit=code != 0)
        signal.setitimer(signal.ITIMER_REAL, CLEAN_UP_S + 0.5)
        for part in (executor and executor.shutdown, node and node.destroy_node, rclpy.try_shutdown):
            with contextlib.suppress(KeyboardInterrupt):
                if part is not None:
                    part()
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
    return code


def _nothing() -> None:
    """Be called: that alone makes the executor look whether it shall end."""
