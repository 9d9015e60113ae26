"""Noisy chunk and condition to clean chunk: three bodies behind one way of conditioning.

Observation and noise level are mixed into one vector, and one matrix turns it into the scale, shift and gate
of every layer. At deployment that matrix is applied once to all K noise levels, so a K-step sampler reads
these weights once instead of K times. A body is matrix products only, which ONNX Runtime runs close to the
machine's limit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from training.networks import DenoiserConfig
from training.object_frame import back, turn


@dataclass(frozen=True)
class Sizes:
    """T observed steps of F features and S state entries; H actions of A entries."""

    obs_steps: int
    features: int
    state: int
    horizon: int
    action: int
    described: int = 0
    """D; 0 when the chunk is denoised in the world's directions."""
    domains: int = 0
    """Sources told apart by a one-hot flag; 0 for none."""


class Denoiser(nn.Module):
    """Base: condition, noise embedding and modulation. Subclasses add `network`."""

    frequencies: Tensor
    octaves: Tensor
    neutral: Tensor
    MOTION_GAIN = 10.0
    """Steps between states are some centimetres, states span half a metre: this brings both to one scale."""
    FREQUENCIES = 16

    def __init__(self, sizes: Sizes, config: DenoiserConfig, neutral: Tensor) -> None:
        """Args: neutral: (M,), the modulation that changes nothing: 1 for a factor, 0 for a shift."""
        super().__init__()
        modulation = len(neutral)
        self.sizes, c = sizes, config.condition
        inputs = sizes.obs_steps * (sizes.features + sizes.state) + (sizes.obs_steps - 1) * sizes.state
        inputs += sizes.described + sizes.domains + 2 * config.waves * sizes.state
        self.register_buffer("octaves", math.pi * 2.0 ** torch.arange(config.waves), persistent=False)
        self.turns = sizes.described > 0
        self.modulation_size = modulation + 2 * self.turns
        self.observe = nn.Sequential(nn.Linear(inputs, 2 * c), nn.SiLU(), nn.Linear(2 * c, c))
        self.level = nn.Sequential(nn.Linear(2 * self.FREQUENCIES, c), nn.SiLU(), nn.Linear(c, c))
        self.modulation = nn.Linear(c, modulation)
        nn.init.zeros_(self.modulation.weight)  # every layer starts unmodulated (adaLN-Zero, Peebles 2023)
        nn.init.zeros_(self.modulation.bias)
        # Outside the layer, so that weight decay draws to it; in an exported graph it is part of the bias.
        self.register_buffer("neutral", neutral, persistent=False)
        # ln(sigma)/4 lies within about -1.6..1.1; periods from 4 down to 1/8 resolve it.
        frequencies = 2 * math.pi * 2 ** torch.linspace(-2, 3, self.FREQUENCIES)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def condition(
        self,
        features: Tensor,
        state: Tensor,
        described: tuple[Tensor, Tensor] | None = None,
        flag: Tensor | None = None,
    ) -> Tensor:
        """Mix features (B, T, F), normalised state (B, T, S) and domain flag (B, D) into (B, C).

        With `described`, what `ObjectFrame` returns, it takes part, and its heading is kept: (B, C + 2).
        """
        motion = (state[:, 1:] - state[:, :-1]) * self.MOTION_GAIN
        parts = [features.flatten(1), state.flatten(1), motion.flatten(1)]
        if len(self.octaves):
            angles = (state[:, -1, :, None] * self.octaves).flatten(1)
            parts += [angles.sin(), angles.cos()]
        if described is not None:
            parts.append(described[0])
        if flag is not None:
            parts.append(flag)
        mixed = self.observe(torch.cat(parts, dim=-1))
        return mixed if described is None else torch.cat([mixed.float(), described[1]], dim=-1)

    def embed(self, c_noise: Tensor) -> Tensor:
        """Embed ln(sigma)/4 (N,) into (N, C)."""
        angles = c_noise[:, None] * self.frequencies
        return self.level(torch.cat([angles.sin(), angles.cos()], dim=-1))

    def modulate(self, condition: Tensor, embedding: Tensor) -> Tensor:
        """Give every layer's scales, shifts and gates, (..., M), from (..., C) and (..., C)."""
        weight, bias = self.modulation.weight, self.modulation.bias + self.neutral
        if not self.turns:
            return nn.functional.linear(nn.functional.silu(condition + embedding), weight, bias)
        active = nn.functional.silu(condition[..., :-2] + embedding)
        modulation = nn.functional.linear(active, weight, bias).float()
        heading = condition[..., -2:].expand(*modulation.shape[:-1], 2)
        return torch.cat([modulation, heading], dim=-1)

    def body(self, x: Tensor, modulation: Tensor) -> Tensor:
        """Map a scaled noisy chunk (B, H, A) under modulation (B, M) to (B, H, A).

        In the object's frame the chunk is turned into it and the answer back: EDM preconditioning scales all
        directions alike, so this is the same as denoising in that frame throughout.
        """
        if not self.turns:
            return self.network(x, modulation)
        heading = modulation[:, None, -2:]
        return turn(self.network(turn(x, back(heading)), modulation[:, :-2]), heading)

    def network(self, x: Tensor, modulation: Tensor) -> Tensor:
        """Do the work of `body`, in whichever frame."""
        raise NotImplementedError

    def forward(self, x: Tensor, c_noise: Tensor, condition: Tensor) -> Tensor:
        """Return the raw network output F (B, H, A) of EDM preconditioning (Karras et al. 2022, eq. 7)."""
        return self.body(x, self.modulate(condition, self.embed(c_noise)))


class MLPDenoiser(Denoiser):
    """Residual MLP on the flattened chunk. The cheapest, and enough where the condition says it all."""

    def __init__(self, sizes: Sizes, config: DenoiserConfig) -> None:
        d = config.width
        super().__init__(sizes, config, torch.tensor([0.0, 1.0, 1.0] * config.depth).repeat_interleave(d))
        self.width = d
        self.enter = nn.Linear(sizes.horizon * sizes.action, d)
        self.norms = nn.ModuleList(nn.LayerNorm(d, elementwise_affine=False) for _ in range(config.depth))
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(d, 2 * d), nn.SiLU(), nn.Linear(2 * d, d)) for _ in range(config.depth)
        )
        self.leave = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, sizes.horizon * sizes.action))

    def network(self, x: Tensor, modulation: Tensor) -> Tensor:
        """See `Denoiser.network`."""
        h = self.enter(x.flatten(1))
        pieces = modulation.split(self.width, dim=-1)
        for index, (norm, layer) in enumerate(zip(self.norms, self.layers, strict=True)):
            shift, scale, gate = pieces[3 * index : 3 * index + 3]
            h = h + gate * layer(norm(h) * scale + shift)
        return self.leave(h).unflatten(-1, (self.sizes.horizon, self.sizes.action))


class Attention(nn.Module):
    """Self-attention over the tokens of a chunk (B, H, d)."""

    fused = True
    """The exporter writes the fused form as a dozen nodes more; it turns this off."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Mix tokens (B, H, d)."""
        # -1 for the batch, not x.shape[0]: a symbolic size would put a chain of shape nodes into every block.
        heads = self.qkv(x).view(-1, x.shape[1], 3 * self.heads, self.size).transpose(1, 2)
        q, k, v = heads.chunk(3, dim=1)  # after the transpose, which saves two reshapes of the graph
        if self.fused:
            mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        else:
            mixed = ((q * self.size**-0.5) @ k.transpose(-1, -2)).softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).flatten(2))


class DiTDenoiser(Denoiser):
    """Transformer over the H actions as tokens, adaLN-Zero blocks (Peebles & Xie 2023)."""

    def __init__(self, sizes: Sizes, config: DenoiserConfig) -> None:
        d = config.width
        # A gate starts at 0, so that a block begins as the identity.
        neutral = torch.tensor([0.0, 1.0, 0.0] * (2 * config.depth) + [0.0, 1.0])
        super().__init__(sizes, config, neutral.repeat_interleave(d))
        self.width = d
        self.enter = nn.Linear(sizes.action, d)
        self.position = nn.Parameter(torch.randn(sizes.horizon, d) * 0.02)
        self.norms = nn.ModuleList(
            nn.LayerNorm(d, elementwise_affine=False) for _ in range(2 * config.depth + 1)
        )
        self.attentions = nn.ModuleList(Attention(d, config.heads) for _ in range(config.depth))
        hidden = config.mlp_ratio * d
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Linear(d, hidden), nn.SiLU(), nn.Linear(hidden, d)) for _ in range(config.depth)
        )
        self.leave = nn.Linear(d, sizes.action)

    def network(self, x: Tensor, modulation: Tensor) -> Tensor:
        """See `Denoiser.network`."""
        pieces = modulation[:, None].split(self.width, dim=-1)  # each (B, 1, d)
        h = self.enter(x) + self.position
        for index, (attention, mlp) in enumerate(zip(self.attentions, self.mlps, strict=True)):
            shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = pieces[6 * index : 6 * index + 6]
            h = h + gate_a * attention(self.norms[2 * index](h) * scale_a + shift_a)
            h = h + gate_m * mlp(self.norms[2 * index + 1](h) * scale_m + shift_m)
        shift, scale = pieces[-2:]
        return self.leave(self.norms[-1](h) * scale + shift)


class TokenConv(nn.Module):
    """1-D convolution over tokens (B, H, C) as one matrix product.

    ONNX Runtime's own 1-D convolution is 1.3 to 1.6 times slower than this at H = 16.
    """

    gathered = False
    """The exporter turns this on: one node for all taps instead of one for each. Not in training, as its
    gradient is summed in no fixed order on a GPU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.linear = nn.Linear(kernel * inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, H, inputs) to (B, H / stride, outputs), zeros beyond both ends."""
        tokens, half = x.shape[1], self.kernel // 2
        padded = nn.functional.pad(x, (0, 0, half, half))
        if self.gathered:
            index = torch.arange(0, tokens, self.stride)[:, None] + torch.arange(self.kernel)
            taps = padded.index_select(1, index.flatten())
            return self.linear(taps.reshape(-1, len(index), self.kernel * x.shape[2]))
        slices = [padded[:, i : i + tokens : self.stride] for i in range(self.kernel)]
        return self.linear(torch.cat(slices, dim=-1))


class _UNetBlock(nn.Module):
    """Two convolutions with FiLM between them; LayerNorm per token keeps the layout token-major."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.neutral = torch.tensor([0.0, 1.0]).repeat_interleave(outputs)
        self.norm_a, self.a = nn.LayerNorm(inputs), TokenConv(inputs, outputs, kernel)
        self.norm_b, self.b = (
            nn.LayerNorm(outputs, elementwise_affine=False),
            TokenConv(outputs, outputs, kernel),
        )
        self.skip = nn.Identity() if inputs == outputs else nn.Linear(inputs, outputs)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        shift, scale = modulation[:, None].chunk(2, dim=-1)
        y = self.a(nn.functional.silu(self.norm_a(x)))
        y = self.b(nn.functional.silu(self.norm_b(y) * scale + shift))
        return y + self.skip(x)


class UNetDenoiser(Denoiser):
    """1-D U-Net over the chunk (Chi et al. 2023), SiLU instead of Mish, which ONNX Runtime lacks on a CPU."""

    def __init__(self, sizes: Sizes, config: DenoiserConfig) -> None:
        widths = [config.width * 2**level for level in range(config.depth)]
        shortest = sizes.horizon / 2 ** (config.depth - 1)
        if shortest != int(shortest):
            raise ValueError(f"horizon {sizes.horizon} cannot be halved {config.depth - 1} times")
        kernel = config.kernel
        pairs = [(widths[0], widths[0]), *((a, b) for a, b in pairwise(widths))]
        down = [_UNetBlock(a, b, kernel) for a, b in pairs]
        middle = _UNetBlock(widths[-1], widths[-1], kernel)
        up = [_UNetBlock(2 * b, a, kernel) for a, b in reversed(pairs)]
        blocks = [*down, middle, *up]
        super().__init__(sizes, config, torch.cat([block.neutral for block in blocks]))
        self.down, self.middle, self.up = nn.ModuleList(down), middle, nn.ModuleList(up)
        self.enter = TokenConv(sizes.action, widths[0], kernel)
        self.shrink = nn.ModuleList(TokenConv(w, w, 3, stride=2) for w in widths[:-1])
        self.grow = nn.ModuleList(TokenConv(w, w, 3) for w in reversed(widths[:-1]))
        self.leave = nn.Sequential(nn.LayerNorm(widths[0]), nn.SiLU(), nn.Linear(widths[0], sizes.action))
        self._split = [len(block.neutral) for block in blocks]

    def network(self, x: Tensor, modulation: Tensor) -> Tensor:
        """See `Denoiser.network`."""
        pieces = iter(modulation.split(self._split, dim=-1))
        h, skips = self.enter(x), []
        for level, block in enumerate(self.down):
            h = block(h, next(pieces))
            skips.append(h)
            if level < len(self.shrink):
                h = self.shrink[level](h)
        h = self.middle(h, next(pieces))
        for level, block in enumerate(self.up):
            h = block(torch.cat([h, skips.pop()], dim=-1), next(pieces))
            if level < len(self.grow):
                h = self.grow[level](h.repeat_interleave(2, dim=1))
        return self.leave(h)


def make_denoiser(sizes: Sizes, config: DenoiserConfig) -> Denoiser:
    """Build the denoiser that `config.kind` names."""
    kinds: dict[str, type[Denoiser]] = {"mlp": MLPDenoiser, "dit": DiTDenoiser, "unet": UNetDenoiser}
    return kinds[config.kind](sizes, config)  # type: ignore[call-arg]
