"""Workers: a seed's result is the same wherever it runs, and a worker that dies costs only its own seed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from rich.console import Console

from ambient_policy.errors import ConfigError
from sim.progress import pace, progress
from sim.seeds import wanted_seeds
from sim.workers import THREADS, WorkerError, Workers, finished_jobs, run_jobs

_folder: Path
_setups = 0


def setup(folder: str) -> None:
    global _folder, _setups
    _folder, _setups = Path(folder), _setups + 1


def look(seed: int) -> tuple[int, int, int, dict[str, str | None]]:
    return seed * seed, os.getpid(), _setups, {name: os.environ.get(name) for name in THREADS}


def die_once(seed: int) -> int:
    """End by SIGKILL the first time that seed 1 is tried, and every time that seed 3 is."""
    with (_folder / f"starts{seed}").open("a") as stream:
        stream.write("x")
    starts = len((_folder / f"starts{seed}").read_text())
    if seed == 3 or (seed == 1 and starts == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if seed == 2:
        raise ValueError("two is bad")
    time.sleep(0.3)
    return starts


def wait_long(seed: int) -> None:
    (_folder / f"started{seed}").touch()
    try:
        for _ in range(3000 if seed else 0):
            time.sleep(0.02)
    except BaseException as error:
        (_folder / f"left{seed}").write_text(type(error).__name__)
        raise


def wait_for(condition, what: str, deadline_s: float = 90.0) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"waited {deadline_s} s for {what}"
        time.sleep(0.05)


def local(job, seeds, folder: Path, processes: int = 2):
    return finished_jobs(
        job, seeds, setup=setup, setup_args=(str(folder),), workers=Workers(processes=processes)
    )


def test_a_process_is_set_up_once_and_serves_many_seeds_on_one_thread(tmp_path):
    ended = list(local(look, range(12), tmp_path))
    assert {e.item: e.result[0] for e in ended} == {seed: seed * seed for seed in range(12)}
    assert len({e.result[1] for e in ended}) == 2
    assert os.getpid() not in {e.result[1] for e in ended}
    assert {e.result[2] for e in ended} == {1}
    assert all(e.result[3][name] == os.environ[name] for e in ended for name in THREADS)


def test_a_process_that_dies_costs_no_other_seed_and_its_own_is_tried_again(tmp_path):
    """Seed 3 dies four times beside the others, which must neither start again nor be blamed."""
    ended = {e.item: e for e in local(die_once, range(6), tmp_path)}
    assert {seed: ended[seed].result for seed in (0, 1, 4, 5)} == {0: 1, 1: 2, 4: 1, 5: 1}
    assert isinstance(ended[2].error, ValueError)
    assert (tmp_path / "starts2").read_text() == "x", "an exception is not tried again"
    assert isinstance(ended[3].error, WorkerError)
    assert "seed 3 ended its process 4 times: killed, out of memory" in str(ended[3].error)
    assert (tmp_path / "starts3").read_text() == "xxxx"


def test_a_caller_who_leaves_interrupts_the_jobs_and_leaves_no_process(tmp_path):
    jobs = local(wait_long, range(5), tmp_path)
    assert next(jobs).item == 0
    wait_for(lambda: (tmp_path / "started1").exists() and (tmp_path / "started2").exists(), "two jobs")
    began = time.monotonic()
    jobs.close()
    assert time.monotonic() - began < 20
    assert [(tmp_path / f"left{seed}").read_text() for seed in (1, 2)] == ["SystemExit"] * 2
    assert not (tmp_path / "started3").exists()


def test_run_jobs_raises_the_first_error(tmp_path):
    with pytest.raises(ValueError, match="two is bad"):
        list(run_jobs(die_once, [0, 2], setup=setup, setup_args=(str(tmp_path),), processes=1))


def test_no_workers_are_refused():
    with pytest.raises(ConfigError, match="--processes is 0, needs 1 or more"):
        Workers(processes=0)


# Seeds and progress.


def test_shards_are_disjoint_and_complete_and_stay_when_there_are_more_seeds():
    shards = [set(wanted_seeds(7, 23, f"{k}/5")) for k in range(1, 6)]
    assert sorted(seed for shard in shards for seed in shard) == list(range(7, 30))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert set(wanted_seeds(7, 100, "2/5")) & set(range(7, 30)) == shards[1]
    assert wanted_seeds(7, 3) == [7, 8, 9]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0, 0), "--episodes 0 must be 1 or more"),
        ((-1, 5), "--first-seed -1 must be 0 or more"),
        ((0, 5, "0/2"), "--shard is '0/2', needs K/N with K from 1 to N, such as 2/5"),
        ((0, 5, "3/2"), "--shard is '3/2'"),
        ((0, 5, "half"), "--shard is 'half'"),
        ((0, 2, "3/3"), "shard 3/3 of 2 seeds is empty"),
    ],
)
def test_seeds_that_cannot_be_are_refused(arguments, text):
    with pytest.raises(ConfigError, match=text):
        wanted_seeds(*arguments)


def test_pace_is_that_of_this_run():
    assert pace(10, 20, 60.0) == "10.0 a minute, 2 min 0 s left"
    assert pace(10, 1990, 60.0) == "10.0 a minute, 3 h 19 min left"


def test_a_log_has_a_line_every_half_minute_and_a_last_one(capsys):
    times = [0.0]

    def clock() -> float:
        return times[0]

    with progress("demos", 8, Console(), 2, clock) as advance:
        for k in range(1, 7):
            times[0] = 12.0 * k
            advance(f"{k} kept")
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines == [
        "demos 5/8: 5.0 a minute, 0 min 36 s left, 3 kept",
        "demos 8/8: 5.0 a minute, 0 min 0 s left, 6 kept",
    ]
