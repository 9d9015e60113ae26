"""Executors: every job ends in a result or an error of its own, here and on Ray, also when workers die."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ambient_policy.errors import ConfigError
from ambient_policy.executors import RaySettings, run_jobs


def double(item: int, stop: Callable[[], bool]) -> int:
    if item == 2:
        raise ValueError("two is bad")
    return 2 * item


def results(finished: Iterator[Any]) -> dict[int, Any]:
    return {f.item: f.result if f.error is None else f.error for f in finished}


# On this machine.


def test_every_job_ends_with_its_own_result_or_error():
    ended = results(run_jobs(double, range(4), workers=2))
    assert {item: ended[item] for item in (0, 1, 3)} == {0: 0, 1: 2, 3: 6}
    assert isinstance(ended[2], ValueError)
    assert "two is bad" in str(ended[2])


def test_results_come_as_jobs_end_and_no_more_than_workers_run():
    running, most, lock = 0, 0, threading.Lock()

    def job(delay_s: float, stop: Callable[[], bool]) -> float:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(delay_s)
        with lock:
            running -= 1
        return delay_s

    order = [f.result for f in run_jobs(job, [0.6, 0.05, 0.1], workers=2)]
    assert order == [0.05, 0.1, 0.6]
    assert most == 2


def test_a_caller_who_leaves_stops_running_jobs_and_starts_no_more():
    seen: list[tuple[int, bool]] = []
    started: set[int] = set()

    def job(item: int, stop: Callable[[], bool]) -> None:
        started.add(item)
        deadline = time.monotonic() + 60
        while item > 0 and not stop() and time.monotonic() < deadline:
            time.sleep(0.01)
        seen.append((item, stop()))

    jobs = run_jobs(job, range(5), workers=2)
    assert next(jobs).item == 0
    deadline = time.monotonic() + 60
    while started != {0, 1, 2} and time.monotonic() < deadline:
        time.sleep(0.01)
    jobs.close()
    assert sorted(seen)[0] == (0, False)
    assert sorted(seen)[1:] == [(1, True), (2, True)], "two were running; the rest must not start"


@pytest.mark.parametrize(
    ("keywords", "text"),
    [
        ({"workers": 0}, "workers is 0, needs 1 or more"),
        ({"executor": "rya"}, "unknown executor 'rya'; did you mean `ray`?"),
    ],
)
def test_what_cannot_run_is_said_before_the_first_job(keywords, text):
    with pytest.raises(ConfigError, match=text):
        run_jobs(double, [1], **keywords)


def test_without_ray_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        ConfigError, match=r"not installed here; run: pip install -c constraints.txt -e '.\[ray\]'"
    ):
        run_jobs(double, [1], executor="ray")


@pytest.mark.ray
@pytest.mark.usefixtures("_ray_environment")
def test_nobody_at_the_address_is_said_at_once():
    started = time.monotonic()
    with pytest.raises(ConfigError, match="no Ray cluster at address '127.0.0.1:9'.*ray start --head"):
        run_jobs(double, [1], executor="ray", ray=RaySettings(address="127.0.0.1:9"))
    assert time.monotonic() - started < 15


# On Ray. Its workers cannot import this file: jobs are made inside a function, which Ray sends by value.


def on_ray(job: Callable[..., Any], items: Any, workers: int = 2, **settings: Any) -> dict[int, Any]:
    return results(run_jobs(job, items, executor="ray", workers=workers, ray=RaySettings(**settings)))


@pytest.mark.ray
def test_ray_runs_jobs_on_both_machines(two_nodes):
    def make() -> Callable[..., Any]:
        def job(item: int, stop: Callable[[], bool]) -> tuple[int, str, int]:
            import os
            import time

            import ray

            time.sleep(0.5)
            if item == 2:
                raise ValueError("two is bad")
            return 2 * item, ray.get_runtime_context().get_node_id(), os.getpid()

        return job

    ended = on_ray(make(), range(5))
    assert isinstance(ended[2], ValueError)
    assert "two is bad" in str(ended.pop(2))
    assert {item: result[0] for item, result in ended.items()} == {0: 0, 1: 2, 3: 6, 4: 8}
    assert len({result[1] for result in ended.values()}) == 2
    assert os.getpid() not in {result[2] for result in ended.values()}


@pytest.mark.ray
def test_a_worker_killed_in_the_middle_is_retried_and_an_exception_is_not(two_nodes, tmp_path):
    def make(folder: str) -> Callable[..., Any]:
        def job(item: int, stop: Callable[[], bool]) -> int:
            import os
            import signal

            starts = Path(folder) / f"starts{item}"
            with starts.open("a") as stream:
                stream.write("x")
            count = len(starts.read_text())
            if item == 0 and count == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            if item == 1:
                raise ValueError("always")
            return count

        return job

    ended = on_ray(make(str(tmp_path)), range(3))
    assert ended[0] == 2
    assert isinstance(ended[1], ValueError)
    assert (tmp_path / "starts1").read_text() == "x"
    assert ended[2] == 1


@pytest.mark.ray
def test_a_worker_that_always_dies_is_an_error_after_the_retries(two_nodes, tmp_path):
    def make(folder: str) -> Callable[..., Any]:
        def job(item: int, stop: Callable[[], bool]) -> None:
            import os
            import signal

            with (Path(folder) / "starts").open("a") as stream:
                stream.write("x")
            os.kill(os.getpid(), signal.SIGKILL)

        return job

    ended = on_ray(make(str(tmp_path)), [7], retries=1)
    assert "died" in str(ended[7])
    assert (tmp_path / "starts").read_text() == "xx"


@pytest.mark.ray
def test_a_caller_who_leaves_cancels_jobs_on_ray(two_nodes, tmp_path):
    def make(folder: str) -> Callable[..., Any]:
        def job(item: int, stop: Callable[[], bool]) -> None:
            import time

            try:
                (Path(folder) / f"started{item}").touch()
                for _ in range(0 if item == 0 else 1000):
                    time.sleep(0.02)
            except KeyboardInterrupt:
                (Path(folder) / f"cancelled{item}").touch()
                raise

        return job

    def comes(file: Path, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        return file.exists()

    jobs = run_jobs(make(str(tmp_path)), range(4), executor="ray", workers=2)
    assert next(jobs).item == 0
    assert comes(tmp_path / "started1", 120)
    jobs.close()
    assert comes(tmp_path / "cancelled1", 15), "the job itself would take 20 s"
    assert not (tmp_path / "started3").exists()


IGNORED = """
import os, signal
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as the shell does for what a script starts with `&`
from ambient_policy.executors import _call

try:
    _call(lambda item, stop: os.kill(os.getpid(), signal.SIGINT), 0)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_a_job_of_a_cluster_that_ignores_interrupts_can_be_interrupted():
    command = [sys.executable, "-c", IGNORED]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert told.stdout == "interrupted\n"


@pytest.mark.ray
def test_no_more_than_workers_run_on_ray(two_nodes):
    def make() -> Callable[..., Any]:
        def job(item: int, stop: Callable[[], bool]) -> tuple[float, float]:
            import time

            began = time.time()
            time.sleep(0.2)
            return began, time.time()

        return job

    spans = sorted(on_ray(make(), range(3), workers=1).values())
    assert all(end <= begin for (_, end), (begin, _) in pairwise(spans)), "two machines, but one worker"


@pytest.mark.ray
def test_a_job_that_no_machine_can_take_is_refused(two_nodes):
    with pytest.raises(ConfigError, match="no machine of the Ray cluster has 1 CPU and 4 GPU for one job"):
        run_jobs(double, [1], executor="ray", ray=RaySettings(gpus=4))


@pytest.mark.ray
def test_a_machine_that_goes_down_gives_its_jobs_to_the_others(two_nodes, tmp_path):
    """Last, because it takes the second machine away."""
    doomed = two_nodes.second.node_id

    def make(folder: str) -> Callable[..., Any]:
        def job(item: int, stop: Callable[[], bool]) -> str:
            import time

            import ray

            node = ray.get_runtime_context().get_node_id()
            starts = Path(folder) / f"{item}-{node}"
            starts.touch()
            while node == doomed or not (Path(folder) / "go").exists():
                time.sleep(0.05)
            return node

        return job

    def pull_the_plug() -> None:
        deadline = time.monotonic() + 120
        while len(list(tmp_path.glob("[01]-*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        two_nodes.remove_node(two_nodes.second, allow_graceful=False)
        (tmp_path / "go").touch()

    puller = threading.Thread(target=pull_the_plug)
    puller.start()
    ended = on_ray(make(str(tmp_path)), range(2))
    puller.join()
    assert len(set(ended.values())) == 1, f"not both on the machine that stayed: {ended}"
    assert doomed not in ended.values()
    assert len(list(tmp_path.glob("[01]-*"))) == 3, "one of the jobs starts a second time"
