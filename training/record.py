"""The run folder: what a run is, written once, and checked before it goes on.

RUN/config.yaml     the resolved TrainConfig
RUN/run.json        RunRecord: data, normaliser, cameras, code
RUN/metrics.jsonl   one line per log, validation included
RUN/checkpoints/    see checkpoint.py
RUN/features/       cached features, when the config asks for them
RUN/tensorboard/    the same numbers as curves, when TensorBoard is installed
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ambient_policy import provenance
from ambient_policy.config import StrictModel, dump_yaml, load_yaml
from ambient_policy.documents import read_document
from ambient_policy.episodes import CameraModel
from ambient_policy.manifest import Normalizers, NormalizerSpec
from training.config import TrainConfig
from training.data import RunData
from training.errors import TrainingError

# Settings that change no weight; a resumed run may differ in them.
_FREE = {"device", "compile", "log_every", "checkpoint_every", "checkpoints_kept"}


class RunRecord(StrictModel):
    """What training found in its data; together with the config and a checkpoint, all that export needs."""

    schema_name: Literal["ambient_policy.run"] = "ambient_policy.run"
    version: Literal[1] = 1
    commit: str
    torch: str
    period_s: float
    task: str
    capture: dict[str, CameraModel]
    normalizer: Normalizers
    sigma_data: float
    pose_offset: tuple[float, ...]
    data: dict[str, Any]


def make_record(data: RunData) -> RunRecord:
    """Describe the data of a run."""
    meta, norm = data.caches[0].meta, data.normalization

    def spec(values: Mapping[str, list[float]]) -> NormalizerSpec:
        return NormalizerSpec(offset=tuple(values["offset"]), scale=tuple(values["scale"]))

    return RunRecord(
        commit=provenance.commit(),
        torch=torch.__version__,
        period_s=meta.period_s,
        task=meta.task,
        capture=meta.capture,
        normalizer=Normalizers(state=spec(norm.state.to_dict()), action=spec(norm.action.to_dict())),
        sigma_data=norm.sigma_data,
        pose_offset=tuple(np.asarray(norm.pose_offset).tolist()),
        data=data.summary(),
    )


def read_run(folder: Path) -> tuple[TrainConfig, RunRecord]:
    """Read what a run is."""
    if not (folder / "config.yaml").is_file():
        raise TrainingError(f"no run at {folder} (no config.yaml); make one with `ambient-policy train`")
    record = read_document(folder / "run.json", RunRecord, "ambient_policy.run", 1, TrainingError)
    return load_yaml(folder / "config.yaml", TrainConfig), record


def open_run(folder: Path, config: TrainConfig, data: RunData) -> RunRecord:
    """Write the run's documents, or check that they are those of the run being resumed."""
    if (folder / "run.json").is_file():
        saved, record = read_run(folder)
        if changes := changed_keys(saved, config):
            listed = "\n".join(f"  {key}: was {old!r}, now {new!r}" for key, old, new in changes)
            raise TrainingError(
                f"{folder} was started with another config, so going on would be neither run:\n{listed}\n"
                "put these back, or start a new run with another --out"
            )
        now = make_record(data)
        if record.data != now.data or record.normalizer != now.normalizer:
            raise TrainingError(
                f"the episodes changed since {folder} was started:\n  was {record.data['sources']}\n"
                f"  now {now.data['sources']}\nput them back, or start a new run with another --out"
            )
        return record
    folder.mkdir(parents=True, exist_ok=True)
    record = make_record(data)
    _write(folder / "config.yaml", dump_yaml(config))
    _write(folder / "run.json", record.model_dump_json(indent=1) + "\n")
    return record


def changed_keys(saved: TrainConfig, now: TrainConfig) -> list[tuple[str, Any, Any]]:
    """List (key path, saved value, present value) of every setting that differs and matters."""
    old, new = (dict(_flatten(c.model_dump(mode="json"))) for c in (saved, now))
    return [
        (key, old.get(key), new.get(key))
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and key not in _FREE and not _is_source_path(key)
    ]


def _is_source_path(key: str) -> bool:
    # The data's own hash is compared.
    return key == "data.annotation" or (key.startswith("data.sources.") and key.endswith(".path"))


def _flatten(value: Any, path: str = "") -> Any:
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from _flatten(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def _write(file: Path, text: str) -> None:
    beside = file.with_name(f".{file.name}.partial-{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    beside.replace(file)


class Metrics:
    """Writes metrics.jsonl, and TensorBoard curves where it is installed."""

    def __init__(self, folder: Path, phase: str, step: int, order: list[str]) -> None:
        self._file = folder / "metrics.jsonl"
        self._phase = phase
        if self._file.is_file():  # lines after the checkpoint that is resumed will be made again
            lines = [line for line in self._file.read_text(encoding="utf-8").splitlines() if line]
            _write(self._file, "".join(f"{line}\n" for line in lines if _kept(line, phase, step, order)))
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self._board = None
        else:
            self._board = SummaryWriter(str(folder / "tensorboard" / phase), purge_step=step + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add one line."""
        line = {"phase": self._phase, "step": step, **values}
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        if self._board is not None:
            for key, value in values.items():
                self._board.add_scalar(key, value, step)

    def close(self) -> None:
        """Flush everything."""
        if self._board is not None:
            self._board.close()


def _kept(line: str, phase: str, step: int, order: list[str]) -> bool:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError:  # the last line of a killed run
        return False
    return (order.index(entry["phase"]), entry["step"]) <= (order.index(phase), step)
