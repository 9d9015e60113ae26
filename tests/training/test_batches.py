"""Batches: padding at an episode's edges, shares of the sources, augmentation, repeatable draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.batches import Batcher, augment
from training.config import AugmentConfig, load_config
from training.data import load_data
from training.errors import TrainingError

pytestmark = pytest.mark.train
CPU = torch.device("cpu")


def test_edges_repeat_the_first_observation_and_the_last_command(smoke):
    """Every training window against the arrays of its episode."""
    data = load_data(smoke, CPU)
    batcher = Batcher(data, data.train, smoke)
    windows = torch.arange(len(data.train.now))
    batch = batcher.gather(windows, None)
    low, normalization = data.caches[0].lowdim, data.normalization
    state, action = low["state"], low["action"]
    for i in range(len(windows)):
        now, first, last = (int(getattr(data.train, key)[i]) for key in ("now", "first", "last"))
        seen = [max(first, now - 1), now]
        np.testing.assert_allclose(batch.state[i], normalization.state.apply(state[seen]), atol=1e-6)
        labels = [min(now + k, last) for k in range(smoke.windows.horizon)]
        relative = action[labels] - state[now]
        np.testing.assert_allclose(batch.chunk[i], normalization.action.apply(relative), atol=1e-5)
        for camera, images in data.caches[0].images.items():
            np.testing.assert_array_equal(batch.images[camera][i], images[seen])


def test_held_out_episodes_share_no_frame_with_training(smoke):
    data = load_data(smoke, CPU)
    assert not set(data.train_frames.tolist()) & set(data.validation_frames.tolist())
    assert set(data.validation.now.tolist()) <= set(data.validation_frames.tolist())
    assert len(data.train_frames) + len(data.validation_frames) == len(data.frames)
    assert len(data.validation_frames) == 2 * 20  # a fifth of ten episodes


def test_normalised_actions_have_the_spread_that_the_noise_levels_assume(smoke):
    """Over all windows, held-out ones too: a unit must not depend on which episodes a seed holds out."""
    data = load_data(smoke, CPU)
    every = [
        Batcher(data, table, smoke).gather(torch.arange(len(table.now)), None).chunk
        for table in (data.train, data.validation)
    ]
    chunk = torch.cat(every)
    assert float(chunk.square().mean().sqrt()) == pytest.approx(0.5, abs=1e-5)
    assert data.normalization.sigma_data == pytest.approx(0.5)


@pytest.mark.parametrize("alpha", [0.25, 0.9, None])
def test_shares_of_a_batch_are_the_weights(write, tmp_path, alpha):
    """Two sources of very different size: `weights` decides, `natural` follows the number of windows."""
    few, many = write(tmp_path / "few", 2), write(tmp_path / "many", 8, first_seed=100)
    settings: tuple[str, ...] = ()
    if alpha is not None:
        sources = f"[{{weight: {alpha}}}, {{weight: {1 - alpha}}}]"
        settings = (f"data={{mixture: weights, sources: {sources}}}",)
    config = load_config("smoke", (str(few), str(many)), settings)
    data = load_data(config, CPU)
    drawn = Batcher(data, data.train, config).draw(20_000, torch.Generator().manual_seed(0)).windows
    share = float((drawn < data.train.counts[0]).double().mean())
    natural = data.train.counts[0] / sum(data.train.counts)
    assert share == pytest.approx(natural if alpha is None else alpha, abs=0.015)
    assert int(drawn.min()) == 0
    assert int(drawn.max()) == sum(data.train.counts) - 1


def test_one_state_of_the_generator_gives_one_batch(smoke):
    data = load_data(smoke, CPU)
    batcher = Batcher(data, data.train, smoke)
    rng = torch.Generator().manual_seed(5)
    rng_again = torch.Generator()
    rng_again.set_state(rng.get_state())
    one = batcher.collect(batcher.draw(8, rng), rng)
    two = batcher.collect(batcher.draw(8, rng_again), rng_again)
    assert torch.equal(one.chunk, two.chunk)
    assert torch.equal(one.images["wrist"], two.images["wrist"])


def test_a_shift_moves_all_frames_of_a_sample_alike_and_repeats_the_border():
    """Found again by trying every shift."""
    frame = torch.arange(6 * 7).reshape(6, 7, 1).expand(6, 7, 3)
    images = torch.stack([frame, frame + 100]).to(torch.uint8).expand(4, 2, 6, 7, 3)
    moved = augment(images, AugmentConfig(shift_px=2), torch.Generator().manual_seed(1))
    padded = np.pad(frame[..., 0].numpy(), 2, mode="edge")
    found = set()
    for sample in moved:
        matches = [
            (dy, dx)
            for dy in range(5)
            for dx in range(5)
            if np.array_equal(padded[dy : dy + 6, dx : dx + 7], sample[0, ..., 0])
        ]
        assert len(matches) == 1
        assert torch.equal(sample[1], sample[0] + 100)
        found.add(matches[0])
    assert len(found) > 1


def test_looks_differ_between_samples_and_agree_within_one():
    images = torch.full((3, 2, 4, 4, 3), 100, dtype=torch.uint8)
    seen = augment(images, AugmentConfig(brightness=0.1, colour=0.1), torch.Generator().manual_seed(0))
    assert torch.equal(seen[:, 0], seen[:, 1])
    assert len({tuple(pixel.tolist()) for pixel in seen[:, 0, 0, 0]}) == 3
    assert float(seen.min()) >= 0
    assert float(seen.max()) <= 255
    assert torch.equal(augment(images, AugmentConfig(), torch.Generator()), images)


def test_data_without_the_objects_pose_cannot_feed_the_pretext(write, tmp_path):
    demos = write(tmp_path / "real", 3, pose=False)
    config = load_config("smoke", (str(demos),))
    with pytest.raises(TrainingError, match=r"episodes of real carry no `privileged_slider_pose`"):
        load_data(config, CPU)
