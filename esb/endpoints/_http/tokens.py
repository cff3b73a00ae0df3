"""An OAuth 2 token by client credentials: fetched once for all who wait, renewed before it ends."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from esb.clock import Clock
from esb.endpoints.http_login import OAuth2Login, OutboundAuth, basic_header
from esb.errors import Unavailable
from esb.secret import Secret

_TOKEN = re.compile(r"[\x21-\x7e]+")
#: Life of a token whose answer does not say it, in seconds.
_UNSAID = 300.0

Post = Callable[[str, Mapping[str, str], bytes], Awaitable[tuple[int, bytes]]]


class TokenKeeper:
    """Keeps one token. Whoever finds it missing or old fetches it while the others wait for that one request."""

    def __init__(self, auth: OutboundAuth, post: Post, clock: Clock) -> None:
        assert auth.oauth2 is not None
        self.auth = auth
        self._login: OAuth2Login = auth.oauth2
        self._post = post
        self._clock = clock
        self._turn = asyncio.Lock()
        self._token = ""
        self._renew_at = 0.0

    async def token(self) -> str:
        """A token that is good for now. Raises Unavailable where none is to be had."""
        if self._fresh:
            return self._token
        async with self._turn:
            if not self._fresh:
                await self._fetch()
            return self._token

    def spoil(self, token: str) -> None:
        """The target refused this token: the next asks for another."""
        if token == self._token:
            self._token = ""

    @property
    def _fresh(self) -> bool:
        return bool(self._token) and self._clock.monotonic() < self._renew_at

    async def _fetch(self) -> None:
        login = self._login
        form = {"grant_type": "client_credentials"} | ({"scope": login.scope} if login.scope else {})
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        if login.send == "body":
            form |= {"client_id": login.client_id, "client_secret": login.client_secret.reveal()}
        else:
            secret = Secret(quote(login.client_secret.reveal(), safe=""))
            headers["Authorization"] = basic_header(quote(login.client_id, safe=""), secret)
        asked_at = self._clock.monotonic()
        status, content = await self._post(login.token_url, headers, urlencode(form).encode())
        document = self._document(status, content)
        token = document.get("access_token")
        kind = document.get("token_type", "bearer")
        if not isinstance(token, str) or not _TOKEN.fullmatch(token) or str(kind).lower() != "bearer":
            raise self._refused(status, "no bearer token")
        life = _seconds(document.get("expires_in"))
        # a life shorter than twice the skew would mean a new token for every request
        self._renew_at = asked_at + max(life - login.skew.total_seconds(), life / 2)
        self._token = token

    def _document(self, status: int, content: bytes) -> Mapping[str, Any]:
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise self._refused(status, "no JSON object")
        if status != 200:
            error = document.get("error")
            raise self._refused(status, error if isinstance(error, str) and error.isprintable() else "an error")
        return document

    def _refused(self, status: int, what: str) -> Unavailable:
        return Unavailable(
            f"{urlsplit(self._login.token_url).netloc}: the token request was answered {status} with {what[:100]}",
            hint="check `client_id`, `client_secret` and `scope`",
        )


def _seconds(value: Any) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return _UNSAID
    return seconds if 0 < seconds < 1e9 else _UNSAID
