"""The noise levels on the axes of `ambient-policy analyse` are those of training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ambient_policy.analyse_spectra import SpectraArgs, analyse_spectra
from tests.training.conftest import write_episodes
from training.config import load_config
from training.data import load_data

pytestmark = pytest.mark.train


def test_one_unit_of_the_analysis_is_one_unit_of_training(tmp_path: Path) -> None:
    """The same millimetres, from the same windows of the clean source, held-out episodes included."""
    folders = [write_episodes(tmp_path / "clean", 4), write_episodes(tmp_path / "corrupt", 3, first_seed=100)]
    settings = ("pretrain.steps=0", "aux_pose_weight=0")
    config = load_config("smoke", tuple(map(str, folders)), settings, ("cotrain",))
    config = config.model_copy(update={"cameras": {}})
    data = load_data(config, torch.device("cpu"))
    args = SpectraArgs(
        data=tuple(folders), out=tmp_path, horizon=config.windows.horizon, segment_steps=12, band_hz=(0.8, 5)
    )
    report = analyse_spectra(args)
    scale = data.normalization.action.scale
    assert report.action_unit_m == pytest.approx(float(scale[0]), rel=1e-6)
    assert report.sources[0].windows == data.train.counts[0] + data.validation.counts[0]
