"""Requests without TLS, proxy or cookies over connections of our own: the client library's work at a part of its price.

What the bus sends is small and whole, so a request is one write and its answer one callback: no task, no stream and no timer
for each. Everything else goes through the library (:mod:`esb.endpoints._http.client`); a test holds that an answer, and
a fault, is the same on both ways.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple

import httptools
from aiohappyeyeballs import start_connection
from msgspec import Struct

from esb import __version__
from esb.clock import Deadlines
from esb.endpoints._http.answers import Answer, too_large, unpacked
from esb.errors import MessageError, Unavailable

#: Bytes of a body that is still sent in one write.
LARGEST = 1 << 18
#: Bytes that the head of an answer may have; each field counts 32 more, so that there are not too many.
_HEAD = 1 << 15
#: Seconds until the next address of a name is tried beside the one before it, as the client library does.
_NEXT_ADDRESS = 0.25
#: Methods that are sent again where a connection that was kept turns out to be closed: they change nothing twice.
_AGAIN = frozenset({"GET", "PUT", "DELETE"})
#: but for `#…`, which is not sent
_TARGET = re.compile(r"/[!\"$-~]*")
_BAD_NAME = re.compile(r"[^!#$%&'*+.^_`|~0-9A-Za-z-]")
_OWN = (("user-agent", f"User-Agent: esb/{__version__}\r\n"), ("accept-encoding", "Accept-Encoding: gzip\r\n"))
_NOT_HTTP = "what it answers is not HTTP"
_CLOSED = "closed the connection without an answer"
_BROKE_OFF = "the answer broke off"


class _Broken(Exception):
    """The answer did not come; ``answering``: some of it did."""

    def __init__(self, fault: str, *, answering: bool) -> None:
        super().__init__(fault)
        self.fault, self.answering = fault, answering


#: Hears that an answer is there, or why it does not come.
Heard = Callable[[Exception | None], None]


class _TooLarge(Exception):
    """There is more of the answer than its reader takes."""


def written(authority: str, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> bytes | None:
    """The request as it goes out; None where it is not plain enough: what is wrong with it is for the library to say."""
    if (body is not None and len(body) > LARGEST) or _TARGET.fullmatch(target) is None:
        return None
    names = _names(tuple(headers))
    if names is None:
        return None
    lines = [f"{method} {target} HTTP/1.1\r\n"]
    if names.needs_host:
        lines.append(f"Host: {authority}\r\n")
    lines += [f"{name}: {value}\r\n" for name, value in headers.items()]
    lines += names.own
    if body is not None and names.needs_type:
        lines.append("Content-Type: application/octet-stream\r\n")
    if body is not None or method not in ("GET", "HEAD", "DELETE"):
        lines.append(f"Content-Length: {len(body or b'')}\r\n")
    head = "".join(lines)
    if not (head.count("\n") == head.count("\r") == len(lines)) or "\0" in head:
        return None  # a value that would be a line of its own
    return b"".join((head.encode(), b"\r\n", body or b""))


class _Names(NamedTuple):
    """What the names of a request's headers say."""

    needs_host: bool
    needs_type: bool
    own: tuple[str, ...]


@lru_cache(maxsize=256)
def _names(names: tuple[str, ...]) -> _Names | None:
    """None where one of them is no name. The requests of one sink have the same ones."""
    lowered = {name.lower() for name in names}
    if _BAD_NAME.search("".join(lowered)):
        return None
    own = tuple(line for name, line in _OWN if name not in lowered)
    return _Names("host" not in lowered, "content-type" not in lowered, own)


class _Head(Struct, frozen=True):
    """The head of an answer that came whole. The next one mostly has the same bytes, and is not read again."""

    head: bytes
    length: int
    status: int
    headers: dict[str, str]

    @classmethod
    def of(cls, data: bytes, answer: Connection) -> _Head | None:
        """None where the bytes of the body are not simply those behind the head, or some are still to come."""
        length = answer.headers.get("content-length", "")
        end = data.find(b"\r\n\r\n") + 4
        if (
            length != str(answer.size)
            or not 0 < answer.size == len(data) - end
            or "transfer-encoding" in answer.headers
        ):
            return None
        return cls(data[:end], answer.size, answer.status, answer.headers)

    def begins(self, data: bytes) -> bool:
        """Whether this is an answer with this head, and whole."""
        return len(data) == len(self.head) + self.length and data.startswith(self.head)


class Connection(asyncio.Protocol):
    """One connection to the target, with at most one request under way."""

    def __init__(self, pool: PlainPool) -> None:
        self._pool = pool
        self._transport: Any = None
        self._parser: Any = None
        self._told: Heard | None = None  #: who waits for the answer
        self._failure: Exception | None = None
        self._limit = 0
        self._whole = b""  #: what came first of the answer, while it is read
        self._answering = False  #: something of the answer has come
        self._ended = False  #: all of it has
        self.fault = ""  #: why no other request may use it
        self.idle_since = 0.0
        self._forget()

    def _forget(self) -> None:
        self.status, self.size = 0, 0
        self.headers: dict[str, str] = {}
        self.pieces: list[bytes] = []
        self._head_done, self._head_size, self._unread = False, 0, 0

    # -- the request --------------------------------------------------------------------------------------------------
    def ask(self, request: bytes, limit: int, told: Heard) -> None:
        """Send. ``told`` hears once when the answer is there, or _Broken or _TooLarge; it may use the connection again."""
        self._limit, self._answering, self._ended = limit, False, False
        self._forget()
        self._told, self._failure = told, None
        self._transport.write(request)

    def forsake(self) -> None:
        """Nobody waits for the answer any more."""
        self._told = None
        self.abort()

    @property
    def usable(self) -> bool:
        return not self.fault and not self._transport.is_closing()

    def abort(self) -> None:
        self.fault = self.fault or _CLOSED
        self._transport.abort()

    # -- what the transport says --------------------------------------------------------------------------------------
    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._parser = httptools.HttpResponseParser(self)
        # as the client library reads: systems in plants are older than the standard
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        # so that it is noticed when the other side has vanished behind a firewall
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        if self._told is None:
            self.abort()  # nobody has asked
            return
        if not self._answering:
            if (known := self._pool.last) is not None and known.begins(data) and known.length <= self._limit:
                self._answering, self.status, self.headers = True, known.status, known.headers
                self.pieces = [data[len(known.head) :]]
                self._ended = True
                self._tell()
                return
            self._whole = data
        self._read(data)
        self._tell()

    def _read(self, data: bytes) -> None:
        self._answering, before = True, self.size
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(error.__context__ if isinstance(error.__context__, _TooLarge) else self._broken(_NOT_HTTP))
            return
        # a line that does not end: the parser keeps it, in the head as behind a body in chunks
        self._unread = self._unread + len(data) if self.size == before else 0
        self._whole = b""
        if self._unread > 2 * _HEAD and not self._ended:
            self._fail(self._broken(_NOT_HTTP))

    def connection_lost(self, exc: Exception | None) -> None:
        endless = (
            not self._ended and self._head_done and not {"content-length", "transfer-encoding"} & self.headers.keys()
        )
        if endless and exc is None and not self.fault:  # not where it was closed on this side
            self._ended = True  # an answer that goes on until the connection is closed
        self._fail(self._broken(_BROKE_OFF if self._head_done else _CLOSED))
        self._pool.lost(self)
        self._tell()

    def _tell(self) -> None:
        """Only when nothing more is to be read: whoever hears of it may ask again here and now."""
        if self._told is not None and (self._ended or self._failure is not None):
            told, self._told = self._told, None
            told(None if self._ended else self._failure)

    def _broken(self, fault: str) -> _Broken:
        return _Broken(fault, answering=self._answering)

    def _fail(self, fault: Exception) -> None:
        self.fault = self.fault or str(fault) or _CLOSED
        self._transport.abort()
        self._failure = self._failure or fault

    # -- what the parser says -----------------------------------------------------------------------------------------
    def on_message_begin(self) -> None:
        if self._ended:
            raise ValueError("there is more than one answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_done:  # behind a body in chunks; nobody reads it
            self._count(len(name) + len(value))
            return
        self._head_size += len(name) + len(value) + 32
        if self._head_size > _HEAD:
            raise ValueError("the head is too large")
        key, text = name.decode("latin-1").lower(), value.decode("utf-8", "surrogateescape").rstrip(" \t")
        self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text

    def on_headers_complete(self) -> None:
        self.status, self._head_done = self._parser.get_status_code(), True

    def on_body(self, piece: bytes) -> None:
        self._count(len(piece))
        self.pieces.append(piece)

    def on_message_complete(self) -> None:
        if self.status < 200:
            self._forget()  # `100 Continue` and its like: the answer comes behind it
            return
        if not self._parser.should_keep_alive():
            self.fault = _CLOSED
        elif self._whole:
            self._pool.last = _Head.of(self._whole, self) or self._pool.last
        self._ended = True

    def _count(self, size: int) -> None:
        self.size += size
        if self.size > self._limit:
            raise _TooLarge


class PlainPool:
    """The connections to one host and port. A request uses the one that was used last; idle ones close after ``keepalive`` seconds."""

    def __init__(self, host: str, port: int, keepalive: float) -> None:
        self._host, self._port = host, port
        self._keepalive = keepalive
        self._idle: deque[Connection] = deque()
        self._open: set[Connection] = set()
        self._sweeping: asyncio.TimerHandle | None = None
        self.last: _Head | None = None
        self._deadlines = Deadlines()
        self._loop = asyncio.get_running_loop()

    async def request(self, method: str, data: bytes, limit: int, connect: float) -> Answer:
        """One request, as :func:`written` gives it, whose answer is read to its end. Raises Unavailable, Invalid.

        Keeps no time but ``connect`` seconds for a connection.
        """
        while True:
            connection = self.kept()
            fresh = connection is None
            if connection is None:
                connection = await self._connect(connect)
            answered: asyncio.Future[None] = self._loop.create_future()
            connection.ask(data, limit, partial(_resolve, answered))
            try:
                await answered
            except (_Broken, _TooLarge) as broken:
                if fresh or not self.may_ask_again(method, broken):
                    raise self.fault_of(connection, broken, limit) from None
            except BaseException:  # whoever asked waits no longer
                connection.forsake()
                raise
            else:
                return self.taken(connection) or await self.unpacked(connection, limit)

    @staticmethod
    def may_ask_again(method: str, fault: Exception) -> bool:
        """Whether a request on a connection that was kept is sent again: the other side had closed it meanwhile."""
        return isinstance(fault, _Broken) and not fault.answering and method in _AGAIN

    @staticmethod
    def fault_of(connection: Connection, fault: Exception, limit: int) -> MessageError:
        """What is said of an answer that did not come, or is too large."""
        return Unavailable(fault.fault) if isinstance(fault, _Broken) else too_large(connection.status, limit)

    def free(self, connection: Connection) -> None:
        """It can serve the next request."""
        if connection.usable:
            connection.idle_since = self._loop.time()
            self._idle.append(connection)
            self._sweep_later()
        else:
            connection.abort()

    def put_back(self, connection: Connection) -> None:
        """It was not used after all: it is as old as before."""
        self._idle.append(connection)

    def taken(self, connection: Connection) -> Answer | None:
        """The answer that is there, None where it is packed; the connection is free for the next request."""
        self.free(connection)
        if "content-encoding" in connection.headers:
            return None
        pieces = connection.pieces
        return Answer(connection.status, connection.headers, pieces[0] if len(pieces) == 1 else b"".join(pieces))

    @staticmethod
    def unpacked(connection: Connection, limit: int) -> Coroutine[Any, Any, Answer]:
        """The answer that is packed. The connection may have its next request before this is awaited."""
        return _unpacked(connection.status, connection.headers, connection.pieces, limit)

    # -- connections --------------------------------------------------------------------------------------------------
    async def _connect(self, seconds: float) -> Connection:
        loop = self._loop
        try:
            with self._deadlines.within(seconds):
                # all addresses of a name: one of them may be of a machine that is down
                addresses = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
                sock = await start_connection(addresses, happy_eyeballs_delay=_NEXT_ADDRESS, interleave=1)
                _, connection = await loop.create_connection(lambda: Connection(self), sock=sock)
        except TimeoutError:
            raise Unavailable("no connection in time") from None
        except socket.gaierror:
            raise Unavailable("the name does not resolve") from None
        except OSError as error:
            raise Unavailable(f"no connection ({why_not(error)})") from error
        self._open.add(connection)
        return connection

    def kept(self) -> Connection | None:
        """A connection that is free, for the next request; None where there is none."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and self._loop.time() - connection.idle_since < self._keepalive:
                return connection
            connection.abort()
        return None

    def _sweep_later(self) -> None:
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(self._keepalive, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = None
        oldest = self._loop.time() - self._keepalive
        while self._idle and self._idle[0].idle_since <= oldest:
            self._idle.popleft().abort()
        if self._idle:
            self._sweep_later()

    def lost(self, connection: Connection) -> None:
        """A connection is closed."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def close(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
        for connection in list(self._open):
            connection.abort()


def _resolve(future: asyncio.Future[None], fault: Exception | None) -> None:
    if future.done():
        return
    if fault is None:
        future.set_result(None)
    else:
        future.set_exception(fault)


async def _unpacked(status: int, headers: dict[str, str], pieces: list[bytes], limit: int) -> Answer:
    return Answer(status, headers, await unpacked(status, headers["content-encoding"], _each(pieces), limit))


async def _each(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def why_not(error: OSError) -> str:
    """Why there is no connection, as the system says it: the words of asyncio hold an address in Python's spelling."""
    return os.strerror(error.errno) if error.errno is not None and error.errno > 0 else error.strerror or str(error)


__all__ = ["Connection", "PlainPool", "why_not", "written"]
