"""`ambient-policy inspect PATH`: say what a bundle or an episode is, check all of it, and what to do next."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ambient_policy.bundle import MANIFEST, load_bundle
from ambient_policy.episodes import list_episodes, read_episode
from ambient_policy.errors import AmbientPolicyError
from ambient_policy.manifest import Manifest


@dataclasses.dataclass(frozen=True, kw_only=True)
class InspectConfig:
    """Say what a bundle, an episode or a folder of episodes is, and check every file in it."""

    path: Annotated[Path, tyro.conf.Positional]
    """A bundle's folder, an episode's folder, or a folder of episodes."""


def main(argv: list[str]) -> int:
    """Check what lies at a path; what is damaged raises an AmbientPolicyError that lists it all."""
    config = tyro.cli(InspectConfig, args=argv, prog="ambient-policy inspect")
    path, console = config.path, Console()
    if (path / MANIFEST).exists():
        _bundle(path, console)
    elif (path / "meta.json").exists():
        _episode(path, console)
    elif path.is_dir() and list_episodes(path):
        _episodes(path, console)
    else:
        raise AmbientPolicyError(
            f"{path} is no bundle (no {MANIFEST}), no episode (no meta.json), and holds no episodes; give a "
            "folder that `ambient-policy export` or `ambient-policy collect` wrote"
        )
    return 0


def _bundle(path: Path, console: Console) -> None:
    manifest = load_bundle(path).manifest
    action, sampler = manifest.action, manifest.sampler
    sizes = {name: (path / name).stat().st_size / 1e6 for name in manifest.files}
    rows = {
        "made": f"{manifest.created}, commit {manifest.commit}",
        "cameras": ", ".join(f"{k} {c.width}x{c.height}" for k, c in manifest.cameras.items()),
        "state": f"{', '.join(manifest.state.names)} [{manifest.state.unit}], {manifest.obs_steps} steps",
        "action": f"{', '.join(action.names)} [{action.unit}], relative to {action.relative_to}",
        "chunk": f"{action.horizon} actions of {action.period_s:g} s, {action.execute_steps} carried out",
        "sampler": f"{sampler.method}, sigma {' > '.join(f'{s:.3g}' for s in sampler.sigmas)}",
        "parity": ", ".join(f"{k} {v:.1e}" for k, v in manifest.parity.items()) or "not recorded",
        "weights": manifest.weights + quantised_note(manifest),
        "files": ", ".join(f"{name} {size:.2f} MB" for name, size in sizes.items()),
    }
    _print(console, f"policy bundle {manifest.name}", rows)
    console.print(Text(f"whole: schema, hashes and graphs agree. Next: ambient-policy evaluate {path}"))


def quantised_note(manifest: Manifest) -> str:
    """Say how far a quantised bundle is from its original; empty for one that is not."""
    if manifest.quantised is None:
        return ""
    apart = manifest.quantised.apart
    measured = "" if apart is None else f", its chunks {apart.rms:.1e} {manifest.action.unit} (rms) away"
    return f" in the sampler, made from bundle {manifest.quantised.origin[:12]}{measured}"


def _episode(path: Path, console: Console) -> None:
    episode = read_episode(path)
    meta, valid = episode.meta, episode.arrays["valid"]
    travel_m = float(np.linalg.norm(np.diff(episode.arrays["state"], axis=0), axis=1).sum())
    rows = {
        "task": f"{meta.task}, source {meta.source}, operator {meta.operator}, seed {meta.seed}",
        "outcome": meta.outcome,
        "made by": f"commit {meta.commit}",
        "length": f"{meta.steps} steps of {meta.period_s:g} s = {meta.steps * meta.period_s:.1f} s",
        "tool": f"{travel_m:.3f} m travelled, {int(valid.sum())} of {meta.steps} actions usable",
        "cameras": ", ".join(f"{k} {c.width}x{c.height}" for k, c in meta.cameras.items()) or "none",
        "arrays": ", ".join(f"{k} {v.shape}" for k, v in episode.arrays.items()),
    }
    _print(console, f"episode {path.name}", rows)
    console.print("whole: meta data, arrays and every image decoded. The videos play in any player.")


def _episodes(path: Path, console: Console) -> None:
    paths = list_episodes(path)
    outcomes: dict[str, int] = {}
    steps, hours = 0, 0.0
    for each in paths:
        meta = read_episode(each).meta
        outcomes[f"{meta.source}: {meta.outcome}"] = outcomes.get(f"{meta.source}: {meta.outcome}", 0) + 1
        steps, hours = steps + meta.steps, hours + meta.steps * meta.period_s / 3600
    rows = {"length": f"{steps} steps, {hours:.2f} h", **{k: str(v) for k, v in sorted(outcomes.items())}}
    _print(console, f"{len(paths)} episodes in {path}", rows)
    console.print("whole: every file of every episode was read. Next: ambient-policy train")


def _print(console: Console, title: str, rows: Mapping[str, str]) -> None:
    table = Table(title=title, title_justify="left", show_header=False, box=None)
    for key, value in rows.items():
        table.add_row(key, Text(value))  # Text, because rich would take `[m]` for markup and drop it
    console.print(table)
