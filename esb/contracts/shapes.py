"""The shape that a contract gives to a value: which fields it can have, read off the JSON Schema.

Where a schema says something that is not followed here (a dynamic reference, a pattern that Python does not know), nothing is
known: a field that may be there is never called impossible.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from esb.language.shapes import TYPES, UNKNOWN, Look, Origin, Shape, both, either, type_of

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Spot:
    """A (sub)schema and where it stands: the file, the way to it, and the URI that its references start from."""

    schema: Any
    path: str
    parts: Path = ()
    base: str = ""

    def inner(self, *parts: str | int) -> Spot:
        schema = self.schema
        for part in parts:
            schema = schema[part]
        return Spot(schema, self.path, (*self.parts, *parts), self.base)


class Follows(Protocol):
    """Finds what a reference leads to, None where that is not known."""

    def follow(self, spot: Spot, ref: str) -> Spot | None: ...


class Places(Protocol):
    """Makes the origin of a shape."""

    def __call__(self, spot: Spot) -> Origin: ...


@dataclass(frozen=True, eq=False)
class Schema(Shape):
    """A value that fulfils a schema."""

    spot: Spot
    follows: Follows
    origin_of: Places
    _fields: dict[str, Look] = field(default_factory=dict)

    def _at(self, spot: Spot) -> Shape:
        if spot.schema is True or spot.schema == {}:
            return UNKNOWN
        return Schema(spot, self.follows, self.origin_of)

    @cached_property
    def _all(self) -> tuple[Spot, ...]:
        """The schemas that hold together: this one, its `allOf`, and what they refer to."""
        return tuple(self._together(self.spot, set()))

    @cached_property
    def _known(self) -> bool:
        return all(isinstance(spot.schema, dict) and not _DYNAMIC & spot.schema.keys() for spot in self._all)

    @cached_property
    def _plain(self) -> bool:
        """Nothing but `properties` and `allOf` says which fields there are."""
        return not any(
            _EVALUATES & spot.schema.keys() or spot.schema.get("unevaluatedProperties") is not False
            for spot in self._all
            if "unevaluatedProperties" in spot.schema or _EVALUATES & spot.schema.keys()
        )

    def _together(self, spot: Spot, seen: set[tuple[str, Path]]) -> Iterator[Spot]:
        if (spot.path, spot.parts) in seen:
            return
        seen.add((spot.path, spot.parts))
        yield spot
        if not isinstance(spot.schema, dict):
            return
        ref = spot.schema.get("$ref")
        if isinstance(ref, str):
            target = self.follows.follow(spot, ref)
            if target is None:
                yield Spot(None, spot.path, spot.parts)
            else:
                yield from self._together(target, seen)
        for index, _ in enumerate(spot.schema.get("allOf", ())):
            yield from self._together(spot.inner("allOf", index), seen)

    # -- what it is -----------------------------------------------------------------------------------------------------
    @cached_property
    def types(self) -> frozenset[str]:
        if not self._known:
            return TYPES
        found = TYPES
        for spot in self._all:
            found &= _types_of(spot.schema)
            for branches in self._branches(spot):
                found &= frozenset[str]().union(*(branch.types for branch in branches))
        return found or TYPES

    @cached_property
    def values(self) -> tuple[Any, ...] | None:
        if not self._known:
            return None
        for spot in self._all:
            if "const" in spot.schema:
                return (spot.schema["const"],)
            if isinstance(spot.schema.get("enum"), list):
                return tuple(spot.schema["enum"])
        return None

    @property
    def origin(self) -> Origin | None:
        return self.origin_of(self._all[1] if "$ref" in _mapping(self.spot.schema) and self._all[1:] else self.spot)

    # -- fields ---------------------------------------------------------------------------------------------------------
    def look(self, name: str) -> Look:
        if name not in self._fields:
            self._fields[name] = self._look(name)
        return self._fields[name]

    def _look(self, name: str) -> Look:
        if not self._known:
            return Look(UNKNOWN, "open")
        found: list[Shape] = []
        sealed = False
        for spot in self._all:
            schema = spot.schema
            own = self._own(spot, name)
            if own is not None:
                found.append(own)
            elif schema.get("additionalProperties") is False:
                return Look(UNKNOWN, "never")
            elif isinstance(schema.get("additionalProperties"), dict):
                found.append(self._at(spot.inner("additionalProperties")))
            sealed = sealed or (schema.get("unevaluatedProperties") is False and self._plain)
            for branches in self._branches(spot):
                looks = [branch.look(name) for branch in branches if branch.can_be("object")]
                possible = [look.shape for look in looks if look.verdict != "never"]
                if looks and not possible:
                    return Look(UNKNOWN, "never")
                if any(look.verdict == "there" for look in looks):
                    found.append(either(possible))
        if found:
            return Look(_together(found), "there")
        if any(self._sometimes(spot, name) for spot in self._all):
            return Look(UNKNOWN, "there")
        return Look(UNKNOWN, "never" if sealed else "open")

    def _own(self, spot: Spot, name: str) -> Shape | None:
        schema = spot.schema
        if name in _mapping(schema.get("properties")):
            return self._at(spot.inner("properties", name))
        for pattern in _mapping(schema.get("patternProperties")):
            if _matches(pattern, name):
                return self._at(spot.inner("patternProperties", pattern))
        return None

    def _branches(self, spot: Spot) -> Iterator[list[Schema]]:
        """The alternatives of `anyOf` and `oneOf`."""
        for word in ("anyOf", "oneOf"):
            if spot.schema.get(word):
                inner = [spot.inner(word, index) for index in range(len(spot.schema[word]))]
                yield [Schema(branch, self.follows, self.origin_of) for branch in inner]

    def _sometimes(self, spot: Spot, name: str) -> bool:
        """Whether `if`, `then`, `else` or `dependentSchemas` speak of a field."""
        inner = [spot.inner(word) for word in ("if", "then", "else") if word in spot.schema]
        for word in ("dependentSchemas", "dependencies"):
            named = _mapping(spot.schema.get(word))
            inner += [spot.inner(word, other) for other, schema in named.items() if isinstance(schema, dict)]
        return any(Schema(branch, self.follows, self.origin_of).look(name).verdict == "there" for branch in inner)

    def names(self) -> Iterable[str]:
        found: dict[str, None] = {}
        if not self._known:
            return ()
        for spot in self._all:
            found.update(dict.fromkeys(_mapping(spot.schema.get("properties"))))
            for branches in self._branches(spot):
                for branch in branches:
                    found.update(dict.fromkeys(branch.names()))
        return [name for name in found if self.look(name).verdict == "there"]

    @property
    def required(self) -> frozenset[str]:
        """The fields that every object of it must have."""
        if not self._known:
            return frozenset()
        return frozenset(
            name for spot in self._all for name in spot.schema.get("required", ()) if isinstance(name, str)
        )

    # -- items ----------------------------------------------------------------------------------------------------------
    def items(self) -> Shape:
        found: list[Shape] = []
        if not self._known:
            return UNKNOWN
        for spot in self._all:
            schema = spot.schema
            if isinstance(schema.get("items"), list) or "prefixItems" in schema:
                return UNKNOWN
            if "items" in schema:
                found.append(self._at(spot.inner("items")))
            for branches in self._branches(spot):
                inner = either([branch.items() for branch in branches if branch.can_be("array")])
                if inner is not UNKNOWN:
                    found.append(inner)
        return _together(found)


_DYNAMIC = {"$dynamicRef", "$recursiveRef"}
#: keywords by which a field counts as known to `unevaluatedProperties`, beside those that are followed here
_EVALUATES = {"additionalProperties", "anyOf", "oneOf", "if", "then", "else", "not", "dependentSchemas"}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _types_of(schema: Mapping[str, Any]) -> frozenset[str]:
    given = schema.get("type")
    named = [given] if isinstance(given, str) else given if isinstance(given, list) else None
    found = TYPES if named is None else frozenset("number" if word == "integer" else word for word in named)
    if "const" in schema:
        found &= {type_of(schema["const"])}
    if isinstance(schema.get("enum"), list):
        found &= {type_of(value) for value in schema["enum"]}
    return found


def _matches(pattern: str, name: str) -> bool:
    """Whether a pattern covers a name; one that Python cannot read might."""
    try:
        return re.search(pattern, name) is not None
    except re.error:
        return True


def _together(found: Iterable[Shape]) -> Shape:
    """Several things that hold of the same value."""
    shape: Shape = UNKNOWN
    for other in found:
        shape = both(shape, other)
    return shape
