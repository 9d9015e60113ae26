"""One trial after another in the twin, through ROS: start, enable, run to the outcome, record."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import Literal

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException

from ambient_policy.errors import TrialError
from ambient_policy.joint_command import JointCommand
from ambient_policy.provenance import commit
from ambient_policy.trials import Trial
from ambient_policy_ros.fault_record import MotionLog
from ambient_policy_ros.latency import LatencyBook
from ambient_policy_ros.twin_link import TwinLink
from ambient_policy_ros.twin_pace import Pace
from ambient_policy_ros.twin_record import Recorder
from sim.starts import sample_start
from sim.station import Station
from sim.task import OutcomeMonitor

PROGRESS_S = 4.0
"""A line is printed this often (wall time)."""

Runner = Literal["ros-lockstep", "ros-realtime"]


class TrialRunner:
    """Runs trials; ROS time goes on from one to the next, as a robot's would.

    Args:
        station: the twin.
        link: its topics.
        pace: how it keeps time.
        book: takes the latencies.
        recorder: takes trials, stills and film.
        runner: what the trials are recorded as.
        startup_s: how long the nodes may take to load and to answer for the first time (wall time).
        silence_s: how long they may take later.
    """

    def __init__(
        self,
        station: Station,
        link: TwinLink,
        pace: Pace,
        book: LatencyBook,
        recorder: Recorder,
        runner: Runner,
        startup_s: float,
        silence_s: float,
    ) -> None:
        self._station, self._link, self._pace = station, link, pace
        self._book, self._recorder, self._runner = book, recorder, runner
        self._startup_s, self._silence_s = startup_s, silence_s
        self._scenario = station.scenario
        self._period_ns = round(self._scenario.control_period_s * 1e9)
        self._ticks_a_frame = round(self._scenario.policy_period_s / self._scenario.control_period_s)
        self._stamp_ns = 1_000_000_000  # 0 would mean "no time yet" to ROS
        self.simulated_s = 0.0
        self.motion = MotionLog()
        """The tool in the last trial, if there are faults."""
        self.trials: list[Trial] = []
        """All that have ended, aborted ones too."""

    def run(self, number: int, seed: int, label: str) -> Trial:
        """Run trial `number`, counted from 0, from the start of `seed`; `label` heads its lines of progress.

        Raises:
            TrialError: a node went silent. The trial has then been recorded as aborted.
        """
        began_s = time.monotonic()
        self._enable(False, self._startup_s if number == 0 else self._silence_s)
        self._station.reset(sample_start(self._scenario, seed))
        self._settle()
        self._book.begin_trial(number)
        self._recorder.begin_trial(seed, label)
        inbox, faults = self._link.inbox, self._link.faults
        inbox.policy_holds.clear()
        inbox.accepted = inbox.refused = 0
        inbox.facts.pop("holds", None)
        self._enable(True, self._silence_s)
        self._pace.begin()
        if faults is not None:
            faults.begin_trial(number, self._stamp_ns)
        self.motion = MotionLog()
        monitor = OutcomeMonitor(self._scenario.task)
        silence: TrialError | None = None
        try:
            try:
                self._to_the_end(monitor, label)
            finally:
                if faults is not None:
                    faults.end_trial()
            self._enable(False, self._silence_s)
        except TrialError as error:
            silence = error
        trial = self._trial(monitor, seed, time.monotonic() - began_s, aborted=silence is not None)
        self._recorder.end_trial(trial)
        self.trials.append(trial)
        if silence is not None:
            raise silence
        return trial

    def _enable(self, value: bool, timeout_s: float) -> None:
        """Tell the nodes, and wait until each has said that it is so."""
        wanted = "active" if value else "inactive"
        answers, faults = self._link.inbox.enabled, self._link.faults
        nodes = [node for node in self._link.nodes if faults is None or node not in faults.away]
        answers.clear()
        said, began_s = 0, time.monotonic()
        while waiting := [node for node in nodes if answers.get(node) != wanted]:
            if time.monotonic() - began_s > timeout_s:
                raise TrialError(
                    f"no answer to policy/enable from: {', '.join(waiting)} (waited {timeout_s:.0f} s); see "
                    "the node's own output above, and whether it runs with the same ROS_DOMAIN_ID"
                )
            # Said again from time to time: an answer given before its reader was found is lost.
            self._link.publish_enable(value)
            said += 1
            self._link.wait(lambda: all(answers.get(node) == wanted for node in nodes), 0.5)
        if faults is not None and said > 1:  # a second answer must not pass for that to a later roll call
            self._link.drain(time.monotonic() + 1.0)
        # Discovery takes a killed node for alive for another 20 s.
        if (faults is None or not faults.has_killed) and (rivals := self._link.rivals()):
            raise TrialError(
                f"several nodes publish {', '.join(rivals)}: another launch is still running; end it, or "
                "give this one a ROS_DOMAIN_ID of its own"
            )

    def _settle(self) -> None:
        """Let the T come to rest with the tool at home, as the task says, before anyone may move."""
        ticks = round(self._scenario.task.delay_s / self._scenario.control_period_s)
        if ticks:
            self._station.advance(np.array(self._scenario.task.tool_home), ticks)
        self._stamp_ns += ticks * self._period_ns
        joints = (self._stamp_ns, self._station.joint_positions(), self._station.joint_velocities())
        self._link.queue_joints([joints], first=True)
        # One tick short: the time of the first pose must be news to the nodes.
        self._link.publish_clock((self._stamp_ns - self._period_ns) / 1e9)

    def _to_the_end(self, monitor: OutcomeMonitor, label: str) -> None:
        station, period_s = self._station, self._scenario.control_period_s
        command: np.ndarray | JointCommand = station.tool_xy()
        tick, began_s = 0, time.monotonic()
        report_s = began_s + PROGRESS_S
        while not monitor.finished:
            if not rclpy.ok():
                raise ExternalShutdownException()
            target = self._pace.target(self._stamp_ns, station.tool_xy(), station.tool_velocity())
            if tick % self._ticks_a_frame == 0:
                self._show()
            if target is not None:
                self._book.applied(target[0], time.monotonic())
                command = target[1]
            if self._link.faults is not None and not isinstance(command, JointCommand):
                self.motion.add(tick * period_s, station.tool_xy(), station.tool_velocity(), command)
            self._advance(command)
            self._queue_joints()
            tick += 1
            self._stamp_ns += self._period_ns
            self.simulated_s += period_s
            monitor.update(tick * period_s, station.slider_pose(), station.slider_height(), station.tool_xy())
            # Halfway between two images, so that filming does not delay them.
            if tick % self._ticks_a_frame == self._ticks_a_frame // 2:
                self._recorder.film(tick * period_s)
            if (now_s := time.monotonic()) >= report_s:
                report_s = now_s + PROGRESS_S
                self._say(monitor, label, tick * period_s, now_s - began_s)

    def _advance(self, command: np.ndarray | JointCommand) -> None:
        """Simulate the period that begins at this tick, as a robot with either kind of controller."""
        if not isinstance(command, JointCommand):
            self._station.advance(command)
            return
        updates = round(self._scenario.control_period_s / self._station.joint_period_s)
        step_s, now_s = self._station.joint_period_s, self._stamp_ns / 1e9
        self._station.advance_joints([command.at(now_s + k * step_s) for k in range(1, updates + 1)])

    def _queue_joints(self) -> None:
        """Hand over the joints of the period that begins at this tick; an arm has several in it."""
        samples = self._station.joint_samples
        self._link.queue_joints(
            [
                (self._stamp_ns + self._period_ns * (k + 1) // len(samples), s.positions, s.velocities)
                for k, s in enumerate(samples)
            ]
        )

    def _show(self) -> None:
        began_s = time.monotonic()
        images = self._station.images()
        self._book.frame(self._stamp_ns, began_s, time.monotonic())
        self._pace.show(self._stamp_ns, images)

    def _say(self, monitor: OutcomeMonitor, label: str, time_s: float, wall_s: float) -> None:
        distance_m, yaw_rad, _ = monitor.errors(self._station.slider_pose(), self._station.tool_xy())
        print(
            f"{label}: {time_s:.0f} s, T is {1e3 * distance_m:.0f} mm and {np.degrees(yaw_rad):.0f} deg from "
            f"its goal ({time_s / wall_s:.1f}x real time)",
            flush=True,
        )

    def _trial(self, monitor: OutcomeMonitor, seed: int, wall_s: float, *, aborted: bool) -> Trial:
        inbox, fields = self._link.inbox, monitor.result().trial_fields()
        # Measured here: the monitor has seen nothing yet if a node was silent from the start.
        distance_m, yaw_rad, _ = monitor.errors(self._station.slider_pose(), self._station.tool_xy())
        fields |= {"final_position_error_m": distance_m, "final_yaw_error_rad": yaw_rad}
        if aborted:
            fields |= {"outcome": "aborted", "success": False, "held": False}
        holds: Counter[str] = Counter()
        for kind, frames in inbox.policy_holds.items():
            holds[f"policy: {kind}"] = frames * self._ticks_a_frame
        for kind, ticks in json.loads(inbox.facts.get("holds", "{}")).items():
            holds[f"servo: {kind}"] = ticks
        return Trial(
            policy=inbox.facts.get("policy", "unknown"),
            bundle_commit=inbox.facts.get("bundle_commit", "unknown"),
            scenario=self._scenario.name,
            seed=seed,
            runner=self._runner,
            holds=dict(holds),
            limited_ticks=int(inbox.facts.get("limited_ticks", 0)),
            chunks=inbox.accepted,
            commit=commit(),
            wall_s=wall_s,
            **fields,
        )
