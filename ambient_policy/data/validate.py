"""`ambient-policy data validate`: read every file of a dataset, and the dataset against itself."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from ambient_policy.data.examine import Examined, examine
from ambient_policy.data.findings import Finding, show
from ambient_policy.data.health import HealthLimits
from ambient_policy.data.looping import in_order
from ambient_policy.errors import EpisodeError

QUARANTINE = "quarantine"
NOT_EPISODES = {QUARANTINE, "recipes", "plots"}


@dataclass(frozen=True, kw_only=True)
class ValidateArgs:
    """Read every file of one or more datasets and list what is wrong; exit status 1 if anything is."""

    data: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of episodes."""
    quick: bool = False
    """Do not decode the videos: sums are compared, frames are not looked at."""
    strict: bool = False
    """Warnings count as errors."""
    json: Path | None = None
    """Also write the findings to this file."""
    limits: Annotated[HealthLimits, tyro.conf.arg(name="")] = field(default_factory=HealthLimits)


@dataclass
class Dataset:
    """A folder of episodes after a look at all of it.

    Attributes:
        findings: about the folder and between episodes; those of one episode are in its `Examined`.
        leftovers: what killed writers left behind.
    """

    root: Path
    episodes: list[Examined]
    findings: list[Finding] = field(default_factory=list)
    leftovers: list[Path] = field(default_factory=list)

    @property
    def everything(self) -> list[Finding]:
        """All findings, the folder's first."""
        return [*self.findings, *(finding for episode in self.episodes for finding in episode.findings)]


def main(argv: list[str]) -> int:
    """Run the command; 0 sound, 1 not."""
    args = tyro.cli(ValidateArgs, args=argv, prog="ambient-policy data validate")
    console, worst, all_findings = Console(), 0, []
    for root in args.data:
        started = time.monotonic()
        dataset = look_over(root, images=not args.quick, limits=args.limits)
        findings = dataset.everything
        show(findings, console)
        count = Counter(finding.level for finding in findings)
        bad = sum(not episode.whole for episode in dataset.episodes)
        steps = sum(e.meta.steps for e in dataset.episodes if e.meta)
        how = "every file read, sums compared" + ("" if args.quick else ", every frame decoded")
        console.print(
            f"{root}: {len(dataset.episodes)} episodes, {steps} steps; {bad} damaged, {count['error']} "
            f"errors, "
            f"{count['warning']} warnings ({how}; {time.monotonic() - started:.1f} s)",
            soft_wrap=True,
        )
        worst = max(worst, int(count["error"] > 0 or (args.strict and count["warning"] > 0)))
        all_findings += [{"data": str(root), **asdict(finding)} for finding in findings]
    if args.json:
        args.json.write_text(json.dumps(all_findings, indent=1) + "\n", encoding="utf-8")
    return worst


def look_over(root: Path, *, images: bool, limits: HealthLimits | None = None) -> Dataset:
    """Examine every folder under `root` and compare the episodes with each other.

    Raises:
        EpisodeError: there is no such folder, or nothing in it that could be an episode.
    """
    if not root.is_dir():
        raise EpisodeError(f"no folder of episodes at {root}; check the path")
    if (root / "meta.json").is_file():
        raise EpisodeError(f"{root} is one episode, not a folder of them; give {root.parent}")
    limits = limits or HealthLimits()
    leftovers = sorted(p for p in root.iterdir() if ".partial" in p.name)
    folders = sorted(
        p
        for p in root.iterdir()
        if p.is_dir() and not p.name.startswith(".") and p.name not in NOT_EPISODES and p not in leftovers
    )
    if not folders and not leftovers:
        raise EpisodeError(f"nothing under {root} is an episode; make some with `ambient-policy collect`")
    episodes = list(
        in_order(lambda path: examine(path, images=images, limits=limits), folders, f"reading {root.name}")
    )
    found = [_leftover(path) for path in leftovers]
    found += [*_alike(episodes), *_twice(episodes)]
    return Dataset(root, episodes, found, leftovers)


def _leftover(path: Path) -> Finding:
    what = "was left by a writer that was killed, or is being written at this moment"
    remedy = "`ambient-policy data repair` finishes it if it is complete, and sets it aside otherwise"
    return Finding("error", "leftover", path.name, what, remedy)


def _alike(episodes: list[Examined]) -> list[Finding]:
    """Compare period, cameras and task with those of most episodes."""
    known = [e for e in episodes if e.meta]
    if not known:
        return []
    out = []
    period_s = _usual(e.meta.period_s for e in known if e.meta)
    task = _usual(e.meta.task for e in known if e.meta)
    cameras = set(_usual(tuple(sorted(e.meta.cameras)) for e in known if e.meta))
    models = {
        c: _usual(e.meta.cameras[c] for e in known if e.meta and c in e.meta.cameras) for c in sorted(cameras)
    }
    for episode in known:
        meta, where = episode.meta, episode.path.name
        assert meta is not None
        if meta.period_s != period_s:
            what = f"runs at {meta.period_s:g} s a step, most others at {period_s:g} s"
            out.append(Finding("error", "period", where, what, "keep rates in folders of their own"))
        if meta.task != task:
            what = f"has the task {meta.task!r}, most others {task!r}"
            out.append(Finding("warning", "task", where, what, "keep tasks in folders of their own"))
        for camera in sorted(cameras - set(meta.cameras)):
            remedy = (
                "`repair` sets the episode aside; or `repair --drop-camera "
                f"{camera}` removes that camera from every episode"
            )
            out.append(Finding("error", "missing_camera", where, f"has no camera {camera}", remedy))
        for camera in sorted(set(meta.cameras) - cameras):
            remedy = f"`repair --drop-camera {camera}` removes it"
            what = f"has a camera {camera} that most others lack"
            out.append(Finding("warning", "extra_camera", where, what, remedy))
        for camera in sorted(cameras & set(meta.cameras)):
            mine, usual = meta.cameras[camera], models[camera]
            if (mine.width, mine.height) != (usual.width, usual.height):
                what = f"{camera} is {mine.width}x{mine.height}, in most others {usual.width}x{usual.height}"
                out.append(Finding("error", "camera_size", where, what, "keep sizes in folders of their own"))
            elif mine != usual:
                what = f"the intrinsics of {camera} differ from those of most others"
                out.append(Finding("warning", "intrinsics", where, what, "check which camera recorded it"))
    return out


def _usual(values):  # type: ignore[no-untyped-def]  # of any hashable or comparable kind
    """Give the most frequent value; pydantic models are compared by their JSON."""
    listed = list(values)
    keys = [v.model_dump_json() if hasattr(v, "model_dump_json") else v for v in listed]
    return listed[keys.index(Counter(keys).most_common(1)[0][0])]


def _twice(episodes: list[Examined]) -> list[Finding]:
    """Find demonstrations that are there twice, and seeds that were run twice."""
    by_content: dict[str, list[str]] = defaultdict(list)
    by_seed: dict[tuple[object, ...], list[str]] = defaultdict(list)
    for episode in episodes:
        if not episode.content or episode.meta is None:
            continue
        by_content[episode.content].append(episode.path.name)
        meta = episode.meta
        by_seed[(meta.source, meta.operator, meta.task, meta.scenario.get("name"), meta.seed)].append(
            episode.path.name
        )
    out = []
    for names in by_content.values():
        for name in names[1:]:
            what = f"has exactly the states and actions of {names[0]}"
            remedy = "`repair --duplicates` sets the later copy aside"
            out.append(Finding("error", "duplicate", name, what, remedy))
    copies = {f.where for f in out}
    for key, names in by_seed.items():
        for name in names[1:]:
            if name not in copies:
                what = f"has seed {key[-1]} of the same source, operator and scenario as {names[0]}"
                remedy = "check that the two are meant to be there; they count twice in training"
                out.append(Finding("warning", "same_seed", name, what, remedy))
    return out
