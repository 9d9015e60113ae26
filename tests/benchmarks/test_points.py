"""The studies on points: exact posteriors against quadrature, known distances, a run end to end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ambient_policy.ambient import mix
from ambient_policy.noise import vp_from_sigma, vp_sample
from benchmarks.points import contraction, known_noise
from benchmarks.points.distances import energy_distance, wasserstein
from benchmarks.points.episodes import read_points, write_points
from benchmarks.points.mixtures import Mixture, five, gaussian
from benchmarks.points.results import once
from benchmarks.points.shapes import CHORDS, THICKNESS, chords, draw_clean, draw_corrupt, off_spiral, spiral

WORLDS = {"five": five(), "gaussian": gaussian()}


def density(mixture: Mixture, points: np.ndarray) -> np.ndarray:
    """Give the density (N,) by the textbook formula, independently of the posterior's code."""
    out = np.zeros(len(points))
    for weight, mean, covariance in zip(mixture.weights, mixture.means, mixture.covariances, strict=True):
        away = points - mean
        exponent = -0.5 * np.sum(away * np.linalg.solve(covariance, away.T).T, axis=1)
        out += weight * np.exp(exponent) / (2 * np.pi * np.sqrt(np.linalg.det(covariance)))
    return out


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("sigma", [0.1, 0.3, 1.0, 4.0])
def test_the_posterior_is_the_quadrature_of_bayes_rule(world: str, sigma: float) -> None:
    mixture = WORLDS[world]
    axis = np.arange(-4, 4, 0.02)  # under half the deviation of the narrowest component
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    prior = density(mixture, grid)
    assert prior.sum() * 0.02**2 == pytest.approx(1, abs=1e-4)
    rng = np.random.default_rng(0)
    x = mixture.draw(rng, 6) + sigma * rng.standard_normal((6, 2))
    for point, found in zip(x, mixture.posterior_mean(x, sigma), strict=True):
        weight = prior * np.exp(-0.5 * np.sum((grid - point) ** 2, axis=1) / sigma**2)
        np.testing.assert_allclose(found, weight @ grid / weight.sum(), atol=2e-4)


@pytest.mark.parametrize("world", WORLDS)
def test_draws_have_the_moments_of_the_mixture(world: str) -> None:
    mixture = WORLDS[world]
    points = mixture.draw(np.random.default_rng(0), 200_000)
    mean = mixture.weights @ mixture.means
    second = np.einsum("k,kij->ij", mixture.weights, mixture.covariances)
    second += np.einsum("k,ki,kj->ij", mixture.weights, mixture.means, mixture.means) - np.outer(mean, mean)
    np.testing.assert_allclose(points.mean(axis=0), mean, atol=0.01)
    np.testing.assert_allclose(np.cov(points.T), second, atol=0.01)


@pytest.mark.parametrize("world", WORLDS)
def test_the_vp_posterior_is_the_ve_posterior_of_the_rescaled_sample(world: str) -> None:
    mixture, sigma = WORLDS[world], 0.7
    x = np.random.default_rng(0).standard_normal((50, 2))
    there = mixture.vp_posterior_mean(vp_sample(x, sigma), vp_from_sigma(sigma))
    np.testing.assert_allclose(there, mixture.posterior_mean(x, sigma), atol=1e-12)


@pytest.mark.parametrize("world", WORLDS)
def test_double_tweedie_joins_the_clean_and_the_noisy_world(world: str) -> None:
    """E[X_n | x] is a mixture of E[X0 | x] and x itself (Daras et al. 2024)."""
    mixture, sigma_n, sigma = WORLDS[world], 0.3, 0.8
    x = np.random.default_rng(0).standard_normal((50, 2))
    noisy = mixture.blurred(sigma_n).posterior_mean(x, np.sqrt(sigma**2 - sigma_n**2))
    np.testing.assert_allclose(noisy, mix(mixture.posterior_mean(x, sigma), x, sigma, sigma_n), atol=1e-12)


def test_perfect_denoisers_are_judged_perfect_each_in_its_own_world() -> None:
    mixture = five()
    exact = known_noise.judge(mixture, mixture.posterior_mean, 0, 2000)
    assert max(exact["exact"]) == 0
    assert max(exact["vp_x0"] + exact["vp_eps"]) < 1e-12
    naive = known_noise.judge(mixture, mixture.blurred(known_noise.SIGMA_N).posterior_mean, 0, 2000)
    assert max(naive["naive_exact"]) == 0
    # Hand calculation for one Gaussian without correlation: both answers are linear in x.
    line = Mixture(np.ones(1), np.zeros((1, 2)), np.diag([0.25, 1.0])[None])
    found = np.array(known_noise.naive_bias(line))
    sigma = np.array([*known_noise.BELOW, *known_noise.TAUGHT])
    n2, want = known_noise.SIGMA_N**2, 0.0
    for s2 in (0.25, 1.0):
        slope = (s2 + n2) / (s2 + n2 + sigma**2) - s2 / (s2 + sigma**2)
        want = want + slope**2 * (s2 + sigma**2)
    np.testing.assert_allclose(found, np.sqrt(want), rtol=0.03)


def test_a_summary_keeps_taught_levels_apart_from_those_below() -> None:
    below, taught = len(known_noise.BELOW), len(known_noise.TAUGHT)
    curve = [3.0] * below + [0.5] * taught
    assert known_noise.over_levels(curve, taught=False) == pytest.approx(3.0)
    assert known_noise.over_levels(curve, taught=True) == pytest.approx(0.5)
    assert max(known_noise.BELOW) <= known_noise.SIGMA_N < min(known_noise.TAUGHT)


def test_writing_points_twice_gives_the_same_files_and_completes_a_half_written_folder(
    tmp_path: Path,
) -> None:
    points = draw_clean(np.random.default_rng(0), 103)
    one, two = (write_points(tmp_path / name, points, 4, "target", {"seed": 0}) for name in ("a", "b"))
    sums = {p.parent.name: p.read_text() for p in one.glob("*/SHA256SUMS")}
    assert len(sums) == 4
    assert sums == {p.parent.name: p.read_text() for p in two.glob("*/SHA256SUMS")}
    np.testing.assert_array_equal(read_points(one), points)
    kept = (two / "ep0000" / "arrays.npz").stat().st_mtime_ns
    (two / "ep0002").rename(tmp_path / "lost")
    write_points(two, points, 4, "target", {"seed": 0})
    np.testing.assert_array_equal(read_points(two), points)
    assert (two / "ep0000" / "arrays.npz").stat().st_mtime_ns == kept


def test_data_of_a_seed_repeat_and_another_seed_differs(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        contraction.make_data(tmp_path / name, seed)
    a, b, c = (read_points(tmp_path / name / "clean") for name in "abc")
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
    assert len(a) - len(a) // contraction.CLEAN_EPISODES == contraction.CLEAN
    assert len(read_points(tmp_path / "a" / "corrupt")) == contraction.CORRUPT


def test_chords_meet_the_spiral_at_its_corners_only() -> None:
    corners = np.linspace(0, 1, CHORDS + 1)
    np.testing.assert_allclose(chords(corners), spiral(corners), atol=1e-12)
    middles = chords((corners[1:] + corners[:-1]) / 2)
    assert (off_spiral(middles) > 2 * THICKNESS).all()
    rng = np.random.default_rng(0)
    # The distance to a line through Gaussian noise is |N(0, THICKNESS)|.
    assert off_spiral(draw_clean(rng, 20_000)).mean() == pytest.approx(
        THICKNESS * np.sqrt(2 / np.pi), rel=0.02
    )
    assert off_spiral(draw_corrupt(rng, 20_000)).mean() > 3 * THICKNESS


def test_distances_of_shifted_and_of_equal_clouds() -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((600, 2))
    shift = np.array([3.0, 4.0])
    assert wasserstein(a, a + shift, 300) == pytest.approx(5.0)
    assert wasserstein(a, a[::-1], 600) == pytest.approx(0.0)
    # Two single places 5 apart: 2 E|A - B| = 10, and nothing within.
    assert energy_distance(np.zeros((9, 2)), np.tile(shift, (9, 1))) == pytest.approx(np.sqrt(10))
    floor = [energy_distance(rng.standard_normal((600, 2)), rng.standard_normal((600, 2))) for _ in range(4)]
    assert np.mean(floor) < 0.1 < energy_distance(a, 1.3 * a + 0.3)


def test_the_floor_lies_below_what_the_corruption_does() -> None:
    rng = np.random.default_rng(0)
    fresh, other, corrupt = draw_clean(rng, 1000), draw_clean(rng, 1000), draw_corrupt(rng, 1000)
    assert wasserstein(fresh, other, 500) < 0.7 * wasserstein(fresh, corrupt, 500)
    assert energy_distance(fresh, other) < 0.5 * energy_distance(fresh, corrupt)


@pytest.mark.parametrize(("a", "b"), [((10, 2), (9, 2)), ((10,), (10,))])
def test_clouds_that_cannot_be_compared_are_refused(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="needs two of the same shape"):
        wasserstein(np.zeros(a), np.zeros(b), 2)
    with pytest.raises(ValueError, match="needs two of the same shape"):
        energy_distance(np.zeros(a), np.zeros(b))


def test_a_cloud_smaller_than_a_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="10 points are less than one batch of 1000"):
        wasserstein(np.zeros((10, 2)), np.zeros((10, 2)))


def test_differences_to_co_training_are_taken_on_the_same_data() -> None:
    measured = {
        "cotrain": {seed: {"wasserstein": float(seed)} for seed in (1, 2, 3)},
        "other": {3: {"wasserstein": 2.5}, 2: {"wasserstein": 1.5}},
    }
    found = contraction.summarise(measured)
    assert found["other"]["wasserstein"][0] == pytest.approx(2.0)
    assert found["other"]["wasserstein_over_cotrain"] == pytest.approx((-0.5, -0.5, -0.5))
    alone = contraction.summarise({"other": {3: {"wasserstein": 2.5}}})
    assert alone == {"other": {"wasserstein": (2.5, None, None)}}


def test_what_was_computed_once_is_read_back(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "found.json"
    assert once(file, lambda: {"value": 1.5}) == {"value": 1.5}
    assert once(file, lambda: pytest.fail("computed again")) == {"value": 1.5}


@pytest.mark.train
def test_arms_of_known_noise_ask_for_what_their_names_say(tmp_path: Path) -> None:
    """No noise is added to samples that have it, and no level is taught at or below it without clean data."""
    import torch

    from benchmarks.points.runs import configure
    from training.data import load_data

    mixture, rng = five(), np.random.default_rng(0)
    for name in ("clean", "noisy", "few"):
        write_points(tmp_path / name, mixture.draw(rng, 60), 3, "target", {})
    kinds = {}
    for arm in known_noise.arms("five"):
        config = configure(arm, tmp_path, 0)
        bands = load_data(config, torch.device("cpu")).train.bands
        noisy = bands.sigma_n > 0
        kinds[arm.name] = config.data.sources[-1].target.kind if noisy.any() else "denoise"
        assert (bands.contraction == 0).all()
        assert set(bands.sigma_n[noisy].tolist()) <= {np.float32(known_noise.SIGMA_N)}
        assert (bands.sigma_min[noisy] >= bands.sigma_n[noisy]).all()
        if not arm.name.startswith("few"):
            assert config.diffusion.sigma_min == known_noise.START
    assert kinds == {
        "naive": "denoise",
        "ambient": "ambient",
        "rescaled": "rescaled_ambient",
        "oracle": "denoise",
        "rescaled_eps": "rescaled_ambient",
        "oracle_eps": "denoise",
        "few_clean_only": "denoise",
        "few_cotrain": "denoise",
        "few_ambient": "ambient",
        "few_rescaled": "rescaled_ambient",
        "few_rescaled_natural": "rescaled_ambient",
    }


@pytest.mark.train
def test_an_arm_trains_resumes_and_generates(tmp_path: Path) -> None:
    from benchmarks.points.arms import Arm
    from benchmarks.points.runs import denoiser_of, finished, generate, train_arm

    world = gaussian()
    points = world.draw(np.random.default_rng(0), 2000)
    write_points(tmp_path / "data" / "clean", points, 4, "target", {})
    arm = Arm("plain", ("clean",))
    small = ("optim.steps=250", "optim.warmup=20", "network.denoiser.width=32", "optim.batch=128")
    run = train_arm(arm, tmp_path / "data", tmp_path / "runs", 0, small)
    clean = denoiser_of(run)
    x = world.draw(np.random.default_rng(1), 2000) + np.random.default_rng(2).standard_normal((2000, 2))
    error = known_noise.rms(clean(x, 1.0) - world.posterior_mean(x, 1.0))
    assert error < 0.08 < known_noise.rms(x - world.posterior_mean(x, 1.0))
    made = generate(clean, 500, np.random.default_rng(3))
    np.testing.assert_allclose(np.cov(made.T), world.covariances[0], atol=0.2)
    lines = (run / "metrics.jsonl").read_text()
    assert train_arm(arm, tmp_path / "data", tmp_path / "runs", 0, small) == run
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == [json.loads(line)["step"] for line in lines.splitlines()]
    np.testing.assert_array_equal(denoiser_of(run)(x, 1.0), clean(x, 1.0))
    assert finished(run)
    assert not finished(tmp_path / "runs" / "absent")
