"""Robomimic's HDF5: `data/demo_K` with `actions`, `obs/KEY`, `rewards`, `dones`, and `env_args` beside
them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ambient_policy.data.portable import Field, Foreign, Passport, Raw, dump, eight_bit, load
from ambient_policy.episodes import Episode
from ambient_policy.errors import EpisodeError

NOTES = "ambient_policy"


def key_of(array: str) -> str:
    """Return where one of our arrays goes inside a demonstration."""
    return "actions" if array == "action" else f"obs/{array}"


def camera_key(camera: str) -> str:
    """Return where a camera goes inside a demonstration."""
    return f"obs/{camera}_image"


def write_hdf5(episodes: Iterable[tuple[str, Episode]], out: Path) -> None:
    """Write one file; `rewards` and `dones` are 1 at the last step of a success.

    Raises:
        EpisodeError: an array is text.
    """
    import h5py

    with h5py.File(out, "w") as file:
        data, total, names = file.create_group("data"), 0, []
        for index, (name, episode) in enumerate(episodes):
            if left := [k for k, v in episode.arrays.items() if v.dtype.kind not in "fiub"]:
                raise EpisodeError(
                    f"array `{left[0]}` of {name} is text; remove it from the episodes to export them"
                )
            if index == 0:
                settings = {
                    "env_name": episode.meta.task,
                    "type": 2,
                    "env_kwargs": {"period_s": episode.meta.period_s},
                }
                data.attrs["env_args"] = json.dumps(settings)
            demo = data.create_group(f"demo_{index}")
            names.append(f"demo_{index}")
            steps = episode.meta.steps
            demo.attrs["num_samples"] = steps
            # Not an attribute of the demonstration: those end at 64 kB.
            file[f"{NOTES}/demo_{index}"] = dump(Passport.of(name, episode))
            done = np.zeros(steps)
            done[-1] = 1.0
            demo["dones"] = done.astype(np.int64)
            demo["rewards"] = done * (episode.meta.outcome == "success")
            for key, values in episode.arrays.items():
                demo[key_of(key)] = values
            for camera, frames in episode.images.items():
                # One frame a chunk: training reads them at random. Shuffling does not help bytes.
                chunk = (1, *frames.shape[1:])
                demo.create_dataset(
                    camera_key(camera), data=frames, chunks=chunk, compression="gzip", compression_opts=4
                )
            total += steps
        data.attrs["total"] = total
        file.create_group("mask")["train"] = np.array(names, dtype="S")


def open_hdf5(path: Path) -> Foreign:
    """Open a file.

    Raises:
        EpisodeError: it is no HDF5, is cut short, or has no demonstrations.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            data = file["data"]
            demos = sorted((k for k in data if k.startswith("demo")), key=_number)
            if not demos:
                raise EpisodeError(f"{path} has no data/demo_K; is it a robomimic file?")
            fields = _fields(data[demos[0]])
            notes = file.get(NOTES, {})
            texts = [notes[d][()].decode() for d in demos if d in notes]
            settings = json.loads(data.attrs.get("env_args", "{}"))
    except (OSError, KeyError, ValueError) as error:
        raise EpisodeError(f"{path} is no whole robomimic file ({error}); copy it again") from error
    passports = [load(t, f"{path}, {d}") for t, d in zip(texts, demos, strict=False)]
    if passports and len(passports) != len(demos):
        raise EpisodeError(
            f"{path} mixes demonstrations with and without our notes; remove the attributes to map them"
        )
    kwargs = settings.get("env_kwargs", {}) if isinstance(settings, dict) else {}
    rate = kwargs.get("control_freq")
    return Foreign(
        format="hdf5",
        origin=str(path),
        keys={k: f for k, f in fields.items() if not f.is_image},
        cameras={k: f for k, f in fields.items() if f.is_image},
        period_s=1 / float(rate) if rate else None,
        count=len(demos),
        episodes=lambda: _episodes(path, demos, passports),
        named={a: key_of(a) for p in passports[:1] for a in p.arrays},
        camera_keys={c: camera_key(c) for p in passports[:1] for c in p.meta.cameras},
        ours=bool(passports),
    )


def _number(name: str) -> int:
    found = re.search(r"\d+$", name)
    return int(found[0]) if found else -1


def _fields(demo: Any) -> dict[str, Field]:
    import h5py

    out: dict[str, Field] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim >= 1 and not name.startswith("next_obs/"):
            out[name] = Field(tuple(item.shape[1:]), item.dtype.name)

    demo.visititems(visit)
    return out


def _episodes(path: Path, demos: list[str], passports: list[Passport]) -> Iterator[Raw]:
    import h5py

    with h5py.File(path, "r") as file:
        for index, name in enumerate(demos):
            demo = file["data"][name]
            found = _fields(demo)
            try:
                fields = {key: demo[key][()] for key, f in found.items() if not f.is_image}
            except OSError as error:
                raise EpisodeError(f"{path}: {name} cannot be read ({error}); the file is damaged") from error
            if "actions" not in fields:
                raise EpisodeError(f"{path}: {name} has no `actions`; it is not whole")
            steps = len(fields["actions"])

            def images(key: str, demo: Any = demo, name: str = name) -> np.ndarray:
                try:
                    return eight_bit(demo[key][()], f"{path}, {name}/{key}")
                except (OSError, KeyError) as error:
                    raise EpisodeError(f"{path}: {name}/{key} cannot be read ({error})") from error

            yield Raw(index, steps, fields, images, passports[index] if passports else None)
