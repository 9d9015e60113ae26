"""What a run leaves behind: pictures that any viewer reads, and never the loss of an earlier run."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("pydrake")
from ambient_policy_ros.twin_record import fresh_folder, write_png

pytestmark = pytest.mark.sim


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (96, 128)])
def test_png_is_read_back_by_another_program(tmp_path: Path, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    write_png(tmp_path / "x.png", image)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "x.png"))[..., ::-1], image)


def test_an_earlier_run_is_moved_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "demo"
    assert fresh_folder(folder) == folder
    (folder / "trials.jsonl").write_text("{}\n")
    (folder / "stills").mkdir()
    assert fresh_folder(folder) == folder
    assert list(folder.iterdir()) == []
    (kept,) = (path for path in tmp_path.iterdir() if path != folder)
    assert (kept / "trials.jsonl").read_text() == "{}\n"
    assert str(kept) in capsys.readouterr().out
