"""Export: the bundle computes what the network computes, for every preset, method and frame."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import training
from ambient_policy.bundle import load_bundle
from ambient_policy.errors import BundleError
from ambient_policy.inference import Policy
from ambient_policy.inpainting import knowing
from ambient_policy.sampling import METHODS, sample
from training.checkpoint import list_checkpoints, load_tensors
from training.config import SamplerConfig
from training.errors import TrainingError
from training.export import Args, export, main
from training.graphs import body_graph, modulation_graph
from training.parity import TorchOperations, torch_chunk
from training.policy import PolicyNet, denoise
from training.record import read_run
from training.run import make_net, train
from training.unroll import denoiser_calls, unroll

pytestmark = pytest.mark.train

TINY = ("pretrain.steps=0", "aux_pose_weight=0", "optim={steps: 2, batch: 2}", "validation.windows=4")
PRESETS = {
    "dit": ("network.preset=dit", "network.denoiser={width: 32, depth: 1, heads: 2, condition: 32}"),
    "resnet18-unet": (
        "network.preset=resnet18-unet",
        "network.denoiser={width: 16, depth: 2, kernel: 3, condition: 32}",
    ),
    "small, object frame": (
        "pretrain={steps: 2, batch: 4}",
        "network={frame: object, denoiser: {width: 32, depth: 2, condition: 32}}",
    ),
}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_bundle_of_every_preset_loads_and_gives_the_networks_chunk(tiny, tmp_path, preset):
    """Through the core's own loader and runner, in metres, against torch."""
    run = tmp_path / "run"
    train(tiny(*TINY, *PRESETS[preset]), run)
    parity = export(Args(run=run, out=tmp_path / "bundle", steps=3))
    assert parity.keys() == {"encoder", "sampler", "sampler_float64", "prefix"}
    assert parity.pop("prefix") < 1e-4, "a finite difference costs digits"
    assert max(parity.values()) < 1e-5
    bundle = load_bundle(tmp_path / "bundle")
    spec = bundle.manifest
    assert spec.parity.items() > parity.items()
    assert len(spec.sampler.sigmas) == 4
    assert spec.training["checkpoint"] == "policy-00000002"
    everything = b"".join(file.read_bytes() for file in (tmp_path / "bundle").iterdir())
    for place in (str(tmp_path), str(Path(training.__file__).parent), torch.__path__[0]):
        assert place.encode() not in everything, "a bundle names no place of the machine that made it"
    policy = Policy(bundle)
    rng = np.random.default_rng(0)
    images = {name: rng.integers(0, 256, (24, 32, 3), dtype=np.uint8) for name in spec.cameras}
    features = np.stack([policy.encode(images)] * 2)
    state, noise = rng.uniform(-0.2, 0.2, (2, 2)), rng.standard_normal((8, 2))
    config, record = read_run(run)
    net = PolicyNet(config).eval()
    net.load_state_dict(load_tensors(list_checkpoints(run / "checkpoints")[-1], "ema"))
    with torch.no_grad():
        expected = net.encoder({k: torch.from_numpy(v)[None] for k, v in images.items()})[0].numpy()
    np.testing.assert_allclose(features[0], expected, atol=1e-5)
    feed = {
        "features": features[None],
        "state": record.normalizer.state.build().apply(state)[None].astype(np.float32),
        "noise": noise[None].astype(np.float32),
    }
    chunk = record.normalizer.action.build().invert(torch_chunk(net, spec, feed)[0]) + state[-1]
    np.testing.assert_allclose(policy.sample(features, state, noise), chunk, atol=1e-6)


def test_the_averaged_weights_alone_suffice(tiny, tmp_path, capsys):
    """A checkpoint brought home without its optimiser still exports; the rest is refused with reasons."""
    run = tmp_path / "run"
    with pytest.raises(TrainingError, match=r"no run at .* make one with `ambient-policy train`"):
        export(Args(run=run, out=tmp_path / "bundle"))
    train(tiny(*TINY, "pretrain.steps=2", "optim.steps=1"), run, stop=lambda: True)
    with pytest.raises(TrainingError, match=r"pretext-00000001 is of the pretext; train on with --resume"):
        export(Args(run=run, out=tmp_path / "bundle"))
    train(tiny(*TINY, "pretrain.steps=2", "optim.steps=1"), run, resume=True)
    with pytest.raises(
        TrainingError, match=r"has no checkpoint 'best'; it has pretext-00000002, policy-00000001"
    ):
        export(Args(run=run, out=tmp_path / "bundle", checkpoint="best"))
    for file in (run / "checkpoints" / "policy-00000001").glob("*.safetensors"):
        if not file.name.startswith("ema"):
            file.unlink()
    shutil.rmtree(run / "tensorboard")
    assert main([str(run), "--out", str(tmp_path / "bundle"), "--steps", "1", "--method", "ddim"]) == 0
    assert "next: ambient-policy evaluate" in capsys.readouterr().out
    assert load_bundle(tmp_path / "bundle").manifest.sampler.method == "ddim"
    with pytest.raises(BundleError, match=r"bundle is already there; remove it or choose another --out"):
        export(Args(run=run, out=tmp_path / "bundle"))


def test_unrolled_graphs_are_the_cores_samplers(tiny):
    """Every method against its own run in torch; the weights are stored once for all steps."""
    net = make_net(tiny(), torch.device("cpu")).eval().requires_grad_(False)
    for parameter in net.denoiser.modulation.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    body, s = body_graph(net), net.sizes
    rng = np.random.default_rng(0)
    feed = {
        "features": rng.standard_normal((2, s.obs_steps, s.features)).astype(np.float32),
        "state": rng.standard_normal((2, s.obs_steps, s.state)).astype(np.float32),
        "noise": rng.standard_normal((2, s.horizon, s.action)).astype(np.float32),
    }
    mask = np.zeros((2, s.horizon, 1), np.float32)
    mask[:, :2] = 1
    prefix = {
        "known": rng.standard_normal((2, s.horizon, s.action)).astype(np.float32),
        "known_mask": mask,
        "known_variance": np.zeros_like(mask),
    }
    shapes = {key: value.shape[1:] for key, value in (feed | prefix).items()}
    shapes["chunk"] = shapes["noise"]
    condition = net.condition(torch.from_numpy(feed["features"]), torch.from_numpy(feed["state"]))
    ladder = SamplerConfig(steps=3).ladder()
    modulations = {}  # by the levels called: two of the methods share theirs
    for method in METHODS:
        calls = tuple(denoiser_calls(ladder, method))
        modulation = modulations.setdefault(calls, None) or modulation_graph(net, calls)
        modulations[calls] = modulation
        model = unroll(modulation, body, ladder, method, 0.5, shapes)
        onnx.checker.check_model(model, full_check=True)
        session = onnxruntime.InferenceSession(model.SerializeToString())
        (chunk,) = session.run(None, feed)

        def clean(x: torch.Tensor, sigma: float) -> torch.Tensor:
            return denoise(net, x, x.new_full((len(x),), sigma), condition, 0.5)

        start = torch.from_numpy(feed["noise"]) * float(ladder[0])
        *_, expected = sample(clean, start, ladder, method)
        np.testing.assert_allclose(chunk, expected, atol=1e-5)
        with_prefix = unroll(modulation, body, ladder, method, 0.5, shapes, prefix=True)
        told = onnxruntime.InferenceSession(with_prefix.SerializeToString())
        (chunk,) = told.run(None, feed | prefix)
        drawn = knowing(clean, *map(torch.from_numpy, prefix.values()), 0.5, TorchOperations())
        *_, expected = sample(drawn, start, ladder, method)
        np.testing.assert_allclose(chunk, expected, atol=1e-4)
        assert np.abs(chunk - prefix["known"])[:, :2].max() < 1e-5
        sizes = sum(tensor.ByteSize() for tensor in model.graph.initializer)
        weights = sum(t.ByteSize() for part in (body, modulation) for t in part.graph.initializer)
        assert sizes < weights + 5_000  # shared by all steps


def test_network_calls_of_every_method():
    ladder = np.array([4.0, 2.0, 1.0, 0.0])
    assert denoiser_calls(ladder, "ddim") == denoiser_calls(ladder, "dpmpp_2m") == [4.0, 2.0, 1.0]
    assert denoiser_calls(ladder, "heun") == [4.0, 2.0, 2.0, 1.0, 1.0]
