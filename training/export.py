"""`ambient-policy export`: a checkpoint to a policy bundle, proven equal to the network it came from."""

from __future__ import annotations

import datetime
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro


@dataclass(frozen=True)
class Args:
    """Turn a training run into a policy bundle."""

    run: tyro.conf.Positional[Path]
    """Run folder made by `ambient-policy train`."""
    out: Path
    """Bundle folder to make."""
    steps: int | None = None
    """K: network calls per chunk. 8 is faithful, 4 is fast; the run's config by default."""
    method: Literal["ddim", "heun", "dpmpp_2m"] | None = None
    """Sampling method; the run's config by default."""
    sigma_max: float | None = None
    """First noise level, in normalised action units; the run's config by default."""
    sigma_min: float | None = None
    """Last noise level above zero; the run's config by default."""
    checkpoint: str | None = None
    """Name of a checkpoint in the run; the newest by default."""
    weights: Literal["ema", "weights"] = "ema"
    """Averaged weights, or those of the last step."""
    name: str | None = None
    """Name of the policy; the config's by default."""


def main(argv: list[str]) -> int:
    """Run the command; return its exit code."""
    args = tyro.cli(Args, args=argv, prog="ambient-policy export", description=Args.__doc__)
    from ambient_policy.bundle import load_bundle
    from ambient_policy.inference import Policy
    from training.progress import console

    started = time.monotonic()
    parity = export(args)
    bundle = load_bundle(args.out)
    sizes = sum(file.stat().st_size for file in args.out.iterdir()) / 1e6
    encode_ms, sample_ms = time_calls(Policy(bundle))
    console.print(
        f"bundle {args.out}: {sizes:.1f} MB, made in {time.monotonic() - started:.0f} s", soft_wrap=True
    )
    for key, value in parity.items():
        console.print(f"  {key:<28} {value:.2g}")
    console.print(f"  one core: encode {encode_ms:.1f} ms a frame, sample {sample_ms:.1f} ms a chunk")
    trials = args.out.with_name(f"{args.out.name}-trials")
    console.print(f"next: ambient-policy evaluate {args.out} --out {trials}", soft_wrap=True)
    return 0


def export(args: Args) -> dict[str, float]:
    """Write the bundle and return its parity figures."""
    import torch

    from ambient_policy.bundle import write_bundle
    from ambient_policy.errors import BundleError
    from training.checkpoint import list_checkpoints, load_into, load_tensors, read_meta
    from training.errors import TrainingError
    from training.parity import check_parity
    from training.policy import PolicyNet
    from training.record import read_run

    config, record = read_run(args.run)
    if args.out.exists():
        raise BundleError(f"{args.out} is already there; remove it or choose another --out")
    found = {path.name: path for path in list_checkpoints(args.run / "checkpoints")}
    if not found:
        raise TrainingError(f"{args.run} has no checkpoint yet; train first, or go on with --resume")
    chosen = args.checkpoint or list(found)[-1]
    if chosen not in found:
        raise TrainingError(f"{args.run} has no checkpoint {chosen!r}; it has {', '.join(found)}")
    if not config.cameras or config.state:
        raise TrainingError(
            f"{args.run} is a policy from numbers ({', '.join(['tool', *config.state])}, "
            f"{len(config.cameras)} cameras); a bundle needs cameras and knows no numbers but the tool's "
            "position, so such a run serves studies only (benchmarks/maze/evaluate.py shows how to run it)"
        )
    if read_meta(found[chosen]).phase == "pretext":
        raise TrainingError(
            f"{found[chosen]} is of the pretext; train on with --resume until the policy phase"
        )
    sampler = config.sampler.model_copy(
        update={
            key: value
            for key in ("steps", "method", "sigma_max", "sigma_min")
            if (value := getattr(args, key)) is not None
        }
    )
    net = PolicyNet(config).eval().requires_grad_(False)
    load_into(net, load_tensors(found[chosen], args.weights), found[chosen])
    origin = {
        "config": shareable(config),
        "data": record.data,
        "commit": record.commit,
        "torch": torch.__version__,
        "checkpoint": chosen,
        "weights": args.weights,
        "validation": last_validation(args.run / "metrics.jsonl"),
    }
    manifest = make_manifest(config, record, sampler, args.name or config.name, origin)
    with tempfile.TemporaryDirectory() as scratch:
        files = write_graphs(net, config, record.sigma_data, sampler, Path(scratch))
        parity = check_parity(net, manifest, files)
        write_bundle(args.out, manifest.model_copy(update={"parity": parity}), files)
    return parity


def write_graphs(net: Any, config: Any, sigma_data: float, sampler: Any, folder: Path) -> dict[str, Path]:
    """Export both graphs into `folder`; return bundle file name to path."""
    import onnx

    from training.graphs import body_graph, encoder_graph, modulation_graph
    from training.unroll import denoiser_calls, unroll

    s, ladder = net.sizes, sampler.ladder()
    shapes: dict[str, tuple[int, ...]] = {
        "features": (s.obs_steps, s.features),
        "state": (s.obs_steps, s.state),
        "noise": (s.horizon, s.action),
        "known": (s.horizon, s.action),
        "known_mask": (s.horizon, 1),
        "known_variance": (s.horizon, 1),
        "chunk": (s.horizon, s.action),
    }
    modulation = modulation_graph(net, denoiser_calls(ladder, sampler.method))
    body = body_graph(net)
    samplers = {
        f"sampler{name}.onnx": unroll(
            modulation, body, ladder, sampler.method, sigma_data, shapes, net.prediction, prefix=prefix
        )
        for name, prefix in (("", False), ("_prefix", True))
    }
    models = {"encoder.onnx": encoder_graph(net, config.cameras), **samplers}
    for name, model in models.items():
        forget_source(model)
        onnx.save_model(model, str(folder / name))
    return {name: folder / name for name in models}


def forget_source(model: Any) -> None:
    """Drop what torch notes of the code behind each node: half of a small file, and paths of this machine."""
    for part in (model, model.graph, *model.graph.node, *model.graph.initializer, *model.graph.value_info):
        del part.metadata_props[:]
        part.doc_string = ""


def shareable(config: Any) -> dict[str, Any]:
    """Return the config for a manifest, with folders of data by name only: a path means nothing elsewhere."""
    data = config.model_dump(mode="json")
    for source in data["data"]["sources"]:
        source["path"] = Path(source["path"]).name
    if data["data"]["annotation"]:
        data["data"]["annotation"] = Path(data["data"]["annotation"]).name
    return data


def make_manifest(config: Any, record: Any, sampler: Any, name: str, origin: dict[str, Any]) -> Any:
    """Describe the bundle; `write_bundle` adds the files."""
    from ambient_policy import provenance
    from ambient_policy.manifest import ActionSpec, CameraInput, Manifest, SamplerSpec, VectorSpec

    windows = config.windows
    return Manifest(
        name=name,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        commit=provenance.commit(),
        cameras={
            camera: CameraInput(
                width=size.width,
                height=size.height,
                frame_id=record.capture[camera].frame_id,
                capture=record.capture[camera],
            )
            for camera, size in config.cameras.items()
        },
        obs_steps=windows.obs_steps,
        state=VectorSpec(names=("x", "y"), unit="m", frame="world"),
        action=ActionSpec(
            names=("x", "y"),
            unit="m",
            frame="world",
            relative_to=config.action.relative_to,
            horizon=windows.horizon,
            execute_steps=windows.execute_steps,
            period_s=record.period_s,
        ),
        sampler=SamplerSpec(method=sampler.method, sigmas=tuple(sampler.ladder().tolist()), prefix=True),
        normalizer=record.normalizer,
        feature_size=config.network.encoder.features * len(config.cameras),
        sigma_data=record.sigma_data,
        training=origin,
    )


def last_validation(file: Path) -> dict[str, float]:
    """Read the last figures on held-out episodes; empty without any."""
    import json

    entries = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    judged = [e for e in entries if any(key.startswith("val/") for key in e)]
    return {} if not judged else {k: v for k, v in judged[-1].items() if k != "phase"}


def time_calls(policy: Any, calls: int = 10) -> tuple[float, float]:
    """Measure one encode and one sample [ms], the fastest of a few."""
    import numpy as np

    spec = policy.manifest
    images = {name: np.zeros((c.height, c.width, 3), np.uint8) for name, c in spec.cameras.items()}
    noise = np.zeros((spec.action.horizon, len(spec.action.names)))
    encode, sample = [], []
    for _ in range(calls):
        start = time.perf_counter()
        features = policy.encode(images)
        middle = time.perf_counter()
        policy.sample(np.stack([features] * spec.obs_steps), np.zeros((spec.obs_steps, 2)), noise)
        encode.append(middle - start)
        sample.append(time.perf_counter() - middle)
    return 1e3 * min(encode), 1e3 * min(sample)
