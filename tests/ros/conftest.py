"""Surroundings of the ROS tests: the shipped DDS profile, and processes that never outlive a test."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "ros2_ws/src/ambient_policy"

# Before anything imports rclpy. Domain, discovery range and log folder are set in tests/conftest.py.
os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(PACKAGE / "config/fastdds.xml")
# In a run that a script has put in the background interrupts are ignored, and processes inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# A workspace that the user has sourced must not be tested in place of this tree.
os.environ.pop("AMENT_PREFIX_PATH", None)


@dataclass
class Running:
    """One process of a test; its output goes to a file, so that it can be read at any time."""

    process: subprocess.Popen[bytes]
    log: Path
    _ended: bool = field(default=False)

    def output(self) -> str:
        """Return what it has written so far, both streams."""
        return self.log.read_text(errors="replace")

    def wait(self, timeout_s: float) -> int:
        """Wait for its end and return its exit code."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running after {timeout_s} s: {self.process.args}\n{self.output()}")

    def wait_for(self, text: str, timeout_s: float = 60) -> None:
        """Wait until it has written `text`."""
        deadline = time.monotonic() + timeout_s
        while text not in self.output():
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"no {text!r} from {self.process.args}, which wrote:\n{self.output()}")
            time.sleep(0.02)

    def stop(self, number: int = signal.SIGINT, timeout_s: float = 20) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.wait(timeout_s)


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Give a function that starts a process, in a group of its own; none outlives the test."""
    running: list[Running] = []

    def _start(*command: str, **environment: str) -> Running:
        log = tmp_path / f"process_{len(running)}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, *command],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=tmp_path,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
                start_new_session=True,
            )
        running.append(Running(process, log))
        return running[-1]

    yield _start
    left = [item.process for item in running if item.process.poll() is None]
    # Asked first: a killed ROS process leaves its 16 MB of shared memory behind.
    for process in left:
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGINT)
    for process in left:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def start_node(start: Start) -> Start:
    """Give a function that starts one of our nodes as its own process, with parameters."""

    def _start(node: str, *, named: str = "", **parameters: object) -> Running:
        arguments = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
        arguments += ["-r", f"__node:={named}"] if named else []
        return start("-m", f"ambient_policy_ros.{node}_node", "--ros-args", *arguments)

    return _start
