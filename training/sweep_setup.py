"""From a plan to jobs: everything that can be wrong is found here, before anything runs."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ambient_policy.config import read_yaml
from ambient_policy.episodes import list_episodes
from ambient_policy.errors import AmbientPolicyError, ConfigError
from training.cache import open_or_build
from training.config import CONFIGS, METHODS, TrainConfig, load_config
from training.errors import TrainingError
from training.sweep_jobs import Job, read_job
from training.sweep_plan import Arm, Plan, expand, fill_template

TRAINER = (sys.executable, "-m", "ambient_policy.cli", "train")


def make_jobs(plan: Plan, out: Path, trainer: tuple[str, ...] = TRAINER) -> list[Job]:
    """Give every job of a plan, seed by seed, so that an unfinished sweep already compares all arms.

    Args:
        out: folder of the sweep.
        trainer: argv of the train command, without arguments.
    """
    arms = expand(plan)
    digests = {path: _data_digest(Path(path)) for path in {path for arm in arms for path in arm.data}}
    described = {arm.name: _describe(plan, arm, digests) for arm in arms}
    return [
        _make_job(plan, arm, seed, out.absolute(), trainer, described[arm.name])
        for seed in plan.seeds
        for arm in arms
    ]


def resolve(arm: Arm, seed: int) -> TrainConfig:
    """Give the config that an arm's run would have; unknown presets and settings are errors."""
    try:
        return load_config(arm.config, arm.data, arm.set_arguments(seed), arm.presets, arm.annotation)
    except AmbientPolicyError as error:
        raise ConfigError(f"arm `{arm.name}`: {error}") from error


def pack_data(plan: Plan) -> None:
    """Build every packed cache once; jobs that start together would each build their own."""
    done = set()
    for arm in expand(plan):
        config = resolve(arm, plan.seeds[0])
        sizes = json.dumps({name: c.model_dump() for name, c in config.cameras.items()}, sort_keys=True)
        for source in config.data.sources:
            if source.used and source.path and (source.path, sizes) not in done:
                open_or_build(source.path, config.cameras)
                done.add((source.path, sizes))


def check_unchanged(jobs: list[Job], reevaluate: bool = False) -> None:
    """Raise when a job that was started before is another one now, naming every change.

    Args:
        reevaluate: allow that evaluate commands of finished jobs changed.
    """
    changed = []
    for job in jobs:
        record = read_job(job.folder)
        if record is None or record.settings_hash == job.settings_hash:
            continue
        finished = (job.folder / "result.json").is_file()
        old, new = record.settings, job.settings
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key) and not (
                key.startswith("evaluate.") and (reevaluate or not finished)
            ):
                changed.append(f"  {job.name}: {key} was {old.get(key)!r}, now {new.get(key)!r}")
    if changed:
        shown = changed[:20] + ([f"  and {len(changed) - 20} more"] if len(changed) > 20 else [])
        raise TrainingError(
            "the plan changed for jobs that were started already:\n"
            + "\n".join(shown)
            + "\nput it back, use another --out, or remove the folders of these jobs; where only `evaluate` "
            "changed, --reevaluate judges finished runs again"
        )


def _make_job(
    plan: Plan, arm: Arm, seed: int, out: Path, trainer: tuple[str, ...], described: dict[str, Any]
) -> Job:
    folder = out / arm.folder / f"seed{seed}"
    presets = tuple(word for preset in arm.presets for word in ("--preset", preset))
    annotation = () if arm.annotation is None else ("--annotation", arm.annotation)
    settings = tuple(word for pair in arm.set_arguments(seed) for word in ("--set", pair))
    evaluate = []
    for index, template in enumerate(plan.evaluate):
        wanted = folder / f"evaluate{index}.json"
        argv = fill_template(template, run=str(folder), seed=seed, out=str(wanted))
        evaluate.append((argv, wanted if any(str(wanted) in word for word in argv) else None))
    return Job(
        arm=arm.name,
        seed=seed,
        folder=folder,
        train=(*trainer, arm.config, *presets, "--data", *arm.data, *annotation)
        + ("--out", str(folder), *settings, "--resume"),
        evaluate=tuple(evaluate),
        settings=described,
        settings_hash=hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest(),
        threads=plan.threads,
        directory=Path.cwd(),
    )


def _describe(plan: Plan, arm: Arm, digests: Mapping[str, str]) -> dict[str, Any]:
    """Give everything that decides an arm's results, as flat JSON values; paths count by their content."""
    data = resolve(arm, plan.seeds[0]).data
    described: dict[str, Any] = dict(_flatten(read_yaml(_file(arm.config, CONFIGS)), "config"))
    for preset in arm.presets:
        described |= dict(_flatten(read_yaml(_file(preset, METHODS)), f"preset {preset}"))
    described |= {f"set {key}": value for key, value in arm.settings.items()}
    described |= {
        f"data.{i}": digests[s.path] for i, s in enumerate(data.sources) if s.used and s.path in digests
    }
    annotation = None if arm.annotation is None else _folder_digest(Path(arm.annotation))
    described["annotation"] = annotation if data.needs_annotation else None
    described |= {f"evaluate.{index}": template for index, template in enumerate(plan.evaluate)}
    return json.loads(json.dumps(described))


def _flatten(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flatten(inner, f"{path}.{key}")
    else:
        yield path, value


def _file(name: str, shipped: Path) -> Path:
    return Path(name) if Path(name).is_file() else shipped / f"{name}.yaml"


def _data_digest(path: Path) -> str:
    """Name a folder of episodes, or a packed cache, by its content."""
    if (path / "cache.json").is_file():
        return str(json.loads((path / "cache.json").read_text(encoding="utf-8"))["key"])
    if not path.is_dir():
        raise ConfigError(f"no data folder at {path}; correct `data:` in the plan")
    episodes = list_episodes(path)
    if not episodes:
        raise ConfigError(f"no whole episode under {path}; make some with `ambient-policy collect`")
    digest = hashlib.sha256()
    for episode in episodes:
        sums = episode / "SHA256SUMS"
        digest.update(episode.name.encode() + b"\0" + (sums.read_bytes() if sums.is_file() else b""))
    return digest.hexdigest()[:16]


def _folder_digest(path: Path) -> str:
    if not path.is_dir():
        raise ConfigError(
            f"no annotation at {path}; make one with `ambient-policy annotate`, or correct `annotation:`"
        )
    digest = hashlib.sha256()
    for file in sorted(p for p in path.iterdir() if p.suffix in (".json", ".npz")):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]
