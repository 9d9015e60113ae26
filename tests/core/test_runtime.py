"""The runtime takes in whole frames only, plans when due, and holds with a reason otherwise."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from ambient_policy.errors import AmbientPolicyError
from ambient_policy.runtime import PolicyRuntime, RuntimeConfig, delays_by_camera


class CountingPolicy:
    """Features are the mean colours; a chunk is the tool plus the newest feature, to read inputs off it."""

    def __init__(self, obs_steps: int = 2, cameras: tuple[str, ...] = ("left", "right")):
        action = SimpleNamespace(execute_steps=8, horizon=16, period_s=0.1, names=("x", "y"))
        inputs = {c: SimpleNamespace(width=4, height=4) for c in cameras}
        self.manifest = SimpleNamespace(cameras=inputs, obs_steps=obs_steps, action=action)
        self.encoded = 0
        self.seen: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.fail: Exception | None = None

    def encode(self, images):
        self.encoded += 1
        if self.fail:
            raise self.fail
        return np.array([images[c].mean() for c in sorted(images)], dtype=np.float32)

    def sample(self, features, state, noise, known=None):
        self.seen.append((features, state, noise))
        return state[-1] + np.full((16, 2), features[-1, 0] / 100)


def image(value: int) -> np.ndarray:
    return np.full((4, 4, 3), value, np.uint8)


def runtime(policy: CountingPolicy, **config) -> PolicyRuntime:
    # Pictures of one colour are easy to tell apart; what checks them has tests of its own.
    unchecked = {"blank_std": 0, **config}
    return PolicyRuntime(policy, RuntimeConfig(**unchecked), np.random.default_rng(0))


def frame(rt: PolicyRuntime, stamp_s: float, value: int = 100) -> None:
    rt.observe_tool(np.array([stamp_s, 0.0]), stamp_s)
    rt.observe_image("left", image(value), stamp_s)
    rt.observe_image("right", image(value), stamp_s)


def test_first_frame_stands_for_the_missing_history():
    policy = CountingPolicy()
    rt = runtime(policy)
    frame(rt, 1.0, 50)
    decision = rt.plan(1.0)
    features, state, _ = policy.seen[0]
    np.testing.assert_array_equal(features, np.full((2, 2), 50))
    np.testing.assert_array_equal(state, [[1.0, 0.0], [1.0, 0.0]])
    assert decision.chunk.stamp_s == 1.0
    np.testing.assert_allclose(decision.chunk.positions[0], [1.0, 0.0])
    np.testing.assert_allclose(decision.chunk.positions[1:], np.full((16, 2), [1.5, 0.5]))


def test_every_frame_is_encoded_once_and_plans_come_every_execute_steps():
    policy = CountingPolicy()
    rt = runtime(policy)
    planned = []
    for i in range(33):
        frame(rt, i * 0.1, i)
        if rt.plan(i * 0.1).chunk:
            planned.append(i)
        assert rt.plan(i * 0.1).frame_stamp_s is None, "the same frame is not taken twice"
    assert planned == [0, 8, 16, 24, 32]
    assert policy.encoded == 33
    np.testing.assert_array_equal(policy.seen[1][0][:, 0], [7, 8])
    np.testing.assert_allclose(policy.seen[1][1][:, 0], [0.7, 0.8])


def test_observing_goes_on_while_another_thread_decides():
    """What comes meanwhile changes nothing of this decision, and is there for the next."""

    class SlowPolicy(CountingPolicy):
        def encode(self, images):
            working.set()
            assert go_on.wait(60)
            return super().encode(images)

    working, go_on = threading.Event(), threading.Event()
    policy, plain = SlowPolicy(), CountingPolicy()
    slow, rt = runtime(policy, replan_steps=1), runtime(plain, replan_steps=1)
    for each in (slow, rt):
        frame(each, 1.0, 50)
    taken = slow.take(1.0)
    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(slow.decide, taken)
        assert working.wait(60)
        for i in range(1, 300):
            slow.observe_tool(np.array([1 + i / 1000, 0.0]), 1 + i / 1000)
        frame(slow, 1.3, 70)
        go_on.set()
        decision = future.result(60)
    expected = rt.plan(1.0)
    np.testing.assert_array_equal(decision.chunk.positions, expected.chunk.positions)
    frame(rt, 1.3, 70)
    np.testing.assert_array_equal(slow.plan(1.3).chunk.positions, rt.plan(1.3).chunk.positions)
    for mine, others in zip(policy.seen, plain.seen, strict=True):
        for a, b in zip(mine, others, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("rate_hz", [10, 15, 30, 60, 90])
def test_history_runs_at_the_pace_of_training_whatever_the_cameras_rate(rate_hz):
    """Stamps tremble by a millisecond and the right camera is not synchronised with the left."""
    rng, policy = np.random.default_rng(rate_hz), CountingPolicy()
    rt = runtime(policy, match_s=0.5 / rate_hz + 0.003)
    taken = []
    for i in range(20 * rate_hz):
        stamp_s = 5 + i / rate_hz
        for camera, shift_s in (("left", 0.0), ("right", 0.4 / rate_hz)):
            rt.observe_image(camera, image(1), stamp_s + shift_s + rng.uniform(-1e-3, 1e-3))
        rt.observe_tool(np.zeros(2), stamp_s)
        if (stamp := rt.plan(stamp_s + 0.01).frame_stamp_s) is not None:
            taken.append(stamp)
    gaps = np.diff(taken)[3:]  # the rate is known from the fourth image on
    assert gaps.mean() == pytest.approx(0.1, abs=0.5 / rate_hz if rate_hz == 15 else 0.003)
    assert np.abs(gaps - 0.1).max() <= 0.5 / rate_hz + 0.002


def test_a_camera_that_stamps_late_is_matched_with_where_the_tool_was():
    """At 1 m/s: the left camera's picture of 1.05 s, stamped 50 ms late, belongs to the pose of 1.0 s."""
    for delay_s, x_m in ((0.0, 1.05), (0.05, 1.0)):
        policy = CountingPolicy(cameras=("left",))
        rt = runtime(policy, image_delay_s={"left": delay_s})
        for i in range(6):
            rt.observe_tool(np.array([1.0 + 0.01 * i, 0.0]), 1.0 + 0.01 * i)
        rt.observe_image("left", image(1), 1.05)
        decision = rt.plan(1.06)
        assert decision.chunk.stamp_s == pytest.approx(x_m)
        np.testing.assert_allclose(decision.chunk.positions[0], [x_m, 0.0])


def test_delays_of_cameras_that_are_not_there_or_not_paired_are_refused():
    with pytest.raises(AmbientPolicyError, match="camera 'lef', not in the bundle; did you mean `left`"):
        runtime(CountingPolicy(), image_delay_s={"lef": 0.1})
    assert delays_by_camera(["left", "right"], [0.1, 0.2]) == {"left": 0.1, "right": 0.2}
    for cameras, delays_s in ((["left"], []), (["left", "left"], [0.1, 0.2])):
        with pytest.raises(AmbientPolicyError, match="needs one delay .* for each camera"):
            delays_by_camera(cameras, delays_s)


def test_a_frame_needs_every_camera_at_one_time():
    policy = CountingPolicy()
    rt = runtime(policy)
    rt.observe_tool(np.zeros(2), 1.0)
    rt.observe_image("left", image(1), 1.0)
    assert rt.plan(1.0).hold.reason == "no image from camera `right` yet"
    rt.observe_image("right", image(1), 1.05)
    assert rt.plan(1.05).chunk is None
    rt.observe_image("right", image(1), 1.01)
    assert rt.plan(1.05).frame_stamp_s == 1.0


def test_no_tool_position_is_a_hold():
    rt = runtime(CountingPolicy())
    for camera in ("left", "right"):
        rt.observe_image(camera, image(1), 1.0)
    assert rt.plan(1.0).hold.reason == "no tool position yet"


def test_an_old_frame_is_a_hold_that_says_how_old():
    rt = runtime(CountingPolicy(), max_age_s=0.3)
    frame(rt, 1.0)
    assert rt.plan(1.5).hold.reason == "newest camera frame is 0.50 s old"


def test_a_camera_that_stops_is_a_hold_with_every_age():
    rt = runtime(CountingPolicy(), max_age_s=0.3)
    frame(rt, 1.0)
    assert rt.plan(1.0).chunk is not None
    rt.observe_image("left", image(1), 1.5)
    rt.observe_tool(np.zeros(2), 1.6)
    hold = rt.plan(1.6).hold
    assert hold.reason == "no complete frame for 0.60 s (ages: left 0.10 s, right 0.60 s, tool 0.00 s)"


def test_a_fault_of_the_policy_is_a_hold():
    policy = CountingPolicy()
    policy.fail = AmbientPolicyError("graph broke")
    rt = runtime(policy)
    frame(rt, 1.0)
    decision = rt.plan(1.0)
    assert decision.chunk is None
    assert decision.hold.reason == "graph broke"


def test_reset_with_the_same_seed_repeats_the_noise():
    policy = CountingPolicy()
    rt = runtime(policy)
    for _ in range(2):
        rt.reset(np.random.default_rng(7))
        frame(rt, 1.0)
        rt.plan(1.0)
    np.testing.assert_array_equal(policy.seen[0][2], policy.seen[1][2])


def test_replan_steps_override_the_bundle():
    policy = CountingPolicy()
    rt = runtime(policy, replan_steps=2)
    planned = [i for i in range(6) if (frame(rt, i * 0.1), rt.plan(i * 0.1))[1].chunk]
    assert planned == [0, 2, 4]


def test_bad_config_is_refused():
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        RuntimeConfig(replan_steps=0)


def test_a_blank_picture_is_a_hold_and_never_reaches_the_policy():
    policy = CountingPolicy()
    rt = runtime(policy, blank_std=2.0)
    scene = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    for i, picture in enumerate([scene, np.zeros((4, 4, 3), np.uint8), scene]):
        rt.observe_tool(np.zeros(2), 0.1 * i)
        rt.observe_image("left", scene, 0.1 * i)
        rt.observe_image("right", picture, 0.1 * i)
        decision = rt.plan(0.1 * i)
        assert decision.frame_stamp_s == pytest.approx(0.1 * i)
        expected = "camera `right` shows nothing: all values within 0.0 of 0" if i == 1 else ""
        assert (decision.hold.reason if decision.hold else "") == expected
    assert policy.encoded == 2
