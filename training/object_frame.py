"""The world as seen from the object: what lets a policy learn one push instead of one for every heading.

Pushing looks the same wherever the T lies and however it is turned, but a network that sees world
coordinates has to learn every heading apart. With `network.frame: object` the pose that the pretext head
reads off the features places a frame on the object; the tool is described in it and the chunk is denoised in
it. The head is part of the policy: nothing but features and tool position goes in. A policy without cameras
is told the pose instead (`object_pose`).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ambient_policy.normalize import Normalizer

POSE_UNIT_M = 0.1
"""Length that counts as much as one radian, in the pretext loss and in the object's frame."""


def turn(vectors: Tensor, heading: Tensor) -> Tensor:
    """Rotate vectors (..., 2) by headings (..., 2) = (cos, sin); the shapes broadcast."""
    x, y = vectors[..., :1], vectors[..., 1:]
    c, s = heading[..., :1], heading[..., 1:]
    return torch.cat([c * x - s * y, s * x + c * y], dim=-1)


def back(heading: Tensor) -> Tensor:
    """Return the heading (..., 2) that undoes `heading`."""
    return torch.cat([heading[..., :1], -heading[..., 1:]], dim=-1)


class ObjectFrame(nn.Module):
    """Describes tool and object in the object's frame.

    The normalised state is brought to the units of the pretext's pose; both numbers for that come from the
    data and are saved with the weights.
    """

    gain: Tensor
    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("gain", torch.ones(2))
        self.register_buffer("shift", torch.zeros(2))

    def set_units(self, state: Normalizer, pose_offset: np.ndarray) -> None:
        """Take the state's normaliser and the origin (2,) [m] of the pretext's positions."""
        tool = slice(2)  # comes first, before whatever else is told
        self.gain.copy_(torch.as_tensor(state.scale[tool] / POSE_UNIT_M))
        self.shift.copy_(torch.as_tensor((state.offset[tool] - pose_offset) / POSE_UNIT_M))

    @staticmethod
    def entries(obs_steps: int) -> int:
        """Count the numbers of a description."""
        return 4 * obs_steps + 2 * obs_steps + 2 * (obs_steps - 1) + 2

    def forward(self, pose: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Describe an observation.

        Args:
            pose: (B, T, 4) x, y, cos, sin as the pretext head gives them; state: (B, T, S) normalised.
        Returns:
            (B, D) pose, tool in the object's frame, its motion and the world's origin in the newest one; and
            the newest heading (B, 2), of length one.
        """
        heading = pose[..., 2:] * pose[..., 2:].square().sum(-1, keepdim=True).clamp_min(1e-6).rsqrt()
        tool = state * self.gain + self.shift
        newest = heading[:, -1]
        seen = turn(tool - pose[..., :2], back(heading))
        motion = turn(tool[:, 1:] - tool[:, :-1], back(newest)[:, None]) * 10
        origin = turn(-pose[:, -1, :2], back(newest))
        parts = [pose.flatten(1), seen.flatten(1), motion.flatten(1), origin]
        return torch.cat(parts, dim=-1), newest
