"""Which members of a payload a contract marks as sensitive: ``"sensitive": true`` (or ``"x-esb-mask": true``) in its schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from esb.contracts.references import References
from esb.contracts.shapes import Spot

MARKS = ("sensitive", "x-esb-mask")
#: Keywords whose members are schemas of members of an object, by name.
_NAMED = ("properties", "dependentSchemas")
#: Keywords that hold one schema, or several, for the same value or for what has no name of its own.
_ONE = ("items", "additionalProperties", "unevaluatedProperties", "unevaluatedItems", "contains", "not", "if", "then", "else", "propertyNames")  # fmt: skip
_SEVERAL = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_BY_PATTERN = ("patternProperties",)


def marked_names(references: References) -> frozenset[str]:
    """The names of the marked members of a schema, wherever they stand; what is marked without a name hides the member around it.

    What a ``$ref`` leads to counts where it is used. A mark on the whole schema marks all members that it names.
    """
    root = references.root()
    names = {name for name, spot in _members(references, root, "", set()) if _is_marked(spot.schema)}
    if "" in names and isinstance(root.schema, dict):
        names |= set(root.schema.get("properties") or ())
    return frozenset(names - {""})


def _is_marked(schema: Any) -> bool:
    return isinstance(schema, dict) and any(schema.get(mark) is True for mark in MARKS)


def _members(
    references: References, spot: Spot, name: str, seen: set[tuple[str, str, str]]
) -> Iterator[tuple[str, Spot]]:
    """Every schema that applies somewhere below, with the name of the member that it applies to, or that is around it."""
    schema = spot.schema
    here = (spot.path, "/".join(map(str, spot.parts)), name)
    if not isinstance(schema, dict) or here in seen:
        return
    seen.add(here)
    yield name, spot
    ref = schema.get("$ref")
    if isinstance(ref, str) and (target := references.follow(spot, ref)) is not None:
        yield from _members(references, target, name, seen)
    for keyword, value in schema.items():
        if keyword in _NAMED and isinstance(value, dict):
            for member in value:
                yield from _members(references, spot.inner(keyword).inner(member), member, seen)
        elif keyword in _BY_PATTERN and isinstance(value, dict):
            for pattern in value:
                yield from _members(references, spot.inner(keyword).inner(pattern), name, seen)
        elif keyword in _SEVERAL and isinstance(value, list):
            for index in range(len(value)):
                yield from _members(references, spot.inner(keyword).inner(index), name, seen)
        elif keyword in _ONE:
            yield from _members(references, spot.inner(keyword), name, seen)
