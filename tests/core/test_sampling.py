"""Samplers against Gaussian data, whose exact denoiser and exact probability flow are known."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambient_policy.errors import ConfigError
from ambient_policy.noise import karras_ladder
from ambient_policy.sampling import METHODS, denoise_step, sample
from tests.core.gaussian import Gaussian

DATA = Gaussian(mean=0.3, std=0.5)
START = np.random.default_rng(0).normal(size=(4, 8, 2)) * 3.0

ladders = st.lists(st.floats(1e-3, 20.0), min_size=2, max_size=9, unique=True).map(
    lambda levels: sorted(levels, reverse=True)
)


@given(ladders, st.floats(0.05, 3.0), st.booleans())
def test_ddim_multiplies_a_centred_gaussian_by_a_known_factor_a_step(sigmas, std, to_zero):
    """Each step is a factor 1 + (s' - s) s / (v0 + s^2), so K steps are the product, on any ladder."""
    sigmas = [*sigmas, 0.0] if to_zero else sigmas
    factor = math.prod(1 + (after - now) * now / (std**2 + now**2) for now, after in pairwise(sigmas))
    *_, chunk = sample(Gaussian(0.0, std).denoise, START, sigmas)
    np.testing.assert_allclose(chunk, factor * START, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_one_step_to_zero_returns_the_posterior_mean(method):
    """With one step, every sampler gives what the denoiser guesses from pure noise."""
    (chunk,) = sample(DATA.denoise, START, [3.0, 0.0], method)
    np.testing.assert_allclose(chunk, DATA.denoise(START, 3.0), rtol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_a_perfectly_known_chunk_is_reached_in_any_number_of_steps(method):
    """When all data is one point the flow is a straight line to it, which no sampler may bend."""
    for steps in (1, 2, 5):
        *_, chunk = sample(lambda x, sigma: 0.25 + 0 * x, START, karras_ladder(steps, 0.05, 3.0), method)
        np.testing.assert_allclose(chunk, 0.25, atol=1e-12)


@pytest.mark.parametrize(("method", "order"), [("ddim", 1), ("heun", 2), ("dpmpp_2m", 2)])
def test_error_falls_with_the_order_that_the_sampler_claims(method, order):
    """The slope of log error against log steps is the order, to 5 %, on the way to a level above zero."""
    exact = DATA.flow(START, 3.0, 0.1)
    counts = np.array([64, 128, 256, 512])
    errors = []
    for steps in counts:
        ladder = karras_ladder(int(steps) + 1, 0.1, 3.0, rho=math.inf, end_at_zero=False)
        *_, chunk = sample(DATA.denoise, START, ladder, method)
        errors.append(np.abs(chunk - exact).max())
    slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert slope == pytest.approx(order, rel=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_fine_ladders_reproduce_the_distribution(method):
    """The flow carries N(mean, std^2 + sigma^2) onto N(mean, std^2): shape and place, for each start."""
    *_, chunk = sample(DATA.denoise, START, karras_ladder(400, 1e-3, 3.0), method)
    np.testing.assert_allclose(chunk, DATA.flow(START, 3.0, 0.0), atol=0.02)


def test_dpmpp_2m_is_better_than_ddim_at_eight_steps():
    """The reason to take it for few steps: the same calls, and half the error."""
    exact = DATA.flow(START, 2.5, 0.0)
    error = {}
    for method in ("ddim", "dpmpp_2m"):
        *_, chunk = sample(DATA.denoise, START, karras_ladder(8, 0.03, 2.5, rho=3.0), method)
        error[method] = np.abs(chunk - exact).max()
    assert error["dpmpp_2m"] < 0.55 * error["ddim"]


@pytest.mark.parametrize(("method", "calls"), [("ddim", 6), ("heun", 11), ("dpmpp_2m", 6)])
def test_denoiser_calls_and_yields_are_as_documented(method, calls):
    """Latency is counted in calls; a chunk comes out after every step."""
    seen = []

    def denoise(x, sigma):
        seen.append(sigma)
        return DATA.denoise(x, sigma)

    chunks = list(sample(denoise, START, karras_ladder(6, 0.05, 3.0), method))
    assert len(chunks) == 6
    assert len(seen) == calls
    assert min(seen) > 0, "no denoiser is defined at sigma 0"


@pytest.mark.parametrize("method", METHODS)
def test_samplers_repeat_and_leave_their_input_alone(method):
    """Noise comes in as an argument; there is no other randomness."""
    before = START.copy()
    ladder = karras_ladder(5, 0.05, 3.0)
    first, second = (list(sample(DATA.denoise, START, ladder, method)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(START, before)


def test_denoise_step_to_zero_is_the_guess_itself():
    """No rounding may remain of the noise."""
    np.testing.assert_array_equal(denoise_step(START, START * 0 + 0.7, 2.0, 0.0), START * 0 + 0.7)


@pytest.mark.train
@pytest.mark.parametrize("method", METHODS)
def test_torch_tensors_take_the_same_path(method):
    """The exporter unrolls this code with torch, so the answers must be the same."""
    torch = pytest.importorskip("torch")
    ladder = karras_ladder(5, 0.05, 3.0)
    *_, expected = sample(DATA.denoise, START, ladder, method)
    *_, chunk = sample(DATA.denoise, torch.from_numpy(START), ladder, method)
    np.testing.assert_allclose(chunk.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("sigmas", "message"),
    [
        ([1.0], "a noise ladder of shape (1,) given, needs 2 or more levels"),
        ([[1.0, 0.0]], "a noise ladder of shape (1, 2) given"),
        ([1.0, 1.0, 0.0], "needs finite decreasing levels, none below 0"),
        ([1.0, -0.1], "noise ladder is [1.0, -0.1], needs finite decreasing levels"),
        ([math.inf, 0.0], "needs finite decreasing levels"),
    ],
)
def test_ladders_that_cannot_be_walked_are_refused_at_once(sigmas, message):
    """At the call, not at the first step."""
    with pytest.raises(ConfigError) as error:
        sample(DATA.denoise, START, sigmas)
    assert message in str(error.value)


def test_unknown_method_names_the_nearest():
    """A typo is answered with the name that was meant."""
    with pytest.raises(ConfigError, match="sampling method is 'dpmpp2m'; did you mean `dpmpp_2m`"):
        sample(DATA.denoise, START, [1.0, 0.0], "dpmpp2m")
