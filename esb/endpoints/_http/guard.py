"""uvicorn's HTTP protocol behind a guard: deadlines, limits, strict framing, one request at a time per connection."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from email.utils import formatdate
from functools import partial
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from esb.endpoints._http.framing import (
    CHUNKED,
    HEAD_END,
    Chunks,
    Refused,
    read_head,
    refuse_lone_line_feed,
)
from esb.endpoints._http.whole import Answers, LastHead, Whole, WholeCycle, answer_broken, read_whole, written
from esb.endpoints.base import Response
from esb.endpoints.problem import raw_problem
from esb.endpoints.webserver import ListenerLimits

#: Most bytes of later requests kept while the answer to an earlier one is awaited.
_MAX_AHEAD = 1 << 20
_RETRY_AFTER = timedelta(seconds=5)
#: An answer this large is not kept back, in bytes.
_LARGE = 65_536


class Doorkeeper:
    """Counts connections, in all and by address, and keeps the ``Date`` header of one listener."""

    def __init__(self, limits: ListenerLimits, state: ServerState) -> None:
        self.limits = limits
        self.state = state
        self.idle = asyncio.Event()
        self._by_address: Counter[str] = Counter()
        self._count = 0
        self._date_until = 0.0
        self.date = ""  #: the line of a head
        self.refused = 0

    def enter(self, address: str) -> bool:
        self._count += 1
        self._by_address[address] += 1
        within = self._count <= self.limits.connections
        within = within and self._by_address[address] <= self.limits.connections_per_address
        self.refused += not within
        return within

    def leave(self, address: str) -> None:
        self._count -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]
        if not self._count:
            self.idle.set()

    @property
    def count(self) -> int:
        return self._count

    def keep_date(self, now: float) -> None:
        """Renew the ``Date`` header at most once a second."""
        if now >= self._date_until:
            self._date_until = now + 1.0
            now_text = formatdate(time.time(), usegmt=True)
            self.date = f"date: {now_text}\r\n"
            self.state.default_headers = [(b"date", now_text.encode())]


class Cork:
    """What an application writes in one turn of the loop goes out as one packet: an answer's head with its body."""

    __slots__ = ("_loop", "_pieces", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._pieces:
            self._loop.call_soon(self.flush)
        self._pieces.append(data)
        if len(data) > _LARGE:
            self.flush()

    def flush(self) -> None:
        if self._pieces and not self._transport.is_closing():
            self._transport.write(b"".join(self._pieces))
        self._pieces.clear()

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()


class GuardedProtocol(HttpToolsProtocol):
    """One connection.

    The guard finds the end of every head and body itself, strictly, and hands the parser only what it has checked. The
    next request on a connection is read when the answer to the one before it is out.
    """

    def __init__(self, doorkeeper: Doorkeeper, config: Config, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(config, doorkeeper.state, {}, loop)
        self.access_log = False
        self._door = doorkeeper
        self._limits = doorkeeper.limits
        self._address = self._peer = ""
        self._over = self._breathing = False
        self._partial: bytearray | None = None
        self._ahead = b""
        self._left = 0
        self._chunks: Chunks | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._write_deadline: asyncio.TimerHandle | None = None
        self._resting: asyncio.TimerHandle | None = None
        self._rests_until = 0.0
        self._last = LastHead()
        self._answers: Answers | None = config.app if hasattr(config.app, "whole") else None  # type: ignore[assignment]  # it has `whole`

    # -- the connection -----------------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the base class
        super().connection_made(transport)
        self._peer = self.client[0] if self.client else ""
        self._address = self._peer or "local"
        if self._door.enter(self._address):
            self._arm(self._limits.header_time, self._head_too_slow)
        else:
            self._turn_away(Refused(503, "too-many-connections", "too many connections"), retry_after=_RETRY_AFTER)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self.resume_writing()
        self._over = True
        if self._resting is not None:
            self._resting.cancel()
        super().connection_lost(exc)
        self._door.leave(self._address)

    def data_received(self, data: bytes) -> None:
        if self._over:
            self._breathe()
            return
        if self._ahead:
            self._ahead, data = b"", self._ahead + data
        try:
            if self._partial is None:
                data = self._take_again(data)
                if not data:
                    return
            self._consume(data)
        except Refused as refusal:
            self._turn_away(refusal)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._turn_away(Refused(400, "bad-request", "the request is malformed"))
        else:
            # armed once per request and only where it did not come whole in one piece
            if self._deadline is None and not self._over:
                if self._left or self._chunks is not None:
                    self._arm(self._limits.body_time, self._body_too_slow)
                elif self._partial is not None:
                    self._arm(self._limits.header_time, self._head_too_slow)

    def shutdown(self) -> None:
        """The listener stops: close when idle, else after the answer that is being made."""
        self._ahead = b""
        super().shutdown()

    # -- requests -----------------------------------------------------------------------------------------------------
    def _consume(self, data: bytes) -> None:
        while data and not self._over:
            if self._left or self._chunks is not None:
                data = self._take_body(data)
            elif self.cycle is not None and not self.cycle.response_complete:
                if len(data) > _MAX_AHEAD:
                    self.transport.abort()
                self._ahead = data
                self.flow.pause_reading()
                return
            else:
                data = self._take_head(data)

    @property
    def _reads_body(self) -> bool:
        return self._left > 0 or self._chunks is not None

    def _take_again(self, data: bytes) -> bytes:
        """Start a whole request whose head is the last one's, which was checked; gives what is still to be read, else all."""
        cycle, app = self.cycle, self._answers
        end = data.find(HEAD_END) + len(HEAD_END)
        if app is None or self._left or self._chunks is not None or not (cycle is None or cycle.response_complete):
            return data
        whole = self._last.again(data[:end]) if end <= self._limits.header_bytes else None
        if whole is None or whole.length > len(data) - end:
            return data
        self._door.keep_date(self.loop.time())
        if self._deadline is not None:
            self._disarm()
        return self._answer_whole(app, whole, data[end:])

    def _take_head(self, data: bytes) -> bytes:
        buffer: bytes | bytearray = data
        start = 0
        if self._partial is not None:
            start = max(0, len(self._partial) - 3)
            self._partial += data
            buffer = self._partial
        end = buffer.find(HEAD_END, start)
        if (len(buffer) if end < 0 else end) > self._limits.header_bytes:
            raise Refused(431, "head-too-large", f"the request head is larger than {self._limits.header_bytes} bytes")
        if end < 0:
            refuse_lone_line_feed(buffer, start)
            if self._partial is None:
                self._partial = bytearray(data)
            return b""
        end += len(HEAD_END)
        head, rest = bytes(buffer[:end]), bytes(buffer[end:])
        self._partial = None
        return self._begin(head, rest)

    def _begin(self, head: bytes, rest: bytes) -> bytes:
        """Start a request; gives what of ``rest`` does not belong to it, or is still to be read by the long way."""
        limits = self._limits
        self._door.keep_date(self.loop.time())
        app, whole = self._answers, self._last.again(head)
        if app is not None and whole is not None and whole.length <= len(rest):
            self._disarm()
            return self._answer_whole(app, whole, rest)
        framing = read_head(head, max_headers=limits.headers, max_target=limits.target_bytes)
        self._disarm()
        if app is not None and 0 <= framing.length <= len(rest) and not framing.expects_continue:
            whole = read_whole(framing.head, framing.length)
            if whole is not None:
                self._last.keep(head, whole)
                return self._answer_whole(app, whole, rest)
        if framing.length == CHUNKED:
            self._chunks = Chunks()
        else:
            self._left = framing.length
        self.parser.feed_data(framing.head)
        self.cycle.transport = Cork(self.transport, self.loop)  # type: ignore[assignment]  # as much of one as a cycle uses
        if framing.expects_continue:
            # where the answer comes before the body, nobody can say whether the body will follow: close after it
            self.cycle.keep_alive = False
        return rest

    # -- the short way ------------------------------------------------------------------------------------------------
    def _answer_whole(self, app: Answers, head: Whole, rest: bytes) -> bytes:
        """Have a whole request answered; gives what stands behind it."""
        cycle: Any = WholeCycle()
        self.cycle = cycle
        length = head.length
        body, rest = (rest, b"") if length == len(rest) else (rest[:length], rest[length:])
        answer = app.whole(head, body, self._peer, partial(self._answered, cycle))
        if answer is not None:  # on a turn of its own, so that a request never ends inside of its own beginning
            self.loop.call_soon(self._answered, cycle, answer)
        return rest

    def _answered(self, cycle: WholeCycle, answer: Response | Awaitable[Response] | Exception) -> None:
        if not isinstance(answer, Response) or (self.flow.write_paused and not cycle.disconnected):
            task = self.loop.create_task(self._wait_for(cycle, answer))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
            return
        if cycle.disconnected or self.transport.is_closing():
            return
        cycle.response_started = True
        try:
            data = written(answer, self._door.date, keep_alive=cycle.keep_alive)
        except ValueError:
            cycle.keep_alive = False
            data = written(answer_broken(), self._door.date, keep_alive=False)
        self.transport.write(data)
        cycle.response_complete = True
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    async def _wait_for(self, cycle: WholeCycle, answer: Response | Awaitable[Response] | Exception) -> None:
        if isinstance(answer, Exception):
            answer = answer_broken()
        elif not isinstance(answer, Response):
            answer = await answer
        while self.flow.write_paused and not cycle.disconnected:
            await self.flow.drain()
        self._answered(cycle, answer)

    def _take_body(self, data: bytes) -> bytes:
        taken = self._chunks.take(data) if self._chunks is not None else min(self._left, len(data))
        piece = data if taken == len(data) else data[:taken]
        if self._chunks is None:
            self._left -= taken
        elif self._chunks.done:
            self._chunks = None
        if not self._reads_body:
            self._disarm()
            if self.cycle.response_complete:
                self._rest()
        elif self.cycle.response_complete:
            self._breathe()
        self.parser.feed_data(piece)
        return data[taken:] if taken < len(data) else b""

    def on_response_complete(self) -> None:
        if self.transport.is_closing():
            self._arm(self._limits.linger_time, self.transport.abort)
            return
        self.flow.resume_reading()
        if self._reads_body:
            # answered before the body was read (401, 413): let the client finish for a while, so that it sees the answer
            self._arm(self._limits.linger_time, self._close)
        elif self._ahead:
            self.loop.call_soon(self._go_on)
        else:
            self._rest()

    def _go_on(self) -> None:
        if self._ahead:
            self.data_received(b"")

    # -- between two requests -----------------------------------------------------------------------------------------
    def _rest(self) -> None:
        """Close in a while unless another request comes. One timer serves many requests: it looks when it rings."""
        self._rests_until = self.loop.time() + self._limits.keep_alive
        if self._resting is None:
            self._resting = self.loop.call_later(self._limits.keep_alive, self._rested)

    def _rested(self) -> None:
        self._resting = None
        if self._partial is not None or self._reads_body or not self.cycle.response_complete:
            return  # its own deadlines watch over that; the answer to it begins the next rest
        left = self._rests_until - self.loop.time()
        if left > 0:
            self._resting = self.loop.call_later(left, self._rested)
        elif not self.transport.is_closing():
            self.transport.close()

    # -- deadlines ----------------------------------------------------------------------------------------------------
    def _arm(self, seconds: float, then: Callable[[], None]) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(seconds, then)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _head_too_slow(self) -> None:
        if not self._partial:
            self._close()
            return
        self._turn_away(Refused(408, "head-too-slow", "the request head took too long"))

    def _body_too_slow(self) -> None:
        self._turn_away(Refused(408, "body-too-slow", "the request body took too long"))

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._write_deadline is None:
            self._write_deadline = self.loop.call_later(self._limits.write_time, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None

    # -- the end ------------------------------------------------------------------------------------------------------
    def _turn_away(self, refusal: Refused, *, retry_after: timedelta | None = None) -> None:
        """Answer and end the connection; what still arrives is thrown away, so that the client can read the answer."""
        self._over = True
        self._partial = None
        self._left, self._chunks, self._ahead = 0, None, b""
        cycle: Any = self.cycle
        begun = cycle is not None and not cycle.response_complete
        if begun:
            cycle.disconnected = True
            cycle.message_event.set()
        if self.transport.is_closing() or (begun and cycle.response_started):
            self.transport.abort()
            return
        self.flow.resume_reading()
        self.transport.write(raw_problem(refusal.status, refusal.code, refusal.detail, retry_after=retry_after))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._arm(self._limits.linger_time, self.transport.abort)

    def _breathe(self) -> None:
        """What is only thrown away is read a piece a turn: the loop would take megabytes of it before it looks at anybody else."""
        if not (self._breathing or self.transport.is_closing()):
            self._breathing = True
            self.flow.pause_reading()
            self.loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        self._breathing = False
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def _close(self) -> None:
        self._over = True
        self.transport.close()
        self._arm(self._limits.linger_time, self.transport.abort)
