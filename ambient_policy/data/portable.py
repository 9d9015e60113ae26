"""What the other formats share: fields without our meaning, and our meta data carried along so that all
comes back.

An export carries `ambient_policy` beside the format's own fields: for every episode its name, its meta data,
and the type of every array. A reader of that format overlooks it; our import finds it and needs no mapping.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from ambient_policy.config import StrictModel, parse
from ambient_policy.episodes import Episode, EpisodeMeta
from ambient_policy.errors import EpisodeError

CAMERA = "images of "


def _sha256(array: np.ndarray) -> str:
    return hashlib.sha256(
        np.ascontiguousarray(array).data if array.dtype.kind != "U" else array.tobytes()
    ).hexdigest()


class ArrayKind(StrictModel):
    """Type of an array and shape of one step of it, as they are with us."""

    dtype: str
    shape: tuple[int, ...]


class Passport(StrictModel):
    """An episode's identity, carried through another format."""

    name: str
    meta: EpisodeMeta
    arrays: dict[str, ArrayKind]
    sha256: dict[str, str]
    """Of the bytes of every array and camera; a camera that was written with loss is left out."""

    @classmethod
    def of(cls, name: str, episode: Episode, *, lossy: bool = False) -> Passport:
        """Write one down."""
        kinds = {k: ArrayKind(dtype=v.dtype.str, shape=v.shape[1:]) for k, v in episode.arrays.items()}
        sums = {key: _sha256(value) for key, value in episode.arrays.items()}
        if not lossy:
            sums |= {CAMERA + camera: _sha256(frames) for camera, frames in episode.images.items()}
        return cls(name=name, meta=episode.meta, arrays=kinds, sha256=sums)

    def check(self, episode: Episode, where: str) -> None:
        """Refuse an episode that came back with other bytes than it left with.

        Raises:
            EpisodeError: names what has changed.
        """
        found = {**episode.arrays, **{CAMERA + c: frames for c, frames in episode.images.items()}}
        changed = [
            key for key, digest in self.sha256.items() if key in found and _sha256(found[key]) != digest
        ]
        if changed:
            raise EpisodeError(
                f"{where}, episode {self.name}: {', '.join(changed)} changed since the export; "
                "copy or export it again"
            )


@dataclass(frozen=True)
class Field:
    """A field of a foreign dataset: shape of one step, and what else its file says of it."""

    shape: tuple[int, ...]
    dtype: str
    names: tuple[str, ...] = ()

    @property
    def is_image(self) -> bool:
        """Say whether it looks like a colour image."""
        return len(self.shape) == 3 and self.shape[2] == 3


@dataclass
class Raw:
    """One foreign episode: fields (N, ...) by key, and the passport if we exported it.

    `images` decodes one camera, (N, h, w, 3) uint8.
    """

    index: int
    steps: int
    fields: dict[str, np.ndarray]
    images: Callable[[str], np.ndarray]
    passport: Passport | None = None


@dataclass
class Foreign:
    """An opened dataset of another format.

    Attributes:
        keys: fields of numbers; cameras: fields of images.
        named: our array to the foreign key, for datasets that we exported.
    """

    format: str
    origin: str
    keys: dict[str, Field]
    cameras: dict[str, Field]
    period_s: float | None
    count: int
    episodes: Callable[[], Iterator[Raw]]
    named: dict[str, str] = field(default_factory=dict)
    camera_keys: dict[str, str] = field(default_factory=dict)
    ours: bool = False
    lossy: bool = False


def dump(passport: Passport) -> str:
    """Write a passport as one line."""
    return passport.model_dump_json()


def load(text: str, where: str) -> Passport:
    """Read a passport.

    Raises:
        EpisodeError: it does not fit; the export is damaged or of a later version.
    """
    try:
        return parse(json.loads(text), Passport, where)
    except json.JSONDecodeError as error:
        raise EpisodeError(f"{where}: what we wrote about the episode is no JSON ({error})") from error


def eight_bit(array: np.ndarray, where: str) -> np.ndarray:
    """Return images as uint8. Floats must be whole numbers from 0 to 255: nothing is rounded in silence.

    Raises:
        EpisodeError: other values, or another shape than (N, h, w, 3).
    """
    if array.ndim != 4 or array.shape[-1] != 3:
        raise EpisodeError(f"{where} has shape {array.shape}; needs (steps, height, width, 3), RGB")
    if array.dtype == np.uint8:
        return array
    whole = array.astype(np.uint8)
    if not np.array_equal(whole.astype(array.dtype), array):
        raise EpisodeError(
            f"{where} holds {array.dtype} values from {array.min():g} to {array.max():g}; needs whole "
            f"numbers from 0 to "
            "255. Scale and round them first, so that the loss is yours to choose"
        )
    return whole
