"""The twin itself: T, table, pusher and cameras under Drake, stepped by a position target.

It speaks only what the robot speaks (tool position, images, a target); the slider's pose is for scoring and
for labels.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pydrake.geometry import Meshcat
from pydrake.math import RigidTransform, RotationMatrix
from pydrake.multibody.plant import AddMultibodyPlant, MultibodyPlantConfig
from pydrake.systems.analysis import Simulator
from pydrake.systems.framework import DiagramBuilder
from pydrake.visualization import AddDefaultVisualization

from ambient_policy.episodes import CameraModel
from sim.bodies import add_pusher, add_slider, add_table
from sim.cameras import add_camera, camera_model, camera_pose
from sim.scenario import Camera, Scenario
from sim.se2 import Array
from sim.starts import Start

# Drake warns at every build that a half space has no meshcat shape; the table's visual is a box.
logging.getLogger("drake").setLevel(logging.ERROR)


class Station:
    """A simulated work cell that advances only when told to.

    Args:
        scenario: what to build.
        meshcat: a running Meshcat to draw into, or None.
        extra_cameras: more cameras than the scenario's (for videos); never shown by `images()`.
        cameras: set False to build no cameras at all (state-only collection and tests).
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        meshcat: Meshcat | None = None,
        extra_cameras: Mapping[str, Camera] | None = None,
        cameras: bool = True,
    ) -> None:
        self.scenario = scenario
        builder = DiagramBuilder()
        self._plant, scene_graph = AddMultibodyPlant(
            MultibodyPlantConfig(
                time_step=scenario.physics.time_step_s,
                contact_model="hydroelastic_with_fallback",
                discrete_contact_approximation=scenario.physics.approximation,
            ),
            builder,
        )
        add_table(self._plant, scenario)
        self._slider = add_slider(self._plant, scenario)
        self._tool = add_pusher(self._plant, scenario)
        self._plant.Finalize()
        wanted = {**(scenario.cameras if cameras else {}), **(extra_cameras or {})}
        tool_frame = self._plant.GetBodyFrameIdOrThrow(self._tool.index())
        self._sensors = {
            name: add_camera(builder, scene_graph, tool_frame, scenario.look, name, camera)
            for name, camera in wanted.items()
        }
        self._specs = wanted
        self.cameras: dict[str, CameraModel] = {
            name: camera_model(name, camera) for name, camera in wanted.items() if name in scenario.cameras
        }
        if meshcat is not None:
            AddDefaultVisualization(builder, meshcat)
        self._diagram = builder.Build()
        self._simulator = Simulator(self._diagram)
        self._tool_instance = self._plant.GetModelInstanceByName("tool")
        self._desired = self._plant.get_desired_state_input_port(self._tool_instance)
        self._target = np.zeros(2)
        self.reset(Start(np.array(scenario.task.goal), np.array(scenario.task.tool_home)))

    def reset(self, start: Start) -> None:
        """Put everything at rest at `start` with time 0. A fresh context leaves no trace of the past."""
        context = self._diagram.CreateDefaultContext()
        self._simulator.reset_context(context)
        self._context = self._plant.GetMyMutableContextFromRoot(context)
        x, y, yaw = start.slider_pose
        z = self.scenario.slider.height_m / 2
        X_WS = RigidTransform(RotationMatrix.MakeZRotation(float(yaw)), [x, y, z])
        self._plant.SetFreeBodyPose(self._context, self._slider, X_WS)
        self._plant.SetPositions(self._context, self._tool_instance, start.tool_xy)
        self._target = np.array(start.tool_xy, dtype=float)
        self._desired.FixValue(self._context, np.r_[self._target, 0.0, 0.0])
        self._steps = 0
        self._simulator.Initialize()

    def advance(self, target_xy: Array, periods: int = 1) -> None:
        """Track `target_xy` (2,) world [m], reached in a straight line after `periods` control periods."""
        period = self.scenario.control_period_s
        start, goal = self._target, np.asarray(target_xy, dtype=float)
        velocity = (goal - start) / (periods * period)
        for i in range(periods):
            position = start + (goal - start) * ((i + 1) / periods)
            self._desired.FixValue(self._context, np.r_[position, velocity])
            self._steps += 1
            self._simulator.AdvanceTo(self._steps * period)
        self._target = goal.copy()

    @property
    def time_s(self) -> float:
        """Simulated time since `reset`."""
        return self._steps * self.scenario.control_period_s

    def tool_xy(self) -> Array:
        """Measured tip of the pusher (2,) in the world [m]."""
        return self._plant.GetPositions(self._context, self._tool_instance).copy()

    def tool_velocity(self) -> Array:
        """Measured velocity of the tip (2,) in the world [m/s]."""
        return self._plant.GetVelocities(self._context, self._tool_instance).copy()

    def slider_pose(self) -> Array:
        """True (x [m], y [m], yaw [rad]) of the T in the world: for scores and labels, never for a policy."""
        X_WS = self._plant.EvalBodyPoseInWorld(self._context, self._slider)
        p, R = X_WS.translation(), X_WS.rotation().matrix()
        return np.array([p[0], p[1], np.arctan2(R[1, 0], R[0, 0])])

    def slider_height(self) -> float:
        """Height of the T's centre of mass above the table [m]."""
        return float(self._plant.EvalBodyPoseInWorld(self._context, self._slider).translation()[2])

    def image(self, name: str) -> NDArray[np.uint8]:
        """Render one camera now: (height, width, 3) RGB."""
        sensor = self._sensors[name]
        context = sensor.GetMyContextFromRoot(self._simulator.get_context())
        return sensor.color_image_output_port().Eval(context).data[:, :, :3].copy()

    def images(self) -> dict[str, NDArray[np.uint8]]:
        """Render every camera of the scenario now."""
        return {name: self.image(name) for name in self.cameras}

    def camera_pose(self, name: str) -> RigidTransform:
        """Return the optical frame of a camera in the world now."""
        X_PC = camera_pose(self._specs[name])
        if self._specs[name].parent == "flange":
            return self._plant.EvalBodyPoseInWorld(self._context, self._tool) @ X_PC
        return X_PC
