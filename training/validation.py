"""What a network does on episodes it never trained on. The same windows, noise and levels every time."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ambient_policy.sampling import sample
from training.batches import Batcher, draw_sigma
from training.config import TrainConfig
from training.loss import denoising_loss, features_of
from training.object_frame import POSE_UNIT_M
from training.policy import ACTION_SIZE, PolicyNet, autocast, denoise
from training.targets import Levels

_CHUNK = 128


@torch.no_grad()
def policy_metrics(net: PolicyNet, batcher: Batcher, config: TrainConfig) -> dict[str, float]:
    """Measure a policy.

    Returns: `denoise`, the training loss; `chunk_mm`, mean distance of sampled from demonstrated positions
        over the executed steps, one sample a window. It never reaches 0: a demonstrator may choose.
    """
    data = batcher.data
    count = min(config.validation.windows, sum(batcher.table.counts))
    device = batcher.table.now.device
    chosen = torch.linspace(0, sum(batcher.table.counts) - 1, count, device=device).long()
    rng = torch.Generator(device).manual_seed(0)
    sigma_data = data.normalization.sigma_data
    scale_mm = 1e3 * torch.tensor(data.normalization.action.scale, dtype=torch.float32, device=device)
    ladder = config.sampler.ladder()
    losses, errors = [], []
    for windows in chosen.split(_CHUNK):
        batch = batcher.gather(windows, None)
        shape = (len(windows), config.windows.horizon, ACTION_SIZE)
        sigma = draw_sigma(len(windows), config.diffusion, rng)
        noise = torch.randn(shape, generator=rng, device=device)
        start = torch.randn(shape, generator=rng, device=device) * float(ladder[0])
        with autocast(device, config.precision):
            condition = net.condition(features_of(net, batch), batch.state)
            losses.append(denoising_loss(net, batch.chunk, condition, Levels(sigma), noise, sigma_data))

            def clean(x: Tensor, level: float, condition: Tensor = condition) -> Tensor:
                return denoise(net, x, x.new_full((len(x),), level), condition, sigma_data)

            *_, chunk = sample(clean, start, ladder, config.sampler.method)
        apart = ((chunk - batch.chunk) * scale_mm)[:, : config.windows.execute_steps]
        errors.append(apart.norm(dim=-1).mean(dim=1))
    return {"denoise": float(torch.cat(losses).mean()), "chunk_mm": float(torch.cat(errors).mean())}


@torch.no_grad()
def pose_metrics(net: PolicyNet, batcher: Batcher, config: TrainConfig) -> dict[str, float]:
    """Measure the pretext: median and 90th percentile of the object's position [mm] and yaw [deg] error."""
    data = batcher.data
    assert data.pose is not None
    frames = data.validation_frames
    count = min(config.validation.windows, len(frames))
    frames = frames[torch.linspace(0, len(frames) - 1, count, device=frames.device).long()]
    guesses = []
    for some in frames.split(_CHUNK):
        with autocast(frames.device, config.precision):
            features = net.encode(batcher.images(some[:, None], None))[:, 0]
            guesses.append(net.pose_head(torch.cat([features, data.state[some]], dim=-1)).float())
    guess, truth = torch.cat(guesses).cpu().numpy(), data.pose[frames].cpu().numpy()
    position = np.linalg.norm(guess[:, :2] - truth[:, :2], axis=1) * POSE_UNIT_M * 1e3
    turn = np.arctan2(guess[:, 3], guess[:, 2]) - np.arctan2(truth[:, 3], truth[:, 2])
    yaw = np.abs(np.degrees(np.angle(np.exp(1j * turn))))
    return {
        "pose_mm": float(np.median(position)),
        "pose_mm_p90": float(np.percentile(position, 90)),
        "pose_deg": float(np.median(yaw)),
        "pose_deg_p90": float(np.percentile(yaw, 90)),
    }
