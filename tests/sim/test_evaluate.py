"""Rollouts and `evaluate` with policies whose motion is known in advance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ambient_policy.config import dump_yaml
from ambient_policy.errors import ConfigError
from ambient_policy.inference import Policy
from ambient_policy.servo import ServoConfig
from ambient_policy.trials import read_trials
from sim.evaluate import main
from sim.rollout import RolloutConfig, run_trial
from sim.scenario import Scenario, load_scenario
from sim.station import Station
from tests.helpers_bundle import make_bundle, make_manifest

pytestmark = pytest.mark.sim


@pytest.fixture(scope="module")
def short() -> Scenario:
    """The task with a clock of two seconds."""
    return load_scenario("pushing", {"task": {"time_limit_s": 2.0}})


@pytest.fixture(scope="module")
def station(short) -> Station:
    return Station(short)


def policy(folder: Path, **changes) -> Policy:
    return Policy(make_bundle(folder, cameras=("overhead", "wrist"), **changes))


def test_the_tool_goes_where_the_chunks_say(tmp_path, station):
    """5 mm a step to the right for two seconds, in five chunks, without losing any at the changes."""
    trial = run_trial(
        station,
        policy(tmp_path / "b", drift_m=(0.005, 0.0)),
        100_000,
        RolloutConfig(servo=ServoConfig(handover_s=0.0)),
    )
    moved = station.tool_xy() - np.array(station.scenario.task.tool_home)
    np.testing.assert_allclose(moved, [0.1, 0.0], atol=1.5e-3)
    assert (trial.success, trial.outcome, trial.runner) == (False, "timeout", "direct")
    assert trial.chunks == 5, "20 frames, a plan every 4"
    assert (trial.duration_s, trial.limited_ticks) == (2.0, 0)


def test_a_wild_policy_is_slowed_and_kept_inside(tmp_path, station):
    trial = run_trial(station, policy(tmp_path / "b", drift_m=(0.09, 0.0)), 100_000, RolloutConfig())
    limits = station.scenario.limits
    assert trial.limited_ticks > 100
    assert station.tool_xy()[0] <= limits.workspace_max[0] + 1e-3


def test_a_policy_without_its_camera_holds_with_the_reason(tmp_path, short):
    alone = short.model_copy(update={"cameras": {"wrist": short.cameras["wrist"]}})
    trial = run_trial(Station(alone), policy(tmp_path / "b"), 100_000, RolloutConfig())
    assert trial.chunks == 0
    assert trial.holds == {
        "policy: no image from camera `overhead` yet": 200,
        "servo: waiting for a first chunk": 200,
    }


def test_a_decision_that_takes_long_arrives_late(tmp_path, station):
    """The first chunk moves the tool 0.2 s later; the others are there when the one before has run so far."""
    moved, followed = [], []
    run_trial(
        station,
        policy(tmp_path / "b", drift_m=(0.005, 0.0)),
        100_000,
        RolloutConfig(servo=ServoConfig(handover_s=0.0), delay_s=0.2),
        on_command=lambda now_s, xy, stamp_s: (moved.append(xy), followed.append((now_s, stamp_s))),
    )
    still = np.flatnonzero(np.linalg.norm(np.diff(moved, axis=0), axis=1) > 1e-9)[0]
    assert still == 19, "tick 20 is the first with a new target"
    ages = {stamp_s: now_s - stamp_s for now_s, stamp_s in reversed(followed) if stamp_s is not None}
    np.testing.assert_allclose(list(ages.values()), 0.2, atol=1e-9)


def test_known_actions_smooth_the_seam(tmp_path, station):
    """A noisy policy that replaces its first actions by those under way does not jump between chunks."""

    def largest_jump(kind: str) -> float:
        noisy = make_manifest(cameras=("overhead", "wrist"))
        noisy = noisy.model_copy(update={"sampler": noisy.sampler.model_copy(update={"prefix": True})})
        bundle = make_bundle(tmp_path / kind, manifest=noisy, drift_m=(0.002, 0.0), noise_gain=0.5)
        commands: list[np.ndarray] = []
        seams: list[float | None] = []
        run_trial(
            station,
            Policy(bundle, prefix=True),
            100_000,
            RolloutConfig(runtime={"seam": {"kind": kind, "off_plan_m": 1.0}}),
            on_command=lambda now_s, xy, stamp_s: (commands.append(xy), seams.append(stamp_s)),
        )
        change = [i for i in range(1, len(seams)) if seams[i] != seams[i - 1] and seams[i - 1] is not None]
        step = np.linalg.norm(np.diff(commands, 2, axis=0), axis=1)
        return float(max(step[[i - 1 for i in change]]))

    assert largest_jump("prefix") < 0.5 * largest_jump("replace")


def test_a_trial_does_not_depend_on_those_before_it(tmp_path, station):
    noisy = policy(tmp_path / "b", drift_m=(0.0, -0.01), noise_gain=0.3)
    first = run_trial(station, noisy, 100_001, RolloutConfig())
    run_trial(station, noisy, 100_002, RolloutConfig())
    again = run_trial(station, noisy, 100_001, RolloutConfig())
    assert first.model_copy(update={"wall_s": 0.0}) == again.model_copy(update={"wall_s": 0.0})


def test_evaluate_resumes_films_and_refuses_another_policy(tmp_path, short, capsys):
    scenario = tmp_path / "short.yaml"
    scenario.write_text(dump_yaml(short))
    make_bundle(tmp_path / "a", cameras=("overhead", "wrist"))
    make_bundle(tmp_path / "b", cameras=("overhead", "wrist"), name="other")
    out = tmp_path / "out"

    def run(bundle: str, trials: int, *more: str) -> int:
        base = [str(tmp_path / bundle), "--out", str(out), "--scenario", str(scenario), "--processes", "1"]
        return main([*base, "--trials", str(trials), *more])

    assert run("a", 1, "--film", "all") == 0
    assert (out / "trial_100000.mp4").stat().st_size > 1000
    assert run("a", 3) == 0
    trials = read_trials(out / "trials.jsonl")
    assert sorted(t.seed for t in trials) == [100_000, 100_001, 100_002]
    assert "0/3 = 0.000" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="trials of hand-made .* this bundle is other"):
        run("b", 3)
    with pytest.raises(ConfigError, match=r"trials in scenario pushing, these are in pushing\+friction=1"):
        run("a", 3, "--gap", "friction")
    with pytest.raises(ConfigError, match=r'trials run with {}, these are with {"delay_s":0.2}'):
        run("a", 3, "--delay-s", "0.2")
