"""What is written in one turn of the loop goes out in one piece, in its order, and before the end."""

from __future__ import annotations

import asyncio
import random
from types import SimpleNamespace
from typing import Any

import pytest

from esb.endpoints._sftp.cork import Corked, CorkedTcp, Quiet, Replies, Requests, _Between, join


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


class Sealed:
    """A writer of asyncssh: each write is a packet behind an ignored one."""

    channel = "channel"

    def __init__(self, transport: Corked) -> None:
        self.transport, self.broken = transport, False

    def write(self, data: bytes) -> None:
        if self.broken:
            raise BrokenPipeError("Channel not open for sending")
        self.transport.write(b"-")
        self.transport.write(b"[" + data + b"]")

    def write_eof(self) -> None:
        self.transport.write(b"eof")

    def close(self) -> None:
        self.transport.write(b"end")


def test_the_requests_of_one_turn_are_sealed_together() -> None:
    async def scenario() -> None:
        kept = Kept()
        corked = Corked(kept)
        client = SimpleNamespace(_handler=SimpleNamespace(_writer=Sealed(corked), _reader="reader", _logger="logger"))
        join(client, corked)
        writer: Any = client._handler._writer
        writer.write(b"a")
        writer.write(b"b")
        assert kept.told == []
        await asyncio.sleep(0)
        assert kept.told == [b"-[ab]"]
        writer.write(b"c")
        writer.write_eof()
        writer.close()
        await asyncio.sleep(0)
        assert kept.told[1:] == [b"-[c]", b"eofend"]
        assert writer.channel == "channel"

    asyncio.run(scenario())


def test_requests_to_a_channel_that_is_closed_meanwhile_are_its_clients_affair() -> None:
    async def scenario() -> None:
        corked = Corked(Kept())
        sealed = Sealed(corked)
        writer = Requests(sealed, corked)
        writer.write(b"a")
        sealed.broken = True
        told: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        await asyncio.sleep(0)
        assert told == []

    asyncio.run(scenario())


def test_a_client_that_is_made_otherwise_is_left_as_it_is() -> None:
    async def scenario() -> None:
        client = SimpleNamespace(_handler=SimpleNamespace(_writer="writer"))
        join(client, Corked(Kept()))
        assert vars(client._handler) == {"_writer": "writer"}

    asyncio.run(scenario())


class Pieces(asyncio.Protocol):
    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.heard = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        pass

    def data_received(self, data: bytes) -> None:
        self.sizes.append(len(data))
        self.heard += data


def test_what_comes_is_handed_on_in_short_pieces() -> None:
    async def scenario() -> None:
        between, data = _Between(pieces := Pieces()), random.Random(1).randbytes(150_000)
        between.connection_made(Kept())
        between.data_received(data)
        between.data_received(b"x")
        assert (pieces.heard, max(pieces.sizes) < 40_000) == (data + b"x", True)

    asyncio.run(scenario())


class Stream:
    """A reader of asyncssh: gives what there is, up to what is asked for."""

    channel = "channel"

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)

    async def read(self, size: int) -> bytes:
        return self.pieces.pop(0)[:size] if self.pieces else b""


def test_answers_are_cut_from_what_has_come() -> None:
    async def scenario() -> None:
        replies = Replies(Stream(b"abcd", b"efghij", b"k", b"l", b"mn"))
        sizes = (2, 1, 3, 0, 4, 3)
        assert [await replies.readexactly(size) for size in sizes] == [b"ab", b"c", b"def", b"", b"ghij", b"klm"]
        with pytest.raises(asyncio.IncompleteReadError) as error:
            await replies.readexactly(2)
        assert (error.value.partial, replies.channel) == (b"n", "channel")

    asyncio.run(scenario())


def test_only_debugging_is_quiet() -> None:
    told: list[str] = []
    quiet = Quiet(SimpleNamespace(warning=told.append, debug1=told.append))
    quiet.debug1("sent %s", 1)
    quiet.packet(1, b"", "x")
    quiet.warning("lost")
    assert told == ["lost"]
