"""Turns a launch file in ROS 2's YAML format, and its arguments, into the list of processes to start.

The subset that this project uses, with the meaning it has under `ros2 launch` (packages `launch`,
`launch_yaml` and `launch_ros`, jazzy): arg, let, set_env, group, include, executable, node. Without events
nothing depends on what a process does, so the whole file is evaluated before anything starts, and a mistake
in its last line costs no restart. Stricter than `ros2 launch`: an argument that no file declares is refused,
not ignored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ambient_policy.config import nearest
from ambient_policy.errors import AmbientPolicyError
from ambient_policy_ros import launch_yaml_loader
from ambient_policy_ros.launch_process import Process, from_executable, from_node
from ambient_policy_ros.launch_substitutions import Context, LaunchError, as_bool, evaluate
from ambient_policy_ros.launch_yaml_loader import Entity

_CONDITIONS = ("if", "unless")
_PROCESS = (*_CONDITIONS, "name", "output", "respawn", "respawn_delay", "on_exit", "env", "cwd")
KEYS = {
    "arg": (*_CONDITIONS, "name", "default", "description", "choice"),
    "let": (*_CONDITIONS, "name", "value"),
    "set_env": (*_CONDITIONS, "name", "value"),
    "group": (*_CONDITIONS, "scoped", "children"),
    "include": (*_CONDITIONS, "file", "arg"),
    "executable": (*_PROCESS, "cmd"),
    "node": (*_PROCESS, "pkg", "exec", "namespace", "exec_name", "args", "ros_args", "param", "remap"),
}
_REQUIRED = {
    "arg": ("name",),
    "let": ("name", "value"),
    "set_env": ("name", "value"),
    "group": ("children",),
    "include": ("file",),
    "executable": ("cmd",),
    "node": ("pkg", "exec"),
}


@dataclass(frozen=True)
class Argument:
    """One declared argument of a launch file."""

    name: str
    default: str | None
    """As written, substitutions and all; None when a value must be given."""
    description: str
    choices: tuple[str, ...]


def describe(path: Path, arguments: dict[str, str], scratch: Path) -> list[Process]:
    """Evaluate a launch file with the given arguments and return its processes, in the order of the file.

    `scratch` is an existing folder for the parameter files of the nodes; it must outlive them.

    Raises:
        LaunchError: anything in the file, or an argument, that is not understood.
    """
    reader = _Reader(Context(dict(arguments)), scratch)
    reader.read(path)
    for name in arguments:
        if name not in reader.declared:
            raise LaunchError(f"{path.name} has no argument {name!r}; {nearest(name, reader.declared)}")
    return reader.processes


def declared_arguments(path: Path) -> list[Argument]:
    """List the arguments that a launch file itself declares (not those of files that it includes)."""

    def walk(entities: list[Entity]) -> Iterator[Argument]:
        for kind, entity in _kinds(entities):
            if kind == "arg":
                yield _argument(entity)
            elif kind == "group":
                yield from walk(launch_yaml_loader.actions(entity["children"], f"{entity.where}: `group`"))

    return list(walk(launch_yaml_loader.load(path)))


@dataclass
class _Reader:
    """Walks launch files in order; `context` is what the actions so far have set."""

    context: Context
    scratch: Path
    processes: list[Process] = field(default_factory=list)
    declared: set[str] = field(default_factory=set)

    def read(self, path: Path) -> None:
        outer, self.context.file = self.context.file, path.resolve()
        self._actions(launch_yaml_loader.load(path))
        self.context.file = outer

    def _actions(self, entities: list[Entity]) -> None:
        for kind, entity in _kinds(entities):
            try:
                if self._wanted(entity):
                    getattr(self, f"_{kind}")(entity)
            except AmbientPolicyError as error:
                # Actions nest, through groups and includes: only the innermost adds where it stands.
                if " line " in str(error):
                    raise
                raise LaunchError(f"{entity.where}, `{kind}`: {error}") from error

    def _wanted(self, entity: Entity) -> bool:
        if "if" in entity and "unless" in entity:
            raise LaunchError("has both `if` and `unless`; keep one")
        if "if" in entity:
            return as_bool(self._value(entity, "if"), "`if`")
        return not as_bool(evaluate(entity.text("unless", "false"), self.context), "`unless`")

    def _value(self, entity: Entity, key: str) -> str:
        return evaluate(entity.text(key), self.context)

    def _arg(self, entity: Entity) -> None:
        argument = _argument(entity)
        self.declared.add(argument.name)
        if argument.name not in self.context.arguments:
            if argument.default is None:
                raise LaunchError(f"argument {argument.name!r} has no default: give {argument.name}:=VALUE")
            self.context.arguments[argument.name] = evaluate(argument.default, self.context)
        value = self.context.arguments[argument.name]
        if argument.choices and value not in argument.choices:
            raise LaunchError(
                f"argument {argument.name}:={value} is not one of: {', '.join(argument.choices)}"
            )

    def _let(self, entity: Entity) -> None:
        self.context.arguments[self._value(entity, "name")] = self._value(entity, "value")

    def _set_env(self, entity: Entity) -> None:
        self.context.environment[self._value(entity, "name")] = self._value(entity, "value")

    def _group(self, entity: Entity) -> None:
        arguments, environment = dict(self.context.arguments), dict(self.context.environment)
        self._actions(launch_yaml_loader.actions(entity["children"], f"{entity.where}: `group`"))
        if entity.get("scoped", True):
            self.context.arguments, self.context.environment = arguments, environment

    def _include(self, entity: Entity) -> None:
        path = Path(self._value(entity, "file"))
        if path.suffix not in (".yaml", ".yml"):
            raise LaunchError(
                f"cannot include {path}: only YAML launch files run here, not Python or XML ones"
            )
        if not path.is_absolute():
            raise LaunchError(
                f"cannot include {path}: write $(dirname)/{path}, or $(find-pkg-share PACKAGE)/..."
            )
        for pair in entity.pairs("arg", ("name", "value")):
            self.context.arguments[self._value(pair, "name")] = self._value(pair, "value")
        self.read(path)

    def _executable(self, entity: Entity) -> None:
        self.processes.append(from_executable(entity, self.context))

    def _node(self, entity: Entity) -> None:
        self.processes.append(from_node(entity, self.context, self.scratch))


def _kinds(entities: list[Entity]) -> Iterator[tuple[str, Entity]]:
    """Yield (kind, entity) of every action, its keys checked; a group may also be a bare list of actions."""
    for action in entities:
        ((kind, entity),) = action.items()
        if kind not in KEYS:
            raise LaunchError(f"{action.where}: unknown action {kind!r}; {nearest(str(kind), KEYS)}")
        if kind == "group" and isinstance(entity, list):
            entity = Entity(children=entity)
            entity.where = action.where
        if not isinstance(entity, Entity):
            raise LaunchError(f"{action.where}: `{kind}` must be a mapping with: {', '.join(KEYS[kind])}")
        entity.check_keys(kind, KEYS[kind], _REQUIRED[kind])
        yield kind, entity


def _argument(entity: Entity) -> Argument:
    choices = tuple(choice.text("value") for choice in entity.pairs("choice", ("value",)))
    default = entity.text("default") if "default" in entity else None
    return Argument(entity.text("name"), default, entity.text("description"), choices)
