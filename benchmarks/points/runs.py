"""Train an arm with the project's trainer, and use what it learnt: its denoiser and its samples."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ambient_policy.errors import ConfigError
from ambient_policy.noise import karras_ladder
from ambient_policy.sampling import sample
from benchmarks.points.arms import Arm
from training.checkpoint import list_checkpoints, load_into, load_tensors, read_meta
from training.config import TrainConfig, load_config
from training.policy import PolicyNet, denoise
from training.record import read_run
from training.run import train

CONFIG = Path(__file__).with_name("points.yaml")
Denoiser = Callable[[np.ndarray, float], np.ndarray]
"""Points (N, 2) and their noise level to the guess of the clean points (N, 2)."""


def configure(arm: Arm, data: Path, seed: int, settings: tuple[str, ...] = ()) -> TrainConfig:
    """Give the config of an arm; arguments as for `train_arm`."""
    return load_config(
        str(CONFIG),
        tuple(str(data / name) for name in arm.sources),
        (f"seed={seed}", *settings, *arm.settings),
        arm.preset,
        str(data / "annotation") if arm.annotation else None,
    )


def train_arm(arm: Arm, data: Path, out: Path, seed: int, settings: tuple[str, ...] = ()) -> Path:
    """Train `arm` into `out`/NAME, or finish what was started there; a finished run takes no time.

    Args:
        data: folder that holds the sources of the arm, and `annotation` where the arm needs one.
        settings: for all arms alike; the arm's own win.
    """
    config = configure(arm, data, seed, settings)
    began = time.monotonic()
    train(config, out / arm.name, resume=True)
    print(f"{arm.name}, seed {seed}: {time.monotonic() - began:.0f} s", flush=True)
    return out / arm.name


def finished(run: Path) -> bool:
    """Say whether a run has taken all of its steps."""
    if not (run / "config.yaml").is_file():
        return False
    config, _ = read_run(run)
    checkpoints = list_checkpoints(run / "checkpoints")
    return bool(checkpoints) and read_meta(checkpoints[-1]).step == config.optim.steps


def denoiser_of(run: Path) -> Denoiser:
    """Open the averaged weights of a run's last checkpoint."""
    config, record = read_run(run)
    unit = record.normalizer.action
    if tuple(unit.scale) != (1.0, 1.0) or tuple(unit.offset) != (0.0, 0.0):
        raise ConfigError(f"{run} has action units {unit.scale}; these studies need `action.unit_m: 1.0`")
    net = PolicyNet(config).eval().requires_grad_(False)
    checkpoint = list_checkpoints(run / "checkpoints")[-1]
    load_into(net, load_tensors(checkpoint, "ema"), checkpoint)

    def clean(x: np.ndarray, sigma: float) -> np.ndarray:
        chunk = torch.from_numpy(np.asarray(x, np.float32))[:, None]
        state = torch.zeros(len(chunk), 1, 2)
        condition = net.condition(net.encode({}, state.shape[:2]), state)
        level = chunk.new_full((len(chunk),), sigma)
        return denoise(net, chunk, level, condition, record.sigma_data)[:, 0].double().numpy()

    return clean


def generate(clean: Denoiser, count: int, rng: np.random.Generator, steps: int = 24) -> np.ndarray:
    """Draw points (count, 2) from a denoiser: Heun's method from noise level 10 down to 0.01, then to 0."""
    ladder = karras_ladder(steps, 0.01, 10.0, 5.0)
    *_, points = sample(clean, rng.standard_normal((count, 2)) * ladder[0], ladder, "heun")
    return points
