"""Episodes on disk: one folder each, whole or not there at all.

    NAME/meta.json             what it is (EpisodeMeta)
    NAME/arrays.npz            numbers, first axis N
    NAME/images_<camera>.mkv   lossless RGB video, one frame a step
    NAME/SHA256SUMS            of the data files, in the format of `sha256sum -c`

After a crash or a power cut an episode is either complete or invisible to `list_episodes`.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from ambient_policy.config import StrictModel
from ambient_policy.documents import read_document
from ambient_policy.errors import EpisodeError
from ambient_policy.folders import sha256, whole_folder
from ambient_policy.video import read_video, write_video

VERSION = 1
SCHEMA = "ambient_policy.episode"

# The name also becomes a file name, a ROS topic and an ONNX input.
CameraName = Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
_POSITIVE = pydantic.Field(gt=0)


class CameraModel(StrictModel):
    """Pinhole camera: size and intrinsics in pixels."""

    width: Annotated[int, _POSITIVE]
    height: Annotated[int, _POSITIVE]
    fx: Annotated[float, _POSITIVE]
    fy: Annotated[float, _POSITIVE]
    cx: float
    cy: float
    encoding: Literal["rgb8"] = "rgb8"
    frame_id: str
    """Optical frame: z forward, x right, y down."""


class EpisodeMeta(StrictModel):
    """Where an episode comes from and how it ended."""

    schema_name: Literal["ambient_policy.episode"] = "ambient_policy.episode"
    version: Literal[1] = 1
    commit: str
    task: str
    source: str
    """Which population the demonstration belongs to: "target", "source", ..."""
    scenario: dict[str, Any]
    """The resolved scenario that was running."""
    seed: int
    operator: str
    outcome: str
    period_s: Annotated[float, _POSITIVE]
    steps: Annotated[int, _POSITIVE]
    cameras: dict[CameraName, CameraModel]
    truth: dict[str, Any] = pydantic.Field(default_factory=dict)
    """What the generator of the data knows for certain (a corruption and its size); no policy sees it."""


@dataclass(frozen=True)
class Episode:
    """One demonstration, sampled every `meta.period_s`; step i happens at i * period_s.

    Attributes:
        arrays: name to (N, ...). Always
            `state` (N, 2) float64, measured tool x, y in the world [m];
            `action` (N, 2) float64, tool x, y to be reached one period later [m];
            `valid` (N,) bool, whether the action may be learnt from.
            The twin adds `privileged_slider_pose` (N, 3), world x, y [m] and yaw [rad]. Keys that start with
            `privileged_` are for pretext training and analysis; a policy never sees them.
        images: camera to (N, h, w, 3) uint8, RGB; the cameras that were asked for when reading.
    """

    meta: EpisodeMeta
    arrays: dict[str, np.ndarray]
    images: dict[str, np.ndarray] = field(default_factory=dict)


def write_episode(root: str | Path, name: str, episode: Episode) -> Path:
    """Write an episode to `root/name` and return that folder. Refuses to replace one that is there."""
    root = Path(root)
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise EpisodeError(f"episode name {name!r} is not plain; use letters, digits, `_`, `-` and `.`")
    _check(episode, f"episode {name!r}")
    final = root / name
    if final.exists():
        raise EpisodeError(f"{final} is already there; remove it or choose another name or folder")
    arrays: dict[str, Any] = dict(episode.arrays)
    with whole_folder(final) as folder:
        np.savez(folder / "arrays.npz", **arrays)
        for camera, frames in episode.images.items():
            write_video(folder / f"images_{camera}.mkv", frames, episode.meta.period_s)
        write_sums(folder)
        write_meta(folder, episode.meta)
    return final


def write_sums(folder: Path) -> None:
    """Write SHA256SUMS of the data files that lie in `folder`."""
    files = sorted(file for file in folder.iterdir() if file.name not in ("SHA256SUMS", "meta.json"))
    sums = "".join(f"{sha256(file)}  {file.name}\n" for file in files)
    (folder / "SHA256SUMS").write_text(sums, encoding="utf-8")


def write_meta(folder: Path, meta: EpisodeMeta) -> None:
    """Write meta.json; it comes last, because a folder that has it counts as an episode."""
    (folder / "meta.json").write_text(meta.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_meta(path: Path) -> EpisodeMeta:
    """Read the meta data of an episode folder and nothing else.

    Raises:
        EpisodeError: meta.json is missing, damaged or of another version.
    """
    return read_document(path / "meta.json", EpisodeMeta, SCHEMA, VERSION, EpisodeError)


def read_arrays(path: Path, sums: Mapping[str, str] | None) -> dict[str, np.ndarray]:
    """Read the arrays of an episode folder; `sums` are those to be checked first, None for no check.

    Raises:
        EpisodeError: arrays.npz is missing or damaged.
    """
    file = path / "arrays.npz"
    if sums is not None:
        _verify(file, sums)
    try:
        with np.load(file, allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _damaged(file, str(error)) from error


def read_images(path: Path, meta: EpisodeMeta, camera: str, sums: Mapping[str, str] | None) -> np.ndarray:
    """Read the frames (N, h, w, 3) of one camera; `sums` as in `read_arrays`.

    Raises:
        EpisodeError: the video is missing, damaged, or of another length or size.
    """
    file, model = path / f"images_{camera}.mkv", meta.cameras[camera]
    if sums is not None:
        _verify(file, sums)
    try:
        return read_video(file, (meta.steps, model.height, model.width))
    except (OSError, ValueError) as error:
        raise _damaged(file, str(error)) from error


def read_episode(path: str | Path, *, cameras: Sequence[str] | None = None) -> Episode:
    """Read an episode folder. `cameras`: which images to decode; None means all, () none.

    Raises:
        EpisodeError: names the file that is missing, damaged or of another version, and what to do about it.
    """
    path = Path(path)
    if not path.is_dir():
        raise EpisodeError(f"no episode folder at {path}; check the path (`list_episodes` lists a root)")
    meta = read_meta(path)
    wanted = list(meta.cameras) if cameras is None else list(cameras)
    if unknown := sorted(set(wanted) - set(meta.cameras)):
        have = ", ".join(meta.cameras) or "none"
        raise EpisodeError(f"{path} has no camera {', '.join(unknown)}; it has {have}")
    sums = read_sums(path)
    arrays = read_arrays(path, sums)
    images = {camera: read_images(path, meta, camera, sums) for camera in wanted}
    episode = Episode(meta, arrays, images)
    _check(episode, str(path), set(wanted))
    return episode


def list_episodes(root: str | Path) -> list[Path]:
    """List the whole episodes directly under `root`, sorted by name."""
    root = Path(root)
    if not root.is_dir():
        raise EpisodeError(f"no folder of episodes at {root}; make one with `ambient-policy collect`")
    return sorted(p for p in root.iterdir() if not p.name.startswith(".") and (p / "meta.json").is_file())


def disagreements(episode: Episode, cameras: set[str] | None = None) -> list[str]:
    """List how arrays and images disagree with the meta data; nothing for an episode that is sound.

    `cameras`: whose images must be there; None for all that the meta data name.
    """
    cameras = set(episode.meta.cameras) if cameras is None else cameras
    meta, steps, problems = episode.meta, episode.meta.steps, []
    shapes: Mapping[str, tuple[int, ...]] = {"state": (steps, 2), "action": (steps, 2), "valid": (steps,)}
    for key, shape in (*shapes.items(), ("privileged_slider_pose", (steps, 3))):
        array = episode.arrays.get(key)
        if array is None:
            if key in shapes:
                problems.append(f"array `{key}` is missing, needs {shape}")
            continue
        dtype = np.dtype(bool if key == "valid" else np.float64)
        if array.shape != shape or array.dtype != dtype:
            problems.append(f"array `{key}` is {array.dtype} {array.shape}, needs {dtype} {shape}")
        elif key != "valid" and not np.isfinite(array).all():
            problems.append(f"array `{key}` has values that are not finite, from step {_first_bad(array)} on")
    for key, array in episode.arrays.items():
        if key in shapes:
            continue
        if not re.fullmatch(r"[a-z][a-z0-9_]*", key) or key == "file":
            problems.append(f"array name {key!r} is not usable; use lower case letters, digits and `_`")
        if array.dtype.hasobject:
            problems.append(f"array `{key}` holds Python objects; needs numbers, booleans or text")
        elif array.shape[:1] != (steps,):
            problems.append(f"array `{key}` is {array.shape}, its first axis must be the {steps} steps")
    if set(episode.images) != cameras:
        problems.append(f"images of {sorted(episode.images)} do not match the cameras {sorted(cameras)}")
    for camera, frames in episode.images.items():
        if (model := meta.cameras.get(camera)) and (
            frames.shape != (steps, model.height, model.width, 3) or frames.dtype != np.uint8
        ):
            need = (steps, model.height, model.width, 3)
            problems.append(f"images of `{camera}` are {frames.dtype} {frames.shape}, need uint8 {need}")
    return problems


def _check(episode: Episode, where: str, cameras: set[str] | None = None) -> None:
    """Refuse an episode that does not agree with itself. Lists every disagreement."""
    if problems := disagreements(episode, cameras):
        lines = [f"{where} does not agree with its meta data:", *(f"  {problem}" for problem in problems)]
        raise EpisodeError("\n".join(lines))


def _first_bad(array: np.ndarray) -> int:
    return int(np.argmax(~np.isfinite(array).reshape(len(array), -1).all(axis=1)))


def _damaged(file: Path, why: str) -> EpisodeError:
    return EpisodeError(
        f"{file} is damaged ({why}); restore the folder from its origin, or remove {file.parent} and collect "
        "that seed again"
    )


def read_sums(path: Path) -> dict[str, str]:
    """Read SHA256SUMS of an episode folder: file name to 64 hexadecimal digits.

    Raises:
        EpisodeError: the file is missing, or is no text.
    """
    file = path / "SHA256SUMS"
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(file, str(error)) from error
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _verify(file: Path, sums: Mapping[str, str]) -> None:
    if not file.is_file():
        raise _damaged(file, "missing")
    if sums.get(file.name) != sha256(file):
        raise _damaged(file, "its SHA-256 is not the one in SHA256SUMS")
