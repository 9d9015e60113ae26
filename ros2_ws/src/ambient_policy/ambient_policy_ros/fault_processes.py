"""Finds the process of a node, so that the bench can kill or stop it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from ambient_policy.errors import AmbientPolicyError


class NodeProcessError(AmbientPolicyError):
    """The process of a node cannot be told."""


def find(node: str) -> int | None:
    """Return the process id of a node that this process's parent has started, or None.

    The processes of one launch are children of the same launcher, under `ros2 launch` as under ours, so a
    node of another run is never taken for one of this.

    Raises:
        NodeProcessError: there are several.
    """
    siblings = [pid for pid in _processes() if _parent(pid) == os.getppid() and _is(node, _words(pid))]
    if len(siblings) > 1:
        raise NodeProcessError(f"several processes are node {node!r} of this launch: {siblings}")
    return siblings[0] if siblings else None


def send(node: str, number: signal.Signals) -> int:
    """Send a signal to a node and return its process id.

    Raises:
        NodeProcessError: no such process.
    """
    pid = find(node)
    if pid is None:
        raise NodeProcessError(
            f"no process of node {node!r} to send {number.name} to: it must be started by the launch that "
            "started the twin, and still run"
        )
    os.kill(pid, number)
    return pid


def _is(node: str, words: list[str]) -> bool:
    module = f"{node}_node"
    return f"__node:={node}" in words or any(
        Path(word).name == module or word.rpartition(".")[2] == module for word in words[:4]
    )


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def _parent(pid: int) -> int:
    try:
        # The name, in brackets, may hold spaces and brackets itself.
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return -1
    return -1 if state == "Z" else int(parent)
