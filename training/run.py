"""A whole run: open or resume, go through the phases, log, validate, save, stop in time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from training.checkpoint import (
    PHASES,
    list_checkpoints,
    load_checkpoint,
    load_into,
    load_tensors,
    read_meta,
    save_checkpoint,
)
from training.config import TrainConfig
from training.data import RunData, load_data
from training.errors import TrainingError
from training.loop import StepReport, TrainState, make_state, run_steps
from training.phases import Phase, make_phase, phase_names
from training.policy import PolicyNet
from training.progress import Pace, console, display
from training.record import Metrics, open_run


@dataclass(frozen=True)
class Outcome:
    """How a call of `train` ended."""

    finished: bool
    phase: str
    step: int
    checkpoint: Path
    metrics: dict[str, float]
    """The last validation."""


def train(
    config: TrainConfig,
    folder: Path,
    *,
    resume: bool = False,
    stop: Callable[[], bool] = lambda: False,
    cache_root: Path | None = None,
) -> Outcome:
    """Train `config` into `folder`, from its newest checkpoint when `resume` is set.

    Args:
        stop: asked after every step; True ends the call with a checkpoint.
    """
    checkpoints = list_checkpoints(folder / "checkpoints")
    if checkpoints and not resume:
        raise TrainingError(
            f"{folder} already holds a run ({checkpoints[-1].name}); pass --resume to go on, or another --out"
        )
    device = pick_device(config.device)
    _prepare(device, config)
    data = load_data(config, device, cache_root)
    open_run(folder, config, data)
    net = make_net(config, device)
    if net.object_frame is not None:
        net.object_frame.set_units(data.normalization.state, data.normalization.pose_offset)
    console.print(_headline(config, data, net, device), soft_wrap=True)
    outcome = None
    names = phase_names(config)
    newest = read_meta(checkpoints[-1]).phase if checkpoints else names[0]
    for seed, name in enumerate(names):
        if PHASES.index(name) < PHASES.index(newest):
            continue
        start = checkpoints[-1] if checkpoints and newest == name else None
        outcome = _run_phase(name, config.seed * 16 + seed, net, data, config, folder, start, stop)
        if not outcome.finished:
            return outcome
        checkpoints = []
    assert outcome is not None
    return outcome


def make_net(config: TrainConfig, device: torch.device) -> PolicyNet:
    """Build the network with the run's own seed; the caller's random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        net = PolicyNet(config)
    # Half the time of an fp32 step on a CPU, and what cuDNN wants for bf16.
    net.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net.to(device)


def pick_device(wanted: str) -> torch.device:
    """Turn `auto` into what is there; a GPU that was asked for and is absent is an error."""
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise TrainingError(
            "device: cuda, and torch finds no GPU (a CPU build, or no driver); use device: auto"
        )
    return torch.device("cuda" if there and wanted != "cpu" else "cpu")


def _prepare(device: torch.device, config: TrainConfig) -> None:
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        if config.precision == "bf16":
            torch.set_float32_matmul_precision("high")


def _run_phase(
    name: str,
    seed: int,
    net: PolicyNet,
    data: RunData,
    config: TrainConfig,
    folder: Path,
    start: Path | None,
    stop: Callable[[], bool],
) -> Outcome:
    if start is not None and config.features == "cached" and name != "pretext":
        # Features are those of the frozen encoder, which the checkpoint holds.
        load_into(net, load_tensors(start, "weights"), start)
    phase = make_phase(name, net, data, config, folder)
    state = make_state(name, net, phase.trained, phase.settings, seed)
    if start is not None:
        load_checkpoint(start, state)
        console.print(f"resuming {name} at step {state.step}")
    if config.compile and data.state.device.type == "cuda":
        net.encoder.compile(dynamic=False)
        net.denoiser.compile(dynamic=False)
    metrics = Metrics(folder, name, state.step, list(PHASES))
    try:
        outcome = _steps(phase, state, config, folder / "checkpoints", metrics, stop)
    finally:
        metrics.close()
    if outcome.finished:  # the next phase starts from the average, not from the last noisy step
        net.load_state_dict(state.ema.net.state_dict())
    return outcome


def _steps(
    phase: Phase,
    state: TrainState,
    config: TrainConfig,
    checkpoints: Path,
    metrics: Metrics,
    stop: Callable[[], bool],
) -> Outcome:
    total, judged = phase.settings.steps, {}
    pace = Pace(state.step)
    reports: list[StepReport] = []
    with display(phase.name, total, state.step) as show:
        for report in run_steps(state, phase.loss, phase.settings):
            step, ended = report.step, report.step == total
            reports.append(report)
            if step % config.log_every == 0 or ended:
                values = _read(reports, phase.name)
                reports = []
                rate = pace.rate(step)
                metrics.write(step, {**values, "it_per_s": rate})
                show.line(step, f"{_numbers(values)}  {rate:.1f} it/s", (total - step) / rate)
            if step % config.validation.every == 0 or ended:
                with pace.paused():
                    judged = phase.validate(state.ema.net)
                metrics.write(step, {f"val/{key}": value for key, value in judged.items()})
                show.note(step, f"held-out episodes: {_numbers(judged)}")
            stopping = not ended and stop()
            if step % config.checkpoint_every == 0 or ended or stopping:
                with pace.paused():
                    save_checkpoint(checkpoints, state, config.checkpoints_kept)
            if stopping:
                break
            show.advance(step)
    return Outcome(state.step == total, phase.name, state.step, list_checkpoints(checkpoints)[-1], judged)


def _read(reports: list[StepReport], phase: str) -> dict[str, float]:
    """Average what the steps reported. The only place that waits for the device."""
    last = reports[-1]
    means = {key: torch.stack([r.parts[key] for r in reports]).mean() for key in last.parts}
    means["gradient"] = torch.stack([r.gradient_norm for r in reports]).mean()
    values = {key: float(value) for key, value in means.items()}
    if not all(math.isfinite(value) for value in values.values()):
        raise TrainingError(
            f"{phase} diverged before step {last.step} ({_numbers(values)}); resume from the last checkpoint "
            "fails the same way: start anew with a lower lr, or with precision: fp32"
        )
    return {**values, "lr": last.lr}


def _numbers(values: Mapping[str, float]) -> str:
    return "  ".join(f"{key} {value:.4g}" for key, value in values.items())


def _headline(config: TrainConfig, data: RunData, net: PolicyNet, device: torch.device) -> str:
    def millions(module: nn.Module) -> float:
        return sum(p.numel() for p in module.parameters()) / 1e6

    where = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU, {torch.get_num_threads()} threads"
    )
    episodes = sum(len(cache.meta.episodes) for cache in data.caches)
    return (
        f"{config.name}: {sum(data.train.counts)} windows of {episodes} episodes; "
        f"encoder {millions(net.encoder):.2f} M and denoiser {millions(net.denoiser):.2f} M parameters; "
        f"{config.precision} on {where}{'' if data.frames.resident else ', images read from disk'}; "
        f"one action unit is {1e3 * data.normalization.action.scale[0]:.0f} mm"
    )
