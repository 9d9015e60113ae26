"""What a calibration writes can be set as it is, and read again."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from ambient_policy.excitation import ExcitationConfig
from ambient_policy.latency_calibration import (
    Calibration,
    LatencyRecord,
    NotMeasured,
    Pictures,
    Recording,
    parameters_yaml,
    traffic,
)
from ambient_policy.latency_plots import latency_figure
from ambient_policy.runtime import delays_by_camera
from ambient_policy.servo import ServoConfig
from tests.core.test_image_delay import blobs
from tests.core.test_time_delay import motion, sampled, still


@pytest.fixture(scope="module")
def recording() -> Recording:
    """A robot 0.1 s late, a camera that stamps 50 ms late, and one that does not see the tool."""
    true = motion(duration_s=20.0)
    poses = sampled(true, 100, 2, delay_s=0.1)
    cameras = {}
    for name, late_s, moving in (("overhead", 0.05, True), ("wrist", 0.0, False)):
        shown_s = sampled(true, 10, 5).times_s
        small = blobs(poses.at(shown_s), moving=moving)
        cameras[name] = Pictures(shown_s + late_s, shown_s + late_s + 0.02, small)
    return Recording(sampled(true, 100, 1), poses, cameras)


def record_of(recording: Recording, found: Calibration) -> LatencyRecord:
    return LatencyRecord(
        commit="test",
        clock="wall",
        motion=ExcitationConfig(),
        start_m=(0.5, 0.1),
        targets=1,
        poses=1,
        traffic={name: traffic(seen) for name, seen in recording.cameras.items()},
        **found.records(),
    )


def test_the_parameters_are_those_that_servo_and_policy_take(recording: Recording) -> None:
    found = Calibration.of(recording)
    record = record_of(recording, found)
    text = parameters_yaml(record)
    parameters = {key: node["ros__parameters"] for key, node in yaml.safe_load(text).items()}
    assert ServoConfig(**parameters["/**/servo"]).lead_s == pytest.approx(0.1, abs=2e-3)
    policy = parameters["/**/policy"]
    delays_s = delays_by_camera(policy["delayed_cameras"], policy["image_delay_s"])
    assert delays_s == {"overhead": pytest.approx(0.05, abs=5e-3)}
    assert "# image_delay_s of wrist: not measured: its pictures predict" in text
    assert LatencyRecord.model_validate_json(record.model_dump_json()) == record
    assert record.traffic["overhead"].rate_hz == pytest.approx(10, rel=0.05)
    assert record.traffic["overhead"].arrives_s == pytest.approx(0.02)
    assert latency_figure(recording, found).startswith(b"\x89PNG")


def test_what_was_not_measured_sets_nothing(recording: Recording) -> None:
    nothing = Recording(recording.targets, still(recording.poses), recording.cameras)
    record = record_of(nothing, Calibration.of(nothing))
    assert isinstance(record.actuation, NotMeasured)
    text = parameters_yaml(record)
    assert yaml.safe_load(text) is None
    assert text.count("not measured: the") == 3
    assert np.isfinite(record.traffic["wrist"].arrives_s)
