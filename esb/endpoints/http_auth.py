"""Who may call a route over HTTP: credentials as options, and the gate that checks them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from esb.clock import Clock
from esb.durations import Rate
from esb.endpoints.base import Request, Response
from esb.endpoints.problem import problem
from esb.secret import Secret
from esb.spec import Kind, MapNode, Node, Reader, ScalarNode, option, read_options

Algorithm = Literal["sha256", "sha512"]

TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
#: Most signatures remembered for the replay check; older ones go first.
MAX_SEEN = 100_000


def sign(algorithm: str, secret: Secret, body: bytes, timestamp: str = "") -> str:
    """The signature in hexadecimal: of the raw body, or of ``<timestamp>.<body>`` where there is a timestamp."""
    signed = f"{timestamp}.".encode() + body if timestamp else body
    return hmac.new(secret.reveal().encode(), signed, getattr(hashlib, algorithm)).hexdigest()


_QUOTA = (
    "Most requests of this client per span, on all routes together, beside the `rate` of a route; kept over restarts."
)

# -- inbound options ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KeyClient:
    """A client that shows an API key."""

    key: Secret = option(doc="The key.", example="${secret:qms-api-key}")
    header: str = option(default="X-API-Key", doc="Header that carries it.", example="X-API-Key")
    client: str = option(default="", doc="Name of the client in messages and limits.", example="qms")
    quota: Rate | None = option(default=None, doc=_QUOTA, example="10000/d")


@dataclass(frozen=True, slots=True)
class BasicClient:
    """A client that shows user and password."""

    user: str = option(doc="User name.", example="qms")
    password: Secret = option(doc="Password.", example="${secret:qms-password}")
    client: str = option(default="", doc="Name of the client, its user name by default.", example="qms")
    quota: Rate | None = option(default=None, doc=_QUOTA, example="10000/d")


@dataclass(frozen=True, slots=True)
class BearerClient:
    """A client that shows a fixed bearer token."""

    token: Secret = option(doc="The token.", example="${secret:qms-token}")
    client: str = option(default="", doc="Name of the client in messages and limits.", example="qms")
    quota: Rate | None = option(default=None, doc=_QUOTA, example="10000/d")


@dataclass(frozen=True, slots=True)
class HmacClient:
    """A client that signs each body with a shared secret."""

    secret: Secret = option(doc="Shared secret.", example="${secret:portal-webhook}")
    header: str = option(default="X-Signature", doc="Header that carries the signature.", example="X-Hub-Signature-256")
    algorithm: Algorithm = option(default="sha256", doc="Hash of the signature.", example="sha256")
    timestamp_header: str | None = option(
        default=None,
        doc="Header with the time of signing; then `<time>.<body>` is signed and a repeat is refused.",
        example="X-Timestamp",
    )
    tolerance: timedelta = option(
        default=timedelta(minutes=5),
        doc="How far that time may be from ours, and how long repeats are known.",
        example="5m",
    )
    client: str = option(default="", doc="Name of the client in messages and limits.", example="portal")
    quota: Rate | None = option(default=None, doc=_QUOTA, example="10000/d")

    def check(self, node: Node, reader: Reader) -> None:
        if self.tolerance > timedelta(days=1):
            reader.problem("ESB106", "`tolerance` must be at most 1d", node)


Client = KeyClient | BasicClient | BearerClient | HmacClient


@dataclass(frozen=True, slots=True)
class InboundAuth:
    """The credentials that callers of a route show: one kind, one or more clients."""

    api_key: tuple[KeyClient, ...] = option(
        default=(), doc="API keys.", example="{ key: '${secret:qms-api-key}', client: qms }"
    )
    basic: tuple[BasicClient, ...] = option(
        default=(), doc="Users with passwords.", example="{ user: qms, password: '${secret:qms-password}' }"
    )
    bearer: tuple[BearerClient, ...] = option(
        default=(), doc="Bearer tokens.", example="{ token: '${secret:qms-token}' }"
    )
    hmac: tuple[HmacClient, ...] = option(
        default=(), doc="Signatures over the raw body.", example="{ secret: '${secret:portal-webhook}' }"
    )

    def check(self, node: Node, reader: Reader) -> None:
        given = [name for name in ("api_key", "basic", "bearer", "hmac") if getattr(self, name)]
        if len(given) != 1:
            found = " and ".join(f"`{name}`" for name in given) or "none"
            reader.problem(
                "ESB107",
                f"credentials are exactly one of `api_key`, `basic`, `bearer`, `hmac`; found {found}",
                node,
                hint="give several clients of one kind as a list",
            )
        secrets = [secret_of(client) for client in self.clients]
        for secret in secrets:
            refuse_empty(secret, node, reader)
        logins = [
            (client.user if isinstance(client, BasicClient) else "", secret_of(client)) for client in self.clients
        ]
        if len(set(logins)) < len(logins):
            reader.problem("ESB109", "two clients have the same credentials", node, hint="give each client its own")
        for client in self.clients:
            _check_headers(client, node, reader)
            if client.quota is not None and not name_of(client):
                reader.problem("ESB102", "a client with a `quota` needs a name", node, hint="add `client: name`")

    @property
    def clients(self) -> Sequence[Client]:
        return (*self.api_key, *self.basic, *self.bearer, *self.hmac)

    @property
    def headers(self) -> frozenset[str]:
        """The headers that carry credentials, in lower case; they are not passed on."""
        names = {client.header.lower() for client in self.clients if isinstance(client, KeyClient | HmacClient)}
        return frozenset(names | {"authorization"})


def name_of(client: Client) -> str:
    """What the client is called; empty where it has no name."""
    return client.client or (client.user if isinstance(client, BasicClient) else "")


def secret_of(client: Client) -> Secret:
    match client:
        case KeyClient():
            return client.key
        case BasicClient():
            return client.password
        case BearerClient():
            return client.token
        case HmacClient():
            return client.secret


def refuse_empty(secret: Secret, node: Node, reader: Reader) -> None:
    """An empty secret would let everybody in: it is an error at load."""
    if not secret:
        reader.problem("ESB503", "a secret is empty", node, hint="set it in the environment or in the secrets folder")


def check_header_name(name: str, node: Node, reader: Reader) -> None:
    if not TOKEN.fullmatch(name):
        reader.problem("ESB103", f"`{name}` is not a header name", node, hint="letters, digits and `-`")


def _check_headers(client: Client, node: Node, reader: Reader) -> None:
    if isinstance(client, KeyClient | HmacClient):
        check_header_name(client.header, node, reader)
    if isinstance(client, HmacClient) and client.timestamp_header is not None:
        check_header_name(client.timestamp_header, node, reader)


class InboundKind(Kind):
    """``auth: qms`` takes the ``inbound`` credentials of a connector; a mapping gives them in place."""

    label = "the name of a connector with `inbound`, or credentials"

    def read(self, node: Node, reader: Reader) -> Any:
        if isinstance(node, MapNode):
            return read_options(InboundAuth, node, reader)
        if isinstance(node, ScalarNode) and isinstance(node.value, str):
            found = reader.resources.inbound(node, reader)
            if found is None:
                return reader.problem(
                    "ESB301",
                    f"connector `{node.value}` has no `inbound` credentials",
                    node,
                    hint="add `inbound: { api_key: { key: ${secret:…} } }` to its file",
                )
            return found
        return reader.wrong_type(node, self)

    def schema(self) -> dict[str, Any]:
        from esb.spec.schema import options_schema  # noqa: PLC0415 - only the editor schema needs it

        return {"anyOf": [{"type": "string"}, options_schema(InboundAuth)]}


Inbound = Annotated[InboundAuth, InboundKind()]


# -- inbound at work ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Identity:
    """Who called. ``proof`` is the signature where each request has its own; ``fresh`` where it was made after our start, and after
    all that were forgotten."""

    client: str
    proof: str = ""
    fresh: bool = True
    signed_at: datetime | None = None


class Gate:
    """Checks requests against credentials, in constant time. Holds the signatures seen lately."""

    def __init__(self, auth: InboundAuth, clock: Clock) -> None:
        self._auth = auth
        self._clock = clock
        self._began = clock.monotonic()
        #: by signature: when it may be forgotten (monotonic seconds, whoever sets the clock meanwhile), and when it was made
        self._seen: dict[str, tuple[float, datetime | None]] = {}
        self._forgotten: datetime | None = None  #: when the latest of those was made that are not remembered any more

    @property
    def needs_body(self) -> bool:
        """Whether only the whole request tells who calls."""
        return bool(self._auth.hmac)

    def admit(self, request: Request) -> Response | None:
        """The refusal, before the body is read; None where the body may come."""
        if self._auth.hmac:
            fits = any(self._fresh_signature(client, request.headers) for client in self._auth.hmac)
            return None if fits else self._refusal()
        return None if self._by_header(request.headers) is not None else self._refusal()

    def identify(self, request: Request) -> Identity | Response:
        """The client, or the refusal, with the whole body known."""
        if not self._auth.hmac:
            name = self._by_header(request.headers)
            return Identity(name) if name is not None else self._refusal()
        for client in self._auth.hmac:
            found = self._fresh_signature(client, request.headers)
            if found is None:
                continue
            signature, timestamp = found
            if not hmac.compare_digest(sign(client.algorithm, client.secret, request.body, timestamp), signature):
                continue
            proof = signature if timestamp else ""
            if proof in self._seen:
                return self._refusal("this signature was used before")
            signed_at = read_timestamp(timestamp)
            return Identity(client.client, proof, signed_at is None or signed_at > self._since, signed_at)
        return self._refusal()

    def remember(self, identity: Identity) -> None:
        """Refuse the same signed request from now on; :meth:`forget` where it was not taken after all."""
        if not identity.proof:
            return
        now = self._clock.monotonic()
        longest = max(client.tolerance for client in self._auth.hmac)
        too_old = self._clock.now() - longest
        while self._seen:
            until, signed_at = next(iter(self._seen.values()))
            may_come = until >= now or (signed_at is not None and signed_at >= too_old)
            if may_come and len(self._seen) < MAX_SEEN:
                break
            del self._seen[next(iter(self._seen))]
            if signed_at is not None and (self._forgotten is None or signed_at > self._forgotten):
                self._forgotten = signed_at
        self._seen[identity.proof] = now + 2 * longest.total_seconds(), identity.signed_at

    @property
    def _since(self) -> datetime:
        """What was signed after this is known here if it was used; by the clock as it is set now."""
        start = self._clock.now() - timedelta(seconds=self._clock.monotonic() - self._began)
        return start if self._forgotten is None else max(start, self._forgotten)

    def forget(self, identity: Identity) -> None:
        self._seen.pop(identity.proof, None)

    def _refusal(self, detail: str = "this route needs valid credentials") -> Response:
        scheme = "Bearer" if self._auth.bearer else "Signature" if self._auth.hmac else "ApiKey"
        challenge = 'Basic realm="esb", charset="UTF-8"' if self._auth.basic else f'{scheme} realm="esb"'
        return problem(401, "unauthorized", detail, headers={"www-authenticate": challenge})

    def _by_header(self, headers: Mapping[str, str]) -> str | None:
        if self._auth.api_key:
            return _pick(self._auth.api_key, lambda one: one.key.matches(headers.get(one.header.lower(), "")))
        scheme, _, value = headers.get("authorization", "").partition(" ")
        if self._auth.bearer:
            return (
                _pick(self._auth.bearer, lambda one: one.token.matches(value)) if scheme.lower() == "bearer" else None
            )
        user, password = _basic(value) if scheme.lower() == "basic" else ("", "")
        return _pick(
            self._auth.basic,
            lambda one: Secret(one.user).matches(user) & one.password.matches(password),
        )

    def _fresh_signature(self, client: HmacClient, headers: Mapping[str, str]) -> tuple[str, str] | None:
        """Signature and timestamp as far as the headers alone can be judged."""
        signature = headers.get(client.header.lower(), "").removeprefix(f"{client.algorithm}=").lower()
        if not re.fullmatch(rf"[0-9a-f]{{{hashlib.new(client.algorithm).digest_size * 2}}}", signature):
            return None
        if client.timestamp_header is None:
            return signature, ""
        timestamp = headers.get(client.timestamp_header.lower(), "")
        signed_at = read_timestamp(timestamp)
        if signed_at is None or abs(self._clock.now() - signed_at) > client.tolerance:
            return None
        return signature, timestamp


def _pick(clients: Iterable[Any], fits: Callable[[Any], bool]) -> str | None:
    """The name of the client that fits; every client is looked at, so that the time does not tell which."""
    found: str | None = None
    for one in clients:
        if fits(one) and secret_of(one):
            found = one.client or getattr(one, "user", "")
    return found


def _basic(value: str) -> tuple[str, str]:
    try:
        user, _, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return "", ""
    return user, password


def read_timestamp(text: str) -> datetime | None:
    """Unix seconds, Unix milliseconds or ISO 8601 with a zone, as an instant in UTC; None for anything else."""
    if text.isascii() and text.isdigit() and len(text) <= 13:
        return datetime.fromtimestamp(int(text) / (1000 if len(text) == 13 else 1), UTC)
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return None
    return instant.astimezone(UTC) if instant.tzinfo is not None else None
