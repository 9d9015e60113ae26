"""`collect` loses nothing when killed, and gives the same bytes however it is run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
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


def wait_for(condition, what: str, deadline_s: float = 90.0) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"waited {deadline_s} s for {what}"
        time.sleep(0.05)


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


def test_counts_are_checked(tmp_path):
    with pytest.raises(ConfigError, match="must both be 1 or more"):
        main(["--out", str(tmp_path), "--episodes", "0"])
