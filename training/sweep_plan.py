"""The plan of a sweep: which arms are trained with which seeds, and how each run is judged.

An arm is a preset and some settings; a grid turns one arm into several. Every (arm, seed) is one job.
"""

from __future__ import annotations

import itertools
import re
import shlex
import string
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import yaml

from ambient_policy.config import StrictModel, load_yaml, nearest
from ambient_policy.errors import ConfigError

PLACEHOLDERS = ("run", "seed", "out")

Name = Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")]
Paths = tuple[str, ...]
Direction = Literal["max", "min"]


def _as_paths(data: Any) -> Any:
    """Turn `{clean: A, corrupt: B}` into the order of the config's sources."""
    if not isinstance(data, Mapping):
        return data
    if unknown := sorted(set(data) - {"clean", "corrupt"}):
        raise ValueError(f"unknown key {unknown[0]!r}; {nearest(str(unknown[0]), ('clean', 'corrupt'))}")
    if "clean" not in data:
        raise ValueError("needs `clean: FOLDER`")
    ordered = [data[role] for role in ("clean", "corrupt") if role in data]
    return tuple(path for entry in ordered for path in (entry if isinstance(entry, list) else [entry]))


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class ArmConfig(StrictModel):
    """One way to train. What is not written here is the plan's."""

    name: Name
    preset: Annotated[tuple[str, ...], pydantic.BeforeValidator(_as_tuple)] = ()
    """Name of a shipped preset, a YAML file, or a list of them."""
    set: dict[str, Any] = pydantic.Field(default_factory=dict)
    """`key.path: value`, laid over the plan's own `set`."""
    grid: dict[str, Annotated[list[Any], pydantic.Field(min_length=1)]] = pydantic.Field(default_factory=dict)
    """`key.path: [values]`: one arm for every combination of values."""
    config: str | None = None
    data: Annotated[Paths, pydantic.BeforeValidator(_as_paths)] | None = None
    annotation: str | None = None
    """A folder of annotations; an explicit null takes the plan's away."""


class Plan(StrictModel):
    """One sweep. Relative paths count from where the command is started."""

    name: str
    config: str
    """Training config of every arm: a YAML file, or the name of a shipped one."""
    data: Annotated[Paths, pydantic.BeforeValidator(_as_paths), pydantic.Field(min_length=1)]
    """{clean: FOLDER, corrupt: FOLDER}, or a list with a folder for each of the config's sources."""
    annotation: str | None = None
    set: dict[str, Any] = pydantic.Field(default_factory=dict)
    """`key.path: value` for all arms."""
    seeds: Annotated[tuple[int, ...], pydantic.Field(min_length=1)] = (0, 1, 2)
    """Training seeds."""
    arms: Annotated[tuple[ArmConfig, ...], pydantic.Field(min_length=1)]
    baseline: str | None = None
    """The arm that others are compared with on the same seeds; the first one by default."""
    evaluate: tuple[str, ...] = ()
    """Commands run after training, in order, with {run}, {seed} and {out}; {out} is a JSON file to write."""
    metrics: dict[str, Direction] = pydantic.Field(default_factory=dict)
    """What the summary shows, and which way is better; everything that was found, by default."""
    threads: Annotated[int, pydantic.Field(ge=1)] = 1
    """OMP_NUM_THREADS of every job."""

    @pydantic.model_validator(mode="after")
    def _check(self) -> Plan:
        for what, values in (("seeds", self.seeds), ("arms", [arm.name for arm in self.arms])):
            if twice := [value for value, count in Counter(values).items() if count > 1]:
                raise ValueError(f"{what}: {twice[0]!r} is there twice")
        for arm in self.arms:
            both = sorted(set(arm.set) & set(arm.grid))
            if both:
                raise ValueError(f"arm `{arm.name}` has {both[0]} in `set` and in `grid`; keep one")
            if "seed" in {*self.set, *arm.set, *arm.grid}:
                raise ValueError(f"arm `{arm.name}`: `seed` is set by the plan's `seeds`; leave it out")
        for template in self.evaluate:
            check_template(template)
        return self


@dataclass(frozen=True)
class Arm:
    """One arm after its grid was expanded.

    Attributes:
        folder: name of its folder; the name without characters that a shell would expand.
        settings: `key.path` -> value, the plan's and its own.
    """

    name: str
    folder: str
    presets: tuple[str, ...]
    config: str
    data: Paths
    annotation: str | None
    settings: dict[str, Any]

    def set_arguments(self, seed: int) -> tuple[str, ...]:
        """Give the `key.path=value` pairs of a run, values as YAML."""
        pairs = {"seed": seed, **self.settings}
        return tuple(f"{key}={_as_yaml(value)}" for key, value in pairs.items())


def read_plan(path: Path) -> Plan:
    """Read a plan; anything wrong in it is one error that lists every problem."""
    return load_yaml(path, Plan)


def expand(plan: Plan) -> tuple[Arm, ...]:
    """Give every arm of a plan, grids expanded, the baseline among them.

    Raises:
        ConfigError: two arms of one name or with the same settings, or a baseline that is none of them.
    """
    arms = [arm for config in plan.arms for arm in _expand_arm(plan, config)]
    for what, values in (("name", [arm.name for arm in arms]), ("folder", [arm.folder for arm in arms])):
        if twice := [value for value, count in Counter(values).items() if count > 1]:
            raise ConfigError(
                f"two arms of the plan have the {what} `{twice[0]}`; rename one or change its grid"
            )
    seen: dict[str, str] = {}
    for arm in arms:
        same = repr(
            (arm.presets, arm.config, arm.data, arm.annotation, sorted(arm.settings.items(), key=repr))
        )
        if same in seen:
            raise ConfigError(f"arms `{seen[same]}` and `{arm.name}` would train the same thing; remove one")
        seen[same] = arm.name
    if plan.baseline is not None and plan.baseline not in {arm.name for arm in arms}:
        known = nearest(plan.baseline, (arm.name for arm in arms))
        raise ConfigError(f"baseline `{plan.baseline}` is no arm of the plan; {known}")
    return tuple(arms)


def _expand_arm(plan: Plan, config: ArmConfig) -> list[Arm]:
    keys = list(config.grid)
    arms = []
    for values in itertools.product(*config.grid.values()):
        chosen = dict(zip(keys, values, strict=True))
        labels = [f"{_short(key, keys)}={_label(value)}" for key, value in chosen.items()]
        name = f"{config.name}[{','.join(labels)}]" if labels else config.name
        arms.append(
            Arm(
                name=name,
                folder=re.sub(r"[^A-Za-z0-9_.+=-]+", "-", name).strip("-"),
                presets=config.preset,
                config=config.config or plan.config,
                data=config.data or plan.data,
                annotation=config.annotation if "annotation" in config.model_fields_set else plan.annotation,
                settings={**plan.set, **config.set, **chosen},
            )
        )
    return arms


def _short(key: str, keys: list[str]) -> str:
    """Shorten a key path to its last parts, as many as tell it from the other keys."""
    parts = key.split(".")
    for count in range(1, len(parts) + 1):
        tail = parts[-count:]
        if sum(other.split(".")[-count:] == tail for other in keys) == 1:
            break
    return ".".join(tail)


def _label(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return _as_yaml(value).replace(" ", "")


def _as_yaml(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"))
    return text.strip().removesuffix("...").strip()


def check_template(template: str) -> None:
    """Raise ValueError unless `template` is a command whose placeholders are known and include {run}."""
    try:
        words = shlex.split(template)
        fields = [
            (name, spec, conversion)
            for word in words
            for _, name, spec, conversion in string.Formatter().parse(word)
            if name is not None
        ]
    except ValueError as error:
        raise ValueError(f"evaluate command {template!r} cannot be read: {error}") from error
    if not words:
        raise ValueError("evaluate: an empty command")
    for name, spec, conversion in fields:
        if name not in PLACEHOLDERS or spec or conversion:
            known = nearest(name, PLACEHOLDERS)
            raise ValueError(
                f"evaluate command {template!r} has the unknown placeholder {{{name}}}; {known}; "
                "write {{ and }} for braces"
            )
    if "run" not in {name for name, _, _ in fields}:
        raise ValueError(f"evaluate command {template!r} has no {{run}}, so it would judge every run alike")


def fill_template(template: str, *, run: str, seed: int, out: str) -> tuple[str, ...]:
    """Give the argv of an evaluate command; a value with spaces stays one argument."""
    return tuple(word.format(run=run, seed=seed, out=out) for word in shlex.split(template))
