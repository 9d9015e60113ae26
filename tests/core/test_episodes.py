"""Episodes come back bit for bit, and a damaged one is never taken for whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ambient_policy import folders
from ambient_policy.episodes import (
    CameraModel,
    Episode,
    EpisodeMeta,
    list_episodes,
    read_episode,
    write_episode,
)
from ambient_policy.errors import EpisodeError


def make_episode(steps: int = 6, sizes: dict[str, tuple[int, int]] | None = None, seed: int = 0) -> Episode:
    """Make an episode with cameras of the given (width, height); noise images, the hardest to compress."""
    rng = np.random.default_rng(seed)
    sizes = {"overhead": (32, 24), "side": (33, 17)} if sizes is None else sizes
    meta = EpisodeMeta(
        commit="abc",
        task="pushing",
        source="target",
        scenario={"friction": 0.3, "name": "T"},
        seed=seed,
        operator="script",
        outcome="success",
        period_s=0.1,
        steps=steps,
        cameras={
            name: CameraModel(width=w, height=h, fx=30, fy=30, cx=w / 2, cy=h / 2, frame_id=f"{name}_optical")
            for name, (w, h) in sizes.items()
        },
    )
    arrays = {
        "state": rng.normal(size=(steps, 2)),
        "action": rng.normal(size=(steps, 2)),
        "valid": rng.random(steps) < 0.9,
        "privileged_slider_pose": rng.normal(size=(steps, 3)),
        "wrench": rng.normal(size=(steps, 2, 3)).astype(np.float32),
    }
    images = {n: rng.integers(0, 256, (steps, h, w, 3), dtype=np.uint8) for n, (w, h) in sizes.items()}
    return Episode(meta, arrays, images)


def assert_equal(a: Episode, b: Episode) -> None:
    """Compare every bit and every type."""
    assert a.meta == b.meta
    for left, right in ((a.arrays, b.arrays), (a.images, b.images)):
        assert left.keys() == right.keys()
        for key in left:
            assert left[key].dtype == right[key].dtype
            np.testing.assert_array_equal(left[key], right[key])


@settings(max_examples=25)
@given(st.integers(1, 12), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_round_trip_is_exact_for_any_size(tmp_path_factory, steps, width, height, seed):
    """Odd widths and heights, single frames and single pixels included."""
    episode = make_episode(steps, {"overhead": (width, height)}, seed)
    path = write_episode(tmp_path_factory.mktemp("episodes"), "one", episode)
    assert_equal(read_episode(path), episode)


@settings(max_examples=15)
@given(hnp.arrays(np.uint8, (3, 8, 10, 3)))
def test_round_trip_is_exact_for_any_pixels(tmp_path_factory, frames):
    """Flat areas and extreme values take other paths through the codec than noise does."""
    episode = make_episode(3, {"overhead": (10, 8)})
    episode.images["overhead"] = frames
    path = write_episode(tmp_path_factory.mktemp("episodes"), "one", episode)
    np.testing.assert_array_equal(read_episode(path).images["overhead"], frames)


def test_still_scenes_are_stored_small(tmp_path):
    """The reason for video: 60 frames of a still background take far less than 60 pictures."""
    frames = np.repeat(np.random.default_rng(0).integers(0, 256, (1, 96, 128, 3), dtype=np.uint8), 60, axis=0)
    frames[np.arange(60), 40, np.arange(60)] = (200, 30, 30)
    episode = make_episode(60, {"overhead": (128, 96)})
    episode.images["overhead"] = frames
    path = write_episode(tmp_path, "one", episode)
    assert (path / "images_overhead.mkv").stat().st_size < frames.nbytes / 30
    np.testing.assert_array_equal(read_episode(path).images["overhead"], frames)


def test_equal_episodes_give_equal_files(tmp_path):
    """So that a collection made twice from one seed can be compared by hash."""
    paths = [write_episode(tmp_path, name, make_episode()) for name in ("a", "b")]
    for file in paths[0].iterdir():
        assert file.read_bytes() == (paths[1] / file.name).read_bytes(), file.name


def test_only_the_cameras_asked_for_are_decoded(tmp_path):
    """None is all; an empty list reads numbers only, and never opens a video."""
    path = write_episode(tmp_path, "one", make_episode())
    assert list(read_episode(path, cameras=["side"]).images) == ["side"]
    (path / "images_side.mkv").unlink()
    assert read_episode(path, cameras=()).images == {}
    assert list(read_episode(path, cameras=["overhead"]).images) == ["overhead"]


def test_sums_can_be_checked_without_us(tmp_path):
    """SHA256SUMS has the format of the usual tool."""
    path = write_episode(tmp_path, "one", make_episode())
    checked = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=path, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert "arrays.npz: OK" in checked.stdout


def test_listing_is_sorted_and_leaves_out_what_is_not_whole(tmp_path):
    """Half-written folders, stray files and folders of something else are no episodes."""
    for name in ("ep_2", "ep_1"):
        write_episode(tmp_path, name, make_episode(2, {}))
    (tmp_path / ".ep_3.partial-1").mkdir()
    (tmp_path / ".ep_3.partial-1" / "meta.json").touch()
    (tmp_path / "notes").mkdir()
    (tmp_path / "README.md").touch()
    assert [path.name for path in list_episodes(tmp_path)] == ["ep_1", "ep_2"]
    with pytest.raises(EpisodeError, match="no folder of episodes at .*nowhere"):
        list_episodes(tmp_path / "nowhere")


def test_a_killed_writer_leaves_no_episode(tmp_path):
    """The process is killed inside the write; the name stays free, and the next writer clears the remains."""
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).resolve().parents[2])!r})
from ambient_policy import episodes
from tests.core.test_episodes import make_episode
write_video = episodes.write_video
def die(path, *rest):
    write_video(path, *rest)
    os.kill(os.getpid(), signal.SIGKILL)
episodes.write_video = die
episodes.write_episode({str(tmp_path)!r}, "one", make_episode())
"""
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(list(tmp_path.iterdir())) == 1
    assert list_episodes(tmp_path) == []
    write_episode(tmp_path, "one", make_episode())
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_everything_reaches_the_disk_before_the_name(tmp_path, monkeypatch):
    """Every file and its folder are flushed, then the rename, then the folder that holds the name."""
    events = []
    real_fsync, real_rename = os.fsync, Path.rename

    def fsync(handle):
        events.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        real_fsync(handle)

    def rename(self, target):
        events.append("rename")
        return real_rename(self, target)

    monkeypatch.setattr(folders.os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", rename)
    path = write_episode(tmp_path, "one", make_episode())
    at = events.index("rename")
    assert {file.name for file in path.iterdir()} <= set(events[:at])
    assert events[at - 1].startswith(".one.partial-")
    assert events[at + 1 :] == [tmp_path.name]


def test_a_failed_write_cleans_up_after_itself(tmp_path, monkeypatch):
    """A full disk, say: the error passes through and nothing is left."""

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ambient_policy.episodes.write_video", full)
    with pytest.raises(OSError, match="No space left"):
        write_episode(tmp_path, "one", make_episode())
    assert list(tmp_path.iterdir()) == []


def test_an_episode_is_never_replaced(tmp_path):
    """Data that cost an operator's time is not overwritten by a repeated name."""
    path = write_episode(tmp_path, "one", make_episode())
    with pytest.raises(EpisodeError, match=r"one is already there; remove it or choose another name"):
        write_episode(tmp_path, "one", make_episode(seed=1))
    assert_equal(read_episode(path), make_episode())


@pytest.mark.parametrize("name", ["", "../out", "a/b", ".hidden", "with space"])
def test_names_that_are_not_plain_are_refused(tmp_path, name):
    """A name must not lead out of the root, or hide."""
    with pytest.raises(EpisodeError, match="is not plain; use letters"):
        write_episode(tmp_path, name, make_episode())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e.arrays.pop("action"), "array `action` is missing, needs (6, 2)"),
        (
            lambda e: e.arrays.update(state=np.zeros((5, 2))),
            "array `state` is float64 (5, 2), needs float64 (6, 2)",
        ),
        (lambda e: e.arrays.update(valid=np.ones(6)), "array `valid` is float64 (6,), needs bool (6,)"),
        (
            lambda e: e.arrays["action"].__setitem__((4, 0), np.nan),
            "array `action` has values that are not finite, from step 4",
        ),
        (
            lambda e: e.arrays.update(privileged_slider_pose=np.zeros((6, 2))),
            "`privileged_slider_pose` is float64 (6, 2)",
        ),
        (
            lambda e: e.arrays.update(force=np.zeros(5)),
            "array `force` is (5,), its first axis must be the 6 steps",
        ),
        (lambda e: e.arrays.update(label=np.array([None] * 6)), "array `label` holds Python objects"),
        (lambda e: e.arrays.update(file=np.zeros(6)), "array name 'file' is not usable"),
        (lambda e: e.arrays.update({"a/b": np.zeros(6)}), "array name 'a/b' is not usable"),
        (
            lambda e: e.images.pop("side"),
            "images of ['overhead'] do not match the cameras ['overhead', 'side']",
        ),
        (
            lambda e: e.images.update(side=np.zeros((6, 9, 9, 3), np.uint8)),
            "images of `side` are uint8 (6, 9, 9, 3), need uint8 (6, 17, 33, 3)",
        ),
        (lambda e: e.images.update(side=e.images["side"] / 255), "images of `side` are float64"),
    ],
)
def test_arrays_that_disagree_with_the_meta_data_are_refused(tmp_path, change, message):
    """Before anything is written."""
    episode = make_episode()
    change(episode)
    with pytest.raises(EpisodeError) as error:
        write_episode(tmp_path, "one", episode)
    assert message in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_every_disagreement_is_listed_at_once(tmp_path):
    """So that a converter is mended in one go."""
    episode = make_episode()
    episode.arrays.pop("action")
    episode.images.pop("side")
    with pytest.raises(EpisodeError, match=r"(?s)`action` is missing.*do not match the cameras"):
        write_episode(tmp_path, "one", episode)


def cut(file: Path) -> None:
    """Keep the first half of a file, as a broken copy does."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file: Path) -> None:
    """Change one bit in the middle of a file, as a failing disk does."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))


@pytest.mark.parametrize("name", ["arrays.npz", "images_overhead.mkv"])
@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
def test_damaged_data_is_named(tmp_path, name, damage):
    """File, reason and cure; one flipped bit is enough."""
    path = write_episode(tmp_path, "one", make_episode())
    damage(path / name)
    with pytest.raises(
        EpisodeError, match=rf"{name} is damaged \(.*\); restore the folder .* or remove .*one"
    ):
        read_episode(path)


@pytest.mark.parametrize("name", ["arrays.npz", "images_overhead.mkv"])
def test_damage_is_found_even_when_the_sums_were_made_afterwards(tmp_path, name):
    """Half a file with a fresh hash: the decoders must notice by themselves."""
    path = write_episode(tmp_path, "one", make_episode())
    cut(path / name)
    sums = "".join(f"{folders.sha256(f)}  {f.name}\n" for f in path.iterdir() if f.name != "meta.json")
    (path / "SHA256SUMS").write_text(sums)
    with pytest.raises(EpisodeError, match=rf"{name} is damaged"):
        read_episode(path)


def test_a_video_of_another_length_or_size_is_named(tmp_path):
    """A video put in from another episode does not fit the meta data."""
    path = write_episode(tmp_path, "one", make_episode(6))
    for name, other, message in (
        ("long", make_episode(7), "has 7 frames, needs 6"),
        (
            "wide",
            make_episode(6, {"overhead": (40, 24), "side": (33, 17)}),
            "has frames of 40x24, needs 32x24",
        ),
    ):
        video = (write_episode(tmp_path, name, other) / "images_overhead.mkv").read_bytes()
        (path / "images_overhead.mkv").write_bytes(video)
        sums = "".join(f"{folders.sha256(f)}  {f.name}\n" for f in path.iterdir() if f.name != "meta.json")
        (path / "SHA256SUMS").write_text(sums)
        with pytest.raises(EpisodeError) as error:
            read_episode(path)
        assert message in str(error.value)


def test_pickles_are_not_opened(tmp_path):
    """An array file with Python objects could run code; it is refused, not loaded."""
    path = write_episode(tmp_path, "one", make_episode())
    np.savez(path / "arrays.npz", state=np.array([{"a": 1}], dtype=object))
    sums = "".join(f"{folders.sha256(f)}  {f.name}\n" for f in path.iterdir() if f.name != "meta.json")
    (path / "SHA256SUMS").write_text(sums)
    with pytest.raises(EpisodeError, match=r"arrays.npz is damaged \(Object arrays cannot be loaded"):
        read_episode(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "has version 2, this ambient-policy reads up to 1; upgrade ambient-policy"),
        ({"version": 0}, "version is 0: input should be 1"),
        (
            {"schema_name": "ambient_policy.bundle"},
            "says schema_name 'ambient_policy.bundle', needs 'ambient_policy.episode'",
        ),
        ({"outcom": "x"}, "outcom: unknown key; did you mean `outcome`?"),
        ({"steps": 0}, "steps is 0: input should be greater than 0"),
        ({"period_s": -1}, "period_s is -1: input should be greater than 0"),
        ({"cameras": {"a/b": {}}}, "string should match pattern"),
    ],
)
def test_meta_data_of_another_kind_is_named(tmp_path, change, message):
    """Version and schema come before the fields, so the first message is the useful one."""
    path = write_episode(tmp_path, "one", make_episode())
    file = path / "meta.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(EpisodeError) as error:
        read_episode(path)
    assert message in str(error.value)
    assert str(file) in str(error.value)


def test_unreadable_meta_data_and_paths_are_named(tmp_path):
    """A cut document, a missing one, a missing folder, a camera that is not there."""
    path = write_episode(tmp_path, "one", make_episode())
    with pytest.raises(EpisodeError, match="one has no camera wrist; it has overhead, side"):
        read_episode(path, cameras=["wrist"])
    cut(path / "meta.json")
    with pytest.raises(EpisodeError, match=r"meta.json is damaged .*; restore it or make it again"):
        read_episode(path)
    (path / "meta.json").unlink()
    with pytest.raises(
        EpisodeError, match=r"meta.json is missing, so this is not a whole ambient_policy.episode"
    ):
        read_episode(path)
    with pytest.raises(EpisodeError, match="no episode folder at .*two; check the path"):
        read_episode(tmp_path / "two")
