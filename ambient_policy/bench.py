"""`ambient-policy bench`: how long a bundle takes for a decision here, and how far that is from its floor."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from ambient_policy import provenance
from ambient_policy.bundle import Bundle, load_bundle
from ambient_policy.inference import Policy, Provider
from ambient_policy.inspect import quantised_note
from ambient_policy.statistics import Tail, tail


@dataclass(frozen=True, kw_only=True)
class Args:
    """Time a bundle: one table, on the provider that really runs it."""

    bundle: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of bundles; several are timed in turns, so that all meet the same load."""
    provider: Provider = "cpu"
    threads: int = 1
    """Of one operator; the whole process is kept on as many cores."""
    calls: int = 300
    """Of every stage."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """A JSON file for the numbers."""


Call = Callable[[], Any]


@dataclass(frozen=True)
class Row:
    """One row before it is timed."""

    bundle: str
    stage: str
    call: Call
    floor: Call | None
    """The same matrix products alone; None where they are not known."""


@dataclass(frozen=True)
class Stage:
    """One row: times in milliseconds."""

    bundle: str
    stage: str
    p50_ms: float
    p99_ms: float
    max_ms: float
    floor_ms: float | None
    """The same matrix products alone, median; None where it is not known."""


def main(argv: list[str]) -> int:
    """Run the command."""
    args = tyro.cli(Args, args=argv, prog="ambient-policy bench")
    console = Console()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    bundles = [load_bundle(folder) for folder in args.bundle]
    policies = [open_policy(bundle, args) for bundle in bundles]
    rows = [row for bundle, policy in zip(bundles, policies, strict=True) for row in stages(bundle, policy)]
    timed = time_stages(rows, args.calls)
    found = [
        Stage(row.bundle, row.stage, t.p50, t.p99, t.max, floor)
        for row, (t, floor) in zip(rows, timed, strict=True)
    ]
    console.print(table(found, policies[0].provider, args))
    for bundle, policy in zip(bundles, policies, strict=True):
        console.print(facts(bundle, policy), highlight=False)
    if all(row.floor_ms is None for row in found):
        console.print("No floor: it needs the `onnx` package, float32 weights, and the CPU.")
    if args.out is not None:
        document = {
            "schema_name": "ambient_policy.bench",
            "version": 1,
            "commit": provenance.commit(),
            "provider": policies[0].provider,
            "threads": args.threads,
            "bundles": {bundle.folder.name: bundle.digest for bundle in bundles},
            "weights": {bundle.folder.name: bundle.manifest.weights for bundle in bundles},
            "stages": [asdict(row) for row in found],
        }
        args.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    console.print(f"Next: ambient-policy launch pushing policy:={args.bundle[0]} provider:={args.provider}")
    return 0


def open_policy(bundle: Bundle, args: Args) -> Policy:
    """Open a bundle with every graph it has, and call each a few times."""
    policy = Policy(bundle, args.provider, args.threads, prefix=bundle.manifest.sampler.prefix)
    policy.warm_up()
    return policy


def stages(bundle: Bundle, policy: Policy) -> list[Row]:
    """List all that a decision consists of."""
    spec, rng = bundle.manifest, np.random.default_rng(0)
    images = {
        name: rng.integers(0, 256, (c.height, c.width, 3), dtype=np.uint8) for name, c in spec.cameras.items()
    }
    features = np.stack([policy.encode(images)] * spec.obs_steps)
    state = np.tile(np.array(spec.normalizer.state.offset), (spec.obs_steps, 1))
    noise = rng.standard_normal((spec.action.horizon, len(spec.action.names)))
    floors = {name: floor_call(bundle, name, policy) for name in spec.graphs()}
    encode, sample = floors["encoder.onnx"], floors["sampler.onnx"]
    steps = len(spec.sampler.sigmas) - 1
    found: list[tuple[str, Call, Call | None]] = [
        ("encode a frame", lambda: policy.encode(images), encode),
        (f"sample, {steps} steps", lambda: policy.sample(features, state, noise), sample),
        (
            "decide: both",
            lambda: (policy.encode(images), policy.sample(features, state, noise)),
            None if encode is None or sample is None else lambda: (encode(), sample()),
        ),
    ]
    if spec.sampler.prefix:
        known = (np.tile(state[-1], (len(noise), 1)), np.zeros(len(noise)))
        found.append(
            (
                f"sample, {steps} steps, with known actions",
                lambda: policy.sample(features, state, noise, known),
                floors["sampler_prefix.onnx"],
            )
        )
    return [Row(bundle.folder.name, *row) for row in found]


def time_stages(rows: list[Row], calls: int) -> list[tuple[Tail, float | None]]:
    """Time every stage and its floor `calls` times in turns; return the tail and the floor's median [ms].

    In turns, because on a shared machine a floor taken a minute later may be higher than what stands on it.
    """
    pairs = [(row.call, row.floor) for row in rows]
    times = np.full((len(rows), 2, calls), np.nan)
    for i in range(calls):
        for j, pair in enumerate(pairs):
            for k, call in enumerate(pair):
                if call is not None:
                    times[j, k, i] = time_ms(call)
    floors = [
        None if row.floor is None else float(np.median(t[1])) for row, t in zip(rows, times, strict=True)
    ]
    return [(tail(t[0].tolist()), floor) for t, floor in zip(times, floors, strict=True)]


def time_ms(call: Call) -> float:
    """Run something once and return how long it took."""
    began = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - began)


def floor_call(bundle: Bundle, name: str, policy: Policy) -> Call | None:
    """Return a call of a graph's matrix products alone.

    None without any, without `onnx`, on a GPU, or with int8 weights, whose products take their scales from
    what lies between them.
    """
    if policy.provider != "cpu" or importlib.util.find_spec("onnx") is None:
        return None
    if bundle.manifest.quantised is not None and name != "encoder.onnx":
        return None
    import onnxruntime

    from ambient_policy.gemm_floor import products_of

    model, feed = products_of(bundle.folder / name)
    if not model.graph.node:
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = policy.threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    # Bound once: handing a hundred arrays over at every call would count as computing.
    binding = session.io_binding()
    for name, array in feed.items():
        binding.bind_cpu_input(name, array)
    for output in session.get_outputs():
        binding.bind_output(output.name)
    # The binding does not keep its inputs alive; the call does.
    call = functools.partial(_run_bound, session, binding, feed)
    for _ in range(5):
        call()
    return call


def _run_bound(session: Any, binding: Any, feed: dict[str, np.ndarray]) -> None:
    session.run_with_iobinding(binding)


def table(found: list[Stage], provider: str, args: Args) -> Table:
    """Lay the rows out."""
    cores = f"{args.threads} thread{'s' * (args.threads > 1)}"
    out = Table(title=f"times in ms on {provider}, {cores}, {args.calls} calls")
    for column in ("bundle", "stage", "p50", "p99", "max", "floor", "p50 / floor"):
        out.add_column(column, justify="left" if column in ("bundle", "stage") else "right")
    for row in found:
        floor, ratio = "-", "-"
        if row.floor_ms is not None:
            floor, ratio = f"{row.floor_ms:.2f}", f"{row.p50_ms / row.floor_ms:.2f}"
        times = (f"{value:.2f}" for value in (row.p50_ms, row.p99_ms, row.max_ms))
        out.add_row(row.bundle, row.stage, *times, floor, ratio)
    return out


def resident_mb() -> float:
    """Return the memory that this process holds, on Linux."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def facts(bundle: Bundle, policy: Policy) -> str:
    """Say what else one asks of a bundle before it goes on a robot."""
    spec = bundle.manifest
    budget_ms = 1e3 * spec.action.period_s
    size_mb = sum((bundle.folder / name).stat().st_size for name in spec.files) / 1e6
    parity = max(spec.parity.values(), default=float("nan"))
    memory = f"; this process holds {resident_mb():.0f} MB" if Path("/proc/self/statm").exists() else ""
    return (
        f"{bundle.folder.name}: runs on {policy.provider}, {size_mb:.1f} MB, a frame every {budget_ms:.0f} "
        f"ms, a chunk every {spec.action.execute_steps} frames; graphs within {parity:.1g} of the trained "
        f"network{' before they were converted' if spec.quantised else ''}{memory}; weights {spec.weights}"
        f"{quantised_note(spec)}"
    )
