"""OpenID Connect: the authorization code flow with PKCE, and what an ID token must be before it counts.

The provider is asked over HTTPS (plain HTTP on loopback only), without redirects and proxies, for answers of limited size.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

from esb.clock import Clock
from esb.config.model import Oidc
from esb.errors import EsbError
from esb.trust import trusting

#: Signatures that an ID token may have: keys of others can check them, so nobody but the provider can make them.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
#: Seconds that clocks may differ, that an answer may take, and for which keys are not fetched again.
LEEWAY, TIMEOUT, KEYS_LAST = 60, 10.0, 60.0
LARGEST = 1_000_000
#: Seconds that the whole seconds of two instants of the provider may add.
ROUNDING = 2
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class OidcFault(EsbError):
    """The provider could not be asked, or what it said does not count."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A login under way: what the provider must give back, and what only this bus knows."""

    back: str
    redirect: str
    began: float
    #: the proof that is to be given by it: only a login that happens now counts
    proof: str = ""
    state: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    nonce: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(64), repr=False)
    browser: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    @property
    def challenge(self) -> str:
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True)
class Person:
    """Who came back: the provider's own id of them, the name here, and the roles of their groups."""

    subject: str
    name: str
    full_name: str
    roles: tuple[str, ...]
    #: when they logged in at the provider; None where that was not asked for
    authenticated: datetime | None = None


class Provider:
    """One provider. Raises OidcFault from everything that asks it."""

    def __init__(self, settings: Oidc, clock: Clock) -> None:
        _check_address(settings.issuer)
        try:
            import jwt  # noqa: PLC0415 - an extra, imported where it is used
        except ImportError:
            raise EsbError("`admin: { oidc: … }` needs the oidc extra", hint="pip install 'plantbus[oidc]'") from None
        self._jwt = jwt
        self._settings = settings
        self._clock = clock
        self._places: Mapping[str, Any] = {}
        self._keys: dict[str, Any] = {}
        self._fetched = float("-inf")

    async def address(self, attempt: Attempt) -> str:
        """Where the browser goes to log in."""
        words = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": attempt.redirect,
            "scope": " ".join(self._settings.scopes),
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
            **({"prompt": "login", "max_age": "0"} if attempt.proof else {}),
        }
        at = str((await self._discovered())["authorization_endpoint"])
        return f"{at}{'&' if '?' in at else '?'}{urlencode(words)}"

    async def person(self, attempt: Attempt, code: str) -> Person:
        """Who the code stands for."""
        words = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": attempt.redirect,
            "client_id": self._settings.client_id,
            "code_verifier": attempt.verifier,
        }
        secret = self._settings.client_secret
        if secret is not None:
            words["client_secret"] = secret.reveal()
        answer = await self._ask(str((await self._discovered())["token_endpoint"]), words)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise OidcFault("the provider gave no ID token")
        claims = await self._claims(token, attempt.nonce)
        return self._person(claims, self._fresh(claims, attempt) if attempt.proof else None)

    def _fresh(self, claims: Mapping[str, Any], attempt: Attempt) -> datetime:
        """When the login of a proof happened. Raises OidcFault for one from before the proof was asked for.

        Both instants of the token are of the provider's own clock, so that a difference of clocks does not matter: it was made at
        the end of the attempt, and the login lies no further back than the attempt has lasted.
        """
        lasted, at = self._clock.monotonic() - attempt.began, claims.get("auth_time")
        if isinstance(at, bool) or not isinstance(at, int):
            raise OidcFault("the provider does not say when the login here was", hint="it must send `auth_time`")
        if not -ROUNDING <= claims["iat"] - at <= lasted + ROUNDING:
            raise OidcFault("the provider let you in by a login from before; you did not log in again here")
        return datetime.fromtimestamp(at, UTC)

    def _person(self, claims: Mapping[str, Any], authenticated: datetime | None = None) -> Person:
        name = claims.get(self._settings.name_claim)
        if not isinstance(name, str) or not name:
            raise OidcFault(
                f"the ID token has no `{self._settings.name_claim}`", hint="admin: { oidc: { name_claim: … } }"
            )
        groups = claims.get(self._settings.groups_claim)
        held = [group for group in groups if isinstance(group, str)] if isinstance(groups, list) else []
        roles = [role for group in held for role in self._settings.roles.get(group, ())]
        subject = f"{claims['iss']} {claims['sub']}"
        shown = str(claims.get("name") or "")[:200]
        return Person(subject, name, shown, tuple(dict.fromkeys(roles)), authenticated)

    # -- the ID token -----------------------------------------------------------------------------------------------------
    async def _claims(self, token: str, nonce: str) -> dict[str, Any]:
        """The claims of a token that was made by the provider, for us, now, for this login."""
        try:
            header = self._jwt.get_unverified_header(token)
            if header.get("alg") not in ALGORITHMS:
                raise OidcFault("the ID token is signed in a way that does not count")
            claims: dict[str, Any] = self._jwt.decode(
                token,
                await self._key(str(header.get("kid") or "")),
                algorithms=list(ALGORITHMS),
                audience=self._settings.client_id,
                issuer=self._settings.issuer,
                leeway=LEEWAY,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
        except self._jwt.PyJWTError as error:
            raise OidcFault(f"the ID token does not count: {error}") from None
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("azp", self._settings.client_id) != self._settings.client_id or (several and "azp" not in claims):
            raise OidcFault("the ID token was made for somebody else")
        if not secrets.compare_digest(str(claims.get("nonce") or "").encode(), nonce.encode()):
            raise OidcFault("the ID token belongs to another login")
        return claims

    async def _key(self, kid: str) -> Any:
        if kid not in self._keys and self._clock.monotonic() - self._fetched > KEYS_LAST:
            found = await self._ask(str((await self._discovered())["jwks_uri"]))
            self._fetched = self._clock.monotonic()
            keys = self._jwt.PyJWKSet.from_dict(found).keys
            self._keys = {str(key.key_id or ""): key for key in keys}
        if kid not in self._keys:
            raise OidcFault("the ID token is signed with a key that the provider does not name")
        return self._keys[kid]

    # -- asking -----------------------------------------------------------------------------------------------------------
    async def _discovered(self) -> Mapping[str, Any]:
        if not self._places:
            found = await self._ask(self._settings.issuer.rstrip("/") + "/.well-known/openid-configuration")
            if found.get("issuer") != self._settings.issuer:
                raise OidcFault("the provider calls itself by another name than `issuer` says")
            for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
                _check_address(str(found.get(name) or ""))
            self._places = found
        return self._places

    async def _ask(self, address: str, form: Mapping[str, str] | None = None) -> dict[str, Any]:
        import aiohttp  # noqa: PLC0415 - nobody waits for it who has no provider

        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        context = trusting(self._settings.ca or None)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(ssl=context)) as session,
                session.request("GET" if form is None else "POST", address, data=form, allow_redirects=False) as answer,
            ):
                body = await answer.content.read(LARGEST + 1)
                if answer.status != 200 or len(body) > LARGEST:
                    raise OidcFault(f"the provider answered {answer.status}")
                found = json.loads(body)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise OidcFault(f"the provider cannot be asked: {type(error).__name__}") from None
        if not isinstance(found, dict):
            raise OidcFault("the provider answered with no object")
        return found


def _check_address(address: str) -> None:
    """Raises OidcFault for what is neither https nor on this machine."""
    parts = urlsplit(address)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise OidcFault(f"`{address}` is no https address", hint="admin: { oidc: { issuer: https://… } }")
