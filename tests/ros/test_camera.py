"""The camera node on recordings and test patterns, which go through librealsense as a camera's frames do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rclpy")
pytest.importorskip("pyrealsense2")
import pyrealsense2 as rs
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image

from ambient_policy_ros import convert, qos
from ambient_policy_ros.camera_stamps import StampMapper
from ambient_policy_ros.realsense import CameraError, CameraSettings, RealSense

if TYPE_CHECKING:
    from tests.ros.conftest import Running, Start

pytestmark = pytest.mark.ros

WIDTH, HEIGHT, FRAMES, PERIOD_S = 64, 48, 20, 0.05
COEFFICIENTS = [0.1, -0.2, 0.001, 0.002, 0.03]


def pixels(number: int) -> np.ndarray:
    """What frame `number` shows: every frame and every pixel is another."""
    values = np.arange(HEIGHT * WIDTH * 3) * 7 + 31 * number
    return (values % 256).astype(np.uint8).reshape(HEIGHT, WIDTH, 3)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of a software device with frames 1, 2, 3, then 5 and so on: one was lost."""
    path = tmp_path_factory.mktemp("camera") / "camera.db3"
    intrinsics = rs.intrinsics()
    intrinsics.width, intrinsics.height = WIDTH, HEIGHT
    intrinsics.fx, intrinsics.fy, intrinsics.ppx, intrinsics.ppy = 61.0, 62.0, 31.0, 24.0
    intrinsics.model, intrinsics.coeffs = rs.distortion.brown_conrady, COEFFICIENTS
    stream = rs.video_stream()
    stream.type, stream.index, stream.uid = rs.stream.color, 0, 1
    stream.width, stream.height, stream.fps = WIDTH, HEIGHT, 20
    stream.fmt, stream.bpp, stream.intrinsics = rs.format.rgb8, 3, intrinsics
    device = rs.software_device()
    device.register_info(rs.camera_info.serial_number, "0123456789")
    sensor = device.add_sensor("Color")
    profile = sensor.add_video_stream(stream)
    recorder = rs.recorder(str(path), device)
    recorded, queue = recorder.query_sensors()[0], rs.frame_queue(50)
    recorded.open(profile)
    recorded.start(queue)
    for number in range(1, FRAMES + 1):
        frame = rs.software_video_frame()
        frame.pixels, frame.stride, frame.bpp = pixels(number), WIDTH * 3, 3
        frame.timestamp, frame.domain = 5e6 + 1e3 * PERIOD_S * number, rs.timestamp_domain.hardware_clock
        frame.frame_number, frame.profile = number + (number > 3), profile.as_video_stream_profile()
        sensor.on_video_frame(frame)
        # The recorder's own clock sets the pace of playback.
        time.sleep(PERIOD_S)
    recorded.stop()
    recorded.close()
    return path


class Reader(Node):
    """Keeps all that a camera node publishes."""

    def __init__(self) -> None:
        super().__init__("reader")
        self.images: list[Image] = []
        self.infos: list[CameraInfo] = []
        self.reports: list[dict[str, str]] = []
        topic = "camera/overhead/color"
        self.create_subscription(Image, f"{topic}/image_raw", self.images.append, qos.IMAGE_OUT)
        self.create_subscription(CameraInfo, f"{topic}/camera_info", self.infos.append, qos.IMAGE_OUT)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._report, qos.STATUS)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)

    def _report(self, msg: DiagnosticArray) -> None:
        self.reports.append({"trouble": msg.status[0].message, **convert.status_values(msg)})

    def wait(self, done: Callable[[], object], what: str, process: Running) -> None:
        deadline = time.monotonic() + 60
        while not done():
            if time.monotonic() > deadline:
                pytest.fail(f"no {what}; the node wrote:\n{process.output()}\nreports: {self.reports[-3:]}")
            self._executor.spin_once(timeout_sec=0.1)


@pytest.fixture
def reader() -> Iterator[Reader]:
    rclpy.init()
    node = Reader()
    yield node
    node._executor.shutdown()
    node.destroy_node()
    rclpy.try_shutdown()


def camera(start: Start, **parameters: object) -> Running:
    given = {"camera": "overhead", "timeout_s": 0.5, "retry_s": 0.2, **parameters}
    arguments = [word for key, value in given.items() for word in ("-p", f"{key}:={value}")]
    return start("-m", "ambient_policy_ros.camera_node", "--ros-args", *arguments)


def test_a_recording_arrives_pixel_by_pixel_and_starts_again_when_it_ends(
    start: Start, reader: Reader, recording: Path
) -> None:
    """The end of a recording is what a pulled cable is: no frame, a report, and an attempt to open again."""
    process = camera(start, source="file", file=recording)
    expected = {pixels(n).tobytes(): n for n in range(1, FRAMES + 1)}

    def begins() -> np.ndarray:
        """Return where the recording begins again; the first round may have been joined late."""
        return np.flatnonzero(np.diff([expected[bytes(msg.data)] for msg in reader.images]) < 0) + 1

    reader.wait(lambda: len(begins()) >= 2, "third round of frames", process)
    again, then = begins()[:2]
    numbers = [expected[bytes(msg.data)] for msg in reader.images[again:then]]
    assert len(numbers) >= FRAMES - 3
    stamps = np.array([convert.seconds(msg.header.stamp) for msg in reader.images])
    spaced = np.diff(stamps[again:then]) / np.diff(numbers)
    # The reader may miss frames, the camera's own stamps say how far apart the others are.
    assert np.median(spaced) == pytest.approx(PERIOD_S, abs=1e-3)
    assert stamps[-1] <= time.time()
    assert stamps[again] - stamps[again - 1] > 0.5, "the time without a camera is not made up for"
    info = reader.infos[0]
    assert [info.width, info.height, list(info.k)] == [WIDTH, HEIGHT, [61, 0, 31, 0, 62, 24, 0, 0, 1]]
    np.testing.assert_allclose(info.d, COEFFICIENTS, rtol=1e-6)
    assert info.header.frame_id == reader.images[0].header.frame_id == "overhead_optical_frame"
    reader.wait(lambda: int(reader.reports[-1]["reconnects"]) >= 1, "report of a reconnect", process)
    assert reader.reports[-1]["serial"] == "0123456789"
    assert any("no frame for 0.5 s" in r["trouble"] for r in reader.reports) or "no frame" in process.output()
    assert process.stop() == 0


def test_lost_frames_are_counted(start: Start, reader: Reader, recording: Path) -> None:
    process = camera(start, source="file", file=recording, retry_s=30)
    reader.wait(lambda: reader.reports and "no frame" in reader.reports[-1]["trouble"], "end", process)
    assert reader.reports[-1]["lost_frames"] == "1"
    assert reader.reports[-1]["frames"] == str(FRAMES)
    assert process.stop() == 0


def test_a_pattern_comes_at_its_rate(start: Start, reader: Reader) -> None:
    process = camera(start, source="pattern", width=160, height=120, rate_hz=20)
    reader.wait(lambda: len(reader.images) >= 60, "60 frames", process)
    stamps = [convert.seconds(msg.header.stamp) for msg in reader.images]
    assert np.median(np.diff(stamps)) == pytest.approx(0.05, abs=0.001)
    assert bytes(reader.images[0].data) != bytes(reader.images[1].data)
    assert process.stop() == 0


def test_without_a_camera_the_node_waits_and_says_why(start: Start, reader: Reader) -> None:
    process = camera(start, source="device", serial="999")
    reader.wait(lambda: len(reader.reports) >= 2, "two reports", process)
    assert "no RealSense camera is plugged in" in reader.reports[-1]["trouble"]
    assert reader.reports[-1]["frames"] == "0"
    assert not reader.images
    assert process.output().count("no RealSense camera") == 1, "said once, however often it is tried"
    assert process.stop() == 0


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"camera": "Over head"}, "camera"),
        ({"rate_hz": 0}, "rate_hz"),
        ({"exposure_usec": 100}, "exposure_us"),
        ({"source": "file", "exposure_us": 100}, "plays what was recorded"),
    ],
)
def test_bad_parameters_are_refused(start: Start, parameters: dict[str, object], text: str) -> None:
    process = camera(start, **parameters)
    assert process.wait(60) == 2
    assert text in process.output()


def test_a_file_that_is_no_recording_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.db3"
    broken.write_bytes(b"not a recording")
    for file, text in ((broken, "cannot be played"), (tmp_path / "none.db3", "is not there")):
        with pytest.raises(CameraError, match=text):
            RealSense(CameraSettings(source="file", file=str(file)), "frame")


@given(st.lists(st.floats(0, 0.5), min_size=2, max_size=60), st.floats(-1e6, 1e6), st.floats(-1e-4, 1e-4))
def test_stamps_are_at_most_late_by_the_shortest_delay(
    delays: list[float], offset_s: float, drift: float
) -> None:
    """Known truth: frame k is taken at k / 30 s and takes a random time to arrive."""
    mapper = StampMapper()
    taken = np.arange(len(delays)) / 30
    arrivals = np.maximum.accumulate(taken + delays)  # a frame does not overtake another
    stamps = np.array(
        [mapper.stamp(t * (1 + drift) + offset_s, a) for t, a in zip(taken, arrivals, strict=True)]
    )
    assert (stamps <= arrivals + 1e-9).all()
    assert (np.diff(stamps) >= 0).all()
    shortest = np.minimum.accumulate(arrivals - taken)
    assert (stamps >= taken + shortest - 3e-4).all()  # two seconds of drift, a million seconds in a double
    steady = StampMapper()
    prompt = np.array([steady.stamp(t * (1 + drift) + offset_s, t) for t in taken])
    np.testing.assert_allclose(prompt, taken, atol=3e-4)


@pytest.mark.parametrize("drift", [1e-4, -1e-4])
def test_a_drifting_camera_clock_is_followed(drift: float) -> None:
    mapper, rng = StampMapper(window_s=5.0), np.random.default_rng(0)
    late = 0.002 + rng.exponential(0.004, 9000)
    errors = [mapper.stamp(k / 30 * (1 + drift) + 77, k / 30 + late[k]) - k / 30 - 0.002 for k in range(9000)]
    assert np.abs(errors[300:]).max() < 0.001  # 30 ms of drift in these five minutes


def test_a_camera_that_was_restarted_begins_anew() -> None:
    mapper = StampMapper()
    assert mapper.stamp(1000.0, 5.0) == pytest.approx(5.0)
    assert mapper.stamp(1000.1, 5.15) == pytest.approx(5.1)
    assert mapper.stamp(0.0, 9.0) == pytest.approx(9.0)
    assert mapper.stamp(500.0, 9.1) == pytest.approx(9.1), "a jump ahead is another clock, too"
    assert mapper.stamp(500.1, 3.0) == pytest.approx(3.0), "and so is our own going back"
