"""Rows as JSON, bound parameters as a driver takes them, and watermarks as text that survives a restart."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from esb.errors import Invalid
from esb.formats.faults import shown

#: what JSON knows as it is; most values of most rows
_AS_IS = frozenset({str, int, bool, type(None), Decimal})

_json = msgspec.json.Encoder(decimal_format="number").encode


def row_body(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as a message body: exact numbers, instants in UTC, bytes as base64."""
    return {
        name: value if (kind := type(value)) in _AS_IS else _instant(value) if kind is datetime else plain(value)
        for name, value in row.items()
    }


def _instant(value: datetime) -> str:
    if value.tzinfo is None:
        return value.isoformat()
    text = value.isoformat() if value.tzinfo is UTC else value.astimezone(UTC).isoformat()
    return text[:-6] + "Z"


def plain(value: Any) -> Any:
    """A column's value as JSON: what JSON does not know becomes text."""
    match value:
        case None | bool() | int() | str() | Decimal():
            return value
        case float():
            number = Decimal(repr(value))
            return number if number.is_finite() else repr(value)
        case datetime():
            return _instant(value)
        case date() | time():
            return value.isoformat()
        case timedelta():
            return Decimal(str(value.total_seconds()))
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(bytes(value)).decode()
        case UUID():
            return str(value)
        case Mapping():
            return {str(key): plain(inner) for key, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(inner) for inner in value]
    return str(value)


def parameter(name: str, value: Any, dialect: str) -> Any:
    """What a driver gets for a bound parameter: lists and objects as JSON text; SQLite has no decimals.

    Raises Invalid for what no column can hold.
    """
    match value:
        case Decimal() if dialect == "sqlite":
            return format(value, "f")
        case None | bool() | int() | str() | Decimal():
            if isinstance(value, str) and "\0" in value:
                raise Invalid(
                    f"`{name}` holds a NUL character, which no database takes", hint="`replace` it in the route"
                )
            return value
        case Mapping() | list() | tuple():
            return _json(dict(value) if isinstance(value, Mapping) else list(value)).decode()
        case bytes():
            return value
    raise Invalid(f"`{name}` is {shown(value)}, which is no value for a column")


# -- watermarks --------------------------------------------------------------------------------------------------------
def mark_of(value: Any) -> dict[str, Any]:
    """A watermark as JSON that keeps its type."""
    match value:
        case bool():
            pass
        case int():
            return {"int": str(value)}
        case Decimal() | float():
            return {"decimal": format(Decimal(repr(value)) if isinstance(value, float) else value, "f")}
        case datetime():
            return {"datetime": value.isoformat()}
        case date():
            return {"date": value.isoformat()}
        case str():
            return {"text": value}
        case UUID():
            return {"uuid": str(value)}
    raise Invalid(
        f"{shown(value)} is no watermark", hint="choose a column of numbers, instants or texts that only grow"
    )


def of_mark(mark: Mapping[str, Any]) -> Any:
    """The value that :func:`mark_of` was given."""
    ((kind, text),) = mark.items()
    readers: dict[str, Any] = {
        "int": int, "decimal": Decimal, "datetime": datetime.fromisoformat, "date": date.fromisoformat, "text": str, "uuid": UUID,
    }  # fmt: skip
    return readers[kind](text)


def earlier(value: Any, overlap: timedelta) -> Any:
    """``value`` moved back by the overlap. SQLite keeps instants as text: those move, too."""
    if isinstance(value, (datetime, date)):
        return value - overlap
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return value
        text = (moment - overlap).isoformat(sep="T" if "T" in value else " ")
        return text if len(text) == len(value) else text[: len(value)]
    return value
