"""Study 1: learn the exact denoiser of clean points from noisy ones only.

    python -m benchmarks.points.known_noise --out runs/points/known_noise

Nobody sees a clean point except the arms that say so. All arms of a group take the same steps at the same
noise levels, on the same noisy points. The command goes on where it stopped.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from ambient_policy import provenance
from ambient_policy.ambient import buffered
from ambient_policy.noise import vp_from_sigma, vp_sample
from benchmarks.points.arms import Arm
from benchmarks.points.episodes import write_points
from benchmarks.points.mixtures import Mixture, five, gaussian
from benchmarks.points.results import Interval, interval, once, write_json

SIGMA_N = 0.3
"""Noise of the samples; known to the ambient arms."""
BOUND = 4.0
START = 0.35
"""Lowest noise level that the arms without clean data train at; buffered(0.3, 4) is 0.346."""
NOISY, FEW = 20_000, 100
EPISODES, FEW_EPISODES = 20, 11
TAUGHT = tuple(np.geomspace(0.36, 5.0, 12).tolist())
BELOW = tuple(np.geomspace(0.03, 0.3, 6).tolist())
POINTS = 5_000
"""Points on which a denoiser is judged, for each noise level."""

Denoiser = Callable[[np.ndarray, float], np.ndarray]
Curves = dict[str, list[float]]

WORLDS: dict[str, Mixture] = {"gaussian": gaussian(), "five": five()}

_HIGH = ("diffusion.log_sigma_mean=0.0", "diffusion.log_sigma_std=0.9", f"diffusion.sigma_min={START}")
_AMBIENT = "{kind: ambient, contraction: false, sigma_n: 0.3}"
_RESCALED = "{kind: rescaled_ambient, contraction: false, sigma_n: 0.3, bound: 4.0}"
_NATURAL = f"data.sources.0.weight={FEW / (FEW + NOISY):.4f}"
_EPS = "network.prediction=eps"


@dataclass(frozen=True, kw_only=True)
class Args:
    """Make the data, train all arms, judge them, write results and figure."""

    out: Path = Path("runs/points/known_noise")
    """Data and runs."""
    results: Path = Path("benchmarks/points/results")
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each seed draws its own data and trains its own networks."""
    steps: int = 1500
    worlds: tuple[str, ...] = ("five", "gaussian")
    judge_only: bool = False
    """Train nothing, and judge the runs that are finished."""


def arms(world: str) -> list[Arm]:
    """List the arms: those without clean data first, then those with a few clean points."""
    known = ("admit.sigma_min=0.3", "target.sigma_n=0.3", "target.bound=4.0")
    rescaled = tuple(f"data.sources.0.{setting}" for setting in known)
    # The preset `known_noise` with the plain ambient loss: the same samples, the other weighting.
    ambient = (*rescaled[:2], "data.sources.0.target.kind=ambient")
    out = [
        Arm("naive", ("noisy",), settings=_HIGH),
        Arm("ambient", ("noisy",), ("known_noise",), (*_HIGH, *ambient)),
        Arm("rescaled", ("noisy",), ("known_noise",), (*_HIGH, *rescaled)),
        Arm("oracle", ("clean",), settings=_HIGH),
    ]
    if world == "gaussian":
        return out
    mixed = ("data.sources.1.admit.sigma_min=0.3",)
    target = "data.sources.1.target="
    return [
        *out,
        Arm("rescaled_eps", ("noisy",), ("known_noise",), (*_HIGH, *rescaled, _EPS)),
        Arm("oracle_eps", ("clean",), settings=(*_HIGH, _EPS)),
        Arm("few_clean_only", ("few",), ("clean_only",)),
        Arm("few_cotrain", ("few", "noisy"), ("cotrain",)),
        Arm("few_ambient", ("few", "noisy"), ("idea2",), (*mixed, target + _AMBIENT)),
        Arm("few_rescaled", ("few", "noisy"), ("idea2",), (*mixed, target + _RESCALED)),
        # Above sigma_n one draw in two hundred is clean, as in the data; below it all are.
        Arm("few_rescaled_natural", ("few", "noisy"), ("idea2",), (*mixed, target + _RESCALED, _NATURAL)),
    ]


def make_data(world: str, folder: Path, seed: int) -> None:
    """Draw the noisy points, as many clean ones for the oracle, and the few clean ones."""
    mixture = WORLDS[world]
    rng = np.random.default_rng([seed, 100 + sorted(WORLDS).index(world)])
    clean = mixture.draw(rng, NOISY)
    noisy = clean + SIGMA_N * rng.standard_normal(clean.shape)
    few = mixture.draw(rng, round(FEW * FEW_EPISODES / (FEW_EPISODES - 1)))  # one episode is held out
    about = {"world": world, "seed": seed}
    write_points(folder / "clean", clean, EPISODES, "target", about)
    write_points(folder / "noisy", noisy, EPISODES, "source", {**about, "sigma_n": SIGMA_N})
    write_points(folder / "few", few, FEW_EPISODES, "target", about)


def rms(error: np.ndarray) -> float:
    """Give the root mean square length of vectors (N, 2)."""
    return float(np.sqrt(np.mean(np.sum(error**2, axis=-1))))


def judge(mixture: Mixture, clean: Denoiser, seed: int, points: int = POINTS) -> Curves:
    """Measure a denoiser at every level, on points of the true noisy distribution.

    Args:
        clean: points (N, 2) and their noise level to the guess of the clean points.
    Returns: per level of BELOW + TAUGHT, root mean square distance to
        exact        E[X0 | x], the clean posterior mean;
        naive_exact  E[X0 + sigma_n Z' | x], what learning the noisy points as if they were clean gives;
        vp_x0, vp_eps  the answer carried over to VP, from the VP posterior means of X0 and of the noise.
    """
    rng = np.random.default_rng([seed, 7])
    out: Curves = {"exact": [], "naive_exact": [], "vp_x0": [], "vp_eps": []}
    for sigma in (*BELOW, *TAUGHT):
        x = mixture.draw(rng, points) + sigma * rng.standard_normal((points, 2))
        guess, exact = clean(x, sigma), mixture.posterior_mean(x, sigma)
        out["exact"].append(rms(guess - exact))
        out["naive_exact"].append(rms(guess - mixture.blurred(SIGMA_N).posterior_mean(x, sigma)))
        v = vp_from_sigma(sigma)
        x_vp, signal = vp_sample(x, sigma), np.sqrt(1 - v**2)
        exact_vp = mixture.vp_posterior_mean(x_vp, v)
        out["vp_x0"].append(rms(guess - exact_vp))
        out["vp_eps"].append(rms((signal * exact_vp - signal * guess) / v))
    return out


def naive_bias(mixture: Mixture, seed: int = 0, points: int = POINTS) -> list[float]:
    """Give the error of a perfect naive denoiser, per level of BELOW + TAUGHT: both sides in closed form."""
    return judge(mixture, mixture.blurred(SIGMA_N).posterior_mean, seed, points)["exact"]


def over_levels(curve: list[float], taught: bool) -> float:
    """Give the root mean square of a curve over the levels that noisy data teach, or over those below."""
    part = curve[len(BELOW) :] if taught else curve[: len(BELOW)]
    return float(np.sqrt(np.mean(np.square(part))))


def summarise(curves: dict[str, dict[int, Curves]]) -> dict[str, dict[str, Interval]]:
    """Turn curves by arm and seed into means over its seeds with 95 % intervals."""
    table: dict[str, dict[str, Interval]] = {}
    for name, seeds in curves.items():
        row: dict[str, Interval] = {}
        for key, curve, taught in (
            ("taught", "exact", True),
            ("below", "exact", False),
            ("taught_to_naive", "naive_exact", True),
            ("taught_vp_x0", "vp_x0", True),
            ("taught_vp_eps", "vp_eps", True),
        ):
            row[key] = interval([over_levels(seed[curve], taught) for seed in seeds.values()])
        table[name] = row
    return table


def main(args: Args) -> None:
    """Run the study."""
    from benchmarks.points.runs import denoiser_of, finished, train_arm

    assert buffered(SIGMA_N, BOUND) < START
    steps = (f"optim.steps={args.steps}",)
    for world, seed in itertools.product(args.worlds, () if args.judge_only else args.seeds):
        data = args.out / world / f"data{seed}"
        make_data(world, data, seed)
        for arm in arms(world):
            train_arm(arm, data, args.out / world / f"seed{seed}", seed, steps)
    document: dict[str, Any] = {
        "schema_name": "ambient_policy.points_known_noise",
        "version": 1,
        "commit": provenance.commit(),
        "settings": {
            "sigma_n": SIGMA_N,
            "bound": BOUND,
            "lowest_level_without_clean_data": START,
            "noisy_points": NOISY,
            "few_clean_points": FEW,
            "steps": args.steps,
            "seeds": list(args.seeds),
            "points_judged": POINTS,
        },
        "sigmas": [*BELOW, *TAUGHT],
        "sigmas_below": len(BELOW),
    }
    for world in args.worlds:
        curves: dict[str, dict[int, Curves]] = {}
        for arm, seed in itertools.product(arms(world), args.seeds):
            run = args.out / world / f"seed{seed}" / arm.name
            if finished(run):
                todo = partial(judge, WORLDS[world], denoiser_of(run), seed)
                found = once(run / "judged.json", todo)
                curves.setdefault(arm.name, {})[seed] = found
        bias = naive_bias(WORLDS[world])
        table = summarise(curves)
        document[world] = {"naive_bias": bias, "curves": curves, "summary": table}
        print(f"{world}: a perfect naive denoiser would be off by {over_levels(bias, True):.4f} where taught")
        for name, row in table.items():
            print(
                f"  {name:16s} taught {row['taught'][0]:.4f}  below {row['below'][0]:.4f}  "
                f"({len(curves[name])} seeds)"
            )
    write_json(args.results / "known_noise.json", document)
    from benchmarks.points.known_noise_plots import draw

    draw(document, list(args.worlds), args.results / "known_noise.png")
    print(f"next: look at {args.results / 'known_noise.png'}")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
