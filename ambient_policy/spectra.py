"""Which frequencies of an action sequence carry power, and which of them survive noise of level sigma.

Everything is scaled so that white noise of standard deviation sigma has power sigma^2 at every frequency:
a spectrum and a noise level can be compared by looking. Two views:

    episode   whole demonstrations, cut into overlapping segments, averaged (Welch 1967). A segment is
              differenced, its mean is removed, and a Hann window is laid on; the power is then divided by
              what differencing does to each frequency. This shows the power law.
    chunk     what the policy denoises: H actions relative to the tool, in the orthonormal cosine transform
              (DCT-II), which reflects a chunk at its ends instead of joining its end to its start.

Differencing is prewhitening: steep spectra leak through any window into their own high frequencies. With one
difference, segments of 32 steps make 3.06 of an exponent of 3 (without: 3.8), but 8.3 of anything above 6;
with as many as make the rest flat (`fit_whitened`) exponents from 0 to 10 come out within 0.07.

Ends of the episode view, one difference, segments of 32 steps, exponents 0 to 3: the first bin is off by -21
to +59 %, the second by up to +10 %, the last by +7 %, those between by less than 3 %. Sampling folds what
lies above the Nyquist frequency back below it: +23 % at half of it for an exponent of 2. `default_band`
therefore goes from the second bin to half the Nyquist frequency.

Ends of the chunk view: a chunk that runs straight has kinks where it is reflected, which puts power into the
odd coefficients k, falling as k^-4 only. `largest_factor` compares along all directions and has no ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ambient_policy.errors import ConfigError

MOST_DIFFERENCES = 5
"""Exponents up to 10; beyond that a segment has little left besides its polynomial."""


@dataclass(frozen=True)
class Spectrum:
    """Power by frequency, with enough kept to resample episodes.

    Attributes:
        frequency_hz: (F,), above 0 up to the Nyquist frequency.
        sums: (E, F) power summed over the segments and axes of each episode.
        counts: (E,) how many went into each sum; 0 for an episode without a usable segment.
        differences: how often the segments were differenced.
    """

    frequency_hz: np.ndarray
    sums: np.ndarray
    counts: np.ndarray
    differences: int

    @property
    def power(self) -> np.ndarray:
        """Mean power (F,): every segment counts the same."""
        return self.sums.sum(axis=0) / self.counts.sum()

    @property
    def episodes(self) -> int:
        """Episodes that are long enough to take part."""
        return int(np.count_nonzero(self.counts))


@dataclass(frozen=True)
class PowerLaw:
    """S(f) = level * f^-alpha with f in Hz, fitted inside `band_hz`.

    `alpha_error` is the standard deviation of alpha over resampled episodes, nan with fewer than 2 of them.
    """

    alpha: float
    alpha_error: float
    level: float
    band_hz: tuple[float, float]
    bins: int

    def at(self, frequency_hz: np.ndarray) -> np.ndarray:
        """Give the power of the law."""
        return self.level * frequency_hz**-self.alpha


def episode_spectrum(
    sequences: Sequence[np.ndarray],
    period_s: float,
    segment_steps: int,
    valid: Sequence[np.ndarray] = (),
    differences: int = 1,
) -> Spectrum:
    """Average the spectra of sequences (N_i, A) of any lengths, over segments of `segment_steps` steps.

    A segment is `segment_steps` differences; half of it overlaps the next. A sequence shorter than one, and a
    segment with a step that is not valid, are left out.

    Args:
        valid: (N_i,) bool for each sequence; none for all valid.
        differences: 0 or more; a polynomial of that degree is removed from every segment.
    Source: Welch 1967; prewhitening as in Blackman and Tukey 1958.
    """
    if segment_steps < 8:
        raise ConfigError(f"segment_steps is {segment_steps}, needs 8 or more for a spectrum")
    bins = np.arange(1, segment_steps // 2 + 1)
    # A difference multiplies the power at a frequency f by 4 sin^2(pi f), which is taken back.
    colour = (4 * np.sin(np.pi * bins / segment_steps) ** 2) ** differences
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(segment_steps) / segment_steps)
    sums, counts = np.zeros((len(sequences), len(bins))), np.zeros(len(sequences))
    for index, sequence in enumerate(sequences):
        steps = np.asarray(sequence, np.float64)
        mask = valid[index] if len(valid) else np.ones(len(steps), bool)
        starts = np.arange(0, len(steps) - segment_steps - differences + 1, segment_steps // 2)
        rows = starts[:, None] + np.arange(segment_steps + differences)
        rows = rows[mask[rows].all(axis=1)]
        moves = np.diff(steps[rows], n=differences, axis=1)
        moves = (moves - moves.mean(axis=1, keepdims=True)) * window[:, None]
        power = np.abs(np.fft.rfft(moves, axis=1)[:, 1:]) ** 2 / np.sum(window**2) / colour[:, None]
        sums[index], counts[index] = power.sum(axis=(0, 2)), power.shape[0] * power.shape[2]
    if not counts.any():
        longest = max(map(len, sequences), default=0)
        raise ConfigError(
            f"none of {len(sequences)} sequences has {segment_steps + differences} valid steps in a row (the "
            f"longest has {longest} steps); choose a smaller --segment-steps"
        )
    return Spectrum(bins / (segment_steps * period_s), sums, counts, differences)


def default_band(segment_steps: int, period_s: float) -> tuple[float, float]:
    """Give the band (Hz) for a fit: from the second bin to half the Nyquist frequency."""
    return 2 / (segment_steps * period_s), 0.25 / period_s


def fit_power_law(
    spectrum: Spectrum, band_hz: tuple[float, float], rng: np.random.Generator, bootstraps: int = 200
) -> PowerLaw:
    """Fit alpha of S(f) ~ f^-alpha by least squares of ln S on ln f, every bin in the band alike.

    The standard error comes from resampling whole episodes with replacement, as segments and axes of one
    episode are not independent.
    """
    low, high = band_hz
    slack = 1e-9 * high  # a bin that is the band's end must not fall out by rounding
    inside = (spectrum.frequency_hz >= low - slack) & (spectrum.frequency_hz <= high + slack)
    if inside.sum() < 3:
        have = f"{spectrum.frequency_hz[0]:.3g} to {spectrum.frequency_hz[-1]:.3g} Hz"
        raise ConfigError(
            f"band {low:g} to {high:g} Hz holds {inside.sum()} of the {len(inside)} frequencies ({have}); a "
            "slope needs 3: widen --band-hz or choose a larger --segment-steps"
        )
    if not (spectrum.power[inside] > 0).all():
        raise ConfigError("the actions have no power in the band; does the tool move in these episodes?")
    f = np.log(spectrum.frequency_hz[inside])
    design = np.stack([-f, np.ones_like(f)], axis=1)

    def fit(power: np.ndarray) -> np.ndarray:
        return np.linalg.lstsq(design, np.log(power).T, rcond=None)[0]

    alpha, log_level = fit(spectrum.power[inside])
    used = spectrum.counts > 0
    sums, counts = spectrum.sums[used][:, inside], spectrum.counts[used]
    error = float("nan")
    if len(counts) > 1 and bootstraps > 1:
        often = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=bootstraps)
        resampled = (often @ sums) / (often @ counts)[:, None]
        error = float(np.std(fit(resampled[(resampled > 0).all(axis=1)])[0], ddof=1))
    return PowerLaw(float(alpha), error, float(np.exp(log_level)), (low, high), int(inside.sum()))


def fit_whitened(
    sequences: Sequence[np.ndarray],
    period_s: float,
    segment_steps: int,
    band_hz: tuple[float, float],
    rng: np.random.Generator,
    valid: Sequence[np.ndarray] = (),
    bootstraps: int = 200,
) -> tuple[Spectrum, PowerLaw]:
    """Average spectra and fit their law, differenced as often as leaves the least slope: alpha / 2 times."""
    differences, tried = 1, set[int]()
    while differences not in tried:
        tried.add(differences)
        spectrum = episode_spectrum(sequences, period_s, segment_steps, valid, differences)
        alpha = fit_power_law(spectrum, band_hz, rng, bootstraps=0).alpha
        differences = min(MOST_DIFFERENCES, max(0, round(alpha / 2)))
    return spectrum, fit_power_law(spectrum, band_hz, rng, bootstraps)


def cosine_basis(horizon: int) -> np.ndarray:
    """Give the orthonormal DCT-II (H, H): row k is the cosine of frequency k / (2 H period_s)."""
    n = np.arange(horizon)
    basis = np.cos(np.pi * n[:, None] * (2 * n + 1) / (2 * horizon)) * np.sqrt(2 / horizon)
    basis[0] /= np.sqrt(2)
    return basis


def chunk_frequencies(horizon: int, period_s: float) -> np.ndarray:
    """Give the frequencies (H,) in Hz of `chunk_power`; the first is 0, the mean of a chunk."""
    return np.arange(horizon) / (2 * horizon * period_s)


def chunk_power(chunks: np.ndarray) -> np.ndarray:
    """Give the mean square (H,) of the cosine coefficients of chunks (W, H, A), over windows and axes.

    About 0, not about the mean chunk: it is what noise has to exceed to hide a coefficient.
    """
    coefficients = np.einsum("kh,wha->wka", cosine_basis(chunks.shape[1]), chunks)
    return np.mean(coefficients**2, axis=(0, 2))


def wiener_gain(power: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Give S / (S + sigma^2), (S, F) for sigma (S,): what a linear denoiser keeps."""
    return power / (power + np.square(sigma)[:, None])


def cutoff_hz(frequency_hz: np.ndarray, power: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Give the frequency (S,) at which the power falls below sigma^2, for sigma (S,) > 0.

    The last such crossing, with ln power linear between two bins; 0 where all bins are below, the highest
    frequency where the last one is above.
    """
    log_power, out = np.log(np.maximum(power, np.finfo(float).tiny)), []
    for level in 2 * np.log(sigma):
        above = np.flatnonzero(log_power >= level)
        if not len(above) or above[-1] == len(power) - 1:
            out.append(frequency_hz[-1] if len(above) else 0.0)
            continue
        last = above[-1]
        along = (log_power[last] - level) / (log_power[last] - log_power[last + 1])
        out.append(frequency_hz[last] + along * (frequency_hz[last + 1] - frequency_hz[last]))
    return np.array(out)


def surviving_ratio(clean: np.ndarray, corrupt: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Give (S_p + sigma^2) / (S_q + sigma^2), (S, F): what noise leaves of a difference of two spectra."""
    variance = np.square(sigma)[:, None]
    return (clean + variance) / (corrupt + variance)


def chunk_moment(chunks: np.ndarray) -> np.ndarray:
    """Give the second moment (H, H) of chunks (W, H, A) along time, averaged over windows and axes.

    `chunk_power` is its diagonal in the cosine basis.
    """
    rows = np.moveaxis(chunks, 2, 1).reshape(-1, chunks.shape[1])
    return rows.T @ rows / len(rows)


def largest_factor(clean: np.ndarray, corrupt: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Give how many times the power of noisy chunks differs at most, along any direction, for sigma (S,).

    The largest generalised eigenvalue of (P + sigma^2, Q + sigma^2) or of its inverse, P and Q (H, H) from
    `chunk_moment`: no linear feature of a chunk tells the two further apart. It falls to 1 as sigma grows.
    """
    factors = []
    for level in sigma:
        p, q = (moment + level**2 * np.eye(len(moment)) for moment in (clean, corrupt))
        inverse = np.linalg.inv(np.linalg.cholesky(q))
        values = np.linalg.eigvalsh(inverse @ p @ inverse.T)
        factors.append(max(values[-1], 1 / values[0]))
    return np.array(factors)


def hidden_above(clean: np.ndarray, corrupt: np.ndarray, tolerance: float) -> float:
    """Give the level above which `largest_factor` is below 1 + `tolerance`, without a search.

    P + s^2 <= (1 + tolerance) (Q + s^2) along every direction means s^2 >= (P - Q) / tolerance - Q there.
    """
    excess = [
        np.linalg.eigvalsh((one - other) / tolerance - other)[-1]
        for one, other in ((clean, corrupt), (corrupt, clean))
    ]
    return float(np.sqrt(max(*excess, 0.0)))
