"""The short way of a request that came whole: no parser, no events; it is read, answered and written in one piece each.

Nearly every request of a bus is one: a small body behind its head, in one packet. What is anything else (chunks, a body
that is still on its way, `Connection`, `Expect`, other encodings) takes the long way, through the parser and ASGI.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Mapping
from http import HTTPStatus
from typing import Protocol

from msgspec import Struct

from esb.endpoints.base import Memo, Response, Tell
from esb.endpoints.problem import problem

#: Targets that no two programs read in two ways.
_TARGET = re.compile(r"/(?!/)[A-Za-z0-9/._~%!$&'()*+,;=:@-]*+(?:\?[A-Za-z0-9/._~%!$&'()*+,;=:@?-]*+)?")
_METHODS = frozenset({"POST", "PUT", "PATCH", "GET", "DELETE"})
_FIELD = re.compile(r"\r\n([^:\r]++):[\t ]*+([^\r]*+)")
_UNSAFE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]|[^\x00-\xff]")
_LINES: Mapping[int, str] = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
#: The answer where an application cannot say one, for the same reason that the long way has one.
_BROKEN = problem(500, "internal", "the bus could not handle this request")


#: Heads beyond this many bytes are not kept, nor lengths beyond this many digits.
_KEPT, _MAX_DIGITS = 2_048, 15
_LENGTH = re.compile(rb"\r\ncontent-length:[\t ]*+([0-9]++)[\t ]*+\r\n", re.IGNORECASE)


class Whole(Struct, frozen=True):
    """The head of a request; header names in lower case, those that are repeated joined by commas."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    length: int  #: of the body, in bytes
    memo: Memo


class Answers(Protocol):
    """An application that takes requests whole, as well as by ASGI."""

    def whole(self, head: Whole, body: bytes, client: str, tell: Tell) -> Response | Awaitable[Response] | None:
        """The answer, what gives it where that needs a task, or None where ``tell`` hears it on a later turn of the loop."""
        ...


class LastHead:
    """The last head of one connection that could be read whole. One that differs in its length alone is not read again.

    That is what the requests of one sender mostly are, and reading a head strictly is half the price of a small request.
    """

    __slots__ = ("_before", "_behind", "_digits", "_whole")

    def __init__(self) -> None:
        self._whole: Whole | None = None
        self._before = self._behind = self._digits = b""

    def keep(self, head: bytes, whole: Whole) -> None:
        """Remember a head that was checked, and what it was read into."""
        found = _LENGTH.search(head)
        if len(head) > _KEPT or found is None:
            self._whole = None
            return
        start, end = found.span(1)
        self._before, self._digits, self._behind = head[:start], found[1], head[end:]
        self._whole = whole

    def again(self, head: bytes) -> Whole | None:
        """What ``head`` would be read into; None where it must be read."""
        if self._whole is None or not (head.startswith(self._before) and head.endswith(self._behind)):
            return None
        digits = head[len(self._before) : len(head) - len(self._behind)]
        if digits != self._digits:
            if not (digits.isdigit() and len(digits) <= _MAX_DIGITS):
                return None
            known = self._whole
            headers, length = {**known.headers, "content-length": digits.decode()}, int(digits)
            self._digits = digits
            self._whole = Whole(known.method, known.path, known.query, headers, length, known.memo)
        return self._whole


def read_whole(head: bytes, length: int = 0) -> Whole | None:
    """A checked head in origin form, read; None where the long way must read it."""
    if not head.isascii():
        return None
    text = head.decode()
    line, _, _ = text.partition("\r\n")
    method, _, rest = line.partition(" ")
    target, _, version = rest.partition(" ")
    if version != "HTTP/1.1" or method not in _METHODS or _TARGET.fullmatch(target) is None:
        return None
    found = _FIELD.findall(text, len(line))
    headers = {name.lower(): value.rstrip(" \t") for name, value in found}
    if "connection" in headers and headers["connection"].lower() != "keep-alive":
        return None
    if len(headers) != len(found):
        headers = _joined(found)
    path, _, query = target.partition("?")
    return Whole(method, path, query, headers, length, Memo())


def _joined(found: list[tuple[str, str]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in found:
        name, value = raw_name.lower(), raw_value.rstrip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def written(response: Response, date: str, *, keep_alive: bool) -> bytes:
    """The bytes of an answer; ``date`` is the line that each has. Raises ValueError where a header cannot stand in one."""
    status = response.status
    head = (_LINES.get(status) or f"HTTP/1.1 {status} \r\n") + date
    for name, value in response.headers.items():
        if not (value.isascii() and value.isprintable()) and _UNSAFE.search(value):
            raise ValueError(f"the header `{name}` of an answer holds what no header can")
        head += f"{name}: {value}\r\n"
    if not keep_alive:
        head += "connection: close\r\n"
    if status in (204, 304):
        return f"{head}\r\n".encode("latin-1")
    return f"{head}content-length: {len(response.body)}\r\n\r\n".encode("latin-1") + response.body


def answer_broken() -> Response:
    """The answer where the application failed to give one."""
    return _BROKEN


class _Nobody:
    """Nobody waits for more of a request that is whole."""

    @staticmethod
    def set() -> None:
        """What a connection says when it is lost."""


class WholeCycle(Struct, eq=False):
    """As much of a request and its answer as the connection asks for; stands where the parser's own would."""

    keep_alive: bool = True
    disconnected: bool = False
    response_started: bool = False
    response_complete: bool = False
    message_event: _Nobody = _Nobody()


__all__ = ["Answers", "LastHead", "Whole", "WholeCycle", "answer_broken", "read_whole", "written"]
