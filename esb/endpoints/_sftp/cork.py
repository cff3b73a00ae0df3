"""Fewer system calls for an SSH connection: all that is written in one turn of the loop goes out together.

asyncssh writes twice for each request (it sends an ignored packet ahead), and many requests in one turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast


class Corked(asyncio.Transport):
    """A transport in front of another one, which gets everything of a turn in one piece."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._parts: list[bytes] = []
        self._loop = asyncio.get_running_loop()

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(bytes(data))  # a copy where whoever writes may go on to change it

    def _flush(self) -> None:
        if self._parts:
            data, self._parts = b"".join(self._parts), []
            self._transport.write(data)

    def close(self) -> None:
        self._flush()
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
        self.data_received = self.inner.data_received  # type: ignore[method-assign]  # straight on, many times
        self.inner.connection_made(self.corked)

    def data_received(self, data: bytes) -> None:
        self.inner.data_received(data)

    def eof_received(self) -> bool | None:
        answer: bool | None = self.inner.eof_received()
        return answer

    def connection_lost(self, exc: Exception | None) -> None:
        self.inner.connection_lost(exc)


class CorkedTcp:
    """What asyncssh takes for a `tunnel`: connects over TCP, corked."""

    async def create_connection(
        self, session_factory: Callable[[], Any], remote_host: str, remote_port: int
    ) -> tuple[Any, Any]:
        """Connect; the transport and the session that asyncssh has made."""
        between = _Between(session_factory())
        await asyncio.get_running_loop().create_connection(lambda: between, remote_host, remote_port)
        return between.corked, between.inner


__all__ = ["Corked", "CorkedTcp"]
