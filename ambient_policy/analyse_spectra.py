"""From folders of episodes to every number that `ambient-policy analyse spectra` draws."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from rich.progress import track

from ambient_policy import spectra
from ambient_policy.config import StrictModel
from ambient_policy.episodes import list_episodes, read_episode
from ambient_policy.errors import ConfigError, EpisodeError
from ambient_policy.normalize import fit_isotropic, fit_range
from ambient_policy.provenance import commit

SIGMAS = tuple(float(sigma) for sigma in np.geomspace(0.003, 3.0, 61))
"""Noise levels of the spectral maps, normalised action units."""

SPLITS = 10
"""Random halves of the clean episodes that are compared."""


@dataclass(frozen=True)
class SpectraArgs:
    """Draw the spectra of clean and corrupt actions, and what noise leaves of them."""

    data: tuple[Path, ...]
    """Folders of episodes: the clean ones first, then any corrupt ones. The first sets the units."""
    out: Path
    """Folder for spectra.png and spectra.json."""
    array: Literal["action", "state"] = "action"
    """Which positions to analyse over whole episodes; chunks are always of actions."""
    relative_to: Literal["tool", "world"] = "tool"
    """What the actions of a chunk are measured from; as `action.relative_to` of the training config."""
    horizon: int = 16
    """H, actions of a chunk; as `windows.horizon` of the training config."""
    segment_steps: int = 32
    """Steps of a segment of the episode view. Longer ones reach lower, and leave short episodes out."""
    band_hz: tuple[float, float] | None = None
    """Where to fit the exponent; from the second bin to half the Nyquist frequency by default."""
    bootstraps: int = 200
    """Resampled sets of episodes behind the error of an exponent."""
    tolerance: float = 0.1
    """Two spectra count as equal where they differ by less than this share."""
    seed: int = 0
    """Of the bootstrap."""


class SourceSpectra(StrictModel):
    """What was found in one folder of episodes. Powers are in normalised action units, squared."""

    name: str
    folder: str
    role: Literal["clean", "corrupt"]
    episodes: int
    episodes_used: int
    """Long enough for a segment."""
    windows: int
    alpha: float
    """Of S ~ f^-alpha inside `band_hz`, over whole episodes."""
    alpha_error: float | None
    """Standard error over resampled episodes; null for a single one."""
    level: float
    """S of the fitted law at 1 Hz."""
    differences: int
    """How often the segments were differenced."""
    episode_power: tuple[float, ...]
    chunk_power: tuple[float, ...]
    cutoff_hz: tuple[float, ...]
    """Of chunks, one for each of `sigmas`."""
    chunks_hidden_above: float | None
    """Noise level above which no linear feature of a chunk differs from the clean ones by more than the
    tolerance, in power; null for the clean source."""
    largest_factor: tuple[float, ...]
    """By which such a feature differs at most, one for each of `sigmas`; empty for the clean source."""


class SpectraReport(StrictModel):
    """Everything that `analyse spectra` draws."""

    schema_name: Literal["ambient_policy.spectra"] = "ambient_policy.spectra"
    version: Literal[1] = 1
    commit: str
    settings: dict[str, Any]
    action_unit_m: float
    """One normalised action unit; of the first axis if they differ."""
    period_s: float
    frequency_hz: tuple[float, ...]
    chunk_frequency_hz: tuple[float, ...]
    sigmas: tuple[float, ...]
    band_hz: tuple[float, float]
    clean_halves: tuple[float, ...]
    """`largest_factor` between random halves of the clean episodes: what chance alone makes of it."""
    sources: tuple[SourceSpectra, ...]


@dataclass(frozen=True)
class Demonstrations:
    """The positions of one folder: for each episode `state` and `action` (N, A) [m] and `valid` (N,)."""

    name: str
    folder: Path
    period_s: float
    state: list[np.ndarray]
    action: list[np.ndarray]
    valid: list[np.ndarray]


def read_demonstrations(folder: Path, console: Console | None = None) -> Demonstrations:
    """Read the low-dimensional arrays of every episode under `folder`; images stay where they are."""
    paths = list_episodes(folder)
    if not paths:
        raise EpisodeError(f"{folder} holds no episodes; make some with `ambient-policy collect`")
    shown = console or Console(quiet=True)
    episodes = [
        read_episode(path, cameras=()) for path in track(paths, f"reading {folder.name}", console=shown)
    ]
    periods = {episode.meta.period_s for episode in episodes}
    if len(periods) > 1:
        raise EpisodeError(
            f"{folder} mixes episodes of {sorted(periods)} s a step; keep them in folders apart"
        )
    arrays = {key: [e.arrays[key] for e in episodes] for key in ("state", "action", "valid")}
    return Demonstrations(folder.name or str(folder), folder, periods.pop(), **arrays)


def make_chunks(demonstrations: Demonstrations, horizon: int, relative_to: str) -> list[np.ndarray]:
    """Cut every window's H actions as training does; (W_i, H, A) [m] for each episode.

    A window at step t has the actions of t .. t + H - 1; past the end the last one is repeated. Windows with
    an action that is not valid are left out. Relative to the tool means less its position at step t.
    """
    chunks = []
    columns = zip(demonstrations.state, demonstrations.action, demonstrations.valid, strict=True)
    for state, action, valid in columns:
        rows = np.minimum(np.arange(len(action))[:, None] + np.arange(horizon), len(action) - 1)
        now = np.flatnonzero(valid[rows].all(axis=1))
        chunk = action[rows[now]]
        chunks.append(chunk - state[now][:, None] if relative_to == "tool" else chunk)
    return chunks


def analyse_spectra(args: SpectraArgs, console: Console | None = None) -> SpectraReport:
    """Read the episodes and work out every number of the report."""
    if not args.data:
        raise ConfigError("--data names no folder; give the clean episodes first, then any corrupt ones")
    if args.horizon < 2 or not args.tolerance > 0:
        raise ConfigError(
            f"--horizon {args.horizon} needs 2 or more, --tolerance {args.tolerance} a value above 0"
        )
    sources = [read_demonstrations(folder, console) for folder in args.data]
    names = _names(args.data)
    period_s = sources[0].period_s
    for source in sources[1:]:
        if source.period_s != period_s:
            raise EpisodeError(
                f"{source.folder} has {source.period_s} s a step and {sources[0].folder} {period_s}; "
                "frequencies need one period, so analyse them apart"
            )
    by_episode = [make_chunks(source, args.horizon, args.relative_to) for source in sources]
    chunks = [np.concatenate(cut) for cut in by_episode]
    for source, cut in zip(sources, chunks, strict=True):
        if not len(cut):
            raise EpisodeError(f"{source.folder} has no window of {args.horizon} valid actions")
    normalizer = fit_isotropic(chunks[0]) if args.relative_to == "tool" else fit_range(chunks[0])
    chunk_frequency = spectra.chunk_frequencies(args.horizon, period_s)
    band_hz = args.band_hz or spectra.default_band(args.segment_steps, period_s)
    rng, sigmas = np.random.default_rng(args.seed), np.array(SIGMAS)
    moments = [spectra.chunk_moment(normalizer.apply(cut)) for cut in chunks]
    found: list[SourceSpectra] = []
    for index, (source, name, moment) in enumerate(zip(sources, names, moments, strict=True)):
        sequences = source.action if args.array == "action" else source.state
        scaled = [sequence / normalizer.scale for sequence in sequences]
        spectrum, law = spectra.fit_whitened(
            scaled, period_s, args.segment_steps, band_hz, rng, source.valid, args.bootstraps
        )
        power = spectra.chunk_power(normalizer.apply(chunks[index]))
        corrupt = index > 0
        found.append(
            SourceSpectra(
                name=name,
                folder=str(args.data[index]),
                role="corrupt" if corrupt else "clean",
                episodes=len(source.action),
                episodes_used=spectrum.episodes,
                windows=len(chunks[index]),
                alpha=law.alpha,
                alpha_error=None if math.isnan(law.alpha_error) else law.alpha_error,
                level=law.level,
                differences=spectrum.differences,
                episode_power=_tuple(spectrum.power),
                chunk_power=_tuple(power),
                cutoff_hz=_tuple(spectra.cutoff_hz(chunk_frequency, power, sigmas)),
                chunks_hidden_above=(
                    spectra.hidden_above(moments[0], moment, args.tolerance) if corrupt else None
                ),
                largest_factor=_tuple(spectra.largest_factor(moments[0], moment, sigmas)) if corrupt else (),
            )
        )
    return SpectraReport(
        commit=commit(),
        settings=plain_settings(args),
        action_unit_m=float(normalizer.scale[0]),
        period_s=period_s,
        frequency_hz=_tuple(spectrum.frequency_hz),
        chunk_frequency_hz=_tuple(chunk_frequency),
        sigmas=SIGMAS,
        band_hz=band_hz,
        clean_halves=_tuple(_halves([normalizer.apply(cut) for cut in by_episode[0]], sigmas, rng)),
        sources=tuple(found),
    )


def plain_settings(args: Any) -> dict[str, Any]:
    """Give the fields of a command's arguments as JSON has them, less the place where the answer goes."""

    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return [plain(item) for item in value]
        return str(value) if isinstance(value, Path) else value

    return {key: plain(value) for key, value in dataclasses.asdict(args).items() if key != "out"}


def _halves(chunks: list[np.ndarray], sigmas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Compare halves of one source, split by episode; geometric mean over splits, empty if it has one."""
    chunks = [cut for cut in chunks if len(cut)]
    if len(chunks) < 2:
        return np.zeros(0)
    logs = []
    for _ in range(SPLITS):
        order = rng.permutation(len(chunks))
        halves = (order[::2], order[1::2])
        first, second = (spectra.chunk_moment(np.concatenate([chunks[i] for i in half])) for half in halves)
        logs.append(np.log(spectra.largest_factor(first, second, sigmas)))
    return np.exp(np.mean(logs, axis=0))


def _names(folders: Sequence[Path]) -> list[str]:
    """Name folders by their last part, or by the whole path where two would be alike."""
    names = [folder.name for folder in folders]
    return [
        name if name and names.count(name) == 1 else str(f) for name, f in zip(names, folders, strict=True)
    ]


def _tuple(array: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in array)
