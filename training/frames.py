"""Images of a run by frame index: on the GPU when they fit, else mapped from the disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

_SHARE_OF_FREE_MEMORY = 0.7


class FrameStore:
    """One row of frames over several caches.

    On a GPU with room everything is uploaded once as uint8, and a batch never waits for the processor.
    `lengths` are the frames of each source, with cameras or without.
    """

    def __init__(
        self, sources: Sequence[Mapping[str, np.ndarray]], lengths: Sequence[int], device: torch.device
    ) -> None:
        self.device = device
        self.cameras = tuple(sources[0])
        self._starts = [0, *np.cumsum(lengths).tolist()]
        self._parts = {c: [torch.from_numpy(source[c]) for source in sources] for c in self.cameras}
        size = sum(part.numel() for parts in self._parts.values() for part in parts)
        self.resident = device.type != "cuda" or size < _SHARE_OF_FREE_MEMORY * _free_memory(device)
        if device.type == "cuda" and self.resident:
            self._parts = {c: [_upload(parts, device)] for c, parts in self._parts.items()}
            self._starts = [0, self._starts[-1]]

    def __len__(self) -> int:
        return self._starts[-1]

    def gather(self, camera: str, index: Tensor) -> Tensor:
        """Return frames `index` (M,) of a camera: (M, h, w, 3) uint8 on the run's device."""
        parts = self._parts[camera]
        where = index if self.resident else index.cpu()
        if len(parts) == 1:
            return parts[0].index_select(0, where).to(self.device, non_blocking=True)
        out = parts[0].new_empty((len(index), *parts[0].shape[1:]))
        for part, start, stop in zip(parts, self._starts, self._starts[1:], strict=False):
            rows = torch.nonzero((where >= start) & (where < stop)).squeeze(1)
            out[rows] = part.index_select(0, where[rows] - start)
        return out.to(self.device, non_blocking=True)


def _free_memory(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0]


def _upload(parts: list[Tensor], device: torch.device, rows: int = 4096) -> Tensor:
    """Copy to the GPU in slices: a whole memory map at once would first be read into memory."""
    out = torch.empty((sum(map(len, parts)), *parts[0].shape[1:]), dtype=torch.uint8, device=device)
    at = 0
    for part in parts:
        for start in range(0, len(part), rows):
            piece = part[start : start + rows]
            out[at : at + len(piece)].copy_(piece)
            at += len(piece)
    return out
