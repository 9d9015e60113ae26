"""Packed cache: a folder of episodes as a few large arrays, built once per set of episodes and image size.

    cache.json              what it was made of (CacheMeta)
    images_<camera>.npy     (N, h, w, 3) uint8 at the policy's input size
    lowdim.npz              episode_ends, and every array of numbers that all episodes have: state, action,
                            valid, from the twin privileged_slider_pose, ...

Decoding video at random costs a few hundred samples a second; indexing a memory map gives tens of thousands.
A killed build goes on where it stopped, and the folder gets its name only when it is whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ambient_policy.config import StrictModel
from ambient_policy.documents import read_document
from ambient_policy.episodes import CameraModel, Episode, EpisodeMeta, list_episodes, read_episode
from ambient_policy.images import to_input
from training.config import CameraConfig
from training.errors import TrainingError
from training.progress import track

SCHEMA = "ambient_policy.cache"
VERSION = 2
POSE = "privileged_slider_pose"
_FLUSH_EVERY = 20


class CacheMeta(StrictModel):
    """What a cache holds."""

    schema_name: Literal["ambient_policy.cache"] = "ambient_policy.cache"
    version: Literal[2] = 2
    key: str
    origin: str
    """Name of the folder of episodes."""
    cameras: dict[str, CameraConfig]
    capture: dict[str, CameraModel]
    """The cameras as they recorded."""
    period_s: float
    task: str
    episodes: tuple[str, ...]
    steps: int


@dataclass(frozen=True)
class Cache:
    """An opened cache; images stay on the disk until they are touched."""

    meta: CacheMeta
    images: dict[str, np.ndarray]
    lowdim: dict[str, np.ndarray]


def open_or_build(path: str | Path, cameras: Mapping[str, CameraConfig], root: Path | None = None) -> Cache:
    """Return the cache of the episodes under `path`, building it if need be.

    Args:
        path: a folder of episodes, or a cache made earlier.
        cameras: the policy's cameras and their input sizes.
        root: where caches are kept; beside the episodes as `<path>.cache` by default.
    """
    path = Path(path)
    if (path / "cache.json").is_file():
        cache = open_cache(path)
        if cache.meta.cameras != dict(cameras):
            raise TrainingError(
                f"{path} was packed for {_sizes(cache.meta.cameras)} and the config wants {_sizes(cameras)}; "
                "point --data at the episodes to pack them anew, or change `cameras:`"
            )
        return cache
    episodes = list_episodes(path)
    if not episodes:
        raise TrainingError(f"no whole episode under {path}; make some with `ambient-policy collect`")
    key = cache_key(episodes, cameras)
    folder = (root or path.with_name(path.name + ".cache")) / key
    if not (folder / "cache.json").is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        # The arms of a sweep want the same cache at the same moment: one builds, the others wait.
        with folder.with_name(f".{key}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "cache.json").is_file():
                _build(episodes, cameras, key, folder)
    return open_cache(folder)


def open_cache(folder: Path) -> Cache:
    """Open a finished cache; images are memory maps."""
    meta = read_document(folder / "cache.json", CacheMeta, SCHEMA, VERSION, TrainingError)
    try:
        with np.load(folder / "lowdim.npz", allow_pickle=False) as stored:
            lowdim = {key: stored[key] for key in stored.files}
        images = {
            # "c": pages are shared and read on demand; torch wants memory it could write to.
            camera: np.load(folder / f"images_{camera}.npy", mmap_mode="c", allow_pickle=False)
            for camera in meta.cameras
        }
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"cache {folder} is damaged ({error}); delete it, it will be built anew"
        ) from error
    return Cache(meta, images, lowdim)


def cache_key(episodes: list[Path], cameras: Mapping[str, CameraConfig]) -> str:
    """Name a set of episodes and image sizes; any change of a data file changes it."""
    digest = hashlib.sha256(f"{SCHEMA} {VERSION} {_sizes(cameras)}".encode())
    for episode in episodes:
        sums = episode / "SHA256SUMS"
        digest.update(episode.name.encode() + b"\0" + (sums.read_bytes() if sums.is_file() else b""))
    return digest.hexdigest()[:16]


def _build(episodes: list[Path], cameras: Mapping[str, CameraConfig], key: str, folder: Path) -> None:
    metas = [_read_meta(path) for path in episodes]
    _check_alike(episodes, metas, cameras)
    ends = np.cumsum([meta.steps for meta in metas])
    partial = folder.with_name(f".{folder.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    progress = partial / "progress.json"
    done = int(json.loads(progress.read_text())["done"]) if progress.is_file() else 0
    images = {
        camera: np.lib.format.open_memmap(
            partial / f"images_{camera}.npy",
            mode="r+" if done else "w+",
            dtype=np.uint8,
            shape=(int(ends[-1]), size.height, size.width, 3),
        )
        for camera, size in cameras.items()
    }

    def save(count: int) -> None:
        for array in images.values():
            array.flush()
        beside = progress.with_suffix(".new")
        beside.write_text(json.dumps({"done": count}))
        beside.replace(progress)

    names = list(cameras)
    rows = track(_read_ahead(episodes[done:], names), f"packing {folder.parent.name}", len(episodes), done)
    for index, episode in enumerate(rows, start=done):
        stop = int(ends[index])
        start = stop - episode.meta.steps
        for camera, size in cameras.items():
            frames = episode.images[camera]
            images[camera][start:stop] = [to_input(frame, size.width, size.height) for frame in frames]
        if (index + 1) % _FLUSH_EVERY == 0:
            save(index + 1)
    save(len(episodes))
    np.savez(partial / "lowdim.npz", **_lowdim(episodes), episode_ends=ends)
    first = metas[0]
    meta = CacheMeta(
        key=key,
        origin=episodes[0].parent.name,
        cameras=dict(cameras),
        capture={camera: first.cameras[camera] for camera in cameras},
        period_s=first.period_s,
        task=first.task,
        episodes=tuple(path.name for path in episodes),
        steps=int(ends[-1]),
    )
    (partial / "cache.json").write_text(meta.model_dump_json(indent=1) + "\n", encoding="utf-8")
    progress.unlink()
    partial.rename(folder)


def _read_ahead(paths: list[Path], cameras: list[str]) -> Iterator[Episode]:
    """Yield episodes in order, decoded by a few threads (the decoder releases the GIL)."""
    workers = max(1, min(8, os.cpu_count() or 1))
    pending: deque[Future[Episode]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for path in paths:
            pending.append(pool.submit(read_episode, path, cameras=cameras))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _lowdim(episodes: list[Path]) -> dict[str, Any]:
    arrays = [read_episode(path, cameras=()).arrays for path in episodes]
    numbers = {
        key for key, array in arrays[0].items() if array.dtype.kind in "fiub" and key != "episode_ends"
    }
    shared = sorted(key for key in numbers if all(_like(a.get(key), arrays[0][key]) for a in arrays))
    return {key: np.concatenate([a[key] for a in arrays]) for key in shared}


def _like(array: np.ndarray | None, first: np.ndarray) -> bool:
    return array is not None and array.dtype == first.dtype and array.shape[1:] == first.shape[1:]


def _read_meta(path: Path) -> EpisodeMeta:
    return read_document(path / "meta.json", EpisodeMeta, "ambient_policy.episode", 1, TrainingError)


def _check_alike(paths: list[Path], metas: list[EpisodeMeta], cameras: Mapping[str, CameraConfig]) -> None:
    first = metas[0]
    for path, meta in zip(paths, metas, strict=True):
        if missing := sorted(set(cameras) - set(meta.cameras)):
            raise TrainingError(
                f"{path} has no camera {', '.join(missing)} (it has {', '.join(meta.cameras) or 'none'}); "
                "change `cameras:` in the config or collect with that camera"
            )
        if meta.period_s != first.period_s:
            raise TrainingError(
                f"{path} runs at {meta.period_s} s a step and {paths[0]} at {first.period_s}; "
                "keep episodes of different rates in different folders and train on one"
            )


def _sizes(cameras: Mapping[str, CameraConfig]) -> str:
    return ", ".join(f"{name} {size.width}x{size.height}" for name, size in sorted(cameras.items()))
