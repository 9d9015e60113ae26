"""How a dataset changes without losing anything: what goes moves to `quarantine/`, what changes is a new
folder.

Every step is a rename or two. A killed repair leaves a complete `.NAME.partial-PID`, which the next one
finishes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

from ambient_policy.episodes import (
    Episode,
    EpisodeMeta,
    disagreements,
    read_arrays,
    read_meta,
    write_meta,
    write_sums,
)
from ambient_policy.errors import EpisodeError
from ambient_policy.folders import whole_folder

QUARANTINE = "quarantine"
REASONS = "reasons.jsonl"


def set_aside(path: Path, why: str, when: str) -> Path:
    """Move a file or folder into `quarantine/` beside it and note why; return where it is now."""
    pen = path.parent / QUARANTINE
    pen.mkdir(exist_ok=True)
    name = path.name.lstrip(".")
    target, number = pen / name, 1
    while target.exists():
        number += 1
        target = pen / f"{name}.{number}"
    # The reason first: a kill between the two leaves a note too many, never a folder without one.
    with (pen / REASONS).open("a", encoding="utf-8") as log:
        log.write(json.dumps({"when": when, "from": path.name, "now": target.name, "why": why}) + "\n")
        log.flush()
        os.fsync(log.fileno())
    path.rename(target)
    return target


def replace_episode(path: Path, why: str, when: str, build: Callable[[Path], None]) -> None:
    """Put a changed copy in the place of an episode; the original goes to quarantine, whole.

    `build` fills the new folder: it links what stays the same (`link`), and writes meta.json last.
    """
    beside = path.with_name(f".{path.name}.partial-{os.getpid()}")
    with whole_folder(beside) as folder:
        build(folder)
    set_aside(path, why, when)
    beside.rename(path)


def link(source: Path, folder: Path) -> None:
    """Give a file a second name in `folder`; copied only where the file system has no hard links."""
    target = folder / source.name
    try:
        target.hardlink_to(source)
    except OSError:
        target.write_bytes(source.read_bytes())


def finish(leftover: Path, name: str) -> None:
    """Give a complete leftover its name."""
    leftover.rename(leftover.with_name(name))


def without_camera(path: Path, camera: str) -> Callable[[Path], None]:
    """Build the episode at `path` without one camera."""

    def build(folder: Path) -> None:
        meta = read_meta(path)
        kept = {name: model for name, model in meta.cameras.items() if name != camera}
        _link_data(path, folder, meta.model_copy(update={"cameras": kept}))

    return build


def with_new_sums(path: Path) -> Callable[[Path], None]:
    """Build the episode at `path` with a new SHA256SUMS."""
    return lambda folder: _link_data(path, folder, read_meta(path))


def with_masked_actions(path: Path) -> Callable[[Path], None]:
    """Build the episode at `path` with its non-finite actions held at the last finite one and not valid.

    Raises:
        EpisodeError: no action is finite, or something else than the actions is wrong.
    """

    def build(folder: Path) -> None:
        meta, arrays = read_meta(path), read_arrays(path, None)
        action, valid = arrays["action"].copy(), arrays["valid"].copy()
        good = np.isfinite(action).all(axis=1)
        if not good.any():
            raise EpisodeError(f"{path.name} has no finite action at all; set it aside instead")
        # The nearest finite step before, or the first one for those at the start.
        last = np.maximum.accumulate(np.where(good, np.arange(len(action)), -1))
        action = action[np.where(last < 0, int(good.argmax()), last)]
        valid &= good
        arrays = {**arrays, "action": action, "valid": valid}
        if problems := disagreements(Episode(meta, arrays), set()):
            raise EpisodeError(f"{path.name} cannot be mended: {'; '.join(problems)}")
        np.savez(folder / "arrays.npz", **arrays)  # type: ignore[arg-type]
        _link_data(path, folder, meta, but={"arrays.npz"})

    return build


def _link_data(path: Path, folder: Path, meta: EpisodeMeta, but: Collection[str] = ()) -> None:
    for name in ["arrays.npz", *(f"images_{camera}.mkv" for camera in meta.cameras)]:
        if name not in but:
            link(path / name, folder)
    write_sums(folder)
    write_meta(folder, meta)
