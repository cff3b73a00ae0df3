"""Reports for the people who sent a file: what of it could not be taken, and why."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec

from esb.errors import BadRow, ErrorRecord
from esb.formats.base import Codec
from esb.formats.csv import Csv
from esb.formats.json import Json
from esb.language.values import plain

_JSON = Json()
_HEAD = ("row", "pointer", "reason", "original")
#: what stands behind the columns of a row that was read
_TOLD = ("row", "code", "pointer", "message")
#: a number, which no spreadsheet takes for a formula
_NUMBER = re.compile(r"[+-]?[\d.,\s]+%?")


@dataclass(frozen=True, slots=True)
class Report:
    """Why a file, or some of its rows, could not be taken. A CSV report is written ``like`` the file, where that is CSV, too."""

    file: str
    reason: str
    at: str
    message_id: str = ""
    error: ErrorRecord | None = None
    rows: Sequence[BadRow] = ()
    like: Codec | None = None

    def content(self, ending: str) -> bytes:
        """As CSV where the report's name ends so, else as JSON."""
        return self.as_csv() if ending.endswith(".csv") else self.as_json()

    def as_json(self) -> bytes:
        content: dict[str, Any] = {"file": self.file, "at": self.at, "reason": self.reason}
        if self.message_id:
            content["message_id"] = self.message_id
        if self.error is not None:
            content["error"] = self.error.as_dict()
        if self.rows:
            content["rows"] = [_told(bad) for bad in self.rows]
        return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"

    def as_csv(self) -> bytes:
        """One line for each fault: `row,pointer,reason,original`; a row counts from 1, its header not counted.

        Rows that were read stand there with their own columns, and `row,code,pointer,message` behind them (`error_row` and so
        on, where a column has that name already).
        """
        if any(isinstance(bad.item, Mapping) for bad in self.rows):
            return self._annotated()
        rows = [_HEAD, *((str(bad.row or ""), bad.pointer, bad.reason, bad.original) for bad in self.rows)]
        if len(rows) == 1 and self.error is not None:
            rows += [(_row_of(v.pointer), v.pointer, v.detail, "") for v in self.error.violations]
        if len(rows) == 1:
            rows.append(("", self.error.pointer if self.error is not None else "", self.reason, ""))
        return "".join(",".join(map(_cell, row)) + "\r\n" for row in rows).encode("utf-8", "replace")

    def _annotated(self) -> bytes:
        like = self.like if isinstance(self.like, Csv) else Csv()
        items = [bad.item if isinstance(bad.item, Mapping) else {"": bad.original} for bad in self.rows]
        columns = list(dict.fromkeys(str(name) for item in items for name in item))
        lines = [(*columns, *(f"error_{name}" if name in columns else name for name in _TOLD))]
        for bad, item in zip(self.rows, items, strict=True):
            cells = [_value(item.get(name)) for name in columns]
            lines.append((*cells, str(bad.row or ""), bad.code, bad.pointer, bad.reason))
        text = "".join(like.delimiter.join(map(_cell, line)) + "\r\n" for line in lines)
        return text.encode(like.encoding, "replace")


def _told(bad: BadRow) -> dict[str, Any]:
    told = {"row": bad.row, "reason": bad.reason, "pointer": bad.pointer}
    if bad.item is None:
        return {**told, "original": bad.original}
    return {"row": bad.row, "code": bad.code, "pointer": bad.pointer, "message": bad.reason, "item": bad.item}


def _value(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, (int, Decimal)) and not isinstance(value, bool):
        return plain(value)
    return _JSON.encode(value).decode()


def _row_of(pointer: str) -> str:
    """The row that a JSON pointer into a list of rows begins with."""
    first = pointer.split("/")[1] if pointer.startswith("/") else ""
    return str(int(first) + 1) if first.isdecimal() else ""


def _cell(text: str) -> str:
    """One quoted cell; a leading formula sign is disarmed, since people open reports in a spreadsheet."""
    harmless = text[:1] not in ("=", "+", "-", "@", "\t", "\r") or _NUMBER.fullmatch(text)
    safe = text if harmless else "'" + text
    return '"' + safe.replace('"', '""') + '"'


__all__ = ["Report"]
