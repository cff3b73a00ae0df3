"""The items of a large JSON list one by one: where each begins and ends is found here, it is read as any JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from esb.errors import Invalid
from esb.formats.charset import UTF8_BOM
from esb.formats.faults import invalid
from esb.formats.lines import LONGEST, too_long

_BAD = "the body is not valid JSON"
_PIECE = 1 << 18
#: What tells where a value ends: texts, brackets, commas. The group is empty where the buffer ends inside of a text.
MARKS = re.compile(rb'"(?:[^"\\]|\\.)*("?)|[\[\]{},]', re.DOTALL)
_BLANK = b" \t\r\n"
#: Places that are tried as the end of the last whole item in the buffer, and items that are cut out one by one where none was it.
_TRIES, _ALONE = 4, 200


def json_items(source: BinaryIO, decode: Callable[[bytes], Any]) -> Iterator[Any]:
    """The items of the list that is the whole payload; ``decode`` reads one. Raises Invalid for anything else."""
    cut = _Cut(source)
    cut.open_list()
    last, alone = False, 0
    while not last:
        if not alone:
            for batch in cut.batches(decode):
                yield from batch
                cut.count += len(batch)
            alone = _ALONE
        alone -= 1
        item, last = cut.next_item()
        if not item.strip(_BLANK):
            if last and not cut.count:
                return
            raise invalid(_BAD, f"item {cut.count}: expected a value", at=(cut.count,))
        yield decode(item)
        cut.count += 1


class _Cut:
    """Cuts the list into items. In ``_buffer`` the next one begins at ``_start``."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._buffer = b""
        self._start = 0
        self.count = 0

    def open_list(self) -> None:
        while len(self._buffer) < len(UTF8_BOM) and self._more():
            pass
        self._buffer = self._buffer.removeprefix(UTF8_BOM)
        if self._blank_to_the_end():
            raise invalid(_BAD, "it is empty")
        if self._buffer[self._start : self._start + 1] != b"[":
            raise invalid(_BAD, "it is no list")
        self._start += 1

    def batches(self, decode: Callable[[bytes], Any]) -> Iterator[list[Any]]:
        """As many whole items at a time as the buffer holds, while its last objects end where a try says they do.

        What stands before a comma is a row of whole items exactly where it is JSON between brackets: texts and brackets
        that are open in it would make it none.
        """
        while len(self._buffer) - self._start >= _PIECE or self._more():
            end = len(self._buffer)
            for _ in range(_TRIES):
                end = self._buffer.rfind(b"},", self._start, end)
                if end < 0:
                    return
                try:
                    items = decode(b"[" + self._buffer[self._start : end + 1] + b"]")
                except Invalid:
                    continue
                self._start = end + 2
                yield items
                break
            else:
                return

    def next_item(self) -> tuple[bytes, bool]:
        """The bytes up to the comma or the bracket behind the item, and whether it is the last one."""
        depth, looked = 0, 0  # at ``looked`` bytes of the item
        while True:
            for mark in MARKS.finditer(self._buffer, self._start + looked):
                if mark[1] == b"":
                    break
                sign = mark[0]
                if sign in (b"{", b"["):
                    depth += 1
                elif sign in (b"}", b"]"):
                    depth -= 1
                    if depth < 0:
                        return self._end(mark.start(), sign)
                elif sign == b"," and depth == 0:
                    return self._take(mark.start()), False
                looked = mark.end() - self._start
            if len(self._buffer) - self._start > LONGEST:
                raise too_long(_BAD, self.count + 1)
            if not self._more():
                raise invalid(_BAD, f"item {self.count}: it ends in the middle of a list", at=(self.count,))

    def _take(self, end: int) -> bytes:
        item = self._buffer[self._start : end]
        self._start = end + 1
        return item

    def _end(self, end: int, sign: bytes) -> tuple[bytes, bool]:
        if sign == b"}":
            raise invalid(_BAD, f"item {self.count}: `}}` closes nothing", at=(self.count,))
        item = self._take(end)
        if not self._blank_to_the_end():
            raise invalid(_BAD, "something follows after the end of the list")
        return item, True

    def _blank_to_the_end(self) -> bool:
        """Skip blanks; whether nothing else is left."""
        while True:
            rest = self._buffer[self._start :].lstrip(_BLANK)
            if rest:
                self._start = len(self._buffer) - len(rest)
                return False
            self._start = len(self._buffer)
            if not self._more():
                return True

    def _more(self) -> bool:
        piece = self._source.read(_PIECE)
        self._buffer = self._buffer[self._start :] + piece
        self._start = 0
        return bool(piece)


__all__ = ["MARKS", "json_items"]
