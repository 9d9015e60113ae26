"""The few statistics that reports and sweeps need: rates, means, paired comparisons and tails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, t

from ambient_policy.errors import AmbientPolicyError


@dataclass(frozen=True)
class Rate:
    """A success rate with its confidence interval; all three numbers are fractions in [0, 1]."""

    successes: int
    trials: int
    low: float
    high: float

    @property
    def fraction(self) -> float:
        """Return successes / trials."""
        return self.successes / self.trials


def success_rate(successes: int, trials: int, confidence: float = 0.95) -> Rate:
    """Return the rate with its Wilson score interval.

    Wilson's interval stays inside [0, 1] and keeps a width at 0 of n and n of n, where the textbook one
    (mean plus or minus two standard errors) collapses to a point.

    Args: 0 <= successes <= trials, trials >= 1; confidence in (0, 1).
    Source: Wilson 1927, as in scipy.stats.binomtest.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise AmbientPolicyError(
            f"{successes} successes of {trials} trials make no rate; needs 0 <= k <= n, n >= 1"
        )
    interval = binomtest(successes, trials).proportion_ci(confidence_level=confidence, method="wilson")
    # Rounding leaves -1e-17 at 0 of n.
    low, high = np.clip([interval.low, interval.high], 0.0, 1.0)
    return Rate(successes, trials, float(low), float(high))


@dataclass(frozen=True)
class Mean:
    """A mean with its confidence interval, in the unit of the values; of one value its ends are infinite."""

    count: int
    mean: float
    low: float
    high: float


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Mean:
    """Return the mean of (N,) finite values, N >= 1, with Student's t interval.

    The values are taken for independent draws of about a normal distribution, such as one number a seed.
    One value says nothing of the spread: its interval is (-inf, inf).
    """
    array = np.asarray(values, dtype=float)
    if array.size == 0 or not np.isfinite(array).all():
        raise AmbientPolicyError(
            f"a mean of {array.size} values with {np.count_nonzero(~np.isfinite(array))} not finite"
        )
    mean = float(array.mean())
    if array.size == 1:
        return Mean(1, mean, -np.inf, np.inf)
    reach = float(t.ppf((1 + confidence) / 2, array.size - 1) * array.std(ddof=1) / np.sqrt(array.size))
    return Mean(array.size, mean, mean - reach, mean + reach)


@dataclass(frozen=True)
class PairedTrials:
    """Two policies on the same starts: trials that one alone won, and how likely that is by chance."""

    trials: int
    only_first: int
    only_second: int
    p_value: float


def mcnemar(first: Sequence[int], second: Sequence[int]) -> PairedTrials:
    """Return McNemar's exact test of (N,) paired outcomes, 0 or 1, N >= 1.

    Trials that both win or both lose say nothing; of the others each policy would win half, were they alike.

    Source: McNemar 1947, in its exact binomial form, two-sided.
    """
    a, b = np.asarray(first), np.asarray(second)
    if a.shape != b.shape or a.ndim != 1 or a.size == 0:
        raise AmbientPolicyError(
            f"{a.size} and {b.size} trials cannot be paired; both policies must run the same starts in "
            "the same order"
        )
    if not (np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all()):
        raise AmbientPolicyError("paired trials hold other values than 0 and 1")
    only_first, only_second = int(np.sum(a > b)), int(np.sum(b > a))
    differing = only_first + only_second
    p_value = float(binomtest(only_first, differing, 0.5).pvalue) if differing else 1.0
    return PairedTrials(a.size, only_first, only_second, p_value)


@dataclass(frozen=True)
class Tail:
    """How long something took over many times; same unit as the values."""

    count: int
    p50: float
    p99: float
    max: float


def tail(values: Sequence[float]) -> Tail:
    """Return median, 99th percentile and maximum of (N,) finite values, N >= 1.

    Both percentiles are values that occurred (the next one up), never a mean of two: between a usual 20 ms
    and a rare 200 ms nothing was measured.
    """
    array = np.asarray(values, dtype=float)
    if array.size == 0 or not np.isfinite(array).all():
        raise AmbientPolicyError(
            f"{array.size} values with {np.count_nonzero(~np.isfinite(array))} not finite"
        )
    p50, p99 = np.quantile(array, [0.5, 0.99], method="higher")
    return Tail(array.size, float(p50), float(p99), float(array.max()))
