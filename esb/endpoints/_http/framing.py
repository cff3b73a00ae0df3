"""Where an HTTP/1 request ends, decided strictly and before any parser sees it.

A request that two programs could read in two ways is refused: that is what request smuggling lives on.
"""

from __future__ import annotations

import re

from msgspec import Struct


class Refused(Exception):
    """The bytes are no request that this listener takes; answer ``status`` and close."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail


def _bad(detail: str) -> Refused:
    return Refused(400, "bad-request", detail)


# Possessive character classes: a head is looked at once, whatever it holds.
_HEAD = re.compile(
    rb"(?:\r\n)?"
    rb"(?P<method>[A-Z]{1,20}+) (?P<target>[!-~]++) HTTP/1\.(?P<minor>[01])\r\n"
    rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t\x20-\x7e\x80-\xff]*+\r\n)*"
    rb"\r\n"
)
_FIELDS = re.compile(rb"\r\n(host|content-length|transfer-encoding|expect|upgrade):([^\r]*+)", re.IGNORECASE)
_HOST = re.compile(rb"(?:[A-Za-z0-9._~%!$&'()*+,;=-]++|\[[0-9A-Fa-f:.]++\])(?::[0-9]{0,5})?")
_ORIGIN_FORM = re.compile(rb"/[^#\\]*+")
_ABSOLUTE_FORM = re.compile(rb"(?i:https?)://(?P<host>[^/?#@\\]++)(?P<path>/[^#\\]*+)?")
_LENGTH = re.compile(rb"[0-9]{1,15}+")
_LONE_LF = re.compile(rb"(?<!\r)\n")
_UPGRADE = re.compile(rb"\r\nupgrade:[^\r]*+", re.IGNORECASE)
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")

#: Longest line of a chunk: eight hexadecimal digits and CRLF.
_CHUNK_LINE = 10
HEAD_END = b"\r\n\r\n"
CHUNKED = -1


class Framing(Struct, frozen=True):
    """``head`` as it goes to the parser; ``length`` of the body in bytes, or :data:`CHUNKED`."""

    head: bytes
    length: int
    expects_continue: bool


def read_head(head: bytes, *, max_headers: int, max_target: int) -> Framing:
    """Check a complete head (request line to empty line). Raises :class:`Refused`."""
    match = _HEAD.fullmatch(head)
    if match is None:
        raise _bad("the request line or a header line is malformed")
    if head.count(b"\r\n") - 2 > max_headers:
        raise Refused(431, "too-many-headers", f"more than {max_headers} header lines")
    if len(match["target"]) > max_target:
        raise Refused(414, "target-too-long", f"the request target is longer than {max_target} bytes")
    fields: dict[bytes, list[bytes]] = {}
    for name, value in _FIELDS.findall(head):
        fields.setdefault(name.lower(), []).append(value.strip(b" \t"))
    old = match["minor"] == b"0"
    _check_host(fields.get(b"host", []), required=not old)
    length = _body_length(fields, old=old)
    expects = [value.lower() for value in fields.get(b"expect", [])]
    if any(value != b"100-continue" for value in expects):
        raise Refused(417, "expectation-unknown", "only `Expect: 100-continue` is understood")
    if _ORIGIN_FORM.fullmatch(match["target"]) is None:
        head = _to_origin_form(head, match)
    if b"upgrade" in fields:
        # an offer (h2c, websocket) may be ignored; the parser would take it up and drop the body
        head = _UPGRADE.sub(b"", head)
    return Framing(head, length, bool(expects) and not old)


def _check_host(hosts: list[bytes], *, required: bool) -> None:
    if len(hosts) > 1 or (required and not hosts):
        raise _bad("a request has exactly one Host header")
    if hosts and _HOST.fullmatch(hosts[0]) is None:
        raise _bad("the Host header is malformed")


def _body_length(fields: dict[bytes, list[bytes]], *, old: bool) -> int:
    lengths = fields.get(b"content-length", [])
    codings = fields.get(b"transfer-encoding", [])
    if codings:
        if lengths:
            raise _bad("Content-Length and Transfer-Encoding exclude each other")
        if old or len(codings) > 1 or codings[0].lower() != b"chunked":
            raise _bad("the only transfer encoding is `chunked`, in HTTP/1.1")
        return CHUNKED
    if len(lengths) > 1:
        raise _bad("there is more than one Content-Length")
    if lengths and _LENGTH.fullmatch(lengths[0]) is None:
        raise _bad("Content-Length is not a plain number")
    return int(lengths[0]) if lengths else 0


def _to_origin_form(head: bytes, match: re.Match[bytes]) -> bytes:
    """``GET http://host/path`` as ``GET /path`` with that host, which the standard puts above the Host header."""
    absolute = _ABSOLUTE_FORM.fullmatch(match["target"])
    if absolute is None or _HOST.fullmatch(absolute["host"]) is None:
        raise _bad("the request target is neither a path nor an http address")
    start, end = match.span("target")
    rest = re.sub(rb"(?i)(\r\nhost:)[^\r]*", lambda found: found[1] + b" " + absolute["host"], head[end:], count=1)
    return head[:start] + (absolute["path"] or b"/") + rest


def refuse_lone_line_feed(data: bytes | bytearray, start: int) -> None:
    """An unfinished head with a bare LF will never be finished; say so now. Raises :class:`Refused`."""
    if _LONE_LF.search(data, max(0, start - 1)):
        raise _bad("a line ends in CR LF, not in LF alone")


class Chunks:
    """Finds the end of a chunked body. No extensions, no trailers, no bare LF, sizes up to eight digits."""

    __slots__ = ("_left", "_line", "_wanted", "done")

    def __init__(self) -> None:
        self._line = bytearray()
        self._left = 0
        self._wanted = "size"
        self.done = False

    def take(self, data: bytes) -> int:
        """How many bytes of ``data`` belong to the body (all of them unless :attr:`done`). Raises :class:`Refused`."""
        at, end = 0, len(data)
        while at < end and not self.done:
            if self._left:
                step = min(self._left, end - at)
                self._left -= step
                at += step
                continue
            stop = data.find(b"\n", at, at + _CHUNK_LINE)
            piece = data[at : stop + 1] if stop >= 0 else data[at : at + _CHUNK_LINE]
            self._line += piece
            at += len(piece)
            if stop >= 0:
                self._end_line()
            elif len(self._line) >= _CHUNK_LINE:
                raise _bad("a chunk is malformed (extensions are not taken)")
        return at

    def _end_line(self) -> None:
        line = bytes(self._line)
        self._line.clear()
        if self._wanted == "size":
            match = _CHUNK_SIZE.fullmatch(line)
            if match is None:
                raise _bad("a chunk is malformed (extensions are not taken)")
            self._left = int(match[1], 16)
            self._wanted = "data end" if self._left else "last"
        elif line != b"\r\n":
            raise _bad("a chunk does not end where it said (trailers are not taken)")
        elif self._wanted == "last":
            self.done = True
        else:
            self._wanted = "size"
