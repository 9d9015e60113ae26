"""Run a state policy in the twin: a run folder of `ambient-policy train` to successes over many starts.

    python -m benchmarks.pushing.evaluate runs/pushing/clean_only --out clean.json

Every policy gets the same starts and the same noise. The last checkpoint is taken; none is chosen.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from ambient_policy import provenance
from ambient_policy.chunks import Chunk, ChunkFollower, Hold
from ambient_policy.limits import MotionLimits
from ambient_policy.normalize import Normalizer
from ambient_policy.sampling import sample
from ambient_policy.statistics import success_rate
from sim.scenario import load_scenario
from sim.se2 import Array
from sim.starts import sample_start
from sim.station import Station
from sim.task import Outcome, OutcomeMonitor
from sim.workers import run_jobs
from training.checkpoint import list_checkpoints, load_into, load_tensors
from training.data import pose_entries
from training.policy import PolicyNet, denoise
from training.record import read_run


@dataclass(frozen=True, kw_only=True)
class Args:
    """Which run, where, how many trials."""

    run: tyro.conf.Positional[Path]
    out: Path
    """JSON file with rates, intervals and the outcome of every trial."""
    scenario: str = "pushing"
    """Where it is judged: a shipped scenario, or a YAML file."""
    trials: int = 100
    first_seed: int = 300_000
    """Start of the first trial. Demonstrations use seeds below 300000."""
    processes: int = 1


class StatePolicy:
    """A trained run as a function from poses to a chunk.

    Args:
        run: folder of a run whose config has `object_pose` and no cameras.
    """

    def __init__(self, run: Path) -> None:
        self.config, record = read_run(run)
        if self.config.cameras or self.config.object_pose is None or self.config.state:
            raise SystemExit(f"{run} is no state policy; train benchmarks/pushing/state.yaml or one like it")
        self._net = PolicyNet(self.config).eval().requires_grad_(False)
        checkpoint = list_checkpoints(run / "checkpoints")[-1]
        load_into(self._net, load_tensors(checkpoint, "ema"), checkpoint)
        self._state, self._action = (
            Normalizer(np.array(spec.offset), np.array(spec.scale))
            for spec in (record.normalizer.state, record.normalizer.action)
        )
        self._offset, self._sigma_data = np.array(record.pose_offset), record.sigma_data
        self._ladder = self.config.sampler.ladder()

    @torch.no_grad()
    def __call__(self, tool: Array, pose: Array, rng: torch.Generator) -> Array:
        """Return the next positions (H, 2) [m] from the last T tool positions (T, 2) and poses (T, 3)."""
        seen = np.concatenate([self._state.apply(tool), pose_entries(pose, self._offset)], axis=1)
        state = torch.from_numpy(seen.astype(np.float32))[None]
        condition = self._net.condition(self._net.encode({}, state.shape[:2]), state)

        def clean(x: torch.Tensor, sigma: float) -> torch.Tensor:
            return denoise(self._net, x, x.new_full((1,), sigma), condition, self._sigma_data)

        noise = torch.randn(1, self.config.windows.horizon, 2, generator=rng) * float(self._ladder[0])
        *_, chunk = sample(clean, noise, self._ladder, self.config.sampler.method)
        metres = self._action.invert(chunk[0].double().numpy())
        return metres + tool[-1] if self.config.action.relative_to == "tool" else metres


def run_trial(station: Station, policy: StatePolicy, seed: int) -> Outcome:
    """Run one seeded trial to its end: as `sim.rollout`, with true poses in place of images."""
    scenario, windows = station.scenario, policy.config.windows
    period, frame_s = scenario.control_period_s, scenario.policy_period_s
    substeps, rng = round(frame_s / period), torch.Generator().manual_seed(seed)
    limits = MotionLimits(**scenario.limits.model_dump())
    follower, monitor = ChunkFollower(0.0, lead_s=period), OutcomeMonitor(scenario.task)
    station.reset(sample_start(scenario, seed))
    station.advance(np.array(scenario.task.tool_home), round(scenario.task.delay_s / period))
    tools, poses = ([x] * windows.obs_steps for x in (station.tool_xy(), station.slider_pose()))
    command, tick = station.tool_xy(), 0
    while not monitor.finished:
        now_s = tick * period
        if tick % substeps == 0:
            tools, poses = [*tools[1:], station.tool_xy()], [*poses[1:], station.slider_pose()]
            if (tick // substeps) % windows.execute_steps == 0:
                positions = np.vstack([tools[-1], policy(np.array(tools), np.array(poses), rng)])
                follower.accept(Chunk(now_s, positions, frame_s), now_s)
        wanted = follower.target(now_s)
        if not isinstance(wanted, Hold):
            command, _ = limits.limit(command, wanted, period)
        station.advance(command)
        tick += 1
        monitor.update(tick * period, station.slider_pose(), station.slider_height(), station.tool_xy())
    return monitor.result()


_trial: Callable[[int], tuple[int, Outcome]]


def _setup(run: Path, scenario: str) -> None:
    global _trial  # one station and one policy for the life of the worker
    torch.set_num_threads(1)
    station, policy = Station(load_scenario(scenario), cameras=False), StatePolicy(run)
    _trial = lambda seed: (seed, run_trial(station, policy, seed))  # noqa: E731


def _job(seed: int) -> tuple[int, Outcome]:
    return _trial(seed)


def main(args: Args) -> None:
    """Evaluate, write the file, say the figures."""
    seeds = range(args.first_seed, args.first_seed + args.trials)
    began = time.perf_counter()
    done = run_jobs(_job, seeds, setup=_setup, setup_args=(args.run, args.scenario), processes=args.processes)
    by_seed = dict(done)
    outcomes = [by_seed[seed] for seed in seeds]
    times = [o.time_to_success_s for o in outcomes if o.time_to_success_s is not None]
    rate = success_rate(sum(o.success for o in outcomes), len(outcomes))
    held = success_rate(sum(o.held for o in outcomes), len(outcomes))
    document: dict[str, Any] = {
        "schema_name": "ambient_policy.pushing_trials",
        "version": 1,
        "commit": provenance.commit(),
        "settings": {"scenario": args.scenario, "trials": args.trials, "first_seed": args.first_seed},
        "metrics": {
            "success": rate.fraction,
            "held": held.fraction,
            "median_s": float(np.median(times)) if times else float("nan"),
        },
        "outcomes": dict(Counter(o.name for o in outcomes)),
        "trials": {
            "success": [int(o.success) for o in outcomes],
            "held": [int(o.held) for o in outcomes],
        },
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    beside = args.out.with_suffix(".new")
    beside.write_text(json.dumps(document) + "\n", encoding="utf-8")
    beside.replace(args.out)
    print(
        f"{args.run.name} in {args.scenario}: success {rate.successes}/{rate.trials} "
        f"[{rate.low:.3f}, {rate.high:.3f}], held {held.successes}, {document['outcomes']}, "
        f"{time.perf_counter() - began:.0f} s"
    )


if __name__ == "__main__":
    main(tyro.cli(Args, description="Run a state policy in the twin."))
