"""Camera node: one RealSense colour camera, its images and its calibration.

Publishes camera/<name>/color/image_raw and camera_info, and once a second what it knows of itself on
/diagnostics. A camera that is pulled out ends nothing: the node says so, publishes no images (whoever needs
them holds), and opens it again as soon as it is back.
"""

from __future__ import annotations

import sys
import threading
import time

from diagnostic_msgs.msg import DiagnosticArray
from pydantic import Field
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image

from ambient_policy.errors import ConfigError
from ambient_policy.reasons import Once
from ambient_policy_ros import convert, node_main, qos
from ambient_policy_ros.camera_stamps import StampMapper
from ambient_policy_ros.realsense import CameraError, CameraSettings, Frame, RealSense

REPORT_PERIOD_S = 1.0


class CameraParameters(CameraSettings):
    """ROS parameters of the node."""

    camera: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """Name of the camera in the policy's bundle."""
    retry_s: float = Field(default=1.0, gt=0, le=60)
    """Pause between two attempts to open a camera that is not there."""
    transport_s: float = Field(default=0.0, ge=0, le=0.5)
    """Shortest time from the middle of the exposure to the arrival of the frame; stamps are earlier by it."""


class CameraNode(Node):
    """Carries frames from a camera to the topics, in a thread of its own."""

    def __init__(self) -> None:
        super().__init__("camera", automatically_declare_parameters_from_overrides=True)
        self._config = node_main.read_parameters(self, CameraParameters)
        if self._config.source == "file" and (self._config.exposure_us or self._config.gain):
            raise ConfigError("exposure_us and gain are for a camera; `source: file` plays what was recorded")
        self._name = self._config.camera
        self._frame_id = f"{self._name}_optical_frame"
        topic = f"camera/{self._name}/color"
        self._images = self.create_publisher(Image, f"{topic}/image_raw", qos.IMAGE_OUT)
        self._infos = self.create_publisher(CameraInfo, f"{topic}/camera_info", qos.IMAGE_OUT)
        self._reports = self.create_publisher(DiagnosticArray, "/diagnostics", qos.STATUS)
        self._stamps = StampMapper()
        self._once = Once(self.get_logger().warning)
        self._trouble = "not opened yet"
        self._serial = ""
        self._frames = self._lost = self._reconnects = 0
        self._reported, self._reported_s = 0, time.monotonic()
        self._stop = threading.Event()
        self._reader = threading.Thread(target=self._read, name="camera", daemon=True)
        self._reader.start()
        self.create_timer(REPORT_PERIOD_S, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def destroy_node(self) -> None:
        """Let go of the camera, then of the node."""
        self._stop.set()
        self._reader.join(self._config.timeout_s + 1.0)
        super().destroy_node()

    def _read(self) -> None:
        """Open the camera and publish what it sees, again and again until the node ends."""
        while not self._stop.is_set():
            try:
                with RealSense(self._config, self._frame_id) as camera:
                    self._follow(camera)
            except CameraError as error:
                self._trouble = str(error)
                self._once(f"camera {self._name}: {error}")
            self._stop.wait(self._config.retry_s)

    def _follow(self, camera: RealSense) -> None:
        self._stamps.reset()
        self._serial = camera.serial
        before: Frame | None = None
        while not self._stop.is_set():
            frame = camera.wait()
            if before is None:
                self._welcome(camera)
            elif frame.number > before.number:
                self._lost += frame.number - before.number - 1
            self._publish(camera, frame)
            before = frame

    def _welcome(self, camera: RealSense) -> None:
        self._reconnects += self._frames > 0
        self._trouble = ""
        self._once.forget()
        lens = camera.lens.model
        size = f"{lens.width}x{lens.height}, fx {lens.fx:.1f}, fy {lens.fy:.1f}"
        self.get_logger().info(f"camera {self._name} ({camera.serial}): {size}")

    def _publish(self, camera: RealSense, frame: Frame) -> None:
        now_s = convert.seconds(self.get_clock().now().to_msg())
        stamp_s = self._stamps.stamp(frame.device_s, now_s) - self._config.transport_s
        lens = camera.lens
        self._images.publish(convert.image_msg(frame.pixels, stamp_s, self._frame_id))
        self._infos.publish(convert.camera_info_msg(lens.model, stamp_s, lens.distortion))
        self._frames += 1

    def _report(self) -> None:
        frames, now_s = self._frames, time.monotonic()
        rate_hz = (frames - self._reported) / (now_s - self._reported_s)
        self._reported, self._reported_s = frames, now_s
        values = {
            "serial": self._serial,
            "rate_hz": f"{rate_hz:.1f}",
            "frames": str(frames),
            "lost_frames": str(self._lost),
            "reconnects": str(self._reconnects),
            "clock_offset_s": f"{self._stamps.offset_s:.6f}",
        }
        time_s = convert.seconds(self.get_clock().now().to_msg())
        self._reports.publish(convert.status_msg(f"camera {self._name}", values, time_s, self._trouble))


def main() -> int:
    """Run the node until it is told to stop."""
    return node_main.run(CameraNode)


if __name__ == "__main__":
    sys.exit(main())
