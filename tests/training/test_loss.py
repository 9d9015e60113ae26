"""Noise arithmetic in torch against the numpy core and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ambient_policy import noise
from training.batches import draw_sigma
from training.config import DiffusionConfig, TrainConfig, load_config
from training.ema import EMA, ema_decay
from training.loop import StepSettings, learning_rate
from training.loss import denoising_loss
from training.policy import PolicyNet, denoise, preconditioning
from training.targets import Levels

pytestmark = pytest.mark.train
SIGMAS = torch.tensor([0.002, 0.02, 0.3, 0.5, 2.5, 80.0])


@pytest.fixture(scope="module")
def config() -> TrainConfig:
    return load_config("smoke")


@pytest.fixture(scope="module")
def net(config: TrainConfig) -> PolicyNet:
    torch.manual_seed(0)
    net = PolicyNet(config)
    for (
        parameter
    ) in net.denoiser.modulation.parameters():  # zero at the start: no dependence on the condition
        nn.init.normal_(parameter, std=0.3)
    return net.requires_grad_(False)


def test_preconditioning_is_the_cores():
    ours = preconditioning(SIGMAS.double(), 0.47)
    for mine, core in zip(ours, noise.preconditioning(SIGMAS.double().numpy(), 0.47), strict=True):
        np.testing.assert_allclose(mine.numpy(), core, rtol=1e-12)


def test_loss_is_the_weighted_error_of_the_clean_guess(net, config):
    """lambda(sigma) |D - x0|^2 with the core's lambda, level by level."""
    chunk, z = torch.randn(2, len(SIGMAS), config.windows.horizon, 2).unbind(0)
    condition = torch.randn(len(SIGMAS), config.network.denoiser.condition)
    loss = denoising_loss(net, chunk, condition, Levels(SIGMAS), z, 0.5)
    guess = denoise(net, chunk + SIGMAS[:, None, None] * z, SIGMAS, condition, 0.5)
    error = (guess - chunk).square().mean(dim=(1, 2)).numpy()
    # At 0.002 the clean guess carries the rounding of c_skip x, which the weight of 250 000 magnifies.
    np.testing.assert_allclose(loss[1:], (noise.loss_weight(SIGMAS.numpy(), 0.5) * error)[1:], rtol=2e-3)


def test_drawn_levels_have_the_stated_distribution():
    config = DiffusionConfig(log_sigma_mean=-1.0, log_sigma_std=0.7, sigma_min=0.1, sigma_max=2.0)
    sigma = draw_sigma(40_000, config, torch.Generator().manual_seed(0))
    assert float(sigma.min()) == pytest.approx(0.1)
    assert float(sigma.max()) == pytest.approx(2.0)
    assert float(sigma.log().median()) == pytest.approx(-1.0, abs=0.02)
    quartiles = torch.quantile(sigma.log(), torch.tensor([0.25, 0.75]))
    assert float(quartiles[1] - quartiles[0]) == pytest.approx(0.7 * 1.349, rel=0.03)


def test_average_is_the_weighted_sum_of_all_weights_it_saw():
    """ema_n = sum_k (1 - d_k) prod_(j>k) d_j w_k + prod_j d_j w_0."""
    net = nn.Linear(1, 1, bias=False)
    ema = EMA(net, power=0.75, largest=0.9)
    weights = [float(net.weight.detach()), 3.0, -1.0, 0.5, 2.0]
    for step, weight in enumerate(weights[1:], start=1):
        nn.init.constant_(net.weight, weight)
        ema.update(net, step)
    decays = [ema_decay(step, 0.75, 0.9) for step in range(1, len(weights))]
    expected = weights[0] * np.prod(decays)
    for k, weight in enumerate(weights[1:]):
        expected += (1 - decays[k]) * np.prod(decays[k + 1 :]) * weight
    assert float(ema.net.weight) == pytest.approx(expected, rel=1e-5)
    assert ema_decay(10**6, 0.75, 0.9) == 0.9


def test_learning_rate_rises_and_falls_to_zero():
    settings = StepSettings(
        steps=1000, lr=2.0, betas=(0.9, 0.999), weight_decay=0, warmup=100, clip=1, ema_power=1, ema_max=1
    )
    assert learning_rate(0, settings) == pytest.approx(0.02)
    assert learning_rate(99, settings) == pytest.approx(2.0)
    assert learning_rate(550, settings) == pytest.approx(1.0)
    assert learning_rate(1000, settings) == pytest.approx(0.0)
