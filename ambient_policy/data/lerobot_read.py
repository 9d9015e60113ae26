"""Read a LeRobotDataset v2.1 (an MP4 and a parquet file an episode) or v3.0 (many episodes in each)."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ambient_policy.data.lerobot_video import VideoReader
from ambient_policy.data.lerobot_write import CAMERA, key_of
from ambient_policy.data.portable import Field, Foreign, Passport, Raw, load
from ambient_policy.errors import EpisodeError

BOOKKEEPING = {"timestamp", "frame_index", "episode_index", "index", "task_index"}


def open_lerobot(root: Path) -> Foreign:
    """Open a dataset folder.

    Raises:
        EpisodeError: it is of another version, or a file is missing or damaged.
    """
    info = _json(root / "meta" / "info.json")
    version = str(info.get("codebase_version"))
    if version not in ("v2.1", "v2.0", "v3.0"):
        raise EpisodeError(f"{root} is a LeRobotDataset {version}; v2.0, v2.1 and v3.0 can be imported")
    features: dict[str, Any] = info["features"]
    keys, cameras = {}, {}
    for key, feature in features.items():
        shape = tuple(feature["shape"])
        found = Field(shape, str(feature["dtype"]), _names(feature.get("names")))
        if feature["dtype"] in ("image", "video"):
            if shape[:1] == (3,) and shape[-1] != 3:
                shape = (*shape[1:], 3)
            cameras[key] = Field(shape, "uint8")
        elif key not in BOOKKEEPING:
            keys[key] = found
    rows = _rows_v3(root) if version == "v3.0" else _rows_v2(root, info)
    passports = _passports(root, len(rows))
    named = {array: key_of(array) for p in passports[:1] for array in p.arrays}
    codecs = {str((features[c].get("info") or {}).get("video.pix_fmt")) for c in cameras}
    lossy = any(features[c]["dtype"] == "video" for c in cameras) and codecs != {"gbrp"}
    return Foreign(
        format=f"LeRobotDataset {version}",
        origin=str(root),
        keys=keys,
        cameras=cameras,
        period_s=1 / float(info["fps"]),
        count=len(rows),
        episodes=lambda: _episodes(root, info, rows, passports),
        named=named,
        camera_keys={c: CAMERA + c for p in passports[:1] for c in p.meta.cameras},
        ours=bool(passports),
        lossy=lossy,
    )


def _episodes(
    root: Path, info: dict[str, Any], rows: list[dict[str, Any]], passports: list[Passport]
) -> Iterator[Raw]:
    features, fps = info["features"], float(info["fps"])
    tables: dict[str, Any] = {}
    videos: dict[str, VideoReader] = {}
    for index, row in enumerate(rows):
        path = root / row["data"]
        if row["data"] not in tables:
            tables = {row["data"]: _table(path)}  # one file at a time: they come in order
        table = tables[row["data"]]
        if "start" in row:
            table = _of_episode(table, row, path)
        steps = table.num_rows
        if steps != row["length"]:
            raise EpisodeError(
                f"{path} has {steps} steps of episode {index}, meta says {row['length']}; it is cut short"
            )
        fields = {
            key: _numbers(table, key, tuple(feature["shape"]), path)
            for key, feature in features.items()
            if feature["dtype"] not in ("image", "video") and key not in BOOKKEEPING
        }

        def images(key: str, table: Any = table, row: dict[str, Any] = row, steps: int = steps) -> np.ndarray:
            if features[key]["dtype"] == "image":
                return _pictures(table, key)
            file, start_s = row["videos"][key]
            if file not in videos:
                for old in [name for name in videos if name.split("/file-")[0] == file.split("/file-")[0]]:
                    del videos[old]
                videos[file] = VideoReader(root / file, fps)
            return videos[file].take(round(start_s * fps), steps)

        yield Raw(index, steps, fields, images, passports[index] if passports else None)


def _rows_v3(root: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    info = _json(root / "meta" / "info.json")
    files = sorted((root / "meta" / "episodes").glob("*/*.parquet"))
    if not files:
        raise EpisodeError(f"{root}/meta/episodes holds no table of episodes; the dataset is not whole")
    video_keys = [key for key, feature in info["features"].items() if feature["dtype"] == "video"]
    wanted = ["episode_index", "length", "dataset_from_index", "data/chunk_index", "data/file_index"]
    for key in video_keys:
        wanted += [f"videos/{key}/{what}" for what in ("chunk_index", "file_index", "from_timestamp")]
    out: list[dict[str, Any]] = []
    for file in files:
        try:
            table = pq.read_table(file, columns=wanted)
        except Exception as error:
            raise EpisodeError(f"{file} cannot be read ({error}); download or export it again") from error
        for row in table.to_pylist():
            place = {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}
            videos = {}
            for key in video_keys:
                at = {name: row[f"videos/{key}/{name}"] for name in ("chunk_index", "file_index")}
                videos[key] = (
                    info["video_path"].format(video_key=key, **at),
                    float(row[f"videos/{key}/from_timestamp"]),
                )
            out.append(
                {
                    "length": row["length"],
                    "data": info["data_path"].format(**place),
                    "start": row["dataset_from_index"],
                    "index": row["episode_index"],
                    "videos": videos,
                }
            )
    out.sort(key=lambda row: row["index"])
    return out


def _rows_v2(root: Path, info: dict[str, Any]) -> list[dict[str, Any]]:
    file = root / "meta" / "episodes.jsonl"
    out = []
    for row in _lines(file):
        index = int(row["episode_index"])
        place = {"episode_chunk": index // int(info["chunks_size"]), "episode_index": index}
        videos = {
            key: (info["video_path"].format(video_key=key, **place), 0.0)
            for key, feature in info["features"].items()
            if feature["dtype"] == "video"
        }
        out.append({"length": row["length"], "data": info["data_path"].format(**place), "videos": videos})
    return out


def _of_episode(table: Any, row: dict[str, Any], path: Path) -> Any:
    """Cut the rows of one episode out of a file of many."""
    indices = np.asarray(table["episode_index"])
    found = np.flatnonzero(indices == row["index"])
    if not len(found):
        raise EpisodeError(f"{path} has no step of episode {row['index']}; the dataset is not whole")
    return table.slice(int(found[0]), len(found))


def _table(path: Path) -> Any:
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path)
    except Exception as error:
        raise EpisodeError(f"{path} cannot be read ({error}); download or export it again") from error


def _numbers(table: Any, key: str, shape: tuple[int, ...], path: Path) -> np.ndarray:
    """Return a column as (N, *shape), or (N,) for single values."""
    if key not in table.column_names:
        raise EpisodeError(f"{path} has no column {key}, which meta/info.json promises")
    column = table[key].combine_chunks()
    if str(column.type) == "string":
        return np.array(column.to_pylist())
    while hasattr(column, "flatten") and str(column.type).startswith(
        ("list", "fixed_size_list", "large_list")
    ):
        column = column.flatten()
    flat = column.to_numpy(zero_copy_only=False)
    return flat.reshape((table.num_rows, *shape) if shape != (1,) else (-1,))


def _pictures(table: Any, key: str) -> np.ndarray:
    from PIL import Image

    return np.stack(
        [np.asarray(Image.open(io.BytesIO(e["bytes"])).convert("RGB")) for e in table[key].to_pylist()]
    )


def _passports(root: Path, count: int) -> list[Passport]:
    file = root / "meta" / "ambient_policy.jsonl"
    if not file.is_file():
        return []
    lines = file.read_text(encoding="utf-8").splitlines()
    if len(lines) != count:
        raise EpisodeError(
            f"{file} names {len(lines)} episodes, the dataset has {count}; remove it to import by mapping"
        )
    return [load(line, f"{file}, line {number}") for number, line in enumerate(lines, start=1)]


def _names(found: Any) -> tuple[str, ...]:
    if isinstance(found, dict):
        found = next(iter(found.values()), None)
    return tuple(str(n) for n in found) if isinstance(found, list) else ()


def _json(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise EpisodeError(f"{file} cannot be read ({error}); is this a LeRobotDataset?") from error


def _lines(file: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise EpisodeError(f"{file} cannot be read ({error}); download the dataset again") from error
