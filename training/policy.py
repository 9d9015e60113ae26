"""The policy network: camera encoders, denoiser, and EDM preconditioning around the denoiser."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from training.config import TrainConfig
from training.denoisers import Sizes, make_denoiser
from training.encoders import CameraEncoders
from training.object_frame import ObjectFrame

TOOL_SIZE = 2
ACTION_SIZE = 2
POSE_SIZE = 4


class PolicyNet(nn.Module):
    """All that is trained. `pose_head` serves the pretext and may place the object's frame."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.encoder = CameraEncoders(config.cameras, config.network.encoder)
        self.prediction = config.network.prediction
        w = config.windows
        state = TOOL_SIZE + sum(config.state.values())
        self.told = config.object_pose is not None
        sources = [config.data.sources[i] for i in config.data.kept]
        self.domains = len(sources) if config.data.domain_flag else 0
        self.own_domain = next((i for i, s in enumerate(sources) if s.role == "clean"), 0)
        self.object_frame = ObjectFrame() if config.network.frame == "object" else None
        described = 0 if self.object_frame is None else ObjectFrame.entries(w.obs_steps)
        entries = state + POSE_SIZE * (self.told and self.object_frame is None)
        self.sizes = Sizes(
            w.obs_steps, self.encoder.features, entries, w.horizon, ACTION_SIZE, described, self.domains
        )
        self.denoiser = make_denoiser(self.sizes, config.network.denoiser)
        inputs = self.encoder.features + state  # a wrist camera sees the object relative to the tool
        self.pose_head: nn.Module
        if config.pretrain.head == "linear":
            self.pose_head = nn.Linear(inputs, POSE_SIZE)
        else:
            self.pose_head = nn.Sequential(nn.Linear(inputs, 128), nn.SiLU(), nn.Linear(128, POSE_SIZE))

    def encode(self, images: Mapping[str, Tensor], lead: torch.Size | None = None) -> Tensor:
        """Encode camera -> (B, T, h, w, 3) pixel values 0..255 into (B, T, F).

        Without cameras the features are empty, (B, T, 0), and `lead` says B and T.
        """
        if not images:
            assert lead is not None
            return torch.zeros(*lead, 0, device=next(self.denoiser.parameters()).device)
        lead = next(iter(images.values())).shape[:2]
        flat = {camera: frames.flatten(0, 1) for camera, frames in images.items()}
        return self.encoder(flat).unflatten(0, lead)

    def condition(self, features: Tensor, state: Tensor, source: Tensor | None = None) -> Tensor:
        """Turn features (B, T, F) and normalised state (B, T, S) into what the denoiser is conditioned on.

        A policy that is told the object's pose finds it, as the pretext writes it, in the last four of S.
        `source` (B,) is who made the samples, for a network with a domain flag; None is its own domain.
        """
        flag = None
        if self.domains:
            own = torch.full_like(state[:, 0, 0], self.own_domain).long() if source is None else source
            flag = nn.functional.one_hot(own, self.domains).to(state.dtype)
        if self.object_frame is None:
            return self.denoiser.condition(features, state, flag=flag)
        # bf16 would round the heading to a fifth of a degree.
        with torch.autocast(features.device.type, enabled=False):
            if self.told:
                state, pose = state[..., :-POSE_SIZE], state[..., -POSE_SIZE:]
            else:
                pose = self.pose_head(torch.cat([features.float(), state], dim=-1))
            described = self.object_frame(pose.detach(), state[..., :TOOL_SIZE])
        return self.denoiser.condition(features, state, described, flag)


def preconditioning(
    sigma: Tensor, sigma_data: float, prediction: str = "x0"
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Give c_skip, c_out, c_in, c_noise in the shape of `sigma`; see `ambient_policy.noise`.

    D(x, sigma) = c_skip x + c_out F(c_in x, c_noise).
    """
    if prediction == "eps":
        return torch.ones_like(sigma), -sigma, (1 + sigma**2).rsqrt(), sigma.log() / 4
    total = sigma**2 + sigma_data**2
    return (
        sigma_data**2 / total,
        sigma * sigma_data / total.sqrt(),
        total.rsqrt(),
        sigma.log() / 4,
    )


def denoise(net: PolicyNet, x: Tensor, sigma: Tensor, condition: Tensor, sigma_data: float) -> Tensor:
    """Guess the clean chunk (B, H, A) in fp32 from x (B, H, A) at noise levels sigma (B,)."""
    c_skip, c_out, c_in, c_noise = (
        c[:, None, None] for c in preconditioning(sigma, sigma_data, net.prediction)
    )
    raw = net.denoiser(c_in * x, c_noise[:, 0, 0], condition)
    return c_skip * x + c_out * raw.float()


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Run networks in bf16 when the config says so; everything around them stays fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
