"""One mail: composed, handed to the server in a thread, judged by the server's answer."""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
import ssl
import time
from email.errors import MessageError as MailError
from email.message import EmailMessage
from email.utils import formatdate
from typing import TYPE_CHECKING

from esb.endpoints._http.client import client_tls
from esb.endpoints.base import ConnectionContext, Delivery
from esb.errors import Invalid, MessageError, Rejected, Timeout, Unavailable
from esb.formats.content_types import content_type_of
from esb.formats.json import Json
from esb.message import Message
from esb.steps.base import Reply
from esb.trust import trusting

if TYPE_CHECKING:
    from esb.endpoints.smtp import SmtpConnection, SmtpSink

_JSON = Json()
#: subjects longer than this are cut: mail programs show less
_SUBJECT = 200


class LiveSmtp:
    """What the mails to one server share: its address and certificates. Connections are made for each mail."""

    def __init__(self, options: SmtpConnection, context: ConnectionContext) -> None:
        self.options = options
        made = client_tls(options.tls, context.workspace)
        self.tls = made if isinstance(made, ssl.SSLContext) else trusting()
        self.name = context.name or options.host

    async def close(self) -> None:
        """Nothing stays open between two mails."""


async def send(sink: SmtpSink, message: Message, delivery: Delivery, live: LiveSmtp) -> Reply:
    """Hand the mail over within ``delivery.timeout``. Raises Rejected, Unavailable, Timeout, Invalid."""
    mail = compose(sink, message, delivery)
    try:
        # the thread has a deadline of its own for every exchange; it is left to it where the whole takes longer
        async with asyncio.timeout(delivery.timeout):
            return await asyncio.to_thread(_hand_over, sink, mail, live, delivery.timeout)
    except TimeoutError:
        raise Timeout(f"{live.name}: the mail server took longer than {delivery.timeout:g}s") from None


def compose(sink: SmtpSink, message: Message, delivery: Delivery) -> EmailMessage:
    """The mail. Raises Invalid where a text cannot stand in one."""
    scope = delivery.scope
    mail = EmailMessage()
    subject = " ".join(sink.subject.render(scope).split())
    headers = {
        "From": sink.from_,
        "To": ", ".join(sink.to),
        "Cc": ", ".join(sink.cc),
        "Reply-To": sink.reply_to or "",
        "Subject": subject if len(subject) <= _SUBJECT else subject[:_SUBJECT] + "…",
        "Date": formatdate(delivery.clock.now().timestamp(), usegmt=True),
        "Message-ID": f"<{delivery.id}@{sink.from_.rpartition('@')[2]}>",
        "X-Correlation-ID": delivery.correlation_id,
        "Auto-Submitted": "auto-generated",
    }
    try:
        for name, value in headers.items():
            if value:
                mail[name] = value
        mail.set_content(_writable(sink.text.render(scope)))
        if sink.html is not None:
            mail.add_alternative(_writable(sink.html.render(scope)), subtype="html")
        if sink.attach is not None:
            _attach(mail, sink, message, sink.attach.render(scope))
        mail.as_bytes()
    except (MailError, ValueError, UnicodeError) as error:
        raise Invalid(f"the mail cannot be written: {error}") from None
    return mail


def _writable(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _attach(mail: EmailMessage, sink: SmtpSink, message: Message, name: str) -> None:
    codec = sink.format or _JSON
    main, _, sub = content_type_of(codec).partition(";")[0].partition("/")
    clean = "".join(char if char.isalnum() or char in "._- " else "_" for char in name).lstrip(".") or "attachment"
    mail.add_attachment(codec.encode(message.body), maintype=main, subtype=sub or "octet-stream", filename=clean[:120])


def _hand_over(sink: SmtpSink, mail: EmailMessage, live: LiveSmtp, budget: float) -> Reply:
    options, end = live.options, time.monotonic() + budget
    try:
        server = _connect(options, live.tls, max(end - time.monotonic(), 0.1))
        with contextlib.closing(server):
            if options.security == "starttls":
                server.starttls(context=live.tls)
            if options.password is not None:
                server.login(options.user, options.password.reveal())
            _mail(server, sink, mail)
            with contextlib.suppress(smtplib.SMTPException, OSError):  # it was taken; a lost good-bye changes nothing
                server.quit()
    except MessageError:
        raise
    except (smtplib.SMTPException, OSError) as error:
        raise _fault(live.name, error) from error
    return Reply(body={"accepted": [*sink.to, *sink.cc]})


def _connect(options: SmtpConnection, tls: ssl.SSLContext, timeout: float) -> smtplib.SMTP:
    if options.security == "tls":
        return smtplib.SMTP_SSL(options.host, options.port, timeout=timeout, context=tls)
    return smtplib.SMTP(options.host, options.port, timeout=timeout)


def _mail(server: smtplib.SMTP, sink: SmtpSink, mail: EmailMessage) -> None:
    """As ``sendmail``, but all readers or none."""
    server.ehlo_or_helo_if_needed()
    steps = [server.mail(sink.from_), *(server.rcpt(reader) for reader in (*sink.to, *sink.cc))]
    for code, words in steps:
        if code not in (250, 251):
            server.rset()
            raise smtplib.SMTPResponseException(code, words)
    code, words = server.data(mail.as_bytes(policy=mail.policy.clone(linesep="\r\n")))
    if code != 250:
        raise smtplib.SMTPResponseException(code, words)


def _fault(name: str, error: Exception) -> MessageError:
    if isinstance(error, smtplib.SMTPResponseException):
        words = error.smtp_error.decode("utf-8", "replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
        text = f"{name}: {error.smtp_code} {' '.join(str(words).split())[:300]}"
        # a wrong login is a matter of the plant, not of this mail: it waits until somebody mends it
        if 400 <= error.smtp_code < 500 or isinstance(error, smtplib.SMTPAuthenticationError):
            return Unavailable(text)
        return Rejected(text, reply={"status": error.smtp_code, "headers": {}, "body": str(words)[:300]})
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return Unavailable(f"{name}: {error}", hint="set `security: tls` or `none` in the connector")
    if isinstance(error, TimeoutError):
        return Unavailable(f"{name}: no answer in time")
    return Unavailable(f"{name}: {error or type(error).__name__}")
