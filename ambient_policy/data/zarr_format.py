"""The replay buffer of diffusion policy (Chi et al. 2023): `data/KEY` (N, ...) and `meta/episode_ends`, zarr
v2.

Written with the keys and chunks of the cotraining reference: state (x, y, yaw of the pusher, which has none:
0), slider_state, action, target, and one field of images a camera.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ambient_policy.data.portable import Field, Foreign, Passport, Raw, dump, eight_bit, load
from ambient_policy.data.projection import goal
from ambient_policy.episodes import Episode, EpisodeMeta
from ambient_policy.errors import EpisodeError

CHUNKS = {"state": 1024, "slider_state": 1024, "action": 2048, "target": 1024}
IMAGE_CHUNK = 128
POSE = "privileged_slider_pose"


def key_of(array: str) -> str:
    """Return the zarr key of one of our arrays."""
    return {POSE: "slider_state"}.get(array, array)


def camera_key(camera: str) -> str:
    """Return the zarr key of a camera."""
    return camera if camera.endswith("camera") else f"{camera}_camera"


def write_zarr(episodes: Iterable[tuple[str, Episode]], metas: list[EpisodeMeta], out: Path) -> None:
    """Write a replay buffer; `metas` are those of all episodes, so that arrays have their size at once.

    Raises:
        EpisodeError: episodes differ in cameras or arrays.
    """
    import zarr
    from numcodecs import Blosc

    ends = np.cumsum([meta.steps for meta in metas])
    root: Any = zarr.open_group(str(out), mode="w-", zarr_format=2)
    data, meta_group = root.create_group("data"), root.create_group("meta")
    codec = Blosc(cname="zstd", clevel=5, shuffle=Blosc.BITSHUFFLE)
    columns: dict[str, _Column] = {}
    passports = []
    for name, episode in episodes:
        fields = _fields(episode)
        if columns and set(fields) != set(columns):
            odd = ", ".join(sorted(set(fields) ^ set(columns)))
            raise EpisodeError(
                f"{name} differs from the first episode in {odd}; one replay buffer has one set of fields"
            )
        for key, values in fields.items():
            if key not in columns:
                chunk = CHUNKS.get(key, IMAGE_CHUNK if values.ndim == 4 else 1024)
                array = data.create_array(
                    key,
                    shape=(int(ends[-1]), *values.shape[1:]),
                    chunks=(min(chunk, int(ends[-1])), *values.shape[1:]),
                    dtype=values.dtype,
                    compressors=codec,
                )
                columns[key] = _Column(array, chunk)
            columns[key].add(values, f"{name}, {key}")
        passports.append(dump(Passport.of(name, episode)))
    for column in columns.values():
        column.flush()
    meta_group.create_array("episode_ends", data=ends.astype(np.int64), chunks=(len(ends),), compressors=None)
    root.attrs["ambient_policy"] = passports


class _Column:
    """Writes an array in whole chunks: a chunk touched twice would be compressed twice."""

    def __init__(self, array: Any, chunk: int) -> None:
        self.array, self.chunk, self.at = array, chunk, 0
        self.waiting: list[np.ndarray] = []

    def add(self, values: np.ndarray, where: str) -> None:
        if values.shape[1:] != self.array.shape[1:] or values.dtype != self.array.dtype:
            need = f"{self.array.dtype} {self.array.shape[1:]}"
            raise EpisodeError(
                f"{where} is {values.dtype} {values.shape[1:]} a step; the first episode has {need}"
            )
        self.waiting.append(values)
        if sum(map(len, self.waiting)) >= self.chunk:
            rows = np.concatenate(self.waiting)
            whole = len(rows) // self.chunk * self.chunk
            self.array[self.at : self.at + whole] = rows[:whole]
            self.at, self.waiting = self.at + whole, [rows[whole:]]

    def flush(self) -> None:
        rows = np.concatenate(self.waiting)
        if len(rows):
            self.array[self.at : self.at + len(rows)] = rows
        self.at, self.waiting = self.at + len(rows), [rows[:0]]


def _fields(episode: Episode) -> dict[str, np.ndarray]:
    steps = episode.meta.steps
    out = {key_of(k): v for k, v in episode.arrays.items() if v.dtype.kind in "fiub"}
    if left := [k for k, v in episode.arrays.items() if v.dtype.kind not in "fiub"]:
        raise EpisodeError(
            f"array `{left[0]}` is text, which a replay buffer does not hold; remove it from the episodes"
        )
    out["state"] = np.column_stack([episode.arrays["state"], np.zeros(steps)])
    if (target := goal(episode.meta)) is not None and "target" not in out:
        out["target"] = np.tile(np.asarray(target), (steps, 1))
    return out | {camera_key(c): frames for c, frames in episode.images.items()}


def open_zarr(path: Path) -> Foreign:
    """Open a replay buffer: a folder, or a .zip of one.

    Raises:
        EpisodeError: it is no replay buffer, or is not whole.
    """
    import zarr

    try:
        store: Any = zarr.storage.ZipStore(path, mode="r") if path.is_file() else str(path)
        root: Any = zarr.open_group(store, mode="r")
        ends = np.asarray(root["meta/episode_ends"][:]).astype(np.int64)
        data = dict(root["data"].arrays())
    except Exception as error:
        raise EpisodeError(
            f"{path} is no replay buffer with `data/` and `meta/episode_ends` ({type(error).__name__}: "
            f"{error})"
        ) from error
    if not len(ends) or (np.diff(ends, prepend=0) <= 0).any():
        raise EpisodeError(f"{path}: meta/episode_ends must increase from above 0; the file is damaged")
    for key, array in data.items():
        if array.shape[0] < ends[-1]:
            raise EpisodeError(
                f"{path}: data/{key} has {array.shape[0]} steps, the episodes need {ends[-1]}; it is cut "
                f"short"
            )
        _check_chunks(path, key, array)
    fields = {key: Field(tuple(a.shape[1:]), a.dtype.name) for key, a in data.items()}
    texts = root.attrs.get("ambient_policy", [])
    if texts and len(texts) != len(ends):
        raise EpisodeError(f"{path} names {len(texts)} episodes and has {len(ends)}; it is damaged")
    passports = [load(str(t), f"{path}, episode {i}") for i, t in enumerate(texts)]
    return Foreign(
        format="zarr",
        origin=str(path),
        keys={k: f for k, f in fields.items() if not f.is_image},
        cameras={k: f for k, f in fields.items() if f.is_image},
        period_s=None,
        count=len(ends),
        episodes=lambda: _episodes(path, data, fields, ends, passports),
        named={a: key_of(a) for p in passports[:1] for a in p.arrays},
        camera_keys={c: camera_key(c) for p in passports[:1] for c in p.meta.cameras},
        ours=bool(passports),
    )


def _check_chunks(path: Path, key: str, array: Any) -> None:
    """Refuse chunk files that are missing or cut short: zarr reads the first as zeros, Blosc the second as
    noise.

    Blosc's header has the compressed size in bytes 12 to 16; a chunk without a codec has the array's own
    size.
    """
    folder = path / "data" / key
    header = folder / ".zarray"
    if path.is_file() or not header.is_file():
        return
    described = json.loads(header.read_text(encoding="utf-8"))
    separator, codec = described.get("dimension_separator", "."), described.get("compressor")
    if described.get("filters"):
        return
    grid = [range(-(-n // c)) for n, c in zip(array.shape, array.chunks, strict=True)]
    for first in grid[0]:
        name = separator.join([str(first), *("0" for _ in grid[1:])])
        if not (folder / name).is_file():
            raise EpisodeError(
                f"{path}: chunk {name} of data/{key} is missing, and would be read as zeros; copy the "
                f"dataset again"
            )
        size = (folder / name).stat().st_size
        if (codec or {}).get("id") == "blosc":
            with (folder / name).open("rb") as stream:
                said = int.from_bytes(stream.read(16)[12:16], "little")
        else:
            said = size if codec else int(np.prod(array.chunks)) * array.dtype.itemsize
        if size != said:
            raise EpisodeError(
                f"{path}: chunk {name} of data/{key} has {size} bytes, needs {said}; it is cut short, copy "
                f"the "
                "dataset again"
            )


def _episodes(
    path: Path, data: dict[str, Any], fields: dict[str, Field], ends: np.ndarray, passports: list[Passport]
) -> Iterator[Raw]:
    starts = np.concatenate([[0], ends[:-1]])
    low = {}
    for key, array in data.items():
        if not fields[key].is_image:
            low[key] = _read(path, key, array, 0, int(ends[-1]))
    for index, (start, stop) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):

        def images(key: str, start: int = start, stop: int = stop) -> np.ndarray:
            return eight_bit(_read(path, key, data[key], start, stop), f"{path}, data/{key}")

        passport = passports[index] if passports else None
        yield Raw(index, stop - start, {k: v[start:stop] for k, v in low.items()}, images, passport)


def _read(path: Path, key: str, array: Any, start: int, stop: int) -> np.ndarray:
    try:
        return np.asarray(array[start:stop])
    except Exception as error:
        raise EpisodeError(
            f"{path}: data/{key} cannot be read from step {start} ({type(error).__name__}: {error}); copy "
            f"the dataset again"
        ) from error
