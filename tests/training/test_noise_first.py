"""The sampler draws the noise level first, and nothing that may not be taught at it; without bands it is the
plain sampler to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.noise_first import NoiseFirstSampler, Shares

pytestmark = pytest.mark.train
CLEAN, CORRUPT = 50, 2000
INF = float("inf")


def levels(count: int, seed: int = 0) -> torch.Tensor:
    return torch.exp(torch.randn(count, generator=torch.Generator().manual_seed(seed)) * 1.4 - 1.2)


def sampler(
    sigma_min: torch.Tensor | float, sigma_max: torch.Tensor | float = 0.0, shares: Shares | None = None
) -> NoiseFirstSampler:
    """Make one for clean windows that teach everything and corrupt ones with the given bands."""
    low = torch.cat([torch.zeros(CLEAN), torch.as_tensor(sigma_min).float().expand(CORRUPT)])
    high = torch.cat([torch.zeros(CLEAN), torch.as_tensor(sigma_max).float().expand(CORRUPT)])
    return NoiseFirstSampler((CLEAN, CORRUPT), low, high, shares or Shares())


def weights(*values: float) -> Shares:
    return Shares(torch.zeros(1, dtype=torch.float64), torch.tensor([values], dtype=torch.float64))


def draw(from_: NoiseFirstSampler, sigma: torch.Tensor, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    return from_.draw(sigma, sigma, torch.Generator().manual_seed(seed))


def test_no_inadmissible_pair_is_ever_drawn():
    """Bands of all kinds at once, each pair checked against the definition; both bands are met."""
    rng = np.random.default_rng(0)
    low = rng.lognormal(-1.2, 1.4, CORRUPT)
    low[::7], low[::11] = np.inf, 0.0
    high = np.minimum(low, rng.lognormal(-3, 1, CORRUPT) * (rng.random(CORRUPT) < 0.5))
    bands = torch.from_numpy(np.concatenate([np.zeros(CLEAN), low])).float()
    ends = torch.from_numpy(np.concatenate([np.zeros(CLEAN), high])).float()
    some = NoiseFirstSampler((CLEAN, CORRUPT), bands, ends, weights(0.3, 0.7))
    sigma = levels(200_000)
    windows, by_upper = draw(some, sigma)
    above, below = sigma > bands[windows], sigma <= ends[windows]
    assert bool((above | below).all())
    assert torch.equal(by_upper, above)
    corrupt = windows >= CLEAN
    assert int((corrupt & below).sum()) > 1000
    assert int((corrupt & above).sum()) > 1000
    assert int(windows.min()) == 0
    assert int(windows.max()) == CLEAN + CORRUPT - 1


def test_within_a_source_every_admissible_window_is_as_likely():
    """At one level with known admissible windows: those of either band, in equal numbers, and no others."""
    low = torch.where(torch.arange(CORRUPT) % 4 == 0, 0.1, INF)
    high = torch.where(torch.arange(CORRUPT) % 4 == 1, 0.9, 0.0)
    windows, _ = draw(sampler(low, high, weights(0.0, 1.0)), torch.full((400_000,), 0.5))
    counts = torch.bincount(windows - CLEAN, minlength=CORRUPT).reshape(-1, 4).float()
    assert float(counts[:, 2:].sum()) == 0
    expected = 400_000 / (CORRUPT / 2)
    chi2 = float(((counts[:, :2] - expected) ** 2 / expected).sum())
    assert chi2 == pytest.approx(CORRUPT / 2, abs=5 * np.sqrt(CORRUPT))


@pytest.mark.parametrize("alpha", [0.25, 0.8])
def test_clean_share_is_one_below_the_band_and_the_weight_above(alpha):
    """And the levels themselves are those drawn before, so their distribution cannot change."""
    sigma = levels(200_000)
    windows, _ = draw(sampler(0.3, 0.0, weights(alpha, 1 - alpha)), sigma)
    clean = windows < CLEAN
    assert bool(clean[sigma <= 0.3].all())
    above = clean[sigma > 0.3].double()
    assert float(above.mean()) == pytest.approx(alpha, abs=4 / np.sqrt(len(above)))


def test_drawing_the_window_first_would_starve_low_noise():
    """50 and 2000 windows, half of the levels clean-only: about 1.2 % of the draws would fall there."""
    sigma = levels(400_000)
    half = float(sigma.median())
    windows, _ = draw(sampler(half), sigma)
    assert float((sigma <= half).double().mean()) == pytest.approx(0.5, abs=1e-4)
    # The other order: a window of any source, then a level from what it admits.
    clean = torch.rand(400_000, generator=torch.Generator().manual_seed(2)) < CLEAN / (CLEAN + CORRUPT)
    admitted = torch.where(clean, sigma, sigma[sigma > half][torch.randint(200_000, (400_000,)) % 200_000])
    assert float((admitted <= half).double().mean()) == pytest.approx(
        0.5 * CLEAN / (CLEAN + CORRUPT), rel=0.1
    )
    assert bool((windows[sigma <= half] < CLEAN).all())


def test_natural_shares_follow_the_windows_admissible_at_the_level():
    low = torch.where(torch.arange(CORRUPT) < 450, 0.1, INF)
    windows, _ = draw(sampler(low), torch.full((200_000,), 0.5))
    assert float((windows < CLEAN).double().mean()) == pytest.approx(CLEAN / 500, abs=0.005)


def test_weights_per_source_undo_the_bias_of_bands_per_window():
    """p on {0, 1}, q on {-1, 0}; bands by window admit q's zeros and bar its -1s. Drawing admissible windows
    alike then gives P(0) = 1025 / 1050 at low noise instead of p's 1/2; a weight restores what one asks for.
    Half of q is admissible, so q's weight of 1/2 counts as 1/4: P(0) = (1/2 * 1/2 + 1/4) / (1/2 + 1/4).
    """
    value = torch.cat([torch.arange(CLEAN) % 2, -(torch.arange(CORRUPT) % 2)])
    low = torch.where(value[CLEAN:] == 0, 0.0, INF)
    sigma = torch.full((200_000,), 0.01)
    at_zero = [
        float((value[draw(sampler(low, 0.0, shares), sigma)[0]] == 0).double().mean())
        for shares in (Shares(), weights(0.5, 0.5), weights(0.9, 0.1))
    ]
    assert at_zero == pytest.approx([1025 / 1050, 2 / 3, 0.5 / 0.95], abs=0.005)


def test_a_few_admissible_windows_are_drawn_no_more_often_than_among_all():
    """2 of 2000 corrupt windows teach this level, at a weight of 0.9: unthinned they would be 90 % of all."""
    low = torch.where(torch.arange(CORRUPT) < 2, 0.0, INF)
    windows, _ = draw(sampler(low, 0.0, weights(0.1, 0.9)), torch.full((400_000,), 0.5))
    share = float((windows >= CLEAN).double().mean())
    assert share == pytest.approx(0.9 / 1000 / (0.1 + 0.9 / 1000), rel=0.1)


def test_shares_follow_the_level_and_are_interpolated_in_its_logarithm():
    table = torch.tensor([[0.9, 0.1], [0.5, 0.5]], dtype=torch.float64)
    shares = Shares(torch.tensor([0.01, 1.0], dtype=torch.float64).log(), table)
    asked = torch.tensor([0.001, 0.01, 0.1, 1.0, 50.0])
    torch.testing.assert_close(
        shares.at(asked)[:, 0],
        torch.tensor([0.9, 0.9, 0.7, 0.5, 0.5], dtype=torch.float64),
        atol=1e-6,
        rtol=0,
    )
    windows, _ = draw(sampler(0.0, 0.0, shares), torch.full((200_000,), 0.1))
    assert float((windows < CLEAN).double().mean()) == pytest.approx(0.7, abs=0.005)


def test_a_window_drawn_for_several_levels_teaches_all_of_them():
    some = sampler(0.3, 0.05, weights(0.01, 0.99))
    low, high = torch.tensor([0.2, 0.31, 0.04, 0.04]), torch.tensor([0.4, 0.5, 0.05, 0.06])
    windows, _ = some.draw(low.repeat(2000), high.repeat(2000), torch.Generator().manual_seed(0))
    corrupt = (windows >= CLEAN).reshape(2000, 4).any(0)
    assert corrupt.tolist() == [False, True, True, False]


def test_a_weight_of_zero_gives_way_where_nobody_else_may_teach():
    windows, _ = draw(sampler(0.3, 0.0, weights(0.0, 1.0)), torch.tensor([0.1, 0.5]).repeat(1000))
    clean = (windows < CLEAN).reshape(1000, 2)
    assert clean.double().mean(0).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("shares", [Shares(), weights(0.5, 0.5)])
def test_closed_bands_give_the_draws_of_clean_data_alone(shares):
    """sigma_min = inf and sigma_max = 0, bit for bit."""
    sigma = levels(5000)
    alone = NoiseFirstSampler((CLEAN,), torch.zeros(CLEAN), torch.zeros(CLEAN), Shares())
    assert torch.equal(draw(sampler(INF, 0.0, shares), sigma)[0], draw(alone, sigma)[0])


@pytest.mark.parametrize("shares", [Shares(), weights(0.5, 0.5)])
def test_open_bands_give_the_draws_of_cotraining(shares):
    """sigma_min = 0, or sigma_max above every level: bit for bit the draw that knows no bands.

    Which is: a source by its share, then one of its windows uniformly, from the same two random numbers.
    """
    sigma = levels(5000)
    u = torch.rand(2, 5000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    share = 0.5 if shares.table is not None else CLEAN / (CLEAN + CORRUPT)
    source = (u[0] >= share).long()
    count = torch.tensor([CLEAN, CORRUPT])[source]
    plain = (u[1] * count).floor().long() + CLEAN * source
    assert torch.equal(draw(sampler(0.0, 0.0, shares), sigma)[0], plain)
    assert torch.equal(draw(sampler(INF, INF, shares), sigma)[0], plain)
