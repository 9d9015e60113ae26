"""Runs the processes of a launch file: prefixed output, restarts, and an end that leaves nothing behind.

Each process leads a process group of its own, so a Ctrl-C in the terminal reaches only this runner, which
then ends the groups: SIGINT, after `grace_s` SIGTERM, after another `grace_s` SIGKILL. SIGTERM and SIGHUP to
the runner do the same (under `ros2 launch` a SIGTERM leaves the nodes orphaned). The return code is that of
the process whose end ended the run (`ros2 launch` returns 0 there).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial

from ambient_policy_ros.launch_process import Process
from ambient_policy_ros.launch_substitutions import LaunchError

GRACE_S = 5.0
_LINE_LIMIT = 1 << 20  # asyncio refuses longer lines, 64 KiB by default: less than one printed image
_ENDED_BY_US = (0, -signal.SIGINT, -signal.SIGTERM)
_HUNG_CLOSING = -signal.SIGALRM
"""See `node_main.run`: its own work was done."""
_PR_SET_PDEATHSIG = 1


def run(
    processes: Sequence[Process], *, grace_s: float = GRACE_S, write: Callable[[str], None] | None = None
) -> int:
    """Start all processes and stay until they have ended; return the exit code of the run.

    Args:
        processes: in starting order.
        grace_s: how long a process may take to end before the next stronger signal [s].
        write: takes each line of output, prefix and newline included; standard output by default.
    """
    if not processes:
        raise LaunchError("nothing to run: every node of this launch file is switched off by its conditions")
    return asyncio.run(_Runner(processes, grace_s, write or _to_stdout).run())


def _to_stdout(line: str) -> None:
    sys.stdout.write(line)
    sys.stdout.flush()


def _in_child(hold_interrupts: bool) -> None:
    """Prepare a child between fork and exec."""
    # A runner started with `&` from a script ignores SIGINT, and children would inherit that.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if hold_interrupts:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    # If this runner is killed outright, the kernel ends its children.
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


_libc = ctypes.CDLL(None)


class _Runner:
    def __init__(self, processes: Sequence[Process], grace_s: float, write: Callable[[str], None]) -> None:
        self._processes, self._grace_s, self._write = processes, grace_s, write
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._groups: list[int] = []
        self._stop = asyncio.Event()
        self._interrupts = 0
        self._code = 0

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal, number)
        tasks = [asyncio.create_task(self._keep(process, i)) for i, process in enumerate(self._processes)]
        ended = asyncio.gather(*tasks)
        stopped = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((ended, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                await self._end_all(ended)
            await ended
        finally:
            stopped.cancel()
            for group in self._groups:  # what a node may have started itself
                _signal_group(group, signal.SIGKILL)
        return self._code

    async def _keep(self, process: Process, index: int) -> None:
        """Run one process, again and again if it respawns."""
        key = f"{index}:{process.name}"
        while not self._stop.is_set():
            code = await self._once(process, key)
            if self._stop.is_set():
                if code not in _ENDED_BY_US:
                    self._died(process, code)
                return
            if code:
                self._died(process, code)
            if process.shutdown_on_exit:
                self._stop.set()
            elif process.respawn:
                self._code = 0  # it comes back, so its death is no result
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), process.respawn_delay_s)
                continue
            return

    def _died(self, process: Process, code: int) -> None:
        if code == _HUNG_CLOSING:
            self._write(f"[launch] {process.name} was done, but ROS hung while it closed; see above where\n")
            return
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        self._write(f"[launch] {process.name} {how}\n")
        self._code = self._code or (128 - code if code < 0 else code)

    async def _once(self, process: Process, key: str) -> int:
        try:
            child = await asyncio.create_subprocess_exec(
                *process.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if process.stdout else asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env={"PYTHONUNBUFFERED": "1", **process.environment},
                cwd=process.cwd,
                limit=_LINE_LIMIT,
                start_new_session=True,
                preexec_fn=partial(_in_child, process.takes_interrupts_late),
            )
        except OSError as error:
            self._write(f"[launch] cannot start {process.name}: {error}\n")
            return 127
        self._running[key] = child
        self._groups.append(child.pid)
        streams = [stream for stream in (child.stdout, child.stderr) if stream is not None]
        copies = asyncio.gather(*(self._copy(stream, process.name) for stream in streams))
        code = await child.wait()
        del self._running[key]
        # A grandchild may hold the pipe open for ever; what the process itself wrote is there already.
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(copies, 1.0)
        return code

    async def _copy(self, stream: asyncio.StreamReader, name: str) -> None:
        while True:
            try:
                line = await stream.readline()
            except ValueError:  # longer than _LINE_LIMIT; the reader has dropped it
                continue
            if not line:
                return
            self._write(f"[{name}] {line.decode(errors='replace').rstrip()}\n")

    def _on_signal(self, number: int) -> None:
        self._interrupts += 1
        if self._interrupts == 1:
            self._write(f"[launch] {signal.Signals(number).name}: ending {len(self._running)} processes\n")
        else:  # a second Ctrl-C means: now
            self._signal_all(signal.SIGTERM)
        self._stop.set()

    async def _end_all(self, ended: asyncio.Future[list[None]]) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            self._signal_all(number)
            done, _ = await asyncio.wait((ended,), timeout=self._grace_s)
            if done:
                return

    def _signal_all(self, number: int) -> None:
        if number != signal.SIGINT and self._running:
            names = ", ".join(key.split(":", 1)[1] for key in self._running)
            self._write(f"[launch] {signal.Signals(number).name} to: {names}\n")
        for child in list(self._running.values()):
            _signal_group(child.pid, number)


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
