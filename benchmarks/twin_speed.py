"""What the twin costs: simulated seconds per wall second and images per second, on one thread.

OMP_NUM_THREADS=1 LP_NUM_THREADS=1 .venv/bin/python benchmarks/twin_speed.py
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table

from sim.scenario import Scenario, load_scenario
from sim.starts import Start
from sim.station import Station


def _rate(step: Callable[[int], None], count: int) -> tuple[float, float]:
    """Return steps per wall second and per CPU second."""
    for i in range(5):
        step(i)
    wall, cpu = time.perf_counter(), time.process_time()
    for i in range(count):
        step(i)
    return count / (time.perf_counter() - wall), count / (time.process_time() - cpu)


def _pushing(station: Station) -> Callable[[int], None]:
    """Push the T back and forth through its goal, so that contact is always being computed."""
    goal = np.array(station.scenario.task.goal)
    station.reset(Start(goal, goal[:2] + [0, 0.075]))

    def step(i: int) -> None:
        station.advance(goal[:2] + [0, 0.075 - 0.0004 * (i % 400)])

    return step


def _scaled(scenario: Scenario, scale: float, *, shadows: bool = False) -> Scenario:
    cameras = {
        k: c.model_copy(update={"scale": scale, "shadows": shadows}) for k, c in scenario.cameras.items()
    }
    return scenario.model_copy(update={"cameras": cameras})


def main() -> None:
    """Print both tables."""
    console, scenario = Console(), load_scenario("pushing")
    table = Table(title="simulated seconds per second while pushing, no cameras")
    for column in ("contact", "time step", "per wall second", "per CPU second"):
        table.add_column(column)
    for contact, step_s in (("spheres", 0.01), ("spheres", 0.005), ("hydroelastic", 0.005)):
        physics = scenario.physics.model_copy(update={"contact": contact, "time_step_s": step_s})
        station = Station(scenario.model_copy(update={"physics": physics}), cameras=False)
        wall, cpu = _rate(_pushing(station), 1000)
        period = scenario.control_period_s
        table.add_row(contact, f"{1e3 * step_s:.0f} ms", f"{wall * period:.1f}", f"{cpu * period:.1f}")
    console.print(table)
    table = Table(title="images per second, one camera, moving scene")
    for column in ("size", "shadows", "per wall second", "per CPU second"):
        table.add_column(column)
    for scale, shadows in ((0.2, False), (0.2, True), (1.0, False), (1.0, True)):
        station = Station(_scaled(scenario, scale, shadows=shadows))
        move = _pushing(station)

        def shoot(i: int, station: Station = station, move: Callable[[int], None] = move) -> None:
            move(i)
            station.image("overhead")

        wall, cpu = _rate(shoot, 40 if scale == 1 else 150)
        model = station.cameras["overhead"]
        table.add_row(f"{model.width}x{model.height}", str(shadows), f"{wall:.0f}", f"{cpu:.0f}")
    console.print(table)


if __name__ == "__main__":
    main()
