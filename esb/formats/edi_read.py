"""Segments of EDIFACT and X12 one after the other, from a file of any size or from bytes in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import BinaryIO

from esb.formats.edi import Marks, Segment, split_at
from esb.formats.faults import invalid, shown
from esb.formats.lines import LONGEST

#: Bytes that are read at a time.
PIECE = 1 << 18
#: What may stand around segments.
BLANK = "\r\n \t"
#: Where a message has its segments; without `loop` in the first of them.
CONTENT = ("segments", "items", "summary")
_NOTHING = BLANK + "\0\x1a"
_NO_END = "the file was cut; ask for it again"


class Segments:
    """The segments of a file; ``next`` is the one that :meth:`take` will give, None at the end.

    ``open_end``: the last one may lack its end mark. With ``most`` a segment, and all that is taken after :meth:`begin`, has at most
    so many characters. Raises Invalid with the number of a segment that is none or has no end.
    """

    def __init__(
        self, pieces: Iterable[str], marks: Marks, message: str, *, open_end: bool = False, most: int = 0
    ) -> None:
        self._marks = marks
        self._message = message
        self._open_end = open_end
        self._most = most
        self._read = self._before = self._from = 0  #: characters with those of ``next``, without them, at the beginning
        self._found = self._segments(pieces)
        self.next: Segment | None = next(self._found, None)

    def take(self) -> Segment | None:
        """The next segment; None at the end."""
        taken = self.next
        if taken is not None:
            self.next = next(self._found, None)
        return taken

    def begin(self) -> None:
        """What is held in memory at a time begins here."""
        self._from = self._before

    def body(self, ends: frozenset[str], what: str, name: str) -> list[Segment]:
        """The segments up to one of ``ends``. Raises Invalid where ``what`` they are part of becomes too large."""
        found: list[Segment] = []
        segment = self.next
        while segment is not None and segment.tag not in ends:
            found.append(segment)
            if self._most and self._read - self._from > self._most:
                raise invalid(self._message, f"{what} {shown(name)} has more than {self._most} characters")
            self.next = segment = next(self._found, None)
        return found

    def _segments(self, pieces: Iterable[str]) -> Iterator[Segment]:
        marks = self._marks
        element, release, repetition = marks.element, marks.release, marks.repetition
        number, known = 0, set[str]()
        for part in self._parts(pieces):
            raw = part.lstrip(BLANK)
            if (not raw or raw[0] in _NOTHING) and not raw.strip(_NOTHING):
                continue
            number += 1
            self._before = self._read
            self._read += len(part)
            released = release != "" and release in raw
            fields = split_at(raw, element, release) if released else raw.split(element)
            tag = fields.pop(0)
            if tag not in known:
                tag = tag.rstrip("\r\n")
                if not (tag.isalnum() and tag.isascii() and 2 <= len(tag) <= 3):
                    detail = f"segment {number} begins with {shown(tag)}, which is no segment tag"
                    raise invalid(self._message, detail)
                known.add(tag)
            yield Segment(number, tag, fields, marks, released or (repetition != "" and repetition in raw))

    def _parts(self, pieces: Iterable[str]) -> Iterator[str]:
        """What stands between the end marks of segments."""
        rest, terminator, release = "", self._marks.terminator, self._marks.release
        for piece in pieces:
            *whole, rest = split_at(rest + piece, terminator, release)
            yield from whole
            if self._most and len(rest) > self._most:
                raise invalid(self._message, f"a segment has more than {self._most} characters", hint=_NO_END)
        if not self._open_end and (left := rest.strip(_NOTHING)):
            raise invalid(self._message, f"the last segment {shown(left)} has no end", hint=_NO_END)
        yield rest


class Kept:
    """The size of what an outline keeps, which is held in memory. Raises Invalid where it becomes too large."""

    def __init__(self, message: str, hint: str) -> None:
        self._message = message
        self._hint = hint
        self._size = 0

    def add(self, part: Mapping[str, object], faults: int) -> None:
        """A part that is kept; ``faults``: characters of all faults that were found so far."""
        self._size += sum(len(name) + len(str(value)) + 6 for name, value in part.items())
        if self._size + faults > LONGEST:
            raise invalid(self._message, f"what is left of it has more than {LONGEST} characters", hint=self._hint)


def skip_blank(source: BinaryIO, at: int, blank: bytes) -> int:
    """The place of the first byte from ``at`` on that is not ``blank``."""
    source.seek(at)
    while chunk := source.read(1 << 12):
        if rest := chunk.lstrip(blank):
            return at + len(chunk) - len(rest)
        at += len(chunk)
    return at


def look(source: BinaryIO, at: int, count: int) -> bytes:
    """The bytes from ``at`` on, fewer where it ends before."""
    source.seek(at)
    found = b""
    while len(found) < count and (chunk := source.read(count - len(found))):
        found += chunk
    return found


__all__ = ["BLANK", "CONTENT", "PIECE", "Kept", "Segments", "look", "skip_blank"]
