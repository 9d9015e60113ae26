"""What a chunk knows of the plan before it, and the mean of several plans."""

from __future__ import annotations

import numpy as np
import pytest

from ambient_policy.chunks import Chunk
from ambient_policy.runtime import PolicyRuntime, RuntimeConfig
from ambient_policy.seams import SeamConfig, ensemble, known_actions, most_coherent
from tests.core.test_runtime import CountingPolicy, frame

PERIOD_S = 0.1
OLD = Chunk(5.0, np.column_stack([np.linspace(0, 0.16, 17), np.zeros(17)]), PERIOD_S)  # 0.1 m/s, ends at 6.6


def known(stamp_s: float, tool: tuple[float, float], **config):
    return known_actions(SeamConfig(kind="prefix", **config), OLD, stamp_s, np.array(tool), 16)


def test_the_old_plan_is_known_less_and_less() -> None:
    positions, std_m = known(5.8, (0.08, 0.0), frozen_s=0.1, slack_m_s=0.2)
    np.testing.assert_allclose(positions[:8, 0], np.arange(0.09, 0.165, 0.01))
    np.testing.assert_allclose(std_m[:8], 0.2 * 0.1 * np.arange(8), atol=1e-12)
    assert np.isinf(std_m[8:]).all()


@pytest.mark.parametrize(
    ("frozen_s", "frozen"), [(0.0, 0), (0.05, 1), (0.1, 1), (0.11, 2), (0.3, 3), (2.0, 8)]
)
def test_every_action_on_the_way_at_the_takeover_is_frozen(frozen_s: float, frozen: int) -> None:
    _, std_m = known(5.8, (0.08, 0.0), frozen_s=frozen_s)
    assert (std_m == 0).sum() == frozen


def test_a_plan_that_is_over_or_not_followed_is_no_guide() -> None:
    assert known(6.55, (0.155, 0.0)) is None
    assert known(5.8, (0.08, 0.05)) is None
    assert known(5.8, (0.08, 0.02)) is not None


def test_equal_plans_have_that_plan_as_their_mean() -> None:
    chunks = [Chunk(5.0 + 0.1 * k, OLD.positions + [0.01 * k, 0.0], PERIOD_S) for k in range(4)]
    mean = ensemble(chunks, 0.5)
    assert mean.stamp_s == chunks[-1].stamp_s
    np.testing.assert_allclose(mean.positions, chunks[-1].positions, atol=1e-12)


def test_the_mean_weighs_older_plans_more_and_only_where_they_reach() -> None:
    flat = lambda stamp_s, y: Chunk(stamp_s, np.column_stack([np.zeros(5), np.full(5, y)]), PERIOD_S)  # noqa: E731
    mean = ensemble([flat(0.0, 1.0), flat(0.2, 3.0)], np.log(2))
    np.testing.assert_allclose(mean.positions[:, 1], [3, (2 * 1 + 3) / 3, (2 * 1 + 3) / 3, 3, 3])


def test_the_runtime_tells_the_policy_what_the_last_chunk_still_does() -> None:
    """Its own chunk of 0.8 s before, from the first one on, and nothing after a reset."""
    policy, told = CountingPolicy(), []
    plain = policy.sample
    policy.sample = lambda f, s, n, known=None: told.append(known) or plain(f, s, n)
    runtime = PolicyRuntime(
        policy,
        RuntimeConfig(blank_std=0, seam={"kind": "prefix", "off_plan_m": 10.0}),
        np.random.default_rng(0),
    )
    for i in range(9):
        frame(runtime, 0.1 * i)
        decision = runtime.plan(0.1 * i)
        if i == 0:
            kept = decision.chunk
    assert told[0] is None
    positions, std_m = told[1]
    np.testing.assert_allclose(positions[:8], kept.positions[9:])
    assert std_m[0] == 0
    assert np.isfinite(std_m).sum() == 8
    runtime.reset()
    frame(runtime, 3.0)
    runtime.plan(3.0)
    assert told[2] is None


def test_the_ensemble_follows_the_mean_of_its_own_chunks() -> None:
    policy = CountingPolicy()
    config = RuntimeConfig(replan_steps=1, blank_std=0, seam={"kind": "ensemble", "decay": 0.0})
    runtime = PolicyRuntime(policy, config, np.random.default_rng(0))
    chunks = []
    for i, colour in enumerate((100, 200)):
        frame(runtime, 0.1 * i, colour)
        chunks.append(runtime.plan(0.1 * i).chunk)
    # CountingPolicy's chunk stands at the tool plus colour / 100 m.
    np.testing.assert_allclose(chunks[0].positions[5], [1.0, 1.0])
    np.testing.assert_allclose(chunks[1].positions[5], [(1.0 + 2.1) / 2, (1.0 + 2.0) / 2])
    np.testing.assert_allclose(chunks[1].positions[16], [2.1, 2.0])


class TwoWays(CountingPolicy):
    """Goes round an obstacle on the left or on the right, whichever way the first noise of a chunk points."""

    def sample(self, features, state, noise, known=None):
        self.seen.append((features, state, noise))
        return state[-1] + np.outer(np.arange(1, 17), [0.0, 0.01 * np.sign(noise[0, 0])])

    def sample_several(self, features, state, noise):
        return np.array([self.sample(features, state, one) for one in noise])


def ways(seed: int = 0, decisions: int = 20, **seam) -> np.ndarray:
    """Return the first action's y of every decision, relative to the tool."""
    config = RuntimeConfig(blank_std=0, seam=seam)
    runtime = PolicyRuntime(TwoWays(), config, np.random.default_rng(seed))
    found = []
    for i in range(8 * decisions):
        frame(runtime, 0.1 * i)
        if chunk := runtime.plan(0.1 * i).chunk:
            found.append(chunk.positions[1, 1])
    return np.array(found)


def test_a_coherent_policy_keeps_its_way_where_single_samples_change_theirs() -> None:
    """One draw of 16 misses a mode of one half once in 65536 times."""
    flips = [np.count_nonzero(np.diff(np.sign(ways(seed)))) for seed in range(5)]
    assert min(flips) >= 4
    for seed in range(5):
        kept = ways(seed, kind="coherent", candidates=16)
        assert len(np.unique(kept)) == 1
        assert kept[0] == ways(seed)[0], "the first decision has no plan before it"


def test_a_coherent_choice_repeats_with_its_noise() -> None:
    for n in (2, 5):
        once, again = (ways(7, kind="coherent", candidates=n) for _ in range(2))
        np.testing.assert_array_equal(once, again)


def test_one_candidate_is_replace_to_the_last_bit() -> None:
    def run(**seam):
        policy = TwoWays()
        runtime = PolicyRuntime(policy, RuntimeConfig(blank_std=0, seam=seam), np.random.default_rng(3))
        chunks = []
        for i in range(40):
            frame(runtime, 0.1 * i)
            chunks.append(runtime.plan(0.1 * i).chunk)
        return [c.positions for c in chunks if c], [noise for _, _, noise in policy.seen]

    plain, single, rng = run(), run(kind="coherent", candidates=1), np.random.default_rng(3)
    for one, other in zip(plain, single, strict=True):
        assert len(one) == 5
        np.testing.assert_array_equal(one, other)
    drawn = [rng.standard_normal((16, 2)).astype(np.float32) for _ in range(5)]
    np.testing.assert_array_equal(plain[1], drawn)


def test_the_nearest_candidate_is_that_whose_weighted_distances_are_smallest() -> None:
    """At 5.8 s eight actions of OLD are left, on the x axis from 0.09 m on."""
    rest = np.column_stack([np.linspace(0.09, 0.24, 16), np.zeros(16)])
    off = np.zeros((3, 16, 2))
    off[0, 0, 1] = 0.010  # off at once
    off[1, 7, 1] = 0.018  # off by more, at the end of the overlap, where it weighs 0.9^7 = 0.48
    off[2, 0, 1], off[2, 8:, 1] = 0.009, 1.0  # beyond the old chunk's end nothing counts
    assert most_coherent(rest + off[:2], OLD, 5.8, 0.9) == 1
    assert most_coherent(rest + off[:2], OLD, 5.8, 1.0) == 0
    assert most_coherent(rest + off, OLD, 5.8, 1.0) == 2
    assert most_coherent(rest + off[[1, 0]], OLD, 6.6, 1.0) == 0, "the old chunk has ended"
