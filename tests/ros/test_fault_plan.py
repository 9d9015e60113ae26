"""Fault plans: what they accept, what they say of a mistake, what they do to messages; without a network."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("pydrake")
from ambient_policy.config import parse
from ambient_policy.errors import ConfigError
from ambient_policy.trials import Trial
from ambient_policy_ros import convert
from ambient_policy_ros.fault_channel import Channel, Injection
from ambient_policy_ros.fault_plan import KINDS, FaultPlan, load_plan, shipped_plans
from ambient_policy_ros.fault_record import FaultRecord, MotionLog, facts_of, outcome_of, table
from ambient_policy_ros.twin_faults import TwinFaults

CAMERAS = ("overhead", "wrist")
OVERHEAD = "camera/overhead/color/image_raw"
PERIOD_S = 0.01


def plan(*faults: dict[str, Any], seed: int = 0) -> FaultPlan:
    return parse({"seed": seed, "faults": list(faults)}, FaultPlan, "the plan")


def carry(*faults: dict[str, Any], channel: str = OVERHEAD, n: int = 300, every: int = 10, seed: int = 0):
    """Send image number i at 0.1 i s through a channel; return [(time of arrival, number, stamp)]."""
    got: list[tuple[float, int, float]] = []
    now = {"s": 0.0}

    def send(msg: Any) -> None:
        got.append((now["s"], int(msg.data[0]), round(convert.seconds(msg.header.stamp), 6)))

    injections = [Injection(i, f) for i, f in plan(*faults, seed=seed).on(channel, (channel,))]
    for injection in injections:
        injection.restart(np.random.default_rng([seed, injection.number]))
    pipe = Channel(send, injections)
    as_is = []
    for tick in range(n):
        now["s"] = round(tick * PERIOD_S, 6)
        pipe.deliver(now["s"])
        if tick % every == 0:
            image = np.full((2, 2, 3), tick // every, np.uint8)
            as_is.append(pipe.offer(now["s"], convert.image_msg(image, now["s"], "camera")))
    pipe.clear()
    return got, as_is, injections


# What a plan may say


def test_shipped_plans_show_every_kind_and_fit_the_twin() -> None:
    shown = set()
    for name in shipped_plans():
        shipped = load_plan(name)
        assert shipped.title, name
        TwinFaults(shipped, CAMERAS)
        shown |= {fault.fault for fault in shipped.faults}
    assert shown == set(KINDS)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            {"fault": "latency", "channel": OVERHEAD, "delay": 0.2},
            "delay: unknown key; did you mean `delay_s`",
        ),
        ({"fault": "freze", "channel": OVERHEAD}, "number 0 has `fault: freze`; did you mean `freeze`"),
        ({"fault": "latency", "channel": OVERHEAD, "delay_s": 0}, "delay_s is 0"),
        ({"fault": "drop", "channel": OVERHEAD, "probability": 1.5}, "probability is 1.5"),
        ({"fault": "drop", "channel": OVERHEAD, "from_s": 3, "until_s": 2}, "until_s is 2.0, needs more"),
        ({"fault": "kill", "node": "twin", "at_s": 1}, "node is 'twin'"),
        ({"fault": "clock_jump", "by_s": 0}, "by_s is 0"),
    ],
)
def test_a_wrong_plan_is_named(fault: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(fault)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"fault": "drop", "channel": "tool/posе"}, "channel 'tool/pos.*did you mean `tool/pose`"),
        ({"fault": "drop", "channel": "camera/side/color/image_raw"}, "which is none"),
        ({"fault": "black", "channel": "tool/pose"}, "tool/pose cannot have `black`, only: camera/"),
        ({"fault": "nan", "channel": OVERHEAD}, "cannot have `nan`, only: tool/pose"),
    ],
)
def test_a_channel_that_is_none_or_does_not_fit_is_named(fault: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TwinFaults(plan(fault), CAMERAS)


def test_a_star_is_every_camera_and_a_slash_changes_nothing() -> None:
    faults = TwinFaults(
        plan(
            {"fault": "drop", "channel": "camera/*/color/image_raw"},
            {"fault": "drop", "channel": "/tool/pose"},
            {"fault": "freeze", "channel": "clock"},
        ),
        CAMERAS,
    )
    hit = sorted(name for name, injections in faults.injections.items() if injections)
    assert hit == ["/clock", OVERHEAD, "camera/wrist/color/image_raw", "tool/pose"]


def test_a_plan_that_is_not_there_lists_the_shipped_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no fault plan named 'frezee'; did you mean `freeze`"):
        load_plan("frezee")
    with pytest.raises(ConfigError, match="no config file"):
        load_plan(str(tmp_path / "none.yaml"))


# What a fault does to messages


def test_without_a_fault_in_force_everything_passes_as_it_is() -> None:
    got, as_is, _ = carry({"fault": "latency", "channel": OVERHEAD, "delay_s": 0.2, "from_s": 50})
    assert got == [(round(0.1 * i, 6), i, round(0.1 * i, 6)) for i in range(30)]
    assert all(as_is)


@pytest.mark.parametrize("delay_s", [0.1, 0.2, 0.25, 0.4])
def test_latency_is_exact_and_the_stamp_true(delay_s: float) -> None:
    window = {"from_s": 1.0, "until_s": 2.0}
    got, as_is, (injection,) = carry({"fault": "latency", "channel": OVERHEAD, "delay_s": delay_s, **window})
    assert [number for _, number, _ in got] == list(range(30)), "in order, none lost"
    for time_s, number, stamp_s in got:
        assert stamp_s == pytest.approx(0.1 * number), "the stamp is that of the exposure"
        late = 10 <= number < 20
        # The first ones behind the window wait for those before them.
        want = 0.1 * number + (delay_s if late else 0.0)
        assert time_s == pytest.approx(max(want, 1.9 + delay_s) if number >= 20 else want)
    assert (injection.seen, injection.hit, injection.undelivered) == (10, 10, 0)
    assert as_is[:10] == [True] * 10
    assert as_is[10:20] == [False] * 10
    assert all(as_is[25:])


def test_late_messages_can_be_stamped_late_too() -> None:
    got, _, _ = carry({"fault": "latency", "channel": OVERHEAD, "delay_s": 0.2, "restamp": True})
    for time_s, number, stamp_s in got:
        assert time_s == pytest.approx(0.1 * number + 0.2)
        assert stamp_s == pytest.approx(time_s)


def test_latency_at_the_end_leaves_messages_undelivered() -> None:
    got, _, (injection,) = carry({"fault": "latency", "channel": OVERHEAD, "delay_s": 0.4})
    assert (len(got), injection.undelivered) == (26, 4)


def test_jitter_keeps_the_order_and_the_bounds() -> None:
    fault = {"fault": "jitter", "channel": OVERHEAD, "max_s": 0.3}
    got, _, _ = carry(fault)
    assert [number for _, number, _ in got] == list(range(len(got)))
    late = np.array([time_s - stamp_s for time_s, _, stamp_s in got])
    assert late.min() >= 0
    assert late.max() <= 0.3 + PERIOD_S + 1e-9
    assert late.std() > 0.03
    assert got == carry(fault)[0], "the same seed gives the same delays"
    assert got != carry(fault, seed=1)[0]


def test_drop_at_times_takes_the_first_message_of_each() -> None:
    got, _, (injection,) = carry({"fault": "drop", "channel": OVERHEAD, "at_s": [1.0, 0.45, 2.05]})
    assert [n for n in range(30) if n not in {number for _, number, _ in got}] == [5, 10, 21]
    assert (injection.seen, injection.hit) == (30, 3)


def test_drop_by_chance_takes_its_share() -> None:
    got, _, (injection,) = carry({"fault": "drop", "channel": OVERHEAD, "probability": 0.3}, n=2500)
    assert 250 - len(got) == injection.hit
    assert injection.hit == pytest.approx(75, abs=25)  # 3.5 sigma


@pytest.mark.parametrize("restamp", [True, False])
def test_freeze_repeats_the_last_good_image(restamp: bool) -> None:
    fault = {"fault": "freeze", "channel": OVERHEAD, "from_s": 1.0, "until_s": 2.0, "restamp": restamp}
    got, _, _ = carry(fault)
    assert [number for _, number, _ in got] == [*range(10), *[9] * 10, *range(20, 30)]
    stamps_s = [stamp_s for _, _, stamp_s in got[10:20]]
    assert stamps_s == pytest.approx([0.1 * i for i in range(10, 20)] if restamp else [0.9] * 10)


def test_reorder_swaps_neighbours() -> None:
    got, as_is, _ = carry({"fault": "reorder", "channel": OVERHEAD, "from_s": 1.0, "until_s": 2.0})
    assert [n for _, n, _ in got] == [
        *range(10),
        *[n for i in range(10, 20, 2) for n in (i + 1, i)],
        *range(20, 30),
    ]
    assert got[10][0] == got[11][0] == pytest.approx(1.1), "the overtaken one comes with the next"
    assert as_is[10:20] == [False] * 10


def test_two_messages_at_once_are_settled_one_by_one() -> None:
    """A reader that keeps only the newest must have read the first before the second comes."""
    told: list[object] = []
    fault = plan({"fault": "reorder", "channel": OVERHEAD}).on(OVERHEAD, (OVERHEAD,))
    pipe = Channel(told.append, [Injection(i, f) for i, f in fault], settle=lambda: told.append("settled"))
    for number in range(4):
        pipe.offer(0.1 * number, number)
    assert told == [1, "settled", 0, 3, "settled", 2]


def test_black_and_nan_spoil_a_copy() -> None:
    got, _, _ = carry({"fault": "black", "channel": OVERHEAD, "from_s": 1.0, "until_s": 1.5})
    assert [n for _, n, _ in got] == [*range(10), *[0] * 5, *range(15, 30)]
    pose = convert.pose_msg(np.array([1.0, 2.0]), 0.5, "world")
    heard: list[Any] = []
    faults = TwinFaults(plan({"fault": "nan", "channel": "tool/pose"}), CAMERAS)
    offer = faults.channel("tool/pose", heard.append)
    faults.begin_trial(0, 0)
    assert not offer(pose)
    assert math.isnan(heard[0].pose.position.x)
    assert heard[0].header.stamp == pose.header.stamp
    assert pose.pose.position.x == 1.0


def test_an_offset_moves_the_pose_and_nothing_else() -> None:
    heard: list[Any] = []
    faults = TwinFaults(plan({"fault": "offset", "by_m": (0.03, -0.01)}), CAMERAS)
    offer = faults.channel("tool/pose", heard.append)
    faults.begin_trial(0, 0)
    assert not offer(convert.pose_msg(np.array([1.0, 2.0]), 0.5, "world"))
    np.testing.assert_allclose(convert.pose_xy(heard[0]), [1.03, 1.99], atol=1e-12)
    assert convert.seconds(heard[0].header.stamp) == 0.5


def test_the_clock_jumps_and_nothing_is_late() -> None:
    heard: list[float] = []
    faults = TwinFaults(plan({"fault": "clock_jump", "by_s": -0.5, "until_s": 2}), CAMERAS)
    offer = faults.channel("/clock", lambda msg: heard.append(convert.seconds(msg.clock)))
    offer(convert.clock_msg(9.0))  # before the trial nothing is touched
    faults.begin_trial(0, 10_000_000_000)
    for tick in range(0, 300, 50):
        faults.tick(10_000_000_000 + tick * 10_000_000)
        offer(convert.clock_msg(10 + tick / 100))
    faults.end_trial()
    offer(convert.clock_msg(20.0))
    assert heard == pytest.approx([9.0, 9.5, 10.0, 10.5, 11.0, 12.0, 12.5, 20.0])


def test_trials_draw_differently_and_repeat() -> None:
    def drawn(number: int) -> list[int]:
        heard: list[int] = []
        faults = TwinFaults(plan({"fault": "drop", "channel": "tool/pose", "probability": 0.5}), CAMERAS)
        offer = faults.channel("tool/pose", lambda msg: heard.append(convert.nanoseconds(msg.header.stamp)))
        faults.begin_trial(number, 0)
        for tick in range(200):
            faults.tick(tick * 10_000_000)
            offer(convert.pose_msg(np.zeros(2), tick / 100, "world"))
        return heard

    assert drawn(3) == drawn(3) != drawn(4)


# What is made of the answers


def trial(duration_s: float = 10.0) -> Trial:
    return Trial(
        policy="p",
        bundle_commit="c",
        scenario="s",
        seed=5,
        runner="ros-lockstep",
        outcome="timeout",
        success=False,
        held=False,
        duration_s=duration_s,
        final_position_error_m=0.0,
        final_yaw_error_rad=0.0,
        commit="c",
        wall_s=1.0,
    )


def run_holds(*holds: tuple[float, str, str], fault: dict[str, Any] | None = None):
    """Tell of holds, with a tool that moves at 0.1 m/s and jumps by 30 mm at 5.0 s; return the outcome."""
    faults = TwinFaults(
        plan(fault or {"fault": "drop", "channel": OVERHEAD, "from_s": 3, "until_s": 5}), CAMERAS
    )
    for name in faults.injections:
        faults.channel(name, lambda msg: None)
    faults.begin_trial(0, 0)
    motion = MotionLog()
    for tick in range(1000):
        time_s = tick * PERIOD_S
        faults.tick(round(time_s * 1e9))
        for at_s, node, hold in holds:
            if at_s == pytest.approx(time_s):
                faults.note(node, hold)
        x = 0.1 * time_s + (0.03 if time_s >= 5.0 else 0.0)
        motion.add(time_s, np.array([0.1 * time_s, 0.0]), np.array([0.1, 0.0]), np.array([x, 0.0]))
    faults.end_trial()
    return faults, outcome_of(faults, motion, trial())


def test_holds_and_recovery_are_timed() -> None:
    _, found = run_holds(
        (0.0, "servo", "waiting for a first chunk"),
        (0.05, "servo", ""),
        (3.5, "policy", "no complete frame for 0.51 s"),
        (3.6, "policy", "no complete frame for 0.61 s"),  # the same kind: not news
        (4.2, "servo", "no new chunk"),
        (5.1, "policy", ""),
        (5.15, "servo", ""),
        (8.0, "servo", "something else, long after"),
    )
    (outcome,) = found.faults
    assert outcome.policy_hold is not None
    assert outcome.servo_hold is not None
    assert (outcome.policy_hold.after_s, outcome.servo_hold.after_s) == (0.5, 1.2)
    assert outcome.servo_hold.reason == "no new chunk"
    assert outcome.recovered_after_s == pytest.approx(0.15)
    assert len(found.holds) == 7
    assert found.before is not None
    assert outcome.during is not None
    assert outcome.after is not None
    assert found.before.target_step_m == outcome.during.target_step_m == pytest.approx(0.001)
    assert outcome.after.target_step_m == pytest.approx(0.031), "the jump is behind the fault"
    assert outcome.during.path_m == pytest.approx(0.2)
    assert outcome.during.speed_m_s == pytest.approx(0.1)


def test_a_hold_that_never_ends_is_no_recovery() -> None:
    _, found = run_holds((3.5, "servo", "no new chunk"))
    assert found.faults[0].recovered_after_s is None
    _, found = run_holds((1.0, "policy", "already"), (4.0, "policy", ""))
    held = found.faults[0].policy_hold
    assert held is not None
    assert (held.after_s, held.reason) == (0.0, "already")
    assert found.faults[0].recovered_after_s == 0.0


def test_no_hold_and_a_fault_that_never_came() -> None:
    _, found = run_holds()
    assert (found.faults[0].policy_hold, found.faults[0].recovered_after_s) == (None, None)
    _, found = run_holds(fault={"fault": "drop", "channel": OVERHEAD, "from_s": 30})
    assert found.faults[0].began_s is None


def test_the_record_reads_back_and_has_a_table() -> None:
    faults, found = run_holds((3.5, "servo", "no new chunk: 2.0 s"))
    record = FaultRecord(mode="lockstep", plan=faults.plan, trials=[found])
    assert FaultRecord.model_validate_json(record.model_dump_json()) == record
    assert table(record).row_count == 1
    (text,) = [value for key, value in facts_of(record, "drop").items() if key.startswith("in seed")]
    assert "drop camera/overhead" in text
    assert "servo hold: after 0.50 s: no new chunk" in text
