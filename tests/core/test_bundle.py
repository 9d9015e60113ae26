"""A bundle loads only when everything in it agrees, and every disagreement is named."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from ambient_policy.bundle import load_bundle, write_bundle
from ambient_policy.errors import BundleError
from ambient_policy.folders import sha256
from ambient_policy.onnx_header import Tensor, read_header
from tests.helpers_bundle import encoder_graph, make_bundle, make_manifest


def edit(folder: Path, change: dict[str, Any]) -> None:
    """Replace keys of a manifest; a dotted key reaches inside, None removes."""
    file = folder / "manifest.json"
    data = json.loads(file.read_text())
    for dotted, value in change.items():
        *path, last = dotted.split("/")
        inner = data
        for key in path:
            inner = inner[key]
        if value is None:
            del inner[last]
        else:
            inner[last] = value
    file.write_text(json.dumps(data))


def rehash(folder: Path) -> None:
    """Make the manifest describe the graphs that lie there now."""
    edit(folder, {"files": {f.name: sha256(f) for f in folder.glob("*.onnx")}})


def problems(folder: Path) -> str:
    """Load a bundle that must be refused and return what was said."""
    with pytest.raises(BundleError) as error:
        load_bundle(folder)
    return str(error.value)


@settings(max_examples=15)
@given(
    cameras=st.lists(st.sampled_from(["overhead", "side", "wrist_2"]), min_size=1, max_size=3, unique=True),
    obs_steps=st.integers(1, 4),
    horizon=st.integers(4, 20),
    width=st.integers(1, 40),
    sigmas=st.lists(st.floats(1e-3, 80), min_size=2, max_size=9, unique=True),
    parity=st.dictionaries(st.text("abc", min_size=1), st.floats(0, 1)),
)
def test_round_trip(tmp_path_factory, sigmas, **fields):
    """What is written loads equal, to the last digit of every number."""
    folder = tmp_path_factory.mktemp("bundles") / "policy"
    sampler = {"method": "heun", "sigmas": sorted(sigmas, reverse=True)}
    asked = make_manifest(**fields, sampler=sampler)
    written = make_bundle(folder, manifest=asked)
    loaded = load_bundle(folder)
    assert loaded == written
    assert set(loaded.manifest.files) == {"encoder.onnx", "sampler.onnx"}
    assert loaded.manifest.model_copy(update={"files": {}}) == asked


def test_further_files_travel_and_are_hashed(tmp_path):
    """A licence or a training config belongs to the bundle."""
    source = make_bundle(tmp_path / "a")
    (tmp_path / "LICENSE").write_text("Apache-2.0")
    graphs = {name: source.folder / name for name in source.manifest.files}
    write_bundle(tmp_path / "b", source.manifest, {**graphs, "LICENSE": tmp_path / "LICENSE"})
    assert "LICENSE" in load_bundle(tmp_path / "b").manifest.files
    (tmp_path / "b" / "LICENSE").write_text("none")
    assert "LICENSE is not the file that manifest.json describes" in problems(tmp_path / "b")


def test_a_bundle_that_would_not_load_is_not_written(tmp_path):
    """The exporter hears of it, not the robot; nothing is left behind."""
    wrong = encoder_graph(make_manifest(width=20))
    with pytest.raises(BundleError, match=r"`image_overhead` is uint8 \(\?, 12, 20, 3\), the manifest needs"):
        make_bundle(tmp_path / "policy", encoder=wrong)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_is_never_replaced(tmp_path):
    """A robot may be running it."""
    make_bundle(tmp_path / "policy")
    with pytest.raises(BundleError, match="policy is already there"):
        make_bundle(tmp_path / "policy")


@pytest.mark.parametrize("name", ["../out.onnx", "a/b", "manifest.json", "/abs"])
def test_files_may_not_leave_the_folder_when_written(tmp_path, name):
    """Nor take the manifest's place."""
    (tmp_path / "x").touch()
    with pytest.raises(BundleError, match="is not usable; needs a plain name, not manifest.json"):
        write_bundle(tmp_path / "policy", make_manifest(), {name: tmp_path / "x"})
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("name", ["../sampler.onnx", "sub/sampler.onnx", "/etc/passwd", ".hidden", ""])
def test_files_may_not_leave_the_folder_when_read(tmp_path, name):
    """Even with the right hash."""
    folder = make_bundle(tmp_path / "policy").folder
    edit(folder, {"files": {name: "0" * 64}})
    assert "string should match pattern" in problems(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "has version 2, this ambient-policy reads up to 1; upgrade ambient-policy"),
        (
            {"schema_name": "other"},
            "says schema_name 'other', needs 'ambient_policy.bundle'; is this the right folder?",
        ),
        ({"obs_step": 2}, "obs_step: unknown key; did you mean `obs_steps`?"),
        ({"action/horizon": None}, "action.horizon: missing, and it has no default"),
        ({"action/period_s": 0}, "action.period_s is 0: input should be greater than 0"),
        ({"action/relative_to": "base"}, "action.relative_to is 'base': input should be 'tool' or 'world'"),
        ({"cameras": {}}, "cameras is {}: dictionary should have at least 1 item"),
        ({"files/encoder.onnx": "abc"}, "files.encoder.onnx is 'abc': string should match pattern"),
        (
            {"normalizer/action/scale": [1.0, 0.0]},
            "normalizer.action.scale.1 is 0.0: input should be greater than 0",
        ),
        (
            {"normalizer/state/offset": [1.0, float("nan")]},
            "offset.1 is nan: input should be a finite number",
        ),
        ({"normalizer/state/offset": [1.0]}, "normalizer.state has 1 offsets and 2 scales for 2 names"),
        ({"action/execute_steps": 9}, "action.execute_steps is 9, more than the horizon 8"),
        ({"action/frame": "table"}, "action.relative_to is 'tool', so it is added to the state"),
        (
            {"sampler/sigmas": [0.0, 1.0]},
            "sampler.sigmas is [0.0, 1.0], needs decreasing levels, none below 0",
        ),
        ({"sampler/sigmas": [1.0]}, "sampler.sigmas is [1.0]: tuple should have at least 2 items"),
        ({"files/sampler.onnx": None}, "sampler.onnx is not listed in manifest.json"),
        (
            {"feature_size": 4},
            "encoder.onnx output `features` is float32 (?, 3), the manifest needs float32 (?, 4)",
        ),
        (
            {"obs_steps": 3},
            "sampler.onnx input `state` is float32 (?, 2, 2), the manifest needs float32 (?, 3, 2)",
        ),
        ({"action/horizon": 16}, "sampler.onnx output `chunk` is float32 (?, 8, 2), the manifest needs"),
    ],
)
def test_a_manifest_that_lies_is_refused(tmp_path, change, message):
    """Whether it contradicts the schema, itself or the graphs."""
    folder = make_bundle(tmp_path / "policy").folder
    edit(folder, change)
    assert message in problems(folder)


def test_a_camera_that_the_encoder_does_not_know_is_named_from_both_sides(tmp_path):
    """The manifest's camera has no input, the encoder's input has no camera; the nearest name is shown."""
    folder = make_bundle(tmp_path / "policy").folder
    camera = json.loads((folder / "manifest.json").read_text())["cameras"]["overhead"]
    edit(folder, {"cameras": {"overheads": camera}})
    said = problems(folder)
    assert (
        "has input `image_overhead`, which the manifest does not name; did you mean `image_overheads`" in said
    )
    assert "encoder.onnx has no input `image_overheads`; it has image_overhead" in said


def test_all_problems_are_listed_at_once(tmp_path):
    """Six things wrong, six lines, and what to do at the end."""
    folder = make_bundle(tmp_path / "policy").folder
    edit(folder, {"action/execute_steps": 99, "obs_steps": 3})
    (folder / "encoder.onnx").write_bytes(b"\x00garbage")
    (folder / "encoder.onnx.data").touch()
    said = problems(folder).splitlines()
    assert said[-1] == "copy it again from its origin, or export it again"
    for part in (
        "execute_steps is 99",
        "encoder.onnx is not the file that manifest.json describes (SHA-256 differs)",
        "encoder.onnx.data is not listed in manifest.json; remove it",
        "encoder.onnx cannot be read: it is not ONNX, or is cut short",
        "sampler.onnx input `features`",
        "sampler.onnx input `state`",
    ):
        assert any(part in line for line in said), part


def test_missing_things_are_named(tmp_path):
    """A graph, the manifest, the folder."""
    folder = make_bundle(tmp_path / "policy").folder
    (folder / "sampler.onnx").unlink()
    assert "sampler.onnx is missing" in problems(folder)
    (folder / "manifest.json").unlink()
    assert "manifest.json is missing, so this is not a whole ambient_policy.bundle" in problems(folder)
    assert "no bundle folder at" in problems(tmp_path / "nowhere")


def test_one_flipped_bit_is_found(tmp_path):
    """In the weights, where no parser would notice."""
    folder = make_bundle(tmp_path / "policy", features_gain=0.5).folder
    data = bytearray((folder / "sampler.onnx").read_bytes())
    at = bytes(data).index(np.float32(0.5).tobytes())
    data[at] ^= 1
    (folder / "sampler.onnx").write_bytes(bytes(data))
    assert "sampler.onnx is not the file that manifest.json describes (SHA-256 differs)" in problems(folder)


def test_hidden_files_and_links_to_the_right_bytes_are_harmless(tmp_path):
    """Desktops drop hidden files, and `colcon build --symlink-install` links every file."""
    source = make_bundle(tmp_path / "a")
    (tmp_path / "b").mkdir()
    for file in source.folder.iterdir():
        os.symlink(file, tmp_path / "b" / file.name)
    (tmp_path / "b" / ".DS_Store").touch()
    assert load_bundle(tmp_path / "b").manifest == source.manifest


def test_weights_in_another_file_are_refused(tmp_path):
    """They would be read unchecked."""
    folder = make_bundle(tmp_path / "policy").folder
    model = onnx.load(folder / "sampler.onnx")
    onnx.save(model, folder / "sampler.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    rehash(folder)
    said = problems(folder)
    assert "sampler.onnx keeps weights in another file; export it with its weights inside" in said
    assert "w.bin is not listed in manifest.json; remove it" in said


def test_header_agrees_with_the_onnx_package(tmp_path):
    """The reader of 130 lines against the real one: dtypes, fixed, named and absent dimensions, weights."""
    values = {
        "a": helper.make_tensor_value_info("a", TensorProto.UINT8, ["B", 3, 200, 3]),
        "b": helper.make_tensor_value_info("b", TensorProto.INT64, []),
        "c": helper.make_tensor_value_info("c", TensorProto.FLOAT, None),
        "d": helper.make_tensor_value_info("d", TensorProto.DOUBLE, [None, 70_000]),
        "w": helper.make_tensor_value_info("w", TensorProto.FLOAT, [300]),
    }
    nodes = [helper.make_node("Identity", ["a"], ["y"])]
    weights = [numpy_helper.from_array(np.arange(300, dtype=np.float32), "w")]
    output = helper.make_tensor_value_info("y", TensorProto.UINT8, ["B", 3, 200, 3])
    graph = helper.make_graph(nodes, "g", list(values.values()), [output], weights)
    onnx.save(helper.make_model(graph), tmp_path / "m.onnx")
    header = read_header(tmp_path / "m.onnx")
    assert header.inputs == {
        "a": Tensor("uint8", (None, 3, 200, 3)),
        "b": Tensor("int64", ()),
        "c": Tensor("float32", None),
        "d": Tensor("float64", (None, 70_000)),
    }
    assert header.outputs == {"y": Tensor("uint8", (None, 3, 200, 3))}
    assert not header.external_data


@settings(max_examples=200)
@given(st.data())
def test_header_of_damaged_bytes_is_an_error_or_an_answer(tmp_path_factory, data):
    """Cut or random bytes give a ValueError or a header, and never crash the reader or keep it busy."""
    whole = onnx.helper.make_model(encoder_graph(make_manifest()).graph).SerializeToString()
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    file = tmp_path_factory.mktemp("onnx") / "m.onnx"
    file.write_bytes(data.draw(st.one_of(st.just(cut), st.binary(max_size=60))))
    with contextlib.suppress(ValueError):
        read_header(file)


def test_a_digest_names_one_bundle(tmp_path):
    same = [make_bundle(tmp_path / name) for name in "ab"]
    other = make_bundle(tmp_path / "c", drift_m=(0.006, 0.0))
    assert same[0].digest == same[1].digest != other.digest
