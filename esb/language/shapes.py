"""What can be known of a value before any message comes: which fields it can have, and what a value can be.

A :class:`Shape` says what is *possible*. The plain one knows nothing, so that whatever comes out of a step nobody can look
into stays unchecked. Shapes are lazy: a contract may refer to itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any, Literal, NamedTuple

from esb.errors import Position

#: what a value can be, in the words of JSON
TYPES = frozenset({"object", "array", "string", "number", "boolean", "null"})
_WORDS = {
    "object": "an object",
    "array": "a list",
    "string": "a text",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a shape is declared: in words (``contract lot.v1``), and the place once somebody wants to see it."""

    words: str
    place: Callable[[], Position | None] = field(default=lambda: None, compare=False)
    entity: str = ""  #: the name of a contract without its version, where the shape is all of it


class Look(NamedTuple):
    """What reading a field gives. ``verdict``: it is declared, it is not but may be there, or it can never be there."""

    shape: Shape
    verdict: Literal["there", "open", "never"]


class Shape:
    """What is known of a value; this one knows nothing."""

    @property
    def types(self) -> frozenset[str]:
        """The JSON types that it can have."""
        return TYPES

    @property
    def values(self) -> tuple[Any, ...] | None:
        """Everything it can be, where that is a short list; None where it is not."""
        return None

    @property
    def origin(self) -> Origin | None:
        return None

    def look(self, name: str) -> Look:
        """What the field ``name`` of it is."""
        return Look(UNKNOWN, "open")

    def names(self) -> Iterable[str]:
        """The fields that are declared."""
        return ()

    def items(self) -> Shape:
        """What the items of it are, where it is a list."""
        return UNKNOWN

    @property
    def required(self) -> frozenset[str]:
        """The fields that are always there, where it is an object."""
        return frozenset()

    def is_only(self, *kinds: str) -> bool:
        """True where it is one of ``kinds`` (or null) for sure."""
        return bool(self.types - {"null"}) and self.types - {"null"} <= set(kinds)

    def can_be(self, kind: str) -> bool:
        return kind in self.types


UNKNOWN = Shape()


@dataclass(frozen=True, eq=False)
class Plain(Shape):
    """A single value (or a list or object that nothing more is known of)."""

    kinds: frozenset[str]
    known: tuple[Any, ...] | None = None

    @property
    def types(self) -> frozenset[str]:
        return self.kinds

    @property
    def values(self) -> tuple[Any, ...] | None:
        return self.known


TEXT, NUMBER, YES_NO, NULL = (Plain(frozenset({word})) for word in ("string", "number", "boolean", "null"))


@dataclass(frozen=True, eq=False)
class Listed(Shape):
    """A list of items of one shape."""

    item: Shape

    @property
    def types(self) -> frozenset[str]:
        return frozenset({"array"})

    def look(self, name: str) -> Look:
        return Look(NULL, "never")

    def items(self) -> Shape:
        return self.item


@dataclass(frozen=True, eq=False)
class Built(Shape):
    """An object of which all fields are known: what a `map` made."""

    fields: Mapping[str, Shape]
    made: Origin | None = None
    open: bool = False  #: there may be more than these

    @property
    def types(self) -> frozenset[str]:
        return frozenset({"object"})

    @property
    def origin(self) -> Origin | None:
        return self.made

    def look(self, name: str) -> Look:
        if name in self.fields:
            return Look(self.fields[name], "there")
        return Look(UNKNOWN, "open") if self.open else Look(NULL, "never")

    def names(self) -> Iterable[str]:
        return self.fields

    def items(self) -> Shape:
        return NULL


@dataclass(frozen=True, eq=False)
class Either(Shape):
    """One of several, depending on the message."""

    options: tuple[Shape, ...]

    @cached_property
    def types(self) -> frozenset[str]:
        return frozenset[str]().union(*(option.types for option in self.options))

    @cached_property
    def values(self) -> tuple[Any, ...] | None:
        found: list[Any] = []
        for option in self.options:
            known = () if option.types <= {"null"} else option.values
            if known is None:
                return None
            found.extend(known)
        return tuple(found)

    @cached_property
    def origin(self) -> Origin | None:
        return next((option.origin for option in self.options if option.origin is not None), None)

    @cached_property
    def _looks(self) -> dict[str, Look]:
        return {}

    def look(self, name: str) -> Look:
        """Found once: the options may have much in common, each of them a choice itself."""
        if name not in self._looks:
            self._looks[name] = _look([option.look(name) for option in self.options])
        return self._looks[name]

    @cached_property
    def _names(self) -> Iterable[str]:
        return dict.fromkeys(name for option in self.options for name in option.names())

    def names(self) -> Iterable[str]:
        return self._names

    def items(self) -> Shape:
        return either([option.items() for option in self.options if option.can_be("array")])


@dataclass(frozen=True, eq=False)
class Both(Shape):
    """Two things that are known of the same value: what a step made of it, and the contract that it was held against."""

    first: Shape
    second: Shape

    @cached_property
    def types(self) -> frozenset[str]:
        return self.first.types & self.second.types or self.second.types

    @cached_property
    def values(self) -> tuple[Any, ...] | None:
        return self.second.values if self.second.values is not None else self.first.values

    @cached_property
    def origin(self) -> Origin | None:
        return self.second.origin or self.first.origin

    @cached_property
    def _looks(self) -> dict[str, Look]:
        return {}

    def look(self, name: str) -> Look:
        if name not in self._looks:
            self._looks[name] = self._look(name)
        return self._looks[name]

    def _look(self, name: str) -> Look:
        one, other = self.first.look(name), self.second.look(name)
        if "never" in (one.verdict, other.verdict):
            return Look(NULL, "never")
        verdict: Literal["there", "open"] = "there" if "there" in (one.verdict, other.verdict) else "open"
        return Look(both(one.shape, other.shape), verdict)

    @cached_property
    def _names(self) -> Iterable[str]:
        said = dict.fromkeys((*self.second.names(), *self.first.names()))
        return [name for name in said if self.look(name).verdict != "never"]

    def names(self) -> Iterable[str]:
        return self._names

    def items(self) -> Shape:
        return both(self.first.items(), self.second.items())


@dataclass(frozen=True, eq=False)
class With(Shape):
    """The same value after fields were set, in every case or in some: ``base`` is no ``With`` itself, so that however many
    steps set something, one look is enough."""

    base: Shape
    fields: Mapping[str, Look]
    types: frozenset[str] = frozenset({"object"})

    @property
    def origin(self) -> Origin | None:
        return self.base.origin

    def look(self, name: str) -> Look:
        return self.fields[name] if name in self.fields else self.base.look(name)

    def names(self) -> Iterable[str]:
        return dict.fromkeys((*self.base.names(), *self.fields))

    def items(self) -> Shape:
        return self.base.items() if "array" in self.types else UNKNOWN


def either(options: Iterable[Shape]) -> Shape:
    """One of ``options``; as soon as nothing is known of one, nothing is known."""
    found = list(dict.fromkeys(options))  # shapes are told apart by identity
    if not found or UNKNOWN in found:
        return UNKNOWN
    if len(found) == 1:
        return found[0]
    bases = {option.base if isinstance(option, With) else option for option in found}
    if len(bases) > 1:
        each = dict.fromkeys(_each(found))
        return UNKNOWN if UNKNOWN in each else Either(tuple(each))
    # one value of which fields are set in some cases: as a choice, every such step would double the work of each look
    names = dict.fromkeys(name for option in found if isinstance(option, With) for name in option.fields)
    types = frozenset[str]().union(*(option.types for option in found))
    return With(bases.pop(), {name: _look([option.look(name) for option in found]) for name in names}, types)


def _look(looks: Sequence[Look]) -> Look:
    """What reading a field of one of several values gives."""
    found = [look.shape for look in looks if look.verdict != "never"]
    if not found:
        return Look(NULL, "never")
    return Look(either(found), "there" if any(look.verdict == "there" for look in looks) else "open")


def _each(options: Iterable[Shape]) -> Iterator[Shape]:
    for option in options:
        if isinstance(option, Either):
            yield from option.options
        else:
            yield option


def both(first: Shape, second: Shape) -> Shape:
    """What both say of the same value."""
    if first is UNKNOWN or first is second:
        return second
    return first if second is UNKNOWN else Both(first, second)


def set_in(shape: Shape, path: Iterable[str], value: Shape) -> Shape:
    """``shape`` with ``value`` at the fields ``path``; objects on the way are made."""
    names = list(path)
    if not names:
        return value
    inner = shape.look(names[0])
    below = inner.shape if inner.verdict == "there" else UNKNOWN if shape is UNKNOWN else Built({})
    field = Look(set_in(below, names[1:], value) if names[1:] else value, "there")
    base, fields = (shape.base, shape.fields) if isinstance(shape, With) else (shape, {})
    return With(base, {**fields, names[0]: field})


def of_value(value: Any) -> Shape:
    """The shape of a literal."""
    if isinstance(value, dict):
        return Built({str(name): of_value(inner) for name, inner in value.items()})
    if isinstance(value, list):
        return Listed(either([of_value(item) for item in value]) if value else UNKNOWN)
    return Plain(frozenset({type_of(value)}), (value,))


def type_of(value: Any) -> str:
    """The JSON type of a plain value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float, Decimal)):
        return "number"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"


def in_words(types: Iterable[str]) -> str:
    """``a text or a number``; null is left out where there is something else."""
    found = [_WORDS[word] for word in _WORDS if word in types and word != "null"] or ["null"]
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} or {found[-1]}"


def paths_of(shape: Shape, depth: int = 5, most: int = 400) -> Iterator[tuple[str, ...]]:
    """The fields that are declared below a shape, outer ones first; ``[]`` stands for the items of a list."""
    level: list[tuple[tuple[str, ...], Shape]] = [((), shape)]
    count = 0
    for _ in range(depth):
        inner: list[tuple[tuple[str, ...], Shape]] = []
        for path, where in level:
            if where.is_only("array"):
                inner.append(((*path, "[]"), where.items()))
            for name in where.names():
                count += 1
                if count > most:
                    return
                yield (*path, name)
                inner.append(((*path, name), where.look(name).shape))
        level = inner
