"""The policy computes what its graphs say, on the provider asked for, and lets nothing broken out."""

from __future__ import annotations

import subprocess
import sys
import types

import numpy as np
import pytest
from onnx import TensorProto, helper

from ambient_policy import inference
from ambient_policy.bundle import load_bundle
from ambient_policy.errors import BundleError, InferenceError, ProviderError
from ambient_policy.inference import Policy
from tests.helpers_bundle import expected_chunk, make_bundle, make_manifest

pytest.importorskip("onnxruntime")
RNG = np.random.default_rng(0)
GAINS = {"features_gain": 0.3, "state_gain": 0.2, "noise_gain": 0.1}


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    """Return a policy with two cameras and every gain at work."""
    return Policy(make_bundle(tmp_path_factory.mktemp("b") / "p", cameras=("overhead", "side"), **GAINS))


def images_for(policy):
    """Give noise images of the size that the encoder takes."""
    return {
        name: RNG.integers(0, 256, (camera.height, camera.width, 3), dtype=np.uint8)
        for name, camera in policy.manifest.cameras.items()
    }


def inputs_for(policy):
    """Give features, state and noise of the right shapes."""
    spec = policy.manifest
    return (
        RNG.random((spec.obs_steps, spec.feature_size)).astype(np.float32),
        RNG.normal(size=(spec.obs_steps, 2)),
        RNG.normal(size=(spec.action.horizon, 2)),
    )


def test_encode_gives_the_graph_s_features(policy):
    """The hand-made encoder is the mean colour, camera after camera."""
    images = images_for(policy)
    features = policy.encode(images)
    expected = np.concatenate([images[name].mean(axis=(0, 1)) / 255 for name in policy.manifest.cameras])
    assert (features.dtype, features.shape) == (np.float32, (6,))
    np.testing.assert_allclose(features, expected, atol=1e-6)


@pytest.mark.parametrize("relative_to", ["tool", "world"])
def test_sample_gives_world_metres(tmp_path, relative_to):
    """Normalised inside, metres outside, from the newest tool position or not as the manifest says."""
    normalizer = {
        "state": {"offset": [0.5, -0.1], "scale": [0.25, 0.2]},
        "action": {"offset": [0.01, 0.0], "scale": [0.02, 0.03]},
    }
    policy = Policy(make_bundle(tmp_path / "p", relative_to=relative_to, normalizer=normalizer, **GAINS))
    features, state, noise = inputs_for(policy)
    chunk = policy.sample(features, state, noise)
    expected = expected_chunk(policy.manifest, features, state, noise, **GAINS) + [0.01, 0.0]
    assert (chunk.dtype, chunk.shape) == (np.float64, (8, 2))
    np.testing.assert_allclose(chunk, expected, atol=1e-6)


@pytest.mark.parametrize("relative_to", ["tool", "world"])
def test_known_actions_reach_the_graph_in_its_own_units(tmp_path, relative_to):
    """The hand-made graph puts them in place of its own, and adds the variance to every action."""
    bundle = make_bundle(tmp_path / "p", relative_to=relative_to, **GAINS)
    normalizer = {
        "state": {"offset": [0.5, -0.1], "scale": [0.25, 0.25]},
        "action": {"offset": [0.01, 0.0], "scale": [0.02, 0.02]},
    }
    spec = make_manifest(relative_to=relative_to, normalizer=normalizer).model_copy(
        update={"sampler": bundle.manifest.sampler.model_copy(update={"prefix": True})}
    )
    policy = Policy(make_bundle(tmp_path / "q", manifest=spec, **GAINS), prefix=True)
    features, state, noise = inputs_for(policy)
    free = policy.sample(features, state, noise)
    positions, std_m = RNG.normal(size=(8, 2)), np.array([0, 0, 0.02, 0.01] + [np.inf] * 4)
    chunk = policy.sample(features, state, noise, (positions, std_m))
    np.testing.assert_allclose(chunk[:2], positions[:2], atol=1e-6)
    # A variance of (std / scale)^2 units, each of 20 mm.
    expected = positions[2:4] + 0.02 * (std_m[2:4, None] / 0.02) ** 2
    np.testing.assert_allclose(chunk[2:4], expected, atol=1e-6)
    np.testing.assert_allclose(chunk[4:], free[4:], atol=1e-6)
    policy.warm_up()
    for bad in (np.zeros(7), -np.ones(8), np.full(8, np.nan)):
        with pytest.raises(InferenceError, match="needs 8 values, none below 0"):
            policy.sample(features, state, noise, (positions, bad))
    with pytest.raises(InferenceError, match="opened without `prefix`"):
        Policy(load_bundle(tmp_path / "q")).sample(features, state, noise, (positions, std_m))
    with pytest.raises(InferenceError, match=r"has no sampler_prefix\.onnx; export it again"):
        Policy(bundle, prefix=True)


def test_a_graph_with_fixed_buffers_answers_like_any_other(policy):
    """What a GPU uses, on the CPU: inputs are copied in, and an answer outlives the next call."""
    import onnxruntime

    from ambient_policy.bound_graph import BoundGraph

    session = policy._sessions["sampler.onnx"]
    shapes = {value.name: [1, *value.shape[1:]] for value in session.get_inputs()}
    feeds = [{k: RNG.random(s).astype(np.float32) for k, s in shapes.items()} for _ in range(3)]
    bound = BoundGraph(onnxruntime, session, feeds[0], "chunk", (1, 8, 2), device="cpu")
    answers = [bound(feed) for feed in feeds]
    for feed, answer in zip(feeds, answers, strict=True):
        np.testing.assert_array_equal(answer, session.run(["chunk"], feed)[0])


def test_several_noises_give_the_chunks_that_each_alone_gives(tmp_path):
    policy = Policy(make_bundle(tmp_path / "p", **GAINS))
    features, state, noise = inputs_for(policy)
    several = np.stack([noise, -noise, 2 * noise])
    chunks = policy.sample_several(features, state, several)
    assert (chunks.dtype, chunks.shape) == (np.float64, (3, 8, 2))
    np.testing.assert_allclose(chunks, [policy.sample(features, state, one) for one in several], atol=1e-6)
    assert np.abs(chunks[0] - chunks[1]).max() > 1e-3
    with pytest.raises(InferenceError, match=r"noise has shape \(3, 7, 2\), the policy needs \(3, 8, 2\)"):
        policy.sample_several(features, state, several[:, 1:])


def test_calls_do_not_depend_on_the_calls_before_them(policy):
    """Same input, same output, with others in between, and the inputs are left alone."""
    features, state, noise = inputs_for(policy)
    copies = [features.copy(), state.copy(), noise.copy()]
    first = policy.sample(features, state, noise)
    policy.sample(*inputs_for(policy))
    policy.warm_up()
    np.testing.assert_array_equal(policy.sample(features, state, noise), first)
    for array, copy in zip((features, state, noise), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_other_memory_layouts_are_accepted(policy):
    """Flipped images and float32 states are views and types that cameras and drivers really give."""
    images = {name: image[::-1, ::-1] for name, image in images_for(policy).items()}
    copies = {name: image.copy() for name, image in images.items()}
    np.testing.assert_array_equal(policy.encode(images), policy.encode(copies))
    features, state, noise = inputs_for(policy)
    chunk = policy.sample(features.astype(np.float64), state.astype(np.float32), noise[::-1][::-1])
    np.testing.assert_allclose(chunk, policy.sample(features, state, noise), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i: i.pop("side"), "images of ['overhead'] given, the policy needs ['overhead', 'side']"),
        (lambda i: i.update(wrist=i["side"]), "images of ['overhead', 'side', 'wrist'] given"),
        (
            lambda i: i.update(side=i["side"][:-1]),
            "image of `side` has shape (11, 16, 3), the policy needs (12, 16, 3)",
        ),
        (
            lambda i: i.update(side=i["side"] / 255),
            "image of `side` is float64, the policy needs uint8, 0 to 255",
        ),
    ],
)
def test_wrong_images_are_named(policy, change, message):
    """Camera, what it gave and what is needed."""
    images = images_for(policy)
    change(images)
    with pytest.raises(InferenceError) as error:
        policy.encode(images)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("which", "change", "message"),
    [
        (0, lambda a: a[:1], "features has shape (1, 6), the policy needs (2, 6)"),
        (1, lambda a: a[0], "state has shape (2,), the policy needs (2, 2)"),
        (2, lambda a: a[None], "noise has shape (1, 8, 2), the policy needs (8, 2)"),
        (1, lambda a: a * np.nan, "state has values that are not finite: [nan nan nan]"),
        (0, lambda a: a + np.inf, "features has values that are not finite"),
    ],
)
def test_wrong_vectors_are_named(policy, which, change, message):
    """A NaN from a driver must stop here."""
    inputs = list(inputs_for(policy))
    inputs[which] = change(inputs[which])
    with pytest.raises(InferenceError) as error:
        policy.sample(*inputs)
    assert message in str(error.value)


def test_a_chunk_that_is_not_finite_never_comes_out(tmp_path):
    """Whatever the weights do; the runtime turns this error into a hold."""
    policy = Policy(make_bundle(tmp_path / "p", drift_m=(np.inf, 0.0)))
    with pytest.raises(
        InferenceError, match="gave chunk that are not finite; this output must not move a robot"
    ):
        policy.sample(*inputs_for(policy))


def test_a_graph_that_gives_another_shape_than_it_declares_is_caught(tmp_path):
    """A free output shape passes the bundle's checks, and fails at the first call."""
    spec = make_manifest()
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", *tensor.shape[1:]])
        for name, tensor in spec.sampler_io()[0].items()
    ]
    output = helper.make_tensor_value_info("chunk", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("Identity", ["state"], ["chunk"])], "g", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    policy = Policy(make_bundle(tmp_path / "p", sampler=model))
    with pytest.raises(
        InferenceError, match=r"gave chunk of shape \(1, 2, 2\), its manifest says \(1, 8, 2\)"
    ):
        policy.warm_up()


def test_a_graph_that_the_runtime_refuses_is_named(tmp_path):
    """An operator that does not exist has a fine header, and no session."""
    spec = make_manifest()
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", *tensor.shape[1:]])
        for name, tensor in spec.sampler_io()[0].items()
    ]
    output = helper.make_tensor_value_info("chunk", TensorProto.FLOAT, ["B", 8, 2])
    graph = helper.make_graph(
        [helper.make_node("NoSuchOperator", ["noise"], ["chunk"])], "g", inputs, [output]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    with pytest.raises(ProviderError, match=r"sampler\.onnx does not start on cpu: .*NoSuchOperator"):
        Policy(make_bundle(tmp_path / "p", sampler=model))


def fake_runtime(available, works):
    """Stand in for a GPU build of onnxruntime: it lists what was compiled in, and falls back in silence."""

    class Session:
        def __init__(self, path, options, providers, provider_options=None):
            self.providers = [p for p in providers if p in works] or ["CPUExecutionProvider"]

        def get_providers(self):
            return self.providers

    class Options:
        def add_session_config_entry(self, key, value):
            pass

        def add_free_dimension_override_by_name(self, name, size):
            pass

    return types.SimpleNamespace(
        __version__="9.9",
        InferenceSession=Session,
        SessionOptions=Options,
        get_available_providers=lambda: list(available),
    )


CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"


@pytest.mark.parametrize(
    ("asked", "works", "got"),
    [
        ("cpu", {CPU}, "cpu"),
        ("auto", {CPU}, "cpu"),
        ("auto", {CPU, CUDA}, "cuda"),
        ("auto", {CPU, CUDA, TENSORRT}, "cuda"),
        ("cuda", {CPU, CUDA}, "cuda"),
        ("tensorrt", {CPU, TENSORRT}, "tensorrt"),
        ("cuda", {CPU}, None),
        ("tensorrt", {CPU, CUDA}, None),
    ],
)
def test_the_provider_is_the_one_that_really_runs(tmp_path, monkeypatch, asked, works, got):
    """A GPU build lists CUDA on a machine without a GPU and runs on the CPU; asking strictly must fail."""
    monkeypatch.setattr(inference, "_onnxruntime", lambda: fake_runtime([TENSORRT, CUDA, CPU], works))
    bundle = make_bundle(tmp_path / "p")
    if got:
        assert Policy(bundle, asked).provider == got
    else:
        with pytest.raises(
            ProviderError, match=rf"provider {asked} does not run here; onnxruntime 9\.9 was built"
        ):
            Policy(bundle, asked)


def test_a_provider_that_was_not_built_in_names_the_extras(tmp_path):
    """With the CPU package asking for CUDA says which extra brings it."""
    bundle = make_bundle(tmp_path / "p")
    if CUDA in inference._onnxruntime().get_available_providers():
        pytest.skip("a GPU build is installed")
    with pytest.raises(
        ProviderError, match=r"provider cuda does not run here.*'ambient-policy\[gpu-cu12\]'"
    ) as error:
        Policy(bundle, "cuda")
    assert isinstance(error.value, BundleError)
    assert Policy(bundle, "auto").provider == "cpu"


def test_arguments_out_of_range_are_named(tmp_path):
    """Provider and threads."""
    bundle = make_bundle(tmp_path / "p")
    with pytest.raises(ProviderError, match="provider is 'gpu', needs auto, cpu, cuda, tensorrt"):
        Policy(bundle, "gpu")
    with pytest.raises(ProviderError, match="threads is 0, needs 1 or more"):
        Policy(bundle, threads=0)


def test_a_missing_or_hollow_onnxruntime_names_the_extras(tmp_path, monkeypatch):
    """Not installed, and the empty folder left when one of two variants is uninstalled."""
    bundle = make_bundle(tmp_path / "p")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ProviderError, match=r"onnxruntime cannot be imported .*'ambient-policy\[cpu\]'"):
        Policy(bundle)
    monkeypatch.setitem(sys.modules, "onnxruntime", types.ModuleType("onnxruntime"))
    with pytest.raises(ProviderError, match="onnxruntime is installed but empty; force a re-install"):
        Policy(bundle)


def test_bundles_are_read_without_a_runtime(tmp_path):
    """Loading and checking a bundle imports no runtime, codec or image library, so it works anywhere."""
    make_bundle(tmp_path / "p")
    script = (
        "import sys; from ambient_policy.bundle import load_bundle; import ambient_policy.inference;"
        f"load_bundle({str(tmp_path / 'p')!r});"
        "print(sorted({'onnxruntime', 'onnx', 'av', 'cv2', 'torch', 'pydrake', 'rclpy'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
    assert load_bundle(tmp_path / "p").manifest.name == "hand-made"
