"""Features made ahead by a frozen encoder: training then skips the dear part of every step.

Every frame is encoded `feature_draws` times: the first as it is, the others under another look, one look for
each episode and draw, so that the T frames of a window agree.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.batches import augment
from training.config import TrainConfig
from training.data import RunData
from training.policy import PolicyNet, autocast
from training.progress import track

_ROWS = 256
_SAVE_EVERY = 20


def stored_features(net: PolicyNet, data: RunData, config: TrainConfig, folder: Path) -> Tensor:
    """Return (N, draws, F) float16 features of all frames, reading what an earlier call has finished.

    On a CPU they are a memory map in `folder`, and a killed call goes on where it stopped; a GPU makes them
    anew in seconds and keeps them in its memory.
    """
    shape = (len(data.frames), config.feature_draws, net.encoder.features)
    bounds = _episode_bounds(data)
    on_gpu = data.state.device.type == "cuda"
    if on_gpu:
        out, done = torch.empty(shape, dtype=torch.float16, device=data.state.device), 0
        save = None
    else:
        folder.mkdir(parents=True, exist_ok=True)
        progress = folder / "progress.json"
        done = int(json.loads(progress.read_text())["episodes"]) if progress.is_file() else 0
        mapped = np.lib.format.open_memmap(
            folder / "features.npy", mode="r+" if done else "w+", dtype=np.float16, shape=shape
        )
        out = torch.from_numpy(mapped)

        def save(count: int) -> None:
            mapped.flush()
            beside = progress.with_suffix(".new")
            beside.write_text(json.dumps({"episodes": count}))
            beside.replace(progress)

    rows = track(bounds[done:], "encoding episodes", len(bounds), done)
    for index, (start, stop) in enumerate(rows, start=done):
        out[start:stop] = _encode(net, data, config, index, start, stop).to(out.device)
        if save is not None and ((index + 1) % _SAVE_EVERY == 0 or index + 1 == len(bounds)):
            save(index + 1)
    return out


@torch.no_grad()
def _encode(
    net: PolicyNet, data: RunData, config: TrainConfig, episode: int, start: int, stop: int
) -> Tensor:
    device = data.state.device
    frames = torch.arange(start, stop, device=device)
    images = {camera: data.frames.gather(camera, frames)[None] for camera in data.frames.cameras}
    rng = torch.Generator(device).manual_seed(config.seed * 1_000_003 + episode)
    draws = []
    for draw in range(config.feature_draws):
        seen = images if draw == 0 else {c: augment(i, config.augment, rng) for c, i in images.items()}
        pieces = []
        with autocast(device, config.precision):
            for at in range(0, stop - start, _ROWS):
                pieces.append(net.encode({c: i[:, at : at + _ROWS] for c, i in seen.items()})[0])
        draws.append(torch.cat(pieces).half())
    return torch.stack(draws, dim=1)


def _episode_bounds(data: RunData) -> list[tuple[int, int]]:
    bounds, offset = [], 0
    for cache in data.caches:
        ends = cache.lowdim["episode_ends"] + offset
        bounds += list(zip([offset, *ends[:-1].tolist()], ends.tolist(), strict=True))
        offset += cache.meta.steps
    return bounds
