"""The `$(...)` expressions of ROS 2 launch files: parsed once, evaluated in a context.

Source: the grammar and the substitutions of ROS 2's own `launch` package, jazzy branch (`grammar.lark`,
`launch/substitutions/`). Those that run programs or Python (`eval`, `command`, ...) are refused by name.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ambient_policy.config import nearest
from ambient_policy.errors import AmbientPolicyError
from ambient_policy_ros.launch_find import share_directory


class LaunchError(AmbientPolicyError):
    """A launch file, its arguments or one of its processes is wrong."""


@dataclass
class Context:
    """What substitutions see, and what the actions of a launch file change."""

    arguments: dict[str, str]
    """Launch configurations: arguments and `let` variables, by name."""
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    file: Path = Path()
    """The launch file being read; `$(dirname)` is its folder."""


@dataclass(frozen=True)
class Substitution:
    """One parsed `$(name argument ...)`."""

    name: str
    arguments: tuple[Template, ...]


Template = tuple["str | Substitution", ...]
"""Text and substitutions in order; evaluates to one string."""

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_REFUSED = ("anon", "command", "eval", "exec-in-pkg", "file-content", "find-exec", "find-pkg-prefix", "param")


def parse(text: str) -> Template:
    """Parse a value of a launch file.

    Raises:
        LaunchError: an unclosed or unknown substitution.
    """
    return _Parser(text).template("")


def evaluate(text: str, context: Context) -> str:
    """Parse `text` and replace every substitution by its value."""
    return perform(parse(text), context)


def perform(template: Template, context: Context) -> str:
    """Replace the substitutions of a parsed template by their values."""
    return "".join(part if isinstance(part, str) else _perform(part, context) for part in template)


def as_bool(text: str, where: str) -> bool:
    """Read a condition. Accepts what ROS 2 accepts: true, false, 1, 0 in any case."""
    word = text.strip().lower()
    if word not in ("true", "1", "false", "0"):
        raise LaunchError(f"{where} is {text!r}, needs true, false, 1 or 0")
    return word in ("true", "1")


def _perform(substitution: Substitution, context: Context) -> str:
    function, counts = _KNOWN[substitution.name]
    values = [perform(argument, context) for argument in substitution.arguments]
    if len(values) not in counts:
        wanted = " or ".join(str(count) for count in counts)
        raise LaunchError(f"$({substitution.name} ...) has {len(values)} arguments, needs {wanted}")
    return function(context, *values)


def _var(context: Context, name: str, default: str | None = None) -> str:
    value = context.arguments.get(name, default)
    if value is None:
        raise LaunchError(f"$(var {name}): not declared; {nearest(name, context.arguments)}")
    return value


def _env(context: Context, name: str, default: str | None = None) -> str:
    value = context.environment.get(name, default)
    if value is None:
        raise LaunchError(f"$(env {name}): not set; export it, or give a default: $(env {name} VALUE)")
    return value


def _find_pkg_share(context: Context, package: str) -> str:
    return str(share_directory(package, context.environment))


def _dirname(context: Context) -> str:
    return str(context.file.parent)


def _equals(context: Context, left: str, right: str) -> str:
    booleans = ("true", "false", "1", "0")
    if left.lower() in booleans and right.lower() in booleans:
        return _text((left.lower() in ("true", "1")) == (right.lower() in ("true", "1")))
    try:
        return _text(math.isclose(float(left), float(right)))
    except ValueError:
        return _text(left == right)


def _not_equals(context: Context, left: str, right: str) -> str:
    return _text(_equals(context, left, right) == "false")


def _not(context: Context, value: str) -> str:
    return _text(not as_bool(value, "$(not ...)"))


def _and(context: Context, left: str, right: str) -> str:
    return _text(as_bool(left, "$(and ...)") and as_bool(right, "$(and ...)"))


def _or(context: Context, left: str, right: str) -> str:
    return _text(as_bool(left, "$(or ...)") or as_bool(right, "$(or ...)"))


def _text(value: bool) -> str:
    return "true" if value else "false"


_KNOWN: dict[str, tuple[Callable[..., str], tuple[int, ...]]] = {
    "var": (_var, (1, 2)),
    "env": (_env, (1, 2)),
    "find-pkg-share": (_find_pkg_share, (1,)),
    "dirname": (_dirname, (0,)),
    "equals": (_equals, (2,)),
    "not-equals": (_not_equals, (2,)),
    "not": (_not, (1,)),
    "and": (_and, (2,)),
    "or": (_or, (2,)),
}


class _Parser:
    """Recursive descent over one string; `self._at` is the next character."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0

    def template(self, end: str) -> Template:
        """Read up to one of the characters `end` (not consumed), or to the end of the text."""
        parts: list[str | Substitution] = []
        plain = ""
        while self._at < len(self._text) and self._text[self._at] not in end:
            if self._text.startswith("$(", self._at):
                parts, plain = [*parts, plain] if plain else parts, ""
                parts.append(self._substitution())
                continue
            if self._text[self._at] == "\\" and self._at + 1 < len(self._text):
                self._at += 1
            plain += self._text[self._at]
            self._at += 1
        return tuple([*parts, plain] if plain else parts)

    def _substitution(self) -> Substitution:
        start = self._at
        match = _IDENTIFIER.match(self._text, start + 2)
        if match is None:
            raise self._error(start, "a name must follow `$(`")
        name, self._at = match.group(), match.end()
        if name not in _KNOWN:
            reason = "is not run by this launcher" if name in _REFUSED else "is unknown"
            raise self._error(start, f"$({name} ...) {reason}; {nearest(name, _KNOWN)}")
        arguments: list[Template] = []
        while self._at < len(self._text) and self._text[self._at] == " ":
            self._at += 1
            arguments.append(self._argument())
        if not self._text.startswith(")", self._at):
            raise self._error(start, f"$({name} ...) is not closed, or has two spaces between arguments")
        self._at += 1
        return Substitution(name, tuple(arguments))

    def _argument(self) -> Template:
        quote = self._text[self._at : self._at + 1]
        if quote not in ("'", '"') or not quote:
            return self.template(" )")
        self._at += 1
        value = self.template(quote)
        if not self._text.startswith(quote, self._at):
            raise self._error(self._at, f"a quoted argument is not closed by {quote}")
        self._at += 1
        return value

    def _error(self, at: int, why: str) -> LaunchError:
        return LaunchError(f"{self._text!r}, character {at + 1}: {why}")
