"""`ambient-policy data merge`: several folders of episodes as one, without a second copy on the disk."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from ambient_policy.data.looping import in_order
from ambient_policy.data.mend import link
from ambient_policy.data.validate import look_over
from ambient_policy.episodes import list_episodes
from ambient_policy.errors import EpisodeError
from ambient_policy.folders import sha256, whole_folder

RECIPE = "collect.json"


@dataclass(frozen=True, kw_only=True)
class MergeArgs:
    """Join shards or sources into one dataset. Files are linked, not copied, where the disk allows it."""

    data: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of episodes; two or more."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """New folder."""
    prefix: bool = False
    """Put each folder's name before its episodes' names, for folders that number their episodes alike."""


def main(argv: list[str]) -> int:
    """Run the command and check what it made."""
    args = tyro.cli(MergeArgs, args=argv, prog="ambient-policy data merge")
    console = Console(soft_wrap=True)
    taken, same = merge(args.data, args.out, prefix=args.prefix)
    console.print(
        f"{args.out}: {taken} episodes from {len(args.data)} folders; {same} were there twice, alike"
    )
    dataset = look_over(args.out, images=False)
    errors = [finding for finding in dataset.everything if finding.level == "error"]
    console.print(
        f"validated: {len(dataset.episodes)} episodes, {len(errors)} errors"
        + (f"; see `ambient-policy data validate {args.out}`" if errors else "")
    )
    return int(bool(errors))


def merge(roots: Sequence[Path], out: Path, *, prefix: bool = False) -> tuple[int, int]:
    """Join `roots` in `out`; return how many episodes it has, and how many were skipped as equal copies.

    Kept beside the episodes: every folder's recipe (`recipes/NAME.collect.json`), the notes on failed seeds,
    and, where all recipes agree, `collect.json`, so that `collect` can go on there.

    Raises:
        EpisodeError: `out` exists, two folders use a name for different episodes, or an episode is not whole.
    """
    if len(roots) < 2:
        raise EpisodeError(f"merge was given {len(roots)} folder; needs two or more")
    if len({root.resolve() for root in roots}) < len(roots):
        raise EpisodeError("merge was given one folder twice")
    if out.exists():
        raise EpisodeError(f"{out} is already there; choose another --out")
    labels = _labels(roots)
    chosen: dict[str, Path] = {}
    notes: dict[str, Path] = {}
    same, clashes = 0, []
    for root, label in zip(roots, labels, strict=True):
        found = list_episodes(root)
        if not found:
            raise EpisodeError(
                f"no whole episode under {root}; `ambient-policy data validate {root}` says why"
            )
        for path in found:
            name = f"{label}_{path.name}" if prefix else path.name
            if name not in chosen:
                chosen[name] = path
            elif _digest(chosen[name]) == _digest(path):
                same += 1
            else:
                clashes.append(f"  {name}: {chosen[name]} and {path}")
        for note in sorted(root.glob("*.failed.json")):
            notes.setdefault(f"{label}_{note.name}" if prefix else note.name, note)
    if clashes:
        listed = "\n".join(clashes[:10] + ([f"  and {len(clashes) - 10} more"] if len(clashes) > 10 else []))
        raise EpisodeError(
            f"{len(clashes)} names stand for different episodes:\n{listed}\n--prefix puts the folder's "
            f"name before "
            "each"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(out) as folder:

        def place(name: str) -> None:
            target = folder / name
            target.mkdir()
            for file in sorted(chosen[name].iterdir()):
                link(file, target)

        for _ in in_order(place, sorted(chosen), "linking"):
            pass
        for name, note in notes.items():
            if name.split(".")[0] not in chosen:
                (folder / name).write_bytes(note.read_bytes())
        _keep_recipes(roots, labels, folder)
        os.sync()
    return len(chosen), same


def _keep_recipes(roots: Sequence[Path], labels: Sequence[str], folder: Path) -> None:
    recipes: list[dict[str, Any] | None] = []
    for root, label in zip(roots, labels, strict=True):
        for file in sorted([root / RECIPE, *root.glob("recipes/*.json")]):
            if file.is_file():
                (folder / "recipes").mkdir(exist_ok=True)
                name = (
                    f"{label}.{file.name}"
                    if file.name == RECIPE
                    else f"{label}.{file.name.split('.', 1)[-1]}"
                )
                number, target = 1, folder / "recipes" / name
                while target.exists():
                    number += 1
                    target = folder / "recipes" / f"{label}.{number}.{RECIPE}"
                target.write_bytes(file.read_bytes())
        whole = root / RECIPE
        recipes.append(json.loads(whole.read_text(encoding="utf-8")) if whole.is_file() else None)
    # The commit may differ, as it may when `collect` goes on.
    keys = [json.dumps({**r, "commit": ""}, sort_keys=True) if r else None for r in recipes]
    if keys[0] is not None and len(set(keys)) == 1:
        (folder / RECIPE).write_bytes((roots[0] / RECIPE).read_bytes())


def _labels(roots: Sequence[Path]) -> list[str]:
    """Give each folder a short name of its own."""
    names = [root.resolve().name for root in roots]
    if len(set(names)) == len(names):
        return names
    return [f"{root.resolve().parent.name}_{name}" for root, name in zip(roots, names, strict=True)]


def _digest(path: Path) -> tuple[bytes, str]:
    return (path / "SHA256SUMS").read_bytes(), sha256(path / "meta.json")
