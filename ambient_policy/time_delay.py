"""How long after one motion another follows it, by least squares over the delay; with how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ambient_policy.chunks import Array

SEARCH_S = (-0.1, 0.5)
"""Delays that are tried; what is best at an end of it is no answer."""
STEP_S = 0.005
BLOCKS = 8
"""Stretches of time that are left out in turns, to see how much the answer depends on each."""
LEAST_MOTION_M = 0.001
"""Root mean square; below, the noise of most encoders and cameras is no longer small."""
LARGEST_ERROR_S = 0.01
"""A delay that is less sure than one control period is of no use."""
LEAST_FIT = 0.95
"""Share of the motion's variance that must be explained."""
GAINS = (0.5, 1.5)
"""A tool that follows moves about as far as its target."""
LAGS_S = np.geomspace(0.01, 0.5, 24)
LAG_GAIN, LAG_SHARE = 0.5, 0.01
"""A lag is told of where it takes away this share, or more, of the variance that a mere delay leaves, and the
delay leaves more than this share of the motion. Below 40 ms a lag is as good as a delay for this motion."""
_FINE_S = 0.002


@dataclass(frozen=True)
class Track:
    """Positions in time.

    Attributes:
        times_s: (N,) rising stamps.
        positions: (N, A) [m].
    """

    times_s: Array
    positions: Array

    def at(self, times_s: Array) -> Array:
        """Return the positions (M, A) at (M,) times, on straight lines; kept at the ends beyond them."""
        return np.column_stack([np.interp(times_s, self.times_s, axis) for axis in self.positions.T])


@dataclass(frozen=True)
class Unknown:
    """No delay, and why: never a guess."""

    reason: str


@dataclass(frozen=True)
class Lag:
    """Another reading of the motion: `dead_s` of nothing, then an approach with time constant `lag_s`."""

    dead_s: float
    lag_s: float
    residual_m: float


@dataclass(frozen=True)
class Delay:
    """One motion follows another.

    Attributes:
        delay_s: the shift in time that fits best.
        error_s: its standard error.
        gain: how far it moves where the other moves by 1.
        residual_m: what is left, root mean square over all axes.
        lag: a model that fits clearly better than the shift alone, or None.
    """

    delay_s: float
    error_s: float
    gain: float
    residual_m: float
    lag: Lag | None = None


def measure_delay(cause: Track, effect: Track) -> Delay | Unknown:
    """Return by how much `effect` is later than `cause`: effect(t) = offset + gain cause(t - delay).

    Both may have any rates, gaps and jitter; they must begin and end at rest. Its standard error is the
    delete-one-block jackknife (Efron & Stein 1981), as what a model leaves over is not white.
    """
    motions_m = [rms_m(track.positions - track.positions.mean(axis=0)) for track in (cause, effect)]
    if min(motions_m) < LEAST_MOTION_M:
        return Unknown(
            f"the target moved by {1e3 * motions_m[0]:.2f} mm and the tool by {1e3 * motions_m[1]:.2f} mm "
            f"(root mean square), needs {1e3 * LEAST_MOTION_M:.0f} or more of both"
        )
    grid = delay_grid()
    moments = _Moments.of(cause, effect, grid)
    left = moments.left_over()
    delay_s, at_end = lowest(grid, left)
    if at_end:
        return Unknown(f"the best delay is at the end of what is searched, {grid[0]:g} to {grid[-1]:.1f} s")
    without = [lowest(grid, moments.without(b).left_over())[0] for b in range(BLOCKS)]
    gain = float(np.interp(delay_s, grid, moments.gain()))
    if not GAINS[0] <= gain <= GAINS[1]:
        return Unknown(
            f"the tool moved {gain:.2f} times as far as its target, needs {GAINS[0]} to {GAINS[1]}; is "
            "tool/pose the pose of what tool/target moves, in the same frame?"
        )
    least = max(float(left.min()), 0.0)
    lag, lag_left = _with_lag(cause, effect)
    total = moments.total()
    fit = 1 - min(least, lag_left) / total
    if fit < LEAST_FIT:
        return Unknown(f"a delay explains {fit:.2f} of the tool's motion, needs {LEAST_FIT} or more")
    error_s = jackknife(without)
    if error_s > LARGEST_ERROR_S:
        return Unknown(f"{delay_s:.3f} s is uncertain by {error_s:.3f} s, needs {LARGEST_ERROR_S} or less")
    residual_m = float(np.sqrt(least / effect.positions.size))
    matters = lag_left < (1 - LAG_GAIN) * least and residual_m > LAG_SHARE * motions_m[1]
    return Delay(delay_s, error_s, gain, residual_m, lag if matters else None)


def delay_grid() -> Array:
    """Return the delays that are tried [s]."""
    steps = np.arange(round(SEARCH_S[0] / STEP_S), round(SEARCH_S[1] / STEP_S) + 1)
    return np.asarray(STEP_S * steps, dtype=np.float64)


def lowest(grid: Array, values: Array) -> tuple[float, bool]:
    """Return where (N,) values over a grid are lowest, between its points too, and whether that is an end."""
    i = int(np.argmin(values))
    if i in (0, len(grid) - 1):
        return float(grid[i]), True
    below, here, above = values[i - 1 : i + 2]
    curvature = below - 2 * here + above
    shift = 0.5 * (below - above) / curvature if curvature > 0 else 0.0
    return float(grid[i] + shift * (grid[i + 1] - grid[i])), False


def jackknife(without: list[float]) -> float:
    """Return the standard error of an estimate from those that leave out one block each."""
    return float(np.sqrt((len(without) - 1) * np.var(without)))


def blocks_of(times_s: Array) -> np.ndarray:
    """Return the block (N,) of each time: `BLOCKS` stretches of equal length."""
    phase = (times_s - times_s[0]) / max(times_s[-1] - times_s[0], 1e-9)
    return np.minimum((phase * BLOCKS).astype(int), BLOCKS - 1)


def rms_m(errors: Array) -> float:
    """Return the root mean square of all entries."""
    return float(np.sqrt(np.mean(np.square(errors))))


@dataclass(frozen=True)
class _Moments:
    """Sums over the samples of each block, for each delay: enough for any straight-line fit.

    Attributes:
        n: (B,) samples.
        x, y, xx, xy, yy: (D, B, A) sums of cause, effect and their products.
    """

    n: Array
    x: Array
    y: Array
    xx: Array
    xy: Array
    yy: Array

    @classmethod
    def of(cls, cause: Track, effect: Track, grid: Array) -> _Moments:
        # Positions count from where they are on average: their squares would lose digits otherwise.
        y = effect.positions - effect.positions.mean(axis=0)
        shift = cause.positions.mean(axis=0)
        within = np.eye(BLOCKS)[blocks_of(effect.times_s)].T  # (B, N)
        x = np.stack([cause.at(effect.times_s - d) - shift for d in grid])  # (D, N, A)
        same = (len(grid), 1, 1)
        return cls(
            within.sum(axis=1),
            within @ x,
            np.tile(within @ y, same),
            within @ x**2,
            within @ (x * y),
            np.tile(within @ y**2, same),
        )

    def without(self, block: int) -> _Moments:
        keep = np.arange(BLOCKS) != block
        return _Moments(self.n[keep], *(a[:, keep] for a in (self.x, self.y, self.xx, self.xy, self.yy)))

    def _centred(self) -> tuple[Array, Array, Array]:
        n = self.n.sum()
        x, y, xx, xy, yy = (a.sum(axis=1) for a in (self.x, self.y, self.xx, self.xy, self.yy))
        about = [(p - a * b / n).sum(axis=1) for p, a, b in ((xx, x, x), (xy, x, y), (yy, y, y))]
        return about[0], about[1], about[2]

    def gain(self) -> Array:
        xx, xy, _ = self._centred()
        return xy / xx

    def left_over(self) -> Array:
        """Return the sum of squares (D,) that offset and gain leave at each delay [m2]."""
        xx, xy, yy = self._centred()
        return np.asarray(yy - xy**2 / xx)

    def total(self) -> float:
        return float(self._centred()[2][0])


def _with_lag(cause: Track, effect: Track) -> tuple[Lag, float]:
    """Return the best delay and first-order lag, and the sum of squares that they leave [m2]."""
    grid = delay_grid()[::2]
    found = [_Moments.of(slowed, effect, grid).left_over() for slowed in _slow(cause)]
    least = np.array([left.min() for left in found])
    log_lag, _ = lowest(np.log(LAGS_S), least)
    i = int(np.argmin(least))
    dead_s = [lowest(grid, left)[0] for left in found]
    lag = Lag(
        float(np.interp(log_lag, np.log(LAGS_S), dead_s)),
        float(np.exp(log_lag)),
        float(np.sqrt(max(least[i], 0.0) / effect.positions.size)),
    )
    return lag, float(least[i])


def _slow(cause: Track) -> list[Track]:
    """Pass a motion through a first-order lag of each of LAGS_S."""
    times_s = np.arange(cause.times_s[0], cause.times_s[-1] + SEARCH_S[1], _FINE_S)
    fast = cause.at(times_s)
    keep = np.exp(-_FINE_S / LAGS_S)[:, None]
    state = np.tile(fast[0], (len(LAGS_S), 1))
    slow = np.empty((len(times_s), *state.shape))
    for k, now in enumerate(fast):
        # Half a step of each of two neighbours: as if the input ran on a straight line between them.
        state = keep * state + (1 - keep) * 0.5 * (now + fast[max(k - 1, 0)])
        slow[k] = state
    return [Track(times_s, slow[:, j]) for j in range(len(LAGS_S))]
