"""Write episodes as a LeRobotDataset v3.0 (Hugging Face), which the `lerobot` package loads from a local
folder.

meta/info.json                      features, rates, paths
meta/stats.json                     over all episodes
meta/tasks.parquet                  text of the task to its number
meta/episodes/chunk-000/file-000.parquet   one row an episode: length, files, times, statistics
data/chunk-000/file-000.parquet     one row a step
videos/KEY/chunk-000/file-000.mp4   many episodes in a file
meta/ambient_policy.jsonl           ours: what brings everything back on import
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ambient_policy.data import lerobot_stats as stats
from ambient_policy.data.lerobot_video import FILE_S, Quality, VideoFile
from ambient_policy.data.portable import Passport, dump
from ambient_policy.episodes import Episode, EpisodeMeta
from ambient_policy.errors import EpisodeError

Images = Literal["lossless", "av1", "png"]
STATE, ACTION, CAMERA = "observation.state", "action", "observation.images."
EXTRA = "extra."
"""Before all other arrays. LeRobot takes every key that begins with `action` or `observation` for the
policy's."""
CHUNK_FILES = 1000
DATA_MB, VIDEO_MB = 100, 200
PLACE = "chunk-{chunk_index:03d}/file-{file_index:03d}"


def key_of(array: str) -> str:
    """Return the LeRobot key of one of our arrays."""
    return {"state": STATE, "action": ACTION}.get(array, EXTRA + array)


def write_lerobot(episodes: Iterable[tuple[str, Episode]], out: Path, *, images: Images) -> None:
    """Write a dataset into the folder `out`, episode by episode.

    Args:
        episodes: (name, episode) with all images; all alike in period, cameras and arrays.
        images: `lossless` H.264 in RGB, `av1` as LeRobot's own (lossy), or `png` inside the parquet (exact).
    Raises:
        EpisodeError: the rate is no whole number of hertz, episodes differ, or an array cannot be expressed.
    """
    writer: _Writer | None = None
    for name, episode in episodes:
        writer = writer or _Writer(out, episode, images)
        writer.add(name, episode)
    if writer is None:
        raise EpisodeError("there is no episode to export")
    writer.close()


class _Writer:
    def __init__(self, out: Path, first: Episode, images: Images) -> None:
        self.out, self.images = out, images
        self.fps = _fps(first.meta)
        self.kinds = {key: (a.dtype.kind, a.shape[1:]) for key, a in first.arrays.items()}
        self.cameras = first.meta.cameras
        self.features = self._features(first)
        self.frames = 0
        self.rows: list[dict[str, Any]] = []
        self.tasks: dict[str, int] = {}
        self.numbers: dict[str, list[np.ndarray]] = {}
        self.pixels: dict[str, list[Any]] = {}
        self.data_file, self.data_bytes = 0, 0
        self.parquet: Any = None
        self.videos: dict[str, tuple[int, VideoFile, Path]] = {}
        (out / "meta").mkdir(parents=True)
        self.passports = (out / "meta" / "ambient_policy.jsonl").open("w", encoding="utf-8")

    def _features(self, first: Episode) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key, array in first.arrays.items():
            dtype = "string" if array.dtype.kind == "U" else array.dtype.name
            if array.dtype.kind not in "fiubU" or dtype == "float128" or array.ndim > 5:
                raise EpisodeError(
                    f"array `{key}` ({array.dtype} {array.shape}) cannot be written to LeRobot"
                )
            if dtype == "string" and array.ndim > 1:
                raise EpisodeError(
                    f"array `{key}` has {array.ndim - 1} texts a step or more; LeRobot takes one"
                )
            names = ["x", "y"] if key in ("state", "action") else None
            out[key_of(key)] = {"dtype": dtype, "shape": list(array.shape[1:] or (1,)), "names": names}
        for camera, model in self.cameras.items():
            out[CAMERA + camera] = {
                "dtype": "image" if self.images == "png" else "video",
                "shape": [model.height, model.width, 3],
                "names": ["height", "width", "channels"],
            }
            if self.images == "av1" and (model.width % 2 or model.height % 2):
                raise EpisodeError(
                    f"camera {camera} is {model.width}x{model.height}; av1 needs even sizes, use lossless"
                )
            if self.images != "png":
                codec, pixels = ("h264", "gbrp") if self.images == "lossless" else ("av1", "yuv420p")
                out[CAMERA + camera]["info"] = {
                    "video.height": model.height,
                    "video.width": model.width,
                    "video.codec": codec,
                    "video.pix_fmt": pixels,
                    "video.is_depth_map": False,
                    "video.fps": self.fps,
                    "video.channels": 3,
                    "has_audio": False,
                }
        for key in ("timestamp", "frame_index", "episode_index", "index", "task_index"):
            dtype = "float32" if key == "timestamp" else "int64"
            out[key] = {"dtype": dtype, "shape": [1], "names": None}
        return out

    def add(self, name: str, episode: Episode) -> None:
        self._check_alike(name, episode)
        index, steps = len(self.rows), episode.meta.steps
        task = self.tasks.setdefault(episode.meta.task, len(self.tasks))
        columns: dict[str, Any] = {key_of(k): a for k, a in episode.arrays.items()}
        columns |= {
            "timestamp": (np.arange(steps) / self.fps).astype(np.float32),
            "frame_index": np.arange(steps),
            "episode_index": np.full(steps, index),
            "index": np.arange(self.frames, self.frames + steps),
            "task_index": np.full(steps, task),
        }
        row: dict[str, Any] = {
            "episode_index": index,
            "tasks": [episode.meta.task],
            "length": steps,
            "dataset_from_index": self.frames,
            "dataset_to_index": self.frames + steps,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
        }
        measured = {k: stats.of_numbers(v) for k, v in columns.items() if v.dtype.kind in "fiub"}
        for key, values in columns.items():
            if values.dtype.kind in "fiub":
                self.numbers.setdefault(key, []).append(values)
        for camera, frames in episode.images.items():
            key = CAMERA + camera
            counted = stats.pixel_counts(frames)
            self.pixels.setdefault(key, []).append(counted)
            measured[key] = stats.of_pixels(*counted)
            if self.images == "png":
                columns[key] = [_png(frame) for frame in frames]
            else:
                row |= self._video(key, frames, self.images)
        row |= self._data(columns)
        row |= {f"stats/{k}/{n}": v.tolist() for k, each in measured.items() for n, v in each.items()}
        self.rows.append(row)
        self.frames += steps
        self.passports.write(dump(Passport.of(name, episode, lossy=self.images == "av1")) + "\n")

    def _check_alike(self, name: str, episode: Episode) -> None:
        kinds = {key: (a.dtype.kind, a.shape[1:]) for key, a in episode.arrays.items()}
        sizes = {c: (m.width, m.height) for c, m in episode.meta.cameras.items()}
        mine = {c: (m.width, m.height) for c, m in self.cameras.items()}
        if _fps(episode.meta) != self.fps or sizes != mine or kinds != self.kinds:
            raise EpisodeError(
                f"{name} differs from the first episode in period, cameras or arrays, and one "
                f"LeRobotDataset has one "
                "of each; `ambient-policy data validate` lists where"
            )

    def _data(self, columns: dict[str, Any]) -> dict[str, int]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table({key: _column(values) for key, values in columns.items()})
        if self.parquet is not None and self.data_bytes + table.nbytes > DATA_MB * 2**20:
            self.parquet.close()
            self.parquet, self.data_bytes, self.data_file = None, 0, self.data_file + 1
        place = _place(self.data_file)
        if self.parquet is None:
            path = self.out / "data" / (PLACE.format(**place) + ".parquet")
            path.parent.mkdir(parents=True, exist_ok=True)
            self.parquet = pq.ParquetWriter(path, table.schema, compression="snappy")
        self.parquet.write_table(table)
        self.data_bytes += table.nbytes
        return {f"data/{key}": value for key, value in place.items()}

    def _video(self, key: str, frames: np.ndarray, quality: Quality) -> dict[str, Any]:
        number, video, path = self.videos.get(key, (-1, None, None))
        length_s = len(frames) / self.fps
        full = (
            video is not None
            and path is not None
            and video.frames > 0
            and (video.seconds + length_s > FILE_S or path.stat().st_size > VIDEO_MB * 2**20)
        )
        if video is None or full:
            if video is not None:
                video.close()
            number += 1
            path = self.out / "videos" / key / (PLACE.format(**_place(number)) + ".mp4")
            video = VideoFile(path, self.fps, (frames.shape[2], frames.shape[1]), quality)
            self.videos[key] = (number, video, path)
        start_s = video.seconds
        video.add(frames)
        place = {f"videos/{key}/{k}": v for k, v in _place(number).items()}
        return place | {
            f"videos/{key}/from_timestamp": start_s,
            f"videos/{key}/to_timestamp": start_s + length_s,
        }

    def close(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        assert self.parquet is not None
        self.parquet.close()
        self.passports.close()
        for _, video, _ in self.videos.values():
            video.close()
        meta = self.out / "meta"
        target = meta / "episodes" / (PLACE.format(**_place(0)) + ".parquet")
        target.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(self.rows), target)
        _write_tasks(self.tasks, meta / "tasks.parquet")
        total = {k: stats.of_numbers(np.concatenate(v)) for k, v in self.numbers.items()}
        for key, counted in self.pixels.items():
            total[key] = stats.of_pixels(sum(c for c, _ in counted), sum(n for _, n in counted))
        (meta / "stats.json").write_text(json.dumps(stats.as_json(total), indent=1) + "\n", encoding="utf-8")
        video_path = "videos/{video_key}/" + PLACE + ".mp4" if self.videos else None
        info = {
            "codebase_version": "v3.0",
            "robot_type": None,
            "total_episodes": len(self.rows),
            "total_frames": self.frames,
            "total_tasks": len(self.tasks),
            "chunks_size": CHUNK_FILES,
            "data_files_size_in_mb": DATA_MB,
            "video_files_size_in_mb": VIDEO_MB,
            "fps": self.fps,
            "splits": {"train": f"0:{len(self.rows)}"},
            "data_path": "data/" + PLACE + ".parquet",
            "video_path": video_path,
            "features": self.features,
        }
        (meta / "info.json").write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")


def _fps(meta: EpisodeMeta) -> int:
    fps = round(1 / meta.period_s)
    if fps < 1 or abs(fps * meta.period_s - 1) > 1e-9:
        raise EpisodeError(
            f"the period is {meta.period_s:g} s; LeRobot takes a whole number of steps a second"
        )
    return fps


def _place(number: int) -> dict[str, int]:
    return {"chunk_index": number // CHUNK_FILES, "file_index": number % CHUNK_FILES}


def _column(values: Any) -> Any:
    """Turn (N, ...) into an Arrow column: lists of fixed length for vectors, nested lists beyond."""
    import pyarrow as pa

    if isinstance(values, list):
        return pa.array([{"bytes": v, "path": None} for v in values], _IMAGE())
    if values.dtype.kind == "U":
        return pa.array(values.tolist(), pa.string())
    if values.ndim == 1 or values.shape[1:] == (1,):
        return pa.array(values.reshape(-1))
    if values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
    out = pa.array(values.reshape(-1))
    for size in values.shape[:0:-1]:
        offsets = pa.array(np.arange(0, len(out) + 1, size, dtype=np.int32))
        out = pa.ListArray.from_arrays(offsets, out)
    return out


def _IMAGE() -> Any:  # Arrow's type of an image, as the `datasets` package writes it
    import pyarrow as pa

    return pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def _png(frame: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG")
    return buffer.getvalue()


def _write_tasks(tasks: dict[str, int], path: Path) -> None:
    """Write the table as pandas would, with the text as its index: LeRobot looks tasks up by index."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"task_index": pa.array(list(tasks.values()), pa.int64()), "task": list(tasks)})
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [
            {
                "name": "task_index",
                "field_name": "task_index",
                "pandas_type": "int64",
                "numpy_type": "int64",
                "metadata": None,
            },
            {
                "name": "task",
                "field_name": "task",
                "pandas_type": "unicode",
                "numpy_type": "object",
                "metadata": None,
            },
        ],
        "pandas_version": "2.0.0",
    }
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(pandas)}), path)
