"""What a run leaves behind is never the loss of an earlier run."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("pydrake")
from ambient_policy_ros.twin_record import fresh_folder

pytestmark = pytest.mark.sim


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
