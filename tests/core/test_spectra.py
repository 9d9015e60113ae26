"""Spectra against sequences whose spectrum is known, and against white noise of known strength."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambient_policy import spectra
from ambient_policy.errors import ConfigError

PERIOD_S = 0.1


def power_law_episodes(alpha: float, count: int, seed: int, lengths: tuple[int, int] = (45, 200)):
    """Cut episodes of different lengths out of one long process with S = f^-alpha, f in cycles a step.

    Level below f = 1/1024, which no segment resolves: powers of a smaller f would exceed double precision.
    """
    rng = np.random.default_rng(seed)
    size = rng.integers(*lengths, size=count)
    n = 1 << int(np.ceil(np.log2(size.sum())))
    frequency = np.maximum(np.fft.rfftfreq(n), 1 / 1024)
    # A coefficient of variance n S / 2 in each part gives a spectrum S in the project's scaling.
    amplitude = np.sqrt(n / 2) * frequency ** (-alpha / 2)
    parts = rng.standard_normal((2, len(frequency), 2))
    series = np.fft.irfft(amplitude[:, None] * (parts[0] + 1j * parts[1]), n=n, axis=0)
    return np.split(series[: size.sum()], np.cumsum(size)[:-1])


def fit(episodes, segment_steps: int = 32, band_hz=None, seed: int = 0) -> spectra.PowerLaw:
    spectrum = spectra.episode_spectrum(episodes, PERIOD_S, segment_steps)
    band_hz = band_hz or spectra.default_band(segment_steps, PERIOD_S)
    return spectra.fit_power_law(spectrum, band_hz, np.random.default_rng(seed))


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.5, 2.0, 2.5, 3.0])
@pytest.mark.parametrize("segment_steps", [32, 64])
def test_a_known_exponent_is_found(alpha, segment_steps):
    """From 300 episodes of 45 to 199 steps; 64 leaves the short ones out."""
    law = fit(power_law_episodes(alpha, 300, seed=1), segment_steps)
    assert law.alpha == pytest.approx(alpha, abs=0.12)
    assert 0.01 < law.alpha_error < 0.03


@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.0, 3.0])
def test_the_spectrum_itself_has_the_right_level_at_every_bin(alpha):
    """Not only the slope: bins 2 to 15 of 16 within 12 %, the middle ones within 6 %."""
    spectrum = spectra.episode_spectrum(power_law_episodes(alpha, 1500, seed=2), PERIOD_S, 32)
    ratio = spectrum.power * (spectrum.frequency_hz * PERIOD_S) ** alpha
    np.testing.assert_allclose(ratio[1:15], 1, atol=0.12)
    np.testing.assert_allclose(ratio[4:12], 1, atol=0.06)
    # What the docstring says of the ends: fits leave them out.
    assert abs(ratio[0] - 1) < 0.7


@pytest.mark.parametrize("alpha", [0.0, 2.0, 4.0, 6.0, 8.0, 9.5])
def test_steep_exponents_are_found_by_differencing_as_often_as_needed(alpha):
    """About alpha / 2 times. Once is too little: the window's side lobes make 8.3 of all that is steeper."""
    episodes, rng = power_law_episodes(alpha, 300, seed=20, lengths=(60, 200)), np.random.default_rng(0)
    band = spectra.default_band(32, PERIOD_S)
    spectrum, law = spectra.fit_whitened(episodes, PERIOD_S, 32, band, rng)
    assert law.alpha == pytest.approx(alpha, abs=0.1)
    assert abs(spectrum.differences - alpha / 2) <= 0.76
    assert alpha < 7 or fit(episodes).alpha == pytest.approx(8.2, abs=0.2)


@pytest.mark.parametrize("differences", [0, 1, 2, 3])
def test_differencing_is_taken_back(differences):
    """White noise keeps its level however often it was differenced; a polynomial of that degree vanishes."""
    rng = np.random.default_rng(21)
    white = [0.3 * rng.standard_normal((100, 2)) for _ in range(1000)]
    t = np.linspace(-1, 1, 100)[:, None]
    bent = [w + 5 * t**differences for w in white]
    flat, found = (spectra.episode_spectrum(e, PERIOD_S, 32, (), differences) for e in (white, bent))
    np.testing.assert_allclose(found.power, flat.power, rtol=1e-9)
    np.testing.assert_allclose(flat.power[8:15], 0.09, rtol=0.06)
    assert flat.differences == differences


def test_white_noise_has_its_variance_at_every_frequency_and_no_slope():
    """The scaling by which a spectrum is compared with sigma^2; the first bin is biased and left out."""
    rng, sigma = np.random.default_rng(3), 0.3
    white = [sigma * rng.standard_normal((rng.integers(40, 200), 2)) for _ in range(1500)]
    spectrum = spectra.episode_spectrum(white, PERIOD_S, 32)
    np.testing.assert_allclose(spectrum.power[2:], sigma**2, rtol=0.05)
    assert fit(white, 64).alpha == pytest.approx(0, abs=0.05)


def test_a_random_walk_has_its_closed_form():
    """Brownian steps of deviation s: S = s^2 / (4 sin^2(pi f)) at every bin but the first."""
    rng, s = np.random.default_rng(4), 0.2
    walks = [np.cumsum(s * rng.standard_normal((rng.integers(50, 180), 2)), axis=0) for _ in range(1500)]
    spectrum = spectra.episode_spectrum(walks, PERIOD_S, 32)
    exact = s**2 / (4 * np.sin(np.pi * spectrum.frequency_hz * PERIOD_S) ** 2)
    np.testing.assert_allclose(spectrum.power[1:], exact[1:], rtol=0.05)


def test_a_random_walk_has_exponent_two_far_below_the_nyquist_frequency():
    """Where sin x is x. Up to half the Nyquist frequency folding makes it 1.86 in segments of 32."""
    rng = np.random.default_rng(5)
    walks = [np.cumsum(rng.standard_normal((300, 2)), axis=0) for _ in range(300)]
    assert fit(walks, 128, band_hz=(0.15, 1.0)).alpha == pytest.approx(2, abs=0.06)
    assert fit(walks, 32).alpha == pytest.approx(1.86, abs=0.06)


def test_a_steady_motion_adds_nothing():
    """Velocity is removed from each segment: the spectrum is of the deviations from a straight line."""
    episodes = power_law_episodes(1.0, 20, seed=6)
    moving = [e + np.outer(np.arange(len(e)), [3.0, -1.0]) + 50 for e in episodes]
    still, drifting = (spectra.episode_spectrum(e, PERIOD_S, 32).power for e in (episodes, moving))
    np.testing.assert_allclose(drifting, still, rtol=1e-9)


def test_a_sine_appears_at_its_frequency():
    """1.25 Hz, bin 4 of 32 steps of 0.1 s: amplitude a gives a^2 L / 4, spread over three bins."""
    t = np.arange(400) * PERIOD_S
    wave = 0.5 * np.sin(2 * np.pi * 1.25 * t)[:, None]
    spectrum = spectra.episode_spectrum([wave], PERIOD_S, 32)
    assert spectrum.frequency_hz[spectrum.power.argmax()] == pytest.approx(1.25)
    # Hann: the line holds 2/3 of it. Two-sided, so a^2 / 4 on each side, times L bins.
    assert spectrum.power[3] == pytest.approx(0.5**2 / 4 * 32 * 2 / 3, rel=0.02)


def test_the_error_of_an_exponent_is_its_spread():
    """The bootstrap's figure against the deviation of the exponent over 60 independent datasets."""
    laws = [fit(power_law_episodes(2.0, 30, seed=100 + i), seed=i) for i in range(60)]
    spread = np.std([law.alpha for law in laws], ddof=1)
    assert np.mean([law.alpha_error for law in laws]) == pytest.approx(spread, rel=0.25)


def test_repeated_episodes_do_not_count_as_new_data():
    """Ten copies of each segment inside an episode leave the error alone; ten times the episodes lower it."""
    once = power_law_episodes(1.5, 40, seed=7, lengths=(33, 34))
    laws = [
        fit(once),
        fit([np.concatenate([e] * 10) for e in once]),
        fit(power_law_episodes(1.5, 400, 8, (33, 34))),
    ]
    assert laws[1].alpha_error > 0.5 * laws[0].alpha_error
    assert laws[2].alpha_error < 0.5 * laws[0].alpha_error


def test_a_fit_repeats_with_its_generator():
    """Randomness is an argument."""
    episodes = power_law_episodes(1.0, 20, seed=9)
    assert fit(episodes, seed=3) == fit(episodes, seed=3)
    assert fit(episodes, seed=3).alpha_error != fit(episodes, seed=4).alpha_error


def test_short_sequences_and_invalid_steps_are_left_out():
    """A segment with one invalid step does not count; the others do, each the same."""
    rng = np.random.default_rng(10)
    long, short = rng.standard_normal((49, 2)), rng.standard_normal((32, 2))
    spectrum = spectra.episode_spectrum([long, short], PERIOD_S, 32)
    np.testing.assert_array_equal(spectrum.counts, [4, 0])  # two segments, two axes
    assert spectrum.episodes == 1
    # Every segment counts the same, however many its episode has.
    other = rng.standard_normal((33, 2)) * 3
    apart = [spectra.episode_spectrum([e], PERIOD_S, 32).power for e in (long, other)]
    together = spectra.episode_spectrum([short, long, other], PERIOD_S, 32).power
    np.testing.assert_allclose(together, (2 * apart[0] + apart[1]) / 3)
    mask = np.ones(49, bool)
    mask[3] = False
    spoiled = long.copy()
    spoiled[3] = 1e6
    masked = spectra.episode_spectrum([spoiled], PERIOD_S, 32, [mask])
    np.testing.assert_array_equal(masked.counts, [2])
    np.testing.assert_allclose(masked.power, spectra.episode_spectrum([long[16:]], PERIOD_S, 32).power)


@given(st.integers(1, 40))
def test_the_cosine_basis_is_orthonormal(horizon):
    """So that white noise of variance sigma^2 has just that in every coefficient."""
    basis = spectra.cosine_basis(horizon)
    np.testing.assert_allclose(basis @ basis.T, np.eye(horizon), atol=1e-12)


def test_chunk_power_of_known_chunks():
    """A constant sits in bin 0, a cosine of the basis in its own, and power adds up to the mean square."""
    basis = spectra.cosine_basis(16)
    constant = np.full((3, 16, 2), 0.25)
    np.testing.assert_allclose(spectra.chunk_power(constant), [0.25**2 * 16, *np.zeros(15)], atol=1e-15)
    cosine = np.stack([2 * basis[5], 0 * basis[5]], axis=-1)[None]
    np.testing.assert_allclose(spectra.chunk_power(cosine), 2 * np.eye(16)[5], atol=1e-12)
    chunks = np.random.default_rng(11).normal(size=(50, 16, 2))
    assert spectra.chunk_power(chunks).sum() == pytest.approx((chunks**2).sum(axis=1).mean())
    assert spectra.chunk_frequencies(16, 0.1)[[0, 1, 15]] == pytest.approx([0, 0.3125, 4.6875])


def test_noise_adds_its_variance_to_every_coefficient_of_a_chunk():
    """Why S and sigma^2 may be compared."""
    rng = np.random.default_rng(12)
    chunks = np.cumsum(rng.normal(size=(20_000, 16, 2)), axis=1)
    noisy = chunks + 0.7 * rng.standard_normal(chunks.shape)
    added = spectra.chunk_power(noisy) - spectra.chunk_power(chunks)
    np.testing.assert_allclose(added[2:], 0.49, atol=0.03)


def test_the_wiener_gain_is_the_best_linear_denoiser_of_a_coefficient():
    """Least squares of clean on noisy coefficients gives S / (S + sigma^2), bin by bin."""
    rng, sigma = np.random.default_rng(13), 0.8
    chunks = np.cumsum(0.5 * rng.normal(size=(40_000, 8, 1)), axis=1)
    noisy = chunks + sigma * rng.standard_normal(chunks.shape)
    clean, seen = (np.einsum("kh,wha->wk", spectra.cosine_basis(8), c) for c in (chunks, noisy))
    slope = (clean * seen).mean(axis=0) / (seen**2).mean(axis=0)
    gain = spectra.wiener_gain(spectra.chunk_power(chunks), np.array([sigma, 1e6]))
    np.testing.assert_allclose(gain[0], slope, atol=0.01)
    np.testing.assert_allclose(gain[1], 0, atol=1e-9)


def test_the_cut_off_is_where_the_power_equals_the_noise():
    """S = 4 f^-2 exactly on fine bins: f* = 2 / sigma; 0 when all is hidden, the last bin when nothing is."""
    frequency = np.linspace(0.5, 5, 2000)
    sigma = np.array([0.5, 1.0, 3.0, 4.5, 0.3])
    found = spectra.cutoff_hz(frequency, 4 * frequency**-2.0, sigma)
    np.testing.assert_allclose(found, [4.0, 2.0, 2 / 3, 0.0, 5.0], rtol=1e-4)


def test_the_cut_off_takes_the_last_crossing_and_interpolates():
    """A dip does not hide what lies above it; between two bins ln S is linear."""
    frequency, power = np.array([0.0, 1.0, 2.0, 3.0]), np.array([9.0, 0.01, np.e**2, 1.0])
    assert spectra.cutoff_hz(frequency, power, np.array([np.sqrt(np.e)])) == pytest.approx(2.5)


def test_noise_brings_two_spectra_together():
    """The ratio of powers tends to 1 from either side."""
    clean, corrupt = np.array([10.0, 1.0, 0.01]), np.array([9.0, 1.5, 0.4])
    ratio = spectra.surviving_ratio(clean, corrupt, np.array([1e-6, 1e4]))
    np.testing.assert_allclose(ratio[0], clean / corrupt, rtol=1e-6)
    np.testing.assert_allclose(ratio[1], 1, atol=1e-6)


def test_the_moment_of_chunks_holds_their_power():
    """Its diagonal in the cosine basis is `chunk_power`; its trace the mean square of a chunk."""
    chunks = np.cumsum(np.random.default_rng(15).normal(size=(80, 16, 2)), axis=1)
    moment, basis = spectra.chunk_moment(chunks), spectra.cosine_basis(16)
    np.testing.assert_allclose(np.diag(basis @ moment @ basis.T), spectra.chunk_power(chunks))
    assert np.trace(moment) == pytest.approx((chunks**2).sum(axis=1).mean())


def test_the_largest_factor_of_diagonal_moments_is_the_worst_coefficient():
    """Either way round: 0.41 / 0.02 at sigma .1 here; and no rotation of chunk space changes it."""
    clean, corrupt = np.diag([10.0, 1.0, 0.01]), np.diag([9.0, 1.5, 0.4])
    sigma = np.array([0.1, 2.0, 1e4])
    expected = [0.41 / 0.02, (10 + 4) / (9 + 4), 1.0]
    expected[1] = max(expected[1], 5.5 / 5, 4.4 / 4.01)
    np.testing.assert_allclose(spectra.largest_factor(clean, corrupt, sigma), expected, rtol=1e-6)
    turn = np.linalg.qr(np.random.default_rng(16).normal(size=(3, 3)))[0]
    for p, q in ((clean, corrupt), (corrupt, clean)):
        turned = spectra.largest_factor(turn @ p @ turn.T, turn @ q @ turn.T, sigma)
        np.testing.assert_allclose(turned, expected, rtol=1e-6)


def test_no_linear_feature_differs_by_more_and_one_does_by_as_much():
    """Of 20,000 random features none has a larger ratio of noisy powers; the worst of them comes near."""
    rng, sigma = np.random.default_rng(17), 0.3
    p = spectra.chunk_moment(np.cumsum(rng.normal(size=(500, 3, 1)), axis=1))
    q = spectra.chunk_moment(rng.normal(size=(500, 3, 1)))
    features = rng.normal(size=(20_000, 3))
    powers = [np.einsum("ni,ij,nj->n", features, m + sigma**2 * np.eye(3), features) for m in (p, q)]
    ratios = np.maximum(powers[0] / powers[1], powers[1] / powers[0])
    (factor,) = spectra.largest_factor(p, q, np.array([sigma]))
    assert 0.98 * factor < ratios.max() <= factor * (1 + 1e-9)


@pytest.mark.parametrize("tolerance", [0.05, 0.1, 1.0])
def test_the_level_that_hides_a_difference_is_where_the_factor_is_one_plus_the_tolerance(tolerance):
    """Just above it the factor is smaller, just below larger; whoever is called clean."""
    rng = np.random.default_rng(18)
    p = spectra.chunk_moment(np.cumsum(rng.normal(size=(300, 8, 2)), axis=1))
    q = spectra.chunk_moment(np.cumsum(rng.normal(size=(300, 8, 2)), axis=1) + rng.normal(size=(300, 8, 2)))
    level = spectra.hidden_above(p, q, tolerance)
    above, below = spectra.largest_factor(p, q, np.array([1.0001, 0.9999]) * level)
    assert above < 1 + tolerance < below
    assert level == pytest.approx(spectra.hidden_above(q, p, tolerance))
    assert spectra.hidden_above(p, p, tolerance) == 0


def test_what_cannot_be_done_is_said():
    """With the number found and what to change."""
    episodes = [np.zeros((40, 2)), np.zeros((20, 2))]
    with pytest.raises(ConfigError, match="segment_steps is 4, needs 8 or more"):
        spectra.episode_spectrum(episodes, PERIOD_S, 4)
    with pytest.raises(
        ConfigError, match=r"none of 2 sequences has 65 valid steps in a row \(the longest has 40"
    ):
        spectra.episode_spectrum(episodes, PERIOD_S, 64)
    still = spectra.episode_spectrum(episodes, PERIOD_S, 32)
    with pytest.raises(ConfigError, match="no power in the band; does the tool move"):
        spectra.fit_power_law(still, (0.6, 2.5), np.random.default_rng(0))
    with pytest.raises(
        ConfigError, match=r"band 4 to 4.5 Hz holds 2 of the 16 frequencies \(0.312 to 5 Hz\)"
    ):
        spectra.fit_power_law(still, (4.0, 4.5), np.random.default_rng(0))


def test_one_episode_has_no_error():
    """nan, not 0: nothing is known about another episode."""
    law = fit(power_law_episodes(1.0, 1, seed=14, lengths=(150, 151)))
    assert np.isnan(law.alpha_error)
