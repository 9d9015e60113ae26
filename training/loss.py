"""Losses. Networks may run in bf16; every loss is computed in fp32."""

from __future__ import annotations

import torch
from torch import Tensor

from training.batches import Batch
from training.config import DiffusionConfig, TrainConfig
from training.policy import PolicyNet, autocast, preconditioning


def draw_sigma(count: int, config: DiffusionConfig, rng: torch.Generator) -> Tensor:
    """Draw noise levels (count,): ln sigma ~ N(mean, std), clamped (Karras et al. 2022, section 5)."""
    normal = torch.randn(count, generator=rng, device=rng.device)
    sigma = torch.exp(config.log_sigma_mean + config.log_sigma_std * normal)
    return sigma.clamp(config.sigma_min, config.sigma_max)


def denoising_loss(
    net: PolicyNet, chunk: Tensor, condition: Tensor, sigma: Tensor, noise: Tensor, sigma_data: float
) -> Tensor:
    """Weighted squared error of the clean guess, per sample (B,).

    The weight (sigma^2 + sd^2) / (sigma sd)^2 makes it the plain error of the raw network output, which is
    how it is computed: no large weight ever multiplies a small difference.

    Args:
        chunk, noise: (B, H, A), normalised actions and standard normal noise.
        condition: (B, C); sigma: (B,).
    """
    c_skip, c_out, c_in, c_noise = (c[:, None, None] for c in preconditioning(sigma, sigma_data))
    noisy = chunk + sigma[:, None, None] * noise
    target = (chunk - c_skip * noisy) / c_out
    raw = net.denoiser(c_in * noisy, c_noise[:, 0, 0], condition)
    return (raw.float() - target).square().mean(dim=(1, 2))


def pose_loss(net: PolicyNet, features: Tensor, state: Tensor, pose: Tensor) -> Tensor:
    """Mean squared error of the pretext head over (..., 4) pose targets."""
    guess = net.pose_head(torch.cat([features, state], dim=-1))
    return (guess.float() - pose).square().mean()


def policy_loss(
    net: PolicyNet, batch: Batch, sigma: Tensor, noise: Tensor, config: TrainConfig, sigma_data: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of one batch, and its parts for the log.

    Args:
        sigma: (B * n,), noise: (B * n, H, A); n draws for every observation, `diffusion.noise_per_obs`.
    """
    repeat = config.diffusion.noise_per_obs
    with autocast(batch.state.device, config.precision):
        features = net.encode(batch.images) if batch.features is None else batch.features
        condition = net.condition(features, batch.state)
        each = denoising_loss(
            net,
            batch.chunk.repeat_interleave(repeat, 0),
            condition.repeat_interleave(repeat, 0),
            sigma,
            noise,
            sigma_data,
        )
        loss = each.mean()
        parts = {"denoise": loss.detach()}
        if config.aux_pose_weight > 0 and batch.pose is not None:
            pose = pose_loss(net, features, batch.state, batch.pose)
            parts["pose"] = pose.detach()
            loss = loss + config.aux_pose_weight * pose
    return loss, parts
