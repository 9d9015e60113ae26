"""Study 2: few clean points of a curve and many whose fine structure is wrong in an unknown way.

    python -m benchmarks.points.contraction --out runs/points/contraction

All arms take the same steps with the same network. How far a policy is from fresh clean points is measured by
matching 4000 generated ones with as many fresh ones. The command goes on where it stopped.
"""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from ambient_policy import provenance
from ambient_policy.annotation import read_annotation
from benchmarks.points.arms import Arm
from benchmarks.points.distances import energy_distance, wasserstein
from benchmarks.points.episodes import write_points
from benchmarks.points.results import Interval, interval, once, write_json
from benchmarks.points.shapes import draw_clean, draw_corrupt, off_spiral

CLEAN, CORRUPT = 150, 5000
CLEAN_EPISODES, EPISODES = 11, 20
SWEEP = (0.05, 0.1, 0.2, 0.4, 0.8)
GENERATED = 4000
_NATURAL = f"data.sources.0.weight={CLEAN / (CLEAN + CORRUPT):.4f}"
CONFIG = Path(__file__).with_name("points.yaml")


@dataclass(frozen=True, kw_only=True)
class Args:
    """Make the data, annotate it, train all arms, judge them, write results and figure."""

    out: Path = Path("runs/points/contraction")
    """Data, annotations and runs."""
    results: Path = Path("benchmarks/points/results")
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each seed draws its own data and trains its own networks."""
    steps: int = 2000
    judge_only: bool = False
    """Train nothing, and judge the runs that are finished."""


def arms() -> list[Arm]:
    """List the arms: what uses the corrupt points as they are, not at all, and above a noise level."""
    both = ("clean", "corrupt")
    return [
        Arm("natural", both, settings=("data.sources=[{role: clean}, {role: corrupt}]",)),
        Arm("cotrain", both, ("cotrain",)),
        Arm("clean_only", ("clean",), ("clean_only",)),
        Arm("oracle", ("many_clean",)),
        *(
            Arm(name, both, (name,), annotation=True)
            for name in ("ambient_per_dataset", "ambient_per_window", "idea3", "idea3_rescaled")
        ),
        # Above sigma_min clean points are drawn as often as they occur; below it they are all there is.
        Arm("per_dataset_natural", both, ("ambient_per_dataset",), (_NATURAL,), annotation=True),
        *(
            Arm(f"idea1_{level:g}", both, ("idea1",), (f"data.sources.1.admit.sigma_min={level}",))
            for level in SWEEP
        ),
    ]


def make_data(folder: Path, seed: int) -> None:
    """Draw the few clean points, the corrupt ones, and for the oracle as many clean ones as both together."""
    rng = np.random.default_rng([seed, 200])
    trained = CLEAN * CLEAN_EPISODES // (CLEAN_EPISODES - 1)  # one episode is held out
    about = {"seed": seed}
    write_points(folder / "clean", draw_clean(rng, trained), CLEAN_EPISODES, "target", about)
    write_points(folder / "corrupt", draw_corrupt(rng, CORRUPT), EPISODES, "source", about)
    write_points(folder / "many_clean", draw_clean(rng, CLEAN + CORRUPT), EPISODES, "target", about)


def annotate(folder: Path, seed: int) -> None:
    """Find noise levels with the project's command, if that was not done yet."""
    if (folder / "annotation" / "annotation.json").is_file():
        return
    command = [sys.executable, "-m", "ambient_policy.cli", "annotate", str(CONFIG), "--data"]
    command += [str(folder / "clean"), str(folder / "corrupt"), "--out", str(folder / "annotation")]
    subprocess.run([*command, "--seed", str(seed), "--steps", "1500", "--no-locality"], check=True)


def judge(run: Path, seed: int) -> dict[str, float]:
    """Compare generated points with fresh clean ones, the same for every arm of a seed."""
    from benchmarks.points.runs import denoiser_of, generate

    points = generate(denoiser_of(run), GENERATED, np.random.default_rng([seed, 9]))
    return compare(points, seed)


def compare(points: np.ndarray, seed: int) -> dict[str, float]:
    """Measure points (GENERATED, 2): distances to as many fresh clean ones, and to the curve itself."""
    fresh = draw_clean(np.random.default_rng([seed, 10]), GENERATED)
    return {
        "wasserstein": wasserstein(points, fresh),
        "energy": energy_distance(points, fresh),
        "off_curve": float(off_spiral(points).mean()),
    }


def found_levels(folder: Path) -> dict[str, Any]:
    """Say what the classifier chose for the corrupt source; null is infinity."""
    table, bands = read_annotation(folder / "annotation")
    for source, band in zip(table.sources, bands, strict=True):
        if source.role == "corrupt" and band is not None:
            levels = band.sigma_min
            finite = levels[np.isfinite(levels)]
            return {
                "dataset": source.sigma_min if math.isfinite(source.sigma_min) else None,
                "window_share_zero": float(np.mean(levels == 0)),
                "window_share_never": float(np.mean(~np.isfinite(levels))),
                "window_quartiles": np.quantile(finite, [0.25, 0.5, 0.75]).tolist() if len(finite) else [],
            }
    raise SystemExit(f"{folder / 'annotation'} has no bands for a corrupt source; annotate again")


def summarise(measured: dict[str, dict[int, dict[str, float]]]) -> dict[str, dict[str, Interval]]:
    """Give mean and 95 % interval over an arm's seeds of every metric, and of what it has over co-training.

    Negative differences are nearer to the clean points than co-training, on the same data.
    """
    base = measured.get("cotrain", {})
    out = {}
    for name, seeds in measured.items():
        keys = list(next(iter(seeds.values())))
        out[name] = {key: interval([row[key] for row in seeds.values()]) for key in keys}
        if both := sorted(base.keys() & seeds.keys()):
            out[name] |= {
                f"{key}_over_cotrain": interval([seeds[seed][key] - base[seed][key] for seed in both])
                for key in keys
            }
    return out


def main(args: Args) -> None:
    """Run the study."""
    from benchmarks.points.runs import finished, train_arm

    steps = (f"optim.steps={args.steps}",)
    for swept, seed in itertools.product((False, True), () if args.judge_only else args.seeds):
        data = args.out / f"data{seed}"
        make_data(data, seed)
        annotate(data, seed)
        for arm in arms():
            if arm.name.startswith("idea1") == swept:  # the sweep last
                train_arm(arm, data, args.out / f"seed{seed}", seed, steps)
    measured: dict[str, dict[int, dict[str, float]]] = {}
    for seed in args.seeds:
        rng = np.random.default_rng([seed, 11])
        folder = args.out / f"seed{seed}"
        fresh, corrupt = draw_clean(rng, GENERATED), draw_corrupt(rng, GENERATED)
        rows = {
            "fresh clean points": once(folder / "fresh.json", partial(compare, fresh, seed)),
            "corrupt points": once(folder / "corrupt.json", partial(compare, corrupt, seed)),
        }
        for arm in arms():
            if finished(run := folder / arm.name):
                rows[arm.name] = once(run / "judged.json", partial(judge, run, seed))
        for name, row in rows.items():
            measured.setdefault(name, {})[seed] = row
        print(f"seed {seed} judged", flush=True)
    document: dict[str, Any] = {
        "schema_name": "ambient_policy.points_contraction",
        "version": 1,
        "commit": provenance.commit(),
        "settings": {
            "clean_points": CLEAN,
            "corrupt_points": CORRUPT,
            "steps": args.steps,
            "seeds": list(args.seeds),
            "generated_points": GENERATED,
            "wasserstein_batch": 1000,
            "sweep": list(SWEEP),
        },
        "found": {
            seed: found_levels(args.out / f"data{seed}")
            for seed in args.seeds
            if (args.out / f"data{seed}" / "annotation" / "annotation.json").is_file()
        },
        "measured": measured,
        "summary": summarise(measured),
    }
    write_json(args.results / "contraction.json", document)
    for name, row in document["summary"].items():
        numbers = "  ".join(f"{key} {row[key][0]:.4f}" for key in ("wasserstein", "energy", "off_curve"))
        print(f"  {name:20s} {numbers}  ({len(measured[name])} seeds)")
    from benchmarks.points.contraction_plots import draw

    draw(document, args.out, args.results / "contraction.png")
    print(f"next: look at {args.results / 'contraction.png'}")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
