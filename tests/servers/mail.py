"""A mail server on loopback that keeps what it takes and says what it is told to."""

from __future__ import annotations

import asyncio
import email
import ssl
import subprocess
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult


class Desk:
    """The mails that were taken, and the answers to come: ``script`` maps a command to one answer each."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.readers: list[list[str]] = []
        self.logins: list[tuple[bytes, bytes]] = []
        self.script: dict[str, list[str]] = {}
        self.asked = 0

    def _said(self, command: str) -> str | None:
        answers = self.script.get(command)
        return answers.pop(0) if answers else None

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if (said := self._said("RCPT")) is not None:
            return said
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.asked += 1
        if (said := self._said("DATA")) is not None:
            if said == "silence":
                await asyncio.Event().wait()
            return said
        self.mails.append(email.message_from_bytes(envelope.content, policy=default))  # type: ignore[arg-type]  # a double, or none
        self.readers.append(list(envelope.rcpt_tos))
        return "250 taken"

    def login(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        self.logins.append((data.login, data.password))
        return AuthResult(success=data.password == b"right", handled=data.password == b"right")


class MailServer(Controller):
    """Start and stop it; ``certificate`` (a folder with ``server.crt`` and ``server.key``) brings STARTTLS and logins."""

    def __init__(self, desk: Desk, certificate: Path | None = None) -> None:
        self.desk = desk
        self._tls: ssl.SSLContext | None = None
        if certificate is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate / "server.crt", certificate / "server.key")
        super().__init__(desk, hostname="127.0.0.1", port=0)

    def factory(self) -> SMTP:
        if self._tls is None:
            return SMTP(self.handler)
        return SMTP(
            self.handler,
            tls_context=self._tls,
            require_starttls=True,
            authenticator=self.desk.login,
            auth_required=True,
        )

    def _trigger_server(self) -> None:
        """The port is known once the server listens; the base class would ask port 0."""
        self.port = self.server.sockets[0].getsockname()[1]  # type: ignore[union-attr]  # it is there
        super()._trigger_server()


def certificate(folder: Path) -> Path:
    """A self-signed certificate for 127.0.0.1."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", folder / "server.key", "-out", folder / "server.crt", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder
