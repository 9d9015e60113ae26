"""Draws the whole arm over the table, for the documentation.

.venv/bin/python benchmarks/arm_picture.py --out docs/figures/arm.png
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from pydrake.math import RollPitchYaw, RotationMatrix

from sim.film import save_picture
from sim.scenario import Camera, load_scenario
from sim.station import Station

LIGHTS = [{"position": [1, -1, 1.2], "intensity": 0.8}, {"position": [-0.3, -1, 0.6], "intensity": 0.5}]


@dataclass(frozen=True, kw_only=True)
class Args:
    """Where from, where to."""

    scenario: str = "pushing_arm"
    eye: tuple[float, float, float] = (1.35, -1.0, 0.75)
    look_at: tuple[float, float, float] = (0.33, 0.02, 0.3)
    out: Path = Path("docs/figures/arm.png")


def main(args: Args) -> None:
    """Place the arm at the T and take one picture."""
    eye = np.array(args.eye)
    forward = np.array(args.look_at) - eye
    right = np.cross(forward, [0.0, 0.0, 1.0])
    axes = np.stack([right, np.cross(forward, right), forward], axis=1)
    R_WC = RotationMatrix(axes / np.linalg.norm(axes, axis=0))
    roll, pitch, yaw = RollPitchYaw(R_WC).vector()
    camera = Camera(parent="world", rpy=(roll, pitch, yaw), xyz=args.eye, fx=620, fy=620, cx=319.5, cy=239.5)
    scenario = load_scenario(args.scenario, {"look": {"lights": LIGHTS}})
    station = Station(scenario, cameras=False, extra_cameras={"side": camera})
    station.place(np.array([*scenario.task.goal[:2], 0.3]), np.array([0.60, 0.04]))
    save_picture(args.out, station.image("side"))


if __name__ == "__main__":
    main(tyro.cli(Args))
