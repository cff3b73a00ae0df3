"""Values between the bus and its workers: in pieces so small that neither side is busy with one for long.

A piece is one letter and its content: ``j`` a JSON value, ``b`` raw bytes, ``[`` … ``]`` a list and ``{`` … ``}`` an object whose
parts follow; inside them ``e`` adds several elements, ``m`` several fields, and ``k`` names the field of the next value.
Nothing but plain data can be said this way, so a worker that was taken over by its input cannot make the bus run code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from esb.errors import InternalFault
from esb.formats.json import Json
from esb.message import Message

#: About how many values are in one piece; 2000 are read in less than a millisecond.
PIECE = 2000
#: Characters that weigh as much as one value.
_CHARACTERS = 64

#: Elements of a list in its first piece.
_FIRST = 32

_SCALARS = frozenset((int, Decimal, bool, float, type(None)))

_JSON = Json()


def pack(value: Any) -> Iterator[bytes]:
    """The pieces of ``value`` (plain data and bytes)."""
    if _weight(value) > PIECE:
        yield from _apart(value)
    else:
        yield b"j" + _JSON.encode(value)


def _apart(value: Any) -> Iterator[bytes]:
    """The pieces of what is too heavy to be one."""
    if isinstance(value, bytes):
        yield b"b" + value
    elif isinstance(value, Mapping):
        yield b"{"
        yield from _fields(value)
        yield b"}"
    elif isinstance(value, (list, tuple)):
        yield b"["
        yield from _elements(value)
        yield b"]"
    else:
        yield b"j" + _JSON.encode(value)


def _fields(value: Mapping[str, Any]) -> Iterator[bytes]:
    group: dict[str, Any] = {}
    weight = 0
    for name, inner in value.items():
        own = _weight(inner)
        if group and (own > PIECE or weight + own > PIECE):
            yield b"m" + _JSON.encode(group)
            group, weight = {}, 0
        if own > PIECE:
            yield b"k" + name.encode()
            yield from _apart(inner)
        else:
            group[name] = inner
            weight += own + 1 + len(name) // _CHARACTERS
    if group:
        yield b"m" + _JSON.encode(group)


def _elements(value: list[Any] | tuple[Any, ...]) -> Iterator[bytes]:
    """So many at a time that they are one piece, as those before them were: each is weighed about once."""
    place, number = 0, _FIRST
    while place < len(value):
        group = value[place : place + number]
        weight = _weight(group)
        if weight <= PIECE:
            yield b"e" + _JSON.encode(group)
            place += number
            if weight <= PIECE // 2:
                number *= 2
        elif number > 1:
            number //= 2
        else:
            yield from _apart(group[0])
            place += 1


def _weight(value: Any) -> int:
    """About how many values this is; more than PIECE, and not counted further, where it must be taken apart.

    To weigh small objects takes longer than to write them, hence the care for plain dictionaries and lists.
    """
    weight, stack = 1, [value]
    while stack and weight <= PIECE:
        inner = stack.pop()
        kind = type(inner)
        if kind is str:
            weight += len(inner) // _CHARACTERS
            continue
        if kind is dict or kind is list:
            weight += len(inner)
        elif isinstance(inner, bytes):
            return PIECE + 1
        elif isinstance(inner, (Mapping, list, tuple)):
            weight += len(inner)
        else:
            continue
        if weight > PIECE:
            return weight
        if kind is dict or isinstance(inner, Mapping):
            weight += sum(map(len, inner)) // _CHARACTERS
            inner = inner.values()
        stack += [part for part in inner if type(part) not in _SCALARS]
    return weight


class Unpacker:
    """Puts a value together again, piece by piece; ``value`` is whole after the last one."""

    def __init__(self) -> None:
        self.value: Any = None
        self._open: list[tuple[Any, str]] = []  # containers that are being filled, with the name they will have outside
        self._name = ""

    def add(self, piece: bytes) -> None:
        kind, content = piece[:1], piece[1:]
        match kind:
            case b"j":
                self._put(_JSON.decode(content))
            case b"b":
                self._put(content)
            case b"e":
                self._open[-1][0].extend(_JSON.decode(content))
            case b"m":
                self._open[-1][0].update(_JSON.decode(content))
            case b"k":
                self._name = content.decode()
            case b"[" | b"{":
                self._open.append(([] if kind == b"[" else {}, self._name))
            case b"]" | b"}":
                made, self._name = self._open.pop()
                self._put(made)
            case _:
                raise InternalFault("a worker answered with something that is no parcel")

    def _put(self, value: Any) -> None:
        if not self._open:
            self.value = value
        elif isinstance(self._open[-1][0], list):
            self._open[-1][0].append(value)
        else:
            self._open[-1][0][self._name] = value


def of_message(message: Message) -> dict[str, Any]:
    return {"body": message.body, "headers": message.headers, "vars": message.vars, "meta": message.meta}


def to_message(plain: Mapping[str, Any]) -> Message:
    return Message(plain["body"], plain["headers"], plain["vars"], plain["meta"])
