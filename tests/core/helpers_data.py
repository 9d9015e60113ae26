"""Small datasets, and ways to damage them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ambient_policy.episodes import CameraModel, Episode, EpisodeMeta, write_episode

SIZES = {"overhead": (24, 16), "side": (17, 11)}
SCENARIO: dict[str, Any] = {
    "name": "bench",
    "cameras": {
        "overhead": {"parent": "world", "rpy": [-2.55, -0.035, 1.54624], "xyz": [0.91, -0.075, 0.45]},
        "side": {"parent": "flange", "rpy": [0, 0, 0], "xyz": [0, 0, 0]},
    },
    "pusher": {"tip_height_m": 0.015},
    "task": {"goal": [0.587, -0.0355, 0.0]},
    "limits": {"workspace_min": [0.0, -1.0], "workspace_max": [1.2, 1.0], "max_speed_m_s": 0.5},
}


def smooth_episode(
    seed: int = 0, steps: int = 24, sizes: dict[str, tuple[int, int]] | None = None, **changes: Any
) -> Episode:
    """Make a healthy episode: a slow curve, images that change with every step."""
    rng = np.random.default_rng(seed)
    sizes = SIZES if sizes is None else sizes
    phase, t = rng.uniform(0, 2 * np.pi), np.arange(steps + 1) * 0.1
    path = np.stack([0.6 + 0.1 * np.cos(phase + t), 0.1 * np.sin(phase + t)], axis=1)
    path += np.cumsum(rng.normal(scale=1e-4, size=path.shape), axis=0)
    meta = EpisodeMeta(
        **{
            "commit": "abc",
            "task": "pushing",
            "source": "target",
            "scenario": SCENARIO,
            "seed": seed,
            "operator": "script",
            "outcome": "success",
            "period_s": 0.1,
            "steps": steps,
            "cameras": {
                name: CameraModel(
                    width=w, height=h, fx=30, fy=31, cx=w / 2, cy=h / 2, frame_id=f"{name}_optical_frame"
                )
                for name, (w, h) in sizes.items()
            },
            "truth": {"sigma_m": 0.01},
            **changes,
        }
    )
    arrays = {
        "state": path[:-1].copy(),
        "action": path[1:].copy(),
        "valid": np.arange(steps) > 1,
        "privileged_slider_pose": rng.normal(scale=0.05, size=(steps, 3)) + (0.6, 0, 0),
        "action_kind": rng.integers(0, 3, steps),
        "wrench": rng.normal(size=(steps, 2, 3)).astype(np.float32),
        "gripper": rng.normal(size=(steps, 1)),
    }
    images = {n: rng.integers(0, 256, (steps, h, w, 3), dtype=np.uint8) for n, (w, h) in sizes.items()}
    return Episode(meta, arrays, images)


def make_dataset(root: Path, count: int = 4, *, first_seed: int = 0, **changes: Any) -> Path:
    """Write `count` healthy episodes named as `collect` names them."""
    for seed in range(first_seed, first_seed + count):
        write_episode(root, f"{seed:06d}", smooth_episode(seed, **changes))
    return root


def tree(root: Path) -> dict[str, bytes]:
    """Read every file below `root`, to compare two folders byte by byte."""
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def contents(root: Path) -> set[bytes]:
    """Return the distinct file contents below `root`, to show that none was lost."""
    return set(tree(root).values())


def spoil_action(folder: Path, step: int, value: float, array: str = "action") -> None:
    """Put a value into an array as a recorder without checks would: the sums are right, the number is not."""
    from ambient_policy.episodes import write_sums

    with np.load(folder / "arrays.npz") as stored:
        arrays = {key: stored[key] for key in stored.files}
    arrays[array][step, 0] = value
    np.savez(folder / "arrays.npz", **arrays)  # type: ignore[arg-type]
    (folder / "SHA256SUMS").unlink()
    write_sums(folder)


def edit_meta(folder: Path, **changes: Any) -> None:
    """Change fields of meta.json."""
    data = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**data, **changes}))
