"""Run a policy in the maze: a run folder of `ambient-policy train` to success and roughness over many trials.

    python benchmarks/maze/evaluate.py runs/maze/cotrain --out cotrain.json
    python benchmarks/maze/evaluate.py runs/maze/cotrain --out look.json --trials 12 --picture look.png

Every policy gets the same starts and goals and the same noise. The last checkpoint is taken; none is chosen.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro

from ambient_policy import provenance
from ambient_policy.normalize import Normalizer
from ambient_policy.sampling import sample
from sim.maze.rollout import TRIAL_SEEDS, Trials, rollout, summary, trial_starts_and_goals
from sim.maze.world import Maze
from training.checkpoint import list_checkpoints, load_into, load_tensors
from training.config import TrainConfig
from training.policy import PolicyNet, denoise
from training.record import RunRecord, read_run


@dataclass(frozen=True, kw_only=True)
class Args:
    """Which run, how many trials."""

    run: tyro.conf.Positional[Path]
    out: Path
    """JSON file with rates, intervals and the outcome of every trial."""
    trials: int = 1000
    first_seed: int = TRIAL_SEEDS
    noise_seed: int = 0
    max_steps: int = 200
    execute_steps: Annotated[int | None, tyro.conf.arg(help_behavior_hint="as in the run's config")] = None
    steps: Annotated[int | None, tyro.conf.arg(help_behavior_hint="as in the run's config")] = None
    """K, levels of the sampler."""
    picture: Path | None = None
    """Draw the first paths into this PNG."""


def load(run: Path) -> tuple[TrainConfig, RunRecord, PolicyNet]:
    """Open a run with the averaged weights of its last checkpoint."""
    config, record = read_run(run)
    net = PolicyNet(config).eval().requires_grad_(False)
    checkpoint = list_checkpoints(run / "checkpoints")[-1]
    load_into(net, load_tensors(checkpoint, "ema"), checkpoint)
    return config, record, net


def policy_of(
    config: TrainConfig, record: RunRecord, net: PolicyNet, noise_seed: int, steps: int | None = None
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Make the policy of `rollout`: positions and goals in metres to next positions in metres."""
    state, action = (
        Normalizer(np.array(spec.offset), np.array(spec.scale))
        for spec in (record.normalizer.state, record.normalizer.action)
    )
    sampler = config.sampler if steps is None else config.sampler.model_copy(update={"steps": steps})
    ladder = sampler.ladder()
    rng = torch.Generator().manual_seed(noise_seed)

    @torch.no_grad()
    def policy(history: np.ndarray, goal: np.ndarray) -> np.ndarray:
        seen = np.concatenate([history, np.repeat(goal[:, None], history.shape[1], axis=1)], axis=-1)
        seen_t = torch.from_numpy(state.apply(seen).astype(np.float32))
        condition = net.condition(net.encode({}, seen_t.shape[:2]), seen_t)

        def clean(x: torch.Tensor, sigma: float) -> torch.Tensor:
            return denoise(net, x, x.new_full((len(x),), sigma), condition, record.sigma_data)

        start = torch.randn(len(seen), config.windows.horizon, 2, generator=rng) * float(ladder[0])
        *_, chunk = sample(clean, start, ladder, sampler.method)
        metres = action.invert(chunk.double().numpy())
        return metres + history[:, -1:] if config.action.relative_to == "tool" else metres

    return policy


def run_trials(args: Args) -> Trials:
    """Run the trials of `args`."""
    config, record, net = load(args.run)
    starts, goals = trial_starts_and_goals(Maze(), args.trials, args.first_seed)
    return rollout(
        policy_of(config, record, net, args.noise_seed, args.steps),
        starts,
        goals,
        obs_steps=config.windows.obs_steps,
        execute_steps=args.execute_steps or config.windows.execute_steps,
        horizon=config.windows.horizon,
        max_steps=args.max_steps,
    )


def main(args: Args) -> None:
    """Evaluate, write the file, say the figures."""
    trials = run_trials(args)
    found = summary(trials)
    document = {
        "schema_name": "ambient_policy.maze_trials",
        "version": 1,
        "commit": provenance.commit(),
        "settings": {
            "trials": args.trials,
            "first_seed": args.first_seed,
            "noise_seed": args.noise_seed,
            "max_steps": args.max_steps,
            "execute_steps": args.execute_steps,
            "steps": args.steps,
        },
        "metrics": {
            "success": found.success.fraction,
            "held": found.held.fraction,
            "collided": found.collided.fraction,
            "roughness": found.roughness,
            "mean_steps": found.mean_steps,
        },
        "trials": {
            "success": trials.success.astype(int).tolist(),
            "held": trials.held.astype(int).tolist(),
        },
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    beside = args.out.with_suffix(".new")
    beside.write_text(json.dumps(document) + "\n", encoding="utf-8")
    beside.replace(args.out)
    if args.picture is not None:
        draw(trials, args.picture)
    s = found.success
    print(
        f"{args.run.name}: success {s.successes}/{s.trials} [{s.low:.3f}, {s.high:.3f}], held "
        f"{found.held.fraction:.3f}, collided {found.collided.fraction:.3f}, roughness {found.roughness:.2f} "
        f"[{found.roughness_low:.2f}, {found.roughness_high:.2f}], {found.mean_steps:.1f} steps"
    )


def draw(trials: Trials, file: Path, count: int = 12) -> None:
    """Draw the first paths over the walls; those that failed are red."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    for x0, y0, x1, y1 in Maze().walls:
        axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, color="black"))
    for i in range(min(count, len(trials.success))):
        path = trials.paths[i, : trials.lengths[i] + 1]
        axes.plot(*path.T, ".-", ms=2, lw=0.8, color=None if trials.success[i] else "red")
    axes.set_aspect("equal")
    axes.set_axis_off()
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    main(tyro.cli(Args, description="Run a policy in the maze."))
