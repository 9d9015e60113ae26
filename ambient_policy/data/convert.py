"""`ambient-policy data import` and `data export`: episodes from and to the formats that others use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
import tyro
from rich.console import Console

from ambient_policy import provenance
from ambient_policy.config import StrictModel, dump_yaml, load_yaml
from ambient_policy.data.guess import guess
from ambient_policy.data.looping import in_order
from ambient_policy.data.mapping import ImageField, Mapping, vector
from ambient_policy.data.portable import Foreign, Raw
from ambient_policy.episodes import (
    CameraModel,
    Episode,
    EpisodeMeta,
    list_episodes,
    read_episode,
    read_meta,
    write_episode,
)
from ambient_policy.errors import ConfigError, EpisodeError
from ambient_policy.folders import whole_folder

Format = Literal["lerobot", "zarr", "hdf5"]
RECORD = "import.json"


@dataclass(frozen=True, kw_only=True)
class ExportArgs:
    """Write a folder of episodes in another format. Everything comes back with `data import`."""

    data: Annotated[Path, tyro.conf.Positional]
    """Folder of episodes."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """New folder, or new file for hdf5."""
    format: Format = "lerobot"
    """LeRobotDataset v3.0, diffusion policy's replay buffer, or robomimic's HDF5."""
    images: Literal["lossless", "av1", "png"] = "lossless"
    """LeRobot only: H.264 in RGB without loss, LeRobot's own lossy AV1, or PNG inside the parquet (no
    loss)."""


@dataclass(frozen=True, kw_only=True)
class ImportArgs:
    """Turn a dataset of another format into episodes; the same command goes on where it stopped.

    Without a mapping, what we exported comes back as it was; for anything else a guess is printed and
    nothing is written, unless --accept-guess.
    """

    data: Annotated[Path, tyro.conf.Positional]
    """A LeRobotDataset v2.1 or v3.0 folder, a replay buffer (.zarr folder or .zarr.zip), or a robomimic
    .hdf5."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder of the new episodes."""
    mapping: Path | None = None
    """YAML that says which field is what."""
    accept_guess: bool = False
    """Use the guess as it is printed."""


class ImportRecord(StrictModel):
    """What an imported folder was made from; compared when the import goes on."""

    schema_name: Literal["ambient_policy.import"] = "ambient_policy.import"
    version: Literal[1] = 1
    format: str
    origin: str
    episodes: int
    mapping: Mapping | None
    """None: it was our own export."""
    doubts: tuple[str, ...] = pydantic.Field(default=())


def main_export(argv: list[str]) -> int:
    """Run `data export`."""
    args = tyro.cli(ExportArgs, args=argv, prog="ambient-policy data export")
    count = export(args)
    lossy = args.format == "lerobot" and args.images == "av1"
    exact = f"numbers exact, images {'lossy' if lossy else 'exact'}"
    Console(highlight=False).print(f"{args.out}: {count} episodes as {args.format}; {exact}", soft_wrap=True)
    return 0


def main_import(argv: list[str]) -> int:
    """Run `data import`: 0 done, 1 only a guess was printed."""
    args = tyro.cli(ImportArgs, args=argv, prog="ambient-policy data import")
    console = Console(highlight=False)
    foreign = open_foreign(args.data)
    mapping: Mapping | None = None
    doubts: tuple[str, ...] = ()
    if args.mapping:
        mapping = load_yaml(args.mapping, Mapping)
    elif not foreign.ours:
        mapping, found = guess(foreign)
        doubts = tuple(found)
        console.print(
            f"# a guess for {args.data}, {foreign.format}, {foreign.count} episodes", soft_wrap=True
        )
        for doubt in doubts:
            console.print(f"# {doubt}", soft_wrap=True, markup=False)
        console.print(dump_yaml(mapping).rstrip(), soft_wrap=True, markup=False)
        if not args.accept_guess:
            console.print("# nothing was written: put this into a file, mend it, and give it with --mapping")
            return 1
    count = import_episodes(foreign, args.out, mapping, doubts)
    how = "as they were exported" if mapping is None else "by the mapping"
    console.print(
        f"{args.out}: {count} episodes, {how}. Next: ambient-policy data validate {args.out}", soft_wrap=True
    )
    return 0


def export(args: ExportArgs) -> int:
    """Write `args.data` in another format, whole or not at all; return the number of episodes.

    Raises:
        EpisodeError: the target is there, an episode is damaged, or the format cannot hold the data.
    """
    paths = list_episodes(args.data)
    if not paths:
        raise EpisodeError(
            f"no whole episode under {args.data}; `ambient-policy data validate {args.data}` says why"
        )
    if args.out.exists():
        raise EpisodeError(f"{args.out} is already there; choose another --out")
    if args.format != "lerobot" and args.images != "lossless":
        raise ConfigError(f"--images is for --format lerobot; {args.format} is always exact")

    def episodes() -> Iterator[tuple[str, Episode]]:
        read = in_order(read_episode, paths, f"writing {args.format}")
        yield from zip((path.name for path in paths), read, strict=True)

    args.out.parent.mkdir(parents=True, exist_ok=True)
    if args.format == "hdf5":
        from ambient_policy.data.hdf5_format import write_hdf5

        partial = args.out.with_name(f".{args.out.name}.partial-{os.getpid()}")
        try:
            write_hdf5(episodes(), partial)
            os.sync()
            partial.rename(args.out)
        finally:
            partial.unlink(missing_ok=True)
        return len(paths)
    with whole_folder(args.out) as folder:
        if args.format == "zarr":
            from ambient_policy.data.zarr_format import write_zarr

            folder.rmdir()
            write_zarr(episodes(), [read_meta(path) for path in paths], folder)
        else:
            from ambient_policy.data.lerobot_write import write_lerobot

            write_lerobot(episodes(), folder, images=args.images)
        os.sync()
    return len(paths)


def open_foreign(path: Path) -> Foreign:
    """Open a dataset of another format, known by its layout.

    Raises:
        EpisodeError: it is none of them, or not whole.
    """
    if (path / "meta" / "info.json").is_file():
        from ambient_policy.data.lerobot_read import open_lerobot

        return open_lerobot(path)
    if (path / ".zgroup").is_file() or (path / "zarr.json").is_file() or path.suffix == ".zip":
        from ambient_policy.data.zarr_format import open_zarr

        return open_zarr(path)
    if path.is_file() and path.suffix in (".hdf5", ".h5"):
        from ambient_policy.data.hdf5_format import open_hdf5

        return open_hdf5(path)
    what = "is not there" if not path.exists() else "is none of them"
    raise EpisodeError(
        f"{path} {what}; needs a LeRobotDataset (meta/info.json), a replay buffer (.zgroup, or .zip of "
        f"one) or a "
        "robomimic file (.hdf5)"
    )


def import_episodes(
    foreign: Foreign, out: Path, mapping: Mapping | None, doubts: tuple[str, ...] = ()
) -> int:
    """Write every episode of a foreign dataset to `out`; those that are there already are kept.

    Raises:
        EpisodeError: the data are damaged, or do not fit the mapping or an episode.
        ConfigError: `out` holds an import of something else.
    """
    if mapping is None and not foreign.ours:
        raise ConfigError(f"{foreign.origin} was not exported by us; a mapping is needed")
    record = ImportRecord(
        format=foreign.format,
        origin=foreign.origin,
        episodes=foreign.count,
        mapping=mapping,
        doubts=doubts,
    )
    if mapping is not None:
        _check_keys(foreign, mapping)
    _check_record(out, record)
    for raw in foreign.episodes():
        name = raw.passport.name if mapping is None and raw.passport else f"{raw.index:06d}"
        if (out / name).is_dir():
            continue
        if mapping is None:
            episode = _as_it_was(foreign, raw)
        else:
            episode = _mapped(foreign, raw, mapping)
        write_episode(out, name, episode)
    return foreign.count


def _as_it_was(foreign: Foreign, raw: Raw) -> Episode:
    """Undo an export by its passport."""
    passport = raw.passport
    assert passport is not None
    arrays = {}
    for name, kind in passport.arrays.items():
        key = foreign.named[name]
        if key not in raw.fields:
            raise EpisodeError(
                f"{foreign.origin}, episode {raw.index}: field {key} is missing; the export is damaged"
            )
        values, width = raw.fields[key], int(np.prod(kind.shape, dtype=int))
        # The replay buffer's state has the pusher's yaw behind x and y.
        if name == "state" and values.ndim == 2 and values.shape[1] > width:
            values = values[:, :width]
        arrays[name] = np.ascontiguousarray(values.reshape(raw.steps, *kind.shape).astype(kind.dtype))
    images = {camera: raw.images(foreign.camera_keys[camera]) for camera in passport.meta.cameras}
    episode = Episode(passport.meta, arrays, images)
    passport.check(episode, foreign.origin)
    return episode


def _mapped(foreign: Foreign, raw: Raw, mapping: Mapping) -> Episode:
    """Make an episode of foreign fields."""
    state = vector(raw.fields, mapping.state, "state")
    action = vector(raw.fields, mapping.action, "action", state)
    valid = np.ones(raw.steps, bool)
    if mapping.valid:
        valid = raw.fields[mapping.valid].reshape(raw.steps).astype(bool)
    arrays: dict[str, np.ndarray] = {"state": state, "action": action, "valid": valid}
    for name, key in mapping.extra.items():
        values = raw.fields[key]
        arrays[name] = values.astype(np.float64) if name == "privileged_slider_pose" else np.asarray(values)
    images = {name: raw.images(rule.key) for name, rule in mapping.cameras.items()}
    cameras = {name: _camera(name, mapping.cameras[name], frames) for name, frames in images.items()}
    placeholder = [name for name, rule in mapping.cameras.items() if rule.fx is None]
    imported: dict[str, Any] = {
        "format": foreign.format,
        "origin": Path(foreign.origin).name,
        "episode": raw.index,
    }
    imported |= {"mapping": mapping.model_dump(mode="json"), "intrinsics_are_placeholders": placeholder}
    meta = EpisodeMeta(
        commit=provenance.commit(),
        task=mapping.task,
        source=mapping.source,
        scenario={"name": f"imported {Path(foreign.origin).name}", "imported": imported},
        seed=raw.index,
        operator=mapping.operator,
        outcome=mapping.outcome,
        period_s=mapping.period_s,
        steps=raw.steps,
        cameras=cameras,
    )
    return Episode(meta, arrays, images)


def _camera(name: str, rule: ImageField, frames: np.ndarray) -> CameraModel:
    height, width = frames.shape[1:3]
    return CameraModel(
        width=width,
        height=height,
        fx=rule.fx or width,
        fy=rule.fy or rule.fx or width,
        cx=(width - 1) / 2 if rule.cx is None else rule.cx,
        cy=(height - 1) / 2 if rule.cy is None else rule.cy,
        frame_id=f"{name}_optical_frame",
    )


def _check_keys(foreign: Foreign, mapping: Mapping) -> None:
    wanted = {"valid": mapping.valid, "state.key": mapping.state.key, "action.key": mapping.action.key}
    wanted |= {f"extra.{name}": key for name, key in mapping.extra.items()}
    for where, key in wanted.items():
        if key is not None and key not in foreign.keys:
            have = ", ".join(f"{k} {f.shape}" for k, f in foreign.keys.items())
            raise EpisodeError(f"mapping.{where} is {key!r}; {foreign.origin} has {have}")
    for name, rule in mapping.cameras.items():
        if rule.key not in foreign.cameras:
            have = ", ".join(foreign.cameras) or "none"
            raise EpisodeError(
                f"mapping.cameras.{name}.key is {rule.key!r}; images of {foreign.origin}: {have}"
            )


def _check_record(out: Path, record: ImportRecord) -> None:
    file = out / RECORD
    text = record.model_dump_json(indent=1) + "\n"
    if file.is_file():
        if file.read_text(encoding="utf-8") != text:
            raise ConfigError(f"{out} holds another import (see {file}); choose another --out")
        return
    if out.is_dir() and list_episodes(out):
        raise ConfigError(f"{out} holds episodes that were not imported; choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(".partial")
    beside.write_text(text, encoding="utf-8")
    beside.replace(file)
