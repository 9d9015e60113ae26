"""How single messages are spoilt: black pixels, numbers that are none, wrong times. Always on a copy."""

from __future__ import annotations

import array
import copy
import math
from typing import Any

from geometry_msgs.msg import PoseStamped
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState

from ambient_policy_ros import convert


def black(msg: Image) -> Image:
    """Return the image with every pixel black."""
    spoilt = copy.copy(msg)
    spoilt.data = array.array("B", bytes(len(msg.data)))
    return spoilt


def not_a_number(msg: Any) -> Any:
    """Return a pose, joint state or calibration whose numbers are all NaN."""
    spoilt = copy.deepcopy(msg)
    if isinstance(spoilt, PoseStamped):
        spoilt.pose.position.x = spoilt.pose.position.y = spoilt.pose.position.z = math.nan
    elif isinstance(spoilt, JointState):
        spoilt.position = [math.nan] * len(msg.position)
        spoilt.velocity = [math.nan] * len(msg.velocity)
    elif isinstance(spoilt, CameraInfo):
        spoilt.k, spoilt.p = [math.nan] * 9, [math.nan] * 12
    else:
        raise TypeError(f"{type(msg).__name__} has no numbers to spoil")
    return spoilt


def displaced(msg: PoseStamped, by_m: tuple[float, float]) -> PoseStamped:
    """Return the pose moved by `by_m` [m] along x and y."""
    spoilt = copy.deepcopy(msg)
    spoilt.pose.position.x += by_m[0]
    spoilt.pose.position.y += by_m[1]
    return spoilt


def again(old: Any, new: Any, restamp: bool) -> Any:
    """Return `old` in place of `new`, with the stamp of `new` if asked and if it has one."""
    if not restamp or isinstance(new, Clock):
        return old
    repeated = copy.copy(old)
    repeated.header = copy.deepcopy(old.header)
    repeated.header.stamp = new.header.stamp
    return repeated


def restamped(msg: Any, by_s: float) -> Any:
    """Return the message with a stamp that is later by this; /clock, which has none, as it is."""
    if isinstance(msg, Clock):
        return msg
    late = copy.copy(msg)
    late.header = copy.deepcopy(msg.header)
    late.header.stamp = convert.stamp(convert.seconds(msg.header.stamp) + by_s)
    return late


def shifted(msg: Clock, by_s: float) -> Clock:
    """Return a /clock that is wrong by `by_s`; never below 0, which ROS cannot say."""
    return convert.clock_msg(max(convert.seconds(msg.clock) + by_s, 0.0))
