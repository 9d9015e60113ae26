"""The twin itself: T, table, tool and cameras under Drake, stepped by a position target.

It speaks only what the robot speaks (tool position, images, a target); the slider's pose is for scoring and
for labels.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydrake.geometry import Meshcat
from pydrake.math import RigidTransform, RotationMatrix
from pydrake.multibody.plant import AddMultibodyPlant, MultibodyPlantConfig
from pydrake.systems.analysis import Simulator
from pydrake.systems.framework import DiagramBuilder
from pydrake.visualization import AddDefaultVisualization

from ambient_policy.episodes import CameraModel
from ambient_policy.errors import ConfigError
from sim.actuation import DelayLine
from sim.arm import ArmTool
from sim.bodies import add_slider, add_table
from sim.cameras import add_camera, camera_model, camera_pose
from sim.effects import apply_effects
from sim.floating_pusher import FloatingPusher
from sim.scenario import Camera, Scenario
from sim.se2 import Array
from sim.starts import Start
from sim.tools import JointSample, Tool

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
        self._tool: Tool = (FloatingPusher if scenario.arm is None else ArmTool)(self._plant, scenario)
        self._plant.Finalize()
        wanted = {**(scenario.cameras if cameras else {}), **(extra_cameras or {})}
        tool_frame = self._plant.GetBodyFrameIdOrThrow(self._tool.body.index())
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
        self._delay = DelayLine(round(scenario.actuation.lag_s / scenario.control_period_s))
        self._target = self._setpoint = np.zeros(2)
        self.reset(Start(np.array(scenario.task.goal), np.array(scenario.task.tool_home)))

    def reset(self, start: Start) -> None:
        """Put everything at rest at `start` with time 0. A fresh context leaves no trace of the past."""
        context = self._diagram.CreateDefaultContext()
        self._simulator.reset_context(context)
        self._context = self._plant.GetMyMutableContextFromRoot(context)
        self._steps = self._placings = 0
        self.place(start.slider_pose, start.tool_xy)
        self._simulator.Initialize()

    def place(self, slider_pose: Array, tool_xy: Array) -> None:
        """Write both poses, at rest, without dynamics: time stands still, overlaps stay.

        For kinematic replay: `place`, then `images()`. The T stands flat on the table.

        Args:
            slider_pose: (3,) x [m], y [m], yaw [rad] of the T in the world.
            tool_xy: (2,) tip of the tool in the world [m]; also the target from which `advance` goes on. An
                arm that does not reach it goes as near as it can, see `tool_limited`.
        """
        self._placings += 1
        x, y, yaw = slider_pose
        z = self.scenario.slider.height_m / 2
        X_WS = RigidTransform(RotationMatrix.MakeZRotation(float(yaw)), [x, y, z])
        self._plant.SetVelocities(self._context, np.zeros(self._plant.num_velocities()))
        self._plant.SetFreeBodyPose(self._context, self._slider, X_WS)
        self._target = np.array(tool_xy, dtype=float)
        self._setpoint = self._target
        self._delay.reset(self._target)
        self._tool.place(self._context, self._target)
        self.joint_samples: tuple[JointSample, ...] = ()

    def advance(self, target_xy: Array, periods: int = 1) -> None:
        """Track `target_xy` (2,) world [m], reached in a straight line after `periods` control periods.

        `joint_samples` then holds the joints after every update of the tool in that time, the end included.
        """
        if self.scenario.physics.contact == "quasistatic":
            raise ConfigError(
                f"scenario {self.scenario.name!r} has physics.contact: quasistatic, so nothing moves by "
                "itself: only a plan replayed with Station.place can use it; for dynamics take contact: "
                "spheres or hydroelastic"
            )
        start, goal = self._target, np.asarray(target_xy, dtype=float)
        velocity = (goal - start) / (periods * self.scenario.control_period_s)
        samples: list[JointSample] = []
        for i in range(periods):
            position = start + (goal - start) * ((i + 1) / periods)
            samples += self._advance_one(self._delay.step(np.concatenate([position, velocity])))
        self.joint_samples = tuple(samples)
        self._target = goal.copy()

    def advance_joints(self, commands: Sequence[tuple[Array, Array]]) -> None:
        """Simulate one control period in which the arm's joints, not its tip, are commanded.

        Args:
            commands: for each of the tool's updates, positions and velocities (n,) at its end, in the order
                of `joint_names`.

        Raises:
            ConfigError: there is no arm, or its setpoints are to be late, which is for positions of the tip.
        """
        if not isinstance(self._tool, ArmTool) or self.scenario.actuation.lag_s:
            raise ConfigError(
                f"joints cannot be commanded in scenario {self.scenario.name!r}: it needs an `arm:` and "
                f"actuation.lag_s 0, which is {self.scenario.actuation.lag_s}; try pushing_arm"
            )
        assert len(commands) == self._tool.updates_per_period
        samples = []
        for k, (positions, velocities) in enumerate(commands, start=1):
            self._tool.follow_joints(self._context, positions, velocities)
            samples.append(self._simulate_update(k))
        self._steps += 1
        self.joint_samples = tuple(samples)
        self._target = self._setpoint = self.tool_xy()

    def _advance_one(self, setpoint: Array) -> list[JointSample]:
        """Simulate one control period: the tool follows in as many updates as it takes in that time."""
        updates = self._tool.updates_per_period
        before, after, velocity = self._setpoint, setpoint[:2], setpoint[2:]
        samples = []
        for k in range(1, updates + 1):
            xy = after if k == updates else before + (after - before) * (k / updates)
            self._tool.follow(self._context, xy, velocity)
            samples.append(self._simulate_update(k))
        self._steps += 1
        self._setpoint = after
        return samples

    def _simulate_update(self, k: int) -> JointSample:
        """Simulate to the end of the tool's update `k`, counted from 1 in each control period."""
        updates = self._tool.updates_per_period
        steps = self._steps + 1 if k == updates else self._steps + k / updates
        time_s = steps * self.scenario.control_period_s
        self._simulator.AdvanceTo(time_s)
        return JointSample(time_s, self.joint_positions(), self.joint_velocities())

    @property
    def time_s(self) -> float:
        """Simulated time since `reset`."""
        return self._steps * self.scenario.control_period_s

    def tool_xy(self) -> Array:
        """Measured tip of the pusher (2,) in the world [m]."""
        return self._tool.xy(self._context)

    def tool_velocity(self) -> Array:
        """Measured velocity of the tip (2,) in the world [m/s]."""
        return self._tool.velocity(self._context)

    @property
    def tool_limited(self) -> str:
        """Why the tool could not follow its last target (out of reach, a limit); empty when it could."""
        return self._tool.limited

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Names of the tool's joints: seven of an arm, x and y of the floating pusher."""
        return self._tool.joint_names

    @property
    def joint_period_s(self) -> float:
        """Time between two joint samples."""
        return self.scenario.control_period_s / self._tool.updates_per_period

    def joint_positions(self) -> Array:
        """Measured joints (n,), in the order of `joint_names` [rad; m for the floating pusher]."""
        return self._tool.joint_positions(self._context)

    def joint_velocities(self) -> Array:
        """Measured joint velocities (n,) [rad/s; m/s for the floating pusher]."""
        return self._tool.joint_velocities(self._context)

    def slider_pose(self) -> Array:
        """True (x [m], y [m], yaw [rad]) of the T in the world: for scores and labels, never for a policy."""
        X_WS = self._plant.EvalBodyPoseInWorld(self._context, self._slider)
        p, R = X_WS.translation(), X_WS.rotation().matrix()
        return np.array([p[0], p[1], np.arctan2(R[1, 0], R[0, 0])])

    def slider_height(self) -> float:
        """Height of the T's centre of mass above the table [m]."""
        return float(self._plant.EvalBodyPoseInWorld(self._context, self._slider).translation()[2])

    def image(self, name: str) -> NDArray[np.uint8]:
        """Render one camera now: (height, width, 3) RGB, with the faults that the scenario asks for."""
        sensor = self._sensors[name]
        context = sensor.GetMyContextFromRoot(self._simulator.get_context())
        image = sensor.color_image_output_port().Eval(context).data[:, :, :3].copy()
        if name not in self.cameras:
            return image
        frame = [self.scenario.seed, self._steps, self._placings, zlib.crc32(name.encode())]
        return apply_effects(image, self.scenario.look.effects, np.random.default_rng(frame))

    def images(self) -> dict[str, NDArray[np.uint8]]:
        """Render every camera of the scenario now."""
        return {name: self.image(name) for name in self.cameras}

    def camera_pose(self, name: str) -> RigidTransform:
        """Return the optical frame of a camera in the world now."""
        X_PC = camera_pose(self._specs[name])
        if self._specs[name].parent == "flange":
            return self._plant.EvalBodyPoseInWorld(self._context, self._tool.body) @ X_PC
        return X_PC
