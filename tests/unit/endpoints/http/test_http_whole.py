"""A request that came whole is answered as one that went through the parser: the short way is no other way."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from esb.endpoints._http.framing import Refused, read_head
from esb.endpoints._http.whole import LastHead, Whole, read_whole, written
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
        written(Response(200, b"", {"x-own": value}), "", keep_alive=True)


# -- a head that comes again --------------------------------------------------------------------------------------------

KEPT = b"POST /a?x=1 HTTP/1.1\r\nHost: b\r\nX-Own: content-length\r\nContent-Length: 15\r\nX-Last: 5\r\n\r\n"


def read(head: bytes) -> Whole | None:
    """What a listener that has seen nothing before makes of a head; None where it is refused or takes the long way."""
    try:
        framing = read_head(head, max_headers=100, max_target=8_192)
    except Refused:
        return None
    return None if framing.length < 0 or framing.expects_continue else read_whole(framing.head, framing.length)


def parts(whole: Whole | None) -> Any:
    return whole and (whole.method, whole.path, whole.query, list(whole.headers.items()), whole.length)


def kept(head: bytes = KEPT) -> LastHead:
    last, whole = LastHead(), read(head)
    assert whole is not None
    last.keep(head, whole)
    return last


@pytest.mark.parametrize("digits", ["15", "0", "7", "015", "1500000", "9" * 15])
def test_a_head_that_differs_in_its_length_alone_is_read_as_if_for_the_first_time(digits: str) -> None:
    head = KEPT.replace(b": 15", f": {digits}".encode())
    again = kept().again(head)
    assert again is not None
    assert parts(again) == parts(read(head))


def test_what_was_made_of_a_head_is_found_again_with_it() -> None:
    last = kept()
    first = last.again(KEPT)
    assert first is not None
    assert first is last.again(KEPT)
    other = last.again(KEPT.replace(b": 15", b": 16"))
    assert other is not None
    assert other.memo is first.memo
    assert parts(last.again(KEPT)) == parts(first)


@pytest.mark.parametrize(
    "head",
    [
        KEPT.replace(b": 15", b": " + b"9" * 16),
        KEPT.replace(b": 15", b": "),
        KEPT.replace(b": 15", b": +5"),
        KEPT.replace(b": 15", b": 1 5"),
        KEPT.replace(b": 15", b": 1\r\nContent-Length: 5"),
        KEPT.replace(b": 15", b": 1\r\nTransfer-Encoding: chunked\r\nX: 5"),
        KEPT.replace(b": 15", ": \u0661".encode()),
        KEPT.replace(b": 15", b": 15\r\nContent-Length: 15"),
        KEPT.replace(b"Host: b", b"Host: c"),
        KEPT.replace(b"X-Last: 5", b"X-Last: 6"),
        KEPT.replace(b"POST", b"PUT"),
        KEPT[:-2],
        b"",
    ],
)
def test_every_other_head_is_read_anew(head: bytes) -> None:
    assert kept().again(head) is None


def test_no_change_of_a_head_is_overlooked() -> None:
    """Whatever becomes of a head on its way, it is known again only as what it is now."""
    chance, last, known = random.Random(7), kept(), 0
    for _ in range(20_000):
        head = bytearray(KEPT)
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(head)) if chance.random() < 0.5 else KEPT.index(b"15") + chance.randint(-1, 2)
            piece = chance.choice([b"1", b"23", b"", b" ", b"\r\n", b"x", b"Content-Length: 3\r\n", b"\xff"])
            head[at : at + chance.randint(0, 2)] = piece
        again = last.again(bytes(head))
        if again is not None:
            known += 1
            assert parts(again) == parts(read(bytes(head)))
    assert known > 500


def test_a_large_head_and_one_without_a_length_are_not_kept() -> None:
    for head in (
        KEPT.replace(b"X-Own: ", b"X-Own: " + b"y" * 3_000),
        b"GET /a HTTP/1.1\r\nHost: b\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: b\r\nContent-Length: 1\r\n\r\n",
    ):
        whole, last = read(head), LastHead()
        assert whole is not None
        last.keep(head, whole)
        assert (last.again(head) is None) == (b"Content-Length: 1\r\n" not in head)


def test_each_request_of_a_connection_sees_its_own_length(bus: Any, tools: Any, run: Any) -> None:
    async def story() -> None:
        async with serving(bus) as server:
            sent = b"".join(request("POST /a HTTP/1.1", b"x" * n, SHORT) for n in (3, 12, 0, 12, 1_001, 5))
            answers = await tools.talk(server.listener.port, sent + LAST)
            assert [one.status for one in answers[:-1]] == [200, 200, 200, 200, 413, 200]
            seen = [(one.json[3]["content-length"], len(one.json[4]) // 2) for one in answers[:-1] if one.status == 200]
            assert seen == [("3", 3), ("12", 12), ("0", 0), ("12", 12), ("5", 5)]

    run(story())
