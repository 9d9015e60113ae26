"""Random batches, drawn, gathered and augmented on the run's device.

Everything random comes from one `torch.Generator`, whose state is part of a checkpoint, so a resumed run
draws the batches that the uninterrupted one would have. Nothing here waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from training.config import AugmentConfig, TrainConfig
from training.data import RunData, WindowTable


@dataclass(frozen=True)
class Batch:
    """Training samples.

    Attributes:
        images: camera to (B, T, h, w, 3), pixel values 0..255, or empty when `features` is given.
        features: (B, T, F) stored features, or None.
        state: (B, T, S) normalised; chunk: (B, H, A) normalised.
        pose: (B, T, 4) pretext target, or None.
    """

    images: dict[str, Tensor]
    features: Tensor | None
    state: Tensor
    chunk: Tensor
    pose: Tensor | None


class Batcher:
    """Draws samples from one set of windows.

    Args:
        table: the training or the validation windows of `data`.
        stored: (N, draws, F) features made ahead, or None to gather images.
    """

    def __init__(
        self, data: RunData, table: WindowTable, config: TrainConfig, stored: Tensor | None = None
    ) -> None:
        self.data, self.table, self.config, self.stored = data, table, config, stored
        device = table.now.device
        normalizer = data.normalization.action
        # Constants live on the device: a copy in every step would wait for it.
        self._offset = torch.tensor(normalizer.offset, dtype=torch.float32, device=device)
        self._scale = torch.tensor(normalizer.scale, dtype=torch.float32, device=device)
        self._counts = torch.tensor(table.counts, dtype=torch.float64, device=device)
        self._starts = self._counts.cumsum(0) - self._counts
        self._edges = source_shares(config, table.counts).cumsum(0)[:-1].to(device)
        self._back = torch.arange(1 - config.windows.obs_steps, 1, device=device)
        self._ahead = torch.arange(config.windows.horizon, device=device)

    def draw(self, count: int, rng: torch.Generator) -> Tensor:
        """Draw `count` windows: first a source by its share, then one of its windows uniformly."""
        u = torch.rand(2, count, dtype=torch.float64, generator=rng, device=self.table.now.device)
        source = torch.bucketize(u[0], self._edges, right=True)
        # The product can round up to the count itself.
        within = torch.minimum(torch.floor(u[1] * self._counts[source]), self._counts[source] - 1)
        return (self._starts[source] + within).long()

    def gather(self, windows: Tensor, rng: torch.Generator | None) -> Batch:
        """Collect the samples of `windows` (B,). `rng` None: no augmentation, and the first stored draw."""
        data, now = self.data, self.table.now[windows]
        frames = torch.maximum(now[:, None] + self._back, self.table.first[windows, None])
        labels = torch.minimum(now[:, None] + self._ahead, self.table.last[windows, None])
        chunk = data.action_m[labels]
        if self.config.action.relative_to == "tool":
            chunk = chunk - data.state_m[now][:, None]
        return Batch(
            images=self.images(frames, rng) if self.stored is None else {},
            features=None if self.stored is None else self._features(self.stored, frames, rng),
            state=data.state[frames],
            chunk=(chunk - self._offset) / self._scale,
            pose=None if data.pose is None else data.pose[frames],
        )

    def images(self, frames: Tensor, rng: torch.Generator | None) -> dict[str, Tensor]:
        """Collect and augment the images of `frames` (B, T): camera to (B, T, h, w, 3), 0..255."""
        out = {}
        for camera in self.data.frames.cameras:
            pixels = self.data.frames.gather(camera, frames.flatten()).unflatten(0, frames.shape)
            out[camera] = pixels if rng is None else augment(pixels, self.config.augment, rng)
        return out

    def _features(self, stored: Tensor, frames: Tensor, rng: torch.Generator | None) -> Tensor:
        count, device = len(frames), frames.device
        if rng is None:
            pick = torch.zeros(count, 1, dtype=torch.int64, device=device)
        else:
            pick = torch.randint(stored.shape[1], (count, 1), generator=rng, device=device)
        return stored[frames, pick].float()


def source_shares(config: TrainConfig, counts: Sequence[int]) -> Tensor:
    """Share of each source in a batch, (sources,) float64, adding up to 1."""
    if config.data.mixture == "weights":
        shares = torch.tensor([source.weight or 0.0 for source in config.data.sources], dtype=torch.float64)
    else:
        shares = torch.tensor(counts, dtype=torch.float64)
    return shares / shares.sum()


def augment(images: Tensor, config: AugmentConfig, rng: torch.Generator) -> Tensor:
    """Change the look of images (B, T, h, w, 3), 0..255; every one of the B samples draws its own change."""
    if config.shift_px:
        images = _shift(images, config.shift_px, rng)
    count, device = len(images), images.device

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=rng, device=device)

    if config.brightness or config.contrast or config.colour:
        gain = torch.exp(config.contrast * normal(1) + config.colour * normal(3))
        offset = 127.5 * (1 - gain) + 255 * config.brightness * normal(1)
        images = torch.addcmul(offset[:, None, None, None], images.float(), gain[:, None, None, None])
        images = images.clamp_(0, 255)
    if config.noise:
        images = images + 255 * config.noise * torch.randn(images.shape, generator=rng, device=device)
        images = images.clamp_(0, 255)
    return images


def _shift(images: Tensor, largest: int, rng: torch.Generator) -> Tensor:
    """Move each sample by up to `largest` pixels each way; the border is repeated."""
    count, _, height, width, _ = images.shape
    device = images.device
    by = torch.randint(-largest, largest + 1, (2, count, 1), generator=rng, device=device)
    rows = (torch.arange(height, device=device) + by[0]).clamp(0, height - 1)
    columns = (torch.arange(width, device=device) + by[1]).clamp(0, width - 1)
    sample = torch.arange(count, device=device)[:, None, None]
    moved = images.transpose(1, 2).transpose(2, 3)  # (B, h, w, T, 3)
    return moved[sample, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2, 4)
