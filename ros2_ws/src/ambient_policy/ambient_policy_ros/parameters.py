"""ROS parameters of a node as one typed model: checked as a whole, described, and refused with a reason."""

from __future__ import annotations

import array
import sys
import typing
from collections.abc import Callable
from typing import Any, TypeVar

import pydantic
from pydantic.fields import FieldInfo
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from ambient_policy.config import parse
from ambient_policy.errors import ConfigError

Model = TypeVar("Model", bound=pydantic.BaseModel)

_OF_RCLPY = ("use_sim_time", "start_type_description_service")
_SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
_INT64_MAX = 2**63 - 1


def read_parameters(node: Node, model: type[Model], *, ours: tuple[str, ...] = ()) -> Model:
    """Check a node's parameters against `model`; declare those that were not given, and describe all.

    The node must have been made with `automatically_declare_parameters_from_overrides`: only then does a
    misspelt name show, since ROS ignores parameters that nobody declares.

    Args:
        ours: names of further parameters that belong to the node and not to the model.
    Raises:
        ConfigError: an unknown name (names the nearest), or a value that does not fit.
    """
    given = _given(node, ours)
    parameters = parse(given, model, f"parameters of node {node.get_fully_qualified_name()}")
    for name, value in parameters.model_dump().items():
        described = descriptor(model.model_fields[name])
        if name in given:
            node.set_descriptor(name, described)
        else:
            node.declare_parameter(name, list(value) if isinstance(value, tuple) else value, described)
    return parameters


def guard_parameters(
    node: Node, model: type[pydantic.BaseModel], locked: Callable[[], str], *, ours: tuple[str, ...] = ()
) -> None:
    """From now on refuse a change that `model` refuses, or any while `locked` returns a reason."""

    def check(changes: list[Parameter]) -> SetParametersResult:
        changes = [change for change in changes if change.name not in (*_OF_RCLPY, *ours)]
        if changes and (reason := locked()):
            return SetParametersResult(successful=False, reason=reason)
        try:
            parse(
                _given(node, ours) | {change.name: _plain(change.value) for change in changes},
                model,
                f"parameters of node {node.get_fully_qualified_name()}",
            )
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(check)


def descriptor(field: FieldInfo) -> ParameterDescriptor:
    """Describe a field as `ros2 param describe` shows it: its docstring, choices, and range."""
    described = ParameterDescriptor(description=field.description or "", dynamic_typing=True)
    bounds: dict[str, Any] = {}
    for mark in field.metadata:
        bounds |= {name: getattr(mark, name) for name in _SIGNS if hasattr(mark, name)}
    rules = [f"{_SIGNS[name]} {bound}" for name, bound in bounds.items()]
    if typing.get_origin(field.annotation) is typing.Literal:
        rules.append("one of " + ", ".join(map(str, typing.get_args(field.annotation))))
    described.additional_constraints = ", ".join(rules)
    low, high = bounds.get("ge", bounds.get("gt")), bounds.get("le", bounds.get("lt"))
    if low is None and high is None:
        return described
    # Both ends of ROS's ranges belong to them and none may be open; the model above is exact.
    if field.annotation is int:
        described.integer_range = [
            IntegerRange(
                from_value=-_INT64_MAX if low is None else low, to_value=_INT64_MAX if high is None else high
            )
        ]
    else:
        largest = sys.float_info.max
        described.floating_point_range = [
            FloatingPointRange(
                from_value=-largest if low is None else float(low),
                to_value=largest if high is None else float(high),
            )
        ]
    return described


def _given(node: Node, ours: tuple[str, ...]) -> dict[str, Any]:
    return {
        name: _plain(parameter.value)
        for name, parameter in node.get_parameters_by_prefix("").items()
        if name not in (*_OF_RCLPY, *ours) and not name.startswith("qos_overrides.")
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, array.array) else value
