"""What is written in one turn of the loop goes out in one piece, in its order, and before the end."""

from __future__ import annotations

import asyncio
from typing import Any

from esb.endpoints._sftp.cork import Corked, CorkedTcp


class Kept(asyncio.Transport):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 22)})
        self.told: list[Any] = []

    def write(self, data: Any) -> None:
        self.told.append(bytes(data))

    def close(self) -> None:
        self.told.append("close")

    def abort(self) -> None:
        self.told.append("abort")


def test_one_piece_for_each_turn() -> None:
    async def scenario() -> None:
        kept = Kept()
        corked = Corked(kept)
        corked.write(b"a")
        corked.write(memoryview(b"b"))
        assert kept.told == []
        await asyncio.sleep(0)
        corked.write(b"c")
        await asyncio.sleep(0)
        assert kept.told == [b"ab", b"c"]
        assert corked.get_extra_info("peername") == ("192.0.2.1", 22)

    asyncio.run(scenario())


def test_a_close_sends_what_was_written_before_it() -> None:
    async def scenario() -> None:
        kept = Kept()
        corked = Corked(kept)
        corked.write(b"farewell")
        corked.close()
        await asyncio.sleep(0)
        assert kept.told == [b"farewell", "close"]

    asyncio.run(scenario())


def test_an_abort_sends_nothing_more() -> None:
    async def scenario() -> None:
        kept = Kept()
        corked = Corked(kept)
        corked.write(b"a")
        corked.abort()
        await asyncio.sleep(0)
        assert kept.told == ["abort"]

    asyncio.run(scenario())


class Echo(asyncio.Protocol):
    """A session as asyncssh makes one."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[Any] = asyncio.Queue()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.heard.put_nowait(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.heard.put_nowait("lost")


def test_over_a_socket() -> None:
    async def scenario() -> None:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readexactly(4))
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        transport, session = await CorkedTcp().create_connection(Echo, "127.0.0.1", server.sockets[0].getsockname()[1])
        transport.write(b"pi")
        transport.write(b"ng")
        assert await session.heard.get() == b"ping"
        assert await session.heard.get() == "lost"
        server.close()

    asyncio.run(scenario())
