"""Bytes inside of JSON: how a body, a value or an answer that holds some is kept, and comes back as it was."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

#: The only key of an object that stands for bytes, in base64; where it has a list of one the object itself had this key.
MARK = "$bytes"
_MARK_TEXT = b'"$bytes"'
_BYTES = (bytes, bytearray, memoryview)
#: What holds nothing: most of every body.
_PLAIN = frozenset((str, int, float, bool, type(None), Decimal, datetime))


def holds_bytes(value: Any) -> bool:
    """Whether bytes are in a value that JSON can say else. Its encoder writes them as base64, and nobody knows it afterwards."""
    stack = [value]
    while stack:
        one = stack.pop()
        kind = type(one)
        if kind is dict:
            stack += [inner for inner in one.values() if type(inner) not in _PLAIN]
        elif kind is list:
            stack += [inner for inner in one if type(inner) not in _PLAIN]
        elif isinstance(one, _BYTES):
            return True
        elif isinstance(one, Mapping):
            stack += one.values()
        elif isinstance(one, tuple):
            stack += one
    return False


def may_be_packed(data: bytes) -> bool:
    """Whether JSON that :func:`packed` was written to may have something that :func:`unpacked` changes."""
    return _MARK_TEXT in data


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


__all__ = ["MARK", "holds_bytes", "may_be_packed", "packed", "unpacked"]
