"""Camera node: one RealSense colour camera, its images and its calibration.

Publishes camera/<name>/color/image_raw and camera_info, and once a second what it knows of itself on
/diagnostics. A camera that is pulled out ends nothing: the node says so, publishes no images (whoever needs
them holds), and opens it again as soon as it is back.
"""

from __future__ import annotations

import sys
import threading

from pydantic import Field
from sensor_msgs.msg import CameraInfo, Image

from ambient_policy.errors import ConfigError
from ambient_policy.reasons import Once
from ambient_policy_ros import convert, node_main, qos
from ambient_policy_ros.camera_stamps import StampMapper
from ambient_policy_ros.health import Health
from ambient_policy_ros.managed import ManagedNode
from ambient_policy_ros.realsense import CameraError, CameraSettings, Frame, RealSense


class CameraParameters(CameraSettings):
    """ROS parameters of the node."""

    camera: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """Name of the camera in the policy's bundle."""
    retry_s: float = Field(default=1.0, gt=0, le=60)
    """Pause between two attempts to open a camera that is not there."""
    transport_s: float = Field(default=0.0, ge=0, le=0.5)
    """Shortest time from the middle of the exposure to the arrival of the frame; stamps are earlier by it."""


class CameraNode(ManagedNode[CameraParameters]):
    """Carries frames from a camera to the topics, in a thread of its own."""

    def __init__(self) -> None:
        super().__init__("camera", CameraParameters)
        self._reader: threading.Thread | None = None

    def configure(self, config: CameraParameters) -> None:
        """Make the topics; the camera is opened when the node becomes active."""
        self._config = config
        if self._config.source == "file" and (self._config.exposure_us or self._config.gain):
            raise ConfigError("exposure_us and gain are for a camera; `source: file` plays what was recorded")
        self._name = self._config.camera
        self._frame_id = f"{self._name}_optical_frame"
        topic = f"camera/{self._name}/color"
        self._images = self.create_publisher(Image, f"{topic}/image_raw", qos.IMAGE_OUT)
        self._infos = self.create_publisher(CameraInfo, f"{topic}/camera_info", qos.IMAGE_OUT)
        self._health = Health(self, f"camera {self._name}", lambda: self._trouble, self._condition)
        self._stamps = StampMapper()
        self._once = Once(self.get_logger().warning)
        self._trouble = "not opened"
        self._serial = ""
        self._frames = self._lost = self._reconnects = 0

    def activate(self) -> None:
        """Open the camera, and publish what it sees."""
        self._stop = threading.Event()
        self._reader = threading.Thread(target=self._read, name="camera", daemon=True)
        self._reader.start()

    def deactivate(self) -> None:
        """Let go of the camera."""
        self.clean_up()
        self._trouble = "not opened"

    def clean_up(self) -> None:
        """Let go of the camera."""
        if self._reader is not None:
            self._stop.set()
            self._reader.join(self._config.timeout_s + 1.0)
            self._reader = None

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
        self._health.rate("frame")
        self._frames += 1
        now_s = convert.seconds(self.get_clock().now().to_msg())
        stamp_s = self._stamps.stamp(frame.device_s, now_s) - self._config.transport_s
        lens = camera.lens
        self._images.publish(convert.image_msg(frame.pixels, stamp_s, self._frame_id))
        self._infos.publish(convert.camera_info_msg(lens.model, stamp_s, lens.distortion))

    def _condition(self) -> dict[str, str]:
        """Return what belongs in every report."""
        return {
            "serial": self._serial,
            "frames": str(self._frames),
            "lost_frames": str(self._lost),
            "reconnects": str(self._reconnects),
            "clock_offset_s": f"{self._stamps.offset_s:.6f}",
        }


def main() -> int:
    """Run the node until it is told to stop."""
    return node_main.run(CameraNode)


if __name__ == "__main__":
    sys.exit(main())
