"""What each method costs: a training step as a ratio to clean-only, and the part of it that draws windows.

    OMP_NUM_THREADS=1 python benchmarks/method_cost.py CONFIG --data CLEAN CORRUPT --annotation TABLE

Steps of all methods are taken in turn, so that whatever else the machine does falls on all of them alike.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from ambient_policy import provenance
from training.batches import Batcher
from training.config import METHODS, load_config
from training.data import load_data
from training.loop import StepReport, make_state, run_steps
from training.phases import make_phase
from training.run import make_net


@dataclass(frozen=True, kw_only=True)
class Args:
    """Which task and data."""

    config: tyro.conf.Positional[str]
    data: tuple[str, str]
    """Clean and corrupt folder."""
    annotation: str
    steps: int = 200
    out: Path | None = None
    """Write the figures to this JSON file."""
    set: tuple[str, ...] = ()


def main(args: Args) -> None:
    """Time all presets side by side."""
    cpu = torch.device("cpu")
    loops: dict[str, Iterator[StepReport]] = {}
    drawers: dict[str, Batcher] = {}
    for preset in sorted(path.stem for path in METHODS.glob("*.yaml")):
        data = args.data[1:] if preset == "known_noise" else args.data
        config = load_config(args.config, data, args.set, (preset,), args.annotation)
        loaded = load_data(config, cpu)
        net = make_net(config, cpu)
        phase = make_phase("policy", net, loaded, config, Path())
        state = make_state("policy", net, phase.trained, phase.settings, 0)
        loops[preset] = run_steps(state, phase.loss, phase.settings)
        drawers[preset] = Batcher(loaded, loaded.train, config)
    step: dict[str, list[float]] = {preset: [] for preset in loops}
    draw: dict[str, list[float]] = {preset: [] for preset in loops}
    rng = torch.Generator().manual_seed(0)
    for turn in range(args.steps + 5):
        for preset, loop in loops.items():
            start = time.process_time()
            next(loop)
            middle = time.process_time()
            drawers[preset].draw(config.optim.batch, rng)
            if turn >= 5:  # the first ones allocate
                step[preset].append(middle - start)
                draw[preset].append(time.process_time() - middle)
    base = float(np.median(step["clean_only"]))
    rows = {
        preset: {
            "step_ms": 1e3 * float(np.median(step[preset])),
            "ratio": float(np.median(step[preset])) / base,
            "draw_share": float(np.median(draw[preset]) / np.median(step[preset])),
        }
        for preset in loops
    }
    table = Table("method", "step [ms of CPU]", "of clean-only", "drawing windows")
    for preset, row in rows.items():
        table.add_row(
            preset, f"{row['step_ms']:.1f}", f"{row['ratio']:.3f}", f"{100 * row['draw_share']:.1f} %"
        )
    Console().print(table)
    if args.out is not None:
        document = {
            "schema_name": "ambient_policy.method_cost",
            "version": 1,
            "commit": provenance.commit(),
            "steps": args.steps,
            "batch": config.optim.batch,
            "rows": rows,
        }
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Args, description="What each method costs."))
