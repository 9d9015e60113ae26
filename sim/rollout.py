"""One trial of a policy in the twin without ROS: runtime and servo of the nodes, in lock-step."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable

import numpy as np
from pydantic import Field

from ambient_policy.chunks import TIME_EPSILON_S, Array, Chunk
from ambient_policy.config import StrictModel
from ambient_policy.limits import MotionLimits
from ambient_policy.provenance import commit
from ambient_policy.reasons import without_numbers
from ambient_policy.runtime import PolicyLike, PolicyRuntime, RuntimeConfig
from ambient_policy.servo import Servo, ServoConfig
from ambient_policy.trials import Trial
from sim.starts import sample_start
from sim.station import Station
from sim.task import OutcomeMonitor


class RolloutConfig(StrictModel):
    """How a policy is run; the ROS launch file has the same values."""

    servo: ServoConfig = ServoConfig()
    delay_s: float = Field(default=0.0, ge=0)
    """Simulated time that a decision is made to take; the simulation waits for the real one anyway."""
    policy_seed: int = 0
    """Of the starting noise; every trial begins with it anew."""
    runtime: RuntimeConfig = RuntimeConfig()


def run_trial(
    station: Station,
    policy: PolicyLike,
    seed: int,
    config: RolloutConfig,
    *,
    on_frame: Callable[[], None] | None = None,
    on_command: Callable[[float, Array, float | None], None] | None = None,
) -> Trial:
    """Run one seeded trial to its end.

    Args:
        on_frame: called at every camera frame, after rendering (for videos).
        on_command: called at every control tick with time [s], command (2,) [m] and the stamp of the chunk
            that it follows.
    """
    scenario = station.scenario
    began = time.perf_counter()
    period = scenario.control_period_s
    substeps = round(scenario.policy_period_s / period)
    limits = MotionLimits(**scenario.limits.model_dump())
    runtime = PolicyRuntime(policy, config.runtime, np.random.default_rng(config.policy_seed))
    servo = Servo(config.servo, limits, period)
    servo.following = True
    monitor = OutcomeMonitor(scenario.task)
    holds: Counter[str] = Counter()
    chunks = 0
    under_way: deque[Chunk] = deque()

    station.reset(sample_start(scenario, seed))
    station.advance(np.array(scenario.task.tool_home), round(scenario.task.delay_s / period))
    start_s = station.time_s
    tick = 0
    while not monitor.finished:
        now_s = start_s + tick * period
        if tick % substeps == 0:
            runtime.observe_tool(station.tool_xy(), now_s)
            for name, image in station.images().items():
                runtime.observe_image(name, image, now_s)
            if on_frame is not None:
                on_frame()
            decision = runtime.plan(now_s)
            if decision.chunk is not None:
                chunks += 1
                under_way.append(decision.chunk)
            elif decision.hold is not None:
                holds[f"policy: {decision.hold.reason}"] += substeps
        while under_way and now_s >= under_way[0].stamp_s + config.delay_s - TIME_EPSILON_S:
            if refused := servo.accept(under_way.popleft(), now_s):
                holds[f"servo refused: {without_numbers(refused)}"] += 1
        servo.observe(station.tool_xy(), now_s)
        command = servo.command(now_s)
        assert command is not None
        if command.hold:
            holds[f"servo: {command.hold}"] += 1
        if on_command is not None:
            on_command(now_s, command.position, servo.active_stamp_s)
        station.advance(command.position)
        tick += 1
        monitor.update(tick * period, station.slider_pose(), station.slider_height(), station.tool_xy())
    return Trial(
        policy=policy.manifest.name,
        bundle_commit=policy.manifest.commit,
        scenario=scenario.name,
        seed=seed,
        runner="direct",
        holds=dict(holds),
        limited_ticks=servo.limited,
        chunks=chunks,
        settings=config.model_dump_json(exclude_defaults=True),
        commit=commit(),
        wall_s=time.perf_counter() - began,
        **monitor.result().trial_fields(),
    )
