"""One episode, read without trusting any of it: what is there, what is damaged, and how that is known."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ambient_policy.data.findings import Finding
from ambient_policy.data.health import HealthLimits, image_findings, number_findings
from ambient_policy.episodes import (
    Episode,
    EpisodeMeta,
    disagreements,
    read_arrays,
    read_images,
    read_meta,
    read_sums,
)
from ambient_policy.errors import EpisodeError
from ambient_policy.folders import sha256

ASIDE = "`ambient-policy data repair` sets the episode aside; then collect its seed again"


@dataclass
class Examined:
    """What an episode folder turned out to hold.

    Attributes:
        meta, arrays: None when they cannot be read.
        content: digest of states and actions; equal for two copies of one demonstration.
        whole: every file was read as far as asked and agrees with the meta data.
        bad_cameras: those whose video is missing or damaged.
        sums_lost: SHA256SUMS is missing or unreadable, and everything else was read whole.
    """

    path: Path
    meta: EpisodeMeta | None = None
    arrays: dict[str, np.ndarray] | None = None
    content: str = ""
    findings: list[Finding] = field(default_factory=list)
    bad_cameras: list[str] = field(default_factory=list)
    sums_lost: bool = False

    @property
    def whole(self) -> bool:
        """Say whether nothing of it is broken; warnings may remain."""
        return all(finding.level == "warning" for finding in self.findings)


def examine(path: Path, *, images: bool, limits: HealthLimits) -> Examined:
    """Read an episode folder as far as it goes. `images`: also decode and look at every frame."""
    out = Examined(path)
    try:
        out.meta = read_meta(path)
    except EpisodeError as error:
        code = "not_whole" if not (path / "meta.json").exists() else "meta"
        _add(out, code, str(error), ASIDE)
        return out
    sums: dict[str, str] | None = None
    try:
        sums = read_sums(path)
    except EpisodeError as error:
        remedy = f"if all else is whole, `repair --rebuild-sums` writes them anew; or {ASIDE}"
        _add(out, "sums", str(error), remedy)
    sums = _check_sums(out, sums)
    try:
        out.arrays = read_arrays(path, None)
    except EpisodeError as error:
        _add(out, "arrays", str(error), ASIDE)
        return out
    _numbers(out, out.arrays, limits)
    _cameras(out, images or sums is None, limits)
    out.sums_lost = [f.code for f in out.findings if f.level == "error"] == ["sums"]
    return out


def _add(out: Examined, code: str, what: str, remedy: str) -> None:
    out.findings.append(Finding("error", code, out.path.name, what, remedy))


def _check_sums(out: Examined, sums: dict[str, str] | None) -> dict[str, str] | None:
    """Compare every data file with its sum; also find files that no sum or no meta data know."""
    assert out.meta is not None
    expected = {"arrays.npz", *(f"images_{camera}.mkv" for camera in out.meta.cameras)}
    present = {file.name for file in out.path.iterdir()} - {"meta.json", "SHA256SUMS"}
    for name in sorted(present - expected):
        what = f"{name} belongs to no part of an episode"
        remedy = "move the file away, unless a tool of yours wants it there"
        out.findings.append(Finding("warning", "stray", out.path.name, what, remedy))
    for name in sorted(expected - present):
        _missing(out, name)
    if sums is None:
        return None
    for name in sorted(expected & present):
        if name not in sums:
            _add(out, "sums", f"SHA256SUMS has no line for {name}", ASIDE)
        elif sums[name] != sha256(out.path / name):
            _add(out, "damaged", f"{name} has changed: its SHA-256 is not the one in SHA256SUMS", ASIDE)
            if name.startswith("images_"):
                out.bad_cameras.append(name.removeprefix("images_").removesuffix(".mkv"))
    return sums


def _missing(out: Examined, name: str) -> None:
    if not name.startswith("images_"):
        return  # read_arrays says so
    camera = name.removeprefix("images_").removesuffix(".mkv")
    out.bad_cameras.append(camera)
    remedy = f"{ASIDE}; or `repair --drop-camera {camera}` removes that camera from every episode"
    _add(out, "missing_camera", f"the video of camera {camera} is missing ({name})", remedy)


def _numbers(out: Examined, arrays: dict[str, np.ndarray], limits: HealthLimits) -> None:
    assert out.meta is not None
    for problem in disagreements(Episode(out.meta, arrays), set()):
        if "not finite" in problem and "`action`" in problem:
            remedy = f"{ASIDE}; or `repair --mask-nonfinite` marks those actions as not valid"
            _add(out, "not_finite", problem, remedy)
        else:
            _add(out, "not_finite" if "not finite" in problem else "shape", problem, ASIDE)
    if any(finding.code == "shape" for finding in out.findings):
        return
    kept = (np.ascontiguousarray(arrays[key]).tobytes() for key in ("state", "action"))
    out.content = hashlib.sha256(b"".join(kept)).hexdigest()
    out.findings += number_findings(out.path.name, out.meta, arrays, limits)


def _cameras(out: Examined, decode: bool, limits: HealthLimits) -> None:
    assert out.meta is not None
    assert out.arrays is not None
    for camera in out.meta.cameras if decode else ():
        if camera in out.bad_cameras:
            continue
        try:
            frames = read_images(out.path, out.meta, camera, None)
        except EpisodeError as error:
            out.bad_cameras.append(camera)
            _add(out, "damaged", str(error), ASIDE)
            continue
        out.findings += image_findings(out.path.name, out.meta, camera, frames, out.arrays, limits)
