"""A classifier of noisy chunks: P(clean | x, sigma[, observed state]), both classes equally likely at first.

It shares the residual layers and the noise embedding's frequencies with the MLP denoiser, and differs in what
goes in and comes out: the chunk is given with its first and second differences, each entry scaled to unit
variance at its noise level, because poor motions differ from good ones in velocity and acceleration long
before they differ in position; and the logit is scaled by the signal left at that level, so it fades with
the noise.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.denoisers import Denoiser
from training.ema import EMA
from training.errors import TrainingError

LEVELS = 32
"""Noise levels in a batch, one from each part of the range; sharing them saves a third of a step."""


@dataclass(frozen=True)
class ClassifierSettings:
    """Size and training of one classifier."""

    width: int = 128
    depth: int = 2
    steps: int = 2000
    """Updates; half of every batch is clean, half corrupt, whatever their numbers."""
    snapshots: tuple[float, ...] = (0.05, 0.15, 0.4, 1.0)
    """Parts of the training after which a copy is kept. At low noise a classifier may go on learning features
    of motion or have begun to memorise; which, is seen on held-out episodes only."""
    batch: int = 512
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup: int = 100
    ema_power: float = 0.75
    ema_max: float = 0.995


@dataclass(frozen=True)
class Samples:
    """Chunks of one class and what was observed with them.

    Attributes:
        chunk: (W, H, A) normalised; state: (W, S) what was observed, or (W, 0).
    """

    chunk: Tensor
    state: Tensor

    def __len__(self) -> int:
        return len(self.chunk)

    def select(self, keep: Tensor) -> Samples:
        """Keep the windows where the (W,) mask or index says so."""
        return Samples(self.chunk[keep], self.state[keep])


class ChunkClassifier(nn.Module):
    """Logit of "clean" for noisy chunks, whole or cropped.

    Args:
        clean, corrupt: what it will be trained on; sets the scales of its inputs.
        cropped: whether it will be shown crops; the mask of what it sees is then a further input.
    """

    scale: Tensor
    signal: Tensor
    gain: Tensor
    frequencies: Tensor

    def __init__(
        self, clean: Samples, corrupt: Samples, settings: ClassifierSettings, cropped: bool = False
    ) -> None:
        super().__init__()
        horizon, size = clean.chunk.shape[1:]
        self.horizon, self.size, self.cropped, d = horizon, size, cropped, settings.width
        pairs = (self._differences(clean.chunk), self._differences(corrupt.chunk))
        # Mean square of each entry in an even mixture of both classes: what x varies by, noise apart.
        signal = (pairs[0].square().mean(0) + pairs[1].square().mean(0)) / 2
        self.register_buffer("signal", signal)
        # White noise of variance 1 has 2 in its first and 6 in its second differences.
        gain = torch.tensor([1.0] * horizon + [2.0] * (horizon - 1) + [6.0] * (horizon - 2))
        self.register_buffer("gain", gain[:, None].expand_as(signal).clone())
        self.register_buffer("scale", signal[:horizon].mean().sqrt())
        frequencies = 2 * math.pi * 2 ** torch.linspace(-2, 3, Denoiser.FREQUENCIES)
        self.register_buffer("frequencies", frequencies)
        inputs = signal.numel() + clean.state.shape[1] + (horizon if cropped else 0)
        self.enter = nn.Linear(inputs, d)
        self.level = nn.Sequential(nn.Linear(2 * Denoiser.FREQUENCIES, d), nn.SiLU(), nn.Linear(d, d))
        self.modulation = nn.Linear(d, 2 * settings.depth * d)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        self.norms = nn.ModuleList(nn.LayerNorm(d, elementwise_affine=False) for _ in range(settings.depth))
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(d, d), nn.SiLU(), nn.Linear(d, d)) for _ in range(settings.depth)
        )
        self.leave = nn.Linear(d, 1)
        nn.init.zeros_(self.leave.weight)  # every chunk starts at probability 0.5
        nn.init.zeros_(self.leave.bias)

    @staticmethod
    def _differences(x: Tensor) -> Tensor:
        """Append first and second differences: (..., H, A) to (..., 3 H - 3, A)."""
        first = x[..., 1:, :] - x[..., :-1, :]
        return torch.cat([x, first, first[..., 1:, :] - first[..., :-1, :]], dim=-2)

    def forward(self, x: Tensor, sigma: Tensor, state: Tensor, mask: Tensor | None = None) -> Tensor:
        """Give logits (L, N) of N noisy chunks x (L, N, H, A) at each of L noise levels.

        Args:
            sigma: (L,); state: (L, N, S).
            mask: (L, N, H) bool, what of each chunk is shown (cropped classifiers only).
        """
        spread = torch.rsqrt(self.signal + self.gain * sigma[:, None, None] ** 2)
        parts = self._differences(x) * spread[:, None]
        if mask is not None:
            first = mask[..., 1:] & mask[..., :-1]
            seen = torch.cat([mask, first, first[..., 1:] & first[..., :-1]], dim=-1)
            parts = parts * seen[..., None]
        flat = parts.flatten(2)
        inputs = [flat, state] if mask is None else [flat, state, mask.float()]
        h = self.enter(torch.cat(inputs, dim=-1))
        angles = (sigma.log() / 4)[:, None] * self.frequencies
        embedding = self.level(torch.cat([angles.sin(), angles.cos()], dim=-1))
        pieces = self.modulation(nn.functional.silu(embedding))[:, None].split(h.shape[-1], dim=-1)
        for index, (norm, layer) in enumerate(zip(self.norms, self.layers, strict=True)):
            shift, scale = pieces[2 * index : 2 * index + 2]
            h = h + layer(torch.addcmul(shift, norm(h), 1 + scale))
        # For Gaussian classes the logit is proportional to their distance over the noisy spread.
        left = self.scale * torch.rsqrt(self.scale**2 + sigma**2) * math.sqrt(self.size * self.horizon)
        return self.leave(nn.functional.silu(h))[..., 0] * left[:, None]


def draw_mask(length: Tensor, count: int, horizon: int, rng: torch.Generator) -> Tensor:
    """Place crops of `length` (L,) actions at random in `count` chunks each: (L, count, H) bool."""
    length = length[:, None]
    u = torch.rand(len(length), count, generator=rng, device=length.device)
    start = torch.floor(u * (horizon - length + 1)).minimum(horizon - length)[..., None]
    at = torch.arange(horizon, device=length.device)
    return (at >= start) & (at < start + length[..., None])


def train_classifier(
    clean: Samples,
    corrupt: Samples,
    sigmas: Tensor,
    settings: ClassifierSettings,
    rng: torch.Generator,
    lengths: Tensor | None = None,
    advance: Callable[[int], None] = lambda step: None,
) -> list[ChunkClassifier]:
    """Train on noise levels drawn log-uniformly over the grid, and return the averaged weights.

    The list has one network a snapshot, in order.

    Args:
        sigmas: (G,) increasing grid. lengths: (G,) actions shown at each level, for crops.
        rng: all that is random; the global state is left alone.
        advance: told the number of every finished step.
    """
    for name, samples in (("clean", clean), ("corrupt", corrupt)):
        if len(samples) < 2:
            raise TrainingError(f"{len(samples)} {name} window(s) to train on; collect more episodes")
    device = clean.chunk.device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=rng, device=rng.device)))
        net = ChunkClassifier(clean, corrupt, settings, lengths is not None).to(device)
    ema = EMA(net, settings.ema_power, settings.ema_max)
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True
    )
    levels, half = LEVELS, max(1, settings.batch // (2 * LEVELS))
    kept, when = [], [max(1, round(part * settings.steps)) for part in settings.snapshots]
    label = torch.tensor([1.0] * half + [0.0] * half, device=device).expand(levels, -1)
    low, span = sigmas[0].log(), (sigmas[-1] / sigmas[0]).log()
    for step in range(1, settings.steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * _schedule(step, settings.warmup, settings.steps)
        picks = [
            s.select(torch.randint(len(s), (levels, half), generator=rng, device=device))
            for s in (clean, corrupt)
        ]
        chunk, state = (torch.cat([getattr(p, key) for p in picks], dim=1) for key in ("chunk", "state"))
        along = (
            torch.arange(levels, device=device) + torch.rand(levels, generator=rng, device=device)
        ) / levels
        sigma = torch.exp(low + span * along)
        noise = torch.randn(chunk.shape, generator=rng, device=device)
        x = chunk + sigma[:, None, None, None] * noise
        mask = None
        if lengths is not None:
            nearest = lengths[torch.round(along * (len(sigmas) - 1)).long()]
            mask = draw_mask(nearest, 2 * half, chunk.shape[2], rng)
        loss = nn.functional.binary_cross_entropy_with_logits(net(x, sigma, state, mask), label)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        ema.update(net, step)
        kept += [copy.deepcopy(ema.net)] * when.count(step)
        advance(step)
    if not torch.isfinite(loss):
        raise TrainingError(f"the classifier diverged (loss {loss.item()}); annotate with a lower --lr")
    return kept


def _schedule(step: int, warmup: int, steps: int) -> float:
    """Linear warm-up, then half a cosine to zero."""
    if step <= warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
