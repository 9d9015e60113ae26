"""Typed configuration: pydantic models, read from YAML at the edge, with errors a person can act on."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import yaml

from ambient_policy.errors import ConfigError


class StrictModel(pydantic.BaseModel):
    """Base of every config and file schema: immutable once made, and unknown keys are refused."""

    # inf_nan "constants" keeps an open band such as [0.5, inf) alive through a dump; the default writes null.
    # The docstring under a field is its description, which `ros2 param describe` shows.
    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", ser_json_inf_nan="constants", use_attribute_docstrings=True
    )


Model = TypeVar("Model", bound=pydantic.BaseModel)


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key written twice; plain YAML keeps the last one and says nothing."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, typing.Hashable):
                raise _refusal("a key must be plain text", key_node)
            if key in seen and key != "<<":
                raise _refusal(f"key {key!r} is written twice", key_node)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _refusal(why: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, why, node.start_mark)


def load_yaml(path: str | Path, model: type[Model], overrides: Mapping[str, Any] | None = None) -> Model:
    """Read a YAML file into `model`. `overrides` is a nested mapping laid over the file's values."""
    return parse(merge(read_yaml(path), overrides or {}), model, str(path))


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file of `key: value` lines; a key written twice is an error."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"no config file at {path}; {_neighbours(path)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read config file {path}: {error}") from error
    try:
        data = yaml.load(text, Loader=_UniqueKeyLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path} holds a {type(data).__name__} at its top, needs `key: value` lines")
    return data


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `over` on `base`: mappings merge key by key, anything else is replaced whole."""
    out = dict(base)
    for key, value in over.items():
        old = out.get(key)
        out[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return out


def parse(data: Mapping[str, Any], model: type[Model], where: str) -> Model:
    """Check `data` against `model`. `where` names its origin, such as a file, in the error.

    Raises:
        ConfigError: lists every problem, each with its key path, value, what is accepted and, for an unknown
            key, the nearest known one.
    """
    try:
        return model.model_validate(data)
    except pydantic.ValidationError as error:
        problems = [f"  {_describe(problem, model)}" for problem in error.errors()]
    raise ConfigError("\n".join([f"{where} does not fit {model.__name__}:", *problems]))


def dump_yaml(model: pydantic.BaseModel) -> str:
    """Write a model as YAML that `load_yaml` reads back to an equal model."""
    # Escapes letters beyond ASCII: written as they are, PyYAML misreads some (U+0085 comes back as a space).
    return yaml.safe_dump(model.model_dump(mode="json"), sort_keys=False)


def nearest(word: str, known: typing.Iterable[str]) -> str:
    """Say which of the `known` words is meant, if one is close, and list them all."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    guess = f"did you mean `{close[0]}`? " if close else ""
    return f"{guess}known: {', '.join(known) or 'none'}"


def _neighbours(path: Path) -> str:
    beside = sorted(p.name for p in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
    return f"beside it: {', '.join(beside)}" if beside else "no YAML file is beside it; check the path"


def _describe(problem: Any, model: type[pydantic.BaseModel]) -> str:
    loc = problem["loc"]
    key = ".".join(str(part) for part in loc) or "(the whole document)"
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key; {nearest(str(loc[-1]), _keys_at(model, loc[:-1]))}"
    if problem["type"] == "missing":
        return f"{key}: missing, and it has no default"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if problem["type"] in ("value_error", "assertion_error") and isinstance(problem["input"], Mapping):
        return f"{key}: {message}"
    shown = repr(problem["input"])
    return f"{key} is {shown if len(shown) <= 80 else shown[:77] + '...'}: {message}"


def _keys_at(annotation: Any, loc: tuple[int | str, ...]) -> set[str]:
    """Collect the keys accepted at `loc` below `annotation`, through dicts, sequences and unions."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return set().union(*(_keys_at(arg, loc) for arg in args))
    if origin is typing.Annotated:
        return _keys_at(args[0], loc)
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        if not loc:
            return set(annotation.model_fields)
        field = annotation.model_fields.get(str(loc[0]))
        # A union member's name also stands in `loc`, and is not a field: step over it.
        return _keys_at(field.annotation, loc[1:]) if field else _keys_at(annotation, loc[1:])
    if loc and origin in (list, tuple, set, frozenset):
        return _keys_at(args[0], loc[1:])
    if loc and args and origin is not None:
        return _keys_at(args[-1], loc[1:])
    return set()
