"""The decision-time benchmark: who takes part when, what another program is asked, what torch computes."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks.decision_time import Arm, peer_arms, run_rounds

PEER = """#!{python}
import json, sys
sizes = json.loads(sys.argv[1])
offer = {{"calls": {{"slow": 2, "fast": 6}}, "memory_mb": 5, "versions": {{"it": str(sizes)}}}}
print(json.dumps(offer), flush=True)
for number, line in enumerate(sys.stdin):
    print(json.dumps({{"ms": {{"slow": 100, "fast": 1}}[line.strip()] + number / 10}}), flush=True)
open({end!r}, "w").close()
"""


def test_arms_take_turns_and_slow_ones_take_part_in_few_rounds() -> None:
    order: list[str] = []

    def arm(name: str, calls: int) -> Arm:
        return Arm("net", name, calls, lambda: order.append(name) or 1.0)

    arms = [arm("always", 10), arm("thrice", 3), arm("once", 1)]
    run_rounds(arms, 10)
    assert [len(a.times) for a in arms] == [10, 3, 1]
    before = [Counter(order[:i])["always"] for i, name in enumerate(order) if name == "thrice"]
    assert before == [4, 7, 10], "spread evenly over the rounds"


def test_another_program_is_asked_in_the_same_rounds_and_ends(tmp_path: Path) -> None:
    program, end = tmp_path / "other", tmp_path / "ended"
    program.write_text(PEER.format(python=sys.executable, end=str(end)))
    program.chmod(0o755)
    with peer_arms(program, [(128, 96), (64, 48)]) as (arms, versions):
        run_rounds(arms, 6)
        rows = {arm.how: arm.row() for arm in arms}
    assert versions == {"it": "[[128, 96], [64, 48]]"}
    assert rows["slow"]["min_ms"] == pytest.approx(100.2)
    assert (rows["slow"]["calls"], rows["fast"]["calls"], rows["fast"]["memory_mb"]) == (2, 6, 5)
    assert rows["fast"]["network"] == "other"
    assert end.exists(), "it was waited for"


@pytest.mark.train
def test_torch_encodes_all_frames_and_calls_the_network_at_every_step() -> None:
    from benchmarks.decision_networks import torch_decision
    from training.config import load_config
    from training.policy import PolicyNet

    config = load_config("smoke", (), ("network.denoiser={width: 32, depth: 2, condition: 32}",))
    net = PolicyNet(config).eval().requires_grad_(False)
    seen: Counter[str] = Counter()
    net.encoder.register_forward_hook(
        lambda _, inputs, out: seen.update(encoded=len(next(iter(inputs[0].values()))))
    )
    net.denoiser.register_forward_hook(lambda *_: seen.update(steps=1))
    chunk = torch_decision(net, config, 10, ddpm=False)()
    assert seen == {"encoded": config.windows.obs_steps, "steps": 10}
    assert chunk.shape == (1, config.windows.horizon, 2)
    seen.clear()
    torch_decision(net, config, 100, ddpm=True)()
    assert seen == {"encoded": config.windows.obs_steps, "steps": 100}


@pytest.mark.train
def test_a_random_bundle_in_int8_keeps_what_knows_actions(tmp_path: Path) -> None:
    """A finite difference through int8 would be noise, so that sampler is carried over as it is."""
    from ambient_policy.inference import Policy
    from ambient_policy.quantise import quantise
    from benchmarks.decision_networks import write_random_bundle
    from training.config import load_config
    from training.policy import PolicyNet

    config = load_config("smoke", (), ("network.denoiser={width: 32, depth: 1, condition: 32}",))
    net = PolicyNet(config).eval().requires_grad_(False)
    bundle = write_random_bundle(net, config, 2, tmp_path / "float")
    small = quantise(bundle, tmp_path / "int8")
    same = {name: bundle.manifest.files[name] == small.manifest.files[name] for name in small.manifest.files}
    assert same == {"encoder.onnx": True, "sampler.onnx": False, "sampler_prefix.onnx": True}
    policy = Policy(small, prefix=True)
    spec = small.manifest
    still = np.zeros((spec.action.horizon, 2)), np.zeros(spec.action.horizon)
    features = np.zeros((spec.obs_steps, spec.feature_size), np.float32)
    noise = np.ones((spec.action.horizon, 2))
    np.testing.assert_allclose(
        policy.sample(features, np.zeros((spec.obs_steps, 2)), noise, still), 0, atol=1e-4
    )
