"""The whole job as users start it: launch file, three processes, trials, files, exit code."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy")
pytest.importorskip("pydrake")

from ambient_policy.config import dump_yaml
from ambient_policy.inference import Policy
from ambient_policy.trials import read_trials
from sim.rollout import RolloutConfig, run_trial
from sim.scenario import load_scenario
from sim.starts import sample_start
from sim.station import Station
from tests.helpers_bundle import make_bundle

if TYPE_CHECKING:
    from tests.ros.conftest import Start

pytestmark = [pytest.mark.ros, pytest.mark.sim]

CLI = "import sys; from ambient_policy.cli import main; sys.exit(main(sys.argv[1:]))"
TIME_LIMIT_S = 2.0


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the shipped scenario with little time."""
    path = tmp_path_factory.mktemp("scenario") / "short.yaml"
    path.write_text(dump_yaml(load_scenario("pushing", {"task": {"time_limit_s": TIME_LIMIT_S}})))
    return path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory):
    """Make a policy that moves as the images say, with noise: any difference between two runs shows."""
    cameras = load_scenario("pushing").cameras
    size = {"width": 128, "height": 96}
    gains = {"drift_m": (0.0, -0.01), "features_gain": 0.02, "noise_gain": 0.3}
    return make_bundle(tmp_path_factory.mktemp("policy") / "bundle", cameras=tuple(cameras), **size, **gains)


def test_launch_pushing(start: Start, tmp_path: Path, scenario: Path, bundle) -> None:
    """`ambient-policy launch pushing` in lock-step: every file is there; the trials are those without ROS."""
    output = tmp_path / "run"
    job = start(
        *("-c", CLI, "launch", "pushing", f"policy:={bundle.folder}", "trials:=2", "seed:=100005"),
        *(f"scenario:={scenario}", f"output:={output}"),
    )
    assert job.wait(240) == 0, job.output()
    assert "[twin] trial 2 of 2, seed 100006: TIMEOUT   [0 of 2 succeeded]" in job.output()

    trials = read_trials(output / "trials.jsonl")
    assert [(t.seed, t.runner, t.outcome, t.duration_s) for t in trials] == [
        (100005, "ros-lockstep", "timeout", TIME_LIMIT_S),
        (100006, "ros-lockstep", "timeout", TIME_LIMIT_S),
    ]
    assert all(t.holds == {"servo: waiting for a first chunk": 5} for t in trials)
    assert all(t.policy == "hand-made" and t.bundle_commit == "test" for t in trials)

    facts = json.loads((output / "run.json").read_text())
    assert (facts["trials"], facts["mode"], facts["provider"]) == (2, "lockstep", "cpu")
    assert facts["bundle_sha256"] == bundle.digest
    assert facts["simulated_s"] == 2 * TIME_LIMIT_S
    lines = [json.loads(line) for line in (output / "latency.jsonl").read_text().splitlines()]
    assert len(lines) == sum(t.chunks for t in trials) == 10
    for line in lines:
        assert line["image_to_command_ms"] >= line["image_to_chunk_ms"] >= line["encode_ms"] > 0
        assert line["command_age_ms"] == pytest.approx(50), (
            "in lock-step a chunk takes over at its handover age"
        )
    assert "<html" in (output / "report.html").read_text()
    stills = sorted(path.name for path in (output / "stills").iterdir())
    assert stills == [f"seed_{seed}_{when}.png" for seed in (100005, 100006) for when in ("end", "start")]
    with av.open(str(output / "pushing.mp4")) as film:
        frames = sum(1 for _ in film.decode(video=0))
    assert frames == 2 * TIME_LIMIT_S * 10

    station, policy = Station(load_scenario(str(scenario))), Policy(bundle)
    moved_m = []
    for trial in trials:
        direct = run_trial(station, policy, trial.seed, RolloutConfig())
        start_xy = sample_start(station.scenario, trial.seed).slider_pose[:2]
        moved_m.append(np.linalg.norm(station.slider_pose()[:2] - start_xy))
        for key in ("chunks", "limited_ticks", "final_position_error_m", "final_yaw_error_rad"):
            assert getattr(direct, key) == getattr(trial, key), f"{key}: without ROS, and through it"
    assert max(moved_m) > 0.01, "the T was not pushed, so its pose tells nothing"


def test_real_time_and_an_interrupt(start: Start, tmp_path: Path, scenario: Path, bundle) -> None:
    """Ctrl-C in the second trial: exit code 0, and everything of the first is on disk."""
    output = tmp_path / "run"
    job = start(
        *("-c", CLI, "launch", "pushing", f"policy:={bundle.folder}", "trials:=50", "mode:=realtime"),
        *(f"scenario:={scenario}", f"output:={output}", "video:=false"),
    )
    job.wait_for("of 1 succeeded]", 120)
    assert job.stop(signal.SIGINT, 60) == 0, job.output()
    trials = read_trials(output / "trials.jsonl")
    assert 1 <= len(trials) < 50
    assert {trial.runner for trial in trials} == {"ros-realtime"}
    facts = json.loads((output / "run.json").read_text())
    assert facts["trials"] == len(trials)
    assert "late_ticks" in facts
    assert (output / "report.html").exists()
    assert not list(output.glob("*.mp4"))


def test_a_dead_policy_ends_the_job_with_its_code(start: Start, tmp_path: Path) -> None:
    job = start("-c", CLI, "launch", "pushing", f"policy:={tmp_path}/nothing", f"output:={tmp_path}/run")
    assert job.wait(120) == 2
    assert "[policy] error:" in job.output()
    assert "[launch] policy ended with exit code 2" in job.output()


def test_a_node_that_never_comes_is_named(start_node: Start, tmp_path: Path, scenario: Path) -> None:
    twin = start_node("twin", scenario=scenario, output=tmp_path / "run", startup_s=1.0)
    assert twin.wait(120) == 2
    assert "no answer to policy/enable from: policy, servo (waited 1 s)" in twin.output()
    assert "Traceback" not in twin.output()


def test_a_node_that_stops_answering_is_named_and_the_trial_is_aborted(
    start_node: Start, root: Path, tmp_path: Path, scenario: Path, bundle
) -> None:
    """A stopped process stands for one that hangs: it is there, and says nothing."""
    config = yaml.safe_load((root / "ros2_ws/src/ambient_policy/config/pushing.yaml").read_text())
    servo = start_node("servo", use_sim_time="true", **config["/**/servo"]["ros__parameters"])
    start_node("policy", use_sim_time="true", bundle=bundle.folder)
    endless = tmp_path / "endless.yaml"
    endless.write_text(dump_yaml(load_scenario(str(scenario), {"task": {"time_limit_s": 1000.0}})))
    run = {"scenario": endless, "output": tmp_path / "run", "video": "false", "silence_s": 2.0}
    twin = start_node("twin", trials=3, **run)
    twin.wait_for("trial 1 of 3", 120)
    servo.process.send_signal(signal.SIGSTOP)
    assert twin.wait(120) == 2
    assert "the servo node went silent: no tool/target" in twin.output()
    (trial,) = read_trials(tmp_path / "run/trials.jsonl")
    assert (trial.outcome, trial.success) == ("aborted", False)
