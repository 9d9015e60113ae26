"""The twin as a mere robot: in real time it publishes state and images, and follows tool/target."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import rclpy

from ambient_policy_ros.latency import LatencyBook
from ambient_policy_ros.twin_link import TwinLink
from ambient_policy_ros.twin_pace import RealTime
from sim.station import Station

START_NS = 1_000_000_000
"""0 would mean "no time yet" to ROS."""


def stand_by(station: Station, link: TwinLink) -> None:
    """Run until told to stop, from where the station is; nobody needs to answer, and nothing is scored.

    Faults, if there are any, are on from the start as in a trial.
    """
    scenario = station.scenario
    period_ns = round(scenario.control_period_s * 1e9)
    ticks_a_frame = round(scenario.policy_period_s / scenario.control_period_s)
    # The same pace as that of trials, so that what is measured here holds there; its latencies are not kept.
    pace = RealTime(link, LatencyBook(Path(os.devnull)), silence_s=math.inf)
    command, stamp_ns, tick = station.tool_xy(), START_NS, 0
    link.queue_joints([(stamp_ns, station.joint_positions(), station.joint_velocities())], first=True)
    if link.faults is not None:
        link.faults.begin_trial(0, stamp_ns)
    pace.begin()
    try:
        while rclpy.ok():
            target = pace.target(stamp_ns, station.tool_xy(), station.tool_velocity())
            if tick % ticks_a_frame == 0:
                pace.show(stamp_ns, station.images())
            if target is not None and isinstance(target[1], np.ndarray):
                command = target[1]
            station.advance(command)
            samples = station.joint_samples
            stamps_ns = [stamp_ns + period_ns * (k + 1) // len(samples) for k in range(len(samples))]
            link.queue_joints(
                [(ns, s.positions, s.velocities) for ns, s in zip(stamps_ns, samples, strict=True)]
            )
            stamp_ns += period_ns
            tick += 1
    finally:
        print(f"late ticks: {pace.late_ticks} of {pace.ticks} by more than 10 ms", flush=True)
