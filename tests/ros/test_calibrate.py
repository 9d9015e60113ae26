"""`calibrate-latency` on a twin whose delays are known, and on a robot that lives in wall time."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

pytest.importorskip("rclpy")
import rclpy

from ambient_policy.errors import ConfigError, TrialError
from ambient_policy_ros.calibrate_latency import main, servo_parameters
from ambient_policy_ros.calibration_node import CalibrationNode
from ambient_policy_ros.launch_find import ROS_NAME, share_directory

if TYPE_CHECKING:
    from tests.ros.conftest import Running, Start

pytestmark = pytest.mark.ros

CLI = "import sys; from ambient_policy.cli import main; sys.exit(main(sys.argv[1:]))"
# The module's own `main`: the command's entry point is there only after a new installation.
CALIBRATE = "import sys; from ambient_policy_ros.calibrate_latency import main; sys.exit(main(sys.argv[1:]))"

ROBOT = """
import numpy as np, rclpy, sys
from std_msgs.msg import Bool
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from ambient_policy_ros import convert, qos

HEIGHT_M = float(sys.argv[1])

class Robot(Node):
    '''Is at 100 Hz where it was told to be 80 ms before; targets at another height are not for it.'''
    def __init__(self):
        super().__init__("robot")
        self.told, self.at = [], np.array([0.5, 0.0])
        self.out = self.create_publisher(PoseStamped, "tool/pose", qos.STATE)
        self.create_subscription(PoseStamped, "tool/target", self.told.append, qos.STATE)
        self.stop = self.create_publisher(Bool, "safety/stop", qos.STATUS)
        self.create_timer(0.01, self.tick)
    def tick(self):
        now_s = convert.seconds(self.get_clock().now().to_msg())
        while self.told and convert.seconds(self.told[0].header.stamp) <= now_s - 0.08:
            told = self.told.pop(0)
            if told.pose.position.z == HEIGHT_M:
                self.at = convert.pose_xy(told)
        if "stop" in sys.argv:
            self.stop.publish(Bool(data=True))
        self.out.publish(convert.pose_msg(self.at, now_s, "world"))

rclpy.init(); robot = Robot(); print("robot stands", flush=True); rclpy.spin(robot)
"""


def calibrate(start: Start, out: Path, duration_s: float, *words: str) -> Running:
    return start("-c", CALIBRATE, "--out", str(out), "--motion.duration-s", str(duration_s), *words)


def test_without_a_robot_it_says_where_to_look() -> None:
    rclpy.init()
    try:
        node = CalibrationNode(servo_parameters(share_directory(ROS_NAME) / "config/pushing.yaml"))
        with pytest.raises(TrialError, match="no tool/pose within 0.2 s; does the robot run"):
            node.look(0.2)
    finally:
        rclpy.try_shutdown()


def test_a_real_robot_is_asked_for_and_measured_by_the_wall_clock(start: Start, tmp_path: Path) -> None:
    robot = start("-c", ROBOT, "0.115")
    robot.wait_for("robot stands")
    shipped = (share_directory(ROS_NAME) / "config/pushing.yaml").read_text()
    (tmp_path / "cell.yaml").write_text(shipped.replace("height_m: 0.0\n", "height_m: 0.115\n"))
    asked = calibrate(start, tmp_path / "asked", 5)
    assert asked.wait(60) == 2
    assert "a real robot would move and nobody can be asked here" in asked.output()
    done = calibrate(start, tmp_path / "done", 5, "--yes", "--config", str(tmp_path / "cell.yaml"))
    assert done.wait(60) == 0, done.output()
    record = json.loads((tmp_path / "done/latency.json").read_text())
    assert record["clock"] == "wall"
    # It looks at its targets once a period, so it is later by half of one; more on a machine that is busy.
    assert 0.08 < record["actuation"]["delay_s"] < 0.15
    assert not (tmp_path / "asked").exists()


def test_a_stop_that_is_pressed_is_obeyed(start: Start, tmp_path: Path) -> None:
    start("-c", ROBOT, "0.0", "stop").wait_for("robot stands")
    stopped = calibrate(start, tmp_path / "stopped", 5, "--yes")
    assert stopped.wait(60) == 2
    assert "s: safety/stop was pressed; look, then disable and enable" in stopped.output()
    assert not (tmp_path / "stopped").exists()


@pytest.mark.sim
@pytest.mark.slow
def test_the_twins_delays_are_found_and_a_servo_beside_is_refused(start: Start, tmp_path: Path) -> None:
    """A tool 0.1 s late, and overhead pictures that are stamped 0.1 s after they were taken."""
    (tmp_path / "late.yaml").write_text(
        "extends: pushing\nname: late\npolicy_period_s: 0.05\nactuation: {lag_s: 0.1}\n"
    )
    fault = {"fault": "latency", "channel": "camera/overhead/color/image_raw"}
    plan = {"title": "late stamps", "faults": [{**fault, "delay_s": 0.1, "restamp": True}]}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    files = (f"scenario:={tmp_path}/late.yaml", f"faults:={tmp_path}/plan.yaml")
    twin = start("-c", CLI, "launch", "twin", *files)
    twin.wait_for("standing by")
    done = calibrate(start, tmp_path / "done", 8)
    assert done.wait(90) == 0, done.output()
    record = json.loads((tmp_path / "done/latency.json").read_text())
    assert record["clock"] == "simulated"
    assert record["cameras"]["overhead"]["delay_s"] == pytest.approx(0.1, abs=0.015)
    assert yaml.safe_load((tmp_path / "done/latency.yaml").read_text())
    assert (tmp_path / "done/latency.png").stat().st_size > 10_000

    limits = ("workspace_min:=[0.0,-1.0]", "workspace_max:=[1.0,1.0]", "max_speed_m_s:=0.5")
    words = [word for limit in limits for word in ("-p", limit)]
    servo = start("-m", "ambient_policy_ros.servo_node", "--ros-args", *words)
    servo.wait_for("servo ready")
    beside = calibrate(start, tmp_path / "beside", 8)
    assert beside.wait(60) == 2
    assert "1 other node(s) publish tool/target; two hands at one tool are not safe" in beside.output()
    assert not (tmp_path / "beside").exists()
    assert twin.stop() == 0
    late, ticks = map(int, re.search(r"late ticks: (\d+) of (\d+)", twin.output()).groups())
    # A target is taken at the tick after its own, and reached at the end of that: two periods beside the lag.
    # A busy machine adds to it: 0.145 s with 35 % of ticks late, and no number at all where that changes.
    # What is exact is tested in lock-step, in tests/sim/test_latency_calibration.py.
    if late < 0.05 * ticks:
        assert record["actuation"]["delay_s"] == pytest.approx(0.12, abs=0.015)
    else:
        assert record["actuation"].get("delay_s", 0.15) > 0.115


@pytest.mark.sim
def test_a_twin_without_trials_needs_real_time(start_node: Start) -> None:
    twin = start_node("twin", trials=0)
    assert twin.wait(60) == 2
    assert "without trials nobody answers, so it needs realtime" in twin.output()


def test_a_folder_or_a_file_that_does_not_fit_is_named(tmp_path: Path) -> None:
    (tmp_path / "cell.yaml").write_text("/**/policy: {ros__parameters: {threads: 1}}\n")
    for words, text in (
        (["--out", str(tmp_path)], "exists; name a new folder"),
        (["--config", str(tmp_path / "cell.yaml")], "has no parameters of a node `servo`"),
    ):
        with pytest.raises(ConfigError, match=text):
            main(words)
