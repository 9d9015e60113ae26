"""Read the JSON document that heads an episode or a bundle: schema, version, then every field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

import pydantic

from ambient_policy.config import parse
from ambient_policy.errors import AmbientPolicyError, ConfigError

Model = TypeVar("Model", bound=pydantic.BaseModel)


def read_document(
    file: Path, model: type[Model], schema: str, version: int, error_type: type[AmbientPolicyError]
) -> Model:
    """Read `file` into `model`, or raise `error_type` naming the file, what is wrong and the cure.

    Schema and version are looked at first: a file of another kind or of a later version would otherwise be
    reported as a heap of unknown keys.
    """
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error_type(f"{file} is missing, so this is not a whole {schema}; make it again") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise error_type(f"{file} is damaged ({error}); restore it or make it again") from error
    if not isinstance(data, dict) or data.get("schema_name") != schema:
        found = data.get("schema_name") if isinstance(data, dict) else type(data).__name__
        raise error_type(f"{file} says schema_name {found!r}, needs {schema!r}; is this the right folder?")
    found_version = data.get("version")
    if isinstance(found_version, int) and found_version > version:
        raise error_type(
            f"{file} has version {found_version}, this ambient-policy reads up to {version}; "
            "upgrade ambient-policy"
        )
    try:
        return parse(data, model, str(file))
    except ConfigError as error:
        raise error_type(str(error)) from error
