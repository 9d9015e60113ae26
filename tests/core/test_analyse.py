"""The analysis command on demonstrations with a known difference, and on two known point sets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ambient_policy import analyse, manifold
from ambient_policy.analyse_manifold import ManifoldArgs, ManifoldReport, analyse_manifold
from ambient_policy.analyse_spectra import (
    SpectraArgs,
    SpectraReport,
    analyse_spectra,
    make_chunks,
    read_demonstrations,
)
from ambient_policy.documents import read_document
from ambient_policy.episodes import Episode, EpisodeMeta, write_episode
from ambient_policy.errors import AmbientPolicyError, ConfigError, EpisodeError

JITTER_M = 0.004


def write(root: Path, count: int, *, jitter_m: float = 0.0, seed: int = 0, period_s: float = 0.1) -> Path:
    """Write demonstrations that follow a smooth random curve, with white jitter on their actions."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        steps = int(rng.integers(50, 90))
        velocity = np.cumsum(rng.normal(size=(steps + 16, 2)), axis=0)
        smooth = np.hanning(18)[1:-1] / np.hanning(18).sum()
        velocity = np.stack([np.convolve(v, smooth, "valid") for v in velocity.T], axis=1)
        path = 0.002 * np.cumsum(velocity, axis=0)
        action = path[1:] + jitter_m * rng.standard_normal((steps, 2))
        meta = EpisodeMeta(
            commit="test",
            task="curve",
            source="target",
            scenario={},
            seed=number,
            operator="test",
            outcome="success",
            period_s=period_s,
            steps=steps,
            cameras={},
        )
        arrays = {"state": path[:-1], "action": action, "valid": np.ones(steps, bool)}
        write_episode(root, f"ep{number:03d}", Episode(meta, arrays))
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("data")
    return write(root / "clean", 40), write(root / "jittered", 60, jitter_m=JITTER_M, seed=1)


@pytest.fixture(scope="module")
def report(data, tmp_path_factory) -> SpectraReport:
    return analyse_spectra(SpectraArgs(data=data, out=tmp_path_factory.mktemp("out")))


def test_white_jitter_is_found_with_its_own_strength(report):
    """The corrupt source levels off at the jitter's variance in clean units, in both views."""
    clean, corrupt = report.sources
    jitter = (JITTER_M / report.action_unit_m) ** 2
    assert np.mean(corrupt.episode_power[-6:]) == pytest.approx(jitter, rel=0.1)
    assert np.mean(corrupt.chunk_power[-6:]) == pytest.approx(jitter, rel=0.1)
    assert clean.chunk_power[-1] < 0.05 * jitter
    assert (clean.role, corrupt.role) == ("clean", "corrupt")
    assert (clean.name, corrupt.name) == ("clean", "jittered")
    assert clean.alpha > corrupt.alpha + 1


def test_what_noise_hides_is_where_it_exceeds_the_jitter(report):
    """Jitter of variance j^2 adds j^2 along every direction: alike within 10 % from about sqrt(10) j on.

    Chance adds a little at high levels, which halves of the clean data show as well.
    """
    sigmas, corrupt = np.array(report.sigmas), report.sources[1]
    factor, chance = np.array(corrupt.largest_factor), np.array(report.clean_halves)
    jitter = JITTER_M / report.action_unit_m
    at = np.searchsorted(sigmas, jitter)
    # 1 + (j / sigma)^2 where clean chunks have no power; those that end in a stop have a little everywhere.
    assert 10 < factor[0] < 1.1 * (1 + (jitter / sigmas[0]) ** 2)
    assert factor[at] == pytest.approx(2, rel=0.15)
    assert factor[np.searchsorted(sigmas, 6 * jitter)] < 1.3
    assert chance.max() < 2
    assert corrupt.chunks_hidden_above is not None
    assert np.interp(corrupt.chunks_hidden_above, sigmas, factor) == pytest.approx(1.1, abs=0.005)


def test_units_are_those_of_the_clean_source(report, data):
    """Root mean square 0.5 of clean chunks relative to the tool, the last action repeated past the end."""
    demonstrations = read_demonstrations(data[0])
    chunks = make_chunks(demonstrations, 16, "tool")
    rms = np.sqrt(np.mean(np.concatenate(chunks) ** 2))
    assert report.action_unit_m == pytest.approx(rms / 0.5)
    assert sum(report.sources[0].chunk_power) / 16 == pytest.approx(0.25)
    state, action = demonstrations.state[0], demonstrations.action[0]
    np.testing.assert_array_equal(chunks[0][2], action[2:18] - state[2])
    np.testing.assert_array_equal(chunks[0][-1], np.tile(action[-1] - state[-1], (16, 1)))
    np.testing.assert_array_equal(make_chunks(demonstrations, 4, "world")[0][3], action[3:7])


def test_windows_with_an_invalid_action_are_left_out(data):
    """As training leaves them out: a bad label at step 5 spoils the windows that reach it."""
    d = read_demonstrations(data[0])
    d.valid[0][5] = False
    chunks = make_chunks(d, 4, "tool")[0]
    now = [t for t in range(len(d.valid[0])) if not t <= 5 <= t + 3]
    np.testing.assert_array_equal(
        chunks,
        np.stack(
            [d.action[0][np.minimum(np.arange(t, t + 4), len(d.action[0]) - 1)] - d.state[0][t] for t in now]
        ),
    )


def test_a_source_compared_with_itself_differs_in_nothing(data, tmp_path):
    """Factor 1 at every level, hidden from 0 on; the names say which is which."""
    report = analyse_spectra(SpectraArgs(data=(data[0], data[0]), out=tmp_path))
    np.testing.assert_allclose(report.sources[1].largest_factor, 1, rtol=1e-6)
    assert report.sources[1].chunks_hidden_above == pytest.approx(0, abs=1e-6)
    assert report.sources[0].name == str(data[0])


def test_one_source_is_enough(data, tmp_path, capsys):
    """Then there is no difference to draw, and the next step says how to get one."""
    assert analyse.main(["spectra", "--data", str(data[0]), "--out", str(tmp_path / "a")]) == 0
    assert "the same with a corrupt folder" in capsys.readouterr().out
    assert (tmp_path / "a" / "spectra.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_writes_what_it_found(data, tmp_path, capsys):
    """A figure, a document that reads back with its settings, exponents on screen; twice the same bytes."""
    out = tmp_path / "a" / "b"
    words = ["spectra", "--data", *map(str, data), "--out", str(out), "--horizon", "8", "--tolerance", "0.2"]
    assert analyse.main([*words, "--segment-steps", "24"]) == 0
    said = capsys.readouterr().out
    report = read_document(out / "spectra.json", SpectraReport, "ambient_policy.spectra", 1, ConfigError)
    assert report.settings["horizon"] == 8
    assert report.settings["data"] == [str(folder) for folder in data]
    assert len(report.sources[1].chunk_power) == 8
    for source in report.sources:
        assert f"{source.name}: S ~ f^-{source.alpha:.2f} +- {source.alpha_error:.2f}" in said
    assert "alike within 20 % above sigma" in said
    assert "Next: open the figure; then ambient-policy annotate" in said
    first = {file.name: file.read_bytes() for file in out.iterdir()}
    assert set(first) == {"spectra.json", "spectra.png"}
    assert analyse.main([*words, "--segment-steps", "24"]) == 0
    assert {file.name: file.read_bytes() for file in out.iterdir()} == first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": ()}, "--data names no folder"),
        ({"horizon": 1}, "--horizon 1 needs 2 or more"),
        ({"tolerance": 0.0}, "--tolerance 0.0 a value above 0"),
        ({"segment_steps": 400}, r"none of 40 sequences has 401 valid steps in a row"),
        ({"band_hz": (4.9, 5.0)}, "band 4.9 to 5 Hz holds 1 of the 16 frequencies"),
    ],
)
def test_settings_that_cannot_work_are_refused(data, tmp_path, changes, message):
    """With the value and where to change it."""
    with pytest.raises(ConfigError, match=message):
        analyse_spectra(SpectraArgs(**({"data": data, "out": tmp_path} | changes)))


def test_folders_that_cannot_be_compared_are_refused(data, tmp_path):
    """No episodes, or another period: named, with what to do."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        EpisodeError, match="empty holds no episodes; make some with `ambient-policy collect`"
    ):
        analyse_spectra(SpectraArgs(data=(tmp_path / "empty",), out=tmp_path))
    fast = write(tmp_path / "fast", 2, period_s=0.05)
    with pytest.raises(
        EpisodeError, match=r"fast has 0.05 s a step and .*clean 0.1; frequencies need one period"
    ):
        analyse_spectra(SpectraArgs(data=(data[0], fast), out=tmp_path))


def test_the_manifold_command_draws_the_example(tmp_path, capsys):
    """Far apart at small noise, together at large noise, total variation below its bound at every level."""
    assert analyse.main(["manifold", "--out", str(tmp_path), "--draws", "500"]) == 0
    report = read_document(
        tmp_path / "manifold.json", ManifoldReport, "ambient_policy.manifold", 1, ConfigError
    )
    assert (tmp_path / "manifold.png").read_bytes().startswith(b"\x89PNG")
    assert report.gap_small > 0.5 * report.sigma_small
    assert report.gap_large < 0.02 * report.sigma_large
    assert report.mean_distance < 1e-9
    assert report.gap[-1] < 1e-3
    total, bound = np.array(report.total_variation), np.array(report.total_variation_bound)
    assert (total <= bound).all()
    assert total[0] > 0.7
    assert "the two denoisers differ by" in capsys.readouterr().out


def test_the_manifold_command_takes_a_user_s_points(tmp_path):
    """Noise levels follow the spread of the points, in their own unit; `gap` is that of these points."""
    rng = np.random.default_rng(0)
    clean, corrupt = 100 * rng.normal(size=(60, 2)), 100 * rng.normal(size=(40, 2)) + 30
    np.savetxt(tmp_path / "clean.csv", clean, delimiter=",")
    np.savez(tmp_path / "corrupt.npz", points=corrupt)
    args = ManifoldArgs(
        out=tmp_path,
        clean=tmp_path / "clean.csv",
        corrupt=tmp_path / "corrupt.npz",
        sigma_large=80.0,
        draws=50,
    )
    report, clouds = analyse_manifold(args)
    assert (report.clean_points, report.corrupt_points) == (60, 40)
    assert report.mean_distance == pytest.approx(np.linalg.norm(clean.mean(0) - corrupt.mean(0)), rel=1e-6)
    assert report.sigma_small == pytest.approx(0.12 * np.sqrt(clean.var(axis=0).sum()), rel=1e-6)
    expected = manifold.projection_gap(clouds, 80.0, 50, np.random.default_rng(0))
    assert report.gap_large == pytest.approx(expected)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--clean", "a.csv"], "--clean and --corrupt go together"),
        (["--draws", "0"], "--draws is 0, needs 1 or more"),
        (["--clean", "no.csv", "--corrupt", "no.csv"], "cannot read points from no.csv"),
        (["--sigma-small", "-1"], "sigma is -1.0, needs a value above 0"),
    ],
)
def test_manifold_arguments_that_cannot_work_are_refused(tmp_path, words, message):
    """One message each, and no file is left."""
    with pytest.raises(AmbientPolicyError, match=message):
        analyse.main(["manifold", "--out", str(tmp_path / "out"), *words])
    assert not (tmp_path / "out").exists()


def test_reports_are_plain_json(data, tmp_path):
    """No NaN or infinity: other programs must be able to read them."""
    one = write(tmp_path / "one", 1)
    report = analyse_spectra(SpectraArgs(data=(one,), out=tmp_path))
    assert report.sources[0].alpha_error is None
    assert report.clean_halves == ()

    def refuse(word: str) -> None:
        raise AssertionError(word)

    json.loads(report.model_dump_json(), parse_constant=refuse)
