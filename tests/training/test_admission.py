"""Methods as settings: what they admit, that they reduce to each other bit for bit, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from ambient_policy.annotation import Annotation, Bands, SourceAnnotation, write_annotation
from ambient_policy.errors import ConfigError, EpisodeError
from training.admission import make_bands
from training.batches import Batcher
from training.checkpoint import load_tensors
from training.config import METHODS, TrainConfig, load_config
from training.data import RunData, load_data, only_clean
from training.errors import TrainingError
from training.run import train
from training.sources import AdmitConfig, SourceConfig, TargetConfig

pytestmark = pytest.mark.train
CPU = torch.device("cpu")
LOW_DIM = ("cameras={}", "pretrain.steps=0", "aux_pose_weight=0")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two folders of demonstrations, of 4 and 12 episodes."""
    from tests.training.conftest import write_episodes

    root = tmp_path_factory.mktemp("sources")
    return str(write_episodes(root / "clean", 4)), str(write_episodes(root / "corrupt", 12, first_seed=100))


def config_of(folders: tuple[str, str], preset: str, *settings: str, annotation: Path | None = None):
    # A mapping is merged, so the cameras of the smoke config have to go one by one.
    config = load_config("smoke", folders, ("pretrain.steps=0", "aux_pose_weight=0", *settings), (preset,))
    data = config.data.model_copy(update={"annotation": annotation and str(annotation)})
    return config.model_copy(update={"cameras": {}, "data": data})


def annotate(folder: Path, config: TrainConfig, **changes: object) -> Path:
    """Write a table for the corrupt source: every third window all, none, or above 0.2, with lower bands."""
    plain = [
        s.model_copy(update={"admit": AdmitConfig(), "target": TargetConfig()}) for s in config.data.sources
    ]
    mixture = {"sources": tuple(plain), "mixture": "natural"}
    data = load_data(config.model_copy(update={"data": config.data.model_copy(update=mixture)}), CPU)
    frames = np.arange(data.caches[1].meta.steps)
    low = np.choose(frames % 3, [0.0, np.inf, 0.2])
    high = np.where(low == np.inf, 0.03, 0.0)
    sources = [
        SourceAnnotation(
            origin=Path(source.path).name,
            digest=str(entry["digest"]),
            role=source.role,
            windows=len(frames) if source.role == "corrupt" else 1,
            sigma_min=0.25 if source.role == "corrupt" else 0.0,
            mean_probability=(0.1, 0.5),
            per_window=source.role == "corrupt",
        )
        for source, entry in zip(data.sources, data.summary()["sources"], strict=True)
    ]
    values = {
        "commit": "test",
        "sigmas": (0.1, 1.0),
        "tau": 0.05,
        "horizon": config.windows.horizon,
        "relative_to": "tool",
        "action_scale": tuple(data.normalization.action.scale.tolist()),
        "observed": False,
        "how": {},
        "accuracy": (0.9, 0.5),
        "sources": tuple(sources),
        "mixture": (0.9, 0.3),
    }
    return write_annotation(folder, Annotation(**{**values, **changes}), (None, Bands(frames, low, high)))


def batches(config: TrainConfig, data: RunData, count: int = 3) -> list[dict[str, torch.Tensor]]:
    """Draw some batches the way training does."""
    batcher, rng = Batcher(data, data.train, config), torch.Generator().manual_seed(7)
    out = []
    for _ in range(count):
        drawn = batcher.draw(64, rng)
        batch = batcher.collect(drawn, rng)
        out.append({"chunk": batch.chunk, "state": batch.state, "sigma": drawn.levels.sigma})
    return out


def same(a: list[dict[str, torch.Tensor]], b: list[dict[str, torch.Tensor]]) -> bool:
    return all(torch.equal(x[key], y[key]) for x, y in zip(a, b, strict=True) for key in x)


def with_band(data: RunData, **levels: float) -> RunData:
    """Set bands of the corrupt windows."""
    first = data.train.counts[0]
    bands = {}
    for name, value in levels.items():
        column = getattr(data.train.bands, name).clone()
        column[first:] = value
        bands[name] = column
    return dataclasses.replace(
        data, train=dataclasses.replace(data.train, bands=dataclasses.replace(data.train.bands, **bands))
    )


def test_closed_bands_give_the_batches_of_clean_only(folders):
    """t_min = T and t_max = 0 of the papers; the units are those of the clean source in both."""
    ambient, clean = config_of(folders, "idea1"), config_of(folders[:1], "clean_only")
    closed = with_band(load_data(ambient, CPU), sigma_min=float("inf"), sigma_max=0.0)
    assert same(batches(ambient, closed), batches(clean, load_data(clean, CPU)))


def test_open_bands_give_the_batches_of_cotraining(folders):
    cotrain = config_of(folders, "cotrain")
    plain = batches(cotrain, load_data(cotrain, CPU))
    zero = config_of(folders, "idea1", "data.sources.1.admit.sigma_min=0")
    assert same(batches(zero, load_data(zero, CPU)), plain)
    open_below = with_band(load_data(cotrain, CPU), sigma_min=float("inf"), sigma_max=float("inf"))
    assert same(batches(cotrain, open_below), plain)


def test_no_corrupt_data_is_diffusion_policy(folders, tmp_path):
    """`clean_only` with and without the corrupt folder, and a config without roles: the same weights."""
    plain = load_config("smoke", folders[:1], ("pretrain.steps=0", "aux_pose_weight=0", "optim.steps=6"))
    runs = [
        config_of(folders, "clean_only", "optim.steps=6"),
        config_of(folders[:1], "clean_only", "optim.steps=6"),
        plain.model_copy(update={"cameras": {}}),
    ]
    weights = []
    for i, config in enumerate(runs):
        outcome = train(config, tmp_path / str(i))
        weights.append(load_tensors(outcome.checkpoint, "weights"))
    for other in weights[1:]:
        assert all(torch.equal(weights[0][key], other[key]) for key in weights[0].keys() | other.keys())


def test_no_prior_noise_is_plain_denoising(folders):
    """s_n = 0: ambient and rescaled ambient train on the very samples, levels and losses of idea 1."""
    for kind in ("ambient", "rescaled_ambient"):
        target = f"data.sources.1.target={{kind: {kind}}}"
        zero = config_of(folders, "idea1", "data.sources.1.admit.sigma_min=0", target)
        cotrain = config_of(folders, "cotrain")
        assert same(batches(zero, load_data(zero, CPU)), batches(cotrain, load_data(cotrain, CPU)))


def test_contraction_noise_is_drawn_once_and_has_its_level(folders, tmp_path):
    """The same window gets the same noise every time it is drawn; spread sigma_n; clean windows get none."""
    config = config_of(folders, "idea1", "data.sources.1.target={kind: ambient}")
    data = load_data(config, CPU)
    batcher = Batcher(data, data.train, config)
    first = data.train.counts[0]
    noise: dict[int, torch.Tensor] = {}
    rng = torch.Generator().manual_seed(0)
    for _ in range(30):
        drawn = batcher.draw(128, rng)
        added = batcher.collect(drawn, rng).chunk - batcher.gather(drawn.windows, None).chunk
        for window, delta, sigma_n in zip(drawn.windows.tolist(), added, drawn.levels.sigma_n, strict=True):
            if window < first:
                assert float(delta.abs().max()) == 0
                assert float(sigma_n) == 0
                continue
            assert float(sigma_n) == pytest.approx(0.3)
            torch.testing.assert_close(noise.setdefault(window, delta), delta)
    values = torch.cat([delta.flatten() for delta in noise.values()])
    assert len(noise) > 100
    assert float(values.std()) == pytest.approx(0.3, rel=0.03)
    again = load_data(config, CPU)
    assert torch.equal(again.frozen, data.frozen)


def test_without_contraction_samples_are_left_as_they_are(folders):
    config = config_of(folders, "idea2")
    data = load_data(config, CPU)
    batcher, rng = Batcher(data, data.train, config), torch.Generator().manual_seed(0)
    drawn = batcher.draw(512, rng)
    assert data.frozen is None
    assert torch.equal(batcher.collect(drawn, rng).chunk, batcher.gather(drawn.windows, None).chunk)
    assert float(drawn.levels.sigma_n.max()) == pytest.approx(0.3)


def test_the_buffer_keeps_rescaled_targets_away_from_sigma_n(folders):
    source = SourceConfig.model_validate(
        {"role": "corrupt", "admit": {"sigma_min": 0.3}, "target": {"kind": "rescaled_ambient", "bound": 2.0}}
    )
    bands = make_bands(source, np.arange(3))
    assert bands.sigma_min == pytest.approx(0.3 * np.sqrt(2))
    assert bands.sigma_n == pytest.approx(0.3)
    config = config_of(folders, "idea1", "data.sources.1.target={kind: rescaled_ambient, bound: 2.0}")
    data = load_data(config, CPU)
    drawn = Batcher(data, data.train, config).draw(20_000, torch.Generator().manual_seed(0))
    ours = drawn.levels.sigma_n > 0
    assert float(drawn.levels.sigma[ours].min()) >= 0.3 * np.sqrt(2)
    assert float(drawn.levels.rescale.max()) <= 2.0 + 1e-5


def test_levels_of_an_annotation_reach_their_windows(folders, tmp_path):
    """Per window, per dataset, and lower bands; a table lists windows by frame, training holds some out."""
    config = config_of(folders, "ambient_locality")
    table = annotate(tmp_path / "table", config)
    data = load_data(config_of(folders, "ambient_locality", annotation=table), CPU)
    now = data.train.now[data.train.counts[0] :].numpy() - data.caches[0].meta.steps
    bands = data.train.bands
    np.testing.assert_allclose(
        bands.sigma_min[data.train.counts[0] :], np.choose(now % 3, [0, np.inf, 0.2]), rtol=1e-6
    )
    np.testing.assert_allclose(
        bands.sigma_max[data.train.counts[0] :], np.where(now % 3 == 1, 0.03, 0), rtol=1e-6
    )
    whole = load_data(config_of(folders, "ambient_per_dataset", annotation=table), CPU)
    assert whole.train.bands.sigma_min[data.train.counts[0] :].unique().tolist() == pytest.approx([0.25])
    mixed = load_data(config_of(folders, "idea4_annotated", annotation=table), CPU)
    assert mixed.shares.at(torch.tensor([0.1, 1.0]))[:, 0].tolist() == pytest.approx([0.9, 0.3])


def test_fine_tuning_sees_clean_windows_alone(folders):
    config = config_of(folders, "cotrain_finetune")
    data = only_clean(load_data(config, CPU))
    drawn = Batcher(data, data.train, config).draw(5000, torch.Generator().manual_seed(0))
    assert int(drawn.windows.max()) < data.train.counts[0]
    assert len(drawn.windows.unique()) == data.train.counts[0]


def test_the_domain_flag_changes_what_the_network_sees(folders):
    from training.run import make_net

    config = config_of(folders, "cotrain_flag")
    net = make_net(config, CPU).eval().requires_grad_(False)
    data = load_data(config, CPU)
    batch = Batcher(data, data.train, config).gather(torch.tensor([0, data.train.counts[0]]), None)
    assert batch.source.tolist() == [0, 1]
    features = net.encode({}, batch.state.shape[:2])
    clean, corrupt = (net.condition(features, batch.state, torch.full((2,), i)) for i in (0, 1))
    assert not torch.allclose(clean, corrupt)
    assert torch.equal(net.condition(features, batch.state), clean)


@pytest.mark.parametrize("preset", sorted(p.stem for p in METHODS.glob("*.yaml")))
def test_every_preset_trains(folders, tmp_path, preset):
    """Six steps each, two noise levels an observation; finite losses are checked by the loop itself."""
    short = ("optim.steps=6", "diffusion.noise_per_obs=2")
    config = config_of(folders if preset != "known_noise" else folders[1:], preset, *short)
    if config.data.needs_annotation:
        config = config_of(folders, preset, *short, annotation=annotate(tmp_path / "table", config))
    if config.finetune.steps:
        config = config.model_copy(update={"finetune": config.finetune.model_copy(update={"steps": 3})})
    assert train(config, tmp_path / "run").finished


# What is refused, and how it is said.


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        (
            "data.sources.1.admit.sigma_mn=0.3",
            r"sources.1.admit.*sigma_mn: unknown key; did you mean `sigma_min`",
        ),
        (
            "data.sources.1.admit={sigma_min: 0.1, sigma_max: 0.4}",
            r"band is upside down: sigma_max 0.4 is above",
        ),
        (
            "data.sources.1.admit={sigma_min: none, sigma_max: none}",
            r"teaches nothing .* or write `admit: none`",
        ),
        ("data.sources.1.admit.sigma_min=-1", r"sigma_min.*greater than or equal to 0"),
        ("data.sources.1.target.kind=ambent", r"target.kind is 'ambent'"),
        ("data.sources.1.weight=0.7", r"must add up to 1"),
        ("data.sources.7.weight=0.7", r"`7` must be the number of an entry, 0 to 1"),
        (
            "data.weights_by_sigma=[{sigma: 1, weights: [0.5, 0.5]}]",
            r"`weights_by_sigma` and mixture: by_sigma go together",
        ),
        ("data.mixtur=natural", r"mixtur: unknown key; did you mean `mixture`"),
    ],
)
def test_bad_methods_are_refused(folders, setting, complaint):
    with pytest.raises(ConfigError, match=complaint):
        load_config("smoke", folders, (setting,), ("idea1",))


def test_unknown_presets_are_refused_with_the_nearest(folders):
    with pytest.raises(
        ConfigError, match=r"no preset at ambient_per_windw; .* did you mean `ambient_per_window`"
    ):
        load_config("smoke", folders, (), ("ambient_per_windw",))


def test_a_source_that_teaches_nothing_is_refused(folders):
    with pytest.raises(TrainingError, match=r"data.sources.1 .* has no admissible window at any noise level"):
        load_data(config_of(folders, "idea1", "data.sources.1.admit.sigma_min=90"), CPU)


def test_levels_that_nobody_teaches_are_refused(folders):
    with pytest.raises(
        TrainingError, match=r"no source teaches the noise levels \[0.002, 0.288\d*\].*above 0.288"
    ):
        load_data(config_of(folders[1:], "known_noise", "diffusion.sigma_min=0.002"), CPU)
    with pytest.raises(TrainingError, match=r"no source teaches the noise levels \[0.3, 0.5\]"):
        load_data(config_of(folders, "swap_contraction", "data.sources.1.admit.sigma_min=0.5"), CPU)


def test_a_method_that_needs_an_annotation_says_so(folders):
    with pytest.raises(TrainingError, match=r"none is given; make one with `ambient-policy annotate`"):
        load_data(config_of(folders, "ambient_per_window"), CPU)
    with pytest.raises(TrainingError, match=r"mixture `annotated` needs an annotation"):
        load_data(config_of(folders, "idea4_annotated"), CPU)


def test_a_table_of_other_data_chunks_or_units_is_refused(folders, tmp_path, write):
    config = config_of(folders, "ambient_per_window")
    table = annotate(tmp_path / "table", config)
    other = str(write(tmp_path / "other", 5, first_seed=900))
    with pytest.raises(TrainingError, match=r"is of another dataset: it knows clean .*annotate these data"):
        load_data(config_of((folders[0], other), "ambient_per_window", annotation=table), CPU)
    with pytest.raises(TrainingError, match=r"is of chunks of 8 actions .* config has 16 relative"):
        load_data(config_of(folders, "ambient_per_window", "windows.horizon=16", annotation=table), CPU)
    with pytest.raises(TrainingError, match=r"action unit of .* m and this run's"):
        load_data(config_of(folders, "ambient_per_window", "action.unit_m=0.5", annotation=table), CPU)


def test_actions_that_are_not_numbers_are_refused(tmp_path, write):
    from ambient_policy.episodes import write_episode
    from tests.training.conftest import make_episode

    episode = make_episode(0)
    episode.arrays["action"][3, 1] = np.nan
    with pytest.raises(EpisodeError, match=r"`action` has values that are not finite, from step 3 on"):
        write_episode(tmp_path, "bad", episode)


def test_state_that_the_episodes_lack_is_refused(folders):
    config = config_of(folders, "cotrain").model_copy(update={"state": {"goal": 2}})
    with pytest.raises(
        TrainingError, match=r"state.goal needs 2 numbers a step and .* they have action, priv"
    ):
        load_data(config, CPU)


def test_a_window_in_its_lower_band_is_taken_as_it_is(folders, tmp_path):
    """Ambient target and both bands: below sigma_max there is no prior noise, and none is added."""
    config = config_of(folders, "ambient_locality", "data.sources.1.target={kind: ambient}")
    table = annotate(tmp_path / "table", config)
    # Levels from the table do not overlap per window there; here every corrupt window gets both bands.
    data = with_band(
        load_data(
            config.model_copy(update={"data": config.data.model_copy(update={"annotation": str(table)})}), CPU
        ),
        sigma_min=0.5,
        sigma_max=0.2,
        sigma_n=0.5,
        contraction=0.5,
    )
    batcher, rng = Batcher(data, data.train, config), torch.Generator().manual_seed(0)
    drawn = batcher.draw(4000, rng)
    added = (batcher.collect(drawn, rng).chunk - batcher.gather(drawn.windows, None).chunk).abs().amax((1, 2))
    corrupt, low = drawn.windows >= data.train.counts[0], drawn.levels.sigma <= 0.2
    assert int((corrupt & low).sum()) > 100
    assert float(drawn.levels.sigma_n[corrupt & low].max()) == 0
    assert float(added[corrupt & low].max()) == 0
    assert drawn.levels.sigma_n[corrupt & ~low].unique().tolist() == [0.5]
    assert float(added[corrupt & ~low].min()) > 0


def test_corrupt_only_learns_from_corrupt_windows_in_the_units_of_the_clean_ones(folders):
    alone, both = config_of(folders, "corrupt_only"), config_of(folders, "cotrain")
    data = load_data(alone, CPU)
    assert data.train.counts[0] == 0
    assert sum(data.validation.counts[1:]) == 0
    expected = load_data(both, CPU).normalization
    np.testing.assert_array_equal(data.normalization.action.scale, expected.action.scale)
    frames = data.caches[0].meta.steps
    assert int(data.train_frames.min()) >= frames, "the pretext must not learn from clean frames either"
