"""Datasets of other formats, written by their documented layouts and without any of our code."""

from __future__ import annotations

import io
import json
from fractions import Fraction
from pathlib import Path

import av
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr
from PIL import Image

FPS = 20
LENGTHS = (5, 8, 3)


def truth(seed: int = 0, width: int = 7) -> list[dict[str, np.ndarray]]:
    """Return what the files are to hold: state (N, width) and action (N, 2) float32, images (N, 24, 32,
    3)."""
    rng = np.random.default_rng(seed)
    return [
        {
            "state": rng.normal(size=(n, width)).astype(np.float32),
            "action": rng.normal(size=(n, 2)).astype(np.float32),
            "images": rng.integers(0, 256, (n, 24, 32, 3), dtype=np.uint8),
        }
        for n in LENGTHS
    ]


def _features(video: bool) -> dict:
    names = ["x", "y", "z", "rx", "ry", "rz", "gripper"]
    shape = {"dtype": "float32", "shape": [7], "names": names}
    image = {
        "dtype": "video" if video else "image",
        "shape": [24, 32, 3],
        "names": ["height", "width", "channels"],
    }
    numbers = {
        k: {"dtype": "int64", "shape": [1], "names": None}
        for k in ("frame_index", "episode_index", "index", "task_index")
    }
    return {
        "observation.state": shape,
        "action": {"dtype": "float32", "shape": [2], "names": {"motors": ["x", "y"]}},
        "observation.images.top": image,
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
        **numbers,
    }


def _table(episode: dict, index: int, first: int, video: bool) -> pa.Table:
    n = len(episode["action"])
    columns = {
        "observation.state": pa.array(episode["state"].tolist(), pa.list_(pa.float32(), 7)),
        "action": pa.array(episode["action"].tolist(), pa.list_(pa.float32(), 2)),
        "timestamp": pa.array(np.arange(n, dtype=np.float32) / FPS),
        "frame_index": pa.array(np.arange(n)),
        "episode_index": pa.array(np.full(n, index)),
        "index": pa.array(np.arange(first, first + n)),
        "task_index": pa.array(np.zeros(n, np.int64)),
    }
    if not video:
        pictures = []
        for frame in episode["images"]:
            buffer = io.BytesIO()
            Image.fromarray(frame).save(buffer, "PNG")
            pictures.append({"bytes": buffer.getvalue(), "path": "frame.png"})
        columns["observation.images.top"] = pa.array(pictures)
    return pa.table(columns)


def _movie(path: Path, frames: np.ndarray) -> None:
    """Write frames without loss; with B frames, whose order in the file is not that of time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=Fraction(FPS), options={"qp": "0", "bf": "2"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "rgb24"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def lerobot_v21(root: Path) -> list[dict[str, np.ndarray]]:
    """One parquet and one MP4 an episode; the table of episodes is JSON lines."""
    episodes = truth()
    (root / "meta").mkdir(parents=True)
    info = {
        "codebase_version": "v2.1",
        "robot_type": "unknown",
        "total_episodes": len(episodes),
        "total_frames": sum(LENGTHS),
        "total_tasks": 1,
        "total_videos": len(episodes),
        "total_chunks": 2,
        "chunks_size": 2,
        "fps": FPS,
        "splits": {"train": f"0:{len(episodes)}"},
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": _features(video=True),
    }
    (root / "meta" / "info.json").write_text(json.dumps(info))
    (root / "meta" / "tasks.jsonl").write_text(json.dumps({"task_index": 0, "task": "push"}) + "\n")
    first = 0
    with (root / "meta" / "episodes.jsonl").open("w") as lines:
        for index, episode in enumerate(episodes):
            n, chunk = len(episode["action"]), index // 2
            lines.write(json.dumps({"episode_index": index, "tasks": ["push"], "length": n}) + "\n")
            data = root / "data" / f"chunk-{chunk:03d}" / f"episode_{index:06d}.parquet"
            data.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(_table(episode, index, first, video=True), data)
            name = f"episode_{index:06d}.mp4"
            _movie(
                root / "videos" / f"chunk-{chunk:03d}" / "observation.images.top" / name, episode["images"]
            )
            first += n
    return episodes


def lerobot_v30(root: Path, *, video: bool) -> list[dict[str, np.ndarray]]:
    """All episodes in one parquet and one MP4; the table of episodes says where each begins."""
    episodes = truth()
    (root / "meta" / "episodes" / "chunk-000").mkdir(parents=True)
    info = {
        "codebase_version": "v3.0",
        "robot_type": None,
        "total_episodes": len(episodes),
        "total_frames": sum(LENGTHS),
        "total_tasks": 1,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": FPS,
        "splits": {"train": f"0:{len(episodes)}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
        if video
        else None,
        "features": _features(video),
    }
    (root / "meta" / "info.json").write_text(json.dumps(info))
    rows, tables, first = [], [], 0
    for index, episode in enumerate(episodes):
        n = len(episode["action"])
        row = {
            "episode_index": index,
            "tasks": ["push"],
            "length": n,
            "data/chunk_index": 0,
            "data/file_index": 0,
            "dataset_from_index": first,
            "dataset_to_index": first + n,
        }
        if video:
            key = "videos/observation.images.top/"
            row |= {key + "chunk_index": 0, key + "file_index": 0}
            row |= {key + "from_timestamp": first / FPS, key + "to_timestamp": (first + n) / FPS}
        rows.append(row)
        tables.append(_table(episode, index, first, video))
        first += n
    pq.write_table(pa.Table.from_pylist(rows), root / "meta" / "episodes" / "chunk-000" / "file-000.parquet")
    (root / "data" / "chunk-000").mkdir(parents=True)
    pq.write_table(pa.concat_tables(tables), root / "data" / "chunk-000" / "file-000.parquet")
    if video:
        everything = np.concatenate([e["images"] for e in episodes])
        _movie(root / "videos" / "observation.images.top" / "chunk-000" / "file-000.mp4", everything)
    return episodes


def replay_buffer(root: Path) -> list[dict[str, np.ndarray]]:
    """As diffusion policy's push-T: state (agent x, y, block x, y, yaw) and action, images as floats."""
    episodes = truth(width=5)
    group = zarr.open_group(str(root), mode="w", zarr_format=2)
    data, meta = group.create_group("data"), group.create_group("meta")
    everything = {k: np.concatenate([e[k] for e in episodes]) for k in ("state", "action", "images")}
    for key, name in (("state", "state"), ("action", "action"), ("images", "img")):
        values = everything[key].astype(np.float32)
        data.create_array(name, data=values, chunks=(6, *values.shape[1:]))
    meta.create_array("episode_ends", data=np.cumsum(LENGTHS))
    return episodes


def robomimic(path: Path) -> list[dict[str, np.ndarray]]:
    """As robosuite's: end effector positions, 7-D actions that are steps, images under `obs`."""
    episodes = truth(width=3)
    rng = np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        env = {"env_name": "Lift", "type": 1, "env_kwargs": {"control_freq": FPS}}
        data.attrs["env_args"] = json.dumps(env)
        data.attrs["total"] = sum(LENGTHS)
        # Ten demonstrations and more sort wrongly by name.
        for number, episode in zip((0, 2, 10), episodes, strict=True):
            n = len(episode["action"])
            episode["action"] = np.hstack([episode["action"], rng.normal(size=(n, 5))]).astype(np.float64)
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = n
            demo["actions"] = episode["action"]
            demo["obs/robot0_eef_pos"] = episode["state"]
            demo["obs/agentview_image"] = episode["images"]
            demo["next_obs/robot0_eef_pos"] = np.roll(episode["state"], -1, axis=0)
            demo["rewards"] = np.zeros(n)
            demo["dones"] = np.zeros(n, np.int64)
    return episodes
