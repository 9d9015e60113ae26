"""From two point sets to every number that `ambient-policy analyse manifold` draws."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ambient_policy import manifold
from ambient_policy.analyse_spectra import plain_settings
from ambient_policy.config import StrictModel
from ambient_policy.errors import ConfigError
from ambient_policy.provenance import commit


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
        settings=plain_settings(args),
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
