"""Image to feature: one network per camera, each ending in a flatten head.

A flatten head keeps where things are: position and angle of the T come out to a millimetre and half a degree
near the goal, at 96 x 96, within minutes of training. GroupNorm, as batch statistics and EMA weights
disagree.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from training.config import CameraConfig
from training.networks import EncoderConfig


def pixels(images: Tensor) -> Tensor:
    """Turn (N, h, w, 3) in 0..255, any type, into (N, 3, h, w) float32 in -1..1."""
    # Permuting keeps the memory order, which then is channels_last: what convolutions like best.
    return images.permute(0, 3, 1, 2).to(torch.float32) * (2 / 255) - 1


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(max(1, channels // 8), channels)


class _Head(nn.Module):
    """Keep few channels, flatten, project, and bring every feature vector to unit variance."""

    def __init__(self, channels: int, height: int, width: int, config: EncoderConfig) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, config.head_channels, 1)
        self.project = nn.Linear(config.head_channels * height * width, config.features)
        # The denoiser's condition then has one scale, whatever the encoder learns.
        self.norm = nn.LayerNorm(config.features)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.silu(self.squeeze(x))
        return self.norm(self.project(x.flatten(1)))


class _Residual(nn.Module):
    """x + conv(silu(norm(x))): one convolution a block, so that few layers suffice on a CPU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(nn.functional.silu(self.norm(x)))


class PatchEncoder(nn.Module):
    """Patch-4 stem, residual blocks, one halving, residual blocks, flatten head."""

    def __init__(self, height: int, width: int, config: EncoderConfig) -> None:
        super().__init__()
        c = config.width
        self.body = nn.Sequential(
            nn.Conv2d(3, c, 4, stride=4),
            *(_Residual(c) for _ in range(config.blocks)),
            _norm(c),
            nn.SiLU(),
            nn.Conv2d(c, 2 * c, 3, stride=2, padding=1),
            *(_Residual(2 * c) for _ in range(config.blocks)),
            _norm(2 * c),
            nn.SiLU(),
        )
        self.head = _Head(2 * c, (height // 4 + 1) // 2, (width // 4 + 1) // 2, config)

    def forward(self, images: Tensor) -> Tensor:
        """Encode (N, h, w, 3) pixel values 0..255 into (N, features)."""
        return self.head(self.body(pixels(images)))


class _BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm_a = _norm(outputs)
        self.b = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm_b = _norm(outputs)
        same = stride == 1 and inputs == outputs
        self.skip = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.silu(self.norm_a(self.a(x)))
        return nn.functional.silu(self.norm_b(self.b(y)) + self.skip(x))


class ResNet18Encoder(nn.Module):
    """ResNet-18 (He et al. 2016) with GroupNorm and SiLU, and a flatten head instead of average pooling."""

    def __init__(self, height: int, width: int, config: EncoderConfig) -> None:
        super().__init__()
        c = config.width
        layers: list[nn.Module] = [
            nn.Conv2d(3, c, 7, stride=2, padding=3, bias=False),
            _norm(c),
            nn.SiLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        ]
        inputs = c
        for stage in range(4):
            outputs = c * 2**stage
            layers += [_BasicBlock(inputs, outputs, 1 if stage == 0 else 2), _BasicBlock(outputs, outputs, 1)]
            inputs = outputs
        self.body = nn.Sequential(*layers)
        for _ in range(5):  # five halvings, each rounding up
            height, width = (height + 1) // 2, (width + 1) // 2
        self.head = _Head(inputs, height, width, config)

    def forward(self, images: Tensor) -> Tensor:
        """Encode (N, h, w, 3) pixel values 0..255 into (N, features)."""
        return self.head(self.body(pixels(images)))


class CameraEncoders(nn.Module):
    """Separate weights for every camera; their features side by side."""

    def __init__(self, cameras: Mapping[str, CameraConfig], config: EncoderConfig) -> None:
        super().__init__()
        kind = {"patch4": PatchEncoder, "resnet18": ResNet18Encoder}[config.kind]
        self.cameras = tuple(cameras)
        self.features = config.features * len(self.cameras)
        # A submodule may not be called like a method of ModuleDict (`keys`, `pop`, ...), so names get a
        # prefix.
        self.nets = nn.ModuleDict(
            {f"camera_{c}": kind(s.height, s.width, config) for c, s in cameras.items()}
        )

    def forward(self, images: Mapping[str, Tensor]) -> Tensor:
        """Encode camera -> (N, h, w, 3) pixel values 0..255 into (N, F)."""
        return torch.cat([self.nets[f"camera_{c}"](images[c]) for c in self.cameras], dim=-1)
