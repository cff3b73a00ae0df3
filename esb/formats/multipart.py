"""Bodies of several parts (MIME multipart): cut at their boundary, each with its headers, strictly and in one pass."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from esb.errors import Invalid
from esb.formats.content_types import parse_content_type
from esb.formats.faults import invalid

_BAD = "the body is not a whole multipart body"
#: what RFC 2046 lets stand in a boundary
BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
_HEAD_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class Part:
    """One part; header names in lower case."""

    headers: Mapping[str, str]
    content: bytes

    @property
    def media_type(self) -> str:
        return parse_content_type(self.headers.get("content-type", ""))[0]


def boundary_of(content_type: str) -> str:
    """The boundary that a ``multipart/…`` content type names. Raises Invalid where it names none."""
    boundary = parse_content_type(content_type)[1].get("boundary", "")
    if not BOUNDARY.fullmatch(boundary):
        raise invalid(_BAD, "its content type names no boundary")
    return boundary


def split_parts(data: bytes, boundary: str, *, limit: int = 1_000, strict: bool = True) -> list[Part]:
    """The parts in their order; ``strict`` takes CRLF only between them, else LF alone counts, too.

    Raises Invalid where the end is missing, where there are more than ``limit`` parts, or where a head is none.
    """
    end = rb"\r\n" if strict else rb"\r?\n"
    # a fixed beginning lets the search run at the speed of memory
    begin = (b"\r\n--" if strict else b"\n--") + boundary.encode()
    mark = re.compile(re.escape(begin) + rb"(--)?[ \t]{0,100}+(?=" + end + rb"|\Z)")
    data = b"\r\n" + data
    parts: list[Part] = []
    start: int | None = None
    for found in mark.finditer(data):
        if start is not None:
            if len(parts) == limit:
                raise invalid(_BAD, f"it has more than {limit} parts")
            stop = found.start() - (not strict and data[found.start() - 1 : found.start()] == b"\r")
            parts.append(_part(data[start:stop], end))
        if found[1]:
            return parts
        start = found.end()
    raise invalid(_BAD, "its last boundary is missing" if start is not None else "its boundary never comes")


def _part(data: bytes, end: bytes) -> Part:
    """What lies between two boundaries: line end, headers, an empty line, the content."""
    head, content = _cut(data, end)
    return Part(read_headers(head), content)


def _cut(data: bytes, end: bytes) -> tuple[bytes, bytes]:
    first = re.match(end, data)
    data = data[first.end() :] if first is not None else data
    blank = re.match(end, data) or re.search(end + end, data[:_HEAD_BYTES])
    if blank is None:
        if len(data) > _HEAD_BYTES:
            raise invalid(_BAD, f"a part has a head of more than {_HEAD_BYTES} bytes")
        return data, b""
    return data[: blank.start()], data[blank.end() :]


def read_headers(head: bytes) -> dict[str, str]:
    """Headers, with lines that go on below. Raises Invalid for a line that is none."""
    found: dict[str, str] = {}
    name = ""
    for line in head.decode("utf-8", "replace").splitlines():
        if line[:1] in (" ", "\t") and name:
            found[name] += " " + line.strip()
            continue
        name, colon, value = line.partition(":")
        name = name.strip().lower()
        if not colon or not name:
            raise invalid(_BAD, "a part has a head that is none")
        found[name] = value.strip()
    return found


def join_parts(parts: Iterable[tuple[Mapping[str, str], bytes]], boundary: str) -> bytes:
    """The body of these parts. Raises Invalid where the boundary stands in one of them, or a header would end early."""
    mark = b"--" + boundary.encode()
    pieces: list[bytes] = []
    for headers, content in parts:
        if mark in content:
            raise Invalid("a part holds the boundary of its body")
        if any("\r" in value or "\n" in value for value in headers.values()):
            raise Invalid("a header of a part holds a line end")
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
        pieces += [mark, b"\r\n", head, b"\r\n", content, b"\r\n"]
    return b"".join([*pieces, mark, b"--\r\n"])


def by_name(fields: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Fields of a form or a query by their names, a list where a name is repeated. A value is no list itself."""
    found: dict[str, Any] = {}
    for name, value in fields:
        if name not in found:
            found[name] = value
        elif isinstance(found[name], list):
            found[name].append(value)
        else:
            found[name] = [found[name], value]
    return found
