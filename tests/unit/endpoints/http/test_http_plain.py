"""Plain requests over connections of our own: what a strange target says means what the client library makes of it."""

from __future__ import annotations

import asyncio
import gzip
import socket
from typing import Any

import pytest

from esb.endpoints._http.answers import Answer, Inflate
from esb.endpoints._http.plain import LARGEST, written
from esb.endpoints.http import HttpConnection
from esb.errors import Invalid, MessageError, Unavailable

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
GZIP = gzip.compress(b"x" * 1000)

#: What a target writes; where it ends with None the target closes the connection.
ANSWERS: dict[str, list[bytes | None]] = {
    "whole": [OK],
    "in bytes": [OK[at : at + 1] for at in range(len(OK))],
    "chunks": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n", b"2;x=y\r\nde\r\n0\r\n\r\n"],
    "chunks and a trailer": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Late: 1\r\n\r\n"],
    "no content": [b"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n"],
    "not modified": [b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"],
    "until it closes": [b"HTTP/1.1 200 OK\r\nX-A: 1\r\n\r\nabc", b"def", None],
    "of HTTP/1.0": [b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc"],
    "of HTTP/1.0, until it closes": [b"HTTP/1.0 200 OK\r\n\r\nabc", None],
    "told to go on first": [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK],
    "repeated headers": [b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a:2 \r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"],
    "headers that are no ASCII": ["HTTP/1.1 200 OK\r\nX-A: Prüfung\r\nContent-Length: 0\r\n\r\n".encode()],
    "headers that are no UTF-8": [b"HTTP/1.1 200 OK\r\nX-A: Pr\xfc\r\nContent-Length: 0\r\n\r\n"],
    "lines that end in a line feed": [b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}"],
    "no reason": [b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"],
    "packed": [b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(GZIP) + GZIP],
    "packed, cut off": [b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 20\r\n\r\n" + GZIP[:20]],
    "packed, empty": [b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n"],
    "not packed": [b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd"],
    "packed otherwise": [b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\na"],
    "too large": [b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000],
    "too large, in chunks": [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        *[b"400\r\n" + b"x" * 1024 + b"\r\n"] * 3,
    ],
    "a bomb": [
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"%x\r\n" % len(GZIP) + GZIP + b"\r\n",
        b"%x\r\n" % len(GZIP) + GZIP + b"\r\n",
        b"0\r\n\r\n",
    ],
    "nothing": [None],
    "no HTTP": [b"220 mail.example ESMTP\r\n"],
    "no status": [b"HTTP/1.1 abc\r\n\r\n"],
    "half a head": [b"HTTP/1.1 200 OK\r\nContent-", None],
    "half a body": [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", None],
    "half a chunk": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc", None],
    "bad chunks": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"],
    "two lengths": [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"],
    "a bad length": [b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}"],
}


async def asked(url: str, *, library: bool, sender: Any, method: str = "POST") -> Any:
    sender.library = library
    async with sender.opened(HttpConnection(base_url=url)) as live:
        try:
            answer = await live.request(method, f"{url}/x", {"X-A": "1"}, b"{}", 2000)
        except MessageError as error:
            return type(error), error.message.replace(live.host, "HOST"), error.hint
        return answer.status, {k: v for k, v in answer.headers.items() if k != "date"}, bytes(answer.content)


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_means_the_same_on_both_ways(name: str, run: Any, sender: Any, tools: Any) -> None:
    async def script(_: Any, writer: Any) -> None:
        for piece in ANSWERS[name]:
            if piece is None:
                writer.close()
                return
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)

    async def go() -> None:
        async with tools.Target(script) as target:
            found = [await asked(target.url, library=library, sender=sender) for library in (False, True)]
            assert found[0] == found[1]

    run(go())


#: Answers behind one that was read whole, with the head of that one or nearly so.
AGAIN: dict[str, tuple[bytes, Any]] = {
    "another body": (OK[:-2] + b"[]", (200, b"[]")),
    "another length": (OK.replace(b": 2", b": 4")[:-2] + b"null", (200, b"null")),
    "another status": (OK.replace(b"200 OK", b"500 NO"), (500, b"{}")),
    "another header": (OK.replace(b"\r\n\r\n", b"\r\nX-A: 1\r\n\r\n"), (200, b"{}")),
    "more than one": (OK + OK, (200, b"{}")),
    "half of it": (OK[:-1], "the answer broke off"),
    "in two pieces": (b"", (200, b"{}")),
    "packed": (ANSWERS["packed"][0] or b"", (200, b"x" * 1000)),
    "none": (b"220 mail.example ESMTP\r\n", "what it answers is not HTTP"),
}


@pytest.mark.parametrize("name", AGAIN)
def test_an_answer_behind_another_one_is_read_for_itself(name: str, run: Any, sender: Any, tools: Any) -> None:
    bytes_, expected = AGAIN[name]

    async def again(_: Any, writer: Any) -> None:
        for piece in [bytes_] if bytes_ else [OK[:-1], OK[-1:]]:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if bytes_ == OK[:-1]:
            writer.close()

    async def go() -> None:
        targets = tools.Target(OK, OK, again, OK)
        async with targets as target, sender.opened(HttpConnection(base_url=target.url)) as live:
            assert {(await plain(live, target.url)).content for _ in range(2)} == {b"{}"}
            if isinstance(expected, str):
                with pytest.raises(Unavailable, match=expected):
                    await plain(live, target.url)
            else:
                answer = await plain(live, target.url)
                assert (answer.status, answer.content) == expected
            assert (await plain(live, target.url)).content == b"{}"

    run(go())


def test_an_answer_with_a_known_head_is_too_large_where_less_is_wanted(run: Any, sender: Any, tools: Any) -> None:
    async def go() -> None:
        async with tools.Target(OK) as target, sender.opened(HttpConnection(base_url=target.url)) as live:
            await plain(live, target.url)
            with pytest.raises(Invalid, match="more than 1 bytes"):
                await live.request("POST", f"{target.url}/x", {}, b"{}", 1)

    run(go())


async def plain(live: Any, url: str, method: str = "POST") -> Answer:
    answer: Answer = await live.request(method, f"{url}/x", {}, b"{}" if method == "POST" else None, 2000)
    return answer


def test_one_connection_serves_one_request_after_the_other(run: Any, sender: Any, tools: Any) -> None:
    async def go() -> None:
        async with tools.Target(OK) as target, sender.opened(HttpConnection(base_url=target.url)) as live:
            for _ in range(3):
                assert (await plain(live, target.url)).status == 200
            assert target.connections == 1
            await asyncio.gather(*(plain(live, target.url) for _ in range(3)))
            assert target.connections == 3
            assert target.seen[0].headers["host"] == live.host

    run(go())


@pytest.mark.parametrize("end", [b"Connection: close\r\n", b""])
def test_a_connection_that_the_target_ends_is_not_used_again(end: bytes, run: Any, sender: Any, tools: Any) -> None:
    async def script(_: Any, writer: Any) -> None:
        writer.write(OK.replace(b"Content-", end + b"Content-"))
        if not end:
            await writer.drain()
            writer.close()

    async def go() -> None:
        async with tools.Target(script) as target, sender.opened(HttpConnection(base_url=target.url)) as live:
            for number in range(3):
                assert (await plain(live, target.url)).status == 200
                while not end and live.plain._open:
                    await asyncio.sleep(0)
                assert target.connections == number + 1

    run(go())


def test_more_than_one_answer_is_no_answer_to_the_next_request(run: Any, sender: Any, tools: Any) -> None:
    other = OK.replace(b"{}", b"[]")

    async def go() -> None:
        async with tools.Target(OK + other, OK) as target, sender.opened(HttpConnection(base_url=target.url)) as live:
            assert [(await plain(live, target.url)).content for _ in range(2)] == [b"{}", b"{}"]
            assert target.connections == 2

    run(go())


@pytest.mark.parametrize(("method", "sent"), [("GET", 3), ("POST", 2)])
def test_a_kept_connection_that_was_closed_meanwhile_costs_no_question(
    method: str, sent: int, run: Any, sender: Any, tools: Any
) -> None:
    async def leaves(_: Any, writer: Any) -> None:
        writer.close()

    async def go() -> None:
        async with tools.Target(OK, leaves, OK) as target, sender.opened(HttpConnection(base_url=target.url)) as live:
            await plain(live, target.url, method)
            if method == "GET":
                assert (await plain(live, target.url, method)).status == 200
            else:  # it may have been carried out
                with pytest.raises(Unavailable, match="closed the connection without an answer"):
                    await plain(live, target.url, method)
            assert len(target.seen) == sent

    run(go())


def test_who_gives_up_leaves_no_connection_behind(run: Any, sender: Any, tools: Any) -> None:
    async def silent(_: Any, writer: Any) -> None:
        await asyncio.sleep(60)

    async def go() -> None:
        async with tools.Target(silent) as target, sender.opened(HttpConnection(base_url=target.url)) as live:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await plain(live, target.url)
            while live.plain._open:
                await asyncio.sleep(0)

    run(go())


@pytest.mark.parametrize(
    ("target", "headers", "body"),
    [
        ("x", {}, b""),
        ("/a b", {}, b""),
        ("/ä", {}, b""),
        ("/a#b", {}, b""),
        ("/a", {"X Y": "1"}, b""),
        ("/a", {"X": "1\r\nY: 2"}, b""),
        ("/a", {"X": "1\nY: 2"}, b""),
        ("/a", {"X": "1\rY", "Z": "\n"}, b""),
        ("/a", {"X": "\0"}, b""),
        ("/a", {}, b"x" * (LARGEST + 1)),
    ],
)
def test_what_is_not_plain_goes_through_the_library(target: str, headers: dict[str, str], body: bytes) -> None:
    assert written("host", "POST", target, headers, body) is None
    assert written("host", "POST", "/a", {"X": "1"}, b"x" * LARGEST) is not None


def test_a_request_is_one_write_with_the_headers_that_it_needs() -> None:
    sent = written("host:1", "POST", "/a?b", {"X": "ä", "content-type": "text/plain"}, b"{}")
    assert sent is not None
    head, _, body = sent.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    assert (first, body) == ("POST /a?b HTTP/1.1", b"{}")
    assert [line for line in lines if not line.startswith("User-Agent: esb/")] == [
        "Host: host:1",
        "X: ä",
        "content-type: text/plain",
        "Accept-Encoding: gzip",
        "Content-Length: 2",
    ]


def test_what_a_request_says_of_itself_stands_in_it_once() -> None:
    sent = written("host:1", "GET", "/a", {"user-agent": "plant/7", "Accept-Encoding": "identity"}, None)
    assert sent == b"GET /a HTTP/1.1\r\nHost: host:1\r\nuser-agent: plant/7\r\nAccept-Encoding: identity\r\n\r\n"


def test_a_machine_that_is_down_is_passed_over_where_its_name_has_another_address(
    run: Any, sender: Any, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esb.endpoints._http.plain._NEXT_ADDRESS", 0.001)

    async def go() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as full, socket.socket() as first:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            first.connect(full.getsockname())  # whoever comes behind it hears nothing
            async with tools.Target(OK) as target:
                url, found = f"http://erp.example:{target.port}", loop.getaddrinfo

                async def both(host: str, port: int, **more: Any) -> Any:
                    if host != "erp.example":
                        return await found(host, port, **more)
                    places = (full.getsockname(), ("127.0.0.1", port))
                    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in places]

                monkeypatch.setattr(loop, "getaddrinfo", both)
                async with sender.opened(HttpConnection(base_url=url)) as live:
                    answer = await live.request("POST", f"{url}/x", {}, b"{}", 2000, 3.0)
                assert (answer.status, target.connections) == (200, 1)

    run(go())


@pytest.mark.parametrize("start", [b"0\r\nX-Late: ", b"1;"])
def test_a_line_that_does_not_end_is_not_kept(start: bytes, run: Any, sender: Any, tools: Any) -> None:
    async def script(_: Any, writer: Any) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + start)
        while True:
            writer.write(b"x" * 10_000)
            await writer.drain()

    async def go() -> None:
        async with tools.Target(script) as target, sender.opened(HttpConnection(base_url=target.url)) as live:
            with pytest.raises(Unavailable, match="not HTTP"):
                async with asyncio.timeout(5):
                    await plain(live, target.url)

    run(go())


def test_an_answer_without_an_end_is_not_whole_where_the_bus_closes_the_connection(
    run: Any, sender: Any, tools: Any
) -> None:
    async def script(_: Any, writer: Any) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nabc")
        await asyncio.sleep(60)

    async def go() -> None:
        async with tools.Target(script) as target, sender.opened(HttpConnection(base_url=target.url)) as live:
            asking = asyncio.ensure_future(plain(live, target.url))
            while not any(one.pieces for one in live.plain._open):
                await asyncio.sleep(0)
            live.plain.close()
            with pytest.raises(Unavailable, match="the answer broke off"):
                await asking

    run(go())


def test_what_stands_behind_the_end_of_gzip_is_not_kept(run: Any) -> None:
    async def go() -> None:
        inflate = Inflate()
        assert b"".join(await inflate.take(GZIP, 2000)) == b"x" * 1000
        assert await inflate.take(b"y" * 1000, 2000) == []
        assert (inflate.whole, inflate._packed.unused_data) == (True, b"")

    run(go())
