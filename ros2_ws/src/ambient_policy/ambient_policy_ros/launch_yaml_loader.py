"""YAML of launch files, with line numbers, and the checks of keys and types that every action shares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ambient_policy.config import nearest
from ambient_policy_ros.launch_substitutions import LaunchError


class Entity(dict[str, Any]):
    """One mapping of a launch file that knows where it stands, for error texts."""

    where: str = ""

    def check_keys(self, kind: str, known: tuple[str, ...], required: tuple[str, ...] = ()) -> None:
        """Refuse keys that are not `known`, and the absence of a `required` one."""
        for key in self:
            if key not in known:
                raise LaunchError(
                    f"{self.where}: unknown key {key!r} in `{kind}`; {nearest(str(key), known)}"
                )
        for key in required:
            if key not in self:
                raise LaunchError(f"{self.where}: `{kind}` lacks {key!r}")

    def text(self, key: str, default: str = "") -> str:
        """Return a value that must be text; ROS 2's own parser refuses bare numbers and booleans here too."""
        value = self.get(key, default)
        if not isinstance(value, str):
            quoted = str(value).lower() if isinstance(value, bool) else str(value)
            raise LaunchError(f'{self.where}: {key} is {value!r}, must be text: write {key}: "{quoted}"')
        return value

    def pairs(
        self, key: str, known: tuple[str, ...], required: tuple[str, ...] | None = None
    ) -> list[Entity]:
        """Return a list of small mappings such as `- {name: ..., value: ...}`; none when the key is absent.

        All `known` keys are required unless `required` says otherwise.
        """
        value = self.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, Entity) for item in value):
            raise LaunchError(f"{self.where}: {key} must be a list of mappings with: {', '.join(known)}")
        for item in value:
            item.check_keys(key, known, known if required is None else required)
        return value


def load(path: Path) -> list[Entity]:
    """Read a launch file: the list of actions under its root key `launch`."""
    loader = type("Loader", (_Loader,), {"file_name": path.name})
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    except OSError as error:
        raise LaunchError(f"cannot read launch file {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise LaunchError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(data, Entity) or list(data) != ["launch"]:
        raise LaunchError(
            f"{path}: a launch file is one mapping with the single key `launch:`, a list of actions"
        )
    return actions(data["launch"], f"{path.name}: `launch`")


def actions(value: Any, where: str) -> list[Entity]:
    """Check that `value` is a list of actions, each a mapping of one key (its kind)."""
    if not isinstance(value, list) or not all(isinstance(item, Entity) and len(item) == 1 for item in value):
        raise LaunchError(f"{where} must be a list of actions, each of one key such as `- node:`")
    return value


class _Loader(yaml.SafeLoader):
    file_name = ""


def _construct(loader: _Loader, node: yaml.MappingNode) -> Entity:
    entity = Entity()
    entity.where = f"{loader.file_name} line {node.start_mark.line + 1}"
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in entity:
            raise LaunchError(f"{entity.where}: key {key!r} is written twice")
        entity[key] = loader.construct_object(value_node, deep=True)
    return entity


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct)
