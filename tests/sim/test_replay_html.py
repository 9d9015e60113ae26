"""An episode as a page: whole in itself, every body in it, and each where the episode says it was."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ambient_policy.episodes import Episode, EpisodeMeta, write_episode
from ambient_policy.errors import AmbientPolicyError, EpisodeError
from sim.replay_html import main, on_table, replay_html, write_replay
from sim.scenario import load_scenario

pytestmark = pytest.mark.sim
msgpack = pytest.importorskip("msgpack")  # comes with Ray; the page itself does not need it

STEPS, PERIOD_S = 20, 0.1
TIME = np.linspace(0, 1, STEPS)
SLIDER = np.column_stack([0.5 + 0.1 * TIME, -0.05 + 0 * TIME, np.pi / 2 * TIME])
TOOL = np.column_stack([0.4 + 0.2 * TIME, 0.1 - 0.1 * TIME])


def write(root: Path, **changes: object) -> Path:
    arrays = {
        "state": TOOL,
        "action": TOOL,
        "valid": np.ones(STEPS, bool),
        "privileged_slider_pose": SLIDER,
    }
    meta = {
        "commit": "test",
        "task": "pushing",
        "source": "target",
        "scenario": load_scenario("pushing").model_dump(mode="json"),
        "seed": 7,
        "operator": "nobody",
        "outcome": "a < b",
        "period_s": PERIOD_S,
        "steps": STEPS,
        "cameras": {},
    }
    arrays |= {k: v for k, v in changes.items() if k in arrays}
    meta |= {k: v for k, v in changes.items() if k in meta}
    arrays = {k: v for k, v in arrays.items() if v is not None}
    return write_episode(root, "ep", Episode(EpisodeMeta.model_validate(meta), arrays))


def commands(html: str) -> list[dict]:
    """Read what the page tells its viewer: messages in base64, as Meshcat embeds them."""
    blocks = re.findall(r'data:application/octet-binary;base64,([A-Za-z0-9+/=]+)"', html)
    return [msgpack.unpackb(base64.b64decode(block), strict_map_key=False) for block in blocks]


def keys_of(html: str, path: str, name: str) -> list[tuple[float, list[float]]]:
    """Return (frame, value) of the animated property of one body."""
    (animation,) = [c for c in commands(html) if c["type"] == "set_animation"]
    (clip,) = [a["clip"] for a in animation["animations"] if a["path"] == path]
    (track,) = [t for t in clip["tracks"] if t["name"] == f".{name}"]
    return [(key["time"], key["value"]) for key in track["keys"]]


def test_every_pose_of_the_episode_is_in_the_page(tmp_path: Path) -> None:
    episode = write(tmp_path)
    out = tmp_path / "pages" / "replay.html"
    assert main([str(episode), "--out", str(out)]) == 0
    html = out.read_text()
    assert "<title>ep: pushing, target, seed 7, a &lt; b</title>" in html
    places = keys_of(html, "/drake/visualizer/slider/slider", "position")
    turns = keys_of(html, "/drake/visualizer/slider/slider", "quaternion")
    tips = keys_of(html, "/drake/visualizer/tool/tool", "position")
    assert len(places) == len(tips) == STEPS
    height_m = load_scenario("pushing").slider.height_m
    for i in (0, 7, STEPS - 1):
        assert places[i][1] == pytest.approx([*SLIDER[i, :2], height_m / 2], abs=1e-9)
        yaw = 2 * np.arctan2(turns[i][1][2], turns[i][1][3])  # three.js: x, y, z, w
        assert yaw == pytest.approx(SLIDER[i, 2], abs=1e-9)
        assert tips[i][1][:2] == pytest.approx(TOOL[i], abs=1e-9)
    assert not list(out.parent.glob(".replay*")), "nothing half-written is left"


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    html = write_replay(write(tmp_path), tmp_path / "replay.html").read_text()
    assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(?!data:)[^"]', html)
    lines = {c["path"] for c in commands(html) if c["type"] == "set_object"}
    assert {"/drake/goal", "/drake/path of the tool"} <= lines


def test_an_arm_is_drawn_too() -> None:
    scenario = load_scenario("pushing", {"arm": {}, "physics": {"time_step_s": 0.005}})
    html = replay_html(scenario, SLIDER[:3], np.tile([0.587, 0.15], (3, 1)), PERIOD_S, "arm")
    bodies = {c["path"] for c in commands(html) if c["type"] == "set_object"}
    assert sum("arm_link" in body for body in bodies) >= 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"privileged_slider_pose": None},
            "has no array `privileged_slider_pose`.*only episodes of the twin",
        ),
        ({"scenario": {"name": "other", "wall_m": 1.0}}, "wall_m: unknown key"),
    ],
)
def test_what_cannot_be_replayed_is_refused(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(AmbientPolicyError, match=f"(?s){message}"):
        write_replay(write(tmp_path, **changes), tmp_path / "replay.html")
    assert not (tmp_path / "replay.html").exists()


def test_no_episode_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EpisodeError, match="no episode folder"):
        write_replay(tmp_path / "nothing", tmp_path / "replay.html")


def test_lines_lie_just_above_the_table() -> None:
    np.testing.assert_allclose(on_table(np.array([[1.0, 2.0], [3.0, 4.0]])), [[1, 3], [2, 4], [0.001] * 2])


@pytest.mark.slow
def test_a_browser_shows_the_bodies(tmp_path: Path) -> None:
    """Where a headless chromium is at hand: its picture holds the black T and the red rod."""
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("chromium is not installed")
    page = write_replay(write(tmp_path), tmp_path / "replay.html")
    picture = tmp_path / "page.png"
    options = ["--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    options += ["--window-size=600,450", "--timeout=100000", "--virtual-time-budget=8000"]
    command = [browser, *options, f"--user-data-dir={tmp_path}/profile", f"--screenshot={picture}"]
    subprocess.run([*command, page.as_uri()], capture_output=True, timeout=150, check=True)
    rgb = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    black = rgb.max(axis=2) < 40
    black[:20] = False  # the controls at the top
    red = (rgb[..., 0] > 150) & (rgb[..., 1] < 110) & (rgb[..., 2] < 90)
    assert black.sum() > 300, "the T"
    assert red.sum() > 100, "the rod"
