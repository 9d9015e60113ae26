"""Pictures of every gap beside the target, for docs/gaps.md.

    python -m sim.gallery --out docs/figures

What is seen is rendered; what is felt is drawn as the path of the T under the same commands.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
import tyro
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from numpy.typing import NDArray

from sim import se2
from sim.gap_knobs import GAPS, Kind
from sim.scenario import Scenario, load_scenario
from sim.se2 import Array
from sim.starts import Start
from sim.station import Station

POSE = np.array([0.60, -0.06, 0.6])
TOOL = np.array([0.66, 0.07])
COLOURS = ("tab:blue", "tab:orange", "tab:red", "tab:purple", "tab:brown", "tab:green")


@dataclass(frozen=True, kw_only=True)
class GalleryArgs:
    """Where the figures go."""

    out: Path = Path("docs/figures")
    scale: float = 0.3
    """Of the cameras' 640x480."""


def picture(scenario: Scenario, scale: float) -> NDArray[np.uint8]:
    """Render what both cameras of a scenario see of one scene, one above the other."""
    cameras = {k: c.model_copy(update={"scale": scale}) for k, c in scenario.cameras.items()}
    station = Station(scenario.model_copy(update={"cameras": cameras}))
    station.place(POSE, TOOL)
    return np.concatenate(list(station.images().values()), axis=0)


def _names(kinds: tuple[Kind, ...]) -> list[str]:
    return [name for name, gap in GAPS.items() if gap.kind in kinds]


def _show(ax: Axes, image: NDArray[np.uint8], title: str) -> None:
    ax.imshow(image)
    ax.set_title(title, fontsize=6)
    ax.axis("off")


def visual(path: Path, scale: float) -> None:
    """Draw one row a visual gap: the target, then each level; of random ones the episode of seed 1."""
    names = _names(("visual",))
    columns = 1 + max(len(GAPS[name].levels) for name in names)
    fig, axes = plt.subplots(len(names), columns, figsize=(1.5 * columns, 2.45 * len(names)))
    target = picture(load_scenario("target"), scale)
    for row, name in zip(axes, names, strict=True):
        _show(row[0], target, f"{name}\ntarget")
        for ax in row[1:]:
            ax.axis("off")
        for i, (ax, level) in enumerate(zip(row[1:], GAPS[name].levels, strict=False), 1):
            scenario = load_scenario("target", gaps={name: i}).drawn(1)
            text = level.text if len(level.text) < 34 else level.text[:32] + "..."
            _show(ax, picture(scenario, scale), f"level {i}\n{text}")
    _save(fig, path)


def push(scenario: Scenario) -> Array:
    """Carry out one fixed sequence of commands; return (n, 3) poses of the T, one for every 0.1 s."""
    goal = np.array(load_scenario("target").task.goal)
    # Against the bar's right half, then down along the right side, all at 0.06 m/s.
    corners = goal[:2] + np.array([[0.05, 0.08], [0.05, 0.0], [0.14, 0.05], [0.12, -0.09], [0.0, -0.09]])
    station = Station(scenario, cameras=False)
    station.reset(Start(goal, corners[0]))
    poses = [station.slider_pose()]
    for a, b in pairwise(corners):
        count = round(float(np.linalg.norm(b - a)) / 0.006)
        for i in range(1, count + 1):
            station.advance(a + (b - a) * i / count, 10)
            poses.append(station.slider_pose())
    station.advance(corners[-1], 50)
    return np.array([*poses, station.slider_pose()])


def _outline(ax: Axes, scenario: Scenario, pose: Array, **style: Any) -> None:
    corners = np.array([se2.to_world(pose, c) for c in scenario.slider.tee.outline])
    ax.add_patch(Polygon(corners, fill=False, **style))
    ax.autoscale_view()


def physical(path: Path) -> None:
    """Draw what the T does under the same commands, the target in grey.

    Of the physics where it goes and ends; of the actions, which end alike but not at once, its yaw over time.
    """
    names = [name for name in _names(("physics", "action")) if name != "quasistatic"]
    columns = 4
    fig, axes = plt.subplots(-(-len(names) // columns), columns, figsize=(2.6 * columns, 9.0))
    target = load_scenario("target")
    nominal = push(target)
    for ax in axes.flat[len(names) :]:
        ax.axis("off")
    for ax, name in zip(axes.flat, names, strict=False):
        runs = [(target, nominal, "0.5", 2.5, "target")]
        for i, level in enumerate(GAPS[name].levels, 1):
            scenario = load_scenario("target", gaps={name: i})
            runs.append((scenario, push(scenario), COLOURS[i - 1], 0.8, f"{i}: {level.text}"))
        for scenario, poses, colour, width, label in runs:
            if GAPS[name].kind == "action":
                times = 0.1 * np.arange(30)
                ax.plot(times, np.rad2deg(poses[:30, 2]), color=colour, lw=width, label=label)
                ax.set_xlabel("time [s]", fontsize=6)
                ax.set_ylabel("yaw of the T [deg]", fontsize=6)
                continue
            ax.plot(*poses[:, :2].T, color=colour, lw=width, label=label)
            _outline(ax, scenario, poses[-1], color=colour, lw=width)
            ax.set_aspect("equal")
        if GAPS[name].kind == "physics":
            _outline(ax, target, nominal[0], color="0.8", ls=":")
        ax.set_title(name, fontsize=8)
        ax.tick_params(labelsize=5)
        ax.legend(fontsize=5, loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False)
    _save(fig, path)


def tasks(path: Path, scale: float) -> None:
    """Draw the goals, the boxes of starts and the objects."""
    shapes = GAPS["shape"].levels
    fig, axes = plt.subplots(2, 5, figsize=(10, 5))
    flat = list(axes.flat)
    target = load_scenario("target")
    for ax, name in zip(flat, ("goal_shift", "goal_noise", "starts"), strict=False):
        ax.plot(*target.task.tool_home, "k+", ms=6)
        scenarios = [
            target,
            *(load_scenario("target", gaps={name: i + 1}) for i in range(len(GAPS[name].levels))),
        ]
        for colour, scenario in zip(("0.5", *COLOURS), scenarios, strict=False):
            goals = [scenario.drawn(seed).task.goal for seed in range(4 if scenario.randomise.active else 1)]
            for goal in goals:
                _outline(ax, scenario, np.array(goal), color=colour, lw=1)
            if name == "starts":
                width, height = scenario.task.start_box
                x, y = np.array(scenario.task.goal[:2]) - [width / 2, height / 2]
                ax.add_patch(Rectangle((x, y), width, height, fill=False, color=colour))
        ax.set_title(f"{name} (grey: target, +: home)", fontsize=7)
        ax.set_aspect("equal")
        ax.tick_params(labelsize=5)
    for ax, (i, level) in zip(flat[3:], enumerate(shapes, 1), strict=False):
        image = picture(load_scenario("target", gaps={"shape": i}), scale)
        _show(ax, image[: image.shape[0] // 2], f"shape={i}: {level.text}")
    for ax in flat[3 + len(shapes) :]:
        ax.axis("off")
    _save(fig, path)


def _save(fig: Figure, path: Path) -> None:
    fig.tight_layout()
    beside = path.with_suffix(f".partial{path.suffix}")
    fig.savefig(beside, dpi=110, pil_kwargs={"quality": 82} if path.suffix == ".jpg" else None)
    beside.replace(path)
    plt.close(fig)


def main(args: GalleryArgs) -> None:
    """Draw all figures."""
    args.out.mkdir(parents=True, exist_ok=True)
    visual(args.out / "gaps-visual.jpg", args.scale)
    physical(args.out / "gaps-physics.png")
    tasks(args.out / "gaps-task.jpg", args.scale)


if __name__ == "__main__":
    main(tyro.cli(GalleryArgs, description=__doc__))
