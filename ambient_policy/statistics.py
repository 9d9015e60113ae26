"""The few statistics a report needs: a success rate with its interval, and the tail of a latency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

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
