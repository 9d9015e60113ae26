"""Annotations on disk: which noise levels each corrupt source, and each of its windows, may teach.

    FOLDER/annotation.json    how it was found, and one band a source (Annotation)
    FOLDER/bands_<i>.npz      one band for every window of source i (Bands)
    FOLDER/*.png              pictures for people; nothing reads them

A band is written as two levels: a sample teaches sigma in [0, sigma_max) and in (sigma_min, inf). So
sigma_min = 0 teaches everything, sigma_min = inf has no upper part and sigma_max = 0 no lower part.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from ambient_policy.config import StrictModel
from ambient_policy.documents import read_document
from ambient_policy.errors import AmbientPolicyError
from ambient_policy.folders import whole_folder

SCHEMA = "ambient_policy.annotation"
VERSION = 1

# Comparisons with NaN are false, so `ge=0` refuses it along with negative levels.
Level = Annotated[float, pydantic.Field(ge=0)]
Share = Annotated[float, pydantic.Field(ge=0, le=1)]
Finite = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]


class AnnotationError(AmbientPolicyError):
    """An annotation cannot be made, or is damaged, of another version, or about other data."""


class SourceAnnotation(StrictModel):
    """What was found out about one source of episodes.

    Probabilities are of "clean", held out, averaged over the source's windows, smoothed, one a grid level.
    """

    origin: str
    """Name of the folder of episodes."""
    digest: str
    """SHA-256 of the source's labels (`training.data.source_digest`), by which a trainer knows it again."""
    role: Literal["clean", "corrupt"]
    windows: Annotated[int, pydantic.Field(ge=1)]
    sigma_min: Level = 0.0
    """Of the whole source; inf when it may teach at no high level."""
    sigma_max: Level = 0.0
    mean_probability: tuple[Share, ...] = ()
    mean_crop_probability: tuple[Share, ...] = ()
    """Of crops as long as the receptive field; empty when locality was not examined."""
    per_window: bool = False
    """Whether `bands_<i>.npz` belongs to the annotation."""
    share_all: Share = 0.0
    """Share of the windows with sigma_min = 0."""
    share_none: Share = 0.0
    """Share of the windows with sigma_min = inf."""

    @pydantic.model_validator(mode="after")
    def _check(self) -> SourceAnnotation:
        if self.sigma_max > self.sigma_min:
            raise ValueError(
                f"sigma_max {self.sigma_max} is above sigma_min {self.sigma_min}; "
                "bands that overlap must be written as sigma_max = sigma_min"
            )
        return self


class Annotation(StrictModel):
    """How the bands were found, and the band of every source."""

    schema_name: Literal["ambient_policy.annotation"] = "ambient_policy.annotation"
    version: Literal[1] = 1
    commit: str
    sigmas: tuple[Finite, ...]
    """(G,) grid of noise levels, increasing, normalised action units."""
    tau: Annotated[float, pydantic.Field(ge=0, lt=0.5)]
    """The rule is E[probability of clean] > 0.5 - tau."""
    horizon: Annotated[int, pydantic.Field(ge=1)]
    relative_to: Literal["tool", "world"]
    action_scale: tuple[Finite, ...]
    """(A,) m in one normalised action unit: how sigma becomes metres."""
    observed: bool
    """Whether the classifier saw the observed state beside the actions."""
    how: dict[str, Any]
    """Settings, seed and code of the classifier."""
    accuracy: tuple[Share, ...]
    """Balanced accuracy per grid level on episodes not trained on; the mean over corrupt sources."""
    receptive_field: tuple[int, ...] = ()
    """Actions in a crop per grid level; empty when locality was not examined."""
    sources: Annotated[tuple[SourceAnnotation, ...], pydantic.Field(min_length=1)]
    mixture: tuple[Share, ...] = ()
    """Share of clean samples per grid level that fits how far apart the classes are there."""

    @pydantic.model_validator(mode="after")
    def _check(self) -> Annotation:
        grid = len(self.sigmas)
        if grid < 2 or any(b <= a for a, b in zip(self.sigmas, self.sigmas[1:], strict=False)):
            raise ValueError("sigmas must be 2 or more increasing levels")
        curves: list[tuple[str, Sequence[float]]] = [("accuracy", self.accuracy)]
        optional = [("mixture", self.mixture), ("receptive_field", self.receptive_field)]
        for i, source in enumerate(self.sources):
            curve = (f"sources.{i}.mean_probability", source.mean_probability)
            (curves if source.role == "corrupt" else optional).append(curve)
            optional.append((f"sources.{i}.mean_crop_probability", source.mean_crop_probability))
        for name, values in (*curves, *((n, v) for n, v in optional if v)):
            if len(values) != grid:
                raise ValueError(f"{name} has {len(values)} values for {grid} sigmas")
        if any(not 1 <= length <= self.horizon for length in self.receptive_field):
            raise ValueError(f"receptive_field {self.receptive_field} must lie within 1..{self.horizon}")
        return self


@dataclass(frozen=True, eq=False)
class Bands:
    """The band of every window of one source.

    Attributes:
        frames: (W,) int64, the window's present frame, counted in the source's own row of frames; increasing.
        sigma_min, sigma_max: (W,) float64, normalised action units; 0 <= sigma_max <= sigma_min <= inf.
    """

    frames: np.ndarray
    sigma_min: np.ndarray
    sigma_max: np.ndarray

    def at(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give sigma_min and sigma_max of the windows at `frames`, each of the shape of `frames`."""
        wanted = np.asarray(frames, np.int64)
        place = np.minimum(np.searchsorted(self.frames, wanted), len(self.frames) - 1)
        if (missing := self.frames[place] != wanted).any():
            raise AnnotationError(
                f"{int(missing.sum())} of {wanted.size} windows have no band, the first at frame "
                f"{int(wanted[missing].flat[0])}; annotate again with this config and these episodes"
            )
        return self.sigma_min[place], self.sigma_max[place]


def write_annotation(
    folder: str | Path,
    annotation: Annotation,
    bands: Sequence[Bands | None],
    draw: Callable[[Path], None] | None = None,
) -> Path:
    """Write an annotation to `folder`, which must not exist yet, and return it.

    Args:
        bands: one entry a source, None where `per_window` is false.
        draw: adds files to the folder before it gets its name.
    """
    final = Path(folder)
    if final.exists():
        raise AnnotationError(f"{final} is there already; give another --out, or remove it")
    if len(bands) != len(annotation.sources):
        raise AnnotationError(f"{len(bands)} sets of bands given for {len(annotation.sources)} sources")
    for i, (source, band) in enumerate(zip(annotation.sources, bands, strict=True)):
        if source.per_window != (band is not None):
            raise AnnotationError(
                f"source {i} ({source.origin}) has per_window {source.per_window} and its bands are "
                f"{'given' if band is not None else 'missing'}"
            )
        if band is not None:
            _check_bands(band, source, f"bands of source {i} ({source.origin})")
    with whole_folder(final) as partial:
        for i, band in enumerate(bands):
            if band is not None:
                np.savez(
                    partial / _bands_name(i),
                    frames=band.frames.astype(np.int64),
                    sigma_min=band.sigma_min.astype(np.float64),
                    sigma_max=band.sigma_max.astype(np.float64),
                )
        if draw is not None:
            draw(partial)
        (partial / "annotation.json").write_text(
            annotation.model_dump_json(indent=1) + "\n", encoding="utf-8"
        )
    return final


def read_annotation(folder: str | Path) -> tuple[Annotation, tuple[Bands | None, ...]]:
    """Read an annotation and the bands of its sources, None for a source without bands of its own.

    Raises:
        AnnotationError: names the file that is missing, damaged or of another version, and what to do.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise AnnotationError(f"no annotation at {folder}; make one with `ambient-policy annotate`")
    annotation = read_document(folder / "annotation.json", Annotation, SCHEMA, VERSION, AnnotationError)
    bands = tuple(
        _read_bands(folder / _bands_name(i), source) if source.per_window else None
        for i, source in enumerate(annotation.sources)
    )
    return annotation, bands


def in_millimetres(sigma: float, action_scale: Sequence[float]) -> str:
    """Say a noise level as the standard deviation of positions: one number, or one for each axis."""
    if math.isinf(sigma):
        return "inf"
    values = [f"{1e3 * sigma * scale:.3g}" for scale in action_scale]
    return " x ".join(dict.fromkeys(values)) + " mm"


def _bands_name(index: int) -> str:
    return f"bands_{index}.npz"


def _read_bands(file: Path, source: SourceAnnotation) -> Bands:
    if not file.is_file():
        raise AnnotationError(f"{file} is missing, so the annotation is not whole; annotate again")
    try:
        with np.load(file, allow_pickle=False) as stored:
            bands = Bands(*(stored[name] for name in ("frames", "sigma_min", "sigma_max")))
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise AnnotationError(f"{file} is damaged ({error}); annotate again") from error
    _check_bands(bands, source, str(file))
    return bands


def _check_bands(bands: Bands, source: SourceAnnotation, where: str) -> None:
    shape = (source.windows,)
    for name in ("frames", "sigma_min", "sigma_max"):
        array = getattr(bands, name)
        if array.shape != shape:
            raise AnnotationError(f"{where}: `{name}` is {array.shape}, needs one for each window, {shape}")
    low, high = bands.sigma_max, bands.sigma_min
    if not np.issubdtype(bands.frames.dtype, np.integer) or bands.frames[0] < 0:
        raise AnnotationError(f"{where}: `frames` must be whole numbers from 0 on")
    if (np.diff(bands.frames) <= 0).any():
        raise AnnotationError(f"{where}: `frames` must increase")
    for name, values, good in (
        ("sigma_min", high, high >= 0),
        ("sigma_max", low, low >= 0),
        ("sigma_max <= sigma_min", low, low <= high),
    ):
        if not good.all():  # false for NaN as well
            i = int(np.argmin(good))
            raise AnnotationError(
                f"{where}: {name} fails at frame {bands.frames[i]}, value {values[i]}; needs "
                "0 <= sigma_max <= sigma_min, inf allowed"
            )
