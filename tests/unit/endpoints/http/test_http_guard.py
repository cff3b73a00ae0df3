"""The listener against clients that are slow, greedy or hostile, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import uvloop

from esb.endpoints._http.guard import GuardedProtocol
from esb.endpoints.base import Request, Response
from esb.endpoints.webserver import Listener, server_tls
from esb.errors import EsbError
from esb.trust import trusting


async def echo(request: Request) -> Response:
    return Response(200, request.path.encode() + b" " + request.body)


def mounted(bus: Any, **limits: Any) -> Any:
    made = bus(**limits)
    for method in ("POST", "GET", "PUT"):
        made.ingress.mount(method, "/a", echo)
    return made


SMUGGLED = [
    b"POST /a HTTP/1.1\r\nHost: b\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /a HTTP/1.1\r\nHost: b\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: b\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabcGET /a HTTP/1.1\r\nHost: b\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: b\r\nContent-Length: +5\r\n\r\nabcde",
    b"POST /a HTTP/1.1\r\nHost: b\r\nContent-Length: 0x5\r\n\r\nabcde",
    b"POST /a HTTP/1.1\r\nHost: b\r\nContent-Length: 5,5\r\n\r\nabcde",
    b"POST /a HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: b\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: b\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: b\r\nX: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: identity\r\nContent-Length: 1\r\n\r\na",
    b"POST /a HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcdeXX0\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nabcde\r\n0\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n5\nabcde\n0\n\n",
    b"POST /a HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n",
    b"GET /a HTTP/1.1\nHost: b\n\n",
    b"GET /a HTTP/1.1\r\nHost: b\nX: y\r\n\r\n",
    b"GET /a HTTP/1.1\r\nX: y\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: b\r\nHost: c\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: b\r\nX : y\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: b\r\nX: \x00\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"BREW /a HTTP/1.1\r\nHost: b\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\n\n\r\n\r\n",
]


@pytest.mark.parametrize("sent", SMUGGLED)
def test_what_two_programs_could_read_in_two_ways_gets_one_400_and_the_door(
    sent: bytes, bus: Any, tools: Any, run: Any
) -> None:
    async def story() -> None:
        async with mounted(bus) as server:
            answers = await tools.talk(server.listener.port, sent)
            assert [one.status for one in answers] == [400]
            assert answers[0].headers["connection"] == "close"
            assert answers[0].code == "bad-request"
            assert (await server.ask("GET /a HTTP/1.1")).status == 200

    run(story())


def test_keep_alive_and_pipelining_answer_in_order(bus: Any, tools: Any, run: Any) -> None:
    async def story() -> None:
        async with mounted(bus) as server:
            one = b"POST /a HTTP/1.1\r\nHost: b\r\nContent-Length: 1\r\n\r\n1"
            two = b"POST /a HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n2\r\n0\r\n\r\n"
            three = b"PUT /a HTTP/1.1\r\nHost: b\r\nConnection: close\r\nContent-Length: 1\r\n\r\n3"
            answers = await tools.talk(server.listener.port, one + two + three)
            assert [answer.body for answer in answers] == [b"/a 1", b"/a 2", b"/a 3"]

    run(story())


def test_a_bad_request_behind_a_good_one_is_answered_after_it(bus: Any, tools: Any, run: Any) -> None:
    async def story() -> None:
        async with mounted(bus) as server:
            good = b"POST /a HTTP/1.1\r\nHost: b\r\nContent-Length: 1\r\n\r\n1"
            answers = await tools.talk(server.listener.port, good + b"GET /a HTTP/1.1\r\n\r\n" + good)
            assert [answer.status for answer in answers] == [200, 400]

    run(story())


def test_a_request_in_single_bytes_is_a_request(bus: Any, tools: Any, run: Any) -> None:
    async def story() -> None:
        async with mounted(bus) as server:
            data = b"POST /a HTTP/1.1\r\nHost: b\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
            answers = await tools.talk(server.listener.port, *[bytes([byte]) for byte in data])
            assert [answer.body for answer in answers] == [b"/a hi"]

    run(story())


def test_http_1_0_and_absolute_targets_are_served(bus: Any, tools: Any, run: Any) -> None:
    async def story() -> None:
        async with mounted(bus) as server:
            answers = await tools.talk(server.listener.port, b"GET /a HTTP/1.0\r\n\r\n")
            assert [answer.status for answer in answers] == [200]
            assert (await server.ask("GET http://other/a HTTP/1.1")).status == 200

    run(story())


def test_an_offer_of_http_2_is_ignored_and_the_connection_goes_on(bus: Any, tools: Any, run: Any) -> None:
    async def story() -> None:
        async with mounted(bus) as server:
            offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
            first = b"POST /a HTTP/1.1\r\nHost: b\r\n" + offer + b"Content-Length: 1\r\n\r\n1"
            second = b"GET /a HTTP/1.1\r\nHost: b\r\n" + offer + b"\r\n"
            last = b"POST /a HTTP/1.1\r\nHost: b\r\nConnection: close\r\nContent-Length: 1\r\n\r\n3"
            answers = await tools.talk(server.listener.port, first + second + last)
            assert [answer.body for answer in answers] == [b"/a 1", b"/a ", b"/a 3"]

    run(story())


def test_expect_continue_gets_its_go_ahead_and_then_the_answer(bus: Any, run: Any) -> None:
    async def story() -> None:
        async with mounted(bus) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.listener.port)
            writer.write(b"POST /a HTTP/1.1\r\nHost: b\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"hi")
            assert (await reader.read()).endswith(b"/a hi")
            writer.close()

    run(story())


def test_a_refused_expectation_ends_the_connection(bus: Any, tools: Any, run: Any) -> None:
    async def story() -> None:
        async with mounted(bus) as server:
            head = b"POST /none HTTP/1.1\r\nHost: b\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
            answers = await tools.talk(server.listener.port, head)
            assert [answer.status for answer in answers] == [404]
            assert answers[0].headers["connection"] == "close"

    run(story())


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /a HTTP/1.1\r\nHost: b\r\nX: ", 408),
        (b"GET", 408),
        (b"POST /a HTTP/1.1\r\nHost: b\r\nContent-Length: 100\r\n\r\nabc", 408),
        (b"POST /a HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", 408),
        (b"", None),
    ],
)
def test_who_does_not_finish_is_cut_off(sent: bytes, status: int | None, bus: Any, tools: Any, run: Any) -> None:
    async def story() -> None:
        async with mounted(bus, header_time=0.25, body_time=0.25) as server:
            answers = await tools.talk(server.listener.port, sent)
            assert [answer.status for answer in answers] == ([status] if status else [])

    run(story())


def test_a_dripping_head_gains_no_time(bus: Any, run: Any) -> None:
    async def story() -> None:
        async with mounted(bus, header_time=0.25) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.listener.port)

            async def drip() -> None:
                writer.write(b"GET /a HTTP/1.1\r\nHost: b\r\n")
                with contextlib.suppress(ConnectionError):
                    while True:
                        writer.write(b"X: y\r\n")
                        await writer.drain()
                        await asyncio.sleep(0.01)

            dripping = asyncio.create_task(drip())
            assert b" 408 " in await reader.readline()
            dripping.cancel()
            writer.transport.abort()

    run(story())


def test_an_idle_connection_is_closed_without_a_word(bus: Any, run: Any) -> None:
    async def story() -> None:
        async with mounted(bus, keep_alive=0.1) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.listener.port)
            writer.write(b"GET /a HTTP/1.1\r\nHost: b\r\n\r\n")
            data = await reader.read()
            assert data.startswith(b"HTTP/1.1 200")
            assert data.endswith(b"/a ")
            writer.close()

    run(story())


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /a HTTP/1.1\r\nHost: b\r\nX: " + b"y" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /a HTTP/1.1\r\nHost: b\r\nX: " + b"y" * 1_000_000, 431),
        (b"GET /a HTTP/1.1\r\nHost: b\r\n" + b"X: y\r\n" * 2_000 + b"\r\n", 431),
        (b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: b\r\n\r\n", 414),
        (b"POST /a HTTP/1.1\r\nHost: b\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * 100_000, 413),
        (
            b"POST /a HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3e8\r\n" + b"x" * 1_000 + b"\r\n" + b"2\r\nab\r\n" * 500,
            413,
        ),
    ],
)
def test_what_is_too_large_is_told_so(sent: bytes, status: int, bus: Any, tools: Any, run: Any) -> None:
    async def story() -> None:
        async with mounted(bus) as server:
            answers = await tools.talk(server.listener.port, sent)
            assert [answer.status for answer in answers] == [status]

    run(story())


def test_a_client_that_sends_all_before_it_reads_still_sees_its_413(bus: Any, tools: Any, run: Any) -> None:
    async def story() -> None:
        async with mounted(bus, linger_time=5.0) as server:
            body = b"x" * 3_000_000
            head = b"POST /a HTTP/1.1\r\nHost: b\r\nContent-Length: 3000000\r\n\r\n"
            last = b"GET /a HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n"
            answers = await tools.talk(server.listener.port, head + body + last)
            assert [answer.status for answer in answers] == [413, 200]

    run(story())


@pytest.mark.parametrize("head", [b"Content-Length: 8000000", b"Content-Length: 8000000\r\nContent-Length: 1"])
def test_what_is_thrown_away_is_read_a_piece_a_turn(head: bytes, bus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """uvloop reads a socket up to 32 times a turn: somebody who sends on after a refusal would hold up everybody else."""
    turn = 0
    seen: list[int] = []
    take = GuardedProtocol.data_received

    def taken(self: GuardedProtocol, data: bytes) -> None:
        seen.append(turn)
        take(self, data)

    def tick() -> None:
        nonlocal turn
        turn += 1
        asyncio.get_running_loop().call_soon(tick)

    def send(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"POST /a HTTP/1.1\r\nHost: b\r\n" + head + b"\r\n\r\n" + b"x" * 8_000_000)
            return client.recv(12)

    async def story() -> None:
        async with mounted(bus, linger_time=60.0) as server:
            asyncio.get_running_loop().call_soon(tick)
            assert await asyncio.to_thread(send, server.listener.port) in (b"HTTP/1.1 413", b"HTTP/1.1 400")

    monkeypatch.setattr(GuardedProtocol, "data_received", taken)
    uvloop.run(story())
    assert len(seen) > 5
    assert len(set(seen)) == len(seen)


def test_a_connection_whose_body_came_after_the_answer_is_closed_when_idle(bus: Any, tools: Any, run: Any) -> None:
    async def story() -> None:
        async with mounted(bus, keep_alive=0.1, linger_time=5.0) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.listener.port)
            writer.write(b"POST /a HTTP/1.1\r\nHost: b\r\nContent-Length: 2000\r\n\r\n")
            assert b" 413 " in await reader.readline()
            writer.write(b"x" * 2_000)
            assert await reader.read()
            writer.close()

    run(story())


def test_a_body_that_never_follows_its_refusal_is_not_waited_for(bus: Any, run: Any) -> None:
    async def story() -> None:
        async with mounted(bus, linger_time=0.1) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.listener.port)
            writer.write(b"POST /a HTTP/1.1\r\nHost: b\r\nContent-Length: 2000\r\n\r\n" + b"x" * 10)
            assert b" 413 " in await reader.readline()
            assert await reader.read()
            writer.close()

    run(story())


def test_one_address_has_so_many_connections(bus: Any, tools: Any, run: Any) -> None:
    async def story() -> None:
        async with mounted(bus, connections_per_address=2) as server:
            held = [await asyncio.open_connection("127.0.0.1", server.listener.port) for _ in range(2)]
            answers = await tools.talk(server.listener.port, b"GET /a HTTP/1.1\r\nHost: b\r\n\r\n")
            assert [answer.status for answer in answers] == [503]
            assert answers[0].headers["retry-after"] == "5"
            for _, writer in held:
                writer.close()
                await writer.wait_closed()
            while server.listener.connections:
                await asyncio.sleep(0)
            assert (await server.ask("GET /a HTTP/1.1")).status == 200

    run(story())


def test_a_client_that_does_not_read_is_cut_off(bus: Any, run: Any) -> None:
    async def big(request: Request) -> Response:
        return Response(200, b"x" * 50_000_000)

    async def story() -> None:
        async with mounted(bus, write_time=0.1) as server:
            server.ingress.mount("GET", "/big", big)
            _, writer = await asyncio.open_connection("127.0.0.1", server.listener.port)
            writer.transport.pause_reading()
            writer.write(b"GET /big HTTP/1.1\r\nHost: b\r\n\r\n")
            while not server.listener.connections:
                await asyncio.sleep(0)
            while server.listener.connections:
                await asyncio.sleep(0.01)
            writer.transport.abort()

    run(story())


def test_requests_in_flight_end_when_the_listener_stops(bus: Any, tools: Any, run: Any) -> None:
    async def story() -> None:
        working, go_on = asyncio.Event(), asyncio.Event()

        async def slow(request: Request) -> Response:
            working.set()
            await go_on.wait()
            return Response(200, b"done")

        async with mounted(bus) as server:
            server.ingress.mount("GET", "/slow", slow)
            port = server.listener.port
            idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", port)
            asked = asyncio.create_task(tools.talk(port, b"GET /slow HTTP/1.1\r\nHost: b\r\n\r\n"))
            await working.wait()
            stopping = asyncio.create_task(server.listener.stop(5.0))
            assert await idle_reader.read() == b""
            idle_writer.close()
            with pytest.raises(OSError):
                await asyncio.open_connection("127.0.0.1", port)
            go_on.set()
            answers = await asked
            await stopping
            assert [(answer.status, answer.body) for answer in answers] == [(200, b"done")]
            assert answers[0].headers["connection"] == "close"

    run(story())


def test_a_request_that_outlives_the_grace_is_cut(bus: Any, tools: Any, run: Any) -> None:
    async def story() -> None:
        working = asyncio.Event()

        async def endless(request: Request) -> Response:
            working.set()
            await asyncio.Event().wait()
            raise AssertionError

        async with mounted(bus) as server:
            server.ingress.mount("GET", "/endless", endless)
            asked = asyncio.create_task(tools.talk(server.listener.port, b"GET /endless HTTP/1.1\r\nHost: b\r\n\r\n"))
            await working.wait()
            await server.listener.stop(0.1)
            await asked
            assert server.listener.connections == 0

    run(story())


def test_a_port_that_is_taken_is_named(bus: Any, run: Any) -> None:
    async def story() -> None:
        async with mounted(bus) as server:
            with pytest.raises(EsbError, match=f"cannot listen on 127.0.0.1:{server.listener.port}"):
                await Listener(server.ingress, port=server.listener.port).start()

    run(story())


def test_every_answer_has_a_date(bus: Any, run: Any) -> None:
    async def story() -> None:
        async with mounted(bus) as server:
            answered = await server.ask("GET /a HTTP/1.1")
            assert answered.headers["date"].endswith("GMT")
            assert "server" not in answered.headers

    run(story())


def test_a_head_goes_out_while_the_body_is_still_made(bus: Any, run: Any) -> None:
    async def story() -> None:
        go_on = asyncio.Event()

        async def stream(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]})
            await go_on.wait()
            await send({"type": "http.response.body", "body": b"one", "more_body": True})
            await send({"type": "http.response.body", "body": b"z" * 200_000})

        async with bus(app=stream) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.listener.port)
            writer.write(b"GET / HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            go_on.set()
            data = await reader.read()
            assert data == b"3\r\none\r\n30d40\r\n" + b"z" * 200_000 + b"\r\n0\r\n\r\n"
            writer.close()

    run(story())


# -- TLS --------------------------------------------------------------------------------------------------------------


def test_tls_asks_for_a_client_certificate_where_told_so(certificates: Path, bus: Any, run: Any) -> None:
    async def ask(port: int, context: ssl.SSLContext) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        try:
            writer.write(b"GET /a HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n")
            return await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    async def story() -> None:
        tls = server_tls(certificates / "server.crt", certificates / "server.key", certificates / "ca.crt")
        async with mounted(bus, tls=tls) as server:
            bare = trusting(str(certificates / "ca.crt"))
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                assert b"200 OK" not in await ask(server.listener.port, bare)
            shown = trusting(str(certificates / "ca.crt"))
            shown.load_cert_chain(certificates / "client.crt", certificates / "client.key")
            assert b"200 OK" in await ask(server.listener.port, shown)

    run(story())


def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(EsbError, match=r"none\.crt"):
        server_tls(tmp_path / "none.crt", tmp_path / "none.key")
