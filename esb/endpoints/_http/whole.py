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

from esb.endpoints.base import Response
from esb.endpoints.problem import problem

#: Targets that no two programs read in two ways.
_TARGET = re.compile(r"/(?!/)[A-Za-z0-9/._~%!$&'()*+,;=:@-]*+(?:\?[A-Za-z0-9/._~%!$&'()*+,;=:@?-]*+)?")
_METHODS = frozenset({"POST", "PUT", "PATCH", "GET", "DELETE"})
_FIELD = re.compile(r"\r\n([^:\r]++):[\t ]*+([^\r]*+)")
_UNSAFE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]|[^\x00-\xff]")
_LINES: Mapping[int, str] = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
#: The answer where an application cannot say one, for the same reason that the long way has one.
_BROKEN = problem(500, "internal", "the bus could not handle this request")


class Whole(Struct, frozen=True):
    """The head of a request; header names in lower case, those that are repeated joined by commas."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]


class Answers(Protocol):
    """An application that takes requests whole, as well as by ASGI."""

    def whole(self, head: Whole, body: bytes, client: str) -> Awaitable[Response]: ...


def read_whole(head: bytes) -> Whole | None:
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
    return Whole(method, path, query, headers)


def _joined(found: list[tuple[str, str]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in found:
        name, value = raw_name.lower(), raw_value.rstrip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def written(response: Response, default: list[tuple[bytes, bytes]], *, keep_alive: bool) -> bytes:
    """The bytes of an answer. Raises ValueError where a header cannot stand in one."""
    lines = [_LINES.get(response.status) or f"HTTP/1.1 {response.status} \r\n"]
    for raw_name, raw_value in default:
        lines.append(f"{raw_name.decode()}: {raw_value.decode()}\r\n")
    for name, value in response.headers.items():
        if not (value.isascii() and value.isprintable()) and _UNSAFE.search(value):
            raise ValueError(f"the header `{name}` of an answer holds what no header can")
        lines.append(f"{name}: {value}\r\n")
    if not keep_alive:
        lines.append("connection: close\r\n")
    if response.status in (204, 304):
        lines.append("\r\n")
        return "".join(lines).encode("latin-1")
    lines.append(f"content-length: {len(response.body)}\r\n\r\n")
    return "".join(lines).encode("latin-1") + response.body


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


__all__ = ["Answers", "Whole", "WholeCycle", "answer_broken", "read_whole", "written"]
