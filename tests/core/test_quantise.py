"""int8 bundles: close to their original, smaller, for the CPU only, and made from nothing but a bundle."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from ambient_policy.bundle import load_bundle
from ambient_policy.errors import BundleError, ProviderError
from ambient_policy.inference import Policy
from ambient_policy.quantise import convert, main, quantise
from tests.helpers_bundle import make_bundle, make_manifest, sampler_graph

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def shipped(root: Path) -> Path:
    return root / "bundles" / "pushing"


@pytest.fixture(scope="module")
def small(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the shipped policy in int8, made once."""
    out = tmp_path_factory.mktemp("bundles") / "small"
    assert main([str(shipped), "--out", str(out)]) == 0
    return out


def test_the_shipped_policy_in_int8_says_nearly_the_same(shipped: Path, small: Path) -> None:
    """Chunks go 60 mm (rms); on inputs of its own they stay within 2 mm (rms) of the original's."""
    before, after = load_bundle(shipped), load_bundle(small)
    a, b = Policy(before), Policy(after)
    spec, rng = before.manifest, np.random.default_rng(7)
    apart = []
    for _ in range(40):
        images = {
            name: rng.integers(0, 256, (camera.height, camera.width, 3), dtype=np.uint8)
            for name, camera in spec.cameras.items()
        }
        features = np.stack([a.encode(images)] * 2)
        np.testing.assert_array_equal(features[0], b.encode(images), "the encoder is left as it is")
        state = np.tile(rng.uniform([0.4, -0.2], [0.7, 0.2]), (2, 1))
        noise = rng.standard_normal((16, 2))
        apart.append(a.sample(features, state, noise) - b.sample(features, state, noise))
    assert 1e-5 < np.sqrt(np.mean(np.square(apart))) < 0.002
    quantised = after.manifest.quantised
    assert quantised is not None
    assert (quantised.weights, quantised.origin) == ("int8", before.digest)
    assert quantised.apart is not None
    assert 1e-5 < quantised.apart.rms < 0.002
    assert (small / "sampler.onnx").stat().st_size < 0.45 * (shipped / "sampler.onnx").stat().st_size
    assert after.manifest.name != spec.name, "trials of both must not be taken for one policy's"


def test_what_makes_the_condition_stays_float(small: Path) -> None:
    """All steps and their modulation are integers, the condition is not; no place of this machine is told."""
    graph = onnx.load(str(small / "sampler.onnx")).graph
    integer = [node.name for node in graph.node if node.op_type == "MatMulInteger"]
    floats = [node.name for node in graph.node if node.op_type in ("MatMul", "Gemm")]
    assert len(integer) == 1 + 8 * 10
    assert len(floats) == 3
    assert all(name.startswith("condition/") for name in floats)
    assert b"onnxruntime/quantization" not in (small / "sampler.onnx").read_bytes()


def test_an_int8_bundle_is_for_the_cpu(small: Path) -> None:
    with pytest.raises(ProviderError, match=r"'pushing-int8' has int8 weights.*provider is 'cuda'"):
        Policy(load_bundle(small), "cuda")
    assert Policy(load_bundle(small), "auto").provider == "cpu"


def test_a_robot_needs_no_onnx_package_for_it(small: Path, root: Path) -> None:
    """Loading and a decision, in a Python where `import onnx` fails."""
    program = (
        "import sys, numpy as np; sys.modules['onnx'] = None\n"
        "from ambient_policy.bundle import load_bundle; from ambient_policy.inference import Policy\n"
        f"policy = Policy(load_bundle({str(small)!r})); policy.warm_up(1); print(policy.manifest.weights)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout.strip()) == (0, "int8"), run.stderr


def test_a_product_is_rounded_as_eight_bits_must_be(tmp_path: Path) -> None:
    """Known truth: weights and features in [0, 1] are each off by at most half a step of 1/127 and 1/255."""
    spec = make_manifest()
    gain = np.random.default_rng(0).uniform(0, 1, (2, 3)).astype(np.float32)
    gain[:, 0] = 1.0
    float_bundle = make_bundle(tmp_path / "float", features_gain=gain, manifest=spec)
    int8_bundle = quantise(float_bundle, tmp_path / "int8")
    features = np.random.default_rng(1).random((2, 3)).astype(np.float32)
    features[-1, 0] = 1.0
    zeros = np.zeros((2, 2)), np.zeros((spec.action.horizon, 2))
    a, b = (Policy(bundle).sample(features, *zeros) for bundle in (float_bundle, int8_bundle))
    scale = spec.normalizer.action.scale[0]
    off = np.abs(a - b) / scale
    assert 0 < off.max() <= 3 * (0.5 / 127 + 0.5 / 255 + 0.25 / 127 / 255) + 1e-6


def test_what_cannot_be_quantised_is_refused(tmp_path: Path, small: Path) -> None:
    with pytest.raises(BundleError, match=r"has int8 weights already; quantise the float32 bundle"):
        main([str(small), "--out", str(tmp_path / "again")])
    with pytest.raises(BundleError, match=r"no bundle folder at .*nowhere"):
        main([str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match=r"manifest\.json is missing"):
        main([str(tmp_path / "empty"), "--out", str(tmp_path / "out")])
    made = make_bundle(tmp_path / "made", features_gain=0.5)
    with pytest.raises(BundleError, match=r"already there; remove it or choose another --out"):
        quantise(made, tmp_path / "empty")
    assert not (tmp_path / "out").exists()


def test_a_policy_that_eight_bits_ruin_is_refused(tmp_path: Path) -> None:
    """One huge feature sets the step of all others: what the chunk depends on is rounded away."""
    spec = make_manifest()
    graph = sampler_graph(spec, np.zeros(2), np.full((2, 3), 1.0), 0.0, 0.0)
    loud = numpy_helper.from_array(np.array([0, 0, 1000], np.float32), "loud")
    graph.graph.initializer.append(loud)
    graph.graph.node.insert(1, helper.make_node("Add", ["features_now", "loud"], ["shouted"]))
    graph.graph.node[3].input[0] = "shouted"
    with pytest.raises(BundleError, match=r"too far from its own: .* m rms, accepted is 0\.001"):
        quantise(make_bundle(tmp_path / "loud", sampler=graph, manifest=spec), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_graph_without_products_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["noise"], ["chunk"])
    value = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 8, 2]) for n in ("noise", "chunk")]
    graph = helper.make_graph([node], "g", value[:1], value[1:])
    file = tmp_path / "sampler.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), str(file))
    with pytest.raises(BundleError, match=r"sampler\.onnx has no matrix product with constant weights"):
        convert(file, tmp_path / "int8.onnx")


def test_a_changed_note_is_a_changed_bundle(tmp_path: Path, small: Path) -> None:
    """The type of the weights is checked like every other field."""
    copy = Path(shutil.copytree(small, tmp_path / "copy"))
    document = json.loads((copy / "manifest.json").read_text())
    document["quantised"]["weights"] = "int4"
    (copy / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(BundleError, match=r"quantised\.weights"):
        load_bundle(copy)
