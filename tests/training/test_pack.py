"""`ambient-policy data pack` builds the very cache that training opens, and builds it once."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from ambient_policy.data import cli
from tests.core.helpers_data import make_dataset
from training.cache import open_or_build
from training.config import load_config
from training.errors import TrainingError


def test_packed_is_what_training_opens(tmp_path, capsys):
    """The same folder, found and not built again."""
    data = make_dataset(tmp_path / "set", 2, sizes={"overhead": (32, 24), "wrist": (32, 24)})
    assert cli.main(["pack", str(data)]) == 0
    said = capsys.readouterr().out
    (cache,) = (p for p in (tmp_path / "set.cache").iterdir() if p.is_dir())
    assert "2 episodes, 48 steps" in said
    assert f"cache {cache.name}" in said
    written = (cache / "cache.json").stat().st_mtime_ns
    opened = open_or_build(data, load_config("pushing").cameras)
    assert opened.meta.key == cache.name
    assert (cache / "cache.json").stat().st_mtime_ns == written
    assert cli.main(["pack", str(data)]) == 0
    assert (cache / "cache.json").stat().st_mtime_ns == written


def test_a_dataset_that_does_not_fit_the_config_is_told_early(tmp_path):
    data = make_dataset(tmp_path / "set", 1)
    with pytest.raises(TrainingError, match="has no camera wrist"):
        cli.main(["pack", str(data)])
    with pytest.raises(TrainingError, match="no dataset was named"):
        cli.main(["pack"])
