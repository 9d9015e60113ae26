"""Exponential moving average of the weights: what is validated and exported."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn


def ema_decay(step: int, power: float, largest: float) -> float:
    """Decay after `step` updates: short memory at first, so that the random start is soon forgotten."""
    return min(largest, 1 - (1 + step) ** -power)


Net = TypeVar("Net", bound=nn.Module)


class EMA(Generic[Net]):
    """A second copy of a network, following the first slowly."""

    def __init__(self, net: Net, power: float, largest: float) -> None:
        self.net = copy.deepcopy(net).eval().requires_grad_(False)
        self.power, self.largest = power, largest

    @torch.no_grad()
    def update(self, net: Net, step: int) -> None:
        """Move towards `net` after its step number `step`, counted from 1."""
        share = 1 - ema_decay(step, self.power, self.largest)
        # One fused launch for all weights; a Python loop would cost more than the network on a GPU.
        torch._foreach_lerp_(list(self.net.parameters()), list(net.parameters()), share)
