"""Networks: shapes for every preset, what they may depend on, and that they can learn."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from ambient_policy.errors import ConfigError
from training.batches import Batcher, draw_sigma
from training.config import load_config
from training.data import load_data
from training.errors import TrainingError
from training.loop import make_state, run_steps
from training.loss import policy_loss
from training.object_frame import back, turn
from training.phases import make_phase
from training.policy import PolicyNet
from training.run import make_net
from training.targets import Levels

pytestmark = pytest.mark.train
CPU = torch.device("cpu")

SMALL = {
    "small": ("network.denoiser={width: 32, depth: 2, condition: 32}",),
    "dit": ("network.preset=dit", "network.denoiser={width: 32, depth: 2, heads: 2, condition: 32}"),
    "resnet18-unet": (
        "network.preset=resnet18-unet",
        "network.denoiser={width: 16, depth: 3, kernel: 3, condition: 32}",
    ),
}


@pytest.mark.parametrize("preset", SMALL)
def test_every_sample_of_a_batch_is_treated_alone(preset):
    """Shapes fit, and no sample leaks into another: batch statistics would fail here."""
    net = make_net(load_config("smoke", (), SMALL[preset]), CPU).eval().requires_grad_(False)
    for parameter in net.denoiser.modulation.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    images = {c: torch.randint(0, 256, (3, 2, 24, 32, 3), dtype=torch.uint8) for c in ("overhead", "wrist")}
    state, x, level = torch.randn(3, 2, 2), torch.randn(3, 8, 2), torch.randn(3)

    def guess(rows: slice) -> torch.Tensor:
        features = net.encode({c: i[rows] for c, i in images.items()})
        return net.denoiser(x[rows], level[rows], net.condition(features, state[rows]))

    together = guess(slice(None))
    assert together.shape == (3, 8, 2)
    torch.testing.assert_close(together[1:2], guess(slice(1, 2)), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(together[0], together[1], atol=1e-3)


def test_a_fresh_network_is_not_modulated():
    """Factors are 1 and shifts 0 whatever is observed; a transformer's block is the identity (adaLN-Zero)."""
    nets = {p: make_net(load_config("smoke", (), s), CPU).eval().denoiser for p, s in SMALL.items()}
    x, torch_silu = torch.randn(3, 8, 2), torch.nn.functional.silu
    with torch.no_grad():
        modulation = {p: net.modulate(torch.randn(3, 32), torch.randn(3, 32)) for p, net in nets.items()}
        dit = nets["dit"]
        plain = dit.leave(dit.norms[-1](dit.enter(x) + dit.position))
        torch.testing.assert_close(dit.body(x, modulation["dit"]), plain)
        mlp = nets["small"]
        h = mlp.enter(x.flatten(1))
        for norm, layer in zip(mlp.norms, mlp.layers, strict=True):
            h = h + layer(norm(h))
        torch.testing.assert_close(mlp.body(x, modulation["small"]), mlp.leave(h).unflatten(-1, (8, 2)))
        block = nets["resnet18-unet"].down[0]
        tokens = torch.randn(3, 8, 16)
        plain = block.b(torch_silu(block.norm_b(block.a(torch_silu(block.norm_a(tokens)))))) + tokens
        torch.testing.assert_close(block(tokens, modulation["resnet18-unet"][:, : len(block.neutral)]), plain)


def test_images_as_bytes_and_as_floats_are_encoded_alike(tiny):
    """Training augments in floats; the robot sends bytes."""
    net = make_net(tiny(), CPU).eval()
    image = torch.randint(0, 256, (2, 24, 32, 3), dtype=torch.uint8)
    images = {"overhead": image, "wrist": image}
    as_floats = {name: value.float() for name, value in images.items()}
    assert torch.equal(net.encoder(images), net.encoder(as_floats))


def test_turning_there_and_back_is_nothing():
    angle = torch.linspace(-3, 3, 7)
    heading = torch.stack([angle.cos(), angle.sin()], dim=-1)
    vectors = torch.randn(7, 2)
    torch.testing.assert_close(turn(turn(vectors, heading), back(heading)), vectors)
    quarter = torch.tensor([0.0, 1.0])
    torch.testing.assert_close(turn(torch.tensor([1.0, 0.0]), quarter), torch.tensor([0.0, 1.0]))


def test_a_turned_world_gives_a_turned_chunk_in_the_objects_frame(tiny):
    """Object, tool and noise turned together about the origin: what is seen of the object stays the same."""
    net: PolicyNet = make_net(tiny("network.frame=object"), CPU).eval().requires_grad_(False)
    for parameter in net.denoiser.modulation.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    frame = net.object_frame
    assert frame is not None
    angle = 0.7
    heading = torch.tensor([math.cos(angle), math.sin(angle)])
    pose, state, x = torch.randn(4, 2, 4), torch.randn(4, 2, 2), torch.randn(4, 8, 2)
    pose[..., 2:] /= pose[..., 2:].norm(dim=-1, keepdim=True)
    turned = torch.cat([turn(pose[..., :2], heading), turn(pose[..., 2:], heading)], dim=-1)
    described, old = frame(pose, state)
    described_turned, new = frame(turned, turn(state, heading))
    seen = slice(4 * 2, None)  # the rest is the pose itself, told as it is
    torch.testing.assert_close(described[:, seen], described_turned[:, seen], atol=1e-5, rtol=1e-4)
    modulation = torch.randn(4, net.denoiser.modulation_size - 2)
    one = net.denoiser.body(x, torch.cat([modulation, old], dim=-1))
    two = net.denoiser.body(turn(x, heading), torch.cat([modulation, new], dim=-1))
    torch.testing.assert_close(turn(one, heading), two, atol=1e-5, rtol=1e-4)


TOLD = ("pretrain.steps=0", "aux_pose_weight=0", "object_pose=privileged_slider_pose")


def told(tiny, *settings):
    return tiny(*TOLD, *settings).model_copy(update={"cameras": {}})


@pytest.mark.parametrize("frame", ["world", "object"])
def test_a_policy_that_is_told_the_pose_reads_the_true_one(tiny, frame):
    config = told(tiny, f"network.frame={frame}")
    data = load_data(config, CPU)
    net = make_net(config, CPU).eval().requires_grad_(False)
    pose = np.concatenate([cache.lowdim["privileged_slider_pose"] for cache in data.caches])
    expected = np.column_stack(
        [(pose[:, :2] - pose[:, :2].mean(axis=0)) / 0.1, np.cos(pose[:, 2]), np.sin(pose[:, 2])]
    )
    np.testing.assert_allclose(data.state[:, 2:], expected, atol=1e-6)
    frames = torch.arange(8).reshape(4, 2)
    condition = net.condition(net.encode({}, frames.shape), data.state[frames])
    if frame == "object":
        np.testing.assert_allclose(condition[:, -2:], expected[frames[:, -1], 2:], atol=1e-6)
    moved = data.state[frames].clone()
    moved[..., 2] += 1.0
    assert not torch.allclose(net.condition(net.encode({}, frames.shape), moved), condition)


def test_a_told_pose_is_the_seen_pose_of_a_perfect_head(tiny):
    """Same weights, same pose, one told and one seen: the same frame and description of the tool."""
    config = told(tiny, "network.frame=object")
    net = make_net(config, CPU).eval().requires_grad_(False)
    data = load_data(config, CPU)
    state = data.state[:6].reshape(3, 2, 6)
    features = torch.zeros(3, 2, 0)
    expected = net.condition(features, state)
    net.told, net.pose_head = False, _Says(state[..., 2:])
    torch.testing.assert_close(net.condition(features, state[..., :2]), expected)


class _Says(torch.nn.Module):
    def __init__(self, pose: torch.Tensor) -> None:
        super().__init__()
        self.pose = pose

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pose


def test_the_objects_frame_needs_to_know_where_the_object_is(tiny):
    with pytest.raises(ConfigError, match=r"set pretrain.steps above 0 to see it, or object_pose to be told"):
        tiny("network.frame=object", "pretrain.steps=0", "aux_pose_weight=0")
    with pytest.raises(TrainingError, match=r"object_pose: goal needs 3 numbers .* have no such array"):
        load_data(tiny(*TOLD[:2], "object_pose=goal"), CPU)


@pytest.mark.parametrize("preset", ["small", "dit"])
def test_one_batch_can_be_learnt_by_heart(tiny, preset):
    """Image to chunk, through encoder, conditioning and preconditioning: the loss must all but vanish."""
    config = tiny(
        *SMALL[preset],
        "pretrain.steps=0",
        "aux_pose_weight=0",
        "augment={noise: 0.0, brightness: 0.0, contrast: 0.0, colour: 0.0}",
        "optim={steps: 120, batch: 4, lr: 0.01, warmup: 10}",
        "diffusion={noise_per_obs: 4, log_sigma_mean: 0.5, log_sigma_std: 0.3}",
    )
    data = load_data(config, CPU)
    net = make_net(config, CPU)
    batch = Batcher(data, data.train, config).gather(torch.arange(0, 160, 40), None)

    def loss(net, rng):
        sigma = draw_sigma(16, config.diffusion, rng)
        return policy_loss(net, batch, Levels(sigma), torch.randn(16, 8, 2, generator=rng), config, 0.5)

    phase = make_phase("policy", net, data, config, Path())
    state = make_state("policy", net, phase.trained, phase.settings, 0)
    losses = [float(report.parts["denoise"]) for report in run_steps(state, loss, phase.settings)]
    assert sum(losses[-10:]) / 10 < 0.2 * losses[0]


def test_sizes_that_cannot_work_are_refused():
    with pytest.raises(ConfigError, match=r"network.denoiser: width 30 does not divide into 4 heads"):
        load_config("smoke", (), ("network={preset: dit, denoiser: {width: 30}}",))
    with pytest.raises(ConfigError, match=r"set pretrain.steps above 0 to see it"):
        load_config("smoke", (), ("network.frame=object", "pretrain.steps=0"))
    with pytest.raises(ConfigError, match=r"network.encoder.feature: unknown key; did you mean `features`"):
        load_config("smoke", (), ("network.encoder.feature=3",))
    with pytest.raises(
        ConfigError, match=r"no training config at pusing; .* did you mean `pushing`\? known: pushing, push"
    ):
        load_config("pusing")
    with pytest.raises(ConfigError, match=r"--data names 2 folder\(s\) and the config has 1 sources"):
        load_config("smoke", ("a", "b"), ("data={mixture: weights, sources: [{weight: 1.0}]}",))
    with pytest.raises(ConfigError, match=r"the weights \[0.5, 0.6\] must add up to 1"):
        load_config("smoke", (), ("data={mixture: weights, sources: [{weight: 0.5}, {weight: 0.6}]}",))
