"""A request that came whole is answered as one that went through the parser: the short way is no other way."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from esb.endpoints._http.whole import read_whole, written
from esb.endpoints.base import Request, Response

#: `Connection` with a word more than `keep-alive` takes the long way, and means the same.
SHORT, LONG = "keep-alive", "keep-alive, x-none"
LAST = b"POST /last HTTP/1.1\r\nHost: b\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
HEADS = [
    "POST /a HTTP/1.1",
    "POST /a?x=1&x=2&y=%C3%A4%00 HTTP/1.1",
    "POST /a? HTTP/1.1",
    "POST /a?x=a?b/../c HTTP/1.1",
    "POST /a?x=[1]|{2}\"'^` HTTP/1.1",
    "POST /a?x=%zz HTTP/1.1",
    "POST //a HTTP/1.1",
    "POST /a/ HTTP/1.1",
    "POST /a/../a HTTP/1.1",
    "POST /./a HTTP/1.1",
    "POST /%61 HTTP/1.1",
    "POST /lots/0012%2F13/x HTTP/1.1",
    "POST /lots/%C3%A4%20b/x HTTP/1.1",
    "POST /lots/a%zz/x HTTP/1.1",
    "POST /lots/a;p=1/x?q HTTP/1.1",
    "POST /lots/../x HTTP/1.1",
    "POST http://b/a?x=1 HTTP/1.1",
    "POST * HTTP/1.1",
    "PUT /a HTTP/1.1",
    "GET /a HTTP/1.1",
    "DELETE /none HTTP/1.1",
    "OPTIONS /a HTTP/1.1",
    "PATCH /a HTTP/1.1\r\nContent-Encoding: gzip",
    "POST /a HTTP/1.1\r\nContent-Encoding: Identity",
    "POST /a HTTP/1.1\r\nX-Many: one\r\nx-many:two\r\nX-MANY:\t three \t",
    "POST /a HTTP/1.1\r\nX-Empty:\r\nX-Blank:   ",
    "POST /a HTTP/1.1\r\nX-Word: a\tb \"c\" 'd'; e=f, g",
    "POST /a HTTP/1.1\r\nX-Name: Grüße",
    "POST /a HTTP/1.1\r\nUpgrade: h2c\r\nHTTP2-Settings: AA",
    "POST /a HTTP/1.1\r\nSec-Fetch-Site: cross-site",
    "POST /status/204 HTTP/1.1",
    "POST /status/304 HTTP/1.1",
    "POST /status/299 HTTP/1.1",
    "POST /status/503 HTTP/1.1",
    "POST /broken HTTP/1.1",
    "POST /split HTTP/1.1",
    "POST /latin HTTP/1.1",
]
BODIES = [b"", b'{"a": 1}', bytes(range(256)) * 3, b"x" * 1_001]


async def mirror(request: Request) -> Response:
    """All that a route sees of a request."""
    headers = {name: value for name, value in request.headers.items() if name != "connection"}
    seen = [
        request.method,
        request.path,
        request.query,
        headers,
        request.body.hex(),
        request.client,
        dict(request.params),
    ]
    return Response(200, json.dumps(seen).encode(), {"content-type": "application/json", "x-own": "1"})


async def status(request: Request) -> Response:
    code = int(request.params["code"])
    return Response(code, b"" if code in (204, 304) else b"body", {"x-own": "1"})


async def broken(request: Request) -> Response:
    raise RuntimeError("a handler with a fault")


async def split(request: Request) -> Response:
    return Response(200, b"{}", {"x-own": "a\r\nset-cookie: b"})


async def latin(request: Request) -> Response:
    return Response(200, b"{}", {"x-own": "Gr\xfc\xdfe"})


def serving(bus: Any) -> Any:
    made = bus()
    for method in ("POST", "GET"):
        made.ingress.mount(method, "/a", mirror)
    made.ingress.mount("PATCH", "/a", mirror)
    for path, handler in (
        ("/lots/{lot}/x", mirror), ("/last", mirror), ("/status/{code}", status), ("/broken", broken),
        ("/split", split), ("/latin", latin),
    ):  # fmt: skip
        made.ingress.mount("POST", path, handler)
    return made


def request(head: str, body: bytes, connection: str) -> bytes:
    lines = f"{head}\r\nHost: b\r\nConnection: {connection}\r\nContent-Length: {len(body)}\r\n\r\n"
    return lines.encode() + body


def essence(answers: list[Any]) -> list[Any]:
    """The answers without what differs from one request to the next."""
    found = []
    for one in answers:
        headers = {name: value for name, value in one.headers.items() if name not in ("date", "content-length")}
        body = one.body
        if headers.get("content-type") == "application/problem+json":
            body = {name: value for name, value in json.loads(body).items() if name != "incident"}
        found.append((one.status, headers, body))
    return found


@pytest.mark.parametrize("head", HEADS)
def test_the_short_way_answers_as_the_long_way(head: str, bus: Any, tools: Any, run: Any) -> None:
    async def story() -> None:
        async with serving(bus) as server:
            for body in BODIES:
                ways = []
                for connection in (SHORT, LONG):
                    answers = await tools.talk(server.listener.port, request(head, body, connection) + LAST)
                    ways.append(essence(answers))
                if head.startswith("POST /split"):  # what no header can hold never leaves, whichever way
                    assert ways[0][0][0] == (500 if len(body) <= 1_000 else 413)
                    assert "set-cookie" not in str(ways)
                    continue
                assert ways[0] == ways[1]

    run(story())


def test_requests_behind_each_other_are_answered_in_their_order(bus: Any, tools: Any, run: Any) -> None:
    async def story() -> None:
        async with serving(bus) as server:
            sent = b"".join(request(f"POST /a?n={n} HTTP/1.1", b"x" * n, SHORT if n % 3 else LONG) for n in range(40))
            answers = await tools.talk(server.listener.port, sent + LAST)
            assert [one.json[2] for one in answers[:-1]] == [f"n={n}" for n in range(40)]
            assert [len(one.json[4]) // 2 for one in answers[:-1]] == list(range(40))

    run(story())


def test_a_stop_lets_a_whole_request_end_and_closes_behind_it(bus: Any, tools: Any, run: Any) -> None:
    async def story() -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def slow(request: Request) -> Response:
            begun.set()
            await go_on.wait()
            return Response(200, b"done")

        async with serving(bus) as server:
            server.ingress.mount("POST", "/slow", slow)
            asking = asyncio.create_task(tools.talk(server.listener.port, request("POST /slow HTTP/1.1", b"{}", SHORT)))
            await begun.wait()
            stopping = asyncio.create_task(server.listener.stop(5.0))
            await asyncio.sleep(0)
            go_on.set()
            (answer,) = await asking
            assert (answer.status, answer.headers["connection"], answer.body) == (200, "close", b"done")
            await stopping

    run(story())


def test_a_client_that_leaves_takes_no_answer_and_nothing_breaks(bus: Any, tools: Any, run: Any) -> None:
    async def story() -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def slow(request: Request) -> Response:
            begun.set()
            await go_on.wait()
            return Response(200, b"done")

        async with serving(bus) as server:
            server.ingress.mount("POST", "/slow", slow)
            _, writer = await asyncio.open_connection("127.0.0.1", server.listener.port)
            writer.write(request("POST /slow HTTP/1.1", b"{}", SHORT))
            await begun.wait()
            writer.transport.abort()
            while server.listener.connections:
                await asyncio.sleep(0.001)
            go_on.set()
            assert (await tools.talk(server.listener.port, LAST))[0].status == 200

    run(story())


@pytest.mark.parametrize(
    "head",
    [
        b"POST /a HTTP/1.0\r\nHost: b\r\n\r\n",
        b"HEAD /a HTTP/1.1\r\nHost: b\r\n\r\n",
        b"POST //a HTTP/1.1\r\nHost: b\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: b\r\nX: \xfc\r\n\r\n",
        b"POST /a|b HTTP/1.1\r\nHost: b\r\n\r\n",
    ],
)
def test_what_is_out_of_the_ordinary_takes_the_long_way(head: bytes) -> None:
    assert read_whole(head) is None


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\x00b", "a\x7fb", "\u20ac"])
def test_no_answer_is_written_with_what_no_header_can_hold(value: str) -> None:
    with pytest.raises(ValueError, match="x-own"):
        written(Response(200, b"", {"x-own": value}), [], keep_alive=True)
