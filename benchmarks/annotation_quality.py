"""How close do annotations come to the truth, from fifty clean and two thousand corrupt episodes?

    python -m benchmarks.annotation_quality

Clean chunks are N(0, s0^2 I), corrupt ones N(d e1, s0^2 I), so the level of the dataset and of every window
is known: E_q[c] = 0.5 - tau at one m* = d / sqrt(s0^2 + sigma^2), and for a window by numerical integration.
With an observed state s, which moves the chunk by k s e1, a classifier that sees it has the same task, and
one that does not has s0^2 + k^2 in place of s0^2 along e1.
"""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from ambient_policy import provenance
from ambient_policy.thresholds import find_sigma_min, noise_grid, smoothing
from tests.core.bayes_pair import BayesPair
from training.annotate_bands import BandSettings
from training.annotate_scores import Pool, ScoreSettings, cross_fit
from training.classifier import ClassifierSettings, Samples

HORIZON, ACTION = 16, 2
CLEAN, CORRUPT = (50, 20), (2000, 3)
"""Episodes and windows of each; all windows are independent."""
JUDGED = 1500
"""Windows whose own true level is worked out."""
PAIRS = ((0.05, 0.05), (0.1, 0.1), (0.1, 0.05), (0.3, 0.3), (0.5, 0.3), (1.0, 0.3), (2.0, 0.5))
"""(d, s0) of the table."""


@dataclass(frozen=True)
class Args:
    """Measure annotations against closed forms and write a table."""

    out: Path = Path("benchmarks/results/annotation/quality.json")
    seeds: tuple[int, ...] = (0, 1)
    steps: int = ClassifierSettings.steps
    tau: float = BandSettings.tau
    only: tuple[str, ...] = ()
    """Parts to run again, of table, equal, folds, observed; the others are kept as they are in OUT."""


@dataclass(frozen=True)
class Case:
    """One pair of sources; `k` is how far one standard deviation of the observed state moves a chunk."""

    d: float
    s0: float
    seed: int = 0
    k: float = 0.0
    observed: bool = False
    folds: int = ScoreSettings.folds
    calibrate: bool = True
    crossing: str = BandSettings.crossing


def draw(case: Case, episodes: int, windows: int, shift: float, rng: np.random.Generator) -> Pool:
    """Draw one class."""
    count = episodes * windows
    chunk = case.s0 * rng.standard_normal((count, HORIZON, ACTION))
    state = rng.standard_normal((count, 1))
    chunk[:, 0, 0] += shift + case.k * state[:, 0]
    seen = state if case.observed else state[:, :0]
    samples = Samples(*(torch.as_tensor(a, dtype=torch.float32) for a in (chunk, seen)))
    return Pool(samples, np.repeat(np.arange(episodes), windows))


def measure(case: Case, args: Args) -> dict[str, Any]:
    """Annotate one pair of sources and compare."""
    rng = np.random.default_rng([case.seed, round(1e4 * case.d), round(1e4 * case.s0)])
    clean, corrupt = draw(case, *CLEAN, 0.0, rng), draw(case, *CORRUPT, case.d, rng)
    settings = BandSettings()
    grid = noise_grid(settings.sigma_low, settings.sigma_high, settings.levels)
    started = time.process_time()
    scores = cross_fit(
        clean,
        corrupt,
        grid,
        ClassifierSettings(steps=args.steps),
        ScoreSettings(folds=case.folds, calibrate=case.calibrate),
        case.seed,
    )
    seconds = time.process_time() - started
    curves = scores.corrupt @ smoothing(grid, settings.smooth).T
    found = find_sigma_min(grid, curves, args.tau, first=case.crossing == "first")
    whole = float(find_sigma_min(grid, curves.mean(axis=0), args.tau))
    row: dict[str, Any] = {
        **dataclasses.asdict(case),
        "found": whole,
        "found_zero_percent": 100 * float(np.mean(found == 0)),
        "found_inf_percent": 100 * float(np.mean(np.isinf(found))),
        "mean_probability": scores.corrupt.mean(axis=0).round(4).tolist(),
        "accuracy": scores.accuracy.round(4).tolist(),
        "slope": scores.calibration[0].round(3).tolist(),
        "steps": scores.steps.tolist(),
        "cpu_s": round(seconds, 1),
    }
    if case.d == 0:
        return {**row, "true": 0.0}
    hidden = 0.0 if case.observed else case.k
    pair = BayesPair(case.d, float(np.hypot(case.s0, hidden)))
    row |= {"true": pair.sigma_min(args.tau), "exact": pair.dataset_curve(grid).round(4).tolist()}
    if case.k == 0:
        first = corrupt.samples.chunk[:JUDGED, 0, 0].double().numpy()
        row |= compare(found[:JUDGED], np.array([pair.window_sigma_min(u, args.tau) for u in first]), grid)
    return row


def compare(found: np.ndarray, true: np.ndarray, grid: np.ndarray) -> dict[str, Any]:
    """Compare levels of windows; below the grid both count as 0."""
    true = np.where(true < grid[0], 0.0, true)
    both = (true > 0) & (found > 0) & np.isfinite(found)
    ratio = np.quantile(found[both] / true[both], [0.25, 0.5, 0.75]) if both.any() else np.full(3, np.nan)
    rank = np.corrcoef(_ranks(found), _ranks(true))[0, 1]
    return {
        "window_ratio_quartiles": ratio.round(3).tolist(),
        "rank_correlation": round(float(rank), 3),
        "true_zero_percent": 100 * float(np.mean(true == 0)),
    }


def _ranks(x: np.ndarray) -> np.ndarray:
    """Give average ranks, ties shared."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def cases(args: Args) -> dict[str, list[Case]]:
    """List what is measured."""
    pairs = [Case(d, s0, seed) for d, s0 in PAIRS for seed in args.seeds]
    middle = Case(0.5, 0.3)
    change = dataclasses.replace
    return {
        "table": pairs,
        "equal": [Case(0.0, 0.3, seed, calibrate=c) for seed in args.seeds for c in (True, False)],
        "folds": [
            change(middle, folds=folds, calibrate=calibrate)
            for folds in (1, 2, 5)
            for calibrate in (True, False)
        ],
        "observed": [Case(0.5, 0.1, k=0.5, observed=observed) for observed in (True, False)],
    }


def main() -> None:
    """Measure what is asked for, saving after every row."""
    args = tyro.cli(Args, description="Measure annotations against closed forms and write a table.")
    torch.set_num_threads(1)
    kept = json.loads(args.out.read_text()) if args.only and args.out.is_file() else {}
    result: dict[str, Any] = {
        "schema_name": "ambient_policy.annotation_quality",
        "version": 1,
        "commit": provenance.commit(),
        "tau": args.tau,
        "steps": args.steps,
        "episodes_and_windows": {"clean": CLEAN, "corrupt": CORRUPT},
        "bands": dataclasses.asdict(BandSettings(tau=args.tau)),
        "rows": {part: rows for part, rows in kept.get("rows", {}).items() if part not in args.only},
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for part, listed in cases(args).items():
        if args.only and part not in args.only:
            continue
        rows = result["rows"].setdefault(part, [])
        for case in listed:
            rows.append(measure(case, args))
            print(part, line(rows[-1]), flush=True)
            beside = args.out.with_suffix(".partial")
            beside.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
            beside.replace(args.out)


def line(row: dict[str, Any]) -> str:
    """Say one row."""
    said = [f"d {row['d']} s0 {row['s0']} k {row['k']} seed {row['seed']} folds {row['folds']}"]
    said.append(f"calibrate {row['calibrate']} observed {row['observed']}")
    said.append(f"sigma_min true {row['true']:.3f} found {row['found']:.3f}")
    if "window_ratio_quartiles" in row:
        low, middle, high = row["window_ratio_quartiles"]
        said.append(
            f"windows x{middle:.2f} [{low:.2f}, {high:.2f}] rank {row['rank_correlation']:.2f} "
            f"zero {row['found_zero_percent']:.0f} % (true {row['true_zero_percent']:.0f} %)"
        )
    else:
        said.append(f"zero {row['found_zero_percent']:.0f} % inf {row['found_inf_percent']:.0f} %")
    return "; ".join([*said, f"{row['cpu_s']} s"])


if __name__ == "__main__":
    main()
