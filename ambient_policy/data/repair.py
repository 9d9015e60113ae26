"""`ambient-policy data repair`: mend what can be mended without guessing, set the rest aside, delete
nothing."""

from __future__ import annotations

import datetime
import os
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ambient_policy.data import mend
from ambient_policy.data.examine import Examined, examine
from ambient_policy.data.findings import Finding
from ambient_policy.data.health import HealthLimits
from ambient_policy.data.validate import Dataset, look_over
from ambient_policy.errors import AmbientPolicyError, EpisodeError

LEFTOVER = re.compile(r"^\.(?P<name>.+?)\.partial-(?P<pid>\d+)$")


@dataclass(frozen=True, kw_only=True)
class RepairArgs:
    """Say what would be done to mend a dataset, and with --apply do it. Nothing is ever deleted."""

    data: Annotated[Path, tyro.conf.Positional]
    """A folder of episodes."""
    apply: bool = False
    """Do it; without this only the plan is printed."""
    quick: bool = False
    """Do not decode videos; sums alone decide."""
    drop_camera: tuple[str, ...] = ()
    """Remove these cameras from every episode."""
    mask_nonfinite: bool = False
    """Mark actions that are not finite as not valid, and hold the last finite one there."""
    rebuild_sums: bool = False
    """Write a lost SHA256SUMS anew, where arrays pass their own checksums and every video decodes whole. A
    single changed pixel in a video would go unseen."""
    duplicates: bool = False
    """Set the later copies of a demonstration aside."""
    settle_s: float = 60.0
    """A leftover that changed within this time may still be being written, and is left alone."""


@dataclass(frozen=True)
class Step:
    """One thing to do. `do` is None for what is only reported."""

    action: str
    where: str
    why: str
    do: Callable[[], None] | None


def main(argv: list[str]) -> int:
    """Run the command: 0 nothing left to do, 1 a plan was only printed or something could not be mended."""
    args = tyro.cli(RepairArgs, args=argv, prog="ambient-policy data repair")
    console = Console()
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    steps = plan(args, look_over(args.data, images=not args.quick), now_s=time.time(), when=when)
    if not steps:
        console.print(f"{args.data}: nothing to mend")
        return 0
    table = Table(box=None, pad_edge=False)
    for name in ("does" if args.apply else "would", "what", "why"):
        table.add_column(name, overflow="fold")
    for step in steps:
        table.add_row(Text(step.action), Text(step.where), Text(step.why))
    console.print(table)
    todo = [step for step in steps if step.do]
    left = len(steps) - len(todo)
    if not args.apply:
        console.print(
            f"{len(todo)} steps planned, {left} things left alone; run again with --apply to do it",
            soft_wrap=True,
        )
        return 1
    for step in todo:
        assert step.do is not None
        try:
            step.do()
        except (AmbientPolicyError, OSError) as error:
            raise EpisodeError(
                f"{step.where}: {step.action} failed ({error}); what was done before stays done, and "
                f"nothing is lost"
            ) from error
    said = ", ".join(f"{n} {action}" for action, n in Counter(step.action for step in todo).items())
    console.print(
        f"done: {said or 'nothing'}; {left} things left alone. What went is in {args.data}/quarantine",
        soft_wrap=True,
    )
    return 1 if left else 0


def plan(args: RepairArgs, dataset: Dataset, *, now_s: float, when: str) -> list[Step]:
    """List the steps in the order in which they have to be done."""
    names = {camera for e in dataset.episodes if e.meta for camera in e.meta.cameras}
    if unknown := sorted(set(args.drop_camera) - names):
        have = ", ".join(sorted(names)) or "none"
        raise EpisodeError(f"no episode has a camera {', '.join(unknown)}; --drop-camera knows {have}")
    steps = [_leftover(path, args, now_s, when) for path in dataset.leftovers]
    between: dict[str, list[Finding]] = {}
    for finding in dataset.findings:
        between.setdefault(finding.where, []).append(finding)
    for episode in dataset.episodes:
        steps += _episode(episode, between.get(episode.path.name, []), args, when)
    return steps


def _leftover(path: Path, args: RepairArgs, now_s: float, when: str) -> Step:
    found = LEFTOVER.match(path.name)
    inside = path.iterdir() if path.is_dir() else []
    age_s = now_s - max(p.stat().st_mtime for p in (path, *inside))
    busy = age_s < args.settle_s or (found and _alive(int(found["pid"])) and age_s < 3600)
    if busy:
        why = f"changed {age_s:.0f} s ago: its writer may be at work; wait, or use --settle-s 0 if none is"
        return Step("leave", path.name, why, None)
    if found and path.is_dir() and not path.with_name(found["name"]).exists():
        examined = examine(path, images=not args.quick, limits=HealthLimits())
        if examined.whole:
            why = "complete, with all its sums: only the last rename is missing"
            return Step("finish", path.name, why, lambda: mend.finish(path, found["name"]))
    why = "left by a writer that was killed; not complete"
    return Step("set aside", path.name, why, lambda: _aside(path, why, when))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _episode(episode: Examined, between: list[Finding], args: RepairArgs, when: str) -> list[Step]:
    """Decide on one episode: mend it, set it aside, or leave what needs a person."""
    path, name = episode.path, episode.path.name
    dropped = [c for c in args.drop_camera if episode.meta and c in episode.meta.cameras]
    errors = [f for f in [*episode.findings, *between] if f.level == "error"]
    curable = {id(f): _cure(f, episode, args) for f in errors}
    hopeless = [f for f in errors if curable[id(f)] is None]
    steps: list[Step] = []
    if any(f.code in ("period", "camera_size") for f in hopeless):
        told = [f for f in hopeless if f.code in ("period", "camera_size")]
        return [Step("leave", name, f"{f.what}; {f.remedy}", None) for f in told]
    if hopeless:
        why = "; ".join(dict.fromkeys(f.what for f in hopeless))
        return [Step("set aside", name, why, lambda: _aside(path, why, when))]
    cures = {cure for cure in curable.values() if cure}
    steps += [Step("leave", name, f"{f.what}; {f.remedy}", None) for f in errors if curable[id(f)] == "leave"]
    if "mask" in cures:
        why = "actions that are not finite become not valid"
        steps.append(
            Step("mask", name, why, lambda: _replace(path, why, when, mend.with_masked_actions(path)))
        )
    elif "sums" in cures and not dropped:
        said = "SHA256SUMS was lost; arrays pass their checksums and every video decodes whole"
        steps.append(Step("sums", name, said, lambda: _replace(path, said, when, mend.with_new_sums(path))))
    for camera in dropped:
        because = f"camera {camera} is removed from the dataset"
        steps.append(_drop(path, name, camera, because, when))
    return steps


def _drop(path: Path, name: str, camera: str, why: str, when: str) -> Step:
    return Step(
        f"drop {camera}", name, why, lambda: _replace(path, why, when, mend.without_camera(path, camera))
    )


def _cure(finding: Finding, episode: Examined, args: RepairArgs) -> str | None:
    """Name what cures a finding under these arguments; None if only setting aside is left."""
    if finding.code == "missing_camera" or (finding.code == "damaged" and "images_" in finding.what):
        bad = set(episode.bad_cameras) or {c for c in args.drop_camera if f"camera {c}" in finding.what}
        return "drop" if bad and bad <= set(args.drop_camera) else None
    if finding.code == "not_finite" and "`action`" in finding.what and args.mask_nonfinite:
        return "mask"
    if finding.code == "sums" and episode.sums_lost and args.rebuild_sums:
        return "sums"
    if finding.code == "duplicate" and not args.duplicates:
        return "leave"
    return None


def _aside(path: Path, why: str, when: str) -> None:
    mend.set_aside(path, why, when)


def _replace(path: Path, why: str, when: str, build: Callable[[Path], None]) -> None:
    mend.replace_episode(path, why, when, build)
