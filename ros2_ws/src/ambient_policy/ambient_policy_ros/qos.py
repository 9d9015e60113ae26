"""Qualities of service of every topic, in one place so that both ends agree."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

STATE = QoSProfile(depth=20, reliability=ReliabilityPolicy.RELIABLE)
"""Tool pose, joint states, targets, chunks: small, and each one counts. 20 poses are 0.2 s."""

STATUS = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)

LATCHED = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)

CHUNK = LATCHED
"""A servo that the policy discovers late still gets the newest chunk."""

ENABLE = LATCHED
"""A node that starts late still learns whether it may move the robot.

Both ends of this topic are created last: discovery tells of a node's publishers in the order of their
creation, and of its subscriptions too. So whoever has answered is known to hear what was created before.
"""

CLOCK = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)

IMAGE_OUT = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)
"""As realsense2_camera and most drivers publish by default; best-effort readers may still subscribe."""


def image_in(reliability: str) -> QoSProfile:
    """Return the profile to read images with: only the newest counts, whatever the driver offers."""
    return QoSProfile(depth=1, reliability=ReliabilityPolicy[reliability.upper()])
