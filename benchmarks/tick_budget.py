"""Where one control decision spends its time on one core: from a camera frame to the first command.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/tick_budget.py bundles/pushing

Every stage runs in this process; what ROS adds in between is in the report of `ambient-policy launch
pushing`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from ambient_policy.bundle import load_bundle
from ambient_policy.chunks import Chunk, ChunkFollower
from ambient_policy.images import to_input
from ambient_policy.inference import Policy
from ambient_policy.limits import MotionLimits
from ambient_policy.statistics import tail


@dataclass(frozen=True, kw_only=True)
class Args:
    """Which bundle, how often."""

    bundle: tyro.conf.Positional[Path]
    repeats: int = 300


def main(args: Args) -> None:
    """Time each stage on one core and print p50, p99 and the largest."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    policy = Policy(load_bundle(args.bundle))
    spec = policy.manifest
    rng = np.random.default_rng(0)

    def frames(full: bool) -> dict[str, np.ndarray]:
        sizes = {c: (480, 640) if full else (s.height, s.width) for c, s in spec.cameras.items()}
        return {c: rng.integers(0, 256, (*size, 3), dtype=np.uint8) for c, size in sizes.items()}

    full, small = frames(True), frames(False)
    home = np.array([0.587, 0.15])
    features = np.stack([policy.encode(small)] * spec.obs_steps)
    state = np.stack([home] * spec.obs_steps)
    noise = rng.standard_normal((spec.action.horizon, len(spec.action.names))).astype(np.float32)
    chunk = Chunk(0.0, np.vstack([home, policy.sample(features, state, noise)]), spec.action.period_s)
    limits = MotionLimits(workspace_min=(0.2, -0.4), workspace_max=(0.9, 0.4), max_speed_m_s=0.5)

    def follow() -> None:
        follower = ChunkFollower(0.0)
        follower.accept(chunk, 0.0)
        limits.limit(home, np.asarray(follower.target(0.05)), 0.01)

    stages: dict[str, Callable[[], object]] = {
        "resize two 640x480 images": lambda: [
            to_input(full[c], s.width, s.height) for c, s in spec.cameras.items()
        ],
        "encode one frame": lambda: policy.encode(small),
        f"denoise, {len(spec.sampler.sigmas) - 1} steps": lambda: policy.sample(features, state, noise),
        "follow and limit": follow,
    }
    table = Table(title=f"{spec.name}: one decision on one core, in ms, {policy.provider}")
    for column in ("stage", "p50", "p99", "max"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    total = np.zeros(args.repeats)
    for name, stage in stages.items():
        for _ in range(10):
            stage()
        times = np.empty(args.repeats)
        for i in range(args.repeats):
            began = time.perf_counter()
            stage()
            times[i] = 1e3 * (time.perf_counter() - began)
        total += times
        t = tail(times)
        table.add_row(name, f"{t.p50:.2f}", f"{t.p99:.2f}", f"{t.max:.2f}")
    t = tail(total)
    table.add_row("[bold]sum", f"{t.p50:.2f}", f"{t.p99:.2f}", f"{t.max:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Args))
