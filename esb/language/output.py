"""How values become the text that a template writes, with every growth bounded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from jinja2.runtime import Undefined

from esb.language.dates import as_text
from esb.language.texts import to_json
from esb.language.values import MAX_RESULT, bounded, describe, plain, text_of

_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;"})


def as_output(value: Any) -> str:
    """A value as it stands in the text: digits, ``true``, JSON for lists and objects. Raises ValueError for null."""
    kind = type(value)
    if kind is str:
        return value  # type: ignore[no-any-return]  # its type was asked
    if kind is int or kind is Decimal:
        return plain(value)
    if kind is bool:
        return "true" if value else "false"
    if value is None:
        raise ValueError("a value is null; say what stands in its place: `… | default('')`")
    return _rare_output(value)


def _rare_output(value: Any) -> str:
    if isinstance(value, Undefined):
        return str(value)  # raises, in the words of the missing name
    if isinstance(value, str):
        return str(value)
    if isinstance(value, datetime):
        return as_text(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, (list, tuple, Mapping)):
        return tojson(value)
    raise ValueError(f"{describe(value)} cannot be written as text")


def tojson(value: Any) -> str:
    """JSON with exact decimals, compact."""
    if isinstance(value, Undefined):
        return str(value)
    return to_json(value)


def bounded_concat(parts: Iterable[str]) -> str:
    """``"".join`` within the bounds of a text."""
    pieces = parts if isinstance(parts, list) else list(parts)
    if sum(map(len, pieces)) > MAX_RESULT:
        raise ValueError(f"a text of more than {MAX_RESULT} characters")
    return "".join(pieces)


def joined(parts: Iterable[Any], separator: str) -> str:
    """Texts, numbers and booleans put together; null, lists and objects are refused."""
    texts = []
    total = 0
    for place, part in enumerate(parts):
        if isinstance(part, Undefined):
            str(part)
        text = text_of(part, "join" if separator else "~", f"element {place}")
        total += len(text) + len(separator)
        if total > MAX_RESULT:
            raise ValueError(f"a text of more than {MAX_RESULT} characters")
        texts.append(text)
    return separator.join(texts)


def xmlescape(value: Any) -> str:
    """Text for element content and attributes of XML. Raises ValueError for characters that XML has no way to write."""
    text = as_output(value)
    found = _NOT_XML.search(text)
    if found is not None:
        raise ValueError(f"the character U+{ord(found[0]):04X} cannot stand in XML")
    return bounded(text.translate(_ESCAPES), "x")
