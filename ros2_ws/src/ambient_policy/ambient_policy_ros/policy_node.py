"""Policy node: camera images and tool pose in, action chunks out.

In real time the networks have a thread of their own, and poses, images and policy/enable are heard meanwhile;
in simulated time they run where they are called: what a frame meets must not depend on how long they take.

Subscribes to camera/<name>/color/image_raw and camera_info of every camera in the bundle, to tool/pose and to
policy/enable; publishes policy/chunk, policy/path (for RViz), policy/status, and once a second a report on
/diagnostics. Remap the names as needed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Literal

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Path
from pydantic import Field
from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Bool
from trajectory_msgs.msg import MultiDOFJointTrajectory

from ambient_policy.bundle import load_bundle
from ambient_policy.chunks import TIME_EPSILON_S
from ambient_policy.config import StrictModel
from ambient_policy.errors import AmbientPolicyError
from ambient_policy.inference import Policy
from ambient_policy.reasons import Once, without_numbers
from ambient_policy.runtime import Decision, Frame, PolicyRuntime, RuntimeConfig, delays_by_camera
from ambient_policy.seams import SeamConfig
from ambient_policy_ros import convert, node_main, qos
from ambient_policy_ros.health import Health
from ambient_policy_ros.managed import ManagedNode

WATCH_PERIOD_S = 0.2
"""How often a node that hears nothing looks whether that has become a hold."""
TOOL = "(tool)"
"""Key of the tool beside the names of the cameras, which have no brackets."""


class PolicyParameters(StrictModel):
    """ROS parameters of the node."""

    bundle: str
    """Folder of the policy bundle."""
    provider: Literal["cpu", "cuda", "tensorrt", "auto"] = "cpu"
    """What runs it, and nothing else: only auto may take another, which the log and /diagnostics name."""
    threads: int = Field(default=1, ge=1)
    """Of onnxruntime."""
    seed: int = 0
    """Of the starting noise; taken anew at every enable, so a trial does not depend on those before it."""
    replan_steps: int = Field(default=0, ge=0)
    """Frames between two chunks; 0 takes what the bundle says."""
    max_age_s: float = Field(default=0.5, gt=0)
    """A newest frame older than this is a hold."""
    match_s: float = Field(default=0.02, ge=0)
    """Images and tool pose of one frame may differ this much in time."""
    delayed_cameras: tuple[str, ...] = ()
    """Cameras that stamp late, ..."""
    image_delay_s: tuple[float, ...] = ()
    """... and how long before its stamp a picture of each shows the world, by `calibrate-latency`."""
    blank_std: float = Field(default=2.0, ge=0)
    """A picture whose values (0 to 255) spread less than this is a hold; 0: not checked."""
    frozen_m: float = Field(default=0.02, gt=0)
    """A picture that is the same although the tool has moved this far [m] is a hold, ..."""
    frozen_cameras: tuple[str, ...] = ()
    """... from these cameras: those that stand still, and others if their pictures have noise."""
    seam: Literal["replace", "prefix", "ensemble", "coherent"] = "replace"
    """How a chunk gives way to the next; docs/seams.md."""
    frozen_s: float = Field(default=0.1, ge=0)
    """prefix: actions due up to this age are kept; at least the servo's handover, and this node's delay.
    Where the servo limits acceleration, it looks ahead by half its windows: add that."""
    candidates: int = Field(default=8, ge=1, le=64)
    """coherent: chunks to choose from, sampled in one call."""
    slack_m_s: float = Field(default=0.1, gt=0)
    """prefix: by how much the rest of the old plan may be wrong, for each second beyond that."""
    image_reliability: Literal["reliable", "best_effort"] = "reliable"
    """What the camera driver offers; a reliable reader gets nothing from a best-effort writer."""


class PolicyNode(ManagedNode[PolicyParameters]):
    """Carries messages to and from a PolicyRuntime; decides nothing itself."""

    def __init__(self) -> None:
        super().__init__("policy", PolicyParameters)
        self._thread: ThreadPoolExecutor | None = None

    def configure(self, config: PolicyParameters) -> None:
        """Open the bundle, warm it up, and listen."""
        self._config = config
        bundle = load_bundle(self._config.bundle)
        prefix = self._config.seam == "prefix"
        policy = Policy(bundle, self._config.provider, self._config.threads, prefix=prefix)
        # The first calls take ten times as long; they must not be the first of a trial.
        policy.warm_up()
        self._spec = policy.manifest
        self._facts = {
            "policy": self._spec.name,
            "bundle_commit": self._spec.commit,
            "bundle_sha256": bundle.digest,
            "provider": policy.provider,
        }
        runtime_config = RuntimeConfig(
            replan_steps=self._config.replan_steps or None,
            max_age_s=self._config.max_age_s,
            match_s=self._config.match_s,
            image_delay_s=delays_by_camera(self._config.delayed_cameras, self._config.image_delay_s),
            blank_std=self._config.blank_std,
            frozen_m=self._config.frozen_m,
            frozen_cameras=self._config.frozen_cameras,
            seam=SeamConfig(
                kind=self._config.seam,
                frozen_s=self._config.frozen_s,
                slack_m_s=self._config.slack_m_s,
                candidates=self._config.candidates,
            ),
        )
        self._runtime = PolicyRuntime(policy, runtime_config, self._noise(), time.perf_counter)
        self._once = Once(self.get_logger().warning)
        self._enabled = False
        self._hold = ""
        self._newest_s: dict[str, float] = {}
        """Newest stamp of each camera and of the tool."""
        self._waiting = False
        """Whether images have come that no frame has used yet."""
        self._wait_s = 0.0
        """Age of the newest frame when it was complete: its images, and a pose that is not older."""
        self._pending: Future[Decision] | None = None
        if not self.get_parameter("use_sim_time").value:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="policy")
            self._decided = self.create_guard_condition(self._collect)

        self._health = Health(self, "policy", lambda: self._hold, self._condition)
        self._chunks = self.create_publisher(MultiDOFJointTrajectory, "policy/chunk", qos.CHUNK)
        self._paths = self.create_publisher(Path, "policy/path", qos.STATE)
        self._statuses = self.create_publisher(DiagnosticArray, "policy/status", qos.STATUS)
        self.create_subscription(PoseStamped, "tool/pose", self._on_tool, qos.STATE)
        image_qos = qos.image_in(self._config.image_reliability)
        self._infos = {}
        for name in self._spec.cameras:
            topic = f"camera/{name}/color"
            self.create_subscription(Image, f"{topic}/image_raw", partial(self._on_image, name), image_qos)
            on_info = partial(self._on_camera_info, name)
            self._infos[name] = self.create_subscription(
                CameraInfo, f"{topic}/camera_info", on_info, image_qos
            )
        self.create_subscription(Bool, "policy/enable", self._on_enable, qos.ENABLE)  # last: see qos.ENABLE
        self.create_timer(WATCH_PERIOD_S, self._watch, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.get_logger().info(
            f"policy {self._spec.name} ready on {policy.provider}; waiting for policy/enable"
        )

    def deactivate(self) -> None:
        """Plan no more; the servo brings the tool to rest when the last chunk is over."""
        self._switch(False)
        self._publish_status("enable", self._now_s(), self._facts)

    def clean_up(self) -> None:
        """Free the networks."""
        if self._thread is not None:
            self._thread.shutdown()
        if hasattr(self, "_runtime"):
            del self._runtime

    def _condition(self) -> dict[str, str]:
        """Return what belongs in every report."""
        now_s = self._now_s()
        ages = {} if not self._enabled else {k.strip("()"): now_s - s for k, s in self._newest_s.items()}
        return {
            **self._facts,
            "state": "active" if self._enabled else "inactive",
            **{f"{name}_age_s": f"{age_s:.3f}" for name, age_s in ages.items()},
        }

    def _noise(self) -> np.random.Generator:
        return np.random.default_rng(self._config.seed)

    def _now_s(self) -> float:
        return convert.seconds(self.get_clock().now().to_msg())

    def _on_enable(self, msg: Bool, info: Mapping[str, int]) -> None:
        wanted = self.enabled_by(msg, info)
        if wanted != self._enabled:
            self._switch(wanted)
        # Answered also when nothing changes: whoever asked may have missed the first answer.
        self._publish_status("enable", self._now_s(), self._facts)

    def _switch(self, on: bool) -> None:
        self._waiting = False
        self._collect()
        self._enabled, self._hold = on, ""
        self._runtime.reset(self._noise())
        self._once.forget()
        self._newest_s = dict.fromkeys([*self._spec.cameras, TOOL], self._now_s())
        self._waiting = False

    def _on_tool(self, msg: PoseStamped) -> None:
        if not self._enabled:
            return
        try:
            xy, stamp_s = convert.pose_xy(msg), convert.seconds(msg.header.stamp)
        except AmbientPolicyError as error:
            self._report_hold(str(error))
            return
        self._health.rate("tool")
        self._runtime.observe_tool(xy, stamp_s)
        self._newest_s[TOOL] = max(self._newest_s[TOOL], stamp_s)
        if self._waiting:
            self._plan()

    def _on_image(self, camera: str, msg: Image) -> None:
        if not self._enabled:
            return
        stamp_s = convert.seconds(msg.header.stamp)
        try:
            self._runtime.observe_image(camera, convert.image_array(msg), stamp_s)
        except AmbientPolicyError as error:
            self._report_hold(str(error))
            return
        self._health.rate(camera)
        self._newest_s[camera] = max(self._newest_s[camera], stamp_s)
        self._waiting = True
        self._plan()

    def _plan(self) -> None:
        """Plan once the tool's poses have caught up with the images.

        Which pose belongs to a frame must not depend on which of two topics is delivered first.
        """
        newest_image_s = max(self._newest_s[camera] for camera in self._spec.cameras)
        if self._newest_s[TOOL] < newest_image_s - TIME_EPSILON_S:
            return
        self._decide(max(self._now_s(), newest_image_s))

    def _decide(self, now_s: float) -> Decision | None:
        """Plan with what there is; returns what came of it, None while the networks are at work."""
        if self._pending is not None:
            return None
        taken = self._runtime.take(now_s)
        if isinstance(taken, Frame):
            self._waiting = False
            self._wait_s = self._now_s() - taken.stamp_s
            if self._thread is not None:
                self._pending = self._thread.submit(self._runtime.decide, taken)
                self._pending.add_done_callback(lambda _: self._decided.trigger())
                return None
            taken = self._runtime.decide(taken)
        if taken.frame_stamp_s is not None:
            self._waiting = False
            self._publish(taken, taken.frame_stamp_s)
        return taken

    def _collect(self) -> None:
        """Publish what the networks have decided, waiting for it if need be, and go on."""
        if self._pending is None:
            return
        decision, self._pending = self._pending.result(), None
        assert decision.frame_stamp_s is not None
        self._publish(decision, decision.frame_stamp_s)
        if self._waiting:
            self._plan()

    def _watch(self) -> None:
        """Say why nothing moves when some source has been silent for too long; no message would say it."""
        now_s = self._now_s()
        if not self._enabled or now_s - min(self._newest_s.values()) <= self._config.max_age_s:
            return
        decision = self._decide(now_s)
        if decision is not None and decision.frame_stamp_s is None and decision.hold is not None:
            self._report_hold(decision.hold.reason)

    def _on_camera_info(self, camera: str, msg: CameraInfo) -> None:
        """Compare the lens with the one the policy was trained with, once."""
        try:
            have, trained = convert.camera_model(msg), self._spec.cameras[camera].capture
        except AmbientPolicyError as error:
            self._once(f"camera {camera}: {error}")
            return
        self.destroy_subscription(self._infos.pop(camera))
        now, then = have.fx / max(have.width, 1), trained.fx / trained.width
        if abs(now / then - 1) > 0.05:
            self.get_logger().warning(
                f"camera {camera} sees another angle than in training: fx / width is {now:.3f}, "
                f"was {then:.3f}; expect poor results"
            )

    def _publish(self, decision: Decision, frame_s: float) -> None:
        self._hold = decision.hold.reason if decision.hold is not None else ""
        if self._hold:
            self._once(f"holding: {self._hold}")
        chunk_stamp = ""
        if decision.chunk is not None:
            msg = convert.chunk_msg(decision.chunk, self._spec.action.frame)
            self._chunks.publish(msg)
            chunk_stamp = str(convert.nanoseconds(msg.header.stamp))
            self._health.rate("chunk")
            self._health.took("image_to_chunk", self._now_s() - frame_s)
        stages = {"wait_s": self._wait_s, **decision.timings}
        for stage, time_s in stages.items():
            self._health.took(stage.removesuffix("_s"), time_s)
        self._health.rate("frame")
        times = {f"{stage.removesuffix('_s')}_ms": f"{1e3 * time_s:.3f}" for stage, time_s in stages.items()}
        self._publish_status("frame", frame_s, {"chunk_stamp": chunk_stamp, **times})
        if decision.chunk is not None:
            self._paths.publish(convert.path_msg(decision.chunk, self._spec.action.frame))

    def _report_hold(self, reason: str) -> None:
        """Tell of a hold that no frame brings, once for each kind of reason."""
        known = without_numbers(self._hold) == without_numbers(reason)
        self._hold = reason
        if not known:
            self._once(f"holding: {reason}")
            self._publish_status(
                "hold", convert.seconds(self.get_clock().now().to_msg()), {"chunk_stamp": ""}
            )

    def _publish_status(self, event: str, time_s: float, values: dict[str, str]) -> None:
        state = "active" if self._enabled else "inactive"
        every = {"event": event, "state": state, "hold": self._hold, **values}
        self._statuses.publish(convert.status_msg("policy", every, time_s, self._hold))


def main() -> int:
    """Run the node until it is told to stop."""
    return node_main.run(PolicyNode)


if __name__ == "__main__":
    sys.exit(main())
