"""Every way in which a dataset is damaged is told apart, and mended without losing a byte, or refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ambient_policy.data import cli
from ambient_policy.data.repair import RepairArgs, plan
from ambient_policy.data.validate import look_over
from ambient_policy.episodes import list_episodes, read_episode, write_episode
from ambient_policy.errors import AmbientPolicyError, EpisodeError
from tests.core.helpers_data import contents, edit_meta, make_dataset, smooth_episode, spoil_action, tree

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Write it once: every file is flushed to the disk, which is most of the time."""
    return make_dataset(tmp_path_factory.mktemp("made") / "set")


@pytest.fixture
def data(tmp_path, made):
    return Path(shutil.copytree(made, tmp_path / "set"))


def codes(root, images=True):
    """Return {(where, code)} of every finding."""
    return {(f.where, f.code) for f in look_over(root, images=images).everything}


def errors(root):
    return {(f.where, f.code) for f in look_over(root, images=True).everything if f.level == "error"}


def repair(root, **options):
    """Plan and apply; return {(where, action)}."""
    args = RepairArgs(data=root, **{"settle_s": 0.0, **options})
    steps = plan(args, look_over(root, images=True), now_s=time.time() + 1, when="now")
    for step in steps:
        if step.do:
            step.do()
    return {(step.where, step.action) for step in steps}


def test_a_sound_dataset_has_no_finding(data, capsys):
    """Status 0, and `repair` has nothing to do."""
    assert codes(data) == set()
    assert cli.main(["validate", str(data)]) == 0
    assert "4 episodes, 96 steps; 0 damaged, 0 errors, 0 warnings" in capsys.readouterr().out
    before = tree(data)
    assert cli.main(["repair", str(data), "--apply"]) == 0
    assert tree(data) == before


def truncate(file, keep=0.6):
    with file.open("r+b") as stream:
        stream.truncate(int(file.stat().st_size * keep))


DAMAGE = {
    "truncated video": (lambda e: truncate(e / "images_side.mkv"), "damaged", "images_side.mkv has changed"),
    "truncated arrays": (lambda e: truncate(e / "arrays.npz"), "arrays", "arrays.npz is damaged"),
    "flipped bit": (
        lambda e: (e / "arrays.npz").write_bytes(
            (b := bytearray((e / "arrays.npz").read_bytes()), b.__setitem__(-200, b[-200] ^ 1))[0]
        ),
        "damaged",
        "arrays.npz has changed: its SHA-256",
    ),
    "truncated meta": (lambda e: truncate(e / "meta.json"), "meta", "meta.json is damaged"),
    "no meta": (lambda e: (e / "meta.json").unlink(), "not_whole", "meta.json is missing"),
    "missing video": (
        lambda e: (e / "images_side.mkv").unlink(),
        "missing_camera",
        "the video of camera side is missing",
    ),
    "missing sums": (lambda e: (e / "SHA256SUMS").unlink(), "sums", "SHA256SUMS is damaged"),
    "nan action": (
        lambda e: spoil_action(e, 3, np.nan),
        "not_finite",
        "`action` has values that are not finite",
    ),
    "inf state": (lambda e: spoil_action(e, 3, np.inf, "state"), "not_finite", "`state` has values"),
    "one step short": (lambda e: edit_meta(e, steps=23), "shape", "needs float64 (23, 2)"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named_and_set_aside_without_losing_a_byte(data, capsys, damage):
    """Diagnosed with its file; the other episodes stay; every byte is still there; then the set is sound."""
    break_it, code, said = DAMAGE[damage]
    break_it(data / "000002")
    before = contents(data)
    assert ("000002", code) in errors(data)
    assert cli.main(["validate", str(data)]) == 1
    report = data.parent / "findings.json"
    cli.main(["validate", str(data), "--json", str(report)])
    finding = next(f for f in json.loads(report.read_text()) if f["code"] == code)
    assert said in finding["what"]
    assert "repair" in finding["remedy"]
    capsys.readouterr()

    assert cli.main(["repair", str(data)]) == 1, "without --apply it only plans"
    assert "would" in capsys.readouterr().out
    assert contents(data) == before
    assert not (data / "quarantine").exists()

    assert cli.main(["repair", str(data), "--apply"]) == 0
    assert [p.name for p in list_episodes(data)] == ["000000", "000001", "000003"]
    assert before <= contents(data)
    (note,) = map(json.loads, (data / "quarantine" / "reasons.jsonl").read_text().splitlines())
    assert note["from"] == note["now"] == "000002"
    assert said in note["why"]
    assert codes(data) == set()


def test_a_writer_killed_mid_write_leaves_something_that_is_told_and_set_aside(data):
    """A real kill inside the write of the second video."""
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from ambient_policy import episodes
from tests.core.helpers_data import smooth_episode
write = episodes.write_video
def die(path, *rest):
    if "side" in path.name:
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, *rest)
episodes.write_video = die
episodes.write_episode({str(data)!r}, "000009", smooth_episode(9))
"""
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (leftover,) = data.glob(".000009.partial-*")
    assert errors(data) == {(leftover.name, "leftover")}
    assert (leftover.name, "leave") in repair(data, settle_s=60.0), "it may still be being written"
    before = contents(data)
    assert repair(data) == {(leftover.name, "set aside")}
    assert before <= contents(data)
    assert codes(data) == set()


def test_a_leftover_that_lacks_only_its_name_is_finished(data):
    """Killed between the last flush and the rename: every sum is right, so nothing is guessed."""
    episode = smooth_episode(9)
    write_episode(data, "000009", episode)
    whole = tree(data)
    (data / "000009").rename(data / ".000009.partial-4194305")  # above any process id
    assert errors(data) == {(".000009.partial-4194305", "leftover")}
    assert repair(data) == {(".000009.partial-4194305", "finish")}
    assert tree(data) == whole


def test_what_a_living_process_writes_is_left_alone(data):
    """This test is that process."""
    mine = data / f".000009.partial-{os.getpid()}"
    mine.mkdir()
    assert repair(data) == {(mine.name, "leave")}
    assert mine.is_dir()


def test_masked_actions_stay_finite_and_are_not_learnt_from(data):
    """Only with the flag; the original is kept; everything else is as it was."""
    before = read_episode(data / "000001")
    for step in (0, 7, 8):
        spoil_action(data / "000001", step, np.nan)
    broken = contents(data)
    assert repair(data, mask_nonfinite=True) == {("000001", "mask")}
    after = read_episode(data / "000001")
    bad = np.isin(np.arange(24), (0, 7, 8))
    assert not after.arrays["valid"][bad].any()
    np.testing.assert_array_equal(after.arrays["valid"][~bad], before.arrays["valid"][~bad])
    np.testing.assert_array_equal(after.arrays["action"][~bad], before.arrays["action"][~bad])
    np.testing.assert_array_equal(after.arrays["action"][7:9], before.arrays["action"][[6, 6]])
    np.testing.assert_array_equal(after.arrays["action"][0], before.arrays["action"][1])
    for camera in before.images:
        np.testing.assert_array_equal(after.images[camera], before.images[camera])
    assert broken <= contents(data)
    assert codes(data) == set()


def test_a_camera_is_dropped_everywhere_at_once(data):
    """The remedy for a camera that is missing in one episode, when the others are worth keeping."""
    (data / "000001" / "images_side.mkv").unlink()
    before, state = contents(data), read_episode(data / "000000").arrays["state"]
    assert {action for _, action in repair(data, drop_camera=("side",))} == {"drop side"}
    for path in list_episodes(data):
        assert list(read_episode(path).meta.cameras) == ["overhead"]
    assert len(list_episodes(data)) == 4
    np.testing.assert_array_equal(read_episode(data / "000000").arrays["state"], state)
    assert before <= contents(data)
    assert codes(data) == set()
    with pytest.raises(EpisodeError, match="no episode has a camera top; --drop-camera knows overhead"):
        repair(data, drop_camera=("top",))


def test_lost_sums_are_rebuilt_only_when_asked_and_only_over_whole_files(data):
    """A damaged video without a sum is not given a new one."""
    for name in ("000001", "000002"):
        (data / name / "SHA256SUMS").unlink()
    truncate(data / "000002" / "images_side.mkv")
    assert repair(data, rebuild_sums=True) == {("000001", "sums"), ("000002", "set aside")}
    assert codes(data) == set()
    checked = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=data / "000001", capture_output=True)
    assert checked.returncode == 0


def test_an_episode_that_lacks_a_camera_or_has_another_rate_or_size(data):
    """Found by comparing with most; rates and sizes are for a person to sort."""
    write_episode(data, "000007", smooth_episode(7, sizes={"overhead": (24, 16)}))
    write_episode(data, "000008", smooth_episode(8, period_s=0.05))
    write_episode(data, "000009", smooth_episode(9, sizes={"overhead": (24, 16), "side": (16, 11)}))
    assert errors(data) == {("000007", "missing_camera"), ("000008", "period"), ("000009", "camera_size")}
    assert repair(data) == {("000007", "set aside"), ("000008", "leave"), ("000009", "leave")}
    assert [p.name for p in list_episodes(data)][-2:] == ["000008", "000009"]


def test_a_demonstration_that_is_there_twice(data):
    """The same bytes under two names are an error; the same seed with other numbers is a warning."""
    shutil.copytree(data / "000000", data / "000010")
    write_episode(data, "000011", _with_seed(50, 1))
    assert codes(data) == {("000010", "duplicate"), ("000011", "same_seed")}
    assert repair(data) == {("000010", "leave")}
    assert repair(data, duplicates=True) == {("000010", "set aside")}
    assert codes(data) == {("000011", "same_seed")}


def _with_seed(drawn: int, said: int):
    episode = smooth_episode(drawn)
    return type(episode)(episode.meta.model_copy(update={"seed": said}), episode.arrays, episode.images)


def spoilt(change):
    episode = smooth_episode(20)
    change(episode)
    return episode


HEALTH = {
    "jump": (
        lambda e: e.arrays["action"].__setitem__((10, 0), 0.9),
        "jump",
        "valid commands move faster than 0.5 m/s",
    ),
    "workspace": (
        lambda e: e.arrays["action"].__setitem__((slice(None), 0), e.arrays["action"][:, 0] + 0.8),
        "workspace",
        "leave the scenario's workspace, from step",
    ),
    "black": (
        lambda e: e.images["overhead"].__setitem__(slice(5, 9), 0),
        "black",
        "4 of 24 frames of overhead are black, from step 5",
    ),
    "frozen": (
        lambda e: e.images["overhead"].__setitem__(slice(8, 20), e.images["overhead"][8]),
        "frozen",
        "overhead stands still for 11 steps from step 8",
    ),
    "nothing valid": (
        lambda e: e.arrays["valid"].__setitem__(slice(None), False),
        "nothing_valid",
        "no action is marked",
    ),
    "clock back": (
        lambda e: e.arrays.update(time_s=np.where(np.arange(24) == 6, 0.0, np.arange(24) * 0.1)),
        "clock",
        "`time_s` does not increase at step 6",
    ),
    "clock gap": (
        lambda e: e.arrays.update(time_s=np.arange(24) * 0.1 + (np.arange(24) > 4) * 0.3),
        "clock",
        "`time_s` has a step of 0.4 s at 5",
    ),
}


@pytest.mark.parametrize("what", HEALTH)
def test_ill_health_is_a_warning_with_its_step(data, what):
    """None of these makes data unusable by itself, so the status stays 0 unless asked."""
    change, code, said = HEALTH[what]
    write_episode(data, "000020", spoilt(change))
    found = [f for f in look_over(data, images=True).everything if f.code == code]
    assert [f.where for f in found] == ["000020"]
    assert said in found[0].what
    assert cli.main(["validate", str(data)]) == 0
    assert cli.main(["validate", str(data), "--strict"]) == 1


def test_a_jump_is_told_without_a_scenario_too(data):
    """By the episode's own moves: a fast task is not a jump, a glitch is."""
    for seed, glitch in ((20, False), (21, True)):
        episode = smooth_episode(seed, 60, scenario={})
        for key in ("state", "action"):
            episode.arrays[key] *= 30  # 3 m/s
        if glitch:
            episode.arrays["action"][30, 1] += 5.0
        write_episode(data, f"{seed:06d}", episode)
    assert codes(data) == {("000021", "jump")}


def test_a_still_scene_is_not_a_frozen_camera(data):
    """Equal frames while the tool rests are what a camera should give."""

    def rest(episode):
        episode.images["overhead"][:] = episode.images["overhead"][0]
        episode.arrays["state"][:] = episode.arrays["state"][0]

    write_episode(data, "000020", spoilt(rest))
    assert codes(data) == set()


def test_a_folder_that_is_no_dataset_is_refused(tmp_path, data):
    with pytest.raises(EpisodeError, match="no folder of episodes at"):
        look_over(tmp_path / "nowhere", images=False)
    with pytest.raises(EpisodeError, match="is one episode, not a folder of them"):
        look_over(data / "000000", images=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(EpisodeError, match="nothing under .* is an episode"):
        look_over(tmp_path / "empty", images=False)
    with pytest.raises(AmbientPolicyError, match="data valdate: unknown command; did you mean `validate`"):
        cli.main(["valdate"])


def test_the_help_names_every_command(capsys):
    assert cli.main([]) == 0
    said = capsys.readouterr().out
    for name in ("inspect", "validate", "repair", "pack", "merge", "import", "export"):
        assert f"  {name} " in said
