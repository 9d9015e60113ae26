"""Trials survive a round trip and a torn last line."""

from __future__ import annotations

import pytest

from ambient_policy.errors import TrialError
from ambient_policy.trials import Trial, append_trial, read_trials


def trial(seed: int) -> Trial:
    return Trial(
        policy="p", bundle_commit="c", scenario="s", seed=seed, runner="direct", outcome="timeout",
        success=False, held=False, duration_s=75.0, final_position_error_m=0.1, final_yaw_error_rad=0.2,
        holds={"x": 3}, commit="d", wall_s=1.5,
    )  # fmt: skip


def test_round_trip(tmp_path):
    file = tmp_path / "trials.jsonl"
    for seed in range(3):
        append_trial(file, trial(seed))
    assert read_trials(file) == [trial(seed) for seed in range(3)]


def test_a_torn_last_line_loses_only_itself(tmp_path):
    file = tmp_path / "trials.jsonl"
    for seed in range(3):
        append_trial(file, trial(seed))
    file.write_bytes(file.read_bytes()[:-20])
    assert [t.seed for t in read_trials(file)] == [0, 1]


def test_a_bad_line_is_named(tmp_path):
    file = tmp_path / "trials.jsonl"
    append_trial(file, trial(0))
    with file.open("a") as stream:
        stream.write('{"seed": "many"}\n')
    with pytest.raises(TrialError, match="line 2 is not a trial"):
        read_trials(file)


def test_no_file_says_what_makes_one(tmp_path):
    with pytest.raises(TrialError, match="run `ambient-policy evaluate`"):
        read_trials(tmp_path / "trials.jsonl")
