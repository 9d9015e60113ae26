"""What a command line lays over a config file: single settings, and the folders of data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from ambient_policy.errors import ConfigError
from training.sources import DataConfig

if TYPE_CHECKING:
    from training.config import TrainConfig


def with_settings(values: Mapping[str, Any], settings: tuple[str, ...]) -> dict[str, Any]:
    """Lay `key.path=value` pairs over a nested mapping; a number in the path counts the entries of a list."""
    out = dict(values)
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {setting!r} is not of the form key.path=value")
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {setting!r}: the value is not YAML ({error})") from error
        out = _put(out, key.split("."), parsed, setting)
    return out


def _put(node: Any, path: list[str], value: Any, setting: str) -> Any:
    """Return `node` with `value` at `path`; containers on the way are copied, mappings at the end merged."""
    if not path:
        if isinstance(node, Mapping) and isinstance(value, Mapping):
            for key, inner in value.items():
                node = _put(node, [key], inner, setting)
            return node
        return value
    first, *rest = path
    if isinstance(node, list):
        if not first.isdigit() or int(first) >= len(node):
            raise ConfigError(
                f"--set {setting!r}: `{first}` must be the number of an entry, 0 to {len(node) - 1}"
            )
        return [_put(item, rest, value, setting) if i == int(first) else item for i, item in enumerate(node)]
    inner = node if isinstance(node, Mapping) else {}
    return {**inner, first: _put(inner.get(first), rest, value, setting)}


def with_data(config: TrainConfig, paths: tuple[str, ...]) -> TrainConfig:
    """Fill in the folders of `data.sources`, in order; several for a lone source are folders of one kind."""
    sources = config.data.sources
    if len(sources) == 1 and config.data.mixture == "natural":
        sources = sources * len(paths)
    unused = [not source.used for source in sources]
    if len(paths) > len(sources) or not all(unused[len(paths) :]):
        raise ConfigError(
            f"--data names {len(paths)} folder(s) and the config has {len(sources)} sources "
            f"({', '.join(source.role for source in sources)}); give one folder for each of data.sources"
        )
    filled = [s.model_copy(update={"path": p}) for s, p in zip(sources, paths, strict=False)]
    filled += sources[len(paths) :]
    data = DataConfig.model_validate(
        {**config.data.model_dump(), "sources": [source.model_dump() for source in filled]}
    )
    return config.model_copy(update={"data": data})
