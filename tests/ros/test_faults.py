"""The bench with real nodes: faults between twin and nodes, kills, the record; and how nodes end."""

from __future__ import annotations

import json
import random
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

pytest.importorskip("rclpy")
pytest.importorskip("pydrake")

from ambient_policy.config import dump_yaml
from ambient_policy.trials import read_trials
from ambient_policy_ros.fault_record import FaultRecord, TrialFaults
from sim.scenario import load_scenario
from tests.helpers_bundle import make_bundle

if TYPE_CHECKING:
    from tests.ros.conftest import Running, Start

pytestmark = [pytest.mark.ros, pytest.mark.sim]

CLI = "import sys; from ambient_policy.cli import main; sys.exit(main(sys.argv[1:]))"
IMAGE = "camera/overhead/color/image_raw"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory):
    """Make a policy whose chunks last 0.8 s and move as the images say."""
    cameras = load_scenario("pushing").cameras
    gains = {"drift_m": (0.0, -0.01), "features_gain": 0.02, "noise_gain": 0.3}
    return make_bundle(
        tmp_path_factory.mktemp("policy") / "bundle", cameras=tuple(cameras), width=128, height=96, **gains
    )


def bench(
    start: Start, folder: Path, bundle, plan: dict, *, time_limit_s: float, **arguments: object
) -> Running:
    """Start the bench as users do, with a plan and a short trial."""
    folder.mkdir(parents=True, exist_ok=True)
    scenario = load_scenario("pushing", {"task": {"time_limit_s": time_limit_s, "delay_s": 0.1}})
    (folder / "short.yaml").write_text(dump_yaml(scenario))
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan))
    given = {
        "policy": bundle.folder,
        "faults": folder / "plan.yaml",
        "scenario": folder / "short.yaml",
        "output": folder / "run",
        "video": "false",
        **arguments,
    }
    return start("-c", CLI, "launch", "bench", *(f"{name}:={value}" for name, value in given.items()))


def record_of(folder: Path) -> FaultRecord:
    return FaultRecord.model_validate_json((folder / "run/faults.json").read_text())


FAULTS = {
    "title": "one after another",
    "faults": [
        {"fault": "latency", "channel": IMAGE, "delay_s": 0.2, "from_s": 0.3, "until_s": 0.8},
        {"fault": "drop", "channel": "tool/pose", "from_s": 0.9, "until_s": 1.2},
        {"fault": "nan", "channel": "tool/target", "from_s": 1.3, "until_s": 1.4},
        {"fault": "reorder", "channel": "camera/*/color/image_raw", "from_s": 1.6, "until_s": 2.0},
        {"fault": "clock_jump", "by_s": 1.0, "from_s": 2.2, "until_s": 2.5},
        {"fault": "jitter", "channel": "tool/target", "max_s": 0.1, "from_s": 2.7, "until_s": 3.1},
    ],
}


def test_lock_step_with_faults_ends_and_repeats(start: Start, tmp_path: Path, bundle) -> None:
    """Late, lost, spoilt and swapped messages, a wrong clock: no deadlock, and twice the same."""
    found: list[TrialFaults] = []
    poses = []
    for name in ("once", "again"):
        job = bench(start, tmp_path / name, bundle, FAULTS, time_limit_s=3.3)
        assert job.wait(240) == 0, job.output()
        record = record_of(tmp_path / name)
        assert [t.outcome for t in record.trials] == ["timeout"]
        found.append(record.trials[0])
        (trial,) = read_trials(tmp_path / name / "run/trials.jsonl")
        poses.append((trial.final_position_error_m, trial.final_yaw_error_rad, trial.chunks))
        assert "one after another" in job.output()
    assert poses[0] == poses[1], "in lock-step the trial does not depend on the machine"

    latency, drop, nan, reorder, jump, jitter = found[0].faults
    assert latency.messages[IMAGE].model_dump() == {"seen": 5, "hit": 5, "undelivered": 0}
    assert latency.policy_hold is None, "0.2 s old images are no reason to hold: the limit is 0.5 s"
    assert drop.messages["tool/pose"].hit == 30
    assert drop.servo_hold is None, "without a pose there is no command at all, so no hold either"
    assert drop.during is not None
    assert drop.during.target_step_m == 0.0, "the robot keeps its last target"
    assert nan.messages["tool/target"].hit == 10
    assert nan.during is not None
    assert nan.during.target_step_m == 0.0, "the robot takes no target that is no number"
    assert {count.hit for count in reorder.messages.values()} == {2}
    assert jump.servo_hold is not None
    assert jump.servo_hold.reason == "tool pose is 1.00 s old"
    assert jump.servo_hold.after_s <= 0.02
    assert jump.recovered_after_s is not None
    assert jump.recovered_after_s < 0.2
    assert jitter.messages["tool/target"].seen == 40

    facts = json.loads((tmp_path / "once/run/run.json").read_text())
    assert facts["faults"]["title"] == "one after another"
    page = (tmp_path / "once/run/report.html").read_text()
    assert "clock_jump /clock (by_s 1.0)" in page


def test_pictures_that_no_stamp_tells_of_are_holds_with_their_reasons(
    start: Start, tmp_path: Path, bundle
) -> None:
    """Black and frozen pictures come in time, so only a look at them can tell."""
    plan = {
        "faults": [
            {"fault": "black", "channel": IMAGE, "from_s": 0.4, "until_s": 0.8},
            {"fault": "freeze", "channel": IMAGE, "from_s": 1.2, "until_s": 2.0},
        ]
    }
    job = bench(start, tmp_path, bundle, plan, time_limit_s=2.4)
    assert job.wait(240) == 0, job.output()
    ((black, frozen),) = [t.faults for t in record_of(tmp_path).trials]
    assert black.policy_hold is not None
    assert black.policy_hold.reason == "camera `overhead` shows nothing: all values within 0.0 of 0"
    assert black.policy_hold.after_s <= 0.1, "at its first picture"
    assert frozen.policy_hold is not None
    assert frozen.policy_hold.reason.startswith("camera `overhead` is frozen: the same picture since")
    assert frozen.policy_hold.after_s <= 0.6, "0.02 m at 0.1 m/s, and a frame"
    assert black.recovered_after_s is not None
    assert frozen.recovered_after_s is not None
    assert frozen.recovered_after_s <= 0.2


def test_a_killed_policy_is_started_again_and_the_trial_goes_on(start: Start, tmp_path: Path, bundle) -> None:
    plan = {
        "faults": [
            {"fault": "kill", "node": "policy", "at_s": 0.5, "for_s": 1.2},
            {"fault": "kill", "node": "servo", "signal": "STOP", "at_s": 2.3, "for_s": 0.2},
        ]
    }
    job = bench(start, tmp_path, bundle, plan, time_limit_s=2.8, respawn="true")
    assert job.wait(240) == 0, job.output()
    assert "[launch] policy was killed by SIGKILL" in job.output()
    ((kill, stop),) = [t.faults for t in record_of(tmp_path).trials]
    assert kill.servo_hold is not None
    assert "no new chunk" in kill.servo_hold.reason
    assert 0.3 < kill.servo_hold.after_s < 1.2, "the last chunk lasts 0.8 s, and 0.2 s of grace"
    assert kill.recovered_after_s is not None
    assert kill.recovered_after_s < 0.5, "in lock-step the twin has waited for it"
    assert stop.during is not None
    assert stop.during.target_step_m == 0.0, "a robot whose servo hangs keeps its last target"


def test_real_time_with_late_images_and_a_dead_policy(start: Start, tmp_path: Path, bundle) -> None:
    """Nobody is waited for; with nothing to start the policy again, the run ends after this trial."""
    plan = {
        "faults": [
            {"fault": "latency", "channel": "camera/*/color/image_raw", "delay_s": 0.3},
            {"fault": "kill", "node": "policy", "at_s": 2.0},
        ]
    }
    job = bench(start, tmp_path, bundle, plan, time_limit_s=4.0, mode="realtime", trials=3)
    assert job.wait(240) == 128 + signal.SIGKILL, job.output()
    assert "the plan has killed policy: no more trials" in job.output()
    record = record_of(tmp_path)
    assert (record.mode, [t.outcome for t in record.trials]) == ("realtime", ["timeout"])
    late, kill = record.trials[0].faults
    assert sum(count.hit for count in late.messages.values()) == 80
    assert sum(count.undelivered for count in late.messages.values()) >= 4
    assert kill.recovered_after_s is None
    assert kill.servo_hold is not None
    lines = [json.loads(line) for line in (tmp_path / "run/latency.jsonl").read_text().splitlines()]
    assert lines
    assert min(line["command_age_ms"] for line in lines) >= 300, "by the robot's clock"


SERVO = {"workspace_min": "[-0.5,-0.5]", "workspace_max": "[0.5,0.5]", "max_speed_m_s": 0.2}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_node_leaves_whenever_it_is_told(start_node: Start, number: int) -> None:
    """Signals all over the start-up of a node that hears nothing: it is gone soon, without an error.

    rclpy wakes a node before it marks the end. One that looked in between waited for ever; a servo under
    simulated time, which has no timer of its own, did so in 1 of 48 starts on a loaded machine.
    """
    draw = random.Random(int(number))
    loading = [start_node("servo", use_sim_time="true", **SERVO) for _ in range(3)]
    for node in loading:
        time.sleep(draw.uniform(0.0, 0.6))
        node.process.send_signal(number)
    ready = [start_node("servo", use_sim_time="true", **SERVO) for _ in range(3)]
    for node in ready:
        node.wait_for("servo ready")
        time.sleep(draw.uniform(0.0, 0.02))
        node.process.send_signal(number)
    for node in loading + ready:
        code = node.wait(30)
        early = code == -number or "KeyboardInterrupt" in node.output()
        assert early or code == 0, node.output()
        # Before its code has run, Python's own answer to a signal holds.
        assert early or "Traceback" not in node.output(), node.output()
        assert "RCLError" not in node.output()


WAIT = """
import signal, sys, time
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from ambient_policy_ros import node_main

def end_the_context_late(executor, *args):
    '''Do what a signal does, with a second between its two halves: wake first, then end the context.'''
    def handler(number, frame):
        pass
    import threading
    def halves():
        time.sleep(0.5)
        executor.wake()
        time.sleep(0.5)
        executor.context._Context__context.shutdown()
    threading.Thread(target=halves, daemon=True).start()

spin = SingleThreadedExecutor.spin
def slow(self):
    end_the_context_late(self)
    print('spinning', flush=True)
    spin(self)
SingleThreadedExecutor.spin = slow
sys.exit(node_main.run(lambda: Node('quiet')))
"""


def test_a_node_whose_context_ends_after_it_was_woken_still_leaves(start: Start) -> None:
    """The race itself, stretched to half a second so that it is met every time."""
    node = start("-c", WAIT)
    node.wait_for("spinning")
    assert node.wait(20) == 0, node.output()


HANG = """
import ctypes, sys
from rclpy.node import Node
from ambient_policy_ros import node_main

class Hanging(Node):
    def destroy_node(self):
        print('closing', flush=True)
        ctypes.PyDLL(None).sleep(60)  # PyDLL keeps the interpreter's lock, as rclpy does in there

sys.exit(node_main.run(lambda: Hanging('hanging'), work=lambda node: int(sys.argv[1])))
"""


@pytest.mark.parametrize(("earned", "code"), [(0, -signal.SIGALRM), (2, 1)])
def test_a_node_that_hangs_in_closing_ends_and_says_where(start: Start, earned: int, code: int) -> None:
    node = start("-c", HANG, str(earned))
    node.wait_for("closing")
    assert node.wait(20) == code, node.output()
    assert "in destroy_node" in node.output()


def test_an_interrupt_while_nodes_load_leaves_no_traceback(start: Start, tmp_path: Path, bundle) -> None:
    job = bench(start, tmp_path, bundle, {"faults": []}, time_limit_s=60.0)
    deadline = time.monotonic() + 60
    while not any(has_loaded(child, "numpy") for child in children(job.process.pid)):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert job.stop(signal.SIGINT, 60) == 0, job.output()
    assert "SIGINT: ending" in job.output()
    assert "Traceback" not in job.output()


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def has_loaded(pid: str, library: str) -> bool:
    try:
        return library in Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return False
