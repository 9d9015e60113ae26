"""A small, valid policy bundle whose answers can be worked out by hand.

`make_bundle(folder)` writes it and returns the `Bundle`. The graphs are fixed linear functions:

    encoder   features = the mean colour of each camera's image / 255, in the manifest's order, F = 3 C
    sampler   chunk[i] = (i + 1) * drift + features_gain @ newest features + state_gain * newest state
                         + noise_gain * noise[i], in normalised action units

    prefix    the same chunk, with known actions in place of its own; only with `sampler.prefix`

With the defaults every gain is 0: the chunk moves along `drift_m` from the newest tool position, so a runtime
or a ROS test can say in advance where the tool must be. `expected_chunk` computes the same in numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ambient_policy.bundle import Bundle, Manifest, write_bundle

ACTION_SCALE_M = 0.02  # one normalised unit of action
STATE_SCALE_M = 0.25


def make_manifest(
    cameras: Sequence[str] = ("overhead",),
    width: int = 16,
    height: int = 12,
    obs_steps: int = 2,
    horizon: int = 8,
    execute_steps: int = 4,
    period_s: float = 0.1,
    relative_to: str = "tool",
    **changes: Any,
) -> Manifest:
    """Make the manifest of the test bundle, without hashes. `changes` replace whole fields."""
    xy = {"names": ("x", "y"), "unit": "m", "frame": "world"}
    capture = {"width": 4 * width, "height": 4 * height, "fx": 60.0, "fy": 60.0, "cx": 32.0, "cy": 24.0}
    fields: dict[str, Any] = {
        "name": "hand-made",
        "created": "2026-01-01T00:00:00Z",
        "commit": "test",
        "cameras": {
            name: {
                "width": width,
                "height": height,
                "frame_id": f"{name}_optical",
                "capture": {**capture, "frame_id": f"{name}_optical"},
            }
            for name in cameras
        },
        "obs_steps": obs_steps,
        "state": xy,
        "action": {
            **xy,
            "relative_to": relative_to,
            "horizon": horizon,
            "execute_steps": execute_steps,
            "period_s": period_s,
        },
        "sampler": {"method": "ddim", "sigmas": (1.0, 0.0)},
        "normalizer": {
            "state": {"offset": (0.0, 0.0), "scale": (STATE_SCALE_M, STATE_SCALE_M)},
            "action": {"offset": (0.0, 0.0), "scale": (ACTION_SCALE_M, ACTION_SCALE_M)},
        },
        "feature_size": 3 * len(cameras),
        "sigma_data": 0.5,
        "training": {"made_by": "tests/helpers_bundle.py"},
    }
    return Manifest.model_validate({**fields, **changes})


def make_bundle(
    folder: str | Path,
    *,
    drift_m: Sequence[float] = (0.005, 0.0),
    features_gain: Sequence[Sequence[float]] | float = 0.0,
    state_gain: float = 0.0,
    noise_gain: float = 0.0,
    encoder: onnx.ModelProto | None = None,
    sampler: onnx.ModelProto | None = None,
    manifest: Manifest | None = None,
    **fields: Any,
) -> Bundle:
    """Write a bundle into the new `folder`.

    Args:
        drift_m: (A,) motion per action [m]; from the newest tool position, or from the origin of the world
            with `relative_to="world"`.
        features_gain: (A, F) or one number for all entries; how the newest colours move the chunk.
        state_gain: how the newest normalised state moves the chunk.
        noise_gain: how much of the noise is left in the chunk.
        encoder, sampler: replace a graph, for tests of broken ones.
        manifest: from `make_manifest`; otherwise `fields` are its arguments.
    """
    spec = manifest or make_manifest(**fields)
    size = (len(spec.action.names), spec.feature_size)
    gain = np.broadcast_to(np.asarray(features_gain, np.float32), size)
    drift = np.asarray(drift_m, np.float32) / np.asarray(spec.normalizer.action.scale, np.float32)
    with TemporaryDirectory() as scratch:
        files = {"encoder.onnx": Path(scratch, "encoder.onnx"), "sampler.onnx": Path(scratch, "sampler.onnx")}
        onnx.save(encoder or encoder_graph(spec), files["encoder.onnx"])
        plain = sampler or sampler_graph(spec, drift, gain, state_gain, noise_gain)
        onnx.save(plain, files["sampler.onnx"])
        if spec.sampler.prefix:
            files["sampler_prefix.onnx"] = Path(scratch, "sampler_prefix.onnx")
            onnx.save(prefix_graph(spec, plain), files["sampler_prefix.onnx"])
        return write_bundle(folder, spec, files)


def expected_chunk(
    manifest: Manifest,
    features: np.ndarray,
    state: np.ndarray,
    noise: np.ndarray,
    *,
    drift_m: Sequence[float] = (0.005, 0.0),
    features_gain: Sequence[Sequence[float]] | float = 0.0,
    state_gain: float = 0.0,
    noise_gain: float = 0.0,
) -> np.ndarray:
    """Work out (H, A) world metres for features (T, F), state (T, S) [m] and noise (H, A)."""
    size = (len(manifest.action.names), manifest.feature_size)
    steps = np.arange(1, manifest.action.horizon + 1)[:, None]
    scale = np.asarray(manifest.normalizer.action.scale)
    normal = steps * np.asarray(drift_m) / scale + np.broadcast_to(features_gain, size) @ features[-1]
    normal = normal + state_gain * manifest.normalizer.state.build().apply(state[-1]) + noise_gain * noise
    return normal * scale + (state[-1] if manifest.action.relative_to == "tool" else 0.0)


def encoder_graph(spec: Manifest) -> onnx.ModelProto:
    """Give the mean colours of every camera as features."""
    inputs, nodes, means = [], [], []
    for name, camera in spec.cameras.items():
        shape = ["B", camera.height, camera.width, 3]
        inputs.append(_value(f"image_{name}", TensorProto.UINT8, shape))
        nodes += [
            helper.make_node("Cast", [f"image_{name}"], [f"float_{name}"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", [f"float_{name}", "axes"], [f"mean_{name}"], keepdims=0),
        ]
        means.append(f"mean_{name}")
    nodes += [
        helper.make_node("Concat", means, ["colours"], axis=1),
        helper.make_node("Div", ["colours", "white"], ["features"]),
    ]
    outputs = [_value("features", TensorProto.FLOAT, ["B", spec.feature_size])]
    return _model(nodes, inputs, outputs, axes=np.array([1, 2]), white=np.float32(255))


def sampler_graph(
    spec: Manifest, drift: np.ndarray, gain: np.ndarray, state_gain: float, noise_gain: float
) -> onnx.ModelProto:
    """Give the linear chunk described at the head of this file, in normalised units."""
    action, size = spec.action, len(spec.action.names)
    chunk_shape = ["B", action.horizon, size]
    inputs = [
        _value("features", TensorProto.FLOAT, ["B", spec.obs_steps, spec.feature_size]),
        _value("state", TensorProto.FLOAT, ["B", spec.obs_steps, size]),
        _value("noise", TensorProto.FLOAT, chunk_shape),
    ]
    nodes = [
        helper.make_node("Slice", ["features", "newest", "end", "step_axis"], ["features_now"]),
        helper.make_node("Slice", ["state", "newest", "end", "step_axis"], ["state_now"]),
        helper.make_node("MatMul", ["features_now", "gain"], ["from_features"]),
        helper.make_node("Mul", ["state_now", "state_gain"], ["from_state"]),
        helper.make_node("Mul", ["noise", "noise_gain"], ["from_noise"]),
        helper.make_node("Add", ["from_features", "from_state"], ["shift"]),
        helper.make_node("Add", ["shift", "ramp"], ["smooth"]),
        helper.make_node("Add", ["smooth", "from_noise"], ["chunk"]),
    ]
    ramp = np.arange(1, action.horizon + 1, dtype=np.float32)[:, None] * drift.astype(np.float32)
    return _model(
        nodes,
        inputs,
        [_value("chunk", TensorProto.FLOAT, chunk_shape)],
        newest=np.array([spec.obs_steps - 1]),
        end=np.array([spec.obs_steps]),
        step_axis=np.array([1]),
        gain=np.ascontiguousarray(gain.T, dtype=np.float32),
        state_gain=np.float32(state_gain),
        noise_gain=np.float32(noise_gain),
        ramp=ramp,
    )


def prefix_graph(spec: Manifest, plain: onnx.ModelProto) -> onnx.ModelProto:
    """Give `plain` with actions replaced where the mask is 1; a variance shows as that much on every axis."""
    model = onnx.ModelProto()
    model.CopyFrom(plain)
    graph, action = model.graph, spec.action
    step = ["B", action.horizon, 1]
    graph.input.extend(
        [
            _value("known", TensorProto.FLOAT, ["B", action.horizon, len(action.names)]),
            _value("known_mask", TensorProto.FLOAT, step),
            _value("known_variance", TensorProto.FLOAT, step),
        ]
    )
    for node in graph.node:
        node.output[:] = ["own" if name == "chunk" else name for name in node.output]
    graph.node.extend(
        [
            helper.make_node("Sub", ["known", "own"], ["missing"]),
            helper.make_node("Mul", ["known_mask", "missing"], ["correction"]),
            helper.make_node("Add", ["own", "correction"], ["replaced"]),
            helper.make_node("Add", ["replaced", "known_variance"], ["chunk"]),
        ]
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _model(nodes: list, inputs: list, outputs: list, **constants: np.ndarray) -> onnx.ModelProto:
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "hand_made", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def _value(name: str, dtype: int, shape: list) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)
