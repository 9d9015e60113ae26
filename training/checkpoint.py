"""Checkpoints: everything a phase needs to go on exactly, as safetensors in files of bounded size.

    CHECKPOINT/state.json               phase and step
    CHECKPOINT/weights-000.safetensors  the network being trained;  ema-*  its average;
    CHECKPOINT/optimizer-*  AdamW's moments;  rng-*  the generator's state

A folder gets its name when it is whole, so a killed run leaves none that is half written. Files stay below
`SHARD_BYTES`, which e-mail, git hosts and small uploads still accept.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ambient_policy.config import StrictModel
from ambient_policy.documents import read_document
from ambient_policy.folders import whole_folder
from training.errors import TrainingError
from training.loop import TrainState

SHARD_BYTES = 14_000_000
PHASES = ("pretext", "policy", "finetune")
_PIECE = "#"


class CheckpointMeta(StrictModel):
    """Where a checkpoint stands."""

    schema_name: Literal["ambient_policy.checkpoint"] = "ambient_policy.checkpoint"
    version: Literal[1] = 1
    phase: str
    step: int


def save_checkpoint(root: Path, state: TrainState, keep: int) -> Path:
    """Write `root/<phase>-<step>` unless it is there, and remove all but the newest `keep` checkpoints."""
    folder = root / f"{state.phase}-{state.step:08d}"
    if not folder.exists():
        with whole_folder(folder) as partial:
            save_tensors(partial, "weights", state.net.state_dict())
            save_tensors(partial, "ema", state.ema.net.state_dict())
            save_tensors(partial, "optimizer", _optimizer_tensors(state))
            save_tensors(partial, "rng", {"state": state.rng.get_state()})
            meta = CheckpointMeta(phase=state.phase, step=state.step)
            (partial / "state.json").write_text(meta.model_dump_json() + "\n", encoding="utf-8")
    for old in list_checkpoints(root)[:-keep]:
        shutil.rmtree(old)
    return folder


def list_checkpoints(root: Path) -> list[Path]:
    """List whole checkpoints, oldest first."""
    if not root.is_dir():
        return []
    found = [p for p in root.iterdir() if not p.name.startswith(".") and (p / "state.json").is_file()]
    return sorted(found, key=lambda p: (PHASES.index(p.name.partition("-")[0]), p.name))


def read_meta(folder: Path) -> CheckpointMeta:
    """Read where a checkpoint stands."""
    return read_document(folder / "state.json", CheckpointMeta, "ambient_policy.checkpoint", 1, TrainingError)


def load_checkpoint(folder: Path, state: TrainState) -> None:
    """Put `state` back to where it was saved: weights, average, moments, generator and step."""
    load_into(state.net, load_tensors(folder, "weights"), folder)
    load_into(state.ema.net, load_tensors(folder, "ema"), folder)
    moments = load_tensors(folder, "optimizer")
    for name, parameter in _trained(state):
        entry = {}
        for key in ("step", "exp_avg", "exp_avg_sq"):
            saved = moments.get(f"{key}/{name}")
            if saved is None:
                raise TrainingError(f"{folder} has no optimiser state of {name}; resume with the same code")
            if key == "step":
                entry[key] = saved.to(parameter.device)
            else:
                # The parameter's own memory order: another one would round differently.
                entry[key] = torch.zeros_like(parameter, memory_format=torch.preserve_format).copy_(saved)
        state.optimizer.state[parameter] = entry
    state.rng.set_state(load_tensors(folder, "rng")["state"])
    state.step = read_meta(folder).step


def load_into(net: torch.nn.Module, tensors: dict[str, Tensor], origin: Path) -> None:
    """Load weights, or say which do not fit."""
    try:
        net.load_state_dict(tensors)
    except RuntimeError as error:
        raise TrainingError(f"{origin} does not fit this network: {error}") from error


def save_tensors(folder: Path, group: str, tensors: dict[str, Tensor]) -> None:
    """Write named tensors as `group-000.safetensors`, `group-001...`, each below SHARD_BYTES."""
    shard: dict[str, Tensor] = {}
    size, count = 0, 0
    for name, piece in _pieces(tensors):
        if shard and size + piece.nbytes > SHARD_BYTES:
            save_file(shard, folder / f"{group}-{count:03d}.safetensors")
            shard, size, count = {}, 0, count + 1
        shard[name] = piece
        size += piece.nbytes
    save_file(shard, folder / f"{group}-{count:03d}.safetensors")


def load_tensors(folder: Path, group: str) -> dict[str, Tensor]:
    """Read back what `save_tensors` wrote."""
    files = sorted(folder.glob(f"{group}-[0-9]*.safetensors"))
    if not files:
        raise TrainingError(f"{folder} has no {group}-*.safetensors; copy the whole checkpoint")
    merged: dict[str, Tensor] = {}
    try:
        for file in files:
            merged.update(load_file(file))
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"{file} is damaged ({error}); use an older checkpoint") from error
    split: dict[str, list[str]] = {}
    for name in merged:
        split.setdefault(name.partition(_PIECE)[0], []).append(name)
    # Names of pieces end in a fixed number of digits, so they sort in order.
    return {
        name: merged[name] if names == [name] else torch.cat([merged[n] for n in sorted(names)])
        for name, names in split.items()
    }


def _pieces(tensors: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors.items():
        flat = tensor.detach().contiguous()
        if flat.nbytes <= SHARD_BYTES:
            yield name, flat
            continue
        rows = max(1, SHARD_BYTES * len(flat) // flat.nbytes)
        for index, piece in enumerate(flat.split(rows)):
            yield f"{name}{_PIECE}{index:04d}", piece.contiguous()


def _trained(state: TrainState) -> Iterator[tuple[str, torch.nn.Parameter]]:
    return ((name, p) for name, p in state.net.named_parameters() if p.requires_grad)


def _optimizer_tensors(state: TrainState) -> dict[str, Tensor]:
    return {
        f"{key}/{name}": tensor
        for name, parameter in _trained(state)
        for key, tensor in state.optimizer.state[parameter].items()
    }
