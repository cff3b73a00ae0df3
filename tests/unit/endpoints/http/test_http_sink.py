"""One delivery over HTTP: what goes out, and what every kind of answer means."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import hmac
import json
import socket
import ssl
import tracemalloc
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from esb.endpoints._http.client import failure
from esb.endpoints._http.exchange import error_words, retry_after
from esb.endpoints.base import Request, Response
from esb.endpoints.http import HttpConnection, HttpSink
from esb.endpoints.webserver import server_tls
from esb.errors import EsbError, InternalFault, Invalid, MessageError, Rejected, Timeout, Unavailable
from esb.secret import Secret


def story(
    run: Any, sender: Any, options: Any, tools: Any, *answers: Any, sink: dict[str, Any] | None = None, **more: Any
) -> Any:
    """Send one message to a target that answers so: its target, and the reply or the error."""
    connector = more.pop("connector", {})
    ask = {"path": "/in", **(sink or {})}

    async def go() -> tuple[Any, Any]:
        async with tools.Target(*answers) as target:
            connection = options.read(HttpConnection, {"base_url": target.url + "/api", **connector})
            async with sender.opened(connection) as live:
                try:
                    return target, await sender.send(options.read(HttpSink, ask), live, **{"body": {"a": 1}, **more})
                except MessageError as error:
                    return target, error

    return run(go())


@pytest.fixture(params=["plain", "library"])
def sender(request: pytest.FixtureRequest, sender: Any) -> Any:
    """Every delivery goes out over connections of our own and through the client library, and means the same."""
    sender.library = request.param == "library"
    return sender


@pytest.fixture
def send(run: Any, sender: Any, options: Any, tools: Any) -> Any:
    return lambda *answers, **more: story(run, sender, options, tools, *answers, **more)


@pytest.fixture
def answer(tools: Any) -> Any:
    return tools.answer


# -- the request ------------------------------------------------------------------------------------------------------


def test_a_delivery_carries_its_id_and_its_correlation(send: Any, answer: Any) -> None:
    target, reply = send(
        answer(201, b'{"price": 12.10}', "X-Lot: 7"),
        body={"price": Decimal("12.10")},
        correlation_id="c-1",
        meta={"traceparent": "00-ab-cd-01"},
        headers={"x-esb-origin": "qms"},
    )
    seen = target.seen[0]
    assert (seen.method, seen.path, seen.body) == ("POST", "/api/in", b'{"price":12.10}')
    assert seen.headers["idempotency-key"] == "d-1"
    assert seen.headers["x-correlation-id"] == "c-1"
    assert seen.headers["traceparent"] == "00-ab-cd-01"
    assert seen.headers["x-esb-origin"] == "qms"
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["user-agent"].startswith("esb/")
    assert (reply.status, reply.body, reply.headers["x-lot"]) == (201, {"price": Decimal("12.10")}, "7")


@pytest.mark.parametrize(
    ("meta", "state", "sent"),
    [
        ({"traceparent": "00-ab-cd-01"}, "a=1,b=2", "a=1,b=2"),
        ({"traceparent": "00-ab-cd-01"}, "a=" + "1" * 511, None),
        ({"traceparent": "00-ab-cd-01", "replayed_trace": "ab"}, "a=1", None),
        ({}, "a=1", None),
    ],
    ids=["goes along", "too long", "a replay has a trace of its own", "without its parent it says nothing"],
)
def test_the_state_of_a_trace_goes_along_with_its_parent(
    send: Any, answer: Any, meta: dict[str, str], state: str, sent: str | None
) -> None:
    target, _ = send(answer(), meta=meta, headers={"tracestate": state})
    assert target.seen[0].headers.get("tracestate") == sent


EVENT = {"ce-specversion": "1.0", "ce-id": "e 1", "ce-source": "/s", "ce-type": "hold", "ce-subject": "50% Läufer"}


def test_a_message_that_came_as_an_event_goes_on_as_one(send: Any, answer: Any) -> None:
    headers = {**EVENT, "ce-traceparent": "00-ab-cd-01", "x-plant": "P10"}
    target, _ = send(answer(), headers=headers, sink={"headers": {"CE-Type": "hold.taken"}})
    sent = {name: value for name, value in target.seen[0].headers.items() if name[:3] == "ce-" or name == "x-plant"}
    assert sent == {
        "ce-specversion": "1.0",
        "ce-id": "e%201",
        "ce-source": "/s",
        "ce-type": "hold.taken",
        "ce-subject": "50%25%20L%C3%A4ufer",
    }


@pytest.mark.parametrize(
    ("headers", "meta"),
    [
        (EVENT, {"split": {"index": 0, "count": 2}}),
        (EVENT, {"aggregate": {"group": "g", "count": 2}}),
        ({name: value for name, value in EVENT.items() if name != "ce-id"}, {}),
        ({**EVENT, "ce-specversion": "0.3"}, {}),
    ],
    ids=["an-item", "an-aggregate", "no-id", "another-version"],
)
def test_what_is_not_that_event_does_not_go_out_under_its_id(
    headers: dict[str, str], meta: dict[str, Any], send: Any, answer: Any
) -> None:
    target, _ = send(answer(), headers=headers, meta=meta)
    assert not [name for name in target.seen[0].headers if name[:3] == "ce-"]


@pytest.mark.parametrize(
    ("sink", "body", "sent", "kind"),
    [
        ({}, "plain", b"plain", "text/plain; charset=utf-8"),
        ({}, b"\x00\x01", b"\x00\x01", "application/octet-stream"),
        ({}, None, b"null", "application/json"),
        ({"format": "json"}, "text", b'"text"', "application/json"),
        ({"body": "order"}, {"order": [1]}, b"null", "application/json"),
        ({"body": "body.order"}, {"order": [1]}, b"[1]", "application/json"),
        ({"headers": {"Content-Type": "application/xml"}}, "<a/>", b"<a/>", "application/xml"),
        ({"method": "GET"}, {"a": 1}, b"", None),
        ({"method": "DELETE"}, {"a": 1}, b"", None),
        ({"method": "DELETE", "body": "body"}, {"a": 1}, b'{"a":1}', "application/json"),
    ],
)
def test_the_body_is_written_as_its_kind_asks(
    sink: dict[str, Any], body: Any, sent: bytes, kind: str | None, send: Any, answer: Any
) -> None:
    target, _ = send(answer(), sink=sink, body=body)
    assert (target.seen[0].body, target.seen[0].headers.get("content-type")) == (sent, kind)


def test_a_large_body_goes_out_whole(send: Any, answer: Any) -> None:
    target, _ = send(answer(), body="x" * 3_000_000)
    assert len(target.seen[0].body) == 3_000_000


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("L 1", "/api/lots/L%201/x?q=L%201"),
        ("a/b", "/api/lots/a%2Fb/x?q=a%2Fb"),
        ("a?b=c&d#e", "/api/lots/a%3Fb%3Dc%26d%23e/x?q=a%3Fb%3Dc%26d%23e"),
        ("%2e%2e", "/api/lots/%252e%252e/x?q=%252e%252e"),
        ("@evil.example", "/api/lots/%40evil.example/x?q=%40evil.example"),
        ("Öl", "/api/lots/%C3%96l/x?q=%C3%96l"),
        ("0012", "/api/lots/0012/x?q=0012"),
        ("a;b\\c", "/api/lots/a%3Bb%5Cc/x?q=a%3Bb%5Cc"),
        ("{{ 7*7 }}", "/api/lots/%7B%7B%207%2A7%20%7D%7D/x?q=%7B%7B%207%2A7%20%7D%7D"),
    ],
)
def test_a_value_fills_one_part_of_an_address_and_never_makes_another(
    value: str, path: str, send: Any, answer: Any
) -> None:
    target, _ = send(answer(), sink={"path": "/lots/{{ body.lot }}/x?q={{ body.lot }}"}, body={"lot": value})
    assert target.seen[0].path == path


@pytest.mark.parametrize("value", ["..", ".", "", "a\r\nX: y", "a\x00", "a\nb", "\ud800", "\x7f"])
def test_a_value_that_would_bend_an_address_is_never_sent(value: str, send: Any, answer: Any) -> None:
    target, error = send(answer(), sink={"path": "/lots/{{ body.lot }}"}, body={"lot": value})
    assert isinstance(error, Invalid)
    assert target.seen == []


@pytest.mark.parametrize("value", ["a\r\nX-Evil: y", "a\nb", "a\rb", "a\x00", "\ud800"])
@pytest.mark.parametrize("sink", [{"headers": {"X-Lot": "{{ body.lot }}"}}, {"idempotency_key": "{{ body.lot }}"}])
def test_a_value_that_would_end_a_header_is_never_sent(value: str, sink: Any, send: Any, answer: Any) -> None:
    target, error = send(answer(), sink={**sink, "body": "'x'"}, body={"lot": value})
    assert isinstance(error, Invalid)
    assert target.seen == []


def test_query_and_headers_take_values(send: Any, answer: Any) -> None:
    sink = {
        "path": "/lots?fixed=1",
        "query": {"plant code": "{{ body.plant }}"},
        "headers": {"x-plant": "Werk {{ body.plant }}", "ACCEPT": "application/xml"},
        "idempotency_key": "lot-{{ body.plant }}",
    }
    target, _ = send(
        answer(), sink=sink, body={"plant": "P&1"}, connector={"headers": {"X-Plant": "none", "sap-client": "100"}}
    )
    seen = target.seen[0]
    assert seen.path == "/api/lots?fixed=1&plant%20code=P%261"
    assert (seen.headers["x-plant"], seen.headers["accept"], seen.headers["sap-client"]) == (
        "Werk P&1",
        "application/xml",
        "100",
    )
    assert seen.headers["idempotency-key"] == "lot-P&1"


def test_the_idempotency_key_may_be_left_out(send: Any, answer: Any) -> None:
    target, _ = send(answer(), sink={"idempotency_key": False, "method": "PUT"})
    assert "idempotency-key" not in target.seen[0].headers


def test_an_untidy_correlation_id_is_not_sent(send: Any, answer: Any) -> None:
    target, _ = send(answer(), correlation_id="a\r\nX: y")
    assert "x-correlation-id" not in target.seen[0].headers


# -- the answer -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error_class"),
    [
        (200, None), (201, None), (202, None), (204, None), (299, None),
        (300, Rejected), (301, Rejected), (304, Rejected), (307, Rejected), (400, Rejected), (401, Rejected),
        (403, Rejected), (404, Rejected), (405, Rejected), (409, Rejected), (410, Rejected), (412, Rejected),
        (413, Rejected), (415, Rejected), (422, Rejected),
        (408, Unavailable), (423, Unavailable), (425, Unavailable), (429, Unavailable), (500, Unavailable),
        (501, Unavailable), (502, Unavailable), (503, Unavailable), (504, Unavailable), (599, Unavailable),
    ],
)  # fmt: skip
def test_every_status_has_its_meaning(status: int, error_class: Any, send: Any, answer: Any) -> None:
    _, found = send(answer(status))
    if error_class is None:
        assert found.status == status
    else:
        assert type(found) is error_class
        assert found.reply["status"] == status
        assert str(status) in found.message


def test_expect_names_the_only_successes(send: Any, answer: Any) -> None:
    assert send(answer(409), sink={"expect": [201, 409]})[1].status == 409
    _, error = send(answer(200), sink={"expect": [201, 409]})
    assert isinstance(error, Rejected)
    assert "expected 201, 409" in error.message


def test_200_can_lie(send: Any, answer: Any) -> None:
    sink = {
        "success_when": "meta.reply.body.RETURN[0].TYPE != 'E'",
        "retry_when": "contains(meta.reply.body.RETURN[0].MESSAGE, 'locked')",
        "rejected_message": "meta.reply.body.RETURN[].MESSAGE",
    }
    assert send(answer(200, b'{"RETURN": [{"TYPE": "S", "MESSAGE": "ok"}]}'), sink=sink)[1].status == 200
    _, error = send(
        answer(200, b'{"RETURN": [{"TYPE": "E", "MESSAGE": "Lot is closed"}, {"MESSAGE": "QM 305"}]}'), sink=sink
    )
    assert type(error) is Rejected
    assert error.message.endswith("answered 200, but: Lot is closed; QM 305")
    assert error.reply["body"]["RETURN"][0]["TYPE"] == "E"
    _, error = send(answer(200, b'{"RETURN": [{"TYPE": "E", "MESSAGE": "Lot is locked by MILLER"}]}'), sink=sink)
    assert type(error) is Unavailable


def test_retry_when_also_saves_a_rejected_status(send: Any, answer: Any) -> None:
    sink = {"retry_when": "meta.reply.body.code == 'LOCKED'"}
    assert type(send(answer(400, b'{"code": "LOCKED"}'), sink=sink)[1]) is Unavailable
    assert type(send(answer(400, b'{"code": "OTHER"}'), sink=sink)[1]) is Rejected


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"detail": "no such lot", "title": "Bad"}, "no such lot"),
        ({"error": {"code": "QM/305", "message": {"lang": "en", "value": "Lot closed"}}}, "Lot closed"),
        ({"error": {"code": "QM/305", "message": "Lot closed"}}, "Lot closed"),
        ({"error": {"code": "QM/305"}}, "QM/305"),
        ({"error": "invalid_grant", "error_description": "expired"}, "expired"),
        ({"message": "no"}, "no"),
        ("no such lot", "no such lot"),
        ("<html>nginx</html>", ""),
        ([1], ""),
        ({"detail": {"deep": 1}}, ""),
        (None, ""),
    ],
)
def test_the_targets_own_words_are_found(body: Any, words: str) -> None:
    assert error_words(body) == words


def test_the_targets_words_are_one_line_of_bounded_length(send: Any, answer: Any) -> None:
    _, error = send(answer(400, b"bad\r\n\x1b[31mlot " + b"x" * 5_000, kind="text/plain"))
    assert "\n" not in error.message
    assert "\x1b" not in error.message
    assert len(error.message) < 600
    assert "bad [31mlot" in error.message


def test_session_headers_of_an_answer_stay_with_the_connection(send: Any, answer: Any) -> None:
    _, reply = send(answer(200, b"{}", "Set-Cookie: s=1", "X-CSRF-Token: t", "ETag: 7"))
    assert set(reply.headers) == {"content-length", "content-type", "etag"}


@pytest.mark.parametrize(
    ("content", "kind", "body"),
    [
        (b'{"a": 12.10}', "application/problem+json", {"a": Decimal("12.10")}),
        (b"Pr\xfcfung", "text/plain; charset=iso-8859-1", "Prüfung"),
        (b"Pr\xfcfung", "text/plain", "Prüfung"),
        (b"<a/>", "application/xml", "<a/>"),
        (b"text", "", "text"),
        (b"\xff\xfe\x00", "application/pdf", None),
        (b"", "application/json", None),
    ],
)
def test_an_answer_is_read_by_its_content_type(content: bytes, kind: str, body: Any, send: Any, answer: Any) -> None:
    assert send(answer(200, content, kind=kind))[1].body == body


def test_a_success_whose_json_is_broken_is_tried_again(send: Any, answer: Any) -> None:
    _, error = send(answer(200, b'{"a": 1'))
    assert type(error) is Unavailable
    assert error.reply["body"] == '{"a": 1'
    assert type(send(answer(400, b'{"a": 1'))[1]) is Rejected


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        ("0", 0),
        ("99999", 3600),
        ("Mon, 05 Jan 2026 09:02:00 GMT", 120),
        ("Mon, 05 Jan 2026 08:00:00 GMT", 0),
        ("Mon, 05 Jan 2037 08:00:00 GMT", 3600),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1e9", None),
        ("9" * 5_000, None),
    ],
)
def test_retry_after_is_honoured_up_to_an_hour(value: str, seconds: int | None, sender: Any) -> None:
    expected = None if seconds is None else timedelta(seconds=seconds)
    assert retry_after(value, sender.clock.now()) == expected


def test_a_busy_target_says_when(send: Any, answer: Any) -> None:
    _, error = send(answer(503, b"", "Retry-After: 7"))
    assert (type(error), error.retry_after) == (Unavailable, timedelta(seconds=7))


# -- hostile and broken targets ---------------------------------------------------------------------------------------


def test_a_redirect_takes_neither_body_nor_key_elsewhere(run: Any, sender: Any, options: Any, tools: Any) -> None:
    async def go() -> None:
        async with tools.Target(tools.answer()) as other:
            moved = tools.answer(307, b"", f"Location: {other.url}/in?token=secret")
            async with tools.Target(moved) as target:
                auth = {"api_key": {"key": Secret("s3cret")}}
                connection = options.read(HttpConnection, {"base_url": target.url, "auth": auth})
                async with sender.opened(connection) as live:
                    with pytest.raises(Rejected, match="redirect") as caught:
                        await sender.send(options.read(HttpSink, {"path": "/in"}), live, {"a": 1})
            assert other.seen == []
            assert "token" not in caught.value.message

    run(go())


@pytest.mark.parametrize(("status", "words"), [(401, "check `auth`"), (403, "does not let us"), (422, "")])
def test_a_refusal_says_what_to_do_where_no_other_payload_would_mend_it(
    send: Any, tools: Any, status: int, words: str
) -> None:
    _, error = send(tools.answer(status, b""))
    assert (type(error), words in error.hint, bool(error.hint)) == (Rejected, True, bool(words))


async def silence(seen: Any, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


def test_silence_ends_in_a_timeout(send: Any) -> None:
    _, error = send(silence, timeout=0.5)
    assert type(error) is Timeout
    assert "the answer did not come within 0.5s" in error.message


def test_a_target_that_is_not_there_is_told_from_one_that_is_silent(run: Any, sender: Any, options: Any) -> None:
    async def go() -> None:
        with socket.socket() as full, contextlib.ExitStack() as queued:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            for _ in range(4):  # nobody takes these up, so the next knocks in vain
                waiting = queued.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(full.getsockname())
            connection = HttpConnection(base_url=f"http://127.0.0.1:{full.getsockname()[1]}")
            async with sender.opened(connection) as live:
                with pytest.raises(Unavailable, match="no connection in time"):
                    await sender.send(options.read(HttpSink, {"path": "/in"}), live, {}, timeout=1.0)

    run(go())


async def drip(seen: Any, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
    while True:
        writer.write(b"xx")
        await writer.drain()
        await asyncio.sleep(0.01)


async def drip_head(seen: Any, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"x: y\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("script", [drip, drip_head])
def test_a_dripping_answer_gains_no_time(script: Any, send: Any) -> None:
    _, error = send(script, timeout=0.2)
    assert isinstance(error, (Timeout, Unavailable))


async def reset(seen: Any, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc")
    await writer.drain()
    writer.transport.abort()


async def hang_up(seen: Any, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (reset, "broke off"),
        (hang_up, "127.0.0.1"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "127.0.0.1"),
        (b"this is not HTTP at all\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 100_000 + b"\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 5_000 + b"\r\n", "127.0.0.1"),
        (b"\x00" * 1_000, "127.0.0.1"),
    ],
)
def test_a_broken_answer_is_unavailable(script: Any, words: str, send: Any) -> None:
    _, error = send(script, timeout=2.0)
    assert type(error) is Unavailable
    assert words in error.message


def test_a_gzip_answer_is_unpacked_and_a_bomb_is_not(send: Any, answer: Any) -> None:
    packed = gzip.compress(json.dumps({"a": 1}).encode())
    assert send(answer(200, packed, "Content-Encoding: gzip"))[1].body == {"a": 1}
    bomb = answer(200, gzip.compress(b"\x00" * 50_000_000), "Content-Encoding: gzip")
    tracemalloc.start()
    _, error = send(bomb, sink={"max_response": "1MB"})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert type(error) is Invalid
    assert peak < 20_000_000
    assert "more than 1000000 bytes" in error.message


def test_a_large_answer_is_cut_off(send: Any, answer: Any) -> None:
    _, error = send(answer(200, b"x" * 5_000, length=10**12), sink={"max_response": "1KB"})
    assert type(error) is Invalid


@pytest.mark.parametrize(
    ("content", "coding"),
    [
        (gzip.compress(b"abc", mtime=0)[:-4], "gzip"),
        (b"not gzip", "gzip"),
        (b"abc", "br"),
        (b"abc", "zstd"),
        (gzip.compress(gzip.compress(b"abc", mtime=0), mtime=0), "gzip, gzip"),
    ],
)
def test_a_packing_that_is_broken_or_was_not_asked_for_is_unavailable(
    content: bytes, coding: str, send: Any, answer: Any
) -> None:
    assert type(send(answer(200, content, f"Content-Encoding: {coding}"))[1]) is Unavailable


def test_nobody_there_is_unavailable(run: Any, sender: Any, options: Any, tools: Any) -> None:
    async def go() -> None:
        async with tools.Target(tools.answer()) as target:
            pass
        async with sender.opened(HttpConnection(base_url=target.url)) as live:
            with pytest.raises(Unavailable, match=f"127.0.0.1:{target.port}: no connection"):
                await sender.send(options.read(HttpSink, {"path": "/in"}), live, {})

    run(go())


def test_a_failed_connection_is_told_in_words_that_help() -> None:
    key = ConnectionKey("erp", 443, True, True, None, None, None)
    refused = aiohttp.ClientConnectorError(key, OSError(111, "Connect call failed ('10.1.1.1', 443)"))
    unknown = aiohttp.ClientConnectorDNSError(key, OSError(-2, "Name or service not known"))
    stranger = aiohttp.ClientConnectorCertificateError(
        key, ssl.SSLCertVerificationError(1, "certificate verify failed")
    )
    slow = aiohttp.ConnectionTimeoutError("x")
    assert failure("erp", refused).message == "erp: no connection (Connection refused)"
    assert failure("erp", unknown).message == "erp: the name does not resolve"
    assert failure("erp", slow).message == "erp: no connection in time"
    assert failure("erp", stranger).message.startswith("erp: its certificate is not trusted")
    assert "tls: { ca:" in failure("erp", stranger).hint


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch, send: Any, answer: Any) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert send(answer(200))[1].status == 200


def test_a_proxy_of_the_connector_is(run: Any, sender: Any, options: Any, tools: Any) -> None:
    async def go() -> None:
        async with tools.Target(tools.answer()) as proxy:
            connection = options.read(HttpConnection, {"base_url": "http://erp.invalid", "proxy": proxy.url})
            async with sender.opened(connection) as live:
                assert (await sender.send(options.read(HttpSink, {"path": "/in"}), live, {})).status == 200
            assert proxy.seen[0].path == "http://erp.invalid/in"

    run(go())


def test_a_connection_is_kept_for_the_next_delivery(run: Any, sender: Any, options: Any, tools: Any) -> None:
    async def go() -> None:
        async with tools.Target(tools.answer(200, b"{}", "Set-Cookie: a=b")) as target:
            async with sender.opened(HttpConnection(base_url=target.url)) as live:
                for _ in range(3):
                    await sender.send(options.read(HttpSink, {"path": "/in"}), live, {})
            assert target.connections == 1
            assert all("cookie" not in seen.headers for seen in target.seen)

    run(go())


# -- TLS --------------------------------------------------------------------------------------------------------------


async def said_hello(request: Request) -> Response:
    return Response(200, b"hello", {"content-type": "text/plain"})


@pytest.mark.parametrize(
    ("tls", "client_ca", "words"),
    [
        (None, False, "its certificate is not trusted"),
        ({"ca": "ca.crt"}, False, None),
        ({"trust_all": True}, False, None),
        ({"ca": "client.crt"}, False, "its certificate is not trusted"),
        ({"ca": "ca.crt", "cert": "client.crt", "key": "client.key"}, True, None),
        ({"ca": "ca.crt"}, True, "127.0.0.1"),
    ],
)
def test_a_target_is_believed_by_its_certificate(
    tls: Any, client_ca: bool, words: str | None, certificates: Path, bus: Any, run: Any, sender: Any, options: Any
) -> None:
    async def go() -> None:
        ca = certificates / "ca.crt" if client_ca else None
        context = server_tls(certificates / "server.crt", certificates / "server.key", ca)
        sender.workspace = certificates
        async with bus(tls=context) as served:
            served.ingress.mount("POST", "/in", said_hello)
            value = {"base_url": f"https://127.0.0.1:{served.listener.port}"} | (
                {"tls": tls} if tls is not None else {}
            )
            async with sender.opened(options.read(HttpConnection, value)) as live:
                sending = sender.send(options.read(HttpSink, {"path": "/in"}), live, {})
                if words is None:
                    assert (await sending).body == "hello"
                else:
                    with pytest.raises(Unavailable, match=words):
                        await sending
        assert ("http.trusts_every_certificate" in str(sender.logged)) is bool(tls and tls.get("trust_all"))

    run(go())


def test_a_certificate_file_that_is_not_there_is_named(run: Any, sender: Any, options: Any) -> None:
    async def go() -> None:
        value = {"base_url": "https://erp", "tls": {"ca": "none.crt"}}
        with pytest.raises(EsbError, match=r"none\.crt"):
            async with sender.opened(options.read(HttpConnection, value)):
                raise AssertionError

    run(go())


# -- ETag -------------------------------------------------------------------------------------------------------------


def test_an_etag_is_fetched_and_sent(send: Any, answer: Any) -> None:
    target, reply = send(answer(200, b"{}", 'ETag: W/"7"'), answer(204), sink={"method": "PATCH", "etag": "fetch"})
    assert [(seen.method, seen.headers.get("if-match")) for seen in target.seen] == [("GET", None), ("PATCH", 'W/"7"')]
    assert "idempotency-key" not in target.seen[0].headers
    assert reply.status == 204


@pytest.mark.parametrize("body", [{"@odata.etag": 'W/"7"'}, {"d": {"__metadata": {"etag": 'W/"7"'}}}])
def test_odata_keeps_its_etag_inside(body: Any, send: Any, answer: Any) -> None:
    sink = {"method": "PATCH", "etag": "fetch", "etag_path": "/lots/{{ body.a }}"}
    target, _ = send(answer(200, json.dumps(body).encode()), answer(204), sink=sink)
    assert (target.seen[0].path, target.seen[1].headers["if-match"]) == ("/api/lots/1", 'W/"7"')


def test_a_changed_object_is_read_again_three_times(send: Any, answer: Any) -> None:
    read, changed, done = answer(200, b"{}", 'ETag: "1"'), answer(412), answer(204)
    sink = {"method": "PUT", "etag": "fetch"}
    target, reply = send(read, changed, read, answer(428), read, done, sink=sink)
    assert (reply.status, len(target.seen)) == (204, 6)
    target, error = send(read, changed, read, changed, read, changed, sink=sink)
    assert (type(error), len(target.seen)) == (Unavailable, 6)


def test_an_object_without_an_etag_is_not_written(send: Any, answer: Any) -> None:
    sink = {"method": "PUT", "etag": "fetch"}
    target, error = send(answer(200, b"{}"), sink=sink)
    assert (type(error), len(target.seen)) == (Rejected, 1)
    assert type(send(answer(404), sink=sink)[1]) is Rejected
    assert type(send(answer(503), sink=sink)[1]) is Unavailable


# -- credentials ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("auth", "header", "value"),
    [
        ({"api_key": {"key": Secret("k"), "header": "X-Erp"}}, "x-erp", "k"),
        ({"bearer": {"token": Secret("t")}}, "authorization", "Bearer t"),
        ({"bearer": Secret("t")}, "authorization", "Bearer t"),
        ({"basic": {"user": "u", "password": Secret("ü")}}, "authorization", "Basic dTrDvA=="),
    ],
)
def test_credentials_are_shown(auth: Any, header: str, value: str, send: Any, answer: Any) -> None:
    target, _ = send(answer(), connector={"auth": auth})
    assert target.seen[0].headers[header] == value
    target, _ = send(answer(), sink={"auth": auth})
    assert target.seen[0].headers[header] == value


def test_a_body_is_signed_as_our_own_source_checks_it(send: Any, answer: Any) -> None:
    target, _ = send(answer(), connector={"auth": {"hmac": {"secret": Secret("s"), "timestamp_header": "X-Time"}}})
    seen = target.seen[0]
    signed = f"{seen.headers['x-time']}.".encode() + seen.body
    assert seen.headers["x-signature"] == hmac.new(b"s", signed, hashlib.sha256).hexdigest()


def test_no_secret_is_in_an_error(send: Any, answer: Any) -> None:
    connector = {"auth": {"basic": {"user": "u", "password": Secret("hunter2")}}}
    for reply in (answer(401), answer(500), b"garbage\r\n\r\n"):
        _, error = send(reply, connector=connector)
        assert "hunter2" not in repr(error)
        assert "hunter2" not in str(error.reply)


def token(value: str, life: int = 3600) -> bytes:
    return json.dumps({"access_token": value, "token_type": "Bearer", "expires_in": life}).encode()


def oauth(**more: Any) -> dict[str, Any]:
    return {"oauth2": {"token_url": more.pop("url", "http://127.0.0.1:1/token"), "client_id": "esb+1",
                       "client_secret": Secret("se:cret"), "scope": "erp write", **more}}  # fmt: skip


def with_tokens(
    run: Any, sender: Any, options: Any, tools: Any, tell: Any, tokens: list[Any], answers: list[Any], **more: Any
) -> None:
    async def go() -> None:
        async with tools.Target(*tokens) as login, tools.Target(*answers) as target:
            auth = oauth(url=login.url + "/token", **more)
            connection = options.read(HttpConnection, {"base_url": target.url, "auth": auth})
            async with sender.opened(connection) as live:
                await tell(
                    lambda **less: sender.send(options.read(HttpSink, {"path": "/in"}), live, {}, **less), login, target
                )

    run(go())


@pytest.fixture
def tokens(run: Any, sender: Any, options: Any, tools: Any) -> Any:
    return lambda tell, *args, **more: with_tokens(run, sender, options, tools, tell, *args, **more)


@pytest.mark.parametrize("how", ["header", "body"])
def test_a_token_is_asked_for_as_the_server_wants_it(how: str, tokens: Any, answer: Any) -> None:
    async def tell(send: Any, login: Any, target: Any) -> None:
        await send()
        asked = login.seen[0]
        assert (asked.method, asked.path) == ("POST", "/token")
        if how == "header":
            assert asked.headers["authorization"] == "Basic ZXNiJTJCMTpzZSUzQWNyZXQ="
            assert asked.body == b"grant_type=client_credentials&scope=erp+write"
        else:
            assert asked.body.endswith(b"&client_id=esb%2B1&client_secret=se%3Acret")
        assert target.seen[0].headers["authorization"] == "Bearer one"

    tokens(tell, [answer(200, token("one"))], [answer()], send=how)


def test_many_deliveries_wait_for_one_token(tokens: Any, answer: Any) -> None:
    async def tell(send: Any, login: Any, target: Any) -> None:
        await asyncio.gather(*(send() for _ in range(20)))
        assert len(login.seen) == 1
        assert len(target.seen) == 20

    tokens(tell, [answer(200, token("one"))], [answer()])


def test_a_token_is_renewed_before_it_ends(tokens: Any, answer: Any, sender: Any) -> None:
    async def tell(send: Any, login: Any, target: Any) -> None:
        await send()
        sender.clock.advance(3539)
        await send()
        assert len(login.seen) == 1
        sender.clock.advance(2)
        await send()
        assert [seen.headers["authorization"] for seen in target.seen] == ["Bearer one", "Bearer one", "Bearer two"]

    tokens(tell, [answer(200, token("one")), answer(200, token("two"))], [answer()])


def test_a_short_lived_token_is_still_used_for_half_its_life(tokens: Any, answer: Any, sender: Any) -> None:
    async def tell(send: Any, login: Any, target: Any) -> None:
        for _ in range(3):
            await send()
        assert len(login.seen) == 1
        sender.clock.advance(16)
        await send()
        assert len(login.seen) == 2

    tokens(tell, [answer(200, token("one", 30))], [answer()])


def test_a_refused_token_is_renewed_once(tokens: Any, answer: Any) -> None:
    async def tell(send: Any, login: Any, target: Any) -> None:
        assert (await send()).status == 200
        assert [seen.headers["authorization"] for seen in target.seen] == ["Bearer one", "Bearer two"]
        with pytest.raises(Rejected):
            await send()
        assert (len(login.seen), len(target.seen)) == (3, 4)

    tokens(
        tell,
        [answer(200, token("one")), answer(200, token("two")), answer(200, token("three"))],
        [answer(401), answer(200), answer(401), answer(401)],
    )


@pytest.mark.parametrize(
    "reply",
    [
        (401, b'{"error": "invalid_client"}', "invalid_client"),
        (500, b"<html>", "no JSON object"),
        (200, b"[]", "no JSON object"),
        (200, b"{}", "no bearer token"),
        (200, b'{"access_token": "a\\r\\nX: y"}', "no bearer token"),
        (200, b'{"access_token": "a", "token_type": "mac"}', "no bearer token"),
    ],
)
def test_no_token_is_unavailable_and_nothing_is_sent(reply: Any, tokens: Any, answer: Any) -> None:
    status, body, words = reply

    async def tell(send: Any, login: Any, target: Any) -> None:
        with pytest.raises(Unavailable, match=words) as caught:
            await send()
        assert "se:cret" not in repr(caught.value)
        assert target.seen == []

    tokens(tell, [answer(status, body)], [answer()])


def test_the_wait_for_a_token_counts(tokens: Any, answer: Any) -> None:
    async def tell(send: Any, login: Any, target: Any) -> None:
        with pytest.raises(Unavailable, match="an OAuth token did not come within"):
            await send(timeout=0.2)
        assert target.seen == []

    tokens(tell, [silence], [answer()])


# -- SAP's CSRF token -------------------------------------------------------------------------------------------------


def test_a_csrf_token_is_fetched_once_with_its_session(run: Any, sender: Any, options: Any, tools: Any) -> None:
    answer = tools.answer
    fetched = answer(200, b"{}", "X-CSRF-Token: t1", "Set-Cookie: SAP_SESSIONID=a; Path=/; HttpOnly")

    async def go() -> None:
        async with tools.Target(fetched, answer(201)) as target:
            connection = options.read(
                HttpConnection, {"base_url": target.url + "/sap", "csrf": "sap", "csrf_path": "/"}
            )
            async with sender.opened(connection) as live:
                sink = options.read(HttpSink, {"path": "/lots?x=1"})
                await asyncio.gather(*(sender.send(sink, live, {}) for _ in range(5)))
            first, *rest = target.seen
            assert (first.method, first.path, first.headers["x-csrf-token"]) == ("GET", "/sap/", "Fetch")
            assert "idempotency-key" not in first.headers
            assert len(rest) == 5
            for seen in rest:
                assert (seen.method, seen.headers["x-csrf-token"], seen.headers["cookie"]) == (
                    "POST",
                    "t1",
                    "SAP_SESSIONID=a",
                )

    run(go())


def test_an_ended_session_gets_a_new_csrf_token_once(send: Any, answer: Any) -> None:
    required = answer(403, b"", "X-CSRF-Token: Required")
    one, two = answer(200, b"", "X-CSRF-Token: t1"), answer(200, b"", "X-CSRF-Token: t2")
    target, reply = send(one, required, two, answer(201), connector={"csrf": "sap"})
    assert [seen.headers["x-csrf-token"] for seen in target.seen] == ["Fetch", "t1", "Fetch", "t2"]
    assert [seen.path for seen in target.seen] == ["/api/in"] * 4
    assert reply.status == 201
    target, error = send(one, required, two, required, connector={"csrf": "sap"})
    assert (type(error), len(target.seen)) == (Rejected, 4)


def test_a_plain_403_is_a_refusal(send: Any, answer: Any) -> None:
    target, error = send(answer(200, b"", "X-CSRF-Token: t1"), answer(403), connector={"csrf": "sap"})
    assert (type(error), len(target.seen)) == (Rejected, 2)


def test_a_system_without_a_csrf_token_is_unavailable(send: Any, answer: Any) -> None:
    target, error = send(answer(404), connector={"csrf": "sap"})
    assert (type(error), len(target.seen)) == (Unavailable, 1)


def test_reading_needs_no_csrf_token(send: Any, answer: Any) -> None:
    target, _ = send(answer(200), connector={"csrf": "sap"}, sink={"method": "GET"})
    assert [seen.method for seen in target.seen] == ["GET"]


# -- standing alone ---------------------------------------------------------------------------------------------------


def test_a_sink_with_its_own_address_needs_no_connector(run: Any, sender: Any, options: Any, tools: Any) -> None:
    async def go() -> None:
        async with tools.Target(tools.answer()) as target:
            sink = options.read(
                HttpSink, {"url": target.url + "/x/{{ body.a }}?b={{ body.a }}", "auth": {"bearer": Secret("t")}}
            )
            assert (await sender.send(sink, None, {"a": "1/2"})).status == 200
            async with sender.opened(HttpConnection(), "") as live:
                await sender.send(sink, live, {"a": "3"})
                await sender.send(sink, live, {"a": "4"})
            assert [seen.path for seen in target.seen] == ["/x/1%2F2?b=1%2F2", "/x/3?b=3", "/x/4?b=4"]
            assert target.connections == 2
            assert {seen.headers["authorization"] for seen in target.seen} == {"Bearer t"}

    run(go())


def test_an_operation_cannot_take_a_connectors_credentials_elsewhere(
    run: Any, sender: Any, options: Any, tools: Any
) -> None:
    async def go() -> None:
        async with tools.Target(tools.answer()) as target:
            sink = options.read(HttpSink, {"url": target.url + "/x"})
            async with sender.opened(HttpConnection(base_url="http://127.0.0.1:1")) as live:
                with pytest.raises(InternalFault, match="of its own"):
                    await sender.send(sink, live, {})
            assert target.seen == []

    run(go())


def test_a_path_alone_goes_nowhere(run: Any, sender: Any, options: Any) -> None:
    with pytest.raises(InternalFault, match="needs a connector"):
        run(sender.send(options.read(HttpSink, {"path": "/x"}), None, {}))


LARGE = [{"lot": f"L{n:05d}", "qty": n / 4, "note": "grain size and hardness " * 3} for n in range(3000)]


def test_a_large_answer_is_what_a_small_one_would_be(send: Any, answer: Any) -> None:
    """It is read in pieces, see tests/unit/formats/test_json_pieces.py."""
    data = json.dumps({"value": LARGE}).encode()
    _, reply = send(answer(200, data), sink={"method": "GET", "success_when": "meta.reply.body.value[-1].lot"})
    assert len(reply.body["value"]) == 3000
    assert reply.body["value"][7] == {**LARGE[7], "qty": Decimal("1.75")}
    _, error = send(answer(200, data[:-9]))
    assert isinstance(error, Unavailable)
    assert "what it calls JSON cannot be read: " in error.message
    assert error.reply["body"].startswith('{"value": [{"lot": "L00000"')
    _, error = send(answer(400, json.dumps({"message": "too late", "of": LARGE}).encode()))
    assert isinstance(error, Rejected)
    assert error.message.endswith("too late")
