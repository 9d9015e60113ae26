"""From torch modules to ONNX models: the encoder, and the two parts of the denoiser."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Mapping, Sequence

import onnx
import torch
from torch import Tensor, nn

from training.config import CameraConfig
from training.denoisers import Attention, Denoiser, TokenConv
from training.policy import PolicyNet

OPSET = 20
_BATCH = 3  # of the examples; anything but 0 and 1, which tracing would take for constants


class _Encoder(nn.Module):
    def __init__(self, net: PolicyNet) -> None:
        super().__init__()
        self.encoder = net.encoder

    def forward(self, images: tuple[Tensor, ...]) -> Tensor:
        return self.encoder(dict(zip(self.encoder.cameras, images, strict=True)))


class _Modulation(nn.Module):
    """Observation to the modulation of every denoiser call: one matrix product for all noise levels."""

    embeddings: Tensor

    def __init__(self, net: PolicyNet, sigmas: Sequence[float]) -> None:
        super().__init__()
        self.net = net
        levels = torch.tensor(sigmas, dtype=torch.float64).log() / 4
        # Constant at deployment, so the level network itself does not travel.
        self.register_buffer("embeddings", net.denoiser.embed(levels.float())[:, None].detach())

    def forward(self, features: Tensor, state: Tensor) -> tuple[Tensor, ...]:
        condition = self.net.condition(features, state)
        return self.net.denoiser.modulate(condition[None], self.embeddings).unbind(0)


class _Body(nn.Module):
    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = copy.deepcopy(denoiser)
        for module in self.denoiser.modules():
            if isinstance(module, Attention):
                module.fused = False
            if isinstance(module, TokenConv):
                module.gathered = True

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        return self.denoiser.body(x, modulation)


def encoder_graph(net: PolicyNet, cameras: Mapping[str, CameraConfig]) -> onnx.ModelProto:
    """Export `image_<camera>` (B, h, w, 3) uint8 -> `features` (B, F)."""
    images = tuple(
        torch.zeros(_BATCH, cameras[c].height, cameras[c].width, 3, dtype=torch.uint8)
        for c in net.encoder.cameras
    )
    names = [f"image_{c}" for c in net.encoder.cameras]
    return _export(_Encoder(net), (images,), names, ["features"])


def modulation_graph(net: PolicyNet, sigmas: Sequence[float]) -> onnx.ModelProto:
    """Export `features`, `state` -> `modulation_0` ... (B, M), one for each of `sigmas`."""
    s = net.sizes
    example = (torch.zeros(_BATCH, s.obs_steps, s.features), torch.zeros(_BATCH, s.obs_steps, s.state))
    outputs = [f"modulation_{index}" for index in range(len(sigmas))]
    return _export(_Modulation(net, sigmas), example, ["features", "state"], outputs)


def body_graph(net: PolicyNet) -> onnx.ModelProto:
    """Export `x` (B, H, A), `modulation` (B, M) -> `raw` (B, H, A)."""
    s = net.sizes
    example = (torch.zeros(_BATCH, s.horizon, s.action), torch.zeros(_BATCH, net.denoiser.modulation_size))
    return _export(_Body(net.denoiser), example, ["x", "modulation"], ["raw"])


def _export(
    module: nn.Module, example: tuple[object, ...], inputs: list[str], outputs: list[str]
) -> onnx.ModelProto:
    batch = torch.export.Dim("batch", min=1, max=4096)
    shapes = tuple(
        tuple({0: batch} for _ in entry) if isinstance(entry, tuple) else {0: batch} for entry in example
    )
    talkative = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in talkative]
    for logger in talkative:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module.eval(),
                example,
                None,
                dynamo=True,
                dynamic_shapes=shapes,
                input_names=inputs,
                output_names=outputs,
                opset_version=OPSET,
                verbose=False,
            )
    finally:
        for logger, level in zip(talkative, levels, strict=True):
            logger.setLevel(level)
    assert program is not None
    return program.model_proto
