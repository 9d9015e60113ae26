"""ROS 2 edge of Ambient Policy: thin nodes around the core, and the launch runner.

`convert` alone knows both messages and arrays; `twin_node` alone may import `sim`. The launch modules know no
rclpy, so `ambient-policy launch` answers at once and works before any ROS is installed.
"""
