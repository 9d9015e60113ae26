"""Other formats: what we write comes back bit for bit, what others wrote is read by a mapping, damage is
refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("zarr")
pytest.importorskip("h5py")

import h5py
import pyarrow.parquet as pq
import zarr

from ambient_policy.config import dump_yaml, load_yaml
from ambient_policy.data import cli
from ambient_policy.data.convert import ExportArgs, export, import_episodes, open_foreign
from ambient_policy.data.guess import guess
from ambient_policy.data.lerobot_video import VideoFile, VideoReader
from ambient_policy.data.mapping import ImageField, Mapping, Vector
from ambient_policy.episodes import list_episodes, read_episode, write_episode
from ambient_policy.errors import AmbientPolicyError, ConfigError, EpisodeError
from tests.core import foreign_data
from tests.core.helpers_data import make_dataset, smooth_episode, tree


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Five episodes of different lengths; read only."""
    root = tmp_path_factory.mktemp("made") / "set"
    for seed, steps in enumerate((24, 7, 31, 1, 12)):
        write_episode(root, f"{seed:06d}", smooth_episode(seed, steps))
    return root


WAYS = {
    "lerobot": ("lerobot", "lossless"),
    "lerobot png": ("lerobot", "png"),
    "zarr": ("zarr", "lossless"),
    "hdf5": ("hdf5", "lossless"),
}


@pytest.fixture(scope="module")
def exported(data, tmp_path_factory):
    """Return way -> path of an export."""
    root = tmp_path_factory.mktemp("exported")
    out = {}
    for way, (kind, images) in WAYS.items():
        out[way] = root / (way.replace(" ", "_") + (".hdf5" if kind == "hdf5" else ""))
        assert export(ExportArgs(data=data, out=out[way], format=kind, images=images)) == 5
    return out


@pytest.mark.parametrize("way", WAYS)
def test_what_we_export_comes_back_byte_for_byte(data, exported, way, tmp_path, capsys):
    """Meta data, dtypes, odd image sizes, noise images, single steps: the files are equal, sums included."""
    assert cli.main(["import", str(exported[way]), "--out", str(tmp_path / "back")]) == 0
    assert "as they were exported" in capsys.readouterr().out
    back = tree(tmp_path / "back")
    assert back.pop("import.json")
    assert back == tree(data)


def test_lossy_video_keeps_numbers_and_nearly_the_images(data, tmp_path):
    """LeRobot's own settings. Smooth pictures stay within a few levels; noise would not."""
    source = tmp_path / "smooth"
    episode = smooth_episode(0, sizes={"overhead": (64, 48)})
    ramp = np.linspace(40, 200, 64)[None, :, None] + np.linspace(0, 40, 48)[:, None, None] + np.zeros(3)
    episode.images["overhead"][:] = ramp.astype(np.uint8)
    write_episode(source, "000000", episode)
    assert cli.main(["export", str(source), "--out", str(tmp_path / "x"), "--images", "av1"]) == 0
    foreign = open_foreign(tmp_path / "x")
    assert foreign.lossy
    import_episodes(foreign, tmp_path / "back", None)
    back = read_episode(tmp_path / "back" / "000000")
    for key, array in episode.arrays.items():
        np.testing.assert_array_equal(back.arrays[key], array)
    worst = np.abs(back.images["overhead"].astype(int) - episode.images["overhead"]).max()
    assert 0 < worst < 12
    with pytest.raises(EpisodeError, match="camera side is 17x11; av1 needs even sizes, use lossless"):
        export(ExportArgs(data=data, out=tmp_path / "odd", images="av1"))


def test_the_lerobot_tables_say_what_the_episodes_hold(data, exported):
    """Read with pyarrow alone: lengths, places, times and statistics."""
    root = exported["lerobot"]
    info = json.loads((root / "meta" / "info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["total_frames"]) == ("v3.0", 10, 75)
    assert info["features"]["observation.state"] == {"dtype": "float64", "shape": [2], "names": ["x", "y"]}
    rows = pq.read_table(root / "meta" / "episodes").to_pylist()
    assert [row["length"] for row in rows] == [24, 7, 31, 1, 12]
    assert [row["dataset_to_index"] for row in rows] == [24, 31, 62, 63, 75]
    at = "videos/observation.images.side/"
    assert [row[at + "from_timestamp"] for row in rows] == pytest.approx([0, 2.4, 3.1, 6.2, 6.3])
    steps = pq.read_table(root / "data")
    assert steps["index"].to_pylist() == list(range(75))
    episodes = [read_episode(path) for path in list_episodes(data)]
    actions = np.concatenate([e.arrays["action"] for e in episodes])
    np.testing.assert_array_equal(np.array(steps["action"].to_pylist()), actions)
    stats = json.loads((root / "meta" / "stats.json").read_text())
    np.testing.assert_allclose(stats["action"]["mean"], actions.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(stats["action"]["std"], actions.std(axis=0), rtol=1e-12)
    np.testing.assert_allclose(stats["action"]["q90"], np.quantile(actions, 0.9, axis=0), rtol=1e-12)
    side = np.concatenate([e.images["side"] for e in episodes]).reshape(-1, 3) / 255
    found = stats["observation.images.side"]
    np.testing.assert_allclose(np.ravel(found["mean"]), side.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(np.ravel(found["std"]), side.std(axis=0), rtol=1e-9)
    assert np.shape(found["min"]) == (3, 1, 1)


def test_the_replay_buffer_has_the_layout_of_the_reference(data, exported):
    """Keys, chunks and types, read with zarr alone; the pusher has no yaw, so that column is 0."""
    root = zarr.open_group(str(exported["zarr"]), mode="r")
    np.testing.assert_array_equal(root["meta/episode_ends"][:], [24, 31, 62, 63, 75])
    assert json.loads((exported["zarr"] / "data" / "action" / ".zarray").read_text())["zarr_format"] == 2
    shapes = {key: array.shape for key, array in root["data"].arrays()}
    assert shapes["state"] == shapes["slider_state"] == shapes["target"] == (75, 3)
    assert shapes["overhead_camera"] == (75, 16, 24, 3)
    first = read_episode(data / "000000")
    np.testing.assert_array_equal(root["data/state"][:24, :2], first.arrays["state"])
    assert not root["data/state"][:, 2].any()
    np.testing.assert_array_equal(root["data/target"][5], [0.587, -0.0355, 0.0])


def test_robomimic_finds_its_fields(data, exported):
    """Read with h5py alone."""
    with h5py.File(exported["hdf5"]) as file:
        assert file["data"].attrs["total"] == 75
        assert list(file["mask/train"][:]) == [f"demo_{i}".encode() for i in range(5)]
        demo, episode = file["data/demo_2"], read_episode(data / "000002")
        assert demo.attrs["num_samples"] == 31
        np.testing.assert_array_equal(demo["actions"][()], episode.arrays["action"])
        np.testing.assert_array_equal(demo["obs/overhead_image"][()], episode.images["overhead"])
        assert demo["dones"][()].tolist() == [0] * 30 + [1]
        assert json.loads(file["data"].attrs["env_args"])["env_name"] == "pushing"


def test_episodes_of_one_video_are_cut_where_they_begin(tmp_path):
    """Forwards, backwards and twice; a frame past the end is refused."""
    frames = np.random.default_rng(0).integers(0, 256, (40, 10, 14, 3), dtype=np.uint8)
    video = VideoFile(tmp_path / "x.mp4", 30, (14, 10), "lossless")
    for start in range(0, 40, 8):
        video.add(frames[start : start + 8])
    video.close()
    reader = VideoReader(tmp_path / "x.mp4", 30)
    for start, count in ((0, 8), (8, 16), (30, 10), (3, 5), (3, 5)):
        np.testing.assert_array_equal(reader.take(start, count), frames[start : start + count])
    with pytest.raises(EpisodeError, match="ends after 40 frames; needs 41"):
        reader.take(35, 6)


PLANE = {"relative_to": "world"}
FOREIGN = {
    "v2.1": (foreign_data.lerobot_v21, "observation.state", "action", "observation.images.top", True),
    "v3.0 video": (
        lambda root: foreign_data.lerobot_v30(root, video=True),
        "observation.state",
        "action",
        "observation.images.top",
        True,
    ),
    "v3.0 image": (
        lambda root: foreign_data.lerobot_v30(root, video=False),
        "observation.state",
        "action",
        "observation.images.top",
        True,
    ),
    "zarr": (foreign_data.replay_buffer, "state", "action", "img", False),
    "hdf5": (foreign_data.robomimic, "obs/robot0_eef_pos", "actions", "obs/agentview_image", True),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_others_wrote_is_read_by_a_mapping(kind, tmp_path):
    """Columns, scale, offset, steps; every number is the file's, every pixel too."""
    write, state, action, camera, has_rate = FOREIGN[kind]
    path = tmp_path / ("x.hdf5" if kind == "hdf5" else "x")
    wanted = write(path)
    foreign = open_foreign(path)
    assert foreign.count == 3
    assert (foreign.period_s == pytest.approx(0.05)) if has_rate else (foreign.period_s is None)
    mapping = Mapping(
        state=Vector(key=state, columns=(1, 0)),
        action=Vector(key=action, scale=0.5, offset=(0.25, -1.0), relative_to="state"),
        cameras={"top": ImageField(key=camera, fx=30.0, fy=31.0, cx=15.0, cy=11.0)},
        extra={"whole_state": state},
        period_s=0.05,
        source="other",
        operator="human",
        outcome="success",
    )
    import_episodes(foreign, tmp_path / "in", mapping)
    found = [read_episode(p) for p in list_episodes(tmp_path / "in")]
    assert [e.meta.steps for e in found] == [5, 8, 3]
    for episode, truth in zip(found, wanted, strict=True):
        measured = truth["state"][:, [1, 0]].astype(np.float64)
        np.testing.assert_array_equal(episode.arrays["state"], measured)
        np.testing.assert_array_equal(episode.arrays["whole_state"], truth["state"])
        reach = truth["action"][:, :2].astype(np.float64) * 0.5 + (0.25, -1.0) + measured
        np.testing.assert_allclose(episode.arrays["action"], reach, rtol=0, atol=1e-15)
        np.testing.assert_array_equal(episode.images["top"], truth["images"])
        assert episode.arrays["valid"].all()
        assert (episode.meta.source, episode.meta.operator, episode.meta.period_s) == ("other", "human", 0.05)
        assert episode.meta.cameras["top"].fy == 31.0
        assert episode.meta.scenario["imported"]["mapping"]["action"]["scale"] == 0.5


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_guess_is_printed_and_not_used_unasked(kind, tmp_path, capsys):
    """What is printed is a mapping file; with --accept-guess it is what is imported."""
    write, state, action, *_ = FOREIGN[kind]
    path = tmp_path / ("x.hdf5" if kind == "hdf5" else "x")
    write(path)
    assert cli.main(["import", str(path), "--out", str(tmp_path / "in")]) == 1
    said = capsys.readouterr().out
    assert not (tmp_path / "in").exists()
    assert "columns 0 and 1 are taken for x and y" in said
    (tmp_path / "mapping.yaml").write_text(said)
    mapping = load_yaml(tmp_path / "mapping.yaml", Mapping)
    assert (mapping.state.key, mapping.action.key) == (state, action)
    assert mapping.action.relative_to == ("state" if kind == "hdf5" else "world")
    assert cli.main(["import", str(path), "--out", str(tmp_path / "in"), "--accept-guess"]) == 0
    record = json.loads((tmp_path / "in" / "import.json").read_text())
    assert Mapping.model_validate(record["mapping"]) == mapping
    assert record["doubts"]
    assert read_episode(tmp_path / "in" / "000000").meta.scenario["imported"]["intrinsics_are_placeholders"]
    assert cli.main(["validate", str(tmp_path / "in")]) == 0


def test_an_import_goes_on_where_it_stopped(tmp_path):
    """Episodes that are there stay; another mapping in the same folder is refused."""
    foreign_data.robomimic(tmp_path / "x.hdf5")
    foreign = open_foreign(tmp_path / "x.hdf5")
    mapping = guess(foreign)[0]
    import_episodes(foreign, tmp_path / "in", mapping)
    whole = tree(tmp_path / "in")
    shutil.rmtree(tmp_path / "in" / "000001")
    import_episodes(open_foreign(tmp_path / "x.hdf5"), tmp_path / "in", mapping)
    assert tree(tmp_path / "in") == whole
    with pytest.raises(ConfigError, match="holds another import"):
        import_episodes(foreign, tmp_path / "in", mapping.model_copy(update={"source": "elsewhere"}))


def test_a_mapping_that_does_not_fit_says_what_there_is(tmp_path):
    foreign_data.robomimic(tmp_path / "x.hdf5")
    foreign = open_foreign(tmp_path / "x.hdf5")
    good = guess(foreign)[0]
    wrong = good.model_copy(update={"state": Vector(key="obs/eef")})
    with pytest.raises(
        EpisodeError,
        match=r"mapping.state.key is 'obs/eef'; .* has .*obs/robot0_eef_pos "
        r"\(3,\)",
    ):
        import_episodes(foreign, tmp_path / "a", wrong)
    wrong = good.model_copy(update={"action": Vector(key="actions", columns=(0, 9))})
    with pytest.raises(EpisodeError, match=r"columns is \[0, 9\], and actions has 7 columns, counted from 0"):
        import_episodes(foreign, tmp_path / "b", wrong)
    wrong = good.model_copy(update={"cameras": {"front": ImageField(key="obs/front")}})
    with pytest.raises(EpisodeError, match="images of .*: obs/agentview_image"):
        import_episodes(foreign, tmp_path / "c", wrong)
    (tmp_path / "m.yaml").write_text(dump_yaml(good).replace("relative_to: state", "relative_to: robot"))
    with pytest.raises(
        ConfigError, match="action.relative_to is 'robot': input should be 'world' or 'state'"
    ):
        load_yaml(tmp_path / "m.yaml", Mapping)


def cut(file, keep=0.5):
    with file.open("r+b") as stream:
        stream.truncate(int(file.stat().st_size * keep))


def change(root):
    zarr.open_group(str(root), mode="r+")["data/action"][40, 1] += 1e-9


def drop_rows(root):
    file = root / "data" / "chunk-000" / "file-000.parquet"
    pq.write_table(pq.read_table(file).slice(0, 60), file)


DAMAGE = {
    "video cut": (
        "lerobot",
        lambda r: cut(r / "videos/observation.images.side/chunk-000/file-000.mp4"),
        "file-000.mp4",
    ),
    "video gone": (
        "lerobot",
        lambda r: (r / "videos/observation.images.side/chunk-000/file-000.mp4").unlink(),
        "file-000.mp4 is missing",
    ),
    "table cut": ("lerobot", lambda r: cut(r / "data/chunk-000/file-000.parquet"), "cannot be read"),
    "rows gone": ("lerobot", drop_rows, "steps of episode 2, meta says 31; it is cut short"),
    "info broken": ("lerobot", lambda r: cut(r / "meta/info.json"), "info.json cannot be read"),
    "notes short": ("lerobot", lambda r: cut(r / "meta/ambient_policy.jsonl"), "names . episodes|is no JSON"),
    "chunk gone": (
        "zarr",
        lambda r: (r / "data/side_camera/0.0.0.0").unlink(),
        "is missing, and would be read as zeros",
    ),
    "chunk cut": (
        "zarr",
        lambda r: cut(r / "data/side_camera/0.0.0.0"),
        "chunk 0.0.0.0 of data/side_camera has .* bytes, needs",
    ),
    "ends broken": ("zarr", lambda r: cut(r / "meta/episode_ends/0", 0.4), "is no replay buffer"),
    "number changed": ("zarr", lambda r: change(r), "episode 000002: action changed since the export"),
    "file cut": ("hdf5", lambda r: cut(r), "is no whole robomimic file"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_dataset_is_refused_with_its_file(exported, damage, tmp_path, capsys):
    """No damaged episode is written; those before it may be, whole."""
    way, break_it, said = DAMAGE[damage]
    copy = tmp_path / exported[way].name
    (shutil.copy if way == "hdf5" else shutil.copytree)(exported[way], copy)
    break_it(copy)
    with pytest.raises(AmbientPolicyError, match=said):
        cli.main(["import", str(copy), "--out", str(tmp_path / "in")])
    for path in list_episodes(tmp_path / "in") if (tmp_path / "in").is_dir() else []:
        read_episode(path)


def test_images_are_never_rounded_in_silence(tmp_path):
    """A replay buffer of floats in [0, 1] is refused, one of whole numbers is taken."""
    foreign_data.replay_buffer(tmp_path / "x")
    group = zarr.open_group(str(tmp_path / "x"), mode="r+")
    group["data/img"][:] = group["data/img"][:] / 255
    foreign = open_foreign(tmp_path / "x")
    with pytest.raises(EpisodeError, match="needs whole numbers from 0 to 255. Scale and round them first"):
        import_episodes(foreign, tmp_path / "in", guess(foreign)[0])


def test_exports_that_cannot_be_exact_or_whole_are_refused(data, tmp_path):
    for name, change, said in (
        ("rate", {"period_s": 0.03}, "the period is 0.03 s; LeRobot takes a whole number of steps a second"),
        (
            "mixed",
            {"sizes": {"overhead": (24, 16)}},
            "differs from the first episode in period, cameras or arrays",
        ),
    ):
        root = tmp_path / name
        if name == "mixed":
            write_episode(root, "000000", smooth_episode(0))
        write_episode(root, "000001", smooth_episode(1, **change))
        with pytest.raises(EpisodeError, match=said):
            export(ExportArgs(data=root, out=tmp_path / "out"))
        assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*")), "nothing half-written stays"
    with pytest.raises(ConfigError, match="--images is for --format lerobot"):
        export(ExportArgs(data=data, out=tmp_path / "out", format="zarr", images="png"))
    (tmp_path / "there").mkdir()
    with pytest.raises(EpisodeError, match="there is already there"):
        export(ExportArgs(data=data, out=tmp_path / "there"))
    with pytest.raises(EpisodeError, match="is none of them; needs a LeRobotDataset"):
        open_foreign(tmp_path / "there")


def test_commands_that_need_no_format_run_without_their_libraries(data, monkeypatch, capsys):
    """And the others name the line that installs them."""
    import sys

    for name in ("pyarrow", "pyarrow.parquet", "zarr", "h5py"):
        monkeypatch.setitem(sys.modules, name, None)
    assert cli.main(["validate", str(make_dataset(data.parent / "small", 1))]) == 0
    with pytest.raises(AmbientPolicyError, match="pyarrow.* is not installed; .* -e '.\\[data\\]'"):
        cli.main(["export", str(data), "--out", str(data.parent / "never")])
