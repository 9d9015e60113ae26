"""What an episode's numbers and images tell about its health, beyond being whole.

All of these are warnings: a black frame or a jump may be what the dataset is about.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ambient_policy.data.findings import Finding
from ambient_policy.episodes import EpisodeMeta

TIMES = ("time_s", "stamp_s", "timestamp", "timestamp_s")


@dataclass(frozen=True, kw_only=True)
class HealthLimits:
    """Where health ends."""

    max_speed_m_s: float | None = None
    """Fastest command; None takes the scenario's own limit, or where it has none five times what nine in ten
    of the episode's moves stay below."""
    frozen_steps: int = 5
    """So many frames in a row without any change ..."""
    frozen_travel_m: float = 0.01
    """... while the tool travels this far: the camera stands still, not the scene."""
    frozen_travel_riding_m: float = 0.25
    """The same for a camera that rides on the tool. Over a plain rendered table it sees nothing change: 148
    mm in 80 episodes of the twin."""
    black_level: float = 4.0
    """A frame whose brightest channel has a mean below this, of 255, is black."""


def number_findings(
    where: str, meta: EpisodeMeta, arrays: dict[str, np.ndarray], limits: HealthLimits
) -> list[Finding]:
    """Look at commands, marks and clocks."""
    out: list[Finding] = []

    def warn(code: str, what: str, remedy: str) -> None:
        out.append(Finding("warning", code, where, what, remedy))

    valid, action = arrays["valid"], arrays["action"]
    if not valid.any():
        warn("nothing_valid", "no action is marked as valid", "nothing can be learnt from it; leave it out")
    speed = np.linalg.norm(np.diff(action, axis=0), axis=1) / meta.period_s
    speed = np.where(valid[1:] & valid[:-1] & np.isfinite(speed), speed, 0.0)
    limit = limits.max_speed_m_s or _limit(meta.scenario, "max_speed_m_s")
    if limit is None:
        limit = 5 * float(np.quantile(speed[speed > 0], 0.9)) if (speed > 0).any() else 0.0
    if (fast := np.flatnonzero(speed > limit * 1.001)).size:
        warn(
            "jump",
            f"{fast.size} valid commands move faster than {limit:.3g} m/s; the fastest {speed.max():.3g} m/s "
            f"at "
            f"step {int(speed.argmax()) + 1}",
            "check units and the recorder; --max-speed-m-s moves the limit",
        )
    low, high = _limit(meta.scenario, "workspace_min"), _limit(meta.scenario, "workspace_max")
    if low is not None and high is not None and np.shape(low) == np.shape(high) == (2,):
        outside = valid & ((action < np.asarray(low) - 1e-9) | (action > np.asarray(high) + 1e-9)).any(axis=1)
        if outside.any():
            at = f"{int(outside.sum())} valid commands leave the scenario's workspace, from step "
            f"{outside.argmax()}"
            warn("workspace", at, "check frames and units")
    for key, array in arrays.items():
        checked_elsewhere = ("state", "action", "privileged_slider_pose")
        if array.dtype.kind == "f" and key not in checked_elsewhere and not np.isfinite(array).all():
            warn(
                "not_finite_extra",
                f"array `{key}` has values that are not finite",
                "do not learn from it",
            )
        if key in TIMES and array.ndim == 1:
            out += _clock(where, key, array, meta.period_s)
    return out


def _clock(where: str, key: str, times_s: np.ndarray, period_s: float) -> list[Finding]:
    steps = np.diff(times_s)
    if len(steps) and (not np.isfinite(times_s).all() or (steps <= 0).any()):
        what = f"`{key}` does not increase at step {int(np.argmax(~(steps > 0))) + 1}"
        return [
            Finding("warning", "clock", where, what, "the recorder's clock jumped; check the order of steps")
        ]
    if len(steps) and np.abs(steps - period_s).max() > period_s / 2:
        worst = int(np.abs(steps - period_s).argmax())
        what = f"`{key}` has a step of {steps[worst]:.3g} s at {worst + 1}; the period is {period_s:g} s"
        return [
            Finding("warning", "clock", where, what, "frames were lost or held; resample, or leave it out")
        ]
    return []


def image_findings(
    where: str,
    meta: EpisodeMeta,
    camera: str,
    frames: np.ndarray,
    arrays: dict[str, np.ndarray],
    limits: HealthLimits,
) -> list[Finding]:
    """Find black frames, and frames (N, h, w, 3) that do not change although the tool moves."""
    out = []
    black = np.flatnonzero(frames.mean(axis=(1, 2)).max(axis=-1) < limits.black_level)
    if black.size:
        what = f"{black.size} of {len(frames)} frames of {camera} are black, from step {black[0]}"
        out.append(Finding("warning", "black", where, what, "check the camera; leave the episode out"))
    same = np.array([np.array_equal(a, b) for a, b in pairwise(frames)], bool)
    start, longest = longest_run(same)
    if longest >= limits.frozen_steps:
        travel_m = np.linalg.norm(np.diff(arrays["state"][start : start + longest + 1], axis=0), axis=1).sum()
        entry = (meta.scenario.get("cameras") or {}).get(camera)
        riding = isinstance(entry, dict) and entry.get("parent") not in (None, "world")
        if travel_m > (limits.frozen_travel_riding_m if riding else limits.frozen_travel_m):
            what = (
                f"{camera} stands still for {longest} steps from step {start}, while the tool travels "
                f"{travel_m * 1000:.0f} mm"
            )
            out.append(Finding("warning", "frozen", where, what, "check the camera; leave the episode out"))
    return out


def longest_run(mask: np.ndarray) -> tuple[int, int]:
    """Give start and length of the longest run of True in a (N,) mask; (0, 0) if there is none."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    starts, ends = edges[::2], edges[1::2]
    if not len(starts):
        return 0, 0
    best = int((ends - starts).argmax())
    return int(starts[best]), int(ends[best] - starts[best])


def _limit(scenario: dict[str, Any], key: str) -> Any:
    limits = scenario.get("limits")
    return limits.get(key) if isinstance(limits, dict) else None
