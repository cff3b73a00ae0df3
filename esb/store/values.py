"""How values of the bus stand in a row: ids as 16 bytes, instants as microseconds, the rest as JSON with exact numbers."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import jiter
import msgspec

from esb.errors import ErrorRecord
from esb.formats.packed import holds_bytes, may_be_packed, packed, unpacked
from esb.message import EMPTY

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Null in a row of :meth:`esb.store.writer.Writer.later`. The driver of SQLite looks for an adapter of everything but whole
#: numbers, floats, texts and byte arrays, also of None and bytes, which costs more than writing the value; a NaN is a null to it.
NULL: Any = float("nan")
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_VARYING = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{16,}|\d+(?:[.,:]\d+)*")


# -- ids and instants ---------------------------------------------------------------------------------------------------
@lru_cache(maxsize=64)  # a message and what is born of it ask for the same one after the other
def mid_of(id_: str) -> bytes:
    """A message id as it is stored. Raises ValueError for text that is no lower-case UUID."""
    if len(id_) == 36 and id_[8] == id_[13] == id_[18] == id_[23] == "-" and id_ == id_.lower():
        mid = bytes.fromhex(id_.replace("-", ""))
        if len(mid) == 16:
            return mid
    raise ValueError(f"{id_!r} is no message id (a lower-case UUID)")


def find_mid(id_: str) -> bytes | None:
    """The same for text that a person typed: None where it cannot be an id."""
    lowered = id_.lower()
    return mid_of(lowered) if _ID.fullmatch(lowered) else None


def id_of(mid: bytes) -> str:
    text = mid.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def micros(instant: datetime) -> int:
    """Microseconds since 1970 UTC, exact. Raises TypeError for a naive instant."""
    delta = instant - EPOCH
    return delta.days * 86_400_000_000 + delta.seconds * 1_000_000 + delta.microseconds


def instant_of(value: int) -> datetime:
    return EPOCH + timedelta(microseconds=value)


def maybe_instant(value: int | None) -> datetime | None:
    return None if value is None else EPOCH + timedelta(microseconds=value)


def cell(data: bytes | None) -> Any:
    """Bytes, or none, as they stand quickest in a row (see ``NULL``)."""
    return NULL if data is None else bytearray(data)


# -- JSON ---------------------------------------------------------------------------------------------------------------
def _plain(value: Any) -> Any:
    """What msgspec does not know: read-only mappings and other containers of our own."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"a {type(value).__name__} cannot be stored")


def _anything(value: Any) -> Any:
    try:
        return _plain(value)
    except TypeError:
        return str(value)


_encode = msgspec.json.Encoder(enc_hook=_plain, decimal_format="number").encode
_encode_lenient = msgspec.json.Encoder(enc_hook=_anything, decimal_format="number").encode


def dump(value: Mapping[str, Any]) -> bytes | None:
    """A mapping of texts; null where it is empty. Raises TypeError for what JSON cannot say."""
    return _encode(value) if value else None


def load(value: bytes | None) -> Mapping[str, Any]:
    return EMPTY if value is None else jiter.from_json(value, float_mode="decimal")


def dump_any(value: Any) -> bytes:
    """Any value, bytes too."""
    data = _encode(value)
    return _encode(packed(value)) if holds_bytes(value) or may_be_packed(data) else data


def load_any(value: bytes) -> Any:
    plain = jiter.from_json(value, float_mode="decimal")
    return unpacked(plain) if may_be_packed(value) else plain


def dump_vars(value: Mapping[str, Any]) -> bytes | None:
    return dump_any(value) if value else None


def load_vars(value: bytes | None) -> Mapping[str, Any]:
    return EMPTY if value is None else load_any(value)


def dump_trace(trace: Sequence[Mapping[str, Any]]) -> bytes | None:
    """A trace, whatever a step noted in it: the record of an effect must not fail the record of the message."""
    if not trace:
        return None
    try:
        return _encode_lenient(trace)
    except (TypeError, ValueError, RecursionError):
        try:
            return json.dumps(list(trace), default=str, ensure_ascii=False).encode("utf-8", "replace")
        except (TypeError, ValueError, RecursionError):
            return b'[{"note":"this trace holds values that cannot be stored"}]'


def load_trace(value: bytes | None) -> list[dict[str, Any]]:
    return [] if value is None else jiter.from_json(value, float_mode="decimal")


# -- errors and their groups --------------------------------------------------------------------------------------------
def dump_error(error: ErrorRecord | None) -> bytes | None:
    if error is None:
        return None
    try:
        return _encode(error.as_dict())
    except ValueError:  # text that is no Unicode, from a target's answer
        return json.dumps(error.as_dict(), ensure_ascii=False).encode("utf-8", "replace")


def load_error(value: bytes | None) -> ErrorRecord | None:
    return None if value is None else ErrorRecord.from_dict(jiter.from_json(value))


def blank(message: str) -> str:
    """An error message with its numbers and ids blanked, so that like faults look alike."""
    return _VARYING.sub("#", message)


def group_of(route: str, error: ErrorRecord | None) -> str:
    """The id of the group of dead letters that look alike: same route, step, error class and blanked message."""
    parts = (route, "", "", "") if error is None else (route, error.step, error.error_class, blank(error.message))
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()[:12]
