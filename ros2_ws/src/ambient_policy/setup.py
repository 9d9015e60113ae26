from glob import glob

from setuptools import setup

# What `ros2 launch` and `ros2 run` look up. It may equal the core's import name because it is only a folder
# and a marker file; the name below, which pip and entry points look up, must differ from the core's.
ROS_NAME = "ambient_policy"

setup(
    name="ambient_policy_ros",
    version="0.1.0",
    description="ROS 2 nodes that run an Ambient Policy bundle on a robot or on its Drake twin",
    license="Apache-2.0",
    python_requires=">=3.11",
    install_requires=["ambient-policy"],
    packages=["ambient_policy_ros"],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{ROS_NAME}"]),
        (f"share/{ROS_NAME}", ["package.xml"]),
        (f"share/{ROS_NAME}/launch", sorted(glob("launch/*.launch.*"))),
        (f"share/{ROS_NAME}/config", sorted(glob("config/*"))),
        (f"share/{ROS_NAME}/faults", sorted(glob("faults/*.yaml"))),
    ],
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "camera_node = ambient_policy_ros.camera_node:main",
            "joint_node = ambient_policy_ros.joint_node:main",
            "policy_node = ambient_policy_ros.policy_node:main",
            "servo_node = ambient_policy_ros.servo_node:main",
            "twin_node = ambient_policy_ros.twin_node:main",
            "watchdog_node = ambient_policy_ros.watchdog_node:main",
        ],
        # How the core's command line finds these without importing this package.
        "ambient_policy.commands": [
            "launch = ambient_policy_ros.launch_cli:main",
            "calibrate-latency = ambient_policy_ros.calibrate_latency:main",
        ],
    },
)
