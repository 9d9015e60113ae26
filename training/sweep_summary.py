"""All results of a sweep as one table: per arm and metric a mean, its interval, and the baseline's distance.

OUT/summary.json   Summary: every number    OUT/summary.md   the table    OUT/summary.png   the picture
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Annotated, Literal

import pydantic
from rich.console import Console

from ambient_policy import provenance
from ambient_policy.config import StrictModel
from ambient_policy.statistics import mcnemar, mean_interval, success_rate
from training.errors import TrainingError
from training.sweep_plan import Direction, Plan, expand
from training.sweep_result import JobResult, read_result, write_text

Finite = Annotated[float, pydantic.Field(allow_inf_nan=False)]


class Paired(StrictModel):
    """Distance of an arm from the baseline, over the seeds that both have."""

    seeds: tuple[int, ...]
    mean: Finite
    """Arm minus baseline."""
    low: Finite | None
    high: Finite | None
    """Student's t over the differences of the seeds; None with one seed, or when all are equal."""
    only_arm: int | None = None
    only_baseline: int | None = None
    p_value: Finite | None = None
    """McNemar's exact test over the paired trials of all these seeds."""


class MetricSummary(StrictModel):
    """One metric of one arm."""

    by_seed: dict[int, Finite | None]
    mean: Finite | None
    low: Finite | None
    high: Finite | None
    interval: Literal["wilson", "t", "none"]
    """wilson: of the pooled trials, which says nothing about other training seeds. t: over the seeds."""
    successes: int | None = None
    trials: int | None = None
    versus_baseline: Paired | None = None


class ArmSummary(StrictModel):
    """One arm."""

    name: str
    folder: str
    seeds: tuple[int, ...]
    """Seeds with a result."""
    missing: tuple[int, ...]
    train_s_per_step: Finite | None
    """Median over the seeds."""
    time_ratio: Finite | None
    """Of the training step, to the baseline's: median over the seeds that both have."""
    wall_s: dict[int, dict[str, float]]
    metrics: dict[str, MetricSummary]


class Summary(StrictModel):
    """summary.json."""

    schema_name: Literal["ambient_policy.sweep_summary"] = "ambient_policy.sweep_summary"
    version: Literal[1] = 1
    commit: str
    run_commits: tuple[str, ...]
    name: str
    baseline: str
    seeds: tuple[int, ...]
    directions: dict[str, Direction]
    shown: tuple[str, ...]
    arms: tuple[ArmSummary, ...]


def write_summary(plan: Plan, out: Path, console: Console | None = None) -> Summary:
    """Write table, numbers and picture of what is finished in `out`; show the table on a console."""
    results = read_results(plan, out)
    if not results:
        raise TrainingError(
            f"no finished job of the plan in {out}; run the sweep, or read {out}/*/seed*/job.log"
        )
    from training.sweep_plots import draw_summary  # matplotlib takes a second
    from training.sweep_table import as_markdown, as_table, notes

    summary = summarise(plan, results)
    write_text(out / "summary.json", summary.model_dump_json(indent=1) + "\n")
    write_text(out / "summary.md", as_markdown(summary))

    draw_summary(summary, out / "summary.png")
    if console is not None:
        console.print(as_table(summary))
        for note in notes(summary):
            console.print(note, markup=False, soft_wrap=True)
    return summary


def read_results(plan: Plan, out: Path) -> dict[tuple[str, int], JobResult]:
    """Read every result there is, by (arm, seed)."""
    found = {}
    for arm in expand(plan):
        for seed in plan.seeds:
            folder = out / arm.folder / f"seed{seed}"
            if (folder / "result.json").is_file():
                found[arm.name, seed] = read_result(folder)
    return found


def summarise(plan: Plan, results: dict[tuple[str, int], JobResult]) -> Summary:
    """Reduce results to the summary. The baseline's own comparison is left out."""
    arms = expand(plan)
    baseline = plan.baseline or arms[0].name
    names = sorted({name for result in results.values() for name in result.metrics})
    summaries = []
    for arm in arms:
        mine = {seed: results[arm.name, seed] for seed in plan.seeds if (arm.name, seed) in results}
        base = {seed: results[baseline, seed] for seed in mine if (baseline, seed) in results}
        times = {seed: r.train_s_per_step for seed, r in mine.items() if r.train_s_per_step}
        ratios = [
            times[seed] / other for seed, r in base.items() if seed in times and (other := r.train_s_per_step)
        ]
        summaries.append(
            ArmSummary(
                name=arm.name,
                folder=arm.folder,
                seeds=tuple(mine),
                missing=tuple(seed for seed in plan.seeds if seed not in mine),
                train_s_per_step=statistics.median(times.values()) if times else None,
                time_ratio=statistics.median(ratios) if ratios else None,
                wall_s={seed: result.wall_s for seed, result in mine.items()},
                metrics={name: _metric(name, mine, None if arm.name == baseline else base) for name in names},
            )
        )
    return Summary(
        commit=provenance.commit(),
        run_commits=tuple(sorted({result.commit for result in results.values()})),
        name=plan.name,
        baseline=baseline,
        seeds=plan.seeds,
        directions=plan.metrics,
        shown=tuple(name for name in (plan.metrics or names) if name in names),
        arms=tuple(summaries),
    )


def _metric(name: str, mine: dict[int, JobResult], base: dict[int, JobResult] | None) -> MetricSummary:
    values = {seed: result.metrics.get(name) for seed, result in mine.items()}
    present = [value for value in values.values() if value is not None]
    versus = None if base is None else _paired(name, mine, base)
    pooled = [outcome for result in mine.values() for outcome in result.trials.get(name, ())]
    if pooled and all(name in result.trials for result in mine.values()):
        rate = success_rate(sum(pooled), len(pooled))
        return MetricSummary(
            by_seed=values,
            mean=rate.fraction,
            low=rate.low,
            high=rate.high,
            interval="wilson",
            successes=rate.successes,
            trials=rate.trials,
            versus_baseline=versus,
        )
    if not present:
        return MetricSummary(by_seed=values, mean=None, low=None, high=None, interval="none")
    mean, low, high = _mean(present)
    how: Literal["t", "none"] = "none" if low is None else "t"
    return MetricSummary(by_seed=values, mean=mean, low=low, high=high, interval=how, versus_baseline=versus)


def _paired(name: str, mine: dict[int, JobResult], base: dict[int, JobResult]) -> Paired | None:
    differences = {}
    for seed, other in base.items():
        a, b = mine[seed].metrics.get(name), other.metrics.get(name)
        if a is not None and b is not None:
            differences[seed] = a - b
    if not differences:
        return None
    mean, low, high = _mean(list(differences.values()))
    both = [seed for seed in differences if name in mine[seed].trials and name in base[seed].trials]
    test = None
    if both:
        for seed in both:
            ours, theirs = len(mine[seed].trials[name]), len(base[seed].trials[name])
            if ours != theirs:
                raise TrainingError(
                    f"{name} of seed {seed}: {ours} trials of `{mine[seed].arm}` and {theirs} of "
                    f"`{base[seed].arm}` cannot be paired; the evaluate command must run the same starts in "
                    "the same order for every run"
                )
        test = mcnemar(
            [outcome for seed in both for outcome in mine[seed].trials[name]],
            [outcome for seed in both for outcome in base[seed].trials[name]],
        )
    return Paired(
        seeds=tuple(differences),
        mean=mean,
        low=low,
        high=high,
        only_arm=test.only_first if test else None,
        only_baseline=test.only_second if test else None,
        p_value=test.p_value if test else None,
    )


def _mean(values: list[float]) -> tuple[float, float | None, float | None]:
    """Give mean and Student's interval; equal values, such as 0 % with every seed, show no spread."""
    mean = mean_interval(values)
    if min(values) == max(values):
        return mean.mean, None, None
    return mean.mean, mean.low, mean.high
