"""What the bus shows to a system that it calls over HTTP."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from esb.endpoints.http_auth import Algorithm, check_header_name, refuse_empty, sign
from esb.secret import Secret
from esb.spec import Node, Reader, option


@dataclass(frozen=True, slots=True)
class KeyLogin:
    """Show an API key."""

    key: Secret = option(doc="The key.", example="${secret:erp-api-key}")
    header: str = option(default="X-API-Key", doc="Header that carries it.", example="X-API-Key")


@dataclass(frozen=True, slots=True)
class BasicLogin:
    """Show user and password."""

    user: str = option(doc="User name.", example="esb")
    password: Secret = option(doc="Password.", example="${secret:erp-password}")


@dataclass(frozen=True, slots=True)
class BearerLogin:
    """Show a fixed token."""

    token: Secret = option(doc="The token.", example="${secret:mes-token}", shorthand=True)


@dataclass(frozen=True, slots=True)
class HmacLogin:
    """Sign each body with a shared secret."""

    secret: Secret = option(doc="Shared secret.", example="${secret:portal-hmac}")
    header: str = option(default="X-Signature", doc="Header for the signature.", example="X-Signature")
    algorithm: Algorithm = option(default="sha256", doc="Hash of the signature.", example="sha256")
    timestamp_header: str | None = option(
        default=None, doc="Header for the time (Unix seconds); then `<time>.<body>` is signed.", example="X-Timestamp"
    )


@dataclass(frozen=True, slots=True)
class OAuth2Login:
    """Get a token with client credentials, keep it, and renew it before it ends."""

    token_url: str = option(doc="Where tokens come from.", example="https://login.example.com/oauth2/token")
    client_id: str = option(doc="Who we are.", example="esb")
    client_secret: Secret = option(doc="Our secret.", example="${secret:erp-oauth}")
    scope: str = option(default="", doc="What we ask for.", example="erp.write")
    send: Literal["header", "body"] = option(
        default="header",
        doc="How id and secret are sent: basic authentication, or fields of the form.",
        example="header",
    )
    skew: timedelta = option(
        default=timedelta(seconds=60), doc="How long before its end a token is renewed.", example="60s"
    )

    def check(self, node: Node, reader: Reader) -> None:
        if not re.fullmatch(r"https?://[^/?#@\s{}\\]+(?:/[^\s#{}]*)?", self.token_url):
            reader.problem("ESB103", "`token_url` needs a fixed http or https address without a user", node)


@dataclass(frozen=True, slots=True)
class OutboundAuth:
    """What the bus shows to a system: exactly one kind."""

    api_key: KeyLogin | None = option(default=None, doc="API key.", example="{ key: '${secret:erp-api-key}' }")
    basic: BasicLogin | None = option(
        default=None, doc="User and password.", example="{ user: esb, password: '${secret:erp-password}' }"
    )
    bearer: BearerLogin | None = option(default=None, doc="Fixed token.", example="${secret:mes-token}")
    hmac: HmacLogin | None = option(default=None, doc="Signature.", example="{ secret: '${secret:portal-hmac}' }")
    oauth2: OAuth2Login | None = option(default=None, doc="OAuth 2 client credentials.")

    def check(self, node: Node, reader: Reader) -> None:
        given = [name for name in ("api_key", "basic", "bearer", "hmac", "oauth2") if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(f"`{name}`" for name in given) or "none"
            words = "`auth` is exactly one of `api_key`, `basic`, `bearer`, `hmac`, `oauth2`; found "
            reader.problem("ESB107", words + found, node)
        for login in (self.api_key, self.hmac):
            if login is not None:
                check_header_name(login.header, node, reader)
        for secret in self.secrets:
            refuse_empty(secret, node, reader)

    @property
    def secrets(self) -> Sequence[Secret]:
        found = (
            self.api_key and self.api_key.key,
            self.basic and self.basic.password,
            self.bearer and self.bearer.token,
            self.hmac and self.hmac.secret,
            self.oauth2 and self.oauth2.client_secret,
        )
        return [secret for secret in found if isinstance(secret, Secret)]

    def headers(self) -> dict[str, str]:
        """The headers that never change (not those of ``hmac`` and ``oauth2``)."""
        if self.api_key is not None:
            return {self.api_key.header: self.api_key.key.reveal()}
        if self.bearer is not None:
            return {"Authorization": f"Bearer {self.bearer.token.reveal()}"}
        if self.basic is not None:
            return {"Authorization": basic_header(self.basic.user, self.basic.password)}
        return {}

    def signature(self, body: bytes, now: datetime) -> dict[str, str]:
        """The headers of ``hmac`` for one body."""
        login = self.hmac
        if login is None:
            return {}
        timestamp = str(int(now.timestamp())) if login.timestamp_header else ""
        signature = sign(login.algorithm, login.secret, body, timestamp)
        return {login.header: signature} | ({login.timestamp_header: timestamp} if login.timestamp_header else {})


def basic_header(user: str, password: Secret) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password.reveal()}".encode()).decode("ascii")
