"""The phases of a run: the pretext for the encoder, the policy, and a fine-tuning on clean data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from training.batches import Batcher
from training.config import FinetuneConfig, OptimConfig, PretrainConfig, TrainConfig
from training.data import RunData, only_clean
from training.features import stored_features
from training.loop import Loss, StepSettings
from training.loss import policy_loss, pose_loss
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
    first, last = config.pretrain.steps > 0, config.finetune.steps > 0
    return [*(["pretext"] if first else []), "policy", *(["finetune"] if last else [])]


def make_phase(name: str, net: PolicyNet, data: RunData, config: TrainConfig, folder: Path) -> Phase:
    """Prepare a phase. `net` holds the weights it starts from; `folder` is the run's."""
    if name == "pretext":
        return _pretext(net, data, config)
    return _policy(name, net, data, config, folder)


def _settings(phase: PretrainConfig | OptimConfig | FinetuneConfig, optim: OptimConfig) -> StepSettings:
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


def _policy(name: str, net: PolicyNet, data: RunData, config: TrainConfig, folder: Path) -> Phase:
    optim = config.optim
    cached = config.features == "cached"
    stored = stored_features(net, data, config, folder / "features") if cached else None
    if name == "finetune":
        data = only_clean(data)
    batcher = Batcher(data, data.train, config, stored)
    held_out = Batcher(data, data.validation, config, stored)
    sigma_data = data.normalization.sigma_data
    device = data.state.device
    draws = optim.batch * config.diffusion.noise_per_obs

    def loss(net: PolicyNet, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        drawn = batcher.draw(optim.batch, rng)
        batch = batcher.collect(drawn, rng)
        noise = torch.randn(draws, config.windows.horizon, ACTION_SIZE, generator=rng, device=device)
        return policy_loss(net, batch, drawn.levels, noise, config, sigma_data)

    def validate(judged: PolicyNet) -> dict[str, float]:
        metrics = policy_metrics(judged, held_out, config)
        if config.aux_pose_weight > 0:
            metrics |= pose_metrics(judged, held_out, config)
        return metrics

    trained: list[nn.Module] = [net.denoiser]
    if not cached and config.cameras:
        trained.append(net.encoder)
    if config.aux_pose_weight > 0:
        trained.append(net.pose_head)
    return Phase(
        name=name,
        settings=_settings(config.finetune if name == "finetune" else optim, optim),
        trained=trained,
        loss=loss,
        validate=validate,
    )
