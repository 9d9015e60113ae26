"""`ambient-policy replay`: a recorded episode as one self-contained page with a 3-D view that can be turned.

The page (Meshcat, 2 MB) needs no server and no network; time runs, stops and goes back with its slider.
Bodies stand where the episode says they stood: nothing is simulated again.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from pydrake.geometry import Meshcat, MeshcatParams, MeshcatVisualizer, Rgba
from pydrake.math import RigidTransform, RotationMatrix
from pydrake.multibody.plant import AddMultibodyPlantSceneGraph
from pydrake.systems.framework import DiagramBuilder
from rich.console import Console

from ambient_policy.config import parse
from ambient_policy.episodes import Episode, read_episode
from ambient_policy.errors import EpisodeError
from sim import se2
from sim.arm import ArmTool
from sim.bodies import add_slider, add_table
from sim.floating_pusher import FloatingPusher
from sim.scenario import Scenario
from sim.se2 import Array
from sim.tools import Tool

# Drake tells of the port, which is of no use here, and warns of the half space, whose visual is a box.
logging.getLogger("drake").setLevel(logging.ERROR)

SLIDER_POSE = "privileged_slider_pose"
EYE_M, LOOKED_AT_M = (1.10, -0.40, 0.55), (0.55, -0.03, 0.0)
"""Where the view starts, and what is in its middle."""
_LINE_Z_M = 0.001
_GOAL, _PATH = Rgba(0.16, 0.59, 0.24, 1.0), Rgba(0.12, 0.44, 0.70, 1.0)


@dataclass(frozen=True, kw_only=True)
class ReplayArgs:
    """Write a 3-D page of one recorded episode."""

    episode: tyro.conf.Positional[Path]
    """Folder of the episode."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("replay.html")
    """The page; one that is there is replaced."""


def main(argv: list[str]) -> int:
    """Run `ambient-policy replay EPISODE --out replay.html`."""
    args = tyro.cli(ReplayArgs, args=argv, prog="ambient-policy replay", description=__doc__)
    page = write_replay(args.episode, args.out)
    Console(highlight=False).print(f"replay written; open [bold]{page}[/bold] in a browser", soft_wrap=True)
    return 0


def write_replay(path: Path, out: Path) -> Path:
    """Write the page of the episode folder `path` to `out` and return `out`.

    Raises:
        EpisodeError: no whole episode there, or one that does not say where the T was.
        ConfigError: its scenario is not one of the twin's.
    """
    episode = read_episode(path, cameras=())
    slider = episode.arrays.get(SLIDER_POSE)
    if slider is None:
        raise EpisodeError(
            f"{path} has no array `{SLIDER_POSE}`, so nobody knows where the T was; it has "
            f"{', '.join(sorted(episode.arrays))}; only episodes of the twin can be replayed"
        )
    scenario = parse(episode.meta.scenario, Scenario, f"{path / 'meta.json'}, scenario")
    tool, period_s = episode.arrays["state"], episode.meta.period_s
    html = replay_html(scenario, slider, tool, period_s, title_of(episode, path))
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    partial.write_text(html, encoding="utf-8")
    partial.replace(out)
    return out


def title_of(episode: Episode, path: Path) -> str:
    """Return the page's title: which episode, of what, and how it ended."""
    meta = episode.meta
    return f"{path.name}: {meta.task}, {meta.source}, seed {meta.seed}, {meta.outcome}"


def replay_html(scenario: Scenario, slider: Array, tool: Array, period_s: float, title: str) -> str:
    """Return the page of a motion.

    Args:
        scenario: bodies and looks.
        slider: (N, 3) x [m], y [m], yaw [rad] of the T in the world.
        tool: (N, 2) tip of the tool in the world [m].
        period_s: between two poses.
        title: of the page.
    """
    # A port of its own, on this machine alone; the page that is written needs it no more.
    meshcat = Meshcat(MeshcatParams(host="127.0.0.1"))
    builder = DiagramBuilder()
    plant, scene_graph = AddMultibodyPlantSceneGraph(builder, scenario.physics.time_step_s)
    add_table(plant, scenario)
    body = add_slider(plant, scenario)
    rod: Tool = FloatingPusher(plant, scenario) if scenario.arm is None else ArmTool(plant, scenario)
    plant.Finalize()
    MeshcatVisualizer.AddToBuilder(builder, scene_graph, meshcat)
    diagram = builder.Build()
    context = diagram.CreateDefaultContext()
    own = plant.GetMyMutableContextFromRoot(context)

    for name in ("/Grid", "/Axes"):
        meshcat.SetProperty(name, "visible", False)
    meshcat.SetCameraPose(EYE_M, LOOKED_AT_M)
    meshcat.SetLine("goal", goal_outline(scenario), 3.0, _GOAL)
    if len(tool) > 1:
        meshcat.SetLine("path of the tool", on_table(tool), 1.5, _PATH)
    meshcat.StartRecording(1 / period_s, set_visualizations_while_recording=False)
    for i, (x, y, yaw) in enumerate(slider):
        context.SetTime(i * period_s)
        X_WS = RigidTransform(RotationMatrix.MakeZRotation(float(yaw)), [x, y, scenario.slider.height_m / 2])
        plant.SetFreeBodyPose(own, body, X_WS)
        rod.place(own, tool[i])
        diagram.ForcedPublish(context)
    meshcat.StopRecording()
    meshcat.PublishRecording()
    escaped = title.replace("&", "&amp;").replace("<", "&lt;")
    head, mark, tail = meshcat.StaticHtml().partition("<title>")
    return head + mark + escaped + tail[tail.index("</title>") :] if mark else head


def goal_outline(scenario: Scenario) -> Array:
    """Return the closed outline of the T at its goal (3, n) in the world [m], just above the table."""
    corners = [se2.to_world(np.asarray(scenario.task.goal), corner) for corner in scenario.slider.tee.outline]
    return on_table(np.array([*corners, corners[0]]))


def on_table(points: Array) -> Array:
    """Return points (n, 2) of the table [m] as (3, n), just above it."""
    return np.vstack([np.asarray(points).T, np.full(len(points), _LINE_Z_M)])
