"""The denoiser of a finite set of points against closed forms, and the two manifolds of the picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambient_policy import manifold
from ambient_policy.errors import ConfigError
from tests.core.gaussian import Gaussian

sigmas = st.floats(1e-3, 1e3)
coordinates = st.floats(-50, 50)


@given(coordinates, coordinates, sigmas)
def test_one_point_is_always_the_answer(x, y, sigma):
    """There is nothing else that the sample could have been."""
    guess = manifold.posterior_mean(np.array([x, y]), np.array([[0.3, -2.0]]), sigma)
    np.testing.assert_allclose(guess, [0.3, -2.0], rtol=1e-12)


@given(st.floats(-3, 3), st.floats(0.05, 20))
def test_two_points_give_tanh(x, sigma):
    """Points +-a with equal weight: a tanh(a x / sigma^2); uneven ones shift x by sigma^2 ln(odds) / 2a."""
    a, points = 0.8, np.array([[-0.8], [0.8]])
    guess = manifold.posterior_mean(np.array([x]), points, sigma)
    assert guess.item() == pytest.approx(a * np.tanh(a * x / sigma**2), abs=1e-12)
    uneven = manifold.posterior_mean(np.array([x]), points, sigma, np.array([1.0, 3.0]))
    assert uneven.item() == pytest.approx(a * np.tanh(a * x / sigma**2 + np.log(3) / 2), abs=1e-12)


def test_a_gaussian_cloud_gives_the_gaussian_denoiser():
    """A fine weighted grid stands for N(.3, .5^2) in each of two axes: guess and density in closed form."""
    data = Gaussian(0.3, 0.5)
    line = np.linspace(-4, 4.6, 121)
    points = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    weights = np.exp(-(((points - 0.3) / 0.5) ** 2).sum(axis=1) / 2)
    x = np.random.default_rng(0).normal(size=(6, 5, 2)) * 1.5
    for sigma in (0.15, 0.6, 3.0):
        guess = manifold.posterior_mean(x, points, sigma, weights)
        np.testing.assert_allclose(guess, data.denoise(x, sigma), atol=1e-6)
        width = np.hypot(0.5, sigma)
        density = -(((x - 0.3) / width) ** 2).sum(-1) / 2 - np.log(2 * np.pi * width**2)
        np.testing.assert_allclose(manifold.log_density(x, points, sigma, weights), density, atol=1e-6)


def test_a_drawn_gaussian_cloud_comes_close():
    """4000 draws of N(0, I): the guess x / (1 + sigma^2) to a few percent where the cloud is dense."""
    points = np.random.default_rng(1).standard_normal((4000, 2))
    x = np.array([[0.5, -0.5], [1.0, 0.2]])
    np.testing.assert_allclose(manifold.posterior_mean(x, points, 0.7), x / 1.49, atol=0.05)


def test_large_noise_gives_the_mean_and_small_noise_the_nearest_point():
    """The two ends of the picture, and everything in between lies inside the cloud."""
    rng = np.random.default_rng(2)
    points, x = rng.normal(size=(50, 2)), rng.normal(size=(40, 2)) * 2
    guess = manifold.posterior_mean(x, points, 1e4)
    np.testing.assert_allclose(guess, np.tile(points.mean(axis=0), (40, 1)), atol=1e-6)
    nearest = points[np.linalg.norm(x[:, None] - points, axis=2).argmin(axis=1)]
    np.testing.assert_allclose(manifold.posterior_mean(x, points, 1e-3), nearest, atol=1e-6)


def test_far_away_and_at_tiny_noise_nothing_underflows():
    """Every density is 0 in double precision there; the nearest point must still win, without a warning."""
    points = np.array([[0.0, 0.0], [1.0, 0.0]])
    with np.errstate(all="raise", under="ignore"):
        guess = manifold.posterior_mean(np.array([[900.0, 0.0], [-900.0, 3.0]]), points, 0.01)
    np.testing.assert_allclose(guess, [[1.0, 0.0], [0.0, 0.0]])


def test_a_cloud_far_from_the_origin_is_as_good():
    """Moving points and samples together moves the guess; no squares of coordinates may cancel."""
    points, x = np.array([[-0.8, 0.0], [0.8, 0.0]]), np.array([[0.001, 0.3]])
    guess = manifold.posterior_mean(x + 1e6, points + 1e6, 0.02) - 1e6
    assert guess[0, 0] == pytest.approx(0.8 * np.tanh(0.8 * 0.001 / 0.02**2), abs=1e-4)


def test_a_weight_of_zero_takes_a_point_out():
    """As if it had not been given."""
    points, x = np.array([[0.0], [1.0], [7.0]]), np.array([[0.4], [6.0]])
    with_zero = manifold.posterior_mean(x, points, 0.5, np.array([1.0, 1.0, 0.0]))
    np.testing.assert_array_equal(with_zero, manifold.posterior_mean(x, points[:2], 0.5))


def test_blocks_of_rows_make_no_difference(monkeypatch):
    """What does not fit into memory at once is done in parts."""
    rng = np.random.default_rng(3)
    x, points = rng.normal(size=(3, 7, 2)), rng.normal(size=(5, 2))
    whole = manifold.posterior_mean(x, points, 0.4), manifold.log_density(x, points, 0.4)
    monkeypatch.setattr(manifold, "_BLOCK", 11)
    np.testing.assert_array_equal(manifold.posterior_mean(x, points, 0.4), whole[0])
    np.testing.assert_array_equal(manifold.log_density(x, points, 0.4), whole[1])


def test_the_example_manifolds_lie_together_and_differ_in_shape():
    """Same mean by symmetry, the zig-zag at most its height away from the S, half of that on average."""
    clouds = manifold.example_clouds(200, height=0.18)
    np.testing.assert_allclose(clouds.clean.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(clouds.corrupt.mean(axis=0), 0, atol=1e-12)
    away = np.linalg.norm(clouds.corrupt - clouds.clean, axis=1)
    assert away.max() == pytest.approx(0.18, abs=0.005)
    assert away.mean() == pytest.approx(0.09, abs=0.02)
    steps = np.linalg.norm(np.diff(clouds.clean, axis=0), axis=1)
    np.testing.assert_allclose(steps, steps.mean(), rtol=0.01)


def test_the_two_denoisers_meet_as_noise_grows():
    """With equal means the distance falls as 1 / sigma; at small noise it stays."""
    clouds = manifold.example_clouds()
    gap = {
        s: manifold.projection_gap(clouds, s, 4000, np.random.default_rng(4))
        for s in (0.02, 10.0, 20.0, 200.0)
    }
    assert gap[0.02] > 0.05
    assert gap[200.0] < 1e-4
    assert gap[10.0] / gap[20.0] == pytest.approx(2, rel=0.05)


def test_unequal_means_remain_apart():
    """The limit at large noise is the distance of the means, not 0."""
    clouds = manifold.example_clouds(100)
    moved = manifold.Clouds(clouds.clean, clouds.corrupt + [0.3, 0.4])
    gap = manifold.projection_gap(moved, 500.0, 500, np.random.default_rng(5))
    assert gap == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("sigma", [0.2, 1.0])
def test_total_variation_agrees_with_a_sum_of_the_densities(sigma):
    """`log_density` on a fine grid, summed: the same number by the slow way."""
    rng = np.random.default_rng(6)
    clouds = manifold.Clouds(rng.normal(size=(12, 2)), rng.normal(size=(7, 2)) + [0.5, 0.0])
    line = np.linspace(-9, 9, 451)
    grid = np.stack(np.meshgrid(line, line), axis=-1)
    p, q = (np.exp(manifold.log_density(grid, points, sigma)) for points in (clouds.clean, clouds.corrupt))
    expected = 0.5 * np.abs(p - q).sum() * (line[1] - line[0]) ** 2
    assert manifold.total_variation(clouds, sigma) == pytest.approx(expected, abs=2e-3)


def test_points_are_read_from_csv_and_npz(tmp_path):
    """With a header or without, or from the array `points`."""
    points = np.array([[0.5, 1e-3], [2.0, -1.5], [0.0, 4.0]])
    plain, headed, packed = tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "c.npz"
    np.savetxt(plain, points, delimiter=",")
    np.savetxt(headed, points, delimiter=",", header="x,y", comments="")
    np.savez(packed, points=points)
    for file in (plain, headed, packed):
        np.testing.assert_allclose(manifold.read_points(file), points)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "1,2,3\n4,5,6\n", r"holds an array \(2, 3\); needs 2 or more finite points"),
        ("a.csv", "1,2\n", r"holds an array \(1, 2\); needs 2 or more"),
        ("a.csv", "1,2\n3,nan\n", "needs 2 or more finite points"),
        ("a.csv", "nan,2\n3,4\n5,6\n", "needs 2 or more finite points"),
        ("a.csv", "", "cannot read points from .*: it is empty"),
        ("a.csv", "1,2\n3\n", "cannot read points from .*; give x,y lines or an NPZ"),
        ("a.npz", "no archive", "cannot read points from"),
    ],
)
def test_files_that_hold_no_points_are_refused(tmp_path, name, text, message):
    """Each with what was found."""
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        manifold.read_points(file)


def test_an_archive_without_points_says_what_it_has(tmp_path):
    """So that the right name can be seen."""
    np.savez(tmp_path / "a.npz", path=np.zeros((3, 2)))
    with pytest.raises(ConfigError, match="has no array `points`; it has path"):
        manifold.read_points(tmp_path / "a.npz")
    with pytest.raises(ConfigError, match="cannot read points from"):
        manifold.read_points(tmp_path / "missing.csv")


def test_bad_arguments_are_refused():
    """Values and what is accepted."""
    points = np.zeros((3, 2))
    with pytest.raises(ConfigError, match="sigma is 0, needs a value above 0"):
        manifold.posterior_mean(points, points, 0)
    with pytest.raises(ConfigError, match=r"points are \(3, 2\) and x \(4, 1\)"):
        manifold.posterior_mean(np.zeros((4, 1)), points, 1.0)
    with pytest.raises(
        ConfigError, match=r"weights of shape \(2,\) given; needs one for each of the 3 points"
    ):
        manifold.posterior_mean(points, points, 1.0, np.ones(2))
    with pytest.raises(ConfigError, match="points have 3 coordinates"):
        manifold.total_variation(manifold.Clouds(np.zeros((2, 3)), np.ones((2, 3))), 1.0)
