"""Records of a large payload one by one, each of bounded size: lines of text, and pieces of bytes between separators."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

from esb.errors import Invalid
from esb.formats.charset import UTF8_BOM
from esb.formats.faults import invalid

#: Characters, or bytes, of one record of a payload that is read piece by piece.
LONGEST = 8_000_000
_PIECE = 1 << 18


def text_lines(source: BinaryIO, encoding: str, message: str) -> Iterator[str]:
    """The lines with their ends (``\\n``, ``\\r\\n`` or ``\\r``), without a byte order mark at the beginning.

    Raises Invalid with the line that cannot be read: bytes that are no such text, a NUL, or too long.
    """
    wrapped = io.TextIOWrapper(source, encoding=encoding, newline="")
    number, rest, first = 1, "", True
    try:
        while piece := wrapped.read(_PIECE):
            if first:
                piece, first = piece.removeprefix("\ufeff"), False
            if "\0" in piece:
                raise _nul(piece, number, message)
            *lines, rest = _cut(rest + piece)
            number += len(lines)
            yield from lines
            if len(rest) > LONGEST:
                raise too_long(message, number)
        if rest:
            yield rest
    except UnicodeError as error:
        hint = "is `encoding:` the one that the data has?"
        detail = f"in or behind line {number}: {_reason(error)}, which is not {encoding} text"
        raise invalid(message, detail, hint=hint) from None
    finally:
        with suppress(ValueError):  # whoever stopped in the middle has closed the file
            wrapped.detach()


def _cut(text: str) -> list[str]:
    """Lines with their ends, the last one unfinished: a ``\\r`` at the end may be half of one."""
    lines = list(io.StringIO(text, newline=""))
    if not lines or lines[-1][-1] == "\n":
        lines.append("")
    return lines


def pieces(source: BinaryIO, separator: bytes, message: str) -> Iterator[bytes]:
    """What stands between separators; the last piece may be empty. Raises Invalid where one is too long."""
    rest, number = b"", 1
    while chunk := source.read(_PIECE):
        *whole, rest = (rest + chunk).split(separator)
        yield from whole
        number += len(whole)
        if len(rest) > LONGEST:
            raise too_long(message, number)
    yield rest


def line_chunks(source: BinaryIO, message: str) -> Iterator[bytes]:
    """Many whole lines at a time, without the ``\\n`` of the last one. Raises Invalid where a line is too long."""
    rest, number = b"", 1
    while chunk := source.read(_PIECE):
        at = chunk.rfind(b"\n")
        if at < 0:
            rest += chunk
        else:
            yield (whole := rest + chunk[:at])
            number += whole.count(b"\n") + 1
            rest = chunk[at + 1 :]
        if len(rest) > LONGEST:
            raise too_long(message, number)
    yield rest


def line_groups(source: BinaryIO, message: str) -> Iterator[list[bytes]]:
    """The lines of UTF-8 text as bytes, some at a time, without their ``\\n`` and without a byte order mark."""
    rest, number, first = b"", 1, True
    while chunk := source.read(_PIECE):
        *lines, rest = (rest + chunk).split(b"\n")
        if first and lines:
            lines[0], first = lines[0].removeprefix(UTF8_BOM), False
        number += len(lines)
        yield lines
        if len(rest) > LONGEST:
            raise too_long(message, number)
    yield [rest.removeprefix(UTF8_BOM) if first else rest]


def too_long(message: str, number: int) -> Invalid:
    """What is said of a record that does not fit."""
    hint = "is it one of its records at all?"
    return invalid(message, f"record {number} is longer than {LONGEST} characters", hint=hint)


def _nul(piece: str, number: int, message: str) -> Invalid:
    line = number + piece.count("\n", 0, piece.index("\0"))
    return invalid(message, f"line {line} has a NUL", hint="is it UTF-16? then set `encoding: utf-16`")


def _reason(error: UnicodeError) -> str:
    if isinstance(error, UnicodeDecodeError) and error.start < len(error.object):
        return f"a byte is 0x{error.object[error.start]:02X}"
    return str(error)


__all__ = ["LONGEST", "line_chunks", "line_groups", "pieces", "text_lines", "too_long"]
