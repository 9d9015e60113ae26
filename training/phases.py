"""The one or two phases of a run: the pretext for the encoder, then the policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from training.batches import Batcher
from training.config import OptimConfig, PretrainConfig, TrainConfig
from training.data import RunData
from training.features import stored_features
from training.loop import Loss, StepSettings
from training.loss import draw_sigma, policy_loss, pose_loss
from training.policy import ACTION_SIZE, PolicyNet, autocast
from training.validation import policy_metrics, pose_metrics


@dataclass(frozen=True)
class Phase:
    """What one phase trains, on what, and how it is judged."""

    name: str
    settings: StepSettings
    trained: list[nn.Module]
    loss: Loss
    validate: Callable[[PolicyNet], dict[str, float]]


def phase_names(config: TrainConfig) -> list[str]:
    """List the phases of a run in order."""
    return [*(["pretext"] if config.pretrain.steps else []), "policy"]


def make_phase(name: str, net: PolicyNet, data: RunData, config: TrainConfig, folder: Path) -> Phase:
    """Prepare a phase. `net` holds the weights it starts from; `folder` is the run's."""
    return _pretext(net, data, config) if name == "pretext" else _policy(net, data, config, folder)


def _settings(phase: PretrainConfig | OptimConfig, optim: OptimConfig) -> StepSettings:
    """Take a phase's own pace; betas, clipping and averaging are the run's."""
    return StepSettings(
        steps=phase.steps,
        lr=phase.lr,
        betas=optim.betas,
        weight_decay=phase.weight_decay,
        warmup=phase.warmup,
        clip=optim.clip,
        ema_power=optim.ema_power,
        ema_max=optim.ema_max,
    )


def _pretext(net: PolicyNet, data: RunData, config: TrainConfig) -> Phase:
    pretrain, optim = config.pretrain, config.optim
    batcher = Batcher(data, data.train, config)
    device = data.state.device
    near = round(pretrain.near_goal_share * pretrain.batch)
    assert data.pose is not None
    pose = data.pose

    def pick(frames: Tensor, count: int, rng: torch.Generator) -> Tensor:
        return frames[torch.randint(len(frames), (count,), generator=rng, device=device)]

    def loss(net: PolicyNet, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        frames = torch.cat(
            [pick(data.near_goal, near, rng), pick(data.train_frames, pretrain.batch - near, rng)]
        )
        images = batcher.images(frames[:, None], rng)
        with autocast(device, config.precision):
            value = pose_loss(net, net.encode(images)[:, 0], data.state[frames], pose[frames])
        return value, {"pose": value.detach()}

    return Phase(
        name="pretext",
        settings=_settings(pretrain, optim),
        trained=[net.encoder, net.pose_head],
        loss=loss,
        validate=lambda judged: pose_metrics(judged, batcher, config),
    )


def _policy(net: PolicyNet, data: RunData, config: TrainConfig, folder: Path) -> Phase:
    optim, diffusion = config.optim, config.diffusion
    cached = config.features == "cached"
    stored = stored_features(net, data, config, folder / "features") if cached else None
    batcher = Batcher(data, data.train, config, stored)
    held_out = Batcher(data, data.validation, config, stored)
    sigma_data = data.normalization.sigma_data
    device = data.state.device
    draws = optim.batch * diffusion.noise_per_obs

    def loss(net: PolicyNet, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        batch = batcher.gather(batcher.draw(optim.batch, rng), rng)
        sigma = draw_sigma(draws, diffusion, rng)
        noise = torch.randn(draws, config.windows.horizon, ACTION_SIZE, generator=rng, device=device)
        return policy_loss(net, batch, sigma, noise, config, sigma_data)

    def validate(judged: PolicyNet) -> dict[str, float]:
        metrics = policy_metrics(judged, held_out, config)
        if config.aux_pose_weight > 0:
            metrics |= pose_metrics(judged, held_out, config)
        return metrics

    trained: list[nn.Module] = [net.denoiser]
    if not cached:
        trained.append(net.encoder)
    if config.aux_pose_weight > 0:
        trained.append(net.pose_head)
    return Phase(
        name="policy",
        settings=_settings(optim, optim),
        trained=trained,
        loss=loss,
        validate=validate,
    )
