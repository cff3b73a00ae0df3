"""A large JSON document read in pieces, so that whoever reads it can do other things in between.

The decoder holds the interpreter for as long as it reads, in whatever thread; what a worker process had read would have to be
unpickled here, which takes as long. So the longest part of most large documents, a list of objects, is read some rows at a time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from typing import Any

from esb.errors import Invalid
from esb.formats.faults import invalid
from esb.formats.json_items import MARKS

_BAD = "the body is not valid JSON"
#: Bytes that are read at a time, some milliseconds' work.
_PIECE = 1 << 16
#: Lists that may stand before the long one; marks after which a search pauses; places that are tried as the end of whole rows.
_LISTS, _PAUSE, _TRIES = 16, 20_000, 4
_TEXTS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BLANK = b" \t\r\n"

Decode = Callable[[bytes], Any]


def in_pieces(data: bytes, decode: Decode) -> Generator[None, None, Any]:
    """What ``decode`` makes of it; pauses after each piece. Raises Invalid as it does, with places counted from an item on.

    A document whose large part is no list of objects is read in one go.
    """
    lists, start, items, at = yield from _begin(data, decode)
    if not items:
        return decode(data)
    while (more := _rows(data, at, decode)) is not None:
        rows, at = more
        items += rows
        yield
    end = yield from _end(data, at)
    if end < 0 or not data[at:end].strip(_BLANK):
        raise invalid(_BAD, f"after item {len(items) - 1}: expected a value", at=(len(items),))
    try:
        items += decode(b"[" + data[at:end] + b"]")
    except Invalid as error:
        raise Invalid(f"after item {len(items) - 1}: {error.message}", hint=error.hint) from None
    yield
    # what stands around the list may hold another long one
    around = data[:start] + b"[]" + data[end + 1 :]
    body = (yield from in_pieces(around, decode)) if len(around) > _PIECE else decode(around)
    for number, found in enumerate(_lists(body)):
        if number == lists:
            found.extend(items)
            break
    return body


def _begin(data: bytes, decode: Decode) -> Generator[None, None, tuple[int, int, list[Any], int]]:
    """The first long list of objects: the lists before it, where it begins, its first rows and where the next one begins."""
    lists = 0
    for number, mark in enumerate(MARKS.finditer(data)):
        if mark[0] == b"[":
            if (first := _rows(data, mark.end(), decode)) is not None:
                return lists, mark.start(), *first
            lists += 1
            yield
        if lists > _LISTS or number > _PAUSE:
            break
    return 0, 0, [], 0


def _rows(data: bytes, at: int, decode: Decode) -> tuple[list[Any], int] | None:
    """Whole items from ``at`` on, and where the one behind them begins; None where no such place is found.

    What stands before a comma is a row of whole items exactly where it is JSON between brackets.
    """
    ends = _ends(data, at, min(len(data), at + _PIECE))
    for _, end in zip(range(_TRIES), ends, strict=False):
        try:
            return decode(b"[" + data[at:end] + b"]"), end + 1
        except Invalid:
            continue
    return None


def _ends(data: bytes, at: int, stop: int) -> Iterator[int]:
    """Where rows may end, the last place first: behind any object; then only where as many brackets are closed as opened."""
    end = data.rfind(b"},", at, stop) + 1
    if not end:
        return
    yield end
    depth = _depth(data, at, end)
    while before := data.rfind(b"},", at, end) + 1:
        depth -= _depth(data, before, end)
        end = before
        if depth == 0:
            yield end


def _depth(data: bytes, at: int, end: int) -> int:
    """Brackets that are opened and not closed from ``at`` to ``end``, none of which is inside of a text."""
    bare = _TEXTS.sub(b"", data[at:end])
    return bare.count(b"{") + bare.count(b"[") - bare.count(b"}") - bare.count(b"]")


def _end(data: bytes, at: int) -> Generator[None, None, int]:
    """Where the bracket stands that closes the list; -1 where none does."""
    depth = 0
    for number, mark in enumerate(MARKS.finditer(data, at)):
        sign = mark[0]
        if sign in (b"{", b"["):
            depth += 1
        elif sign in (b"}", b"]"):
            depth -= 1
            if depth < 0:
                return mark.start() if sign == b"]" else -1
        if number % _PAUSE == _PAUSE - 1:
            yield
    return -1


def _lists(value: Any) -> Iterator[list[Any]]:
    """Every list in it, in the order in which they begin."""
    if isinstance(value, list):
        yield value
    if isinstance(value, (dict, list)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _lists(part)


__all__ = ["in_pieces"]
