"""What `ambient-policy bench` prints, and the products that its floor is made of."""

from __future__ import annotations

import json
import os

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ambient_policy.bench import main
from ambient_policy.gemm_floor import products_of
from ambient_policy.quantise import quantise
from tests.helpers_bundle import make_bundle, make_manifest, sampler_graph

ort = pytest.importorskip("onnxruntime")


@pytest.fixture(autouse=True)
def _all_cores_again():
    """The command keeps its process on one core."""
    cores = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, cores)


def test_the_floor_keeps_the_products_and_nothing_else(tmp_path):
    """x @ W, a tanh, @ W again, then a product of two activations; W is stored once, the batch is free."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="first"),
        helper.make_node("Tanh", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w"], ["c"], name="second"),
        helper.make_node("Transpose", ["c"], ["d"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["c", "d"], ["y"], name="attention"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, ["batch", 3, 4])],
        [value("y", TensorProto.FLOAT, ["batch", 3, 3])],
        [numpy_helper.from_array(np.ones((4, 4), np.float32), "w")],
    )
    file = tmp_path / "g.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), str(file))
    model, feed = products_of(file)
    assert [node.op_type for node in model.graph.node] == ["MatMul"] * 3
    assert [tensor.name for tensor in model.graph.initializer] == ["w"]
    shapes = [array.shape for array in feed.values()]
    assert shapes == [(1, 3, 4), (1, 3, 4), (1, 3, 4), (1, 4, 3)]
    outputs = ort.InferenceSession(model.SerializeToString()).run(None, feed)
    assert [o.shape for o in outputs] == [(1, 3, 4), (1, 3, 4), (1, 3, 3)]


def test_bench_times_every_stage_of_every_bundle(tmp_path, capsys):
    make_bundle(tmp_path / "plain", features_gain=0.1)
    spec = make_manifest()
    told = spec.model_copy(update={"sampler": spec.sampler.model_copy(update={"prefix": True})})
    make_bundle(tmp_path / "told", manifest=told, features_gain=0.1)
    out = tmp_path / "bench.json"
    assert main([str(tmp_path / "plain"), str(tmp_path / "told"), "--calls", "20", "-o", str(out)]) == 0
    found = json.loads(out.read_text())
    assert [(row["bundle"], row["stage"].split(",")[0]) for row in found["stages"]] == [
        ("plain", "encode a frame"),
        ("plain", "sample"),
        ("plain", "decide: both"),
        ("told", "encode a frame"),
        ("told", "sample"),
        ("told", "decide: both"),
        ("told", "sample"),
    ]
    for row in found["stages"]:
        assert 0 < row["p50_ms"] <= row["p99_ms"] <= row["max_ms"]
    assert (found["provider"], found["threads"]) == ("cpu", 1)
    said = capsys.readouterr().out
    assert "runs on cpu" in said
    assert "Next: ambient-policy launch pushing" in said


def test_an_int8_bundle_is_timed_without_a_floor_for_its_sampler(tmp_path, capsys):
    """The float product that is left in its graph is no floor of it."""
    spec = make_manifest()
    sampler = sampler_graph(spec, np.zeros(2), np.full((2, 3), 0.1), 0.0, 0.0)
    sampler.graph.initializer.append(numpy_helper.from_array(np.eye(3, dtype=np.float32), "eye"))
    for i, (name, into) in enumerate((("features_now", "a"), ("a", "b"))):
        node = helper.make_node("MatMul", [name, "eye"], [into], name=f"condition/{into}")
        sampler.graph.node.insert(1 + i, node)
    next(node for node in sampler.graph.node if "gain" in node.input).input[0] = "b"
    quantise(make_bundle(tmp_path / "plain", sampler=sampler, manifest=spec), tmp_path / "int8")
    left = [node.op_type for node in onnx.load(str(tmp_path / "int8" / "sampler.onnx")).graph.node]
    assert (left.count("MatMul"), left.count("MatMulInteger")) == (1, 2)
    out = tmp_path / "bench.json"
    assert main([str(tmp_path / "plain"), str(tmp_path / "int8"), "--calls", "20", "-o", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["weights"] == {"plain": "float32", "int8": "int8"}
    floors = {row["bundle"]: row["floor_ms"] for row in found["stages"] if row["stage"].startswith("sample")}
    assert floors["plain"] > 0
    assert floors["int8"] is None
    assert "int8 in the sampler, made from bundle" in " ".join(capsys.readouterr().out.split())


def test_a_provider_that_is_not_there_is_refused(tmp_path):
    from ambient_policy.errors import ProviderError

    make_bundle(tmp_path / "plain")
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("there is one here")
    with pytest.raises(ProviderError, match="cuda"):
        main([str(tmp_path / "plain"), "--provider", "cuda"])
