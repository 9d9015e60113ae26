"""What a chunk knows of the plan before it, and the mean of several plans."""

from __future__ import annotations

import numpy as np
import pytest

from ambient_policy.chunks import Chunk
from ambient_policy.runtime import PolicyRuntime, RuntimeConfig
from ambient_policy.seams import SeamConfig, ensemble, known_actions
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
