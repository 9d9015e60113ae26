"""Reads what a run left in its folder, and says clearly which file is broken and how."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from ambient_policy.errors import TrialError
from ambient_policy.trials import Trial, read_trials

STILL_WIDTH_PX = 360
STILL_NAME = re.compile(r"(?P<kind>seed|trial)_?(?P<number>\d+)_(?P<when>start|end)", re.IGNORECASE)


@dataclass(frozen=True)
class Still:
    """One picture as a data URI, with its trial's seed or number and the moment, where its name tells."""

    name: str
    uri: str
    kind: str | None
    number: int | None
    when: str | None


@dataclass(frozen=True)
class Run:
    """Everything a report shows."""

    folder: Path
    trials: list[Trial]
    latency: list[dict[str, Any]]
    """One mapping a chunk: `trial`, `chunk_stamp_s`, and times that end in `_ms`, each maybe null."""
    facts: dict[str, Any]
    """run.json: who, what, when; free-form."""
    stills: list[Still]
    videos: list[str]
    """Names relative to the folder."""


def read_run(folder: Path) -> Run:
    """Read a run folder. trials.jsonl is needed; latency.jsonl, run.json, stills/, *.mp4 may be absent.

    Raises:
        TrialError: names the file, the line and the cure.
    """
    if not folder.is_dir():
        raise TrialError(f"no run folder at {folder}; make one with `make demo` or `ambient-policy evaluate`")
    trials_file = folder / "trials.jsonl"
    if not trials_file.is_file():
        raise TrialError(
            f"{folder} has no trials.jsonl: no trial of this run has finished, or it is no run folder"
        )
    trials = read_trials(trials_file)
    if not trials:
        raise TrialError(f"{trials_file} is empty: no trial of this run has finished")
    return Run(
        folder=folder,
        trials=trials,
        latency=read_latency(folder / "latency.jsonl"),
        facts=read_facts(folder / "run.json"),
        stills=[read_still(path) for path in still_files(folder / "stills")],
        videos=sorted(path.name for path in folder.glob("*.mp4")),
    )


def read_latency(file: Path) -> list[dict[str, Any]]:
    """Read one JSON object a line, or nothing if there is no such file. Times [ms] must be finite or null.

    A last line without its end, as a killed run leaves it, is left out.
    """
    if not file.is_file():
        return []
    whole, _, _ = file.read_text(encoding="utf-8").rpartition("\n")
    lines = []
    for number, text in enumerate(whole.splitlines(), start=1):
        where = f"{file}, line {number}"
        try:
            line = json.loads(text)
        except json.JSONDecodeError as error:
            raise TrialError(f"{where} is not JSON ({error.msg}); remove the line and report again") from None
        if not isinstance(line, dict):
            raise TrialError(f"{where} holds a {type(line).__name__}, needs one JSON object a line")
        for key, value in line.items():
            if key.endswith("_ms") and value is not None:
                number_ok = isinstance(value, (int, float)) and not isinstance(value, bool)
                if not number_ok or not math.isfinite(value):
                    raise TrialError(
                        f"{where}: {key} is {value!r}, needs a finite number of milliseconds or null"
                    )
        lines.append(line)
    return lines


def read_facts(file: Path) -> dict[str, Any]:
    """Read run.json, or nothing if there is no such file."""
    if not file.is_file():
        return {}
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise TrialError(f"{file} is not JSON ({error}); mend or remove it and report again") from None
    if not isinstance(facts, dict):
        raise TrialError(f"{file} holds a {type(facts).__name__}, needs one JSON object")
    return facts


def still_files(folder: Path) -> list[Path]:
    """Return the pictures in `folder`, in the order of their names."""
    kinds = {".png", ".jpg", ".jpeg"}
    return sorted(p for p in folder.glob("*") if p.suffix.lower() in kinds) if folder.is_dir() else []


def read_still(file: Path) -> Still:
    """Read one picture and shrink it, so that a page of a hundred trials can still be mailed."""
    try:
        with Image.open(file) as image:
            picture = image.convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise TrialError(f"{file} is not a whole picture ({error}); remove it and report again") from None
    picture.thumbnail((STILL_WIDTH_PX, STILL_WIDTH_PX))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    found = STILL_NAME.search(file.stem)
    return Still(
        name=file.stem,
        uri="data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode(),
        kind=found["kind"].lower() if found else None,
        number=int(found["number"]) if found else None,
        when=found["when"].lower() if found else None,
    )
