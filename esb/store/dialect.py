"""From the store's SQL to PostgreSQL's: the same statements with other marks for their values."""

from __future__ import annotations

import re
from functools import lru_cache

#: A quoted text, left as it is; a mark by place; a mark by name; what the driver would take for a mark.
_PART = re.compile(r"'(?:[^']|'')*'|\?|(?<![:\w]):([a-z_][a-z0-9_]*)|%")
_OWN = {"BEGIN IMMEDIATE": "BEGIN"}


@lru_cache(maxsize=2048)
def for_postgresql(sql: str) -> str:
    """A statement of the store with the marks of psycopg: ``%b`` for ``?`` and ``%(name)b`` for ``:name``, sent as bytes."""
    return _OWN.get(sql) or _PART.sub(_mark, sql)


def _mark(found: re.Match[str]) -> str:
    text = found[0]
    if text == "?":
        return "%b"
    if found[1] is not None:
        return f"%({found[1]})b"
    return text.replace("%", "%%")
