"""The exchanges of a gateway as they stand on the wire, proxies in front of it, and many deliveries at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from esb.endpoints.base import Request, Response
from esb.endpoints.http import HttpConnection, HttpSink
from esb.endpoints.webserver import server_tls
from esb.errors import MessageError, Rejected, Unavailable
from esb.secret import Secret

EXCHANGES = Path(__file__).parents[4] / "examples" / "data" / "sap_gateway_exchanges"


def exchange(name: str) -> bytes:
    """A recorded answer as a server sends it: line ends and length as HTTP wants them."""
    head, _, body = (EXCHANGES / f"{name}.txt").read_text(encoding="utf-8").partition("\n\n")
    lines = [line.strip() for line in head.splitlines() if not line.lower().startswith("content-length")]
    data = body.encode()
    return "\r\n".join([*lines, f"Content-Length: {len(data)}", "", ""]).encode() + data


def test_a_session_that_has_ended_is_begun_anew_and_the_receipt_is_posted(
    run: Any, sender: Any, options: Any, tools: Any
) -> None:
    async def story() -> None:
        steps = [
            "http_200_csrf_fetch",
            "http_403_csrf_required",
            "http_200_csrf_fetch",
            "http_201_material_document_gr",
        ]
        async with tools.Target(*map(exchange, steps)) as target:
            connection = options.read(HttpConnection, {"base_url": target.url, "csrf": "sap", "csrf_path": "/"})
            async with sender.opened(connection) as live:
                sink = options.read(HttpSink, {"path": "/A_MaterialDocumentHeader"})
                reply = await sender.send(sink, live, {"ReferenceDocument": "DN-55012"})
            assert (reply.status, reply.body["d"]["MaterialDocument"]) == (201, "4900000001")
            assert [seen.method for seen in target.seen] == ["GET", "POST", "GET", "POST"]
            assert "set-cookie" not in reply.headers
            assert target.seen[3].headers["cookie"] == "SAP_SESSIONID_MCK_100=0bd4f421769643b2898d4ea6"

    run(story())


def test_many_deliveries_of_an_ended_session_fetch_one_token(run: Any, sender: Any, options: Any, tools: Any) -> None:
    fetched = 0

    async def gateway(seen: Any, writer: asyncio.StreamWriter) -> None:
        nonlocal fetched
        if seen.method == "GET":
            fetched += 1
            writer.write(tools.answer(200, b"{}", f"X-CSRF-Token: t{fetched}"))
        elif seen.headers["x-csrf-token"] == "t1":
            writer.write(tools.answer(403, b"", "X-CSRF-Token: Required"))
        else:
            writer.write(tools.answer(201))

    async def story() -> None:
        async with tools.Target(gateway) as target:
            connection = options.read(HttpConnection, {"base_url": target.url, "csrf": "sap"})
            async with sender.opened(connection) as live:
                sink = options.read(HttpSink, {"path": "/in"})
                replies = await asyncio.gather(*(sender.send(sink, live, {}) for _ in range(20)))
            assert [reply.status for reply in replies] == [201] * 20
            assert fetched == 2

    run(story())


def test_a_refused_oauth_token_is_renewed_once_for_all(run: Any, sender: Any, options: Any, tools: Any) -> None:
    asked = 0

    async def login(seen: Any, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        body = {"access_token": f"t{asked}", "token_type": "Bearer", "expires_in": 3600}
        writer.write(tools.answer(200, json.dumps(body).encode()))

    async def system(seen: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(tools.answer(401 if seen.headers["authorization"] == "Bearer t1" else 200))

    async def story() -> None:
        async with tools.Target(login) as tokens, tools.Target(system) as target:
            oauth = {"token_url": tokens.url + "/t", "client_id": "esb", "client_secret": Secret("s3cret")}
            connection = options.read(HttpConnection, {"base_url": target.url, "auth": {"oauth2": oauth}})
            async with sender.opened(connection) as live:
                sink = options.read(HttpSink, {"path": "/in"})
                replies = await asyncio.gather(*(sender.send(sink, live, {}) for _ in range(20)))
            assert [reply.status for reply in replies] == [200] * 20
            assert asked == 2

    run(story())


def test_an_object_that_others_have_changed_is_read_again_and_written(
    run: Any, sender: Any, options: Any, tools: Any
) -> None:
    async def story() -> None:
        one, two = (tools.answer(200, b"{}", f'ETag: W/"{n}"') for n in (1, 2))
        async with tools.Target(one, exchange("http_412_stale_etag"), two, tools.answer(204)) as target:
            sink = options.read(HttpSink, {"path": "/A_Lot('1')", "method": "PATCH", "etag": "fetch"})
            async with sender.opened(HttpConnection(base_url=target.url)) as live:
                assert (await sender.send(sink, live, {"State": "X"})).status == 204
            tags = [seen.headers.get("if-match") for seen in target.seen]
            assert tags == [None, 'W/"1"', None, 'W/"2"']
            assert target.seen[1].body == target.seen[3].body

    run(story())


def test_a_200_that_says_no_is_a_refusal_in_its_words(run: Any, sender: Any, options: Any, tools: Any) -> None:
    async def story() -> None:
        when, words = "!(meta.reply.body.RETURN[?TYPE == 'E'])", "meta.reply.body.RETURN[].MESSAGE"
        sink = options.read(HttpSink, {"path": "/in", "success_when": when, "rejected_message": words})
        said = (EXCHANGES / "bapi_po_create1_error_return.json").read_bytes()
        async with (
            tools.Target(tools.answer(200, said)) as target,
            sender.opened(HttpConnection(base_url=target.url)) as live,
        ):
            with pytest.raises(Rejected, match="Vendor 9999999 does not exist"):
                await sender.send(sink, live, {})

    run(story())


# -- proxies ----------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def tunnel(tools: Any, refuse: bytes = b"") -> AsyncIterator[Any]:
    """A proxy that takes CONNECT and passes bytes both ways, or answers what ``refuse`` says."""
    tasks: set[asyncio.Task[None]] = set()

    class Proxy:
        def __init__(self) -> None:
            self.seen: list[Any] = []
            self.url = ""

    proxy = Proxy()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(65_536):
                writer.write(piece)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            seen = await tools.read_request(reader)
            proxy.seen.append(seen)
            if refuse:
                writer.write(refuse)
                await writer.drain()
                return
            host, _, port = seen.path.rpartition(":")
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(serve(reader, writer)))

    server = await asyncio.start_server(begin, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def said_hello(request: Request) -> Response:
    return Response(200, b"hello", {"content-type": "text/plain"})


def through_proxy(
    run: Any, sender: Any, options: Any, bus: Any, tools: Any, certificates: Path, refuse: bytes = b""
) -> tuple[Any, Any]:
    async def story() -> tuple[Any, Any]:
        context = server_tls(certificates / "server.crt", certificates / "server.key", certificates / "ca.crt")
        sender.workspace = certificates
        async with bus(tls=context) as served, tunnel(tools, refuse) as proxy:
            served.ingress.mount("POST", "/in", said_hello)
            value = {
                "base_url": f"https://127.0.0.1:{served.listener.port}",
                "tls": {"ca": "ca.crt", "cert": "client.crt", "key": "client.key"},
                "proxy": proxy.url,
                "proxy_auth": {"user": "esb", "password": Secret("pr0xy-pass")},
                "auth": {"bearer": Secret("t0ken-value")},
            }
            async with sender.opened(options.read(HttpConnection, value)) as live:
                try:
                    return proxy, await sender.send(options.read(HttpSink, {"path": "/in"}), live, {})
                except MessageError as error:
                    return proxy, error

    result: tuple[Any, Any] = run(story())
    return result


def test_tls_with_a_client_certificate_goes_through_a_proxy_that_learns_nothing(
    run: Any, sender: Any, options: Any, bus: Any, tools: Any, certificates: Path
) -> None:
    proxy, reply = through_proxy(run, sender, options, bus, tools, certificates)
    assert reply.body == "hello"
    (seen,) = proxy.seen
    assert seen.method == "CONNECT"
    assert seen.headers["proxy-authorization"] == "Basic ZXNiOnByMHh5LXBhc3M="
    assert "authorization" not in seen.headers


def test_a_proxy_that_refuses_is_an_outage_and_not_an_answer(
    run: Any, sender: Any, options: Any, bus: Any, tools: Any, certificates: Path
) -> None:
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    _, error = through_proxy(run, sender, options, bus, tools, certificates, refusal)
    assert type(error) is Unavailable
    assert "the proxy answered 407" in error.message
    assert "pr0xy-pass" not in repr(error)


def test_a_plain_request_shows_who_we_are_to_the_proxy(run: Any, sender: Any, options: Any, tools: Any) -> None:
    async def story() -> None:
        async with tools.Target(tools.answer(200), tools.answer(407)) as proxy:
            login = {"user": "esb", "password": Secret("pr0xy-pass")}
            value = {"base_url": "http://erp.invalid", "proxy": proxy.url, "proxy_auth": login}
            async with sender.opened(options.read(HttpConnection, value)) as live:
                await sender.send(options.read(HttpSink, {"path": "/in"}), live, {})
                with pytest.raises(Unavailable, match="407"):
                    await sender.send(options.read(HttpSink, {"path": "/in"}), live, {})
            assert proxy.seen[0].headers["proxy-authorization"] == "Basic ZXNiOnByMHh5LXBhc3M="

    run(story())


def test_who_we_are_to_a_proxy_needs_a_proxy(options: Any) -> None:
    login = {"user": "esb", "password": Secret("p")}
    _, problems = options.try_read(HttpConnection, {"base_url": "http://erp", "proxy_auth": login})
    assert [problem[:6] for problem in problems] == ["ESB102"]
