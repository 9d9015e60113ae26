"""Annotation against known truth: hiding folds, calibration against memorising, thresholds, the command."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import training.annotate_scores as scoring_module  # noqa: E402
from ambient_policy.annotation import AnnotationError, read_annotation  # noqa: E402
from ambient_policy.episodes import Episode, read_episode, write_episode  # noqa: E402
from ambient_policy.thresholds import find_sigma_min, noise_grid, smoothing  # noqa: E402
from tests.core.bayes_pair import BayesPair, sigmoid  # noqa: E402
from tests.training.conftest import make_episode  # noqa: E402
from training.annotate import main  # noqa: E402
from training.annotate_bands import BandSettings, annotate  # noqa: E402
from training.annotate_scores import Pool, ScoreSettings, cross_fit, deal_folds, fit_calibration  # noqa: E402
from training.annotate_sources import bare_config, pool_of, read_sources  # noqa: E402
from training.classifier import ClassifierSettings, Samples  # noqa: E402
from training.config import TrainConfig, load_config  # noqa: E402
from training.errors import TrainingError  # noqa: E402

pytestmark = pytest.mark.train

GRID = noise_grid(0.02, 8.0, 10)
SMALL = ClassifierSettings(width=48, depth=1, steps=250, batch=256, warmup=10, lr=3e-3)
TWO = ScoreSettings(folds=2)
HORIZON = 6


def pool(episodes: int, windows: int, shift: float, s0: float, seed: int) -> Pool:
    rng = torch.Generator().manual_seed(seed)
    chunk = s0 * torch.randn(episodes * windows, HORIZON, 2, generator=rng)
    chunk[:, 0, 0] += shift
    samples = Samples(chunk, torch.zeros(len(chunk), 0))
    return Pool(samples, np.repeat(np.arange(episodes), windows))


def levels_of(probability: np.ndarray, tau: float = 0.05) -> np.ndarray:
    return find_sigma_min(GRID, probability @ smoothing(GRID, 0.25).T, tau)


# --- folds and draws, with classifiers whose answer is known


class Memory(torch.nn.Module):
    """Says "clean" with certainty to what it was trained on and "corrupt" to anything else."""

    horizon = HORIZON

    def __init__(self, parts: tuple[Samples, Samples]) -> None:
        super().__init__()
        self.known = torch.cat([part.chunk for part in parts])[:, 0, 0]

    def forward(self, x: torch.Tensor, sigma: torch.Tensor, state: object, mask: object) -> torch.Tensor:
        known = torch.isclose(x[..., 0, 0, None], self.known, atol=1e-4, rtol=0).any(-1)
        return torch.where(known, 40.0, -40.0)


def memorise(monkeypatch: pytest.MonkeyPatch, folds: int) -> scoring_module.Scores:
    monkeypatch.setattr(
        scoring_module, "train_classifier", lambda clean, corrupt, *_: [Memory((clean, corrupt))] * 4
    )
    clean, corrupt = pool(6, 4, 0, 1.0, 0), pool(9, 4, 100, 1.0, 1)
    settings = ScoreSettings(folds=folds, calibrate=False)
    return cross_fit(clean, corrupt, np.array([1e-7, 2e-7]), SMALL, settings, 0)


@pytest.mark.parametrize("folds", [2, 3, 6])
def test_no_window_is_scored_by_a_classifier_that_knows_it(
    monkeypatch: pytest.MonkeyPatch, folds: int
) -> None:
    scores = memorise(monkeypatch, folds)
    assert (scores.clean < 1e-6).all()
    assert (scores.corrupt < 1e-6).all()
    np.testing.assert_allclose(scores.accuracy, 0.5)


def test_one_fold_shows_what_memorising_does(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = memorise(monkeypatch, 1)
    assert (scores.clean > 1 - 1e-6).all()
    assert (scores.corrupt > 1 - 1e-6).all()


def test_episodes_are_dealt_whole_and_evenly() -> None:
    episode = np.repeat([3, 5, 8, 9, 11, 20, 21], [1, 9, 2, 5, 5, 3, 1])
    fold = deal_folds(episode, 3, np.random.default_rng(0))
    sizes = [len({*episode[fold == k].tolist()}) for k in range(3)]
    assert sorted(sizes) == [2, 2, 3]
    for name in np.unique(episode):
        assert len(set(fold[episode == name].tolist())) == 1
    with pytest.raises(TrainingError, match="7 episode\\(s\\) with usable windows for 8 folds"):
        deal_folds(episode, 8, np.random.default_rng(0))


def test_opposite_draws_cancel_what_is_linear_in_the_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a logit linear in x, slight against 1, the mean over a pair is that of the chunk without noise."""

    class Linear(torch.nn.Module):
        horizon = HORIZON

        def forward(self, x: torch.Tensor, sigma: torch.Tensor, state: object, mask: object) -> torch.Tensor:
            return 1e-3 * x.sum(dim=(-1, -2))

    monkeypatch.setattr(scoring_module, "train_classifier", lambda *_: [Linear()] * 4)
    clean, corrupt = pool(4, 5, 0, 1.0, 0), pool(4, 5, 1, 1.0, 1)
    raw = ScoreSettings(folds=2, calibrate=False)
    scores = cross_fit(clean, corrupt, np.array([1.0, 10.0]), SMALL, raw, 0)
    exact = sigmoid(1e-3 * corrupt.samples.chunk.sum(dim=(1, 2)).numpy())
    np.testing.assert_allclose(scores.corrupt, np.stack([exact, exact], 1), atol=1e-5)


def test_impossible_draws_and_folds_are_refused() -> None:
    clean, corrupt = pool(4, 5, 0, 1.0, 0), pool(4, 5, 1, 1.0, 1)
    for draws in (1, 3, 0):
        with pytest.raises(TrainingError, match=f"draws is {draws}, needs an even number"):
            cross_fit(clean, corrupt, GRID, SMALL, ScoreSettings(draws=draws), 0)
    with pytest.raises(TrainingError, match="folds is 0"):
        cross_fit(clean, corrupt, GRID, SMALL, ScoreSettings(folds=0), 0)


# --- calibration


def test_calibration_finds_the_slope_and_offset_that_were_put_in() -> None:
    """True logits m^2/2 + m z and -m^2/2 + m z; the classifier reports (true - offset) / slope."""
    rng, m = np.random.default_rng(0), np.array([0.5, 1.0, 2.0])
    slope, offset = np.array([0.3, 1.0, 2.5]), np.array([1.0, -0.5, 0.0])
    z = rng.standard_normal((2, 2, 40_000, 3))
    clean, corrupt = ((sign * m**2 / 2 + m * part - offset) / slope for sign, part in ((1, z[0]), (-1, z[1])))
    fitted = fit_calibration(clean, corrupt)
    np.testing.assert_allclose(fitted[0], slope, rtol=0.06)
    np.testing.assert_allclose(fitted[1], offset, atol=0.04)
    means = [sigmoid(fitted[0] * g + fitted[1]).mean(axis=(0, 1)) for g in (clean, corrupt)]
    np.testing.assert_allclose(means[0] + means[1], 1, atol=2e-3)


def test_calibration_undoes_memorising_and_survives_separable_classes() -> None:
    rng = np.random.default_rng(0)
    same = rng.standard_normal((2, 2, 3000, 1)) * 4 - 6  # both classes look corrupt, and alike
    fitted = fit_calibration(same[0], same[1])
    probability = sigmoid(fitted[0] * same + fitted[1])
    np.testing.assert_allclose(probability.mean(axis=(1, 2)), 0.5, atol=2e-3)
    assert probability.std() < 0.02
    backwards = fit_calibration(same[0] - 2, same[1] + 2)
    np.testing.assert_allclose(backwards, 0, atol=1e-6)
    apart = fit_calibration(same[0] + 100, same[1] - 100)
    assert np.isfinite(apart).all()
    assert apart[0] > 0.5


# --- thresholds of trained classifiers


@pytest.fixture(scope="module")
def shifted() -> tuple[BayesPair, Pool, scoring_module.Scores]:
    pair = BayesPair(1.0, 0.3)
    clean, corrupt = pool(50, 20, 0, 0.3, 0), pool(2000, 3, 1.0, 0.3, 1)
    return pair, corrupt, cross_fit(clean, corrupt, GRID, SMALL, TWO, 0)


def test_fifty_against_two_thousand_finds_the_level_of_the_dataset(
    shifted: tuple[BayesPair, Pool, scoring_module.Scores],
) -> None:
    pair, _, scores = shifted
    found = float(levels_of(scores.corrupt.mean(axis=0)))
    assert found == pytest.approx(pair.sigma_min(0.05), rel=0.15)


def test_it_finds_the_level_of_every_window(shifted: tuple[BayesPair, Pool, scoring_module.Scores]) -> None:
    pair, corrupt, scores = shifted
    u = corrupt.samples.chunk[:300, 0, 0].numpy()
    true = np.array([pair.window_sigma_min(x, 0.05) for x in u])
    found = levels_of(scores.corrupt[:300])
    far = true > 0.3
    assert far.mean() > 0.8
    assert np.median(np.abs(np.log(np.maximum(found[far], 1e-3) / true[far]))) < 0.2
    rank = np.corrcoef(*(np.argsort(np.argsort(levels[far])) for levels in (found, true)))[0, 1]
    assert rank > 0.85


def test_an_unbalanced_classifier_never_crosses(
    shifted: tuple[BayesPair, Pool, scoring_module.Scores],
) -> None:
    """Drawn as they come, 50 against 2000, even the exact classifier says .024 of drowned chunks."""
    pair, _, scores = shifted
    x, weight = np.polynomial.hermite_e.hermegauss(80)
    m = pair.d / np.hypot(pair.s0, GRID)[:, None]
    prior = np.log(50 / 2000)
    exact = (sigmoid(-(m * x + m**2 / 2) + prior) * weight / weight.sum()).sum(-1)
    assert exact[-1] == pytest.approx(50 / 2050, abs=0.005)
    assert levels_of(exact) == np.inf
    assert levels_of(exact, 0.45) == np.inf
    assert scores.corrupt.mean(axis=0)[-1] == pytest.approx(0.5, abs=0.01)


def test_equal_sources_teach_everything_but_only_once_memorising_is_undone() -> None:
    """Few clean windows of many entries: unseen ones look corrupt to a classifier that knows the others."""
    clean, corrupt = pool(20, 4, 0, 0.3, 0), pool(200, 4, 0, 0.3, 1)
    settings = dataclasses.replace(SMALL, steps=300)
    raw, corrected = (
        cross_fit(clean, corrupt, GRID, settings, ScoreSettings(folds=2, calibrate=c), 0)
        for c in (False, True)
    )
    assert raw.corrupt.mean(axis=0)[0] < 0.4, "nothing was memorised, so the test has lost its point"
    assert levels_of(raw.corrupt.mean(axis=0)) > 0
    mean = corrected.corrupt.mean(axis=0)
    np.testing.assert_allclose(mean, 0.5, atol=0.015)
    assert levels_of(mean, 0.02) == 0
    # What is left is the chance of eighty clean windows, and much less than what memorising did.
    shares = [np.mean(levels_of(scores.corrupt) == 0) for scores in (raw, corrected)]
    assert shares[0] < 0.2
    assert shares[1] > 0.6


def test_the_snapshot_is_the_one_that_tells_unseen_windows_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first snapshot knows the classes at low noise, the second at high noise, the others nothing."""

    class Part(torch.nn.Module):
        horizon = HORIZON

        def __init__(self, below: float, above: float) -> None:
            super().__init__()
            self.gain = (below, above)

        def forward(self, x: torch.Tensor, sigma: torch.Tensor, state: object, mask: object) -> torch.Tensor:
            return (5 - x[..., 0, 0]) * self.gain[int(sigma[0] > 0.01)]

    parts = [Part(1, 0), Part(0, 1), Part(0, 0), Part(0, 0)]
    monkeypatch.setattr(scoring_module, "train_classifier", lambda *_: parts)
    clean, corrupt = pool(4, 5, 0, 1.0, 0), pool(4, 5, 10, 1.0, 1)
    scores = cross_fit(clean, corrupt, np.array([0.001, 0.1]), SMALL, TWO, 0)
    np.testing.assert_array_equal(scores.steps, np.round(np.array(SMALL.snapshots[:2]) * SMALL.steps))
    assert (scores.accuracy > 0.99).all()
    assert (scores.corrupt < 0.1).all()


# --- sources and the command


def numbers(*settings: str) -> TrainConfig:
    return load_config("smoke", (), ("pretrain.steps=0", "aux_pose_weight=0", "cameras={}", *settings))


def walk(seed: int, shake: float) -> Episode:
    """Make a motion from numbers alone: a smooth approach, its commands shaken by `shake` metres."""
    episode = make_episode(seed, steps=12)
    noise = shake * np.random.default_rng(seed).standard_normal((12, 2))
    arrays = {**episode.arrays, "action": episode.arrays["action"] + noise}
    return Episode(episode.meta.model_copy(update={"cameras": {}}), arrays)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Give smooth demonstrations, and others of which every second one shakes."""
    root = tmp_path_factory.mktemp("two")
    for seed in range(40):
        write_episode(root / "clean", f"ep{seed:02d}", walk(seed, 0))
        write_episode(root / "corrupt", f"ep{seed:02d}", walk(100 + seed, 0.04 * (seed % 2)))
    return root / "clean", root / "corrupt"


def run(two: tuple[Path, Path], out: Path, *further: str) -> int:
    few = ["--steps", "120", "--width", "48", "--levels", "8", "--batch", "256", "--folds", "2"]
    return main(["smoke", "--data", *map(str, two), "--out", str(out), *few, "--lr", "0.003", *further])


def test_the_command_annotates_every_window_and_says_what_is_next(
    two: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(two, tmp_path / "bands") == 0
    said = capsys.readouterr().out
    assert "next: ambient-policy train smoke --preset ambient_per_window --data" in said
    assert "mm)" in said
    annotation, (none, bands) = read_annotation(tmp_path / "bands")
    config = bare_config(numbers(), tuple(map(str, two)))
    sources, normalizer = read_sources(config, torch.device("cpu"), None, observed=False)
    assert none is None
    assert bands is not None
    assert [s.digest for s in annotation.sources] == [s.digest for s in sources]
    np.testing.assert_array_equal(bands.frames, sources[1].frames)
    assert annotation.action_scale == tuple(normalizer.scale)
    assert (annotation.horizon, annotation.relative_to) == (8, "tool")
    assert {p.name for p in (tmp_path / "bands").glob("*.png")} == {
        "curves_1.png",
        "histogram_1.png",
        "windows_1.png",
    }
    source = annotation.sources[1]
    assert source.share_all == np.mean(bands.sigma_min == 0)
    assert source.share_none == np.mean(np.isinf(bands.sigma_min))
    shakes = sources[1].episode % 2 == 1
    assert np.median(bands.sigma_min[shakes]) > 0.05
    assert np.median(bands.sigma_min[~shakes]) == 0
    natural = len(sources[0].frames) / sum(len(s.frames) for s in sources)
    assert all(natural <= share <= 1 for share in annotation.mixture)
    how = json.loads((tmp_path / "bands" / "annotation.json").read_text())["how"]
    assert how["classifier"]["steps"] == 120
    with pytest.raises(AnnotationError, match="is there already"):
        run(two, tmp_path / "bands")


def test_the_same_seed_gives_the_same_probabilities() -> None:
    clean, corrupt = pool(6, 4, 0, 0.3, 0), pool(8, 4, 1, 0.3, 1)
    settings = dataclasses.replace(SMALL, steps=20)
    a, b, c = (cross_fit(clean, corrupt, GRID, settings, TWO, seed).corrupt for seed in (3, 3, 4))
    np.testing.assert_array_equal(a, b)
    assert (a != c).mean() > 0.9


def test_cameras_and_methods_of_a_config_do_not_matter(two: tuple[Path, Path]) -> None:
    config = bare_config(load_config("smoke", (), (), ("ambient_per_window",)), tuple(map(str, two)))
    assert config.cameras == {}
    assert [source.role for source in config.data.sources] == ["clean", "corrupt"]
    sources, _ = read_sources(config, torch.device("cpu"), None, observed=False)
    assert sources[0].samples.state.shape[1] == 0
    observed, _ = read_sources(config, torch.device("cpu"), None, observed=True)
    assert observed[0].samples.state.shape[1] == 4


def test_chunks_are_the_trainers(two: tuple[Path, Path]) -> None:
    """The same windows through the trainer's own batches, normalised units and order included."""
    from training.batches import Batcher
    from training.data import load_data

    config = bare_config(numbers(), tuple(map(str, two)))
    sources, _ = read_sources(config, torch.device("cpu"), None, observed=True)
    data = load_data(config, torch.device("cpu"))
    index = torch.arange(0, sum(data.train.counts), 7)
    batch = Batcher(data, data.train, config).gather(index, None)
    steps = data.caches[0].meta.steps
    ours = {int(f): i for i, f in enumerate(sources[0].frames)}
    ours |= {int(f) + steps: i + len(sources[0].frames) for i, f in enumerate(sources[1].frames)}
    place = [ours[int(now)] for now in data.train.now[index]]
    both = pool_of(sources)
    torch.testing.assert_close(both.samples.chunk[place], batch.chunk)
    torch.testing.assert_close(both.samples.state[place], batch.state.flatten(1))
    assert len(np.unique(both.episode)) == 80


@pytest.mark.parametrize(
    ("settings", "paths", "complaint"),
    [
        ((), ("one",), "no source has role: corrupt"),
        (("data.sources=[{role: corrupt}, {role: corrupt}]",), ("a", "b"), "no source has role: clean"),
        (("data.sources=[{role: clean}, {role: corrupt}]",), ("a", "b", "c"), "names 3 folder\\(s\\)"),
    ],
)
def test_sources_that_cannot_be_compared_are_refused(
    settings: tuple[str, ...], paths: tuple[str, ...], complaint: str
) -> None:
    with pytest.raises(TrainingError, match=complaint):
        bare_config(numbers(*settings), paths)


def test_what_was_observed_can_tell_sources_apart(two: tuple[Path, Path], tmp_path: Path) -> None:
    """Equal motions at other places: alike for actions alone, never alike for one that sees where."""
    moved = tmp_path / "moved"
    for path in sorted(two[0].iterdir()):
        episode = read_episode(path, cameras=())
        arrays = {k: v + 1.0 if k in ("state", "action") else v for k, v in episode.arrays.items()}
        write_episode(moved, path.name, dataclasses.replace(episode, arrays=arrays))
    shares = {}
    for flag in ("--observed", "--no-observed"):
        run((two[0], moved), tmp_path / flag, flag, "--no-locality")
        source = read_annotation(tmp_path / flag)[0].sources[1]
        shares[flag] = (source.share_all, source.share_none)
    assert shares["--no-observed"][0] > 0.8
    assert shares["--observed"][1] > 0.95


def test_several_corrupt_sources_are_judged_apart(two: tuple[Path, Path]) -> None:
    """Clean episodes offered as a second corrupt source teach everything, whatever the first is like."""
    config = bare_config(numbers(), (str(two[0]), str(two[1]), str(two[0])))
    sources, normalizer = read_sources(config, torch.device("cpu"), None, observed=False)
    annotation, bands, judgements = annotate(
        config,
        sources,
        normalizer.scale.tolist(),
        BandSettings(levels=8, locality=False),
        TWO,
        dataclasses.replace(SMALL, steps=120),
        observed=False,
        seed=0,
    )
    assert [band is None for band in bands] == [True, False, False]
    assert judgements[0] is None
    assert annotation.sources[1].sigma_min > 0.05
    assert annotation.sources[2].sigma_min == 0


def test_crops_as_long_as_the_chunk_are_not_judged_twice(
    two: tuple[Path, Path], make_crops: Callable[[float], tuple]
) -> None:
    trivial, annotation = make_crops(1e-9)
    assert set(annotation.receptive_field) == {8}
    assert trivial.crops is trivial.whole
    short, annotation = make_crops(5.0)
    assert annotation.receptive_field[0] < 8
    assert short.crops is not short.whole
    source = annotation.sources[1]
    assert len(source.mean_crop_probability) == 8
    assert source.mean_crop_probability != source.mean_probability


@pytest.fixture
def make_crops(two: tuple[Path, Path]) -> Callable[[float], tuple]:
    config = bare_config(numbers(), tuple(map(str, two)))
    sources, normalizer = read_sources(config, torch.device("cpu"), None, observed=False)

    def make(tolerance: float) -> tuple:
        settings = BandSettings(levels=8, tolerance=tolerance)
        few = dataclasses.replace(SMALL, steps=30)
        annotation, _, judgements = annotate(
            config,
            sources,
            normalizer.scale.tolist(),
            settings,
            TWO,
            few,
            observed=False,
            seed=0,
        )
        return judgements[1], annotation

    return make
