"""Run a command that ends when whoever started it is gone: `python -I -S sweep_guard.py GRACE_S COMMAND...`.

Standard input is a pipe whose other end the starter holds. When it closes, because the starter closed it or
was killed in any way, the command gets SIGTERM, on which a trainer writes a checkpoint, and after GRACE_S
SIGKILL. A command left alone would go on writing into a run folder that the next sweep resumes.

Reads nothing of this project, so that it starts in 20 ms. The exit status is the command's, 128 + N when
signal N ended it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading

_PR_SET_PDEATHSIG = 1


def _follow_guard() -> None:
    """Ask Linux to end the command with the guard itself: Ray kills the children of a worker that exits."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def main(grace_s: float, command: list[str]) -> int:
    """Run the command; return its exit status."""
    try:
        # close_fds=False lets the command inherit the lock of its job: the lock lives as long as it does.
        # A preexec_fn is safe here: there is no other thread yet.
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            close_fds=False,
            start_new_session=True,
            preexec_fn=_follow_guard,
        )
    except OSError as error:
        print(f"cannot start {command[0]}: {error}", flush=True)
        return 127

    def stop_with_starter() -> None:
        while os.read(0, 1024):
            pass
        _signal(child, signal.SIGTERM)
        try:
            child.wait(grace_s)
        except subprocess.TimeoutExpired:
            _signal(child, signal.SIGKILL)

    threading.Thread(target=stop_with_starter, daemon=True).start()
    status = child.wait()
    _signal(child, signal.SIGKILL)  # whatever it left behind in its group
    return status if status >= 0 else 128 - status


def _signal(child: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
