"""The `node` and `executable` actions of a launch file, as commands to start."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from ambient_policy.config import nearest
from ambient_policy_ros.launch_find import ROS_NAME, executable
from ambient_policy_ros.launch_substitutions import Context, LaunchError, as_bool, evaluate, parse, perform
from ambient_policy_ros.launch_yaml_loader import Entity

OUTPUTS = ("log", "screen", "both")
PARAMETER_TYPES: dict[str, type] = {"str": str, "bool": bool, "int": int, "float": float}


@dataclass(frozen=True)
class Process:
    """One process to start."""

    name: str
    """What prefixes its output."""
    command: list[str]
    environment: dict[str, str]
    cwd: str | None = None
    stdout: bool = True
    """Whether its standard output is shown; standard error always is."""
    respawn: bool = False
    respawn_delay_s: float = 0.0
    shutdown_on_exit: bool = False
    """Whether its end, good or bad, ends all the others."""
    takes_interrupts_late: bool = False
    """Whether it unblocks SIGINT when it has loaded, as our nodes do: an interrupt then ends it without a
    traceback. Any other program would never see one."""


def from_executable(entity: Entity, context: Context) -> Process:
    """Read an `executable` action."""
    command = _words(entity.text("cmd"), context)
    if not command:
        raise LaunchError("`cmd` is empty")
    return _process(entity, context, evaluate(entity.text("name"), context) or Path(command[0]).name, command)


def from_node(entity: Entity, context: Context, scratch: Path) -> Process:
    """Read a `node` action; parameters given in the launch file are written as files into `scratch`."""
    keys = ("pkg", "exec", "name", "namespace", "exec_name")
    package, name, node, namespace, label = (evaluate(entity.text(key), context) for key in keys)
    command = executable(package, name, context.environment) + _words(entity.text("args"), context)
    command += ["--ros-args", *_words(entity.text("ros_args"), context)]
    if node:
        command += ["-r", f"__node:={node}"]
    if namespace:
        namespace = "/" + namespace.strip("/")
        command += ["-r", f"__ns:={namespace}"]
    # As launch_ros does: only a node whose full name is known gets its parameters under that name. Otherwise
    # they are for "any node", and a params file that names the node wins over them.
    section = f"{namespace.rstrip('/')}/{node}" if node and namespace else "/**"
    for param in entity.pairs("param", ("name", "value", "type", "from"), required=()):
        command += ["--params-file", str(_params_file(param, context, section, scratch))]
    for remap in entity.pairs("remap", ("from", "to")):
        command += ["-r", f"{evaluate(remap.text('from'), context)}:={evaluate(remap.text('to'), context)}"]
    process = _process(entity, context, label or node or name, command)
    return replace(process, takes_interrupts_late=package == ROS_NAME)


def _process(entity: Entity, context: Context, name: str, command: list[str]) -> Process:
    output = evaluate(entity.text("output", "log"), context)
    delay_s = entity.get("respawn_delay", 0.0)
    if output not in OUTPUTS:
        raise LaunchError(f"output is {output!r}; {nearest(output, OUTPUTS)}")
    if entity.text("on_exit") not in ("", "shutdown"):
        raise LaunchError(f"on_exit is {entity.text('on_exit')!r}; its only value is: shutdown")
    if not isinstance(delay_s, float) or delay_s < 0:
        raise LaunchError(f"respawn_delay is {delay_s!r}, needs seconds with a decimal point, such as 2.0")
    extra = {
        evaluate(pair.text("name"), context): evaluate(pair.text("value"), context)
        for pair in entity.pairs("env", ("name", "value"))
    }
    return Process(
        name=name,
        command=command,
        environment={**context.environment, **extra},
        cwd=evaluate(entity.text("cwd"), context) or None,
        stdout=output != "log",
        respawn=as_bool(evaluate(entity.text("respawn", "false"), context), "respawn"),
        respawn_delay_s=delay_s,
        shutdown_on_exit=entity.text("on_exit") == "shutdown",
    )


def _words(text: str, context: Context) -> list[str]:
    """Split a command line as a shell does; what a substitution gives stays one word, spaces and all."""
    values: dict[str, str] = {}
    line = ""
    for part in parse(text):
        if isinstance(part, str):
            line += part
        else:
            mark = f"\ue000{len(values)}\ue001"  # private characters: no word of a command line holds them
            values[mark] = perform((part,), context)
            line += mark
    words = shlex.split(line)
    for mark, value in values.items():
        words = [word.replace(mark, value) for word in words]
    return words


def _params_file(param: Entity, context: Context, section: str, scratch: Path) -> Path:
    if ("from" in param) == ("name" in param) or ("from" in param and len(param) > 1):
        raise LaunchError(f"{param.where}: a `param` has either `from` alone, or `name` and `value`")
    if "from" in param:
        path = Path(evaluate(param.text("from"), context))
        if not path.is_file():
            raise LaunchError(f"{param.where}: no parameter file at {path}")
        return path
    document = {section: {"ros__parameters": {evaluate(param.text("name"), context): _value(param, context)}}}
    path = scratch / f"parameter_{sum(1 for _ in scratch.iterdir())}.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def _value(param: Entity, context: Context) -> Any:
    """Value of a parameter: as YAML types it, or as `type` says; what `$(...)` gives is read as YAML too."""
    value, kind = param.get("value"), param.text("type", "yaml")
    if kind not in ("yaml", *PARAMETER_TYPES):
        raise LaunchError(f"{param.where}: type {kind!r}; {nearest(kind, ('yaml', *PARAMETER_TYPES))}")
    if isinstance(value, str):
        template = parse(value)
        value = perform(template, context)
        substituted = any(not isinstance(part, str) for part in template)
        if kind in ("bool", "int", "float") or (kind == "yaml" and substituted):
            value = yaml.safe_load(value)
    if kind == "float" and type(value) is int:
        value = float(value)
    wanted = PARAMETER_TYPES.get(kind)
    if (wanted and type(value) is not wanted) or not isinstance(value, (str, bool, int, float, list)):
        raise LaunchError(
            f"{param.where}: parameter {param.get('name')} is {value!r}, needs a value of type {kind}"
        )
    return value
