"""Map of the arm's reach: where the rod can stand upright within the joint limits, and how fast it goes.

.venv/bin/python benchmarks/arm_reach.py --out docs/figures/arm-reach.png
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import tyro
from matplotlib.patches import Circle, Rectangle

from sim.arm_kinematics import ArmKinematics
from sim.scenario import load_scenario
from sim.se2 import Array


@dataclass(frozen=True, kw_only=True)
class Args:
    """What to map."""

    scenario: str = "pushing_arm"
    step_m: float = 0.04
    out: Path = Path("docs/figures/arm-reach.png")


def slowest_m_s(kinematics: ArmKinematics, q: Array, xy: Array) -> float:
    """Return the tip's highest speed [m/s] in the worst of eight directions, within the joints' speeds."""
    period_s, start, speeds = 0.005, kinematics.tip(q).translation()[:2], []
    for angle in np.arange(8) * np.pi / 4:
        v, _ = kinematics.velocity(q, xy + 0.01 * np.array([np.cos(angle), np.sin(angle)]), period_s)
        speeds.append(float(np.linalg.norm(kinematics.tip(q + v * period_s).translation()[:2] - start)))
    return min(speeds) / period_s


def main(args: Args) -> None:
    """Solve inverse kinematics on a grid, print how it agrees with the ring, and draw the map."""
    scenario = load_scenario(args.scenario)
    assert scenario.arm is not None, f"scenario {args.scenario!r} has no arm"
    kinematics = ArmKinematics(scenario.arm, scenario.pusher.tip_height_m)
    reach = kinematics.reach
    xs, ys = np.arange(0.24, 0.93, args.step_m), np.arange(-0.48, 0.485, args.step_m)
    speed, solved = np.full((len(ys), len(xs)), np.nan), np.zeros((len(ys), len(xs)), bool)
    turned = np.zeros_like(speed)
    for i, y in enumerate(ys):
        for j, x in enumerate(xs):
            q = kinematics.solve(np.array([x, y]))
            solved[i, j] = q is not None
            if q is not None and reach.contains(np.array([x, y])):
                axis = kinematics.tip(q).rotation().matrix()[:, 0]
                turned[i, j] = abs(np.rad2deg(np.arctan2(axis[1], axis[0])))
                speed[i, j] = slowest_m_s(kinematics, q, np.array([x, y]))
    points = np.stack(np.meshgrid(xs, ys), axis=-1)
    ring = reach.contains(points)
    print(f"ring {reach.inner_m:.3f} to {reach.outer_m:.3f} m: {solved[ring].sum()} of {ring.sum()} solved")
    print(f"outside it: {solved[~ring].sum()} of {(~ring).sum()} solved")
    print(f"slowest direction: {np.nanmin(speed):.2f} to {np.nanmax(speed):.2f} m/s")
    print(
        f"camera turned by more than 1 degree at {(turned > 1).sum()} points, at most {turned.max():.0f} deg"
    )

    figure, axes = plt.subplots(figsize=(7, 6.4), layout="constrained")
    image = axes.pcolormesh(xs, ys, speed, shading="nearest", cmap="viridis", vmin=0)
    figure.colorbar(image, label="speed in the slowest direction [m/s]")
    x, y = points[~solved].T
    axes.scatter(x, y, marker="x", color="tab:red", s=14, label="no posture within limits")
    for radius in (reach.inner_m, reach.outer_m):
        axes.add_patch(Circle((0, 0), radius, fill=False, color="black", linewidth=1.5))
    task = scenario.task
    low = np.array(task.goal[:2]) - np.array(task.start_box) / 2
    axes.add_patch(Rectangle(tuple(low), *task.start_box, fill=False, color="white", linestyle="--"))
    outline = np.array([*scenario.slider.tee.outline, scenario.slider.tee.outline[0]]) + task.goal[:2]
    axes.plot(*outline.T, color="white", label="T at its goal, box of the starts")
    axes.plot(*task.tool_home, "o", color="tab:orange", label="tool at home")
    axes.set(xlim=(xs[0] - 0.02, xs[-1] + 0.02), ylim=(ys[0] - 0.02, ys[-1] + 0.02), aspect="equal")
    axes.set(xlabel="x [m], base of the arm at 0", ylabel="y [m]")
    axes.legend(loc="upper left", fontsize=8, facecolor="lightgrey")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=110)


if __name__ == "__main__":
    main(tyro.cli(Args))
