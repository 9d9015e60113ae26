"""The page of a dataset: points land where a camera sees them, and every dataset is in it."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ambient_policy.data import cli
from ambient_policy.data.overview import choose, paths_of, read_sources
from ambient_policy.data.projection import rotation, to_pixels, world_camera
from ambient_policy.episodes import write_episode
from ambient_policy.errors import EpisodeError
from tests.core.helpers_data import make_dataset, smooth_episode


def test_rotation_is_roll_then_pitch_then_yaw_about_fixed_axes():
    """Against SciPy."""
    for angles in np.random.default_rng(0).uniform(-np.pi, np.pi, (20, 3)):
        np.testing.assert_allclose(
            rotation(*angles), Rotation.from_euler("xyz", angles).as_matrix(), atol=1e-12
        )


def test_pixels_are_those_of_opencv():
    """Independent implementation, with the camera of the scenario; points behind it are not drawn."""
    episode = smooth_episode()
    model, X_WC = world_camera(episode.meta, "overhead")
    points = np.random.default_rng(1).uniform((0.3, -0.3, 0.0), (0.8, 0.3, 0.1), (50, 3))
    R_CW, t = X_WC[:3, :3].T, -X_WC[:3, :3].T @ X_WC[:3, 3]
    matrix = np.array([[model.fx, 0, model.cx], [0, model.fy, model.cy], [0, 0, 1.0]])
    expected = cv2.projectPoints(points, cv2.Rodrigues(R_CW)[0], t, matrix, None)[0][:, 0]
    np.testing.assert_allclose(to_pixels(points, model, X_WC), expected, atol=1e-6)
    behind = X_WC[:3, 3] - X_WC[:3, 2]
    assert np.isnan(to_pixels(behind[None], model, X_WC)).all()
    assert world_camera(episode.meta, "side") is None, "it rides on the tool"


def test_paths_are_drawn_from_the_start_to_the_end_of_an_episode():
    """Ends of the polyline are those of the tool at its tip's height; half a pixel is SVG's."""
    episode = smooth_episode(steps=200)
    model, X_WC = world_camera(episode.meta, "overhead")
    (kind, text), (other, _) = paths_of(episode, "overhead")
    assert (kind, other) == ("tool", "object")
    drawn = np.array([pair.split(",") for pair in text.split()], float)
    assert len(drawn) == 60
    ends = np.column_stack([episode.arrays["state"][[0, -1]], [0.015, 0.015]])
    np.testing.assert_allclose(drawn[[0, -1]], to_pixels(ends, model, X_WC) + 0.5, atol=0.051)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    clean = make_dataset(root / "clean", 5, steps=60)
    other = root / "corrupt <b>"
    for seed in range(7):
        outcome = "timeout" if seed in (2, 5) else "success"
        write_episode(other, f"{seed:06d}", smooth_episode(seed, 60 + seed, outcome=outcome, source="source"))
    return clean, other


def test_the_page_is_whole_and_shows_every_dataset(sets, tmp_path, capsys):
    """No link leads out of it; names are escaped; outcomes, figures and the pictures asked for are there."""
    page = tmp_path / "page.html"
    command = [
        "inspect",
        str(sets[0]),
        str(sets[1]),
        "--out",
        str(page),
        "--thumbnails",
        "4",
        "--segment-steps",
        "16",
    ]
    assert cli.main(command) == 0
    assert "open" in capsys.readouterr().out
    text = page.read_text()
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    assert "corrupt &lt;b&gt;" in text
    assert "<b>" not in text.replace("corrupt &lt;b&gt;", "")
    assert "success 5, timeout 2" in text
    assert text.count("<figcaption>") == 4 + 4
    assert text.count("data:image/jpeg") == 2 * (1 + 4 * 4)
    assert len(re.findall("<svg[^>]*xmlns", text)) == 3, "outcomes, spectra, starts"
    assert "falls as f^-" in text
    assert "sigma_m 0.01" in text
    assert not list(tmp_path.glob(".*")), "nothing half-written beside it"


def test_episodes_without_success_are_pictured_first(sets):
    (source,) = read_sources((sets[1],))
    assert choose(source, 6)[:2] == [2, 5]
    assert sorted(choose(source, 99)) == list(range(7))
    assert len(choose(source, 3)) == 3


def test_a_set_without_cameras_or_poses_still_has_a_page(tmp_path):
    """Another task's data: no object, no camera, no scenario to speak of, too short for a spectrum."""
    for seed in range(3):
        episode = smooth_episode(seed, 6, sizes={}, scenario={"limits": 3, "cameras": [], "task": None})
        del episode.arrays["privileged_slider_pose"]
        write_episode(tmp_path / "bare", f"{seed}", episode)
    assert cli.main(["inspect", str(tmp_path / "bare")]) == 0
    text = (tmp_path / "bare" / "inspect.html").read_text()
    assert "These episodes have no cameras." in text
    assert "No episode is long enough for a spectrum." in text
    assert cli.main(["validate", str(tmp_path / "bare")]) == 0


def test_a_folder_without_episodes_has_no_page(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(EpisodeError, match="no whole episode under .*data validate"):
        read_sources((tmp_path / "empty",))
