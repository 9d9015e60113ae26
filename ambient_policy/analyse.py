"""`ambient-policy analyse`: look at clean and corrupt actions the way a denoiser does.

    analyse spectra    which frequencies carry power, and what noise leaves of their difference
    analyse manifold   both data manifolds as the exact denoiser sees them, at small and at large noise

Both write a figure and a JSON file with every number of it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.progress import track

from ambient_policy import manifold, spectra
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


@dataclass(frozen=True)
class ManifoldArgs:
    """Draw how the exact denoisers of a clean and a corrupt point set project."""

    out: Path
    """Folder for manifold.png and manifold.json."""
    clean: Path | None = None
    """Points of the clean manifold: x,y lines or an NPZ with `points` (N, 2). A smooth S by default."""
    corrupt: Path | None = None
    """Points of the corrupt manifold. A zig-zag around the S by default."""
    sigma_small: float | None = None
    """Noise of the first picture; 0.12 of the clean points' deviation by default."""
    sigma_large: float | None = None
    """Noise of the second picture; 1.5 of that deviation by default."""
    draws: int = 4000
    """Noisy points at which the two denoisers are compared."""
    seed: int = 0
    """Of these points."""


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


class ManifoldReport(StrictModel):
    """Everything that `analyse manifold` draws, but for the points."""

    schema_name: Literal["ambient_policy.manifold"] = "ambient_policy.manifold"
    version: Literal[1] = 1
    commit: str
    settings: dict[str, Any]
    clean_points: int
    corrupt_points: int
    mean_distance: float
    """Between the means of both clouds: where `gap` tends to at large noise."""
    sigma_small: float
    sigma_large: float
    gap_small: float
    gap_large: float
    sigmas: tuple[float, ...]
    gap: tuple[float, ...]
    total_variation: tuple[float, ...]
    total_variation_bound: tuple[float, ...]


@dataclass(frozen=True)
class Demonstrations:
    """The positions of one folder: for each episode `state` and `action` (N, A) [m] and `valid` (N,)."""

    name: str
    folder: Path
    period_s: float
    state: list[np.ndarray]
    action: list[np.ndarray]
    valid: list[np.ndarray]


def main(argv: list[str]) -> int:
    """Run `ambient-policy analyse spectra|manifold`."""
    chosen = Annotated[SpectraArgs, tyro.conf.subcommand("spectra", prefix_name=False)]
    other = Annotated[ManifoldArgs, tyro.conf.subcommand("manifold", prefix_name=False)]
    args: SpectraArgs | ManifoldArgs = tyro.cli(
        chosen | other,  # type: ignore[arg-type]
        args=argv,
        prog="ambient-policy analyse",
        description="Look at clean and corrupt actions the way a denoiser does.",
    )
    console = Console(highlight=False)
    if isinstance(args, SpectraArgs):
        _spectra(args, console)
    else:
        _manifold(args, console)
    return 0


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
        settings=_settings(args),
        action_unit_m=float(normalizer.scale[0]),
        period_s=period_s,
        frequency_hz=_tuple(spectrum.frequency_hz),
        chunk_frequency_hz=_tuple(chunk_frequency),
        sigmas=SIGMAS,
        band_hz=band_hz,
        clean_halves=_tuple(_halves([normalizer.apply(cut) for cut in by_episode[0]], sigmas, rng)),
        sources=tuple(found),
    )


def analyse_manifold(args: ManifoldArgs) -> tuple[ManifoldReport, manifold.Clouds]:
    """Read or make both clouds and compare their denoisers over noise levels."""
    if (args.clean is None) != (args.corrupt is None):
        raise ConfigError("--clean and --corrupt go together; give both files, or neither for the example")
    if args.draws < 1:
        raise ConfigError(f"--draws is {args.draws}, needs 1 or more")
    clouds = manifold.example_clouds()
    if args.clean is not None and args.corrupt is not None:
        clouds = manifold.Clouds(manifold.read_points(args.clean), manifold.read_points(args.corrupt))
    spread = float(np.sqrt(clouds.clean.var(axis=0).sum()))
    small = 0.12 * spread if args.sigma_small is None else args.sigma_small
    large = 1.5 * spread if args.sigma_large is None else args.sigma_large
    sigmas = [float(sigma) for sigma in spread * np.geomspace(0.03, 30, 25)]

    def gap(sigma: float) -> float:
        # The same points and noise at every level, so that the curve is smooth.
        return manifold.projection_gap(clouds, sigma, args.draws, np.random.default_rng(args.seed))

    means = clouds.clean.mean(axis=0) - clouds.corrupt.mean(axis=0)
    report = ManifoldReport(
        commit=commit(),
        settings=_settings(args),
        clean_points=len(clouds.clean),
        corrupt_points=len(clouds.corrupt),
        mean_distance=float(np.linalg.norm(means)),
        sigma_small=small,
        sigma_large=large,
        gap_small=gap(small),
        gap_large=gap(large),
        sigmas=tuple(sigmas),
        gap=tuple(gap(sigma) for sigma in sigmas),
        total_variation=tuple(manifold.total_variation(clouds, sigma) for sigma in sigmas),
        total_variation_bound=tuple(manifold.total_variation_bound(clouds, sigma) for sigma in sigmas),
    )
    return report, clouds


def _spectra(args: SpectraArgs, console: Console) -> None:
    report = analyse_spectra(args, console)
    from ambient_policy.analyse_plots import spectra_figure  # matplotlib takes a second

    picture = _write(args.out / "spectra.png", spectra_figure(report))
    document = _write(args.out / "spectra.json", report.model_dump_json(indent=1).encode())
    (low, high), unit_mm = report.band_hz, 1000 * report.action_unit_m
    console.print(f"1 action unit is {unit_mm:.1f} mm; fit from {low:.3g} to {high:.3g} Hz")
    for source in report.sources:
        error = "" if source.alpha_error is None else f" +- {source.alpha_error:.2f}"
        line = (
            f"{source.role:<8}{source.name}: S ~ f^-{source.alpha:.2f}{error}, "
            f"{source.episodes_used} of {source.episodes} episodes, {source.windows} windows"
        )
        if source.chunks_hidden_above is not None:
            line += (
                f"; noisy chunks are alike within {100 * args.tolerance:g} % above sigma "
                f"{source.chunks_hidden_above:.3g} ({source.chunks_hidden_above * unit_mm:.0f} mm)"
            )
        console.print(line, soft_wrap=True)
    then = "ambient-policy annotate, which finds the levels that a corrupt source may teach"
    if len(report.sources) == 1:
        then = "the same with a corrupt folder after the clean one in --data"
    console.print(f"written: {picture}, {document}\nNext: open the figure; then {then}", soft_wrap=True)


def _manifold(args: ManifoldArgs, console: Console) -> None:
    report, clouds = analyse_manifold(args)
    from ambient_policy.analyse_plots import manifold_figure

    picture = _write(args.out / "manifold.png", manifold_figure(report, clouds))
    document = _write(args.out / "manifold.json", report.model_dump_json(indent=1).encode())
    for sigma, gap in ((report.sigma_small, report.gap_small), (report.sigma_large, report.gap_large)):
        console.print(
            f"sigma {sigma:.3g}: the two denoisers differ by {gap:.3g} ({100 * gap / sigma:.2g} % of sigma)"
        )
    console.print(f"means of the two point sets differ by {report.mean_distance:.3g}")
    console.print(
        f"written: {picture}, {document}\nNext: open the figure; then ambient-policy analyse spectra --data "
        "CLEAN CORRUPT, the same question asked of demonstrations",
        soft_wrap=True,
    )


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


def _settings(args: SpectraArgs | ManifoldArgs) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return [plain(item) for item in value]
        return str(value) if isinstance(value, Path) else value

    return {key: plain(value) for key, value in dataclasses.asdict(args).items() if key != "out"}


def _tuple(array: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in array)


def _write(file: Path, content: bytes) -> Path:
    """Write beside and rename, so that no reader sees half a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    partial.write_bytes(content)
    partial.replace(file)
    return file
