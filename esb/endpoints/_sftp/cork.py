"""Less work for an SSH connection: what is written in one turn of the loop goes out together.

asyncssh seals two packets for each request (it sends an ignored one ahead), writes each by itself, and many in one turn.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

#: bytes of what has come that asyncssh is given at once
_PIECE = 32_768
#: bytes that are taken from it at once
_MOST = 1 << 20


class Corked(asyncio.Transport):
    """A transport in front of another one, which gets everything of a turn in one piece."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._parts: list[bytes] = []
        self._loop = asyncio.get_running_loop()

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if not self._parts:
            self._loop.call_soon(self.flush)
        self._parts.append(bytes(data))  # a copy where whoever writes may go on to change it

    def flush(self) -> None:
        """Hand over what was written so far."""
        if self._parts:
            data, self._parts = b"".join(self._parts), []
            self._transport.write(data)

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """What was not handed over yet is lost, as what waits in the other transport is."""
        self._parts.clear()
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)


class _Between(asyncio.Protocol):
    """Stands between the socket's transport and a protocol, which sees the corked one."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.corked: Corked | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.corked = Corked(cast("asyncio.Transport", transport))  # uvloop's is no subclass of it
        self.inner.connection_made(self.corked)

    def data_received(self, data: bytes) -> None:
        if len(data) <= _PIECE:
            self.inner.data_received(data)
            return
        # asyncssh moves what it has not read yet for each packet that it takes out: a long piece costs its square
        for at in range(0, len(data), _PIECE):
            self.inner.data_received(data[at : at + _PIECE])

    def eof_received(self) -> bool | None:
        answer: bool | None = self.inner.eof_received()
        return answer

    def connection_lost(self, exc: Exception | None) -> None:
        self.inner.connection_lost(exc)


class CorkedTcp:
    """What asyncssh takes for a `tunnel`: connects over TCP, corked. ``transport`` is there once it is connected."""

    transport: Corked | None = None

    async def create_connection(
        self, session_factory: Callable[[], Any], remote_host: str, remote_port: int
    ) -> tuple[Any, Any]:
        """Connect; the transport and the session that asyncssh has made."""
        between = _Between(session_factory())
        await asyncio.get_running_loop().create_connection(lambda: between, remote_host, remote_port)
        self.transport = between.corked
        return between.corked, between.inner


class Requests:
    """In front of the writer of an SFTP client: the requests of one turn become one packet of SSH, sealed once."""

    def __init__(self, writer: Any, transport: Corked) -> None:
        self._writer, self._transport = writer, transport
        self._parts: list[bytes] = []
        self._loop = asyncio.get_running_loop()

    def write(self, data: bytes) -> None:
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def _flush(self) -> None:
        if self._parts:
            data, self._parts = b"".join(self._parts), []
            with suppress(OSError):  # the channel was closed meanwhile: its client tells everybody who waits
                self._writer.write(data)
            self._transport.flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def write_eof(self) -> None:
        self._flush()
        self._writer.write_eof()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)


class Replies:
    """In front of its reader: what has come is cut into answers without a lock and a coroutine for each part of one."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self._data, self._at = b"", 0

    async def readexactly(self, size: int) -> bytes:
        """The next bytes. Raises IncompleteReadError at the end, and what the reader raises."""
        end = self._at + size
        if end > len(self._data):
            parts, have = [self._data[self._at :]], len(self._data) - self._at
            while have < size:
                piece: bytes = await self._reader.read(_MOST)
                if not piece:
                    raise asyncio.IncompleteReadError(b"".join(parts), size)
                parts.append(piece)
                have += len(piece)
            self._data, self._at, end = b"".join(parts), 0, size
        data = self._data[self._at : end]
        self._at = end
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)


class Quiet:
    """In front of its logger: what nobody reads is not put into words."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def debug1(self, *_: object, **__: object) -> None:
        """Nothing; nor the two below."""

    debug2 = packet = debug1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logger, name)


def join(client: Any, transport: Corked | None) -> None:
    """Have a client of asyncssh work on its requests and answers together, where it is made as those that are known."""
    handler: Any = getattr(client, "_handler", None)
    known = all(getattr(handler, name, None) is not None for name in ("_writer", "_reader", "_logger"))
    if transport is None or not known:
        return
    handler._writer = Requests(handler._writer, transport)
    handler._reader = Replies(handler._reader)
    if not logging.getLogger("asyncssh").isEnabledFor(logging.DEBUG):
        handler._logger = Quiet(handler._logger)


__all__ = ["Corked", "CorkedTcp", "Quiet", "Replies", "Requests", "join"]
