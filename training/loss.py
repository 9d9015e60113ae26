"""Losses. Networks may run in bf16; every loss is computed in fp32."""

from __future__ import annotations

import torch
from torch import Tensor

from training.batches import Batch
from training.config import TrainConfig
from training.policy import PolicyNet, autocast, preconditioning
from training.targets import Levels, add_noise, residual


def denoising_loss(
    net: PolicyNet, x_n: Tensor, condition: Tensor, levels: Levels, noise: Tensor, sigma_data: float
) -> Tensor:
    """Weighted squared error of the clean guess, per sample (N,).

    For clean samples the weight (sigma^2 + sd^2) / (sigma sd)^2 makes it the plain error of the raw network
    output; `targets.residual` says what corrupt ones ask for.

    Args:
        x_n, noise: (N, H, A), samples at their own level and standard normal noise.
        condition: (N, C); levels: of the N samples.
    """
    c_skip, c_out, c_in, c_noise = (
        c[:, None, None] for c in preconditioning(levels.sigma, sigma_data, net.prediction)
    )
    x = add_noise(x_n, levels, noise)
    raw = net.denoiser(c_in * x, c_noise[:, 0, 0], condition)
    return residual(raw.float(), x, x_n, levels, c_skip, c_out).square().mean(dim=(1, 2))


def features_of(net: PolicyNet, batch: Batch) -> Tensor:
    """Give the features (B, T, F) of a batch: stored, encoded now, or none (F = 0) without cameras."""
    return net.encode(batch.images, batch.state.shape[:2]) if batch.features is None else batch.features


def pose_loss(net: PolicyNet, features: Tensor, state: Tensor, pose: Tensor) -> Tensor:
    """Mean squared error of the pretext head over (..., 4) pose targets."""
    guess = net.pose_head(torch.cat([features, state], dim=-1))
    return (guess.float() - pose).square().mean()


def policy_loss(
    net: PolicyNet, batch: Batch, levels: Levels, noise: Tensor, config: TrainConfig, sigma_data: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of one batch, and its parts for the log.

    Args:
        levels: of B * n samples, noise: (B * n, H, A); n for every observation, `diffusion.noise_per_obs`.
    """
    repeat = config.diffusion.noise_per_obs
    with autocast(batch.state.device, config.precision):
        features = features_of(net, batch)
        condition = net.condition(features, batch.state, batch.source)
        each = denoising_loss(
            net,
            batch.chunk.repeat_interleave(repeat, 0),
            condition.repeat_interleave(repeat, 0),
            levels,
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
