"""How long a decision takes on one core: our bundles, the same networks in torch, and another program.

OMP_NUM_THREADS=1 python -m benchmarks.decision_time                  # all of ours, about 10 minutes
OMP_NUM_THREADS=1 python -m benchmarks.decision_time --peer ./other   # and another program in the same rounds

All take turns in one run, so that whatever else the machine does falls on all of them alike; slow ones take
part in fewer rounds. A bundle encodes the new frame and samples; torch encodes all observed frames, as usual.

`other` is started once as `other '[[width, height], ...]'` (a size for each camera), bound to the same core.
It prints a line {"calls": {NAME: how often, ...}, "memory_mb": .., "versions": {..}}. Then for each line NAME
on its standard input it makes one decision and prints a line {"ms": ..}. When the input ends, it does.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from ambient_policy import provenance
from ambient_policy.bench import resident_mb, stages, time_ms
from ambient_policy.bundle import Bundle, load_bundle
from ambient_policy.inference import Policy
from ambient_policy.quantise import quantise
from ambient_policy.statistics import tail

PRESETS = ("small", "dit", "resnet18-unet")


@dataclass(frozen=True, kw_only=True)
class Args:
    """Time decisions on one core."""

    presets: tuple[str, ...] = PRESETS
    rounds: int = 200
    ddim_calls: int = 20
    """Rounds in which DDIM-10 in torch takes part."""
    ddpm_calls: int = 10
    """The same for DDPM-100."""
    peer: Path | None = None
    """A program to run in the same rounds."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """A JSON file for the numbers."""


@dataclass
class Arm:
    """One row of the table."""

    network: str
    how: str
    calls: int
    time: Callable[[], float]
    """Make one decision and return its time [ms]."""
    memory_mb: float | None = None
    """Of a process that does only this."""
    parity: str = ""
    times: list[float] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """Return all that is to be kept."""
        t = tail(self.times)
        times = {"min_ms": min(self.times), "p50_ms": t.p50, "p99_ms": t.p99, "max_ms": t.max}
        facts = {"network": self.network, "how": self.how, "calls": self.calls}
        return {**facts, **times, "memory_mb": self.memory_mb, "parity": self.parity}


def run_rounds(arms: list[Arm], rounds: int) -> None:
    """Let every arm decide `calls` times, spread evenly over the rounds."""
    for i in range(rounds):
        for arm in arms:
            if (i + 1) * arm.calls // rounds > i * arm.calls // rounds:
                arm.times.append(arm.time())


def network_arms(preset: str, args: Args, folder: Path) -> list[Arm]:
    """Return all ways to run one network, and its floor."""
    from benchmarks.decision_networks import make_network, torch_decision, write_random_bundle

    net, config = make_network(preset)
    bundles = {f"K={k}": write_random_bundle(net, config, k, folder / f"{preset}-{k}") for k in (4, 8)}
    bundles["int8, K=4"] = quantise(bundles["K=4"], folder / f"{preset}-4-int8")
    arms = []
    for how, bundle in bundles.items():
        policy = Policy(bundle)
        policy.warm_up()
        decide = next(row for row in stages(bundle, policy) if row.stage.startswith("decide"))
        memory = in_child(bundle_memory, bundle.folder)
        arms.append(Arm(preset, how, args.rounds, partial(time_ms, decide.call), memory, parity_of(bundle)))
        if how == "K=4" and decide.floor is not None:
            arms.append(Arm(preset, "K=4, products alone", args.rounds, partial(time_ms, decide.floor)))
    memory = in_child(torch_memory, preset)
    for how, steps, calls in (("DDIM-10", 10, args.ddim_calls), ("DDPM-100", 100, args.ddpm_calls)):
        call = torch_decision(net, config, steps, ddpm=how.startswith("DDPM"))
        call()
        arms.append(Arm(preset, f"torch {how}", calls, partial(time_ms, call), memory))
    return arms


def parity_of(bundle: Bundle) -> str:
    """Say how far a bundle is from the network in torch, or in int8 from the float32 bundle; scale 0.5."""
    spec = bundle.manifest
    if spec.quantised is None or spec.quantised.apart is None:
        return f"{max(v for k, v in spec.parity.items() if k != 'prefix'):.0e}"
    return f"{spec.quantised.apart.rms:.0e} rms"


def in_child(measure: Callable[..., float], *args: Any) -> float:
    """Run something in a fresh Python, which holds nothing else."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, *args).result()


def bundle_memory(folder: Path) -> float:
    """Return what a process with this bundle holds [MB]."""
    Policy(load_bundle(folder)).warm_up()
    return resident_mb()


def torch_memory(preset: str) -> float:
    """Return what a process with this network in torch holds [MB]."""
    from benchmarks.decision_networks import make_network, torch_decision

    torch_decision(*make_network(preset), 10, ddpm=False)()
    return resident_mb()


@contextmanager
def peer_arms(program: Path, sizes: list[tuple[int, int]]) -> Iterator[tuple[list[Arm], dict[str, str]]]:
    """Start the other program and give an arm for everything that it offers, and its versions."""
    # Our modules are none of its business.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [str(program.resolve()), json.dumps(sizes)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, bufsize=1, env=environment, **pipes) as process:  # type: ignore[call-overload]

        def ask(name: str) -> float:
            process.stdin.write(f"{name}\n")
            return json.loads(process.stdout.readline())["ms"]

        offer = json.loads(process.stdout.readline())
        yield (
            [Arm(program.stem, k, n, partial(ask, k), offer["memory_mb"]) for k, n in offer["calls"].items()],
            offer["versions"],
        )
        process.stdin.close()


def describe_machine() -> dict[str, Any]:
    """Return what the numbers depend on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    packages = ("numpy", "onnxruntime", "torch", "onnx")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
    }


def table(arms: list[Arm]) -> Table:
    """Lay the rows out."""
    floors = {arm.network: np.median(arm.times) for arm in arms if "products" in arm.how}
    out = Table(title="one decision on one core, ms")
    for column in ("network", "how", "calls", "min", "p50", "p99", "max", "p50 / products", "MB", "parity"):
        out.add_column(column, justify="left" if column in ("network", "how") else "right")
    for arm in arms:
        row = arm.row()
        times = [f"{row[key]:.1f}" for key in ("min_ms", "p50_ms", "p99_ms", "max_ms")]
        ratio = f"{row['p50_ms'] / floors[arm.network]:.2f}" if arm.network in floors else "-"
        memory = "-" if arm.memory_mb is None else f"{arm.memory_mb:.0f}"
        out.add_row(arm.network, arm.how, str(arm.calls), *times, ratio, memory, arm.parity)
    return out


def main() -> None:
    """Print the table."""
    import torch

    args, console = tyro.cli(Args), Console()
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    document = {"schema_name": "ambient_policy.decision_time", "version": 1, "commit": provenance.commit()}
    document |= describe_machine()
    with tempfile.TemporaryDirectory() as folder:
        arms = [arm for preset in args.presets for arm in network_arms(preset, args, Path(folder))]
        if args.peer is None:
            run_rounds(arms, args.rounds)
        else:
            with peer_arms(args.peer, [(128, 96), (128, 96)]) as (theirs, versions):
                arms += theirs
                document["peer"] = versions
                run_rounds(arms, args.rounds)
    console.print(table(arms))
    document |= {
        "load_average_after": os.getloadavg(),
        "rounds": args.rounds,
        "rows": [a.row() for a in arms],
    }
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
