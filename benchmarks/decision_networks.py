"""The networks of `decision_time.py`: presets of training with random weights, as bundles and in torch."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from ambient_policy.bundle import Bundle, write_bundle
from ambient_policy.episodes import CameraModel
from ambient_policy.manifest import Normalizers, NormalizerSpec
from ambient_policy.sampling import denoise_step, sample
from training.config import TrainConfig, load_config
from training.export import make_manifest, write_graphs
from training.parity import check_parity
from training.policy import PolicyNet, denoise
from training.record import RunRecord

SIGMA_DATA = 0.5


def make_network(preset: str) -> tuple[PolicyNet, TrainConfig]:
    """Build a preset as `pushing_gpu` would train it: two cameras of 128 x 96, T = 2, H = 16."""
    config = load_config("pushing_gpu", settings=(f"network.preset={preset}",))
    torch.manual_seed(0)
    net = PolicyNet(config).eval().requires_grad_(False)
    # Training starts it at zero, where no layer would depend on what is observed and parity would say less.
    torch.nn.init.normal_(net.denoiser.modulation.weight, std=0.02)
    return net, config


def write_random_bundle(net: PolicyNet, config: TrainConfig, steps: int, folder: Path) -> Bundle:
    """Export a network with a sampler of `steps` steps, through all that `ambient-policy export` checks."""
    one = NormalizerSpec(offset=(0.0, 0.0), scale=(1.0, 1.0))
    capture = {
        name: CameraModel(
            width=c.width, height=c.height, fx=120.0, fy=120.0, cx=c.width / 2, cy=c.height / 2, frame_id=name
        )
        for name, c in config.cameras.items()
    }
    record = RunRecord(
        commit="random weights",
        torch=torch.__version__,
        period_s=0.1,
        task="none",
        capture=capture,
        normalizer=Normalizers(state=one, action=one),
        sigma_data=SIGMA_DATA,
        pose_offset=(0.0, 0.0),
        data={},
    )
    sampler = config.sampler.model_copy(update={"steps": steps})
    manifest = make_manifest(config, record, sampler, folder.name, {"weights": "random"})
    with TemporaryDirectory() as scratch:
        files = write_graphs(net, config, SIGMA_DATA, sampler, Path(scratch))
        parity = check_parity(net, manifest, files)
        return write_bundle(folder, manifest.model_copy(update={"parity": parity}), files)


def torch_decision(net: PolicyNet, config: TrainConfig, steps: int, *, ddpm: bool) -> Callable[[], Tensor]:
    """Return a call that decides as a usual stack does: all T frames encoded anew, then a loop in Python.

    Args:
        steps: network calls. With `ddpm`, noise is added after each (Ho et al. 2020, in sigma form).
    """
    w, rng = config.windows, np.random.default_rng(0)
    images = {
        name: torch.from_numpy(rng.integers(0, 256, (1, w.obs_steps, c.height, c.width, 3), dtype=np.uint8))
        for name, c in config.cameras.items()
    }
    state, noise = torch.zeros(1, w.obs_steps, 2), torch.randn(1, w.horizon, 2)
    ladder = config.sampler.model_copy(update={"steps": steps}).ladder().tolist()

    def decide() -> Tensor:
        with torch.inference_mode():
            condition = net.condition(net.encode(images), state)

            def clean(x: Tensor, sigma: float) -> Tensor:
                return denoise(net, x, x.new_full((len(x),), sigma), condition, SIGMA_DATA)

            x = noise * ladder[0]
            if not ddpm:
                *_, x = sample(clean, x, ladder, "ddim")
                return x
            for sigma, after in pairwise(ladder):
                x = denoise_step(x, clean(x, sigma), sigma, after**2 / sigma)
                x = x + after * (1 - (after / sigma) ** 2) ** 0.5 * torch.randn_like(x)
            return x

    return decide
