"""Labels by sample bias draws towards what both sources have: the trainer's own sampler, by known amounts."""

from __future__ import annotations

import pytest
import torch

from training.noise_first import NoiseFirstSampler, Shares

pytestmark = pytest.mark.train

CLEAN = torch.tensor([0.0, 1.0]).repeat(20)
CORRUPT = torch.tensor([-1.0, 0.0]).repeat(300)


def share_of_zeros(shares: Shares, by_sample: bool, sigma: float) -> float:
    """Draw 200,000 windows at sigma; p is even on {0, 1}, q on {-1, 0}, and q's -1s are never admitted."""
    values = torch.cat([CLEAN, CORRUPT])
    never = torch.full_like(CORRUPT, torch.inf)
    corrupt_from = torch.where(CORRUPT == -1, never, 0.0) if by_sample else never
    sigma_min = torch.cat([torch.zeros_like(CLEAN), corrupt_from])
    sampler = NoiseFirstSampler((len(CLEAN), len(CORRUPT)), sigma_min, torch.zeros_like(sigma_min), shares)
    level = torch.full((200_000,), sigma)
    drawn, _ = sampler.draw(level, level, torch.Generator().manual_seed(0))
    assert (values[drawn] != -1).all()
    return float((values[drawn] == 0).float().mean())


@pytest.mark.parametrize("sigma", [0.02, 3.0])
def test_drawing_evenly_from_all_admitted_gives_320_of_340(sigma: float) -> None:
    assert share_of_zeros(Shares(), True, sigma) == pytest.approx(320 / 340, abs=0.002)


@pytest.mark.parametrize("wanted", [0.6, 0.75])
def test_a_share_for_each_source_restores_any_wanted_value(wanted: float) -> None:
    """P(0) = 1 - c / 2 for a clean share c among draws, so c = 2 (1 - wanted).

    Half of q is admitted and a weight counts times that part: w and 1 - w give c = w / (w + (1 - w) / 2).
    """
    c = 2 * (1 - wanted)
    w = c / (2 - c)
    shares = Shares(torch.zeros(1, dtype=torch.float64), torch.tensor([[w, 1 - w]], dtype=torch.float64))
    assert share_of_zeros(shares, True, 0.02) == pytest.approx(wanted, abs=0.004)


def test_labels_by_source_leave_the_clean_data_as_they_are() -> None:
    assert share_of_zeros(Shares(), False, 0.02) == pytest.approx(0.5, abs=0.004)
