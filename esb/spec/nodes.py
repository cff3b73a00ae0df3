"""YAML nodes that know their file, line and column."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from esb.errors import Position
from esb.secret import Secret


@dataclass(frozen=True, slots=True)
class Node:
    """A value of a YAML document and where it stands."""

    position: Position

    @property
    def what(self) -> str:
        """The node in the words of an error message."""
        return "nothing"


@dataclass(frozen=True, slots=True)
class ScalarNode(Node):
    """One value by YAML 1.2 rules. ``text`` is what stands in the file; ``expanded`` where ``${NAME}`` was filled in.

    ``value`` is a :class:`~esb.secret.Secret` where the text held ``${secret:…}``. ``unknown`` marks a value that refers to
    a variable that is not set: its reader was told already, so nothing more is said about it.
    """

    value: str | int | Decimal | bool | Secret | None = None
    text: str = ""
    quoted: bool = False
    expanded: bool = False
    unknown: bool = False

    @property
    def what(self) -> str:
        match self.value:
            case None:
                return "nothing"
            case bool():
                return f"{self.text} (a yes/no value)"
            case int() | Decimal():
                return f"the number {self.text}"
            case Secret():
                return "a secret"
            case _:
                return f"the text {self.value!r}" if len(str(self.value)) <= 40 else "a text"


@dataclass(frozen=True, slots=True)
class ListNode(Node):
    items: tuple[Node, ...] = ()

    @property
    def what(self) -> str:
        return "a list"

    def __iter__(self) -> Iterator[Node]:
        return iter(self.items)


@dataclass(frozen=True, slots=True)
class MapNode(Node):
    """A mapping; keys are text (any other key is a problem that the loader reports)."""

    entries: tuple[tuple[ScalarNode, Node], ...] = ()

    @property
    def what(self) -> str:
        return "a mapping"

    def __iter__(self) -> Iterator[tuple[ScalarNode, Node]]:
        return iter(self.entries)

    def keys(self) -> tuple[str, ...]:
        return tuple(key.text for key, _ in self.entries)

    def get(self, name: str) -> Node | None:
        for key, value in self.entries:
            if key.text == name:
                return value
        return None

    def key(self, name: str) -> ScalarNode | None:
        """The key's own node, to point at the key instead of its value."""
        for key, _ in self.entries:
            if key.text == name:
                return key
        return None

    def without(self, *names: str) -> MapNode:
        """The same mapping with some keys left out."""
        return MapNode(self.position, tuple((k, v) for k, v in self.entries if k.text not in names))


def part_of(node: Node, name: str) -> Node:
    """Where to point a problem with the option ``name``: its value where it is written, else the whole node."""
    return (node.get(name) if isinstance(node, MapNode) else None) or node


def to_plain(node: Node) -> Any:
    """The value as plain Python: dict, list, str, int, Decimal, bool, None (and Secret where one stands)."""
    match node:
        case ScalarNode():
            return node.value
        case ListNode():
            return [to_plain(item) for item in node.items]
        case MapNode():
            return {key.text: to_plain(value) for key, value in node.entries}
    return None


def scalars(node: Node) -> Iterator[ScalarNode]:
    """Every single value below a node, without the keys."""
    match node:
        case ScalarNode():
            yield node
        case ListNode():
            for item in node.items:
                yield from scalars(item)
        case MapNode():
            for _, value in node.entries:
                yield from scalars(value)
