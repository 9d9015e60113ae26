"""The runner with real processes: prefixes, who ends whom, exit codes, and nothing left behind."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("ambient_policy_ros")
from ambient_policy_ros.launch_process import Process
from ambient_policy_ros.launch_runner import run
from ambient_policy_ros.launch_substitutions import LaunchError

if TYPE_CHECKING:
    from tests.ros.conftest import Start

SLEEPER = "import time; print('ready', flush=True); time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); {SLEEPER}"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {STUBBORN}"
CLEAN = """
import signal, sys, time
signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
print('ready', flush=True)
time.sleep(60)
"""


def python(name: str, code: str, **fields) -> Process:
    return Process(name, [sys.executable, "-c", code], dict(os.environ), **fields)


def when_ready(path: Path, then: str) -> str:
    """Wait for a file that another process makes, so that nothing rests on who starts faster."""
    return f"import os, sys, time\nwhile not os.path.exists({str(path)!r}): time.sleep(0.01)\n{then}"


def test_output_is_prefixed_and_a_clean_end_is_0() -> None:
    lines: list[str] = []
    talk = "import sys; print('one'); print('two', file=sys.stderr)"
    assert run([python("a", talk), python("b", "print('three')")], write=lines.append) == 0
    assert sorted(lines) == ["[a] one\n", "[a] two\n", "[b] three\n"]


def test_output_log_hides_standard_output_only() -> None:
    lines: list[str] = []
    run([python("a", "import sys; print(1); print(2, file=sys.stderr)", stdout=False)], write=lines.append)
    assert lines == ["[a] 2\n"]


def test_the_end_of_a_required_process_ends_all_and_gives_its_code(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = f"open({str(ready)!r}, 'w').close(); {SLEEPER}"
    lines: list[str] = []
    began_s = time.monotonic()
    dying = python("dying", when_ready(ready, "sys.exit(3)"), shutdown_on_exit=True)
    assert run([python("other", code), dying], write=lines.append) == 3
    assert "[launch] dying ended with exit code 3\n" in lines
    assert time.monotonic() - began_s < 20


def test_a_clean_end_of_a_required_process_is_0() -> None:
    assert (
        run([python("other", CLEAN), python("done", "pass", shutdown_on_exit=True)], write=lambda _: None)
        == 0
    )


def test_the_end_of_another_process_ends_nothing_but_is_the_code() -> None:
    lines: list[str] = []
    assert (
        run([python("a", "raise SystemExit(4)"), python("b", "print('still here')")], write=lines.append) == 4
    )
    assert "[b] still here\n" in lines


def test_a_crash_is_named_and_counts_as_shells_count() -> None:
    lines: list[str] = []
    crash = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    assert run([python("a", crash)], write=lines.append) == 128 + signal.SIGSEGV
    assert "[launch] a was killed by SIGSEGV\n" in lines


def test_a_node_that_hung_when_all_was_done_is_told_of_and_no_failure() -> None:
    """SIGALRM: see node_main.run."""
    lines: list[str] = []
    hung = "import os, signal; os.kill(os.getpid(), signal.SIGALRM)"
    assert run([python("a", hung)], write=lines.append) == 0
    assert lines == ["[launch] a was done, but ROS hung while it closed; see above where\n"]


def test_a_deaf_process_is_killed_in_the_end(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = DEAF.replace("print(", f"open({str(ready)!r}, 'w').close(); print(")
    lines: list[str] = []
    done = python("done", when_ready(ready, ""), shutdown_on_exit=True)
    assert run([python("deaf", code), done], grace_s=0.2, write=lines.append) == 128 + signal.SIGKILL
    assert "[launch] SIGTERM to: deaf\n" in lines
    assert "[launch] SIGKILL to: deaf\n" in lines


def test_respawn_starts_again_after_a_delay(tmp_path: Path) -> None:
    count = tmp_path / "count"
    # The third one stays, so that it is not ending by itself when the watcher ends the launch.
    code = f"printf x >> {count}; [ $(wc -c < {count}) -ge 3 ] && exec sleep 60; exit 1"
    third = (
        f"import os, time\nwhile not os.path.exists({str(count)!r}) or os.path.getsize({str(count)!r}) < 3: "
    )
    watcher = python("watcher", third + "time.sleep(0.01)", shutdown_on_exit=True)
    flaky = Process("flaky", ["sh", "-c", code], {}, respawn=True, respawn_delay_s=0.05)
    assert run([flaky, watcher], write=lambda _: None) == 0, "what came back is no failure"
    assert count.stat().st_size >= 3


def test_a_command_that_does_not_exist_is_127() -> None:
    lines: list[str] = []
    assert run([Process("ghost", ["/no/such/program"], {})], write=lines.append) == 127
    assert any("cannot start ghost" in line for line in lines)


def test_nothing_to_run_is_an_error() -> None:
    with pytest.raises(LaunchError, match="nothing to run"):
        run([])


LAUNCH = """
import sys
from pathlib import Path
from ambient_policy_ros import launch_cli
sys.exit(launch_cli.main([str(Path('job.launch.yaml').resolve())]))
"""


def write_job(folder: Path, *codes: str) -> None:
    """Write a launch file whose processes each print their process id first."""
    text = "launch:\n"
    for i, code in enumerate(codes):
        (folder / f"node_{i}.py").write_text(f"import os; print('pid', os.getpid(), flush=True)\n{code}")
        text += (
            f"  - executable: {{cmd: {sys.executable} {folder}/node_{i}.py, name: n{i}, output: screen}}\n"
        )
    (folder / "job.launch.yaml").write_text(text)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state != "Z"


def pids_of(output: str) -> list[int]:
    return [int(line.split()[-1]) for line in output.splitlines() if "] pid " in line]


GRANDCHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
print('pid', child.pid, flush=True)
print('ready', flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_runner_leaves_no_orphan(tmp_path: Path, start: Start, number: int) -> None:
    """`ros2 launch` orphans its nodes at SIGTERM; here all three signals end nodes and what they started."""
    write_job(tmp_path, CLEAN, SLEEPER, GRANDCHILD)
    runner = start("-c", LAUNCH)
    for name in ("n0", "n1", "n2"):
        runner.wait_for(f"[{name}] ready")
    pids = pids_of(runner.output())
    assert len(pids) == 4
    assert runner.stop(number) == 0, runner.output()
    assert not [pid for pid in pids if alive(pid)]


def test_a_killed_runner_takes_its_nodes_along(tmp_path: Path, start: Start) -> None:
    write_job(tmp_path, SLEEPER)
    runner = start("-c", LAUNCH)
    runner.wait_for("[n0] ready")
    (pid,) = pids_of(runner.output())
    runner.stop(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while alive(pid):
        assert time.monotonic() < deadline, "orphaned"
        time.sleep(0.02)


def test_a_second_interrupt_hurries(tmp_path: Path, start: Start) -> None:
    write_job(tmp_path, STUBBORN)
    runner = start("-c", LAUNCH)
    runner.wait_for("[n0] ready")
    began_s = time.monotonic()
    runner.process.send_signal(signal.SIGINT)
    runner.wait_for("SIGINT: ending 1 processes")
    assert runner.stop(signal.SIGINT) == 0
    assert time.monotonic() - began_s < 4, "the usual patience before SIGTERM is 5 s"
    assert "SIGTERM to: n0" in runner.output()
