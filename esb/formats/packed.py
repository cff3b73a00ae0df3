"""How a value that was born inside of the bus is kept, and comes back as it was: as JSON, as bytes, or as JSON with bytes in it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any, ClassVar

from esb.formats.base import Codec
from esb.formats.json import Json
from esb.formats.text import Raw

#: The only key of an object that stands for bytes, in base64; where it has a list of one the object itself had this key.
MARK = "$bytes"
_MARK_TEXT = b'"$bytes"'
_BYTES = (bytes, bytearray, memoryview)
#: What holds nothing: most of every body.
_PLAIN = frozenset((str, int, float, bool, type(None), Decimal, datetime))


def holds_bytes(value: Any) -> bool:
    """Whether bytes are in a value that JSON can say else. Its encoder writes them as base64, and nobody knows it afterwards."""
    level = [value]
    while not _PLAIN.issuperset(map(type, level)):  # the last level, mostly the largest, needs no loop
        inside: list[Any] = []
        for one in level:
            kind = type(one)
            if kind is dict:
                inside += one.values()
            elif kind is list:
                inside += one
            elif kind in _PLAIN:
                continue
            elif isinstance(one, _BYTES):
                return True
            elif isinstance(one, Mapping):
                inside += one.values()
            elif isinstance(one, tuple):
                inside += one
        level = inside
    return False


def may_be_packed(data: bytes) -> bool:
    """Whether JSON that :func:`packed` was written to may have something that :func:`unpacked` changes."""
    return data.find(_MARK_TEXT) >= 0  # quicker than `in`


def packed(value: Any) -> Any:
    """The value with objects in place of its bytes."""
    if isinstance(value, _BYTES):
        return {MARK: base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        inner = {name: packed(part) for name, part in value.items()}
        return {MARK: [inner[MARK]]} if len(inner) == 1 and MARK in inner else inner
    if isinstance(value, (list, tuple)):
        return [packed(part) for part in value]
    return value


def unpacked(value: Any) -> Any:
    """The value again. What only looks like bytes stays as it is."""
    if isinstance(value, dict):
        if len(value) == 1 and MARK in value:
            coded = value[MARK]
            if isinstance(coded, list) and len(coded) == 1:
                return {MARK: unpacked(coded[0])}
            try:
                return base64.b64decode(coded, validate=True)
            except (TypeError, ValueError, binascii.Error):
                return value
        return {name: unpacked(part) for name, part in value.items()}
    if isinstance(value, list):
        return [unpacked(part) for part in value]
    return value


class Packed:
    """What holds bytes beside other values, as JSON."""

    content_type: ClassVar[str] = Json.content_type
    media_types: ClassVar[tuple[str, ...]] = ()
    suffixes: ClassVar[tuple[str, ...]] = ()

    def decode(self, data: bytes) -> Any:
        """The value. Raises Invalid."""
        return unpacked(_JSON.decode(data))

    def encode(self, body: Any) -> bytes:
        """The bytes. Raises Invalid."""
        return _JSON.encode(packed(body))


_JSON, _PACKED = Json(), Packed()
#: By the word that stands beside kept bytes: how they are read.
KEPT: Mapping[str, Codec] = MappingProxyType({"json": _JSON, "raw": Raw(), "packed": _PACKED})


def kept(value: Any) -> tuple[bytes, str]:
    """The bytes of a value and the word of :data:`KEPT` for them. Raises Invalid where it has no JSON form."""
    if isinstance(value, bytes):
        return value, "raw"
    data = _JSON.encode(value)  # first, since that refuses what contains itself
    return (_PACKED.encode(value), "packed") if holds_bytes(value) else (data, "json")


__all__ = ["KEPT", "MARK", "holds_bytes", "kept", "may_be_packed", "packed", "unpacked"]
