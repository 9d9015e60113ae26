"""What a run leaves in its folder: trials.jsonl, stills, a film, run.json and the report."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

from ambient_policy.movie import Movie
from ambient_policy.report import write_report
from ambient_policy.trials import Trial, append_trial
from sim.film import save_picture, take_picture
from sim.station import Station

FILM_SPEED = 2
"""The film runs this much faster than the twin's time."""


def fresh_folder(path: Path) -> Path:
    """Make an empty folder for a run; one that holds an earlier run is moved aside, not emptied."""
    if (path / "trials.jsonl").exists():
        made = datetime.datetime.fromtimestamp((path / "trials.jsonl").stat().st_mtime)
        kept = path.with_name(f"{path.name}-{made:%Y%m%d-%H%M%S}")
        path.rename(kept)
        print(f"kept the earlier run as {kept}", flush=True)
    path.mkdir(parents=True, exist_ok=True)
    return path


class Recorder:
    """Writes the files of one run.

    Args:
        folder: where to, empty.
        station: the twin, with the film camera of `sim.film`.
        film: whether to film; the stills are taken anyway.
    """

    def __init__(self, folder: Path, station: Station, film: bool) -> None:
        self._folder, self._station = folder, station
        rate_hz = FILM_SPEED / station.scenario.policy_period_s
        self._movie = Movie(folder / f"{station.scenario.name}.mp4", rate_hz) if film else None
        self._label = ""
        (folder / "stills").mkdir(exist_ok=True)

    def begin_trial(self, seed: int, label: str) -> None:
        """Picture the start."""
        self._label = label
        save_picture(self._folder / "stills" / f"seed_{seed}_start.png", take_picture(self._station))

    def film(self, time_s: float) -> None:
        """Add one frame to the film, if there is one."""
        if self._movie is not None:
            text = f"{self._label}   {time_s:.1f} s   (film at {FILM_SPEED}x)"
            self._movie.add(take_picture(self._station, text))

    def end_trial(self, trial: Trial) -> None:
        """Picture the end and append the trial's line."""
        save_picture(self._folder / "stills" / f"seed_{trial.seed}_end.png", take_picture(self._station))
        append_trial(self._folder / "trials.jsonl", trial)

    def finish(self, facts: dict[str, Any]) -> Path | None:
        """Close the film; write run.json and, if any trial has ended, the report. Returns its path."""
        if self._movie is not None:
            self._movie.close()
        (self._folder / "run.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        if not (self._folder / "trials.jsonl").exists():
            return None
        return write_report(self._folder)
