"""`ros2 launch ambient_policy twin.launch.py`: includes twin.launch.yaml, where everything is said."""

from pathlib import Path

from launch.actions import IncludeLaunchDescription
from launch_yaml.launch_description_sources import YAMLLaunchDescriptionSource

from launch import LaunchDescription


def generate_launch_description():
    """Return the description of the YAML file beside this one; arguments are passed on."""
    yaml_file = Path(__file__).with_name("twin.launch.yaml")
    return LaunchDescription([IncludeLaunchDescription(YAMLLaunchDescriptionSource(str(yaml_file)))])
