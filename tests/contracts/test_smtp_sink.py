"""Mails against a real mail server: composed, encrypted, refused, silent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from esb.clock import SystemClock
from esb.endpoints.base import ConnectionContext, Delivery
from esb.endpoints.http import HttpTls
from esb.endpoints.smtp import SmtpConnection, SmtpSink
from esb.errors import MessageError, Rejected, Timeout, Unavailable
from esb.formats.csv import Csv
from esb.language.workspace import WorkspaceLanguage
from esb.message import Message
from esb.secret import Secret
from esb.steps.base import Reply
from tests.servers.mail import Desk, MailServer, certificate
from tests.servers.require import free_port

LANGUAGE = WorkspaceLanguage()
BODY = {"lot": "0012", "text": "Lötbrücke — „hold“\n.\nend"}


def mail(**changes: Any) -> SmtpSink:
    given: dict[str, Any] = {
        "from_": "esb@plant.example",
        "to": ("desk@plant.example",),
        "subject": LANGUAGE.template("Lot {{ body.lot }} is on hold"),
        "text": LANGUAGE.template("{{ body.text }}"),
    }
    return SmtpSink(**{**given, **changes})


def send(
    connection: SmtpConnection, sink: SmtpSink, body: Any = None, workspace: Path = Path(), **changes: Any
) -> Reply:
    async def scenario() -> Reply:
        clock = SystemClock()
        live = await connection.open(ConnectionContext("mail", clock, workspace, lambda *a, **k: None))
        message = Message(BODY if body is None else body)
        given: dict[str, Any] = {"id": "0d3b7a52", "attempt": 1, "timeout": 10.0, "correlation_id": "case-1", **changes}
        delivery = Delivery(**given, scope=message.scope(), clock=clock, workspace=workspace)
        try:
            return await sink.send(message, delivery, live)
        finally:
            await live.close()

    return asyncio.run(scenario())


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def plain(desk: Desk) -> Iterator[SmtpConnection]:
    server = MailServer(desk)
    server.start()
    yield SmtpConnection(host="127.0.0.1", port=server.port, security="none")
    server.stop()


def test_a_mail_arrives_as_it_was_meant(desk: Desk, plain: SmtpConnection) -> None:
    reply = send(plain, mail(cc=("it@plant.example",), html=LANGUAGE.template("<b>{{ body.lot | e }}</b>")))
    assert reply.body == {"accepted": ["desk@plant.example", "it@plant.example"]}
    got = desk.mails[0]
    assert got["Subject"] == "Lot 0012 is on hold"
    assert got["Message-ID"] == "<0d3b7a52@plant.example>"
    assert got["X-Correlation-ID"] == "case-1"
    assert got.get_body(("plain",)).get_content().splitlines() == BODY["text"].splitlines()  # type: ignore[union-attr]  # it is there
    assert "<b>0012</b>" in got.get_body(("html",)).get_content()  # type: ignore[union-attr]  # it is there
    assert desk.readers == [["desk@plant.example", "it@plant.example"]]


def test_the_body_can_be_attached(desk: Desk, plain: SmtpConnection) -> None:
    rows = [{"lot": "0012", "qty": 3}]
    send(
        plain,
        mail(
            subject=LANGUAGE.template("s"),
            text=LANGUAGE.template("t"),
            attach=LANGUAGE.template("../lots 1.csv"),
            format=Csv(),
        ),
        rows,
    )
    (part,) = desk.mails[0].iter_attachments()
    assert part.get_filename() == "_lots 1.csv"
    assert part.get_content_type() == "text/csv"
    assert part.get_payload(decode=True) == b"lot,qty\r\n0012,3\r\n"


def test_a_value_begins_no_second_header(desk: Desk, plain: SmtpConnection) -> None:
    send(plain, mail(), {"lot": "1\r\nBcc: thief@evil.example", "text": "x\r\n.\r\nMAIL FROM:<a@b>"})
    assert desk.mails[0]["Bcc"] is None
    assert desk.mails[0]["Subject"] == "Lot 1 Bcc: thief@evil.example is on hold"
    assert desk.readers == [["desk@plant.example"]]
    assert len(desk.mails) == 1


@pytest.mark.parametrize(
    ("command", "answer", "error"),
    [
        ("RCPT", "550 no such mailbox", Rejected),
        ("RCPT", "452 mailbox full", Unavailable),
        ("DATA", "554 spam", Rejected),
        ("DATA", "421 going down", Unavailable),
    ],
)
def test_what_the_server_says_decides(
    desk: Desk, plain: SmtpConnection, command: str, answer: str, error: type[MessageError]
) -> None:
    desk.script[command] = [answer]
    with pytest.raises(error, match=answer):
        send(plain, mail())
    assert desk.mails == []
    send(plain, mail())
    assert len(desk.mails) == 1


def test_where_one_reader_is_refused_nobody_gets_the_mail(desk: Desk, plain: SmtpConnection) -> None:
    desk.script["RCPT"] = ["250 OK", "550 no such mailbox"]
    with pytest.raises(Rejected):
        send(plain, mail(to=("a@plant.example", "b@plant.example")))
    assert desk.mails == []


def test_a_silent_server_costs_no_more_than_the_deadline(desk: Desk, plain: SmtpConnection) -> None:
    desk.script["DATA"] = ["silence"]
    with pytest.raises((Timeout, Unavailable)):
        send(plain, mail(), timeout=1.0)


def test_nobody_there_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="refused"):
        send(SmtpConnection(host="127.0.0.1", port=free_port(), security="none"), mail())


def test_a_login_goes_over_tls_to_a_server_that_is_known(desk: Desk, tmp_path: Path) -> None:
    server = MailServer(desk, certificate(tmp_path))
    server.start()
    try:
        options: dict[str, Any] = {"host": "127.0.0.1", "port": server.port, "user": "esb"}
        known = SmtpConnection(**options, password=Secret("right"), tls=HttpTls(ca="server.crt"))
        send(known, mail(), workspace=tmp_path)
        assert len(desk.mails) == 1
        wrong = SmtpConnection(**options, password=Secret("wrong"), tls=HttpTls(ca="server.crt"))
        with pytest.raises(Unavailable, match="535") as refused:
            send(wrong, mail(), workspace=tmp_path)
        assert "wrong" not in str(refused.value)
        logins = len(desk.logins)
        stranger = SmtpConnection(**options, password=Secret("right"))
        with pytest.raises(Unavailable, match="certificate"):
            send(stranger, mail(), workspace=tmp_path)
        assert len(desk.logins) == logins
    finally:
        server.stop()


def test_a_server_without_tls_gets_no_mail(desk: Desk, plain: SmtpConnection) -> None:
    with pytest.raises(Unavailable, match="STARTTLS"):
        send(SmtpConnection(host="127.0.0.1", port=plain.port), mail())
    assert desk.mails == []
