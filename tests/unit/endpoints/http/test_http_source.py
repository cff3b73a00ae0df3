"""From a request to a message, and from its fate to an answer, over real sockets."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from esb.contracts.life import Life
from esb.durations import parse_rate
from esb.endpoints.base import KeyConflict, Outcome
from esb.endpoints.http import HttpSource
from esb.endpoints.http_auth import HmacClient, InboundAuth, KeyClient
from esb.errors import Invalid, StoreBusy, StoreCorrupt, Unavailable, Violation
from esb.formats.json import Json
from esb.formats.text import Text
from esb.secret import Secret

KEYED = InboundAuth(
    api_key=(KeyClient(key=Secret("s3cret"), client="qms"), KeyClient(key=Secret("other"), client="mes"))
)
LOGIN = "X-API-Key: s3cret"


class Plates:
    """A contract that wants a `plate`."""

    name = "plate.v1"

    def check(self, body: Any) -> None:
        if not isinstance(body, dict) or "plate" not in body:
            raise Invalid(
                "breaks plate.v1", violations=[Violation("/plate", "is missing"), Violation("/x", "too many")]
            )


class Old(Plates):
    """One that is deprecated, and over soon."""

    life = Life(datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 6, 30, tzinfo=UTC))


@pytest.fixture(params=["parsed", "task", "soon"])
def bus(request: pytest.FixtureRequest, bus: Any) -> Any:
    """A bus whose answers are the same whichever way a request takes."""
    return partial(bus, request.param)


def once(
    source: HttpSource, bus: Any, run: Any, *asked: str, body: bytes = b"{}", prepare: Any = None
) -> tuple[Any, Any]:
    """One request to one source: the answer, and the bus."""

    async def story() -> tuple[Any, Any]:
        async with bus() as server:
            if prepare is not None:
                prepare(server)
            await server.serve(source)
            return await server.ask(*asked, body=body), server

    result: tuple[Any, Any] = run(story())
    return result


@pytest.mark.parametrize(("body", "status"), [(b'{"plate": 1}', 202), (b"{}", 422), (b"{", 400)])
def test_every_answer_of_a_route_with_a_deprecated_contract_says_until_when(
    bus: Any, run: Any, body: bytes, status: int
) -> None:
    words = "POST /in HTTP/1.1", "Content-Type: application/json"
    answered, _ = once(HttpSource(path="/in", contract=Old()), bus, run, *words, body=body)
    assert answered.status == status
    assert answered.headers["deprecation"] == "@1767225600"
    assert answered.headers["sunset"] == "Wed, 30 Jun 2027 00:00:00 GMT"


def test_a_stored_message_is_answered_202_with_its_ids(bus: Any, run: Any) -> None:
    answered, server = once(
        HttpSource(path="/in"), bus, run, "POST /in HTTP/1.1", "Content-Type: application/json", body=b'{"qty": 12.10}'
    )
    assert answered.status == 202
    assert answered.json == {"message_id": "m-1", "correlation_id": "c-1", "state": "queued"}
    assert answered.headers["x-correlation-id"] == "c-1"
    assert server.intake.bodies == [{"qty": Decimal("12.10")}]
    assert server.intake.accepted[0].on_invalid == "refuse"


def test_a_message_knows_where_it_came_from(bus: Any, run: Any) -> None:
    _, server = once(
        HttpSource(path="/lots/{lot}", auth=KEYED),
        bus,
        run,
        "POST /lots/0012?plant=P10&tag=a&tag=b&empty= HTTP/1.1",
        LOGIN,
        "X-Plant:   Graz \t",
        "X-Tag: a",
        "x-tag: b",
        "X-Umlaut: Prüfung",
    )
    incoming = server.intake.accepted[0]
    assert incoming.meta == {
        "params": {"lot": "0012"},
        "query": {"plant": "P10", "tag": ["a", "b"], "empty": ""},
        "path": "/lots/0012",
        "client": "127.0.0.1",
        "source": {"type": "http", "client": "qms"},
    }
    assert incoming.headers["x-plant"] == "Graz"
    assert incoming.headers["x-tag"] == "a, b"
    assert incoming.headers["x-umlaut"] == "Prüfung"


def test_logins_hops_and_headers_of_the_bus_stay_outside(bus: Any, run: Any) -> None:
    auth = InboundAuth(api_key=(KeyClient(key=Secret("s3cret"), header="X-Qms-Key", client="qms"),))
    _, server = once(
        HttpSource(path="/in", auth=auth),
        bus,
        run,
        "POST /in HTTP/1.1",
        "X-Qms-Key: s3cret",
        "X-API-Key: other",
        "Authorization: Bearer x",
        "Proxy-Authorization: x",
        "Cookie: session=1",
        "ESB-Route: other",
        "esb_target: other",
        "Esb_Key-x: 1",
        "TE: trailers",
        "X-Hop: 1",
        "Connection: X-Hop",
        "ce-id: 7",
        "ce-type: at.plant%20graz",
        "Idempotency-Key: k",
        "X-Stays: yes",
    )
    passed = set(server.intake.accepted[0].headers)
    assert passed == {"ce-id", "ce-type", "idempotency-key", "x-stays"}
    assert server.intake.accepted[0].headers["ce-type"] == "at.plant graz"


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (["X-Correlation-ID: order 7", f"traceparent: 00-{TRACE}-00f067aa0ba902b7-01"], "order 7"),
        (["ce-correlationid: ce-7"], "ce-7"),
        ([f"traceparent: 00-{TRACE}-00f067aa0ba902b7-01"], TRACE),
        (["traceparent: 00-00000000000000000000000000000000-00f067aa0ba902b7-01"], "c-1"),
        (["traceparent: nonsense"], "c-1"),
        (["X-Correlation-ID: " + "x" * 129], "c-1"),
        (["X-Correlation-ID: a\tb"], "c-1"),
    ],
)
def test_the_correlation_comes_from_the_caller_where_it_can(
    headers: list[str], expected: str, bus: Any, run: Any
) -> None:
    answered, _ = once(HttpSource(path="/in"), bus, run, "POST /in HTTP/1.1", *headers)
    assert answered.json["correlation_id"] == expected


def test_nobody_gets_in_without_credentials(bus: Any, run: Any) -> None:
    for headers in ([], ["X-API-Key: wrong"], [LOGIN, LOGIN]):
        answered, server = once(HttpSource(path="/in", auth=KEYED), bus, run, "POST /in HTTP/1.1", *headers)
        assert (answered.status, answered.code) == (401, "unauthorized")
        assert server.intake.accepted == []


@pytest.mark.parametrize(
    ("fixed", "kind", "expected"),
    [
        (None, "application/json", 202),
        (None, "Application/JSON; charset=UTF-8", 202),
        (None, "application/vnd.plant+json", 202),
        (None, "", 202),
        (None, "text/plain", 202),
        (None, "multipart/form-data; boundary=x", 415),
        (None, "application/x-www-form-urlencoded", 415),
        (None, "application/octet-stream", 415),
        (None, "application/json; charset=rot13", 415),
        (None, "application/json; charset=zlib_codec", 415),
        (None, "application/json, text/plain", 415),
        (Json(), "application/json", 202),
        (Json(), "application/octet-stream", 202),
        (Json(), "", 202),
        (Json(), "text/plain", 415),
        (Json(), "application/xml", 415),
        (Text(), "application/json", 415),
        (Text(), "text/plain; charset=utf-8", 202),
        (Text(), "text/plain; charset=us-ascii", 202),
        (Text(), "text/plain; charset=cp1252", 415),
        (Text(encoding="cp1252"), "text/plain; charset=windows-1252", 202),
        (Text(encoding="cp1252"), "text/plain; charset=utf-8", 415),
        (Json(), "application/vnd.plant+json", 202),
    ],
)  # fmt: skip
def test_the_content_type_is_taken_at_its_word(fixed: Any, kind: str, expected: int, bus: Any, run: Any) -> None:
    headers = [f"Content-Type: {kind}"] if kind else []
    answered, server = once(HttpSource(path="/in", format=fixed), bus, run, "POST /in HTTP/1.1", *headers)
    assert answered.status == expected
    assert len(server.intake.accepted) == (expected == 202)


def test_a_declared_charset_is_read_as_such(bus: Any, run: Any) -> None:
    asked = ["POST /in HTTP/1.1", "Content-Type: text/plain; charset=ISO-8859-1"]
    _, server = once(HttpSource(path="/in"), bus, run, *asked, body=b"Pr\xfcfung")
    assert server.intake.bodies == ["Prüfung"]


def test_what_cannot_be_read_is_400_and_what_breaks_the_contract_422(bus: Any, run: Any) -> None:
    source = HttpSource(path="/in", contract=Plates())
    for body in (b"{", b"", b'{"plate": 1, "plate": 2}', b'{"plate": NaN}', b"\xff"):
        answered, server = once(source, bus, run, "POST /in HTTP/1.1", body=body)
        assert (answered.status, answered.code) == (400, "undecodable"), body
    answered, server = once(source, bus, run, "POST /in HTTP/1.1", body=b'{"lot": 1}')
    assert (answered.status, answered.code) == (422, "invalid")
    assert answered.json["errors"] == [
        {"pointer": "/plate", "detail": "is missing"},
        {"pointer": "/x", "detail": "too many"},
    ]
    assert server.intake.accepted == []
    answered, _ = once(source, bus, run, "POST /in HTTP/1.1", body=b'{"plate": 1}')
    assert answered.status == 202


@pytest.mark.parametrize(
    ("error", "status", "code", "retry_after"),
    [
        (StoreBusy("full", retry_after=timedelta(seconds=2.5)), 503, "busy", "3"),
        (StoreCorrupt("page 7 of /var/lib/bus.db"), 503, "store-down", "5"),
        (Unavailable("circuit of erp is open", reply={"status": 429}), 429, "unavailable", "5"),
        (Unavailable("circuit of erp is open", reply={"status": 200}), 503, "unavailable", "5"),
        (Unavailable("down", retry_after=timedelta(minutes=1)), 503, "unavailable", "60"),
    ],
)
def test_what_the_bus_cannot_take_is_told_with_a_time(
    error: Exception, status: int, code: str, retry_after: str, bus: Any, run: Any
) -> None:
    def prepare(server: Any) -> None:
        server.intake.error = error

    answered, _ = once(HttpSource(path="/in"), bus, run, "POST /in HTTP/1.1", prepare=prepare)
    assert (answered.status, answered.code, answered.headers["retry-after"]) == (status, code, retry_after)
    assert b"bus.db" not in answered.body
    assert b"circuit" not in answered.body


def test_an_idempotency_key_belongs_to_its_client_and_its_content(bus: Any, run: Any) -> None:
    async def story() -> None:
        async with bus() as server:
            await server.serve(HttpSource(path="/lots/{lot}", auth=KEYED))
            await server.post("/lots/1", b"{}", LOGIN, "Idempotency-Key: k")
            await server.post("/lots/1", b"{}", "X-API-Key: other", "Idempotency-Key: k")
            await server.post("/lots/2", b"{}", LOGIN, "Idempotency-Key: k")
            await server.post("/lots/1", b"{} ", LOGIN, "Idempotency-Key: k")
            await server.post("/lots/1", b"{}", LOGIN)
            first, other, path, body, none = server.intake.accepted
            assert first.source_key == path.source_key == body.source_key == "http:3:qms:k"
            assert other.source_key == "http:3:mes:k"
            assert len({first.fingerprint, path.fingerprint, body.fingerprint}) == 3
            assert first.fingerprint == other.fingerprint
            assert (none.source_key, none.fingerprint) == (None, "")

    run(story())


def test_a_repeat_says_that_it_is_one(bus: Any, run: Any) -> None:
    def prepare(server: Any) -> None:
        server.intake.state = "known"

    answered, _ = once(HttpSource(path="/in"), bus, run, "POST /in HTTP/1.1", "Idempotency-Key: k", prepare=prepare)
    assert (answered.status, answered.headers["idempotent-replayed"]) == (202, "true")


def test_a_key_with_other_content_is_a_conflict(bus: Any, run: Any) -> None:
    def prepare(server: Any) -> None:
        server.intake.error = KeyConflict("m-9")

    answered, _ = once(HttpSource(path="/in"), bus, run, "POST /in HTTP/1.1", "Idempotency-Key: k", prepare=prepare)
    assert (answered.status, answered.code, answered.json["message_id"]) == (409, "idempotency-key-reused", "m-9")


@pytest.mark.parametrize("key", ["", "x" * 256, "ü", "a\tb"])
def test_an_idempotency_key_is_short_and_printable(key: str, bus: Any, run: Any) -> None:
    answered, _ = once(HttpSource(path="/in"), bus, run, "POST /in HTTP/1.1", f"Idempotency-Key: {key}")
    assert (answered.status, answered.code) == (400, "bad-idempotency-key")


@pytest.mark.parametrize("query", ["a=%ff", "&".join(f"a{n}=1" for n in range(300))])
def test_a_query_that_cannot_be_read_is_refused(query: str, bus: Any, run: Any) -> None:
    answered, _ = once(HttpSource(path="/in"), bus, run, f"POST /in?{query} HTTP/1.1")
    assert (answered.status, answered.code) == (400, "bad-query")


def test_a_get_without_body_is_a_message_of_its_query(bus: Any, run: Any) -> None:
    _, server = once(HttpSource(path="/in", method="GET"), bus, run, "GET /in?lot=7 HTTP/1.1", body=b"")
    assert server.intake.bodies == [None]
    assert server.intake.accepted[0].meta["query"] == {"lot": "7"}


def test_an_empty_get_is_read_the_same_after_a_restart(bus: Any, run: Any) -> None:
    asked = ["GET /in HTTP/1.1", "Content-Type: text/plain"]
    _, server = once(HttpSource(path="/in", method="GET"), bus, run, *asked, body=b"")
    incoming = server.intake.accepted[0]
    assert (incoming.payload, incoming.content_type) == (b"null", "")
    _, server = once(HttpSource(path="/in", method="GET", format=Text()), bus, run, *asked, body=b"")
    assert server.intake.bodies == [""]


def test_reply_none_is_an_empty_204(bus: Any, run: Any) -> None:
    answered, server = once(HttpSource(path="/in", reply="none"), bus, run, "POST /in HTTP/1.1")
    assert (answered.status, answered.body) == (204, b"")
    assert len(server.intake.accepted) == 1


# -- reply: delivered -------------------------------------------------------------------------------------------------


def delivered(bus: Any, run: Any, outcome: Outcome | None, state: str = "queued") -> Any:
    def prepare(server: Any) -> None:
        server.intake.result = outcome
        server.intake.state = state

    source = HttpSource(path="/in", reply="delivered", timeout=timedelta(seconds=7))
    answered, server = once(source, bus, run, "POST /in HTTP/1.1", prepare=prepare)
    if state != "duplicate":
        assert server.intake.waited == [("m-1", 7.0)]
    return answered


def test_a_message_that_ends_well_is_answered_with_its_state(bus: Any, run: Any) -> None:
    answered = delivered(bus, run, Outcome("done"))
    assert (answered.status, answered.json["state"], answered.json["message_id"]) == (200, "done", "m-1")


def test_a_known_message_is_answered_with_the_first_outcome(bus: Any, run: Any) -> None:
    answered = delivered(bus, run, Outcome("done", response=(201, {}, {"id": 1})), state="known")
    assert (answered.status, answered.json, answered.headers["idempotent-replayed"]) == (201, {"id": 1}, "true")


def test_a_duplicate_is_answered_at_once(bus: Any, run: Any) -> None:
    assert delivered(bus, run, None, state="duplicate").json["state"] == "duplicate"


@pytest.mark.parametrize(
    ("body", "headers", "sent", "kind"),
    [
        ({"price": Decimal("12.10")}, {}, b'{"price":12.10}', "application/json"),
        ("text", {}, b"text", "text/plain; charset=utf-8"),
        ("<a/>", {"Content-Type": "application/xml"}, b"<a/>", "application/xml"),
        (b"\x00", {}, b"\x00", "application/octet-stream"),
        (None, {}, b"", None),
        ({"price": Decimal("12.10")}, {"Content-Type": "text/plain"}, b'{"price":12.10}', "application/json"),
        ({"a": 1, "b": 2}, {"Content-Type": "application/xml"}, b'{"a":1,"b":2}', "application/json"),
    ],
)
def test_what_respond_set_is_what_the_caller_gets(
    body: Any, headers: dict[str, str], sent: bytes, kind: str | None, bus: Any, run: Any
) -> None:
    answered = delivered(bus, run, Outcome("done", response=(207, {"X-Lot": "7", **headers}, body)))
    assert (answered.status, answered.body, answered.headers.get("content-type")) == (207, sent, kind)
    assert answered.headers["x-lot"] == "7"


def test_a_response_header_cannot_be_split(bus: Any, run: Any) -> None:
    answered = delivered(bus, run, Outcome("done", response=(200, {"X-Lot": "7\r\nSet-Cookie: a=b"}, {})))
    assert (answered.status, answered.code) == (500, "internal")
    assert "set-cookie" not in answered.headers


@pytest.mark.parametrize(
    ("error_class", "status", "shown"),
    [
        ("invalid", 422, True),
        ("unmapped", 422, True),
        ("rejected", 422, True),
        ("timeout", 502, False),
        ("unavailable", 502, False),
        ("exhausted", 502, False),
        ("internal", 500, False),
    ],
)
def test_a_dead_message_is_a_problem_in_words_that_may_leave(
    error_class: str, status: int, shown: bool, bus: Any, run: Any
) -> None:
    error = {"class": error_class, "message": "why so", "errors": [{"pointer": "/a", "detail": "b"}]}
    answered = delivered(bus, run, Outcome("dead", error=error))
    assert (answered.status, answered.code, answered.json["message_id"]) == (status, error_class, "m-1")
    assert (b"why so" in answered.body) is shown
    assert bool(answered.json["errors"]) is shown


def test_a_message_that_takes_too_long_goes_on_and_is_named(bus: Any, run: Any) -> None:
    answered = delivered(bus, run, None)
    assert (answered.status, answered.code, answered.json["message_id"]) == (504, "not-yet", "m-1")


# -- limits -----------------------------------------------------------------------------------------------------------


def test_one_client_over_its_rate_waits_and_the_others_do_not(bus: Any, run: Any) -> None:
    async def story() -> None:
        async with bus() as server:
            await server.serve(HttpSource(path="/in", auth=KEYED, rate=parse_rate("2/m")))
            assert [(await server.post("/in", b"{}", LOGIN)).status for _ in range(3)] == [202, 202, 429]
            answered = await server.post("/in", b"{}", LOGIN)
            assert (answered.code, answered.headers["retry-after"]) == ("too-many-requests", "30")
            assert (await server.post("/in", b"{}", "X-API-Key: other")).status == 202
            assert (await server.post("/in", b"{}", "X-API-Key: wrong")).status == 401
            server.clock.advance(30)
            assert [(await server.post("/in", b"{}", LOGIN)).status for _ in range(2)] == [202, 429]

    run(story())


def test_a_contract_that_ends_is_told_to_who_is_refused_at_the_door_too(bus: Any, run: Any) -> None:
    auth = InboundAuth(api_key=(KeyClient(key=Secret("s3cret"), client="qms", quota=parse_rate("1/d")),))

    async def story() -> None:
        async with bus() as server:
            await server.serve(HttpSource(path="/in", auth=auth, contract=Old()))
            answers = [await server.post("/in", b'{"plate": 1}', login) for login in (LOGIN, LOGIN, "X-API-Key: wrong")]
            assert [one.status for one in answers] == [202, 429, 401]
            assert {one.headers["sunset"] for one in answers} == {"Wed, 30 Jun 2027 00:00:00 GMT"}

    run(story())


def test_a_client_over_its_quota_waits_whatever_the_route_takes(bus: Any, run: Any) -> None:
    import hmac

    keyed = InboundAuth(
        api_key=(
            KeyClient(key=Secret("s3cret"), client="qms", quota=parse_rate("2/d")),
            KeyClient(key=Secret("other"), client="mes"),
        )
    )
    signed = InboundAuth(hmac=(HmacClient(secret=Secret("s"), client="portal", quota=parse_rate("1/h")),))

    async def story() -> None:
        async with bus() as server:
            await server.serve(HttpSource(path="/in", auth=keyed))
            assert [(await server.post("/in", b"{}", LOGIN)).status for _ in range(2)] == [202, 202]
            answered = await server.post("/in", b"{}", LOGIN)
            assert (answered.status, answered.code, answered.headers["retry-after"]) == (429, "quota-used-up", "43200")
            assert [(await server.post("/in", b"{}", "X-API-Key: other")).status for _ in range(3)] == [202] * 3
            server.clock.advance(43_200)
            assert (await server.post("/in", b"{}", LOGIN)).status == 202
        async with bus() as server:
            await server.serve(HttpSource(path="/in", auth=signed))
            signature = hmac.new(b"s", b"{}", "sha256").hexdigest()
            signs = f"X-Signature: sha256={signature}"
            assert (await server.post("/in", b"{}", "X-Signature: sha256=" + "0" * 64)).status == 401
            assert [(await server.post("/in", b"{}", signs)).status for _ in range(2)] == [202, 429]

    run(story())


def test_a_quota_is_for_all_routes_together_and_over_their_reloads(bus: Any, run: Any) -> None:
    auth = InboundAuth(api_key=(KeyClient(key=Secret("s3cret"), client="qms", quota=parse_rate("3/d")),))

    async def story() -> None:
        async with bus() as server:
            await server.serve(HttpSource(path="/in", auth=auth))
            await server.serve(HttpSource(path="/other", auth=auth))
            assert [(await server.post(path, b"{}", LOGIN)).status for path in ("/in", "/other")] == [202, 202]
            await server.serve(HttpSource(path="/in", auth=auth, rate=parse_rate("9/s")))
            assert [(await server.post(path, b"{}", LOGIN)).status for path in ("/in", "/other")] == [202, 429]

    run(story())


def test_a_quota_is_of_a_client_with_a_name(options: Any) -> None:
    auth = {"api_key": {"key": Secret("k"), "quota": "5/d"}}
    assert [problem[:6] for problem in options.try_read(InboundAuth, auth)[1]] == ["ESB102"]


def test_a_route_has_its_own_largest_body(bus: Any, run: Any) -> None:
    answered, _ = once(HttpSource(path="/in", max_body=10), bus, run, "POST /in HTTP/1.1", body=b'{"a": "1234567890"}')
    assert (answered.status, answered.code) == (413, "body-too-large")


def test_a_replayed_signature_is_refused_but_not_after_a_busy_store(bus: Any, run: Any) -> None:
    import hmac

    auth = InboundAuth(hmac=(HmacClient(secret=Secret("s"), client="portal", timestamp_header="X-Time"),))

    async def story() -> None:
        async with bus() as server:
            await server.serve(HttpSource(path="/in", auth=auth))
            stamp = str(int(server.clock.now().timestamp()))
            signature = hmac.new(b"s", f"{stamp}.{{}}".encode(), "sha256").hexdigest()
            headers = (f"X-Time: {stamp}", f"X-Signature: sha256={signature}")
            server.intake.error = StoreBusy("full")
            assert (await server.post("/in", b"{}", *headers)).status == 503
            server.intake.error = None
            assert (await server.post("/in", b"{}", *headers)).status == 202
            assert (await server.post("/in", b"{}", *headers)).status == 401
            assert (await server.post("/in", b"[]", *headers)).status == 401
            assert [one.source_key for one in server.intake.accepted] == [f"http-signature:{signature}"]
            assert "x-signature" not in server.intake.accepted[0].headers

    run(story())


def test_a_stopping_route_ends_what_it_has_begun(bus: Any, run: Any) -> None:
    async def story() -> None:
        async with bus() as server:
            begun, go_on = asyncio.Event(), asyncio.Event()

            async def outcome(message_id: str, timeout: float, seq: int = 0) -> Outcome:
                begun.set()
                await go_on.wait()
                return Outcome("done")

            server.intake.outcome = outcome
            running = await server.serve(HttpSource(path="/in", reply="delivered"))
            asked = asyncio.create_task(server.post("/in"))
            await begun.wait()
            stopping = asyncio.create_task(running.stop())
            await asyncio.sleep(0)
            assert not stopping.done()
            assert (await server.post("/in")).status == 404
            go_on.set()
            await stopping
            assert (await asked).status == 200

    run(story())


def test_the_next_version_of_a_route_takes_over_without_a_gap(bus: Any, run: Any) -> None:
    async def story() -> None:
        async with bus() as server:
            old = await server.serve(HttpSource(path="/in"))
            new = await server.serve(HttpSource(path="/in", reply="none"))
            assert new.overlaps
            await old.stop()
            assert (await server.post("/in")).status == 204

    run(story())


# -- options ----------------------------------------------------------------------------------------------------------


def test_a_source_is_read_from_a_route(options: Any) -> None:
    options.resources.inbounds["qms"] = KEYED
    options.resources.contracts["plate.v1"] = Plates()
    source = options.read(
        HttpSource,
        {
            "path": "/qms/{lot}",
            "method": "PUT",
            "auth": "qms",
            "contract": "plate.v1",
            "reply": "delivered",
            "timeout": "5s",
            "format": {"json": {}},
            "rate": "50/s",
            "max_body": "2MB",
        },
    )
    assert source.auth is KEYED
    assert source.format == Json()
    assert (source.timeout, source.max_body) == (timedelta(seconds=5), 2_000_000)
    inline = options.read(HttpSource, {"path": "/in", "auth": {"bearer": {"token": Secret("x")}}})
    assert inline.auth.bearer[0].token == Secret("x")


def test_credentials_of_a_connector_that_has_none_are_an_error(options: Any) -> None:
    options.resources.inbounds["qms"] = None
    _, problems = options.try_read(HttpSource, {"path": "/in", "auth": "qms"})
    assert problems == ["ESB301 connector `qms` has no `inbound` credentials"]


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ({}, "ESB102"),
        ({"path": "in"}, "ESB103"),
        ({"path": "/in/{lot"}, "ESB103"),
        ({"path": "/in", "method": "BREW"}, "ESB105"),
        ({"path": "/in", "rate": "5"}, "ESB104"),
        ({"path": "/in", "auth": ["qms"]}, "ESB103"),
        ({"path": "/in", "auth": {"jwt": {}}}, "ESB101"),
        ({"path": "/in", "format": "yaml"}, "ESB205"),
        ({"path": "/in", "reply": "later"}, "ESB105"),
    ],
)
def test_a_source_that_cannot_work_is_an_error_at_load(value: Any, code: str, options: Any) -> None:
    _, problems = options.try_read(HttpSource, value)
    assert [problem[:6] for problem in problems] == [code]


def test_every_problem_has_the_same_members(bus: Any, run: Any) -> None:
    answered, _ = once(HttpSource(path="/in", auth=KEYED), bus, run, "POST /in HTTP/1.1")
    assert set(json.loads(answered.body)) == {"type", "title", "status", "code", "detail", "errors"}
    assert answered.headers["cache-control"] == "no-store"
