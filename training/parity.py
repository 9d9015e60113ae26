"""Compare exported graphs with the network they came from, before anything is shipped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ambient_policy.inpainting import knowing
from ambient_policy.manifest import Manifest
from ambient_policy.sampling import Denoise, sample
from training.errors import TrainingError
from training.policy import PolicyNet, denoise

LIMIT = 1e-4
"""Largest accepted difference, in normalised units. In an action that is about a hundredth of a millimetre;
what is seen is near 1e-6."""
PREFIX_LIMIT = 1e-3
"""The same with known actions, a tenth of a millimetre: a finite difference costs digits. Seen is 2e-5."""
_BATCHES = (1, 5)


def check_parity(net: PolicyNet, manifest: Manifest, files: Mapping[str, Path]) -> dict[str, float]:
    """Run graphs and network on the same random input and return the largest absolute differences.

    encoder: features. sampler: the chunk against the same sampler in torch, fp32. sampler_float64: against
    the core's sampler in float64 numpy around the one-step network. prefix: the chunk with known actions,
    against torch.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    sessions = {
        name: onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for name, path in files.items()
    }
    rng = np.random.default_rng(0)
    worst = {"encoder": 0.0, "sampler": 0.0, "sampler_float64": 0.0, "prefix": 0.0}
    for count in _BATCHES:
        images = {
            name: rng.integers(0, 256, (count, camera.height, camera.width, 3), dtype=np.uint8)
            for name, camera in manifest.cameras.items()
        }
        (features,) = sessions["encoder.onnx"].run(None, {f"image_{k}": v for k, v in images.items()})
        with torch.no_grad():
            expected = net.encoder({k: torch.from_numpy(v) for k, v in images.items()}).numpy()
        worst["encoder"] = max(worst["encoder"], _apart(features, expected))
        feed = _sampler_input(manifest, features, count, rng)
        (chunk,) = sessions["sampler.onnx"].run(None, feed)
        worst["sampler"] = max(worst["sampler"], _apart(chunk, torch_chunk(net, manifest, feed)))
        worst["sampler_float64"] = max(
            worst["sampler_float64"], _apart(chunk, numpy_chunk(net, manifest, feed))
        )
        feed |= _prefix_input(manifest, count, rng)
        (chunk,) = sessions["sampler_prefix.onnx"].run(None, feed)
        worst["prefix"] = max(worst["prefix"], _apart(chunk, torch_chunk(net, manifest, feed)))
    limits = {key: PREFIX_LIMIT if key == "prefix" else LIMIT for key in worst}
    if bad := {key: value for key, value in worst.items() if not value < limits[key]}:
        raise TrainingError(
            f"the exported graphs do not compute what the network does: {bad} exceeds {limits}; "
            "this is a fault of the export, please report it with the versions of torch and onnxscript"
        )
    return worst


def torch_chunk(net: PolicyNet, manifest: Manifest, feed: Mapping[str, np.ndarray]) -> np.ndarray:
    """Sample with torch, fp32."""
    sigmas = np.array(manifest.sampler.sigmas)
    with torch.no_grad():
        features, state, noise = (torch.from_numpy(feed[key]) for key in ("features", "state", "noise"))
        condition = net.condition(features, state)

        def clean(x: Tensor, sigma: float) -> Tensor:
            return denoise(net, x, x.new_full((len(x),), sigma), condition, manifest.sigma_data)

        denoiser: Denoise[Tensor] = clean
        if "known" in feed:
            names = ("known", "known_mask", "known_variance")
            known, mask, variance = (torch.from_numpy(feed[name]) for name in names)
            denoiser = knowing(clean, known, mask, variance, manifest.sigma_data, TorchOperations())
        *_, chunk = sample(denoiser, noise * float(sigmas[0]), sigmas, manifest.sampler.method)
    return chunk.numpy()


class TorchOperations:
    """`ambient_policy.inpainting.Operations` for tensors."""

    def inner(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the sum of a * b over (H, A), as (B, 1, 1)."""
        return (a * b).sum(dim=(-2, -1), keepdim=True)

    def root(self, a: Tensor) -> Tensor:
        """Return the square root."""
        return a.sqrt()

    def clip(self, a: Tensor, low: float, high: float) -> Tensor:
        """Return the nearest value in [low, high]."""
        return a.clip(low, high)


def numpy_chunk(net: PolicyNet, manifest: Manifest, feed: Mapping[str, np.ndarray]) -> np.ndarray:
    """Sample with numpy in float64; only the raw network runs in torch, in fp32."""
    from ambient_policy.noise import preconditioning

    sigmas = np.array(manifest.sampler.sigmas)
    with torch.no_grad():
        condition = net.condition(torch.from_numpy(feed["features"]), torch.from_numpy(feed["state"]))

        def clean(x: np.ndarray, sigma: float) -> np.ndarray:
            c = preconditioning(sigma, manifest.sigma_data, net.prediction)
            scaled = torch.from_numpy((c.in_ * x).astype(np.float32))
            level = torch.full((len(x),), float(c.noise))
            return c.skip * x + c.out * net.denoiser(scaled, level, condition).numpy().astype(np.float64)

        *_, chunk = sample(clean, feed["noise"] * sigmas[0], sigmas, manifest.sampler.method)
    return chunk


def _sampler_input(
    manifest: Manifest, features: np.ndarray, count: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    steps, spec = manifest.obs_steps, manifest.action
    size = len(spec.names)
    return {
        "features": np.repeat(features[:, None], steps, axis=1),
        "state": rng.uniform(-1, 1, (count, steps, len(manifest.state.names))).astype(np.float32),
        "noise": rng.standard_normal((count, spec.horizon, size)).astype(np.float32),
    }


def _prefix_input(manifest: Manifest, count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    horizon = manifest.action.horizon
    known = np.arange(horizon) < rng.integers(1, horizon, (count, 1))
    return {
        "known": rng.uniform(-1, 1, (count, horizon, len(manifest.action.names))).astype(np.float32),
        "known_mask": known[..., None].astype(np.float32),
        "known_variance": rng.choice([0, 0.01], (count, horizon, 1)).astype(np.float32),
    }


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(np.float64) - b).max())
