"""What is wrong with a schema itself, with its place in the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import jsonschema_rs

from esb.errors import Position, Problem
from esb.formats.faults import pointer, shown
from esb.formats.json_place import place

#: the dialects that are known, and what jsonschema-rs calls them
DRAFTS: Mapping[str, int] = MappingProxyType(
    {
        "https://json-schema.org/draft/2020-12/schema": jsonschema_rs.Draft202012,
        "https://json-schema.org/draft/2019-09/schema": jsonschema_rs.Draft201909,
        "http://json-schema.org/draft-07/schema": jsonschema_rs.Draft7,
        "http://json-schema.org/draft-06/schema": jsonschema_rs.Draft6,
        "http://json-schema.org/draft-04/schema": jsonschema_rs.Draft4,
    }
)
DEFAULT = "https://json-schema.org/draft/2020-12/schema"

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Where:
    """A schema file: its path, and its text where problems shall have their line."""

    path: str
    text: str = ""

    def at(self, parts: Path) -> Position:
        return place(self.text, self.path, parts) if self.text else Position(self.path)

    def problem(self, parts: Path, code: str, message: str, hint: str = "") -> Problem:
        at = f" (at {pointer(parts)})" if parts and not self.text else ""
        return Problem(code, message + at, self.at(parts), hint=hint)


def declared(schema: Any) -> Any:
    """What a schema says of its dialect."""
    return schema.get("$schema", DEFAULT) if isinstance(schema, dict) else DEFAULT


def shape_problems(schema: Any, where: Where) -> list[Problem]:
    """A problem where the file holds no schema, or one of a dialect that nobody here knows (it is never fetched)."""
    if not isinstance(schema, (dict, bool)):
        return [where.problem((), "ESB307", f"a schema is an object, not {shown(schema)}")]
    dialect = declared(schema)
    if not isinstance(dialect, str) or dialect.rstrip("#") not in DRAFTS:
        hint = "known: " + ", ".join(DRAFTS)
        return [where.problem(("$schema",), "ESB307", f"unknown dialect {shown(dialect)}", hint)]
    return []


def schema_problems(schema: Any, error: Any, where: Where) -> list[Problem]:
    """Every fault of a schema that jsonschema-rs refused with ``error``, in the words of ``jsonschema``."""
    if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Referencing):
        return [where.problem((), "ESB307", f"a $ref leads nowhere: {first_line(error)}")]
    from jsonschema import validators  # noqa: PLC0415 - it takes a tenth of a second, which a good schema need not wait for
    from jsonschema.exceptions import best_match  # noqa: PLC0415 - as above

    plain = _with_floats(schema)
    draft = validators.validator_for(plain, default=validators.validator_for({"$schema": DEFAULT}))
    problems = []
    for fault in draft(draft.META_SCHEMA).iter_errors(plain):
        best = best_match([fault]) or fault
        parts = tuple(best.absolute_path)
        hint = "types are array, boolean, integer, null, number, object, string" if parts[-1:] == ("type",) else ""
        problems.append(where.problem(parts, "ESB307", f"`{parts[-1] if parts else 'schema'}`: {best.message}", hint))
    return problems or [_pattern_problem(schema, error, where)]


def _pattern_problem(schema: Any, error: Any, where: Where) -> Problem:
    """``jsonschema`` leaves patterns to Python, which knows another dialect of them and no limit."""
    parts = tuple(error.instance_path)
    if "regex" not in error.message:
        return where.problem(parts, "ESB307", first_line(error))
    value = schema
    for part in parts:
        value = value[part]
    return where.problem(parts, "ESB307", f"{shown(value)} is not a regular expression (ECMA-262), or too large")


def _with_floats(value: Any) -> Any:
    """``jsonschema`` does not take a Decimal for a number; its verdict on a schema does not depend on the digits."""
    if isinstance(value, dict):
        return {key: _with_floats(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_floats(inner) for inner in value]
    return float(value) if isinstance(value, Decimal) else value


def first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]
