"""JSON Schema of options, for editors and for the generated reference."""

from __future__ import annotations

from typing import Any

from esb.spec.defaults import shown
from esb.spec.kinds import kind_of
from esb.spec.options import OptionSpec, options_of


def option_schema(spec: OptionSpec) -> dict[str, Any]:
    """The schema of one option with its description, default and example."""
    schema = dict(kind_of(spec.annotation).schema())
    schema["description"] = spec.doc
    if spec.example is not None:
        schema["examples"] = [spec.example]
    default = None if spec.required else shown(spec.default, spec)
    if isinstance(default, (bool, int, str)) and default not in ("", "***"):
        schema["default"] = default
    if spec.minimum is not None:
        schema["minimum"] = spec.minimum
    if spec.maximum is not None:
        schema["maximum"] = spec.maximum
    return schema


def options_schema(cls: type) -> dict[str, Any]:
    """The schema of a component: its options as an object, or its shorthand."""
    specs = options_of(cls)
    rest = next((spec for spec in specs if spec.rest), None)
    if rest is not None:
        return option_schema(rest)
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {spec.name: option_schema(spec) for spec in specs},
        "additionalProperties": False,
    }
    required = [spec.name for spec in specs if spec.required]
    if required:
        schema["required"] = required
    short = next((spec for spec in specs if spec.shorthand), None)
    if short is not None:
        return {"anyOf": [kind_of(short.annotation).schema(), schema]}
    if not required:
        return {"anyOf": [schema, {"type": "null"}]}
    return schema
