"""The classifier of noisy chunks: what it sees, where it starts, and that it learns Bayes' answer."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.core.bayes_pair import BayesPair, sigmoid  # noqa: E402
from training.classifier import (  # noqa: E402
    ChunkClassifier,
    ClassifierSettings,
    Samples,
    draw_mask,
    train_classifier,
)
from training.errors import TrainingError  # noqa: E402

pytestmark = pytest.mark.train

SMALL = ClassifierSettings(width=32, depth=1, steps=250, batch=256, warmup=20, lr=3e-3)
GRID = torch.exp(torch.linspace(np.log(0.05), np.log(5.0), 8))


def samples(count: int, shift: float = 0.0, s0: float = 0.3, seed: int = 0, horizon: int = 6) -> Samples:
    chunk = s0 * torch.randn(count, horizon, 2, generator=torch.Generator().manual_seed(seed))
    chunk[:, 0, 0] += shift
    return Samples(chunk, torch.zeros(count, 0))


def logits(net: ChunkClassifier, chunk: torch.Tensor, sigma: float, mask: object = None) -> torch.Tensor:
    with torch.no_grad():
        return net(chunk[None], torch.tensor([sigma]), torch.zeros(1, len(chunk), 0), mask)[0]


@pytest.fixture(scope="module")
def trained() -> ChunkClassifier:
    rng = torch.Generator().manual_seed(0)
    return train_classifier(samples(4000), samples(4000, 1.0, seed=1), GRID, SMALL, rng)[-1]


def test_it_learns_the_bayes_logit(trained: ChunkClassifier) -> None:
    pair, rng = BayesPair(1.0, 0.3), torch.Generator().manual_seed(7)
    for sigma in (0.15, 0.5, 1.5):
        x = torch.cat([samples(500, seed=2).chunk, samples(500, 1.0, seed=3).chunk])
        x = x + sigma * torch.randn(x.shape, generator=rng)
        exact = sigmoid(-(pair.d * x[:, 0, 0].numpy() - 0.5) / (0.09 + sigma**2))
        found = sigmoid(logits(trained, x, sigma).numpy())
        assert np.abs(found - exact).mean() < 0.05
        assert np.corrcoef(found, exact)[0, 1] > 0.97


def test_drowned_chunks_cannot_be_told_apart(trained: ChunkClassifier) -> None:
    """The logit is scaled by the signal left, even far beyond the levels of training."""
    x = samples(500, 1.0).chunk
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    assert logits(trained, x + 5 * noise, 5.0).abs().mean() < 0.4
    assert logits(trained, x + 1000 * noise, 1000.0).abs().max() < 0.05


def test_it_starts_undecided() -> None:
    net = ChunkClassifier(samples(50), samples(50, 1.0), SMALL)
    assert (logits(net, samples(20).chunk, 0.1) == 0).all()


@pytest.mark.parametrize("sigma", [0.01, 0.3, 5.0])
def test_every_input_has_unit_variance_at_every_level(sigma: float) -> None:
    """Positions, velocities and accelerations of a smooth chunk differ a hundredfold before scaling."""
    rng = torch.Generator().manual_seed(0)
    chunk = torch.cumsum(torch.randn(20000, 6, 2, generator=rng), dim=1) * torch.tensor([0.5, 0.02])
    smooth = Samples(chunk, torch.zeros(len(chunk), 0))
    net = ChunkClassifier(smooth, smooth, SMALL)
    seen: list[torch.Tensor] = []
    net.enter.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    logits(net, chunk + sigma * torch.randn(chunk.shape, generator=rng), sigma)
    np.testing.assert_allclose(seen[0].square().mean(dim=(0, 1)), 1, atol=0.06)


def test_a_cropped_classifier_sees_its_crop_only() -> None:
    rng = torch.Generator().manual_seed(0)
    settings = dataclasses.replace(SMALL, steps=30)
    lengths = torch.full((len(GRID),), 3)
    (*_, net) = train_classifier(samples(500), samples(500, 1.0, seed=1), GRID, settings, rng, lengths)
    x = samples(40).chunk
    mask = torch.zeros(1, 40, 6, dtype=torch.bool)
    mask[..., 2:5] = True
    outside, inside = x.clone(), x.clone()
    outside[:, [0, 1, 5]] += 10
    inside[:, 3] += 10
    before = logits(net, x, 0.1, mask)
    torch.testing.assert_close(logits(net, outside, 0.1, mask), before, rtol=0, atol=0)
    assert (logits(net, inside, 0.1, mask) != before).all()


def test_crops_have_their_length_and_lie_anywhere() -> None:
    mask = draw_mask(torch.tensor([1, 4, 6]), 3000, 6, torch.Generator().manual_seed(0))
    assert mask.shape == (3, 3000, 6)
    np.testing.assert_array_equal(mask.sum(-1), np.array([[1], [4], [6]]).repeat(3000, 1))
    edges = mask.int().diff(dim=-1).abs().sum(-1)
    assert edges.max() <= 2, "a crop is one piece"
    starts = mask.int().argmax(-1)
    np.testing.assert_allclose(torch.bincount(starts[0]) / 3000, np.full(6, 1 / 6), atol=0.03)
    np.testing.assert_allclose(torch.bincount(starts[1]) / 3000, np.full(3, 1 / 3), atol=0.04)


def test_the_same_generator_gives_the_same_weights_and_leaves_torch_alone() -> None:
    settings = dataclasses.replace(SMALL, steps=5)
    torch.manual_seed(123)
    untouched = torch.rand(3)
    torch.manual_seed(123)
    nets = [
        train_classifier(
            samples(50), samples(50, 1.0, seed=1), GRID, settings, torch.Generator().manual_seed(4)
        )[-1]
        for _ in range(2)
    ]
    torch.testing.assert_close(torch.rand(3), untouched, rtol=0, atol=0)
    for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_snapshots_are_earlier_states_of_the_same_training() -> None:
    settings = dataclasses.replace(SMALL, steps=20, snapshots=(0.25, 1.0))

    def train(chosen: ClassifierSettings) -> list[ChunkClassifier]:
        rng = torch.Generator().manual_seed(4)
        return train_classifier(samples(50), samples(50, 1.0, seed=1), GRID, chosen, rng)

    early, late = train(settings)
    (only,) = train(dataclasses.replace(settings, snapshots=(1.0,)))
    torch.testing.assert_close(late.state_dict(), only.state_dict(), rtol=0, atol=0)
    assert (early.enter.weight != late.enter.weight).any()


def test_training_that_cannot_work_is_an_error() -> None:
    rng = torch.Generator().manual_seed(0)
    with pytest.raises(TrainingError, match="1 corrupt window"):
        train_classifier(samples(50), samples(1), GRID, SMALL, rng)
    settings = dataclasses.replace(SMALL, steps=5, warmup=1, lr=float("inf"))
    with pytest.raises(TrainingError, match="diverged"):
        train_classifier(samples(50), samples(50, 1.0, seed=1), GRID, settings, rng)
