"""The twin's own delays, in lock-step and thus known to the tick, found by what calibrates the robot."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pydrake")

from ambient_policy.chunks import Chunk
from ambient_policy.excitation import ExcitationConfig, excitation
from ambient_policy.image_delay import shrink
from ambient_policy.latency_calibration import Calibration, Pictures, Recording
from ambient_policy.limits import MotionLimits
from ambient_policy.servo import Servo, ServoConfig
from ambient_policy.time_delay import Delay, Track, Unknown
from sim.scenario import load_scenario
from sim.station import Station

pytestmark = pytest.mark.sim


@pytest.mark.parametrize(("lag_s", "see"), [(0.0, False), (0.1, True), (0.2, False)])
def test_the_twins_delays_are_found(lag_s: float, see: bool) -> None:
    """A target is reached after the lag and one period; overhead pictures get stamps that are 70 ms late."""
    scenario = load_scenario("pushing", {"actuation": {"lag_s": lag_s}})
    station, period_s = Station(scenario, cameras=see), scenario.control_period_s
    limits = MotionLimits(**scenario.limits.model_dump())
    servo = Servo(ServoConfig(), limits, period_s)
    servo.following = True
    path = excitation(ExcitationConfig(duration_s=8.0), station.tool_xy(), limits, period_s)
    poses, targets, pictures = [], [], []
    for tick in range(len(path) + 60):
        now_s = tick * period_s
        poses.append(station.tool_xy())
        servo.observe(poses[-1], now_s)
        if tick == 0:
            assert servo.accept(Chunk(0.5, path, period_s), now_s) == ""
        command = servo.command(now_s)
        assert command is not None
        targets.append(command.position)
        if see and tick % 5 == 0:
            pictures.append({name: shrink(image) for name, image in station.images().items()})
        station.advance(command.position)
    times_s = period_s * np.arange(len(poses))
    late_s = {"overhead": 0.07, "wrist": 0.0}
    seen = {
        name: Pictures(times_s[::5] + late_s[name], times_s[::5] + 0.2, np.array([p[name] for p in pictures]))
        for name in (scenario.cameras if see else ())
    }
    found = Calibration.of(
        Recording(Track(times_s, np.array(targets)), Track(times_s, np.array(poses)), seen)
    )
    assert isinstance(found.actuation, Delay)
    assert found.actuation.delay_s == pytest.approx(period_s + lag_s, abs=1e-3)
    assert found.actuation.residual_m < 1e-4
    if see:
        assert found.cameras["overhead"].delay_s == pytest.approx(0.07, abs=6e-3)
        # It looks at a bare table here.
        assert isinstance(found.cameras["wrist"], Unknown)
