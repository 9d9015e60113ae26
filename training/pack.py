"""`ambient-policy data pack`: build the cache that training reads ahead of time.

Training builds it by itself when it first needs it. Packing beforehand is for a machine with many cores and
no accelerator, and for telling early that a dataset does not fit a config.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from training.cache import open_or_build
from training.config import load_config
from training.errors import TrainingError


@dataclass(frozen=True, kw_only=True)
class PackArgs:
    """Pack datasets into the memory-mapped cache of one training config."""

    data: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of episodes."""
    config: str = "pushing"
    """A shipped config, or a YAML file: it says which cameras are kept, and at which size."""
    cache_root: Path | None = None
    """Where caches are kept; beside each folder as FOLDER.cache by default, where `train` looks."""


def main(argv: list[str]) -> int:
    """Run the command; a cache that is there already is checked and kept."""
    args = tyro.cli(PackArgs, args=argv, prog="ambient-policy data pack")
    if not args.data:
        raise TrainingError("no dataset was named; give one folder of episodes or more")
    console = Console(highlight=False)
    cameras = load_config(args.config).cameras
    for path in args.data:
        cache = open_or_build(path, cameras, args.cache_root)
        size = sum(array.nbytes for array in (*cache.images.values(), *cache.lowdim.values()))
        names = (
            ", ".join(f"{name} {c.width}x{c.height}" for name, c in cache.meta.cameras.items()) or "no camera"
        )
        console.print(
            f"{path}: {len(cache.meta.episodes)} episodes, {cache.meta.steps} steps, {names}, "
            f"{size / 1e6:.1f} MB, "
            f"cache {cache.meta.key}",
            soft_wrap=True,
        )
    return 0
