"""`ambient-policy quantise`: a bundle whose samplers have int8 weights, made from a bundle alone.

A sampler at batch 1 is as fast as its weights can be read, so a quarter of the bytes is most of what can be
gained on a CPU. Weights are converted per channel; activations are scaled at every call from what they are
(dynamic quantisation), so nothing has to be calibrated.

Two parts stay float32. What turns the observation into the condition runs once a chunk, and in int8 it
blurred where the object is: chunks of the shipped policy were then 6.9 mm from the original's (rms, on random
input), instead of 0.7 mm. The encoder's time goes into convolutions, which took three times as long in int8.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import onnx
import tyro
from rich.console import Console

from ambient_policy.bundle import Bundle, load_bundle, write_bundle
from ambient_policy.errors import BundleError
from ambient_policy.inference import Policy
from ambient_policy.manifest import ChunkDifference, Quantised

PRODUCTS = ("MatMul", "Gemm")
CONDITION = "condition/"
"""Scope that `training.unroll` gives to what runs once a chunk; its last product is the modulation of all
steps, which is large."""
LIMIT = 0.05
"""Largest accepted rms difference, as a share of the action's scale: actions are about half of it. Seen is
0.006."""
INPUTS = 100
KnownActions = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Args:
    """Make an int8 copy of a bundle, for the CPU of a robot."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """Folder of the bundle to start from; it stays as it is."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Bundle folder to make."""


def main(argv: list[str]) -> int:
    """Run the command."""
    args = tyro.cli(Args, args=argv, prog="ambient-policy quantise", description=Args.__doc__)
    made = quantise(load_bundle(args.bundle), args.out)
    console = Console(soft_wrap=True)
    before, after = (
        sum((f / n).stat().st_size for n in made.manifest.files) for f in (args.bundle, args.out)
    )
    console.print(f"bundle {args.out}: {after / 1e6:.1f} MB, was {before / 1e6:.1f} MB")
    assert made.manifest.quantised is not None
    for name, apart in made.manifest.quantised.apart.items():
        console.print(
            f"  {name}: chunks {apart.rms:.2g} {made.manifest.action.unit} rms and at most "
            f"{apart.largest:.2g} from the original's, on {INPUTS} random inputs"
        )
    console.print("That is no success rate: evaluate both on the same starts before it goes on a robot.")
    console.print(f"Next: ambient-policy bench {args.bundle} {args.out}")
    return 0


def quantise(source: Bundle, out: Path) -> Bundle:
    """Write an int8 copy of a bundle into a new folder and return it.

    Raises:
        BundleError: `source` is quantised already, has nothing to convert, or comes out too far from itself.
    """
    spec = source.manifest
    if spec.quantised is not None:
        raise BundleError(
            f"{source.folder} has {spec.weights} weights already; quantise the float32 bundle that it was "
            f"made from (SHA-256 of its manifest {spec.quantised.origin})"
        )
    if out.exists():
        raise BundleError(f"{out} is already there; remove it or choose another --out")
    samplers = [name for name in spec.graphs() if name != "encoder.onnx"]
    note = Quantised(weights="int8", origin=source.digest)
    named = spec.model_copy(update={"name": f"{spec.name}-int8", "quantised": note})
    with tempfile.TemporaryDirectory() as scratch:
        files = {name: source.folder / name for name in spec.files}
        for name in samplers:
            convert(source.folder / name, Path(scratch, name))
            files[name] = Path(scratch, name)
        draft = write_bundle(Path(scratch, "draft"), named, files)
        apart = differences(source, draft)
        scale = float(np.mean(spec.normalizer.action.scale))
        if far := [f"{k} {d.rms:.2g}" for k, d in apart.items() if not d.rms <= LIMIT * scale]:
            raise BundleError(
                f"in int8 the chunks of {source.folder} are too far from its own: {', '.join(far)} "
                f"{spec.action.unit} rms, accepted is {LIMIT * scale:.2g}; keep the float32 bundle"
            )
        note = note.model_copy(update={"apart": apart})
        return write_bundle(out, named.model_copy(update={"quantised": note}), files)


def convert(source: Path, target: Path) -> None:
    """Write a graph with int8 weights in its matrix products, but for what makes the condition."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    products = [node for node in onnx.load(str(source)).graph.node if node.op_type in PRODUCTS]
    kept = [node.name for node in products if node.name.startswith(CONDITION)][:-1]
    # onnxruntime first takes a Gemm apart, into a product of this name and a sum.
    kept += [f"{name}_MatMul" for name in kept]
    # It advises at every call, through the root logger, to prepare the graph; that is for static scales.
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        quantize_dynamic(
            str(source),
            str(target),
            per_channel=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=list(PRODUCTS),
            nodes_to_exclude=kept,
        )
    finally:
        logging.disable(before)
    if not any(node.op_type == "MatMulInteger" for node in onnx.load(str(target)).graph.node):
        raise BundleError(f"{source} has no matrix product with constant weights, so int8 gains nothing")


def differences(first: Bundle, second: Bundle) -> dict[str, ChunkDifference]:
    """Compare the chunks of two bundles of one shape on fixed random inputs, for every sampler."""
    policies = [Policy(bundle, prefix=bundle.manifest.sampler.prefix) for bundle in (first, second)]
    found: dict[str, list[np.ndarray]] = {}
    for features, state, noise, known in random_inputs(policies[0]):
        for name, extra in (("sampler.onnx", None), ("sampler_prefix.onnx", known)):
            if extra is None or first.manifest.sampler.prefix:
                a, b = (policy.sample(features, state, noise, extra) for policy in policies)
                found.setdefault(name, []).append(a - b)
    return {
        name: ChunkDifference(rms=float(np.sqrt(np.mean(np.square(d)))), largest=float(np.abs(d).max()))
        for name, d in found.items()
    }


def random_inputs(policy: Policy) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, KnownActions]]:
    """Yield features, state, noise and known actions: the same every time, with the tool standing still."""
    spec, rng = policy.manifest, np.random.default_rng(0)
    size = (spec.action.horizon, len(spec.action.names))
    known_std_m = np.where(np.arange(size[0]) < size[0] // 2, 0.0, np.inf)
    for _ in range(INPUTS):
        images = {
            name: rng.integers(0, 256, (camera.height, camera.width, 3), dtype=np.uint8)
            for name, camera in spec.cameras.items()
        }
        features = np.stack([policy.encode(images)] * spec.obs_steps)
        at = spec.normalizer.state.build().invert(rng.uniform(-1, 1, len(spec.state.names)))
        state = np.tile(at, (spec.obs_steps, 1))
        noise = rng.standard_normal(size)
        still = spec.normalizer.action.build().invert(np.zeros(size))
        if spec.action.relative_to == "tool":
            still = still + at
        yield features, state, noise, (still, known_std_m)
