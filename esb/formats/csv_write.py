"""From records to CSV: quoted where needed, numbers without an exponent, formulas guarded on request."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from esb.errors import Invalid
from esb.formats.charset import encode_text
from esb.formats.faults import invalid, shown
from esb.formats.numbers import BOUND, in_bounds

_BAD = "the body cannot be written as CSV"
#: what spreadsheets take for the start of a formula
_FORMULA = re.compile(r"[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)*")


def write_csv(
    body: Any,
    columns: Sequence[str],
    *,
    delimiter: str,
    quote: str,
    newline: str,
    header: bool,
    decimal: str,
    encoding: str,
    guard: bool,
) -> bytes:
    """The bytes of a file. Raises Invalid with the pointer of a record or cell that does not fit."""
    records = _records(body)
    names = [name for name in columns if name] or list(records[0] if records else ())
    known = frozenset(names)
    special = re.compile(f"[{re.escape(delimiter + quote)}\r\n\ufeff]")

    def written(text: str, at: tuple[Any, ...]) -> str:
        if guard and _FORMULA.match(text) and not _NUMBER.fullmatch(text):
            text = "'" + text
        if not special.search(text):
            return text
        if not quote:
            hint = "name a `quote` character, or `replace` it in the route"
            raise invalid(_BAD, f"{shown(text)} holds a delimiter or a line end", at=at, hint=hint)
        return quote + text.replace(quote, quote + quote) + quote

    lines = []
    if header and names:
        lines.append(delimiter.join(written(name, ()) for name in names))
    for index, record in enumerate(records):
        if not known.issuperset(record):
            raise _unknown(record, known, index)
        cells = [written(_cell(record.get(name), decimal, (index, name)), (index, name)) for name in names]
        # a line with nothing on it would be read as no record
        lines.append(delimiter.join(cells) or quote * 2)
    text = newline.join(lines) + newline if lines else ""
    return encode_text(text, encoding, _BAD)


def _records(body: Any) -> Sequence[Mapping[str, Any]]:
    records = [body] if isinstance(body, Mapping) else body
    if not isinstance(records, (list, tuple)):
        raise invalid(_BAD, f"it is {shown(body)}, not a list of objects")
    for index, record in enumerate(records):
        if not isinstance(record, Mapping):
            raise invalid(_BAD, f"record {index + 1} is {shown(record)}, not an object", at=(index,))
    return records


def _unknown(record: Mapping[str, Any], known: frozenset[str], index: int) -> Invalid:
    name = next(name for name in record if name not in known)
    hint = "name it in `columns`, or leave it out of the `map`"
    return invalid(_BAD, f"record {index + 1} has {shown(name)}, which is no column", at=(index, name), hint=hint)


def _cell(value: Any, decimal: str, at: tuple[Any, ...]) -> str:
    match value:
        case str():
            return value
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() | Decimal():
            if not in_bounds(value):
                raise invalid(_BAD, BOUND, at=at)
            text = str(value) if isinstance(value, int) else format(value, "f")
            return text.replace(".", decimal)
    raise invalid(_BAD, f"{shown(value)} does not fit into a cell", at=at)
