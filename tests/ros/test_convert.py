"""Messages and arrays: there and back is the same, and what cannot be used is refused with its reason."""

from __future__ import annotations

import array
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rclpy")
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import Image

from ambient_policy.chunks import Chunk
from ambient_policy.episodes import CameraModel
from ambient_policy_ros import convert

pytestmark = pytest.mark.ros

CAMERA = CameraModel(
    width=128, height=96, fx=123.3, fy=123.4, cx=63.2, cy=48.4, frame_id="overhead_optical_frame"
)


def image(height: int = 3, width: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(st.integers(1, 40), st.integers(1, 40))
def test_image_round_trip(height: int, width: int) -> None:
    pixels = image(height, width)
    msg = convert.image_msg(pixels, 12.5, "camera")
    assert (msg.header.frame_id, convert.seconds(msg.header.stamp)) == ("camera", 12.5)
    np.testing.assert_array_equal(convert.image_array(msg), pixels)


def test_a_flipped_view_is_sent_as_it_looks() -> None:
    pixels = image()[:, ::-1]
    np.testing.assert_array_equal(convert.image_array(convert.image_msg(pixels, 0, "")), pixels)


def test_padded_rows_are_cut() -> None:
    """A driver may align its rows; `step` says by how much."""
    pixels = image(3, 5)
    msg = convert.image_msg(pixels, 0, "")
    msg.step = 16
    msg.data = array.array("B", np.pad(pixels.reshape(3, 15), ((0, 0), (0, 1))).tobytes())
    np.testing.assert_array_equal(convert.image_array(msg), pixels)


def test_bgr_becomes_rgb() -> None:
    msg = convert.image_msg(image(), 0, "")
    msg.encoding = "bgr8"
    np.testing.assert_array_equal(convert.image_array(msg), image()[..., ::-1])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"encoding": "16UC1"}, r"image from 'wrist' is '16UC1', needs rgb8 or bgr8"),
        ({"step": 14}, r"5x3 pixels, step 14, 45 bytes; needs step >= 15"),
        ({"height": 4}, r"5x4 pixels, step 15, 45 bytes"),
        ({"height": 0}, r"5x0 pixels"),
    ],
)
def test_an_unusable_image_says_why(change: dict, text: str) -> None:
    msg = convert.image_msg(image(), 0, "wrist")
    for name, value in change.items():
        setattr(msg, name, value)
    with pytest.raises(convert.MessageError, match=text):
        convert.image_array(msg)


@given(st.integers(0, 4_000_000 * 10**9))
def test_every_nanosecond_of_simulated_time_survives(ns: int) -> None:
    """46 days: what a double of seconds can hold."""
    stamp = convert.stamp(ns / 1e9)
    assert convert.nanoseconds(stamp) == ns
    assert convert.stamp(convert.seconds(stamp)) == stamp


@given(st.integers(1_700_000_000 * 10**9, 2_000_000_000 * 10**9))
def test_wall_time_is_good_to_a_quarter_of_a_microsecond(ns: int) -> None:
    """And converting again changes nothing, so stamps that were equal stay equal."""
    once = convert.stamp(ns / 1e9)
    assert abs(convert.nanoseconds(once) - ns) < 250
    assert convert.stamp(convert.seconds(once)) == once


def test_rounding_up_carries_into_the_seconds() -> None:
    stamp = convert.stamp(1.9999999999)
    assert (stamp.sec, stamp.nanosec) == (2, 0)


def test_camera_info_round_trip() -> None:
    assert convert.camera_model(convert.camera_info_msg(CAMERA, 3.0)) == CAMERA


def test_pose_round_trip() -> None:
    msg = convert.pose_msg(np.array([0.587, -0.0355]), 7.01, "world")
    np.testing.assert_array_equal(convert.pose_xy(msg), [0.587, -0.0355])
    assert msg.pose.orientation.w == 1.0


def test_a_pose_that_is_not_a_number_is_refused() -> None:
    msg = PoseStamped()
    msg.pose.position.x = math.nan
    with pytest.raises(convert.MessageError, match="needs finite numbers"):
        convert.pose_xy(msg)


@given(st.integers(1, 32), st.sampled_from([0.1, 0.05, 1 / 30, 0.02]))
def test_chunk_round_trip_is_exact(horizon: int, period_s: float) -> None:
    """Bit for bit: a rounding here would make a trial through ROS differ from one without."""
    positions = np.random.default_rng(horizon).normal(size=(horizon + 1, 2))
    back = convert.chunk(convert.chunk_msg(Chunk(12.3, positions, period_s), "world"))
    np.testing.assert_array_equal(back.positions, positions)
    assert back.stamp_s == 12.3
    assert back.period_s == round(period_s, 9)


def chunk_message():
    return convert.chunk_msg(Chunk(1.0, np.zeros((4, 2)), 0.1), "world")


def test_unusable_chunks_say_why() -> None:
    msg = chunk_message()
    msg.joint_names = ["elbow"]
    with pytest.raises(convert.MessageError, match=r"chunk moves \['elbow'\], needs .* joint 'tool'"):
        convert.chunk(msg)
    msg = chunk_message()
    msg.points = msg.points[:1]
    with pytest.raises(convert.MessageError, match="chunk has 1 points, needs 2"):
        convert.chunk(msg)
    msg = chunk_message()
    msg.points[1].time_from_start = convert.duration(0.15)
    with pytest.raises(convert.MessageError, match=r"points are at \[0.0, 0.15, 0.2, 0.3\] s"):
        convert.chunk(msg)
    msg = chunk_message()
    msg.points[2].transforms = []
    with pytest.raises(convert.MessageError, match="one transform a point"):
        convert.chunk(msg)


def test_a_path_shows_when_each_position_is_due() -> None:
    msg = convert.path_msg(Chunk(1.0, np.array([[0.0, 0.0], [0.1, 0.2]]), 0.1), "world")
    assert [convert.seconds(pose.header.stamp) for pose in msg.poses] == [1.0, 1.1]
    assert (msg.poses[1].pose.position.x, msg.poses[1].pose.position.y) == (0.1, 0.2)


def test_status_round_trip() -> None:
    values = {"event": "frame", "hold": "", "encode_ms": "1.25"}
    msg = convert.status_msg("policy", values, 2.0)
    assert convert.status_values(msg) == values
    assert msg.status[0].level == b"\x00"
    assert convert.status_msg("policy", values, 2.0, "no images").status[0].level == b"\x01"
    assert convert.status_values(type(msg)()) == {}


def test_images_may_be_large() -> None:
    """The quick idiom: byte by byte this would take most of a second."""
    pixels = np.zeros((480, 640, 3), np.uint8)
    msg = convert.image_msg(pixels, 0, "")
    assert isinstance(msg, Image)
    assert convert.image_array(msg).base is not None, "reading must not copy"


@pytest.mark.parametrize("spoil", ["zero", "nan"])
def test_a_calibration_that_is_none_is_refused(spoil: str) -> None:
    """Drivers without a calibration send zeros; comparing with that must not end a node."""
    model = CameraModel(width=64, height=48, fx=60.0, fy=60.0, cx=32.0, cy=24.0, frame_id="lens")
    msg = convert.camera_info_msg(model, 1.0)
    msg.k = [0.0 if spoil == "zero" else float("nan")] * 9
    with pytest.raises(convert.MessageError, match="calibration from 'lens' has 64x48 pixels, fx"):
        convert.camera_model(msg)
