"""`ambient-policy data inspect`: one page that shows what a dataset is, or several side by side."""

from __future__ import annotations

import base64
import datetime
import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console

from ambient_policy import provenance
from ambient_policy.data.looping import in_order
from ambient_policy.data.projection import tip_height_m, to_pixels, world_camera
from ambient_policy.episodes import Episode, list_episodes, read_episode
from ambient_policy.errors import ConfigError, EpisodeError

POSE = "privileged_slider_pose"
DRAWN_PATHS = 300
"""Trajectories on one picture; more are taken evenly. They make most of the page's size besides pictures."""
PATH_POINTS = 60
THUMBNAIL_PX = 150


@dataclass(frozen=True, kw_only=True)
class InspectArgs:
    """Draw a page of one or more datasets: episodes, trajectories on the start image, spectra, starts."""

    data: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of episodes; several are compared."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """The page; by default inspect.html in the first folder."""
    thumbnails: int = 48
    """Episodes pictured for each dataset, taken evenly; those that did not succeed are pictured first."""
    segment_steps: int = 32
    """Length of the segments whose spectra are averaged."""
    seed: int = 0
    """For the error of the spectral slope."""


@dataclass(frozen=True)
class Source:
    """One dataset: the numbers of all its episodes, and no image."""

    root: Path
    label: str
    paths: list[Path]
    episodes: list[Episode]

    @property
    def seconds(self) -> list[float]:
        """Length of every episode [s]."""
        return [episode.meta.steps * episode.meta.period_s for episode in self.episodes]


def main(argv: list[str]) -> int:
    """Run the command."""
    args = tyro.cli(InspectArgs, args=argv, prog="ambient-policy data inspect")
    made = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    page = write_overview(args, made=made)
    size_mb = page.stat().st_size / 1e6
    Console(highlight=False).print(
        f"page written ({size_mb:.1f} MB); open {page} in a browser", soft_wrap=True
    )
    return 0


def write_overview(args: InspectArgs, *, made: str) -> Path:
    """Write the page and return its path; it is whole in itself.

    Raises:
        EpisodeError: a folder has no whole episode, or one of them is damaged.
    """
    from ambient_policy.data import overview_plots as plots
    from ambient_policy.page import write_page

    sources = read_sources(args.data)
    page = args.out or args.data[0] / "inspect.html"
    rng = np.random.default_rng(args.seed)
    write_page(
        page,
        "overview.html.j2",
        "ambient_policy.data",
        title=", ".join(source.label for source in sources),
        made=made,
        commit=provenance.commit(),
        rows=facts(sources),
        labels=[source.label for source in sources],
        outcomes=plots.outcome_figure(sources),
        spectra=plots.spectra_figure(sources, args.segment_steps, rng),
        starts=plots.plane_figure(sources),
        views=[view(source, args.thumbnails) for source in sources],
    )
    return page


def read_sources(roots: tuple[Path, ...]) -> list[Source]:
    """Read the numbers of every episode; labels are folder names, made longer where two are alike."""
    if not roots:
        raise ConfigError("no dataset was named; give one folder of episodes or more")
    names = [root.resolve().name for root in roots]
    out = []
    for root, name in zip(roots, names, strict=True):
        paths = list_episodes(root)
        if not paths:
            raise EpisodeError(
                f"no whole episode under {root}; `ambient-policy data validate {root}` says why"
            )
        label = name if names.count(name) == 1 else str(root)
        read = in_order(lambda path: read_episode(path, cameras=()), paths, f"reading {label}")
        out.append(Source(root, label, paths, list(read)))
    return out


def facts(sources: list[Source]) -> list[tuple[str, list[str]]]:
    """Return (what, one text for each dataset)."""

    def each(values: Any) -> str:
        return ", ".join(f"{k}" for k, _ in Counter(values).most_common(6))

    columns = []
    for s in sources:
        metas = [e.meta for e in s.episodes]
        steps = sum(m.steps for m in metas)
        usable = sum(int(e.arrays["valid"].sum()) for e in s.episodes)
        outcomes = Counter(m.outcome for m in metas)
        speeds = np.concatenate(
            [np.linalg.norm(np.diff(e.arrays["state"], axis=0), axis=1) / e.meta.period_s for e in s.episodes]
        )
        size = sum(file.stat().st_size for path in s.paths for file in path.iterdir())
        columns.append(
            {
                "episodes": f"{len(metas)}",
                "steps": f"{steps}, {usable / steps:.1%} of the actions usable",
                "length": f"{sum(s.seconds) / 3600:.2f} h; median episode {np.median(s.seconds):.1f} s",
                "outcomes": ", ".join(f"{k} {n}" for k, n in outcomes.most_common()),
                "period": each(f"{m.period_s:g} s" for m in metas),
                "cameras": each(
                    f"{k} {c.width}x{c.height}" for m in metas for k, c in sorted(m.cameras.items())
                )
                or "none",
                "task, population": each(f"{m.task}, {m.source}" for m in metas),
                "operator": each(m.operator for m in metas),
                "scenario": each(str(m.scenario.get("name", "unnamed")) for m in metas),
                "seeds": f"{min(m.seed for m in metas)} to {max(m.seed for m in metas)}",
                "tool speed": f"median {np.median(speeds) * 1000:.0f} mm/s, 99 in 100 below "
                f"{np.quantile(speeds, 0.99) * 1000:.0f} mm/s"
                if len(speeds)
                else "none",
                "corruption": each(
                    ", ".join(f"{k} {v}" for k, v in m.truth.items() if not isinstance(v, (dict, list)))
                    for m in metas
                    if m.truth
                )
                or "none recorded",
                "made by": f"commit {each(m.commit for m in metas)}",
                "on disk": f"{size / 1e6:.1f} MB",
            }
        )
    return [(key, [column[key] for column in columns]) for key in columns[0]]


def view(source: Source, thumbnails: int) -> dict[str, Any]:
    """Return the pictures of one dataset: overlays for cameras that stand still, and thumbnails."""
    chosen = choose(source, thumbnails)
    cameras = list(source.episodes[0].meta.cameras)
    pictured: list[dict[str, Any]] = []
    overlays: list[dict[str, Any]] = []

    def decode(index: int) -> tuple[int, dict[str, tuple[np.ndarray, np.ndarray]]]:
        images = read_episode(source.paths[index]).images
        return index, {name: (frames[0], frames[-1]) for name, frames in images.items()}

    for index, ends in in_order(decode, chosen if cameras else [], f"pictures of {source.label}"):
        episode = source.episodes[index]
        if not overlays:
            overlays = [o for name in ends if (o := overlay(source, name, ends[name][0])) is not None]
        shown = [
            (name, which, frame)
            for name, both in ends.items()
            for which, frame in zip(("start", "end"), both, strict=True)
        ]
        pictured.append(
            {
                "name": source.paths[index].name,
                "outcome": episode.meta.outcome,
                "good": episode.meta.outcome == "success",
                "seconds": episode.meta.steps * episode.meta.period_s,
                "stills": [
                    {
                        "uri": data_uri(frame),
                        "what": f"{name}, {which}",
                        "size": frame.shape[1::-1],
                        "paths": paths_of(episode, name) if which == "start" else [],
                    }
                    for name, which, frame in shown
                ],
            }
        )
    return {
        "label": source.label,
        "count": len(source.paths),
        "overlays": overlays,
        "pictured": pictured,
        "failures_first": any(not p["good"] for p in pictured) and any(p["good"] for p in pictured),
        "cameras": cameras,
    }


def choose(source: Source, most: int) -> list[int]:
    """Take episodes evenly; those without success first, up to a third of the pictures."""
    every = range(len(source.episodes))
    if len(every) <= most:
        return list(every)
    odd = [i for i in every if source.episodes[i].meta.outcome != "success"]
    odd = _evenly(odd, min(len(odd), most // 3)) if len(odd) < len(every) else []
    rest = [i for i in every if i not in set(odd)]
    return [*odd, *_evenly(rest, most - len(odd))]


def overlay(source: Source, camera: str, start: np.ndarray) -> dict[str, Any] | None:
    """Lay the paths of tool and object over a start image; None where the camera's pose is not known."""
    drawn = [source.episodes[i] for i in _evenly(list(range(len(source.episodes))), DRAWN_PATHS)]
    lines = [path for episode in drawn for path in paths_of(episode, camera)]
    if not lines:
        return None
    return {
        "camera": camera,
        "uri": data_uri(start, width=640),
        "size": start.shape[1::-1],
        "paths": lines,
        "count": len(drawn),
        "opacity": f"{min(0.8, max(0.08, 12 / len(drawn))):.2f}",
    }


def paths_of(episode: Episode, camera: str) -> list[tuple[str, str]]:
    """Return (kind, points of an SVG polyline) of tool and object, in pixels of a camera that stands
    still."""
    found = world_camera(episode.meta, camera)
    if found is None:
        return []
    model, X_WC = found
    heights = {"tool": tip_height_m(episode.meta), "object": 0.0}
    tracks = {"tool": episode.arrays["state"], "object": episode.arrays.get(POSE)}
    out = []
    for kind, track in tracks.items():
        if track is None:
            continue
        rows = track[_evenly(list(range(len(track))), PATH_POINTS), :2]
        points = np.column_stack([rows, np.full(len(rows), heights[kind])])
        pixels = to_pixels(points, model, X_WC)
        pixels = pixels[np.isfinite(pixels).all(axis=1)]
        # Pixel centres are whole numbers; SVG's origin is the corner of the first pixel.
        out.append((kind, " ".join(f"{x + 0.5:.1f},{y + 0.5:.1f}" for x, y in pixels)))
    return out


def data_uri(frame: np.ndarray, width: int = THUMBNAIL_PX) -> str:
    """Return a frame (h, w, 3) uint8 as a JPEG of at most `width` pixels, in a data URI."""
    from PIL import Image

    picture = Image.fromarray(frame)
    picture.thumbnail((width, width))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=75)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _evenly(items: list[int], most: int) -> list[int]:
    if most <= 0:
        return []
    if len(items) <= most:
        return items
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, most).round().astype(int))]
