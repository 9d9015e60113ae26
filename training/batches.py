"""Random batches, drawn, gathered and augmented on the run's device.

Everything random comes from one `torch.Generator`, whose state is part of a checkpoint, so a resumed run
draws the batches that the uninterrupted one would have. Nothing here waits for the device.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from training.config import AugmentConfig, DiffusionConfig, TrainConfig
from training.data import RunData, WindowTable
from training.noise_first import NoiseFirstSampler
from training.targets import Levels, rescaling


@dataclass(frozen=True)
class Batch:
    """Training samples.

    Attributes:
        images: camera to (B, T, h, w, 3), pixel values 0..255, or empty when `features` is given.
        features: (B, T, F) stored features, or None.
        state: (B, T, S) normalised; chunk: (B, H, A) normalised.
        pose: (B, T, 4) pretext target, or None.
        source: (B,) int64, which source each sample is from.
    """

    images: dict[str, Tensor]
    features: Tensor | None
    state: Tensor
    chunk: Tensor
    pose: Tensor | None
    source: Tensor


@dataclass(frozen=True)
class Drawn:
    """Windows and the noise levels they are to teach.

    Attributes:
        windows: (B,) int64; levels: of B * n samples, n consecutive ones for each window.
        contraction: (B,) level of the frozen noise that a window's sample gets first, or None.
    """

    windows: Tensor
    levels: Levels
    contraction: Tensor | None


def draw_sigma(count: int, config: DiffusionConfig, rng: torch.Generator) -> Tensor:
    """Draw noise levels (count,): ln sigma ~ N(mean, std), clamped (Karras et al. 2022, section 5)."""
    normal = torch.randn(count, generator=rng, device=rng.device)
    sigma = torch.exp(config.log_sigma_mean + config.log_sigma_std * normal)
    return sigma.clamp(config.sigma_min, config.sigma_max)


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
        self._ends = torch.tensor(table.counts, device=device).cumsum(0)
        self._sampler = NoiseFirstSampler(
            table.counts, table.bands.sigma_min, table.bands.sigma_max, data.shares
        )
        self._ambient = bool((table.bands.sigma_n > 0).any())
        self._back = torch.arange(1 - config.windows.obs_steps, 1, device=device)
        self._ahead = torch.arange(config.windows.horizon, device=device)

    def draw(self, count: int, rng: torch.Generator) -> Drawn:
        """Draw noise levels, then for each `noise_per_obs` of them a window that teaches them."""
        diffusion = self.config.diffusion
        repeat = diffusion.noise_per_obs
        sigma = draw_sigma(count * repeat, diffusion, rng)
        if repeat > 1 and self.config.data.restricted:
            # Neighbours share a window, so that it is admissible at all its levels and still no level is
            # drawn more or less often than the others.
            sigma = sigma.sort().values
        groups = sigma.view(count, repeat)
        low, high = (sigma, sigma) if repeat == 1 else (groups.amin(1), groups.amax(1))
        windows, by_upper = self._sampler.draw(low, high, rng)
        if not self._ambient:
            return Drawn(windows, Levels(sigma), None)
        bands = self.table.bands
        sigma_n = bands.sigma_n[windows] * by_upper
        each = sigma_n.repeat_interleave(repeat)
        bound = bands.bound[windows].repeat_interleave(repeat)
        levels = Levels(sigma, each, rescaling(sigma, each, bound))
        return Drawn(windows, levels, bands.contraction[windows] * by_upper)

    def collect(self, drawn: Drawn, rng: torch.Generator) -> Batch:
        """Collect the samples of a draw, brought to their sigma_n."""
        batch = self.gather(drawn.windows, rng)
        if drawn.contraction is None or self.data.frozen is None:
            return batch
        noise = self.data.frozen[self.table.now[drawn.windows]]
        return replace(batch, chunk=batch.chunk + drawn.contraction[:, None, None] * noise)

    def gather(self, windows: Tensor, rng: torch.Generator | None) -> Batch:
        """Collect the samples of `windows` (B,). `rng` None: no augmentation, and the first stored draw."""
        data, now = self.data, self.table.now[windows]
        frames = torch.maximum(now[:, None] + self._back, self.table.first[windows, None])
        labels = torch.minimum(now[:, None] + self._ahead, self.table.last[windows, None])
        chunk = data.action_m[labels]
        if self.config.action.relative_to == "tool":
            chunk = chunk - data.tool_m[now][:, None]
        return Batch(
            images=self.images(frames, rng) if self.stored is None else {},
            features=None if self.stored is None else self._features(self.stored, frames, rng),
            state=data.state[frames],
            chunk=(chunk - self._offset) / self._scale,
            pose=None if data.pose is None else data.pose[frames],
            source=torch.bucketize(windows, self._ends, right=True),
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
