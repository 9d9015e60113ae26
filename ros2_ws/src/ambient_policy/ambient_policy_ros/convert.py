"""ROS messages to arrays and back: the only file that knows both.

Message types are the standard ones, so RViz, rosbag2 and other people's drivers understand every topic.
Positions are metres in the frame of the header; times are seconds, rounded to whole nanoseconds here.
"""

from __future__ import annotations

import array
from collections.abc import Mapping, Sequence

import numpy as np
from builtin_interfaces.msg import Duration, Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped, Transform
from nav_msgs.msg import Path
from numpy.typing import NDArray
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from trajectory_msgs.msg import (
    JointTrajectory,
    JointTrajectoryPoint,
    MultiDOFJointTrajectory,
    MultiDOFJointTrajectoryPoint,
)

from ambient_policy.chunks import Chunk
from ambient_policy.episodes import CameraModel
from ambient_policy.errors import AmbientPolicyError
from ambient_policy.joint_command import JointCommand

Array = NDArray[np.float64]

TOOL = "tool"
"""Name of the chunk's one joint: the tool's position in the header's frame."""
_NS = 1_000_000_000


class MessageError(AmbientPolicyError):
    """A message has a content that cannot be used."""


def seconds(stamp: Time | Duration) -> float:
    """Return a stamp or duration in seconds; exact to 1 ns below 50 days, to 0.24 us for wall time."""
    return stamp.sec + stamp.nanosec / _NS


def nanoseconds(stamp: Time | Duration) -> int:
    """Return a stamp or duration in whole nanoseconds."""
    return stamp.sec * _NS + stamp.nanosec


def stamp(time_s: float) -> Time:
    """Return a time in seconds as a stamp, rounded to the nearest nanosecond."""
    sec, nanosec = divmod(round(time_s * _NS), _NS)
    return Time(sec=sec, nanosec=nanosec)


def duration(time_s: float) -> Duration:
    """Return a length of time in seconds as a message, rounded to the nearest nanosecond."""
    sec, nanosec = divmod(round(time_s * _NS), _NS)
    return Duration(sec=sec, nanosec=nanosec)


def clock_msg(time_s: float) -> Clock:
    """Make a /clock message."""
    return Clock(clock=stamp(time_s))


def image_msg(image: NDArray[np.uint8], time_s: float, frame_id: str) -> Image:
    """Make an rgb8 message from an image (h, w, 3) uint8."""
    msg = Image()
    msg.header.stamp, msg.header.frame_id = stamp(time_s), frame_id
    msg.height, msg.width = image.shape[:2]
    msg.encoding, msg.is_bigendian, msg.step = "rgb8", 0, image.shape[1] * 3
    # array('B') is what the field holds; another type may go byte by byte (640x480: up to 90 ms).
    msg.data = array.array("B", image.tobytes())
    return msg


def image_array(msg: Image) -> NDArray[np.uint8]:
    """Return the pixels (h, w, 3) uint8 RGB of an rgb8 or bgr8 message, as a view of its buffer.

    Raises:
        MessageError: another encoding, or sizes that contradict each other.
    """
    if msg.encoding not in ("rgb8", "bgr8"):
        raise MessageError(f"image from {msg.header.frame_id!r} is {msg.encoding!r}, needs rgb8 or bgr8")
    row = msg.width * 3
    if msg.step < row or len(msg.data) < msg.step * msg.height or not msg.width or not msg.height:
        raise MessageError(
            f"image from {msg.header.frame_id!r} contradicts itself: {msg.width}x{msg.height} pixels, step "
            f"{msg.step}, {len(msg.data)} bytes; needs step >= {row} and step * height bytes"
        )
    # Rows may be padded: `step` is the distance of their starts.
    rows = np.frombuffer(msg.data, np.uint8, count=msg.step * msg.height).reshape(msg.height, msg.step)
    pixels = rows[:, :row].reshape(msg.height, msg.width, 3)
    return pixels[..., ::-1] if msg.encoding == "bgr8" else pixels


def camera_info_msg(
    camera: CameraModel, time_s: float, distortion: Sequence[float] = (0.0,) * 5
) -> CameraInfo:
    """Make the calibration message of a pinhole camera with Brown-Conrady distortion (k1, k2, p1, p2, k3)."""
    msg = CameraInfo()
    msg.header.stamp, msg.header.frame_id = stamp(time_s), camera.frame_id
    msg.width, msg.height, msg.distortion_model = camera.width, camera.height, "plumb_bob"
    msg.d = list(distortion)
    msg.k = [camera.fx, 0.0, camera.cx, 0.0, camera.fy, camera.cy, 0.0, 0.0, 1.0]
    msg.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    msg.p = [camera.fx, 0.0, camera.cx, 0.0, 0.0, camera.fy, camera.cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    return msg


def camera_model(msg: CameraInfo) -> CameraModel:
    """Return the intrinsics [px] of a calibration message.

    Raises:
        MessageError: it is no calibration, as of a driver that has none: sizes or focal lengths not above 0.
    """
    if not (msg.width > 0 and msg.height > 0 and msg.k[0] > 0 and msg.k[4] > 0):
        raise MessageError(
            f"calibration from {msg.header.frame_id!r} has {msg.width}x{msg.height} pixels, fx {msg.k[0]}, "
            f"fy {msg.k[4]}; needs numbers above 0"
        )
    return CameraModel(
        width=msg.width,
        height=msg.height,
        fx=float(msg.k[0]),
        fy=float(msg.k[4]),
        cx=float(msg.k[2]),
        cy=float(msg.k[5]),
        frame_id=msg.header.frame_id,
    )


def pose_msg(
    xy: Array,
    time_s: float,
    frame_id: str,
    z_m: float = 0.0,
    orientation: Sequence[float] = (0.0, 0.0, 0.0, 1.0),
) -> PoseStamped:
    """Make a pose at (x, y, z) [m] with an orientation x, y, z, w; none by default."""
    msg = PoseStamped()
    msg.header.stamp, msg.header.frame_id = stamp(time_s), frame_id
    msg.pose.position.x, msg.pose.position.y, msg.pose.position.z = float(xy[0]), float(xy[1]), z_m
    turned = msg.pose.orientation
    turned.x, turned.y, turned.z, turned.w = map(float, orientation)
    return msg


def position_xy(msg: PoseStamped) -> Array:
    """Return the position (2,) [m] of a pose, whatever it holds; `pose_xy` for one that must be finite."""
    return np.array([msg.pose.position.x, msg.pose.position.y])


def pose_xy(msg: PoseStamped) -> Array:
    """Return the position (2,) [m] of a pose.

    Raises:
        MessageError: a coordinate is not finite.
    """
    xy = position_xy(msg)
    if not np.isfinite(xy).all():
        raise MessageError(f"tool pose is ({xy[0]}, {xy[1]}) m, needs finite numbers")
    return xy


def joint_state_msg(names: list[str], positions: Array, velocities: Array, time_s: float) -> JointState:
    """Make a joint state; positions and velocities (n,) in metres, radians and seconds."""
    msg = JointState(name=names)
    msg.header.stamp = stamp(time_s)
    msg.position, msg.velocity = positions.tolist(), velocities.tolist()
    return msg


def joint_trajectory_msg(command: JointCommand, names: Sequence[str], *, stamped: bool) -> JointTrajectory:
    """Make a trajectory of two points: where the joints are due, and where they come to rest.

    A joint_trajectory_controller refuses a trajectory that does not end at rest, unless told otherwise.

    Args:
        stamped: whether it starts at the target's time; False leaves the stamp 0, which means on arrival.
    """
    msg = JointTrajectory(joint_names=list(names))
    if stamped:
        msg.header.stamp = stamp(command.start_s)
    lead_s = command.due_s - command.start_s
    for positions, velocities, from_start_s in (
        (command.positions, command.velocities, lead_s),
        (command.rest, np.zeros_like(command.rest), lead_s + command.brake_s),
    ):
        point = JointTrajectoryPoint(positions=positions.tolist(), velocities=velocities.tolist())
        point.time_from_start = duration(from_start_s)
        msg.points.append(point)
    return msg


def joint_command(msg: JointTrajectory, names: Sequence[str]) -> JointCommand:
    """Return the command of such a trajectory, for `names` in this order.

    Raises:
        MessageError: no stamp, other joints or points, times that do not increase, or numbers not finite.
    """
    if sorted(msg.joint_names) != sorted(names) or len(msg.points) != 2 or not nanoseconds(msg.header.stamp):
        raise MessageError(
            f"trajectory has a stamp of {seconds(msg.header.stamp):.3f} s and {len(msg.points)} points for "
            f"{list(msg.joint_names)}, needs a stamp (`stamped: true`) and two points for {list(names)}"
        )
    order = [msg.joint_names.index(name) for name in names]
    rows = [row for point in msg.points for row in (point.positions, point.velocities)]
    due_s, end_s = (seconds(point.time_from_start) for point in msg.points)
    if any(len(row) != len(names) for row in rows) or not np.isfinite(rows).all() or not 0 < due_s < end_s:
        raise MessageError(
            f"trajectory's points at {due_s} and {end_s} s have {[len(row) for row in rows]} numbers, need "
            f"{len(names)} finite positions and velocities each, and times that increase from 0"
        )
    start_s = seconds(msg.header.stamp)
    positions, velocities = (np.asarray(row)[order] for row in rows[:2])
    return JointCommand(start_s, start_s + due_s, positions, velocities, end_s - due_s)


def chunk_msg(chunk: Chunk, frame_id: str) -> MultiDOFJointTrajectory:
    """Make a trajectory of the tool: H + 1 points, `time_from_start` counted from the observation."""
    msg = MultiDOFJointTrajectory(joint_names=[TOOL])
    msg.header.stamp, msg.header.frame_id = stamp(chunk.stamp_s), frame_id
    for i, position in enumerate(chunk.positions):
        transform = Transform()
        transform.translation.x, transform.translation.y = float(position[0]), float(position[1])
        transform.rotation.w = 1.0
        point = MultiDOFJointTrajectoryPoint(transforms=[transform])
        point.time_from_start = duration(i * chunk.period_s)
        msg.points.append(point)
    return msg


def chunk(msg: MultiDOFJointTrajectory) -> Chunk:
    """Return the chunk of a trajectory message.

    Raises:
        MessageError: other joints, too few points, or points that are not evenly spaced from 0 on.
    """
    if list(msg.joint_names) != [TOOL] or any(len(point.transforms) != 1 for point in msg.points):
        raise MessageError(
            f"chunk moves {list(msg.joint_names)}, needs one transform a point, of joint {TOOL!r}"
        )
    if len(msg.points) < 2:
        raise MessageError(f"chunk has {len(msg.points)} points, needs 2 or more")
    times = np.array([seconds(point.time_from_start) for point in msg.points])
    period_s = round(float(times[-1]) / (len(times) - 1), 9)
    if period_s <= 0 or np.abs(times - period_s * np.arange(len(times))).max() > 1e-6:
        raise MessageError(
            f"chunk's points are at {times.round(4).tolist()} s, need 0, p, 2p, ... with p > 0"
        )
    positions = np.array([[p.transforms[0].translation.x, p.transforms[0].translation.y] for p in msg.points])
    return Chunk(seconds(msg.header.stamp), positions, period_s)


def path_msg(chunk: Chunk, frame_id: str) -> Path:
    """Make the chunk visible in RViz: one pose an action, each stamped with the time when it is due."""
    msg = Path()
    msg.header.stamp, msg.header.frame_id = stamp(chunk.stamp_s), frame_id
    msg.poses = [
        pose_msg(position, chunk.stamp_s + i * chunk.period_s, frame_id)
        for i, position in enumerate(chunk.positions)
    ]
    return msg


def status_msg(name: str, values: Mapping[str, str], time_s: float, warning: str = "") -> DiagnosticArray:
    """Make a diagnostic message of one status: level WARN with its text, or OK."""
    status = DiagnosticStatus(name=name, message=warning or "ok")
    status.level = DiagnosticStatus.WARN if warning else DiagnosticStatus.OK
    status.values = [KeyValue(key=key, value=value) for key, value in values.items()]
    msg = DiagnosticArray(status=[status])
    msg.header.stamp = stamp(time_s)
    return msg


def status_values(msg: DiagnosticArray) -> dict[str, str]:
    """Return key and value pairs of the first status; none of an empty message."""
    return {pair.key: pair.value for pair in msg.status[0].values} if msg.status else {}
