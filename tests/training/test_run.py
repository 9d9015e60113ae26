"""Runs: stopped, killed and resumed, nothing is lost and nothing is mixed up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from training.checkpoint import SHARD_BYTES, list_checkpoints, load_tensors, save_tensors
from training.config import load_config
from training.errors import TrainingError
from training.run import train

pytestmark = pytest.mark.train

SHORT = (
    "pretrain={steps: 6, batch: 4, warmup: 2}",
    "optim={steps: 14, batch: 4, warmup: 2}",
    "checkpoint_every=4",
    "log_every=2",
    "validation={every: 7, windows: 8, fraction: 0.2}",
)
CACHED = (*SHORT, "features=cached", "feature_draws=2", "aux_pose_weight=0")


def final_weights(run: Path) -> dict[str, torch.Tensor]:
    newest = list_checkpoints(run / "checkpoints")[-1]
    assert newest.name == "policy-00000014"
    weights = load_tensors(newest, "weights")
    return weights | {f"ema/{k}": v for k, v in load_tensors(newest, "ema").items()}


def assert_same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    assert one.keys() == two.keys()
    assert not [name for name in one if not torch.equal(one[name], two[name])]


def stop_at(*calls: int):
    """Give a `stop` that says yes at these calls, counted over everything that asks it."""
    count = 0

    def stop() -> bool:
        nonlocal count
        count += 1
        return count in calls

    return stop


@pytest.mark.parametrize("settings", [SHORT, CACHED], ids=["live", "cached"])
def test_a_run_in_slices_ends_where_the_whole_one_does(tiny, tmp_path, settings):
    """Bit for bit: weights and average, with a stop in the pretext and two in the policy phase."""
    config = tiny(*settings)
    whole = train(config, tmp_path / "whole")
    assert whole.finished
    stop = stop_at(3, 9, 10)
    outcomes = [train(config, tmp_path / "slices", resume=True, stop=stop) for _ in range(4)]
    assert [o.finished for o in outcomes] == [False, False, False, True]
    assert outcomes[0].phase == "pretext"
    assert_same(final_weights(tmp_path / "whole"), final_weights(tmp_path / "slices"))

    def logged(run: str) -> list[dict[str, float]]:
        lines = [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        return [
            {k: v for k, v in line.items() if k.startswith("val/") or k == "step"}
            for line in lines
            if "val/denoise" in line
        ]

    assert logged("whole") == logged("slices")
    assert whole.metrics == outcomes[-1].metrics


def test_a_killed_run_ends_where_the_whole_one_does(demos, tiny, tmp_path):
    """SIGKILL in the middle of the policy phase, then the same command with --resume."""
    train(tiny(*SHORT), tmp_path / "whole")
    run = tmp_path / "killed"
    command = [sys.executable, "-m", "training.train", "smoke", "--data", str(demos), "--out", str(run)]
    command += [part for setting in SHORT for part in ("--set", setting)]
    # Every step waits a little, so that the kill falls between two checkpoints and not after the end.
    slow = """
import sys, time, training.ema, training.train
update = training.ema.EMA.update
training.ema.EMA.update = lambda *args: (time.sleep(0.05), update(*args))[1]
sys.exit(training.train.main(sys.argv[1:]))
"""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "4294967296"}
    process = subprocess.Popen(
        [sys.executable, "-c", slow, *command[3:]],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    deadline = time.monotonic() + 200
    while not any(p.name.startswith("policy") for p in list_checkpoints(run / "checkpoints")):
        assert process.poll() is None, process.stdout.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list_checkpoints(run / "checkpoints")[-1].name != "policy-00000014"
    done = subprocess.run(
        [*command, "--resume"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "resuming policy at step" in done.stdout
    assert "next: ambient-policy export" in done.stdout
    assert_same(final_weights(tmp_path / "whole"), final_weights(run))


def test_another_config_is_refused_by_the_key_that_changed(tiny, write, tmp_path):
    run = tmp_path / "run"
    short = ("pretrain.steps=0", "aux_pose_weight=0", "optim={steps: 2, batch: 2}", "validation.windows=4")
    train(tiny(*short), run)
    with pytest.raises(TrainingError, match=r"already holds a run \(policy-00000002\); pass --resume"):
        train(tiny(*short), run)
    with pytest.raises(
        TrainingError, match=r"another config.*\n  optim.lr: was 0.001, now 0.1\nput these back"
    ):
        train(tiny(*short, "optim.lr=0.1"), run, resume=True)
    other = load_config("smoke", (str(write(tmp_path / "other", 3)),), short)
    with pytest.raises(TrainingError, match=r"the episodes changed since"):
        train(other, run, resume=True)
    assert train(tiny(*short, "log_every=1"), run, resume=True).finished  # changes no weight


def test_divergence_is_an_error_that_says_what_to_do(tiny, tmp_path):
    config = tiny(
        "pretrain.steps=0", "aux_pose_weight=0", "optim={steps: 40, batch: 2, lr: 1e30, clip: 1e30}"
    )
    with pytest.raises(TrainingError, match=r"policy diverged before step .* lower lr"):
        train(config, tmp_path / "run")


def test_without_a_gpu_asking_for_one_is_an_error(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TrainingError, match=r"device: cuda, and torch finds no GPU"):
        train(tiny("device=cuda"), tmp_path / "run")


def test_large_tensors_are_cut_and_joined(tmp_path):
    """Every file stays small enough to travel; what comes back is the same."""
    rng = torch.Generator().manual_seed(0)
    tensors = {
        "big": torch.randn(900, 9000, generator=rng),  # 32 MB
        "small": torch.randn(3, generator=rng),
        "scalar": torch.tensor(2.0),
        "bytes": torch.arange(10, dtype=torch.uint8),
    }
    save_tensors(tmp_path, "weights", tensors)
    files = list(tmp_path.iterdir())
    assert len(files) == 3
    assert all(file.stat().st_size < SHARD_BYTES + 10_000 for file in files)
    back = load_tensors(tmp_path, "weights")
    assert back.keys() == tensors.keys()
    assert all(
        torch.equal(back[name], tensors[name]) and back[name].dtype == tensors[name].dtype for name in back
    )


def test_a_damaged_checkpoint_is_named(tmp_path):
    save_tensors(tmp_path, "ema", {"x": torch.ones(3)})
    (tmp_path / "ema-000.safetensors").write_bytes(b"nonsense")
    with pytest.raises(TrainingError, match=r"ema-000.safetensors is damaged .* use an older checkpoint"):
        load_tensors(tmp_path, "ema")
    with pytest.raises(TrainingError, match=r"has no weights-\*.safetensors; copy the whole checkpoint"):
        load_tensors(tmp_path, "weights")
