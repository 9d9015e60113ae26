"""Camera poses, intrinsics and render engines of a scenario."""

from __future__ import annotations

import numpy as np
from pydrake.geometry import (
    ClippingRange,
    ColorRenderCamera,
    DepthRange,
    DepthRenderCamera,
    FrameId,
    LightParameter,
    MakeRenderEngineVtk,
    RenderCameraCore,
    RenderEngineVtkParams,
    SceneGraph,
)
from pydrake.math import RigidTransform, RollPitchYaw
from pydrake.systems.framework import DiagramBuilder
from pydrake.systems.sensors import CameraInfo, RgbdSensor

from ambient_policy.episodes import CameraModel
from sim.look import Camera, Light, Look

X_TF = RigidTransform(RollPitchYaw(0, np.pi, 0), [0, 0, 0.22])
"""Flange (link 7 of the reference's arm, z down) in the tool frame: 45 mm to its face, a 175 mm rod."""


def camera_model(name: str, camera: Camera) -> CameraModel:
    """Scale the calibrated intrinsics to the rendered size. Pixel centres are whole numbers: the halves."""
    width, height = (round(n * camera.scale) for n in camera.calibrated_size)
    sx, sy = width / camera.calibrated_size[0], height / camera.calibrated_size[1]
    return CameraModel(
        width=width,
        height=height,
        fx=camera.fx * sx,
        fy=camera.fy * sy,
        cx=(camera.cx + 0.5) * sx - 0.5,
        cy=(camera.cy + 0.5) * sy - 0.5,
        frame_id=f"{name}_optical_frame",
    )


def camera_pose(camera: Camera) -> RigidTransform:
    """Return the optical frame in the world, or in the tool frame for a camera on the flange."""
    X_PC = RigidTransform(RollPitchYaw(*camera.rpy), camera.xyz)
    return X_TF @ X_PC if camera.parent == "flange" else X_PC


def _light(light: Light) -> LightParameter:
    parameter = LightParameter()
    parameter.type = "directional"
    parameter.frame = light.frame
    parameter.color.set(*light.colour, 1.0)
    parameter.intensity = light.intensity
    parameter.direction = -np.asarray(light.position) / np.linalg.norm(light.position)
    return parameter


def add_renderer(scene_graph: SceneGraph, look: Look, name: str, camera: Camera) -> str:
    """Register a VTK engine for this camera and return its name. Shadows cost four times the time.

    Cameras that are lit alike, before the same background, share one.
    """
    lights = look.lights if camera.lights is None else camera.lights
    background = look.background if camera.background is None else camera.background
    own = lights != look.lights or background != look.background
    engine = f"{name if own else 'plain'}{'_shadows' if camera.shadows else ''}"
    if not scene_graph.HasRenderer(engine):
        params = RenderEngineVtkParams()
        params.default_clear_color = np.asarray(background)
        params.lights = [_light(light) for light in lights]
        params.cast_shadows = camera.shadows
        params.shadow_map_size = 512
        scene_graph.AddRenderer(engine, MakeRenderEngineVtk(params))
    return engine


def add_camera(
    builder: DiagramBuilder,
    scene_graph: SceneGraph,
    tool_frame: FrameId,
    look: Look,
    name: str,
    camera: Camera,
) -> RgbdSensor:
    """Add one colour camera to the diagram."""
    model = camera_model(name, camera)
    core = RenderCameraCore(
        add_renderer(scene_graph, look, name, camera),
        CameraInfo(model.width, model.height, model.fx, model.fy, model.cx, model.cy),
        ClippingRange(0.02, 5.0),
        RigidTransform(),
    )
    parent = tool_frame if camera.parent == "flange" else scene_graph.world_frame_id()
    sensor = builder.AddSystem(
        RgbdSensor(
            parent,
            camera_pose(camera),
            ColorRenderCamera(core, False),
            DepthRenderCamera(core, DepthRange(0.05, 4.0)),
        )
    )
    sensor.set_name(f"camera_{name}")
    builder.Connect(scene_graph.get_query_output_port(), sensor.query_object_input_port())
    return sensor
