"""The training step, as a generator: the caller logs, validates, saves and stops when it likes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.ema import EMA
from training.policy import PolicyNet

Loss = Callable[[PolicyNet, torch.Generator], tuple[Tensor, dict[str, Tensor]]]


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """What the optimiser needs to know of a phase."""

    steps: int
    lr: float
    betas: tuple[float, float]
    weight_decay: float
    warmup: int
    clip: float
    ema_power: float
    ema_max: float


@dataclass
class TrainState:
    """All that changes during a phase; exactly what a checkpoint holds."""

    phase: str
    step: int
    net: PolicyNet
    ema: EMA[PolicyNet]
    optimizer: torch.optim.AdamW
    rng: torch.Generator


@dataclass(frozen=True)
class StepReport:
    """One finished step. Values stay on the device until they are read."""

    step: int
    parts: dict[str, Tensor]
    gradient_norm: Tensor
    lr: float


def learning_rate(step: int, settings: StepSettings) -> float:
    """Rate for the step after `step` finished ones: linear warm-up, then a cosine that ends at zero."""
    if step < settings.warmup:
        return settings.lr * (step + 1) / settings.warmup
    along = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return settings.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, along)))


def make_state(
    phase: str, net: PolicyNet, trained: list[nn.Module], settings: StepSettings, seed: int
) -> TrainState:
    """Start a phase that trains the modules in `trained`; everything else of `net` is frozen."""
    net.requires_grad_(False)
    for module in trained:
        module.requires_grad_(True)
    parameters = [p for p in net.parameters() if p.requires_grad]
    device = parameters[0].device
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, fused=True)
    rng = torch.Generator(device).manual_seed(seed)
    return TrainState(phase, 0, net, EMA(net, settings.ema_power, settings.ema_max), optimizer, rng)


def run_steps(state: TrainState, loss: Loss, settings: StepSettings) -> Iterator[StepReport]:
    """Train from `state.step` to the end of the phase, yielding after every step."""
    parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
    state.net.train()
    while state.step < settings.steps:
        lr = learning_rate(state.step, settings)
        for group in state.optimizer.param_groups:
            group["lr"] = lr
        value, parts = loss(state.net, state.rng)
        value.backward()
        norm = nn.utils.clip_grad_norm_(parameters, settings.clip)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        state.step += 1
        state.ema.update(state.net, state.step)
        yield StepReport(state.step, parts, norm, lr)
