"""Sizes of the networks: two small documents and the presets that fill them.

Figures for 128 x 96 images from two cameras, T = 2, H = 16 (parameters in millions, encoders + denoiser):

    small           2.1 + 2.3   MLP denoiser: trains on a CPU
    dit             2.1 + 6.9   transformer denoiser: the shipped policy
    resnet18-unet  22.6 + 10.0  the textbook pair, for comparison on a GPU
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic

from ambient_policy.config import StrictModel

Count = Annotated[int, pydantic.Field(ge=1)]


class EncoderConfig(StrictModel):
    """Image to feature, one network per camera."""

    kind: Literal["patch4", "resnet18"] = "patch4"
    width: Count = 64
    """Channels of the first stage; later stages double it."""
    blocks: Count = 1
    """patch4: residual blocks a stage."""
    head_channels: Count = 32
    """Channels kept for the flatten head."""
    features: Count = 128
    """Size of one camera's feature."""


class DenoiserConfig(StrictModel):
    """Noisy chunk and condition to clean chunk."""

    kind: Literal["mlp", "dit", "unet"] = "mlp"
    width: Count = 256
    """mlp, dit: width of a layer or token; unet: channels of the first level, doubled at each next one."""
    depth: Count = 4
    """Residual blocks (mlp, dit) or levels (unet)."""
    heads: Count = 4
    """dit: attention heads."""
    mlp_ratio: Count = 3
    """dit: hidden width of the token MLP over the token width."""
    kernel: Count = 5
    """unet: taps of its convolutions, odd."""
    condition: Count = 256
    """Width of the vector that observation and noise level are mixed into."""
    waves: Annotated[int, pydantic.Field(ge=0, le=8)] = 0
    """Octaves of sines and cosines of the newest state that are told beside it (Tancik et al. 2020): for
    tasks where what to do changes sharply from place to place, such as beside the wall of a maze."""

    @pydantic.model_validator(mode="after")
    def _check(self) -> DenoiserConfig:
        if self.kind == "dit" and self.width % self.heads:
            raise ValueError(f"width {self.width} does not divide into {self.heads} heads")
        if self.kind == "unet" and self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} must be odd")
        return self


PRESETS: dict[str, dict[str, Any]] = {
    "small": {
        "encoder": {"kind": "patch4"},
        "denoiser": {"kind": "mlp", "width": 256, "depth": 4},
    },
    "dit": {
        "encoder": {"kind": "patch4"},
        "denoiser": {"kind": "dit", "width": 256, "depth": 6},
    },
    "resnet18-unet": {
        "encoder": {"kind": "resnet18", "head_channels": 64},
        "denoiser": {"kind": "unet", "width": 128, "depth": 3},
    },
}
