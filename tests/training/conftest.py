"""A tiny task that can be learnt: a bright square is the object, and the tool is told to move towards it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ambient_policy.episodes import CameraModel, Episode, EpisodeMeta, write_episode
from training.config import TrainConfig, load_config

WIDTH, HEIGHT = 32, 24


def draw_image(rng: np.random.Generator, xy: np.ndarray) -> np.ndarray:
    """Paint the object at world xy, in +-0.25 m, as a 4 px square on noise."""
    image = rng.integers(0, 60, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    column = int((xy[0] + 0.25) / 0.5 * (WIDTH - 4))
    row = int((xy[1] + 0.25) / 0.5 * (HEIGHT - 4))
    image[row : row + 4, column : column + 4] = (220, 180, 40)
    return image


def make_episode(seed: int, steps: int = 20, *, pose: bool = True) -> Episode:
    """Make one demonstration: the tool goes 5 % of the way to the object at every step."""
    rng = np.random.default_rng(seed)
    slider = np.array([*rng.uniform(-0.2, 0.2, 2), rng.uniform(-3, 3)])
    state = np.empty((steps, 2))
    action = np.empty((steps, 2))
    tool = rng.uniform(-0.2, 0.2, 2)
    for i in range(steps):
        state[i] = tool
        tool = tool + 0.05 * (slider[:2] - tool)
        action[i] = tool
    valid = np.ones(steps, dtype=bool)
    cameras = {
        name: CameraModel(
            width=WIDTH, height=HEIGHT, fx=30.0, fy=30.0, cx=15.5, cy=11.5, frame_id=f"{name}_optical"
        )
        for name in ("overhead", "wrist")
    }
    images = {name: np.stack([draw_image(rng, slider[:2]) for _ in range(steps)]) for name in cameras}
    meta = EpisodeMeta(
        commit="test",
        task="pushing",
        source="target",
        scenario={},
        seed=seed,
        operator="test",
        outcome="success",
        period_s=0.1,
        steps=steps,
        cameras=cameras,
    )
    arrays = {
        "state": state,
        "action": action,
        "valid": valid,
    }
    if pose:
        arrays["privileged_slider_pose"] = np.tile(slider, (steps, 1))
    return Episode(meta, arrays, images)


def write_episodes(root: Path, count: int, first_seed: int = 0, **keywords: object) -> Path:
    """Write a folder of demonstrations."""
    for seed in range(first_seed, first_seed + count):
        write_episode(root, f"ep{seed:04d}", make_episode(seed, **keywords))  # type: ignore[arg-type]
    return root


@pytest.fixture(scope="session")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder of ten demonstrations; its packed cache appears beside it once somebody needed it."""
    return write_episodes(tmp_path_factory.mktemp("data") / "demos", 10)


@pytest.fixture
def write() -> Callable[..., Path]:
    """Give the writer of demonstrations, for tests that need folders of their own."""
    return write_episodes


@pytest.fixture
def smoke(demos: Path) -> TrainConfig:
    """Give the shipped smoke config on those demonstrations."""
    return load_config("smoke", (str(demos),))


@pytest.fixture
def tiny(demos: Path) -> Callable[..., TrainConfig]:
    """Give a maker of small configs: `tiny("key.path=value", ...)`."""
    return lambda *settings: load_config("smoke", (str(demos),), settings)
