"""Who may call a route."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from esb.clock import ManualClock
from esb.endpoints.base import Request, Response
from esb.endpoints.http_auth import (
    BasicClient,
    BearerClient,
    Gate,
    HmacClient,
    Identity,
    InboundAuth,
    KeyClient,
    read_timestamp,
)
from esb.secret import Secret

KEY = Secret("s3cret")


def request(body: bytes = b"{}", **headers: str) -> Request:
    return Request("POST", "/a", "", {name.replace("_", "-"): value for name, value in headers.items()}, body)


def client_of(gate: Gate, asked: Request) -> str | None:
    admitted = gate.admit(asked)
    found = gate.identify(asked)
    if isinstance(found, Response):
        assert found.status == 401
        assert "www-authenticate" in found.headers
        return None
    assert admitted is None
    return found.client


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_each_api_key_names_its_client() -> None:
    gate = Gate(
        InboundAuth(
            api_key=(KeyClient(key=KEY, client="qms"), KeyClient(key=Secret("other"), header="X-Mes", client="mes"))
        ),
        ManualClock(),
    )
    assert client_of(gate, request(x_api_key="s3cret")) == "qms"
    assert client_of(gate, request(x_mes="other")) == "mes"
    for headers in (
        {},
        {"x_api_key": ""},
        {"x_api_key": "S3CRET"},
        {"x_api_key": "s3cret, s3cret"},
        {"x_mes": "s3cret"},
    ):
        assert client_of(gate, request(**headers)) is None


def test_basic_takes_the_whole_password_of_the_named_user() -> None:
    gate = Gate(
        InboundAuth(
            basic=(
                BasicClient(user="qms", password=Secret("a:b")),
                BasicClient(user="mes", password=Secret("c"), client="line"),
            )
        ),
        ManualClock(),
    )
    assert client_of(gate, request(authorization=basic("qms", "a:b"))) == "qms"
    assert client_of(gate, request(authorization=basic("mes", "c").replace("Basic", "bASIC"))) == "line"
    wrong = [
        basic("qms", "c"),
        basic("mes", "a:b"),
        basic("qms", ""),
        "Basic",
        "Basic !!!",
        "Basic /w==",
        "Bearer a:b",
        "",
    ]
    for value in wrong:
        assert client_of(gate, request(authorization=value)) is None


def test_a_bearer_token_is_compared_whole() -> None:
    gate = Gate(InboundAuth(bearer=(BearerClient(token=KEY, client="qms"),)), ManualClock())
    assert client_of(gate, request(authorization="Bearer s3cret")) == "qms"
    for value in ("Bearer", "Bearer ", "Bearer s3cre", "Bearer s3cret x", "Basic s3cret", "s3cret", "Bearer \udcff"):
        assert client_of(gate, request(authorization=value)) is None


def test_an_empty_secret_lets_nobody_in() -> None:
    for auth in (
        InboundAuth(api_key=(KeyClient(key=Secret("")),)),
        InboundAuth(bearer=(BearerClient(token=Secret("")),)),
        InboundAuth(basic=(BasicClient(user="", password=Secret("")),)),
    ):
        gate = Gate(auth, ManualClock())
        for headers in ({}, {"x_api_key": ""}, {"authorization": "Bearer "}, {"authorization": basic("", "")}):
            assert client_of(gate, request(**headers)) is None


def signed(body: bytes, secret: str = "s3cret", algorithm: str = "sha256", prefix: str = "") -> str:
    return prefix + hmac.new(secret.encode(), body, algorithm).hexdigest()


def test_a_signature_covers_every_byte_of_the_body() -> None:
    gate = Gate(InboundAuth(hmac=(HmacClient(secret=KEY, client="portal"),)), ManualClock())
    assert client_of(gate, request(b"abc", x_signature=signed(b"abc"))) == "portal"
    assert (
        client_of(
            gate, request(b"abc", x_signature=signed(b"abc", prefix="sha256=").upper().replace("SHA256=", "sha256="))
        )
        == "portal"
    )
    for headers in (
        {},
        {"x_signature": ""},
        {"x_signature": signed(b"abd")},
        {"x_signature": signed(b"abc", "other")},
        {"x_signature": signed(b"abc", algorithm="sha1")},
        {"x_signature": signed(b"abc", algorithm="sha512")},
        {"x_signature": signed(b"abc", prefix="sha512=")},
        {"x_signature": signed(b"abc", prefix="md5=")},
        {"x_signature": signed(b"abc")[:-1]},
    ):
        assert client_of(gate, request(b"abc", **headers)) is None


def test_without_a_well_formed_signature_the_body_is_not_even_read() -> None:
    gate = Gate(InboundAuth(hmac=(HmacClient(secret=KEY),)), ManualClock())
    refused = gate.admit(request(b""))
    assert refused is not None
    assert refused.status == 401
    assert gate.admit(request(b"", x_signature="0" * 64)) is None


def stamped(clock: ManualClock, body: bytes, at: timedelta = timedelta(0)) -> dict[str, str]:
    stamp = str(int((clock.now() + at).timestamp()))
    return {"x_signature": signed(f"{stamp}.".encode() + body), "x_timestamp": stamp}


def stamping() -> tuple[Gate, ManualClock]:
    clock = ManualClock()
    auth = InboundAuth(hmac=(HmacClient(secret=KEY, client="portal", timestamp_header="X-Timestamp"),))
    return Gate(auth, clock), clock


def test_an_old_or_early_signature_is_refused() -> None:
    gate, clock = stamping()
    assert client_of(gate, request(b"abc", **stamped(clock, b"abc", timedelta(minutes=-4)))) == "portal"
    assert client_of(gate, request(b"abc", **stamped(clock, b"abc", timedelta(minutes=4)))) == "portal"
    for at in (timedelta(minutes=-6), timedelta(minutes=6), timedelta(days=-400)):
        assert client_of(gate, request(b"abc", **stamped(clock, b"abc", at))) is None
    for stamp in ("", "yesterday", "-1", "9" * 20, "2026-01-05T09:00:00"):
        assert client_of(gate, request(b"abc", **{**stamped(clock, b"abc"), "x_timestamp": stamp})) is None
    assert client_of(gate, request(b"abc", x_signature=signed(b"abc"))) is None


def test_a_replayed_signature_is_refused_until_it_is_too_old_anyway() -> None:
    gate, clock = stamping()
    asked = request(b"abc", **stamped(clock, b"abc", timedelta(minutes=4)))
    found = gate.identify(asked)
    assert isinstance(found, Identity)
    gate.remember(found)
    assert client_of(gate, asked) is None
    clock.advance(timedelta(minutes=9))
    assert client_of(gate, asked) is None
    clock.advance(timedelta(minutes=2))
    assert gate.admit(asked) is not None
    gate.remember(Identity("portal", "another"))
    assert len(gate._seen) == 1


class Wall(ManualClock):
    """A clock that somebody sets."""

    def set(self, by: timedelta) -> None:
        self._now += by


def used(gate: Gate, clock: ManualClock, body: bytes) -> tuple[Request, bool]:
    """A signed request that was taken, and whether its signature could tell that it is no repeat under another key."""
    asked = request(body, **stamped(clock, body))
    found = gate.identify(asked)
    assert isinstance(found, Identity)
    gate.remember(found)
    return asked, found.fresh


def test_a_clock_that_was_set_lets_no_used_signature_in_under_another_key() -> None:
    clock = Wall()
    auth = InboundAuth(hmac=(HmacClient(secret=KEY, client="portal", timestamp_header="X-Timestamp"),))
    gate = Gate(auth, clock)
    clock.advance(60)
    first, fresh = used(gate, clock, b"first")
    assert fresh
    clock.set(timedelta(hours=1))
    assert used(gate, clock, b"second")[1], "what was signed before the clock jumped ahead is remembered all the same"
    clock.set(timedelta(hours=-1))
    assert client_of(gate, first) is None
    clock.advance(timedelta(minutes=11))
    used(gate, clock, b"third")
    clock.set(timedelta(minutes=-10))
    found = gate.identify(first)
    assert isinstance(found, Identity)
    assert not found.fresh, "it is forgotten, so nobody can tell"
    assert used(gate, clock, b"fourth")[1]


def test_a_clock_that_was_set_back_after_the_start_refuses_nobody_for_so_long() -> None:
    clock = Wall()
    auth = InboundAuth(hmac=(HmacClient(secret=KEY, client="portal", timestamp_header="X-Timestamp"),))
    gate = Gate(auth, clock)
    clock.advance(60)
    clock.set(timedelta(hours=-1))
    assert used(gate, clock, b"first")[1]


def test_what_was_signed_before_the_start_is_no_fresher_by_a_clock_that_jumps_ahead() -> None:
    clock = Wall()
    auth = InboundAuth(hmac=(HmacClient(secret=KEY, client="portal", timestamp_header="X-Timestamp"),))
    right_time = timedelta(minutes=4)  # the machine starts with a clock that is slow
    before = stamped(clock, b"abc", right_time - timedelta(seconds=30))
    gate = Gate(auth, clock)
    clock.advance(1)
    clock.set(right_time)
    found = gate.identify(request(b"abc", **before))
    assert isinstance(found, Identity)
    assert not found.fresh


def test_a_signature_whose_message_was_not_taken_may_come_again() -> None:
    gate, clock = stamping()
    asked = request(b"abc", **stamped(clock, b"abc"))
    found = gate.identify(asked)
    assert isinstance(found, Identity)
    gate.remember(found)
    gate.forget(found)
    assert client_of(gate, asked) == "portal"


def test_timestamps_are_read_as_senders_write_them() -> None:
    instant = datetime(2026, 1, 5, 9, tzinfo=UTC)
    assert read_timestamp("1767603600") == instant
    assert read_timestamp("1767603600000") == instant
    assert read_timestamp("2026-01-05T10:00:00+01:00") == instant
    assert read_timestamp("٢") is None


# -- options ----------------------------------------------------------------------------------------------------------


def test_credentials_are_of_exactly_one_kind(options: Any) -> None:
    _, problems = options.try_read(InboundAuth, {})
    assert problems == ["ESB107 credentials are exactly one of `api_key`, `basic`, `bearer`, `hmac`; found none"]
    _, problems = options.try_read(InboundAuth, {"api_key": {"key": KEY}, "bearer": {"token": KEY}})
    assert problems[0].endswith("found `api_key` and `bearer`")


def test_several_clients_of_one_kind_are_a_list(options: Any) -> None:
    auth = options.read(InboundAuth, {"api_key": [{"key": KEY, "client": "a"}, {"key": Secret("b"), "client": "b"}]})
    assert [one.client for one in auth.api_key] == ["a", "b"]
    assert auth.headers == {"x-api-key", "authorization"}


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ({"api_key": {"key": "written out"}}, "ESB501"),
        ({"api_key": {"key": Secret("")}}, "ESB503"),
        ({"bearer": {"token": Secret("")}}, "ESB503"),
        ({"hmac": {"secret": Secret("")}}, "ESB503"),
        ({"basic": {"user": "a", "password": Secret("")}}, "ESB503"),
        ({"api_key": {}}, "ESB102"),
        ({"api_key": [{"key": KEY}, {"key": KEY}]}, "ESB109"),
        ({"api_key": {"key": KEY, "header": "X Key"}}, "ESB103"),
        ({"hmac": {"secret": KEY, "header": "X\nKey"}}, "ESB103"),
        ({"hmac": {"secret": KEY, "timestamp_header": "a:b"}}, "ESB103"),
        ({"hmac": {"secret": KEY, "algorithm": "md5"}}, "ESB105"),
    ],
)
def test_credentials_that_cannot_work_are_an_error_at_load(value: Any, code: str, options: Any) -> None:
    _, problems = options.try_read(InboundAuth, value)
    assert [problem[:6] for problem in problems] == [code]


def test_no_secret_shows_in_what_prints() -> None:
    auth = InboundAuth(api_key=(KeyClient(key=KEY),))
    assert "s3cret" not in repr(auth)
    assert hashlib.sha256(b"s3cret").hexdigest() not in repr(auth)
