"""The command line finds rooms, says how to install missing ones, and shows users no traceback."""

from __future__ import annotations

import subprocess
import sys
import types
from importlib.metadata import EntryPoint

import numpy as np
import pytest

from ambient_policy import cli, inspect
from ambient_policy.episodes import write_episode
from ambient_policy.errors import AmbientPolicyError, BundleError, EpisodeError
from tests.core.test_episodes import make_episode
from tests.helpers_bundle import make_bundle


@pytest.fixture
def rooms(monkeypatch):
    """Return a dict to put commands in: name -> main(argv)."""
    module = types.ModuleType("room_for_tests")
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def entries(group):
        assert group == "ambient_policy.commands"
        return [
            EntryPoint(name, f"{module.__name__}:{name}", group)
            for name in vars(module)
            if not name.startswith("_")
        ]

    monkeypatch.setattr(cli, "entry_points", entries)
    return vars(module)


def raising(error):
    """Make a command that raises."""

    def command(argv):
        raise error

    return command


def test_a_command_gets_its_arguments_and_gives_its_status(rooms):
    """Everything after the name is the room's business."""
    seen = []
    rooms["report"] = lambda argv: seen.append(argv) or 7
    assert cli.main(["report", "--out", "x", "-h"]) == 7
    assert seen == [["--out", "x", "-h"]]


def test_expected_failures_are_one_message_and_status_2(rooms, capsys):
    """The message, the command, no traceback; standard output stays clean for pipes."""
    rooms["report"] = raising(EpisodeError("a file is damaged; do this"))
    assert cli.main(["report"]) == 2
    captured = capsys.readouterr()
    assert captured.err == "ambient-policy report: a file is damaged; do this\n"
    assert captured.out == ""


def test_bugs_keep_their_traceback(rooms):
    """What nobody expected must be seen whole."""
    rooms["report"] = raising(KeyError("oops"))
    with pytest.raises(KeyError):
        cli.main(["report"])
    rooms["report"] = raising(ModuleNotFoundError("No module named 'nmupy'", name="nmupy"))
    with pytest.raises(ModuleNotFoundError):
        cli.main(["report"])


def test_an_interrupt_is_status_130(rooms, capsys):
    """As shells expect."""
    rooms["report"] = raising(KeyboardInterrupt())
    assert cli.main(["report"]) == 130
    assert "ambient-policy report: interrupted" in capsys.readouterr().err


def test_a_room_that_is_not_installed_names_the_line_that_installs_it(rooms, monkeypatch, capsys):
    """Without torch: before importing anything, and when a module is imported late."""
    monkeypatch.setattr(cli, "_missing", lambda known: [m for m in known.needs if m == "torch"])
    rooms["train"] = rooms["report"] = lambda argv: 0
    assert cli.main(["train"]) == 2
    said = capsys.readouterr().err
    assert "not installed here (torch is missing); from the repository's root run: pip install" in said
    assert "-c constraints.txt -e '.[train]'" in said
    monkeypatch.setattr(cli, "_missing", lambda known: [])
    rooms["train"] = raising(ModuleNotFoundError("No module named 'torch._C'", name="torch._C"))
    assert cli.main(["train"]) == 2
    assert "-e '.[train]'" in capsys.readouterr().err


def test_a_known_command_without_an_entry_point_names_its_line(rooms, capsys):
    """The ROS package brings its own entry point; without that package there is none."""
    assert cli.main(["launch"]) == 2
    assert "pip install --no-deps -e ros2_ws/src/ambient_policy" in capsys.readouterr().err


def test_unknown_commands_name_the_nearest(rooms, capsys):
    """Among all known ones, installed or not, and those of other packages."""
    rooms["calibrate"] = lambda argv: 0
    assert cli.main(["evalute"]) == 2
    assert "unknown command; did you mean `evaluate`?" in capsys.readouterr().err
    assert cli.main(["calibrat"]) == 2
    assert "did you mean `calibrate`?" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"], ["help"]])
def test_help_lists_what_is_ready_and_what_is_not(rooms, monkeypatch, capsys, argv):
    """With the install line under each absent command, and commands of other packages too."""
    monkeypatch.setattr(cli, "_missing", lambda known: [m for m in known.needs if m == "pydrake"])
    rooms["report"] = rooms["collect"] = rooms["calibrate"] = lambda argv: 0
    assert cli.main(argv) == 0
    ready, absent = capsys.readouterr().out.split("not installed here")
    assert "report            make a page" in ready
    assert "calibrate         from room_for_tests:calibrate" in ready
    assert "collect           record" in absent
    assert "-e '.[sim]'" in absent
    assert "collect" not in ready


def test_the_installed_script_runs():
    """The real entry point, in a process of its own: version, and this room's own commands."""
    run = [sys.executable, "-m", "ambient_policy.cli"]
    version = subprocess.run([*run, "--version"], capture_output=True, text=True, check=True)
    assert version.stdout == "ambient-policy 0.1.0\n"
    nowhere = subprocess.run([*run, "inspect", "/nowhere"], capture_output=True, text=True)
    assert nowhere.returncode == 2
    assert nowhere.stderr.startswith("ambient-policy inspect: /nowhere is no bundle")
    assert "Traceback" not in nowhere.stderr


def test_importing_the_core_and_its_command_line_is_light():
    """A robot starts it often: no array, codec, plotting or inference library comes along."""
    heavy = ["av", "cv2", "matplotlib", "numpy", "onnxruntime", "pydrake", "rclpy", "scipy", "torch", "tyro"]
    script = f"import sys, ambient_policy.cli; print(sorted(set({heavy}) & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_inspect_tells_a_bundle_from_an_episode(tmp_path, capsys):
    """And says what is in them, units in brackets included."""
    make_bundle(tmp_path / "policy", cameras=("overhead", "side"))
    assert inspect.main([str(tmp_path / "policy")]) == 0
    said = capsys.readouterr().out
    for part in (
        "policy bundle hand-made",
        "overhead 16x12, side 16x12",
        "x, y [m]",
        "ambient-policy evaluate",
    ):
        assert part in said
    write_episode(tmp_path / "data", "one", make_episode())
    write_episode(tmp_path / "data", "two", make_episode(9, {}))
    assert inspect.main([str(tmp_path / "data" / "one")]) == 0
    assert "6 steps of 0.1 s = 0.6 s" in capsys.readouterr().out
    assert inspect.main([str(tmp_path / "data")]) == 0
    said = capsys.readouterr().out
    assert "2 episodes" in said
    assert "15 steps" in said


def test_inspect_refuses_what_is_damaged(tmp_path):
    """The same checks that a robot or a training run would make."""
    bundle = make_bundle(tmp_path / "policy")
    (bundle.folder / "encoder.onnx").unlink()
    with pytest.raises(BundleError, match="encoder.onnx is missing"):
        inspect.main([str(bundle.folder)])
    episode = write_episode(tmp_path / "data", "one", make_episode())
    np.savez(episode / "arrays.npz", state=np.zeros(3))
    with pytest.raises(EpisodeError, match="arrays.npz is damaged"):
        inspect.main([str(tmp_path / "data")])
    with pytest.raises(AmbientPolicyError, match="give a folder that `ambient-policy export`"):
        inspect.main([str(tmp_path)])
