"""A small OpenID provider on loopback: it logs in whom the test says, and makes ID tokens as good or as bad as the test wants."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.hostile.tools import Listener, listening

CLIENT = "esb-graz"
Change = Callable[[dict[str, Any]], None]


def _none(_: dict[str, Any]) -> None:
    """The token as it should be."""


@dataclass
class OpenId:
    """``person`` is who is logged in; ``change`` spoils the claims, ``signed`` the signature."""

    listener: Listener
    key: Any = field(default_factory=lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048))
    person: dict[str, Any] = field(default_factory=dict)
    change: Change = _none
    signed: Callable[[dict[str, Any]], str] | None = None
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    said: list[dict[str, str]] = field(default_factory=list)

    @property
    def issuer(self) -> str:
        return self.listener.url.replace("127.0.0.1", "localhost")  # another site than the bus, to a browser

    def routes(self) -> None:
        at = self.issuer
        places = {"issuer": at, "authorization_endpoint": f"{at}/authorize", "token_endpoint": f"{at}/token", "jwks_uri": f"{at}/keys"}  # fmt: skip
        self.listener.answers["/.well-known/openid-configuration"] = lambda handler: _json(handler, places)
        self.listener.answers["/keys"] = lambda handler: _json(handler, {"keys": [self.public()]})
        self.listener.answers["/token"] = self.token
        self.listener.answers["/authorize"] = self.redirect

    def public(self) -> dict[str, Any]:
        return {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key())), "kid": "k1", "use": "sig"}

    def pem(self) -> bytes:
        return bytes(
            self.key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )

    def authorize(self, location: str) -> str:
        """What the provider's login page does once somebody has logged in: the address that it sends the browser back to."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
        assert location.startswith(f"{self.issuer}/authorize?")
        assert (asked["response_type"], asked["client_id"], asked["code_challenge_method"]) == ("code", CLIENT, "S256")
        code = f"code-{len(self.codes)}"
        self.codes[code] = asked
        return f"{urlsplit(asked['redirect_uri']).path}?{urlencode({'code': code, 'state': asked['state']})}"

    def redirect(self, handler: BaseHTTPRequestHandler) -> None:
        """For a real browser: somebody is logged in already."""
        asked = parse_qs(urlsplit(handler.path).query)["redirect_uri"][0]
        back = self.authorize(f"{self.issuer}{handler.path}")
        handler.send_response(302)
        handler.send_header("Location", f"{asked}?{urlsplit(back).query}")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    def token(self, handler: BaseHTTPRequestHandler) -> None:
        form = {name: values[0] for name, values in parse_qs(self.listener.got[-1].body.decode()).items()}
        self.said.append(form)
        asked = self.codes.pop(form.get("code", ""), None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest()).rstrip(b"=").decode()  # fmt: skip
        right = (
            asked is not None and asked["code_challenge"] == challenge and asked["redirect_uri"] == form["redirect_uri"]
        )
        if not right or form.get("client_secret") != "secret-of-the-client" or asked is None:
            _json(handler, {"error": "invalid_grant"}, 400)
            return
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "iat": now,
            "exp": now + 300,
            "nonce": asked["nonce"],
            **({"auth_time": now} if asked.get("max_age") == "0" and asked.get("prompt") == "login" else {}),
            **self.person,
        }
        self.change(claims)
        token = self.signed(claims) if self.signed else jwt.encode(claims, self.key, "RS256", {"kid": "k1"})
        _json(handler, {"id_token": token, "token_type": "Bearer", "access_token": "unused"})


def _json(handler: BaseHTTPRequestHandler, words: dict[str, Any], status: int = 200) -> None:
    body = json.dumps(words).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@contextlib.contextmanager
def provider() -> Iterator[OpenId]:
    with listening() as listener:
        found = OpenId(listener)
        found.routes()
        yield found
