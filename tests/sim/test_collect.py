"""`collect` loses nothing when killed, and gives the same bytes however it is run."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ambient_policy.episodes import list_episodes, read_episode
from ambient_policy.errors import ConfigError
from sim.collect import main

pytestmark = pytest.mark.sim
# `python -m` would run sim.collect as __main__, whose functions spawned workers could not find again.
COMMAND = [
    sys.executable,
    "-c",
    "import sys; from ambient_policy.cli import main; sys.exit(main())",
    "collect",
]


def arguments(out: Path, episodes: int, processes: int) -> list[str]:
    return [
        *(
            "--out",
            str(out),
            "--episodes",
            str(episodes),
            "--processes",
            str(processes),
            "--style",
            "planner",
        ),
        *("--disturbance.kick-rate", "0.01"),
    ]


def contents(out: Path) -> dict[str, bytes]:
    return {
        f"{episode.name}/{name}": (episode / name).read_bytes()
        for episode in list_episodes(out)
        for name in ("SHA256SUMS", "meta.json")
    }


def wait_for(condition, what: str, deadline_s: float = 240.0):
    end = time.monotonic() + deadline_s
    while not (found := condition()):
        assert time.monotonic() < end, f"waited {deadline_s} s for {what}"
        time.sleep(0.05)
    return found


def test_killed_and_resumed_equals_undisturbed(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("AMBIENT_POLICY_COMMIT", "test")
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    assert main(arguments(whole, 5, 1)) == 0
    process = subprocess.Popen([*COMMAND, *arguments(torn, 5, 2)], stdout=subprocess.DEVNULL)
    wait_for(lambda: torn.is_dir() and len(list_episodes(torn)) >= 2, "two episodes")
    workers = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(workers) >= 2
    wait_for(lambda: not any(Path(f"/proc/{w}").exists() for w in workers), "the workers to end")
    kept = contents(torn)
    assert len(list_episodes(torn)) < 5, "it was killed too late to show anything"
    assert main(arguments(torn, 5, 2)) == 0
    assert "of 5 seeds are done already" in capsys.readouterr().out
    assert contents(torn) == contents(whole)
    assert kept.items() <= contents(torn).items()
    assert not [p for p in torn.iterdir() if "partial" in p.name]
    episode = read_episode(torn / "000003")
    assert episode.images["overhead"].shape == (episode.meta.steps, 96, 128, 3)


def test_two_recipes_in_one_folder_are_refused(tmp_path, capsys):
    assert main(["--out", str(tmp_path), "--episodes", "1", "--processes", "1"]) == 0
    with pytest.raises(ConfigError, match="another recipe: source differ"):
        main(["--out", str(tmp_path), "--episodes", "1", "--source", "other"])


REPLAY = ("--pipeline", "replay", "--scenario", "source", "--episodes", "5")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Give what one process makes of five seeds."""
    out = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AMBIENT_POLICY_COMMIT", "test")
        assert main(["--out", str(out), *REPLAY, "--processes", "1"]) == 0
    made = contents(out)
    assert len(made) >= 8, "four episodes or more"
    return made


def children(pid: int, name: str = "") -> list[int]:
    """List the child processes whose command line contains `name`."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()
    lines = {p: Path(f"/proc/{p}/cmdline") for p in found}
    return [int(p) for p, file in lines.items() if file.exists() and name in file.read_text()]


@contextlib.contextmanager
def collecting(*more: str):
    """Run the command as a process of its own, as the leader of a group, which the end of the block ends."""
    process = subprocess.Popen(
        [*COMMAND, *more],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def gone(pids: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_shards_and_a_killed_process_make_no_difference(alone, tmp_path, monkeypatch):
    """Two processes fill two folders by shard; one of them is killed and its episode redone."""
    monkeypatch.setenv("AMBIENT_POLICY_COMMIT", "test")
    first, second = tmp_path / "first", tmp_path / "second"
    with collecting("--out", str(first), *REPLAY, "--shard", "1/2", "--processes", "2") as process:
        wait_for(lambda: list_episodes(first) if first.is_dir() else [], "an episode")
        os.kill(children(process.pid, "spawn_main")[-1], signal.SIGKILL)
        assert len(list_episodes(first)) < 3, "it was killed too late to show anything"
        assert process.wait(240) == 0
    assert main(["--out", str(second), *REPLAY, "--shard", "2/2", "--processes", "2"]) == 0
    parts = [contents(first), contents(second)]
    assert parts[0] | parts[1] == alone
    assert not parts[0].keys() & parts[1].keys()
    assert not [p for out in (first, second) for p in out.iterdir() if "partial" in p.name]


def test_an_interrupt_ends_at_once_and_leaves_only_whole_episodes(tmp_path):
    with collecting("--out", str(tmp_path), *REPLAY[:-1], "500", "--processes", "2") as process:
        wait_for(lambda: list_episodes(tmp_path), "an episode")
        workers = children(process.pid)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        assert process.wait(240) == 130
        assert process.stderr.read().strip() == "ambient-policy collect: interrupted"
    wait_for(lambda: gone(workers), "the workers to end")
    assert {p.name for p in tmp_path.iterdir()} - {"collect.json"} == {
        p.name for p in list_episodes(tmp_path)
    }


@pytest.mark.ray
def test_machines_make_no_difference_nor_does_the_loss_of_one(alone, tmp_path, monkeypatch, two_nodes):
    """On two Ray nodes, one worker is killed, and later a whole node."""
    monkeypatch.setenv("AMBIENT_POLICY_COMMIT", "test")
    raylet = two_nodes.head_node.all_processes["raylet"][0].process.pid
    made_before_kill, made_before_loss = [], []

    def harm() -> None:
        wait_for(lambda: list_episodes(tmp_path), "an episode")
        victim = wait_for(lambda: children(raylet, "ray::_call"), "a job")[0]
        os.kill(victim, signal.SIGKILL)
        made_before_kill.extend(list_episodes(tmp_path))
        wait_for(lambda: len(list_episodes(tmp_path)) > len(made_before_kill), "an episode")
        made_before_loss.extend(list_episodes(tmp_path))
        two_nodes.remove_node(two_nodes.second, allow_graceful=False)

    thread = threading.Thread(target=harm)
    thread.start()
    assert main(["--out", str(tmp_path), *REPLAY, "--executor", "ray"]) == 0
    thread.join()
    assert 0 < len(made_before_kill) < len(made_before_loss) < 5
    assert contents(tmp_path) == alone
    assert not [p for p in tmp_path.iterdir() if "partial" in p.name]


def test_counts_are_checked(tmp_path):
    with pytest.raises(ConfigError, match="--episodes 0 must be 1 or more"):
        main(["--out", str(tmp_path), "--episodes", "0"])
