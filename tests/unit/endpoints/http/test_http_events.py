"""CloudEvents, correlation and keys on their way in, and what a replayed request cannot do."""

from __future__ import annotations

import hashlib
import hmac
import json
from decimal import Decimal
from typing import Any

import pytest

from esb.endpoints.http import HttpSource
from esb.endpoints.http_auth import HmacClient, InboundAuth
from esb.secret import Secret

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
EVENT = {
    "specversion": "1.0",
    "id": "e-1",
    "source": "/plants/GRZ/qms",
    "type": "com.acme.qms.hold.v1",
    "subject": "100% Läufer",
    "correlationid": "c-7",
    "traceparent": TRACE,
    "tracestate": "plant=7",
    "sequence": 12,
    "data": {"lot": "0012"},
}
STRUCTURED = "application/cloudevents+json; charset=utf-8"
SOURCE = HttpSource(path="/in")


def post(bus: Any, run: Any, *requests: tuple[bytes, str, tuple[str, ...]], source: HttpSource = SOURCE) -> Any:
    async def story() -> Any:
        async with bus(max_body=10_000) as server:
            await server.serve(source)
            return [await server.post("/in", body, *headers, kind=kind) for body, kind, headers in requests], server

    return run(story())


def structured(**changes: Any) -> tuple[bytes, str, tuple[str, ...]]:
    event = {name: value for name, value in {**EVENT, **changes}.items() if value is not ...}
    return json.dumps(event).encode(), STRUCTURED, ()


def test_a_structured_event_is_the_same_message_as_a_binary_one(bus: Any, run: Any) -> None:
    binary = (
        b'{"lot": "0012"}',
        "application/json",
        (
            "ce-specversion: 1.0",
            "ce-id: e-2",
            "ce-source: /plants/GRZ/qms",
            "ce-type: com.acme.qms.hold.v1",
            "ce-subject: 100%25 L%C3%A4ufer",
            "ce-correlationid: c-7",
            f"ce-traceparent: {TRACE}",
            f"traceparent: {TRACE}",
            "ce-tracestate: plant=7",
            "tracestate: plant=7",
            "ce-sequence: 12",
        ),
    )
    answers, server = post(bus, run, structured(), binary)
    assert [one.status for one in answers] == [202, 202]
    one, two = server.intake.accepted
    assert server.intake.bodies == [{"lot": "0012"}] * 2
    names = [name for name in one.headers if name[:3] == "ce-" and name != "ce-id"]
    assert {name: one.headers[name] for name in names} == {name: two.headers[name] for name in names}
    assert one.headers["ce-subject"] == "100% Läufer"
    assert (one.correlation_id, two.correlation_id) == ("c-7", "c-7")
    assert (one.meta["traceparent"], one.content_type) == (TRACE, "application/json")
    assert one.headers["tracestate"] == two.headers["tracestate"] == "plant=7"
    assert json.loads(one.payload) == {"lot": "0012"}  # what the store keeps is the data


@pytest.mark.parametrize(
    ("changes", "body"),
    [
        ({"data": [12.10]}, [Decimal("12.1")]),
        ({"data": ...}, None),
        ({"data": "a;b\r\n1;2", "datacontenttype": "text/plain"}, "a;b\r\n1;2"),
        ({"data": "a", "datacontenttype": "application/json"}, "a"),
        ({"data": ..., "data_base64": "eyJhIjogMX0=", "datacontenttype": "application/json"}, {"a": 1}),
        ({"data": {"a": 1}, "datacontenttype": "application/vnd.acme+json"}, {"a": 1}),
    ],
)
def test_data_is_read_as_its_type_says(changes: Any, body: Any, bus: Any, run: Any) -> None:
    (answered,), server = post(bus, run, structured(**changes))
    assert answered.status == 202, answered
    assert server.intake.bodies == [body]


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"specversion": "0.3"}, 400, "bad-cloudevent"),
        ({"id": ...}, 400, "bad-cloudevent"),
        ({"source": ""}, 400, "bad-cloudevent"),
        ({"type": {"a": 1}}, 400, "bad-cloudevent"),
        ({"id": "a\r\nb"}, 400, "bad-cloudevent"),
        ({"Bad-Name": "x"}, 400, "bad-cloudevent"),
        ({"data_base64": "eA=="}, 400, "bad-cloudevent"),
        ({"data": ..., "data_base64": "*"}, 400, "bad-cloudevent"),
        ({"datacontenttype": "image/png"}, 415, "content-type-not-taken"),
    ],
)
def test_an_event_that_is_none_is_refused(changes: Any, status: int, code: str, bus: Any, run: Any) -> None:
    (answered,), server = post(bus, run, structured(**changes))
    assert (answered.status, answered.code) == (status, code)
    assert server.intake.accepted == []


def test_an_event_that_comes_again_has_the_same_identity(bus: Any, run: Any) -> None:
    again = structured(traceparent=TRACE.replace("00f067aa", "11f067aa"))
    other = structured(source="/plants/GRZ/q", id="mse-1")
    _, server = post(bus, run, structured(), again, other, (b"{}", "application/json", ("ce-id: 7",)))
    keys = [one.source_key for one in server.intake.accepted]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
    assert keys[3] is None
    assert server.intake.accepted[0].fingerprint == ""


def test_an_idempotency_key_means_the_same_with_and_without_quotes(bus: Any, run: Any) -> None:
    requests = [(b"{}", "application/json", (f"Idempotency-Key: {key}",)) for key in ("nc-1", '"nc-1"')]
    _, server = post(bus, run, *requests)
    one, two = server.intake.accepted
    assert one.source_key == two.source_key


@pytest.mark.parametrize("extra", ["Idempotency-Key: other", "ce-specversion: 1.0\r\nce-id: other\r\nce-source: x"])
def test_a_signed_request_cannot_be_replayed_under_another_key_after_a_restart(extra: str, bus: Any, run: Any) -> None:
    """Key and event id are not under the signature; the signatures seen before the start are not known any more."""
    auth = InboundAuth(hmac=(HmacClient(secret=Secret("s"), client="portal", timestamp_header="X-Time"),))

    def signed(server: Any) -> tuple[str, str]:
        stamp = str(int(server.clock.now().timestamp()))
        signature = hmac.new(b"s", f"{stamp}.{{}}".encode(), hashlib.sha256).hexdigest()
        return f"X-Time: {stamp}", f"X-Signature: sha256={signature}"

    async def story() -> None:
        async with bus() as server:
            old = signed(server)
            await server.serve(HttpSource(path="/in", auth=auth))
            refused = await server.post("/in", b"{}", *old, *extra.split("\r\n"))
            assert (refused.status, refused.code) == (503, "signed-too-early")
            assert (
                await server.post("/in", b"{}", *old)
            ).status == 202  # its identity is the signature: the store knows it
            server.clock.advance(2)
            new = signed(server)
            assert (await server.post("/in", b"{}", *new, *extra.split("\r\n"))).status == 202
            assert (await server.post("/in", b"{}", *new, extra.split("\r\n", maxsplit=1)[0] + "x")).status == 401

    run(story())
