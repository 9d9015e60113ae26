"""The packed cache: same pictures, one name per content, nothing lost when a build is killed."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys

import numpy as np
import pytest

import training.cache
from ambient_policy.episodes import list_episodes, read_episode, write_episode
from ambient_policy.images import to_input
from training.cache import open_or_build
from training.config import CameraConfig
from training.errors import TrainingError

SIZE = {"overhead": CameraConfig(width=16, height=12)}


def test_frames_are_what_the_robot_would_feed(demos, tmp_path):
    """Every frame goes through the function that the policy node uses, in the order of the episodes."""
    cache = open_or_build(demos, SIZE, tmp_path)
    episodes = [read_episode(path) for path in list_episodes(demos)]
    expected = [to_input(frame, 16, 12) for e in episodes for frame in e.images["overhead"]]
    np.testing.assert_array_equal(cache.images["overhead"], np.stack(expected))
    np.testing.assert_array_equal(
        cache.lowdim["action"], np.concatenate([e.arrays["action"] for e in episodes])
    )
    assert cache.lowdim["episode_ends"].tolist() == np.cumsum([e.meta.steps for e in episodes]).tolist()


def test_a_killed_build_goes_on_where_it_stopped(write, tmp_path, monkeypatch):
    """The second build reads only what the first had not finished, and ends with the same bytes."""
    demos = write(tmp_path / "demos", 6)
    whole = open_or_build(demos, SIZE, tmp_path / "whole")
    monkeypatch.setattr(training.cache, "_FLUSH_EVERY", 2)
    decoded: list[str] = []

    def failing(path, **keywords):
        if keywords["cameras"]:
            decoded.append(path.name)
            if path.name == "ep0005" and decoded.count("ep0005") == 1:
                raise InterruptedError
        return read_episode(path, **keywords)

    monkeypatch.setattr(training.cache, "read_episode", failing)
    with pytest.raises(InterruptedError):
        open_or_build(demos, SIZE, tmp_path / "killed")
    assert not [p for p in (tmp_path / "killed").iterdir() if not p.name.startswith(".")]
    again = open_or_build(demos, SIZE, tmp_path / "killed")
    assert decoded.count("ep0000") == decoded.count("ep0003") == 1
    assert decoded.count("ep0005") == 2
    np.testing.assert_array_equal(again.images["overhead"], whole.images["overhead"])


def test_another_episode_or_size_makes_another_cache(write, tmp_path):
    """Nothing stale is ever trained on."""
    demos = write(tmp_path / "demos", 2)
    first = open_or_build(demos, SIZE, tmp_path / "cache").meta.key
    assert open_or_build(demos, SIZE, tmp_path / "cache").meta.key == first
    write(demos, 1, first_seed=2)
    more = open_or_build(demos, SIZE, tmp_path / "cache").meta.key
    larger = open_or_build(
        demos, {"overhead": CameraConfig(width=32, height=24)}, tmp_path / "cache"
    ).meta.key
    assert len({first, more, larger}) == 3


def test_a_cache_can_be_trained_on_without_its_episodes(demos, tmp_path):
    """A machine without the videos needs only the packed folder; another size is refused."""
    key = open_or_build(demos, SIZE, tmp_path).meta.key
    assert open_or_build(tmp_path / key, SIZE).meta.key == key
    wrong = {"overhead": CameraConfig(width=32, height=24)}
    with pytest.raises(TrainingError, match=r"packed for overhead 16x12 and the config wants overhead 32x24"):
        open_or_build(tmp_path / key, wrong)


def test_missing_cameras_and_mixed_rates_are_named(write, tmp_path):
    demos = write(tmp_path / "demos", 2)
    with pytest.raises(TrainingError, match=re.escape("has no camera side (it has overhead, wrist)")):
        open_or_build(demos, {"side": CameraConfig(width=16, height=12)}, tmp_path / "cache")
    odd = read_episode(demos / "ep0001")
    write_episode(demos, "odd", dataclasses.replace(odd, meta=odd.meta.model_copy(update={"period_s": 0.2})))
    with pytest.raises(TrainingError, match=r"odd runs at 0.2 s a step and .*ep0000 at 0.1"):
        open_or_build(demos, SIZE, tmp_path / "cache")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainingError, match=r"no whole episode under .*empty; make some with"):
        open_or_build(tmp_path / "empty", SIZE)


def test_two_runs_that_start_together_share_one_build(write, tmp_path):
    """The arms of a sweep do; the second used to lose the files it was writing."""
    demos = write(tmp_path / "demos", 30)
    code = (
        "import sys; from training.cache import open_or_build; "
        "print(open_or_build(sys.argv[1], {}).meta.steps, flush=True)"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", code, str(demos)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [run.communicate(timeout=100)[0].splitlines()[-1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0]
    assert said == ["600"] * 3
    built = [path for path in (tmp_path / "demos.cache").iterdir() if path.is_dir()]
    assert len(built) == 1
