"""`ambient-policy quantise`: a bundle whose sampler has int8 weights, made from a bundle alone.

A sampler at batch 1 is as fast as its weights can be read, so a quarter of the bytes is most of what can be
gained on a CPU. Weights are converted per channel; activations are scaled at every call from what they are
(dynamic quantisation), so nothing has to be calibrated.

Three parts stay float32. What turns the observation into the condition runs once a chunk, and in int8 it
blurred where the object is: chunks of the shipped policy were then 6.9 mm from the original's (rms, on random
input), instead of 0.7 mm. The encoder's time goes into convolutions, which took three times as long in int8.
The sampler that knows actions takes a finite difference through the network, which rounding drowns.
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
SAMPLER = "sampler.onnx"
CONDITION = "condition/"
"""Scope that `training.unroll` gives to what runs once a chunk; its last product is the modulation of all
steps, which is large."""
LIMIT = 0.05
"""Largest accepted rms difference, as a share of the action's scale: actions are about half of it. Seen is
0.006."""
INPUTS = 100


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
    note = made.manifest.quantised
    assert note is not None
    assert note.apart is not None
    console.print(
        f"  chunks {note.apart.rms:.2g} {made.manifest.action.unit} rms and at most {note.apart.largest:.2g} "
        f"from the original's, on {INPUTS} random inputs"
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
    note = Quantised(weights="int8", origin=source.digest)
    named = spec.model_copy(update={"name": f"{spec.name}-int8", "quantised": note})
    with tempfile.TemporaryDirectory() as scratch:
        files = {name: source.folder / name for name in spec.files}
        files[SAMPLER] = Path(scratch, SAMPLER)
        convert(source.folder / SAMPLER, files[SAMPLER])
        draft = write_bundle(Path(scratch, "draft"), named, files)
        apart = difference(source, draft)
        limit = LIMIT * float(np.mean(spec.normalizer.action.scale))
        if not apart.rms <= limit:
            raise BundleError(
                f"in int8 the chunks of {source.folder} are too far from its own: {apart.rms:.2g} "
                f"{spec.action.unit} rms, accepted is {limit:.2g}; keep the float32 bundle"
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


def difference(first: Bundle, second: Bundle) -> ChunkDifference:
    """Compare the chunks of two bundles of one shape on fixed random inputs."""
    a, b = Policy(first), Policy(second)
    apart = np.array([a.sample(*given) - b.sample(*given) for given in random_inputs(a)])
    return ChunkDifference(rms=float(np.sqrt(np.mean(apart**2))), largest=float(np.abs(apart).max()))


def random_inputs(policy: Policy) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield features, state and noise: the same every time, with the tool standing still."""
    spec, rng = policy.manifest, np.random.default_rng(0)
    for _ in range(INPUTS):
        images = {
            name: rng.integers(0, 256, (camera.height, camera.width, 3), dtype=np.uint8)
            for name, camera in spec.cameras.items()
        }
        features = np.stack([policy.encode(images)] * spec.obs_steps)
        tool = spec.normalizer.state.build().invert(rng.uniform(-1, 1, len(spec.state.names)))
        noise = rng.standard_normal((spec.action.horizon, len(spec.action.names)))
        yield features, np.tile(tool, (spec.obs_steps, 1)), noise
