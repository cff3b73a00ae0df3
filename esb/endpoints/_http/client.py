"""An open HTTP connection to one system: the session, its credentials, and one bounded request after another."""

from __future__ import annotations

import asyncio
import io
import socket
import ssl
from collections.abc import Awaitable, Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp
from msgspec import Struct
from yarl import URL

from esb import __version__
from esb.clock import Deadlines
from esb.endpoints._http.answers import Answer, unpacked
from esb.endpoints._http.masking import masked, masked_bytes, needles
from esb.endpoints._http.plain import PlainPool, why_not, written
from esb.endpoints._http.tokens import TokenKeeper
from esb.endpoints.base import ConnectionContext
from esb.endpoints.expiries import Expiries
from esb.endpoints.http_login import OutboundAuth, basic_header
from esb.errors import EsbError, InternalFault, MessageError, Unavailable
from esb.message import EMPTY
from esb.trust import trusting

if TYPE_CHECKING:
    from esb.endpoints.http import HttpConnection, HttpSink, HttpTls

#: Longest wait for a connection, in seconds, within the total of a delivery.
CONNECT = 10.0
_POOL = 1_000
#: Different waits for a connection that are kept ready.
_LIMITS = 100
_LARGE_BODY = 1 << 20
_TOKEN_REPLY = 1_000_000
#: Headers of the request itself that its fetch of a CSRF token does not carry.
_NOT_ON_A_FETCH = frozenset({"content-type", "if-match", "idempotency-key"})


class Call(Struct, frozen=True):
    """One request: ``path`` with its query stands below the connection's address, or with ``rooted`` below its host.

    ``max_response`` is in bytes, decoded.
    """

    method: str
    path: str
    headers: Mapping[str, str] = EMPTY
    body: bytes | None = None
    max_response: int = 10_000_000
    rooted: bool = False


class Progress(Struct):
    """What a delivery is waiting for, for the words of a timeout. ``sent`` once the request itself may have gone out.

    ``connect`` bounds the wait for a connection in seconds: short of the whole budget, so that a target that is not there
    is told from one that is silent.
    """

    doing: str = "the answer"
    sent: bool = False
    connect: float = CONNECT


async def open_http(settings: HttpConnection, context: ConnectionContext) -> LiveHttp:
    """Open the session of a connector. Nothing is sent yet. Raises EsbError where a certificate cannot be used."""
    tls = client_tls(settings.tls, context.workspace)
    if settings.tls is not None and settings.tls.trust_all:
        context.log("warning", "http.trusts_every_certificate", connector=context.name, address=settings.base_url)
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=_POOL,
            ssl=tls,
            keepalive_timeout=settings.keepalive.total_seconds(),
            socket_factory=_socket,
        ),
        cookie_jar=aiohttp.CookieJar(unsafe=True) if settings.csrf else aiohttp.DummyCookieJar(),
        headers={"User-Agent": f"esb/{__version__}", "Accept-Encoding": "gzip"},
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT),
        auto_decompress=False,
        trust_env=False,
    )
    return LiveHttp(settings, context, session)


def client_tls(tls: HttpTls | None, workspace: Path) -> ssl.SSLContext | bool:
    """The TLS context of a connection; True is the library's own default. Raises EsbError naming the file."""
    if tls is None:
        return True
    try:
        context = trusting(str(workspace / tls.ca) if tls.ca else None)
        if tls.cert:
            context.load_cert_chain(workspace / tls.cert, workspace / tls.key if tls.key else None)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(name for name in (tls.ca, tls.cert, tls.key) if name)
        raise EsbError(f"cannot use the certificates ({files}): {error.strerror or error}") from error
    if tls.trust_all:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _socket(info: Any) -> socket.socket:
    """A socket that notices when the other side has vanished behind a firewall."""
    family, kind, protocol, _, _ = info
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return made


class Asked(Hashable, Protocol):
    """A request that no task waits for."""

    def late(self) -> None:
        """Its time is up."""


class LiveHttp:
    """What a connector's :meth:`HttpConnection.open` gives: shared by all deliveries to that system."""

    def __init__(self, settings: HttpConnection, context: ConnectionContext, session: aiohttp.ClientSession) -> None:
        self.settings = settings
        self.name = context.name
        self._context = context
        self._session = session
        self._base = settings.base_url.rstrip("/")
        self._origin = str(URL(self._base, encoded=True).origin()) if self._base else ""
        #: host and port, for the words of an error
        self.host = URL(self._base).raw_authority
        #: connections of our own for plain requests; None where everything goes through the library
        self.plain = plain_pool(settings)
        login = settings.proxy_auth
        # the library shows it to the proxy only, as `Proxy-Authorization` of a CONNECT or of the plain request
        self._proxy_headers = {"Authorization": basic_header(login.user, login.password)} if login is not None else None
        self._others: dict[HttpConnection, LiveHttp] = {}
        self._of_sinks: dict[int, tuple[HttpSink, LiveHttp]] = {}
        self._limits: dict[float, aiohttp.ClientTimeout] = {}
        self.deadlines = Deadlines()
        self.expiries = Expiries[Asked](lambda asked: asked.late())
        self._keepers: dict[int, TokenKeeper] = {}
        self._csrf: str | None = None
        self._csrf_turn = asyncio.Lock()

    async def close(self) -> None:
        for other in self._others.values():
            await other.close()
        if self.plain is not None:
            self.plain.close()
        await self._session.close()

    async def to(self, sink: HttpSink) -> LiveHttp:
        """The connection of a sink with an address of its own; kept for its next delivery, and for others like it.

        Raises InternalFault where that would take a connector's credentials to another host.
        """
        known = self._of_sinks.get(id(sink))
        if known is not None:
            return known[1]
        own = sink.own_connection()
        assert own is not None
        if self._base:
            raise InternalFault(
                f"with a connector an address of its own is not taken ({own.base_url})",
                hint="write `path` instead of `url`",
            )
        if own not in self._others:
            self._others[own] = await open_http(own, self._context)
        # the sink is kept, so that its identity is not given to another
        self._of_sinks[id(sink)] = (sink, self._others[own])
        return self._others[own]

    def plainly(self, call: Call, auth: OutboundAuth | None) -> bytes | None:
        """The request as it goes out; None where it is not plain, or needs credentials."""
        if self.plain is None or auth is not None or self.settings.auth is not None or self.settings.csrf:
            return None
        headers = merged(self.settings.headers, call.headers) if self.settings.headers else call.headers
        url = (self._origin if call.rooted else self._base) + call.path
        target = url[len(self._origin) :] if url.startswith(self._origin) else ""
        return written(self.host, call.method, target, headers, call.body)

    def known(self, sink: HttpSink) -> LiveHttp | None:
        """As :meth:`to` where the connection is open already."""
        if sink.url is None:
            return self
        known = self._of_sinks.get(id(sink))
        return known[1] if known is not None else None

    def exchange(self, call: Call, auth: OutboundAuth | None, progress: Progress) -> Awaitable[Answer]:
        """Send with credentials and give the answer, whatever its status.

        A refused OAuth token or CSRF token is fetched anew once. Raises Unavailable where no answer comes, Invalid where it
        is too large. Keeps no time of its own: the caller bounds it.
        """
        auth = auth or self.settings.auth
        if auth is not None or self.settings.csrf:
            return self._exchange(call, auth, progress)
        headers = merged(self.settings.headers, call.headers) if self.settings.headers else call.headers
        progress.sent = True
        url = (self._origin if call.rooted else self._base) + call.path
        return self.request(call.method, url, headers, call.body, call.max_response, progress.connect)

    async def _exchange(self, call: Call, auth: OutboundAuth | None, progress: Progress) -> Answer:
        renewed: set[str] = set()
        while True:
            progress.sent = False
            layers = [self.settings.headers, call.headers]
            token = csrf = None
            given: Mapping[str, str] = {}
            if auth is not None:
                given = auth.headers()
                layers += [given, auth.signature(call.body or b"", self._context.clock.now())]
                if auth.oauth2 is not None:
                    progress.doing = "an OAuth token"
                    token = await self._keeper(auth).token()
                    layers.append({"Authorization": f"Bearer {token}"})
            headers = merged(*layers) if len(layers) > 2 or layers[0] else dict(call.headers)
            if self.settings.csrf and call.method != "GET":
                progress.doing = "the CSRF token"
                csrf = await self._csrf_token(call, headers)
                headers["X-CSRF-Token"] = csrf
            progress.doing, progress.sent = "the answer", True
            url = (self._origin if call.rooted else self._base) + call.path
            answer = await self.request(call.method, url, headers, call.body, call.max_response, progress.connect)
            if token is not None and answer.status == 401 and auth is not None and "token" not in renewed:
                renewed.add("token")
                self._keeper(auth).spoil(token)
            elif csrf is not None and _wants_csrf(answer) and "csrf" not in renewed:
                renewed.add("csrf")
                self._csrf = None if self._csrf == csrf else self._csrf
            else:
                return answer if auth is None else _masked(answer, needles(auth, given, token))

    def _keeper(self, auth: OutboundAuth) -> TokenKeeper:
        """One token per credentials; the keeper holds ``auth``, so that its identity is not given to another."""
        keeper = self._keepers.get(id(auth))
        if keeper is None:
            assert auth.oauth2 is not None
            keeper = self._keepers[id(auth)] = TokenKeeper(auth, self._token_request, self._context.clock)
        return keeper

    async def _token_request(self, url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        answer = await self.request("POST", url, headers, body, _TOKEN_REPLY)
        return answer.status, answer.content

    async def _csrf_token(self, call: Call, headers: Mapping[str, str]) -> str:
        """SAP's token: asked for with a GET, good as long as the session (its cookies) lives."""
        if self._csrf is None:
            async with self._csrf_turn:
                if self._csrf is None:
                    self._csrf = await self._fetch_csrf(call, headers)
        return self._csrf

    async def _fetch_csrf(self, call: Call, headers: Mapping[str, str]) -> str:
        path = self.settings.csrf_path or call.path.partition("?")[0].removesuffix("$batch")
        asking = {name: value for name, value in headers.items() if name.lower() not in _NOT_ON_A_FETCH}
        asking["X-CSRF-Token"] = "Fetch"
        answer = await self.request("GET", self._base + path, asking, None, call.max_response)
        token = answer.headers.get("x-csrf-token", "")
        if not token or token.lower() == "required":
            raise Unavailable(
                f"{self.host}: gave no CSRF token (status {answer.status})",
                hint="set `csrf_path` to an address of that system that answers a GET",
            )
        return token

    def _limit(self, connect: float) -> aiohttp.ClientTimeout:
        """The library's own time: only for the connection."""
        limit = self._limits.get(connect)
        if limit is None:
            if len(self._limits) > _LIMITS:
                self._limits.clear()
            limit = self._limits[connect] = aiohttp.ClientTimeout(total=None, sock_connect=connect)
        return limit

    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        max_response: int,
        connect: float = CONNECT,
    ) -> Answer:
        """One request, no redirect followed, the answer read to its end. Raises Unavailable, Invalid."""
        target = url[len(self._origin) :] if url.startswith(self._origin) else ""
        plain = written(self.host, method, target, headers, body) if self.plain is not None else None
        if self.plain is not None and plain is not None:
            try:
                return await self.plain.request(method, plain, max_response, connect)
            except MessageError as error:
                raise type(error)(f"{self.host}: {error.message}", hint=error.hint) from error.__cause__
        data = io.BytesIO(body) if body is not None and len(body) > _LARGE_BODY else body
        address = URL(url, encoded=True)
        try:
            async with self._session.request(
                method,
                address,
                headers=headers,
                data=data,
                allow_redirects=False,
                proxy=self.settings.proxy,
                proxy_headers=self._proxy_headers,
                timeout=self._limit(connect),
            ) as response:
                coding = response.headers.get("Content-Encoding", "identity")
                try:
                    content = await unpacked(response.status, coding, response.content.iter_any(), max_response)
                except MessageError:
                    response.close()
                    raise
                return Answer(response.status, _lower(response.headers), content)
        except MessageError as error:
            raise type(error)(f"{address.raw_authority}: {error.message}", hint=error.hint) from None
        except (aiohttp.ClientError, OSError) as error:
            raise failure(address.raw_authority, error) from error


def plain_pool(settings: HttpConnection) -> PlainPool | None:
    """The connections to a system that needs neither TLS nor a proxy nor cookies."""
    url = URL(settings.base_url, encoded=True)
    if url.scheme != "http" or url.raw_host is None or url.port is None or settings.proxy or settings.csrf:
        return None
    return PlainPool(url.raw_host, url.port, settings.keepalive.total_seconds())


def merged(*layers: Mapping[str, str]) -> dict[str, str]:
    """One set of headers; a later layer wins, whatever the case of its names."""
    found = {name.lower(): (name, value) for layer in layers for name, value in layer.items()}
    return dict(found.values())


def _masked(answer: Answer, hidden: tuple[str, ...]) -> Answer:
    """The answer without the credentials it was asked with, should it repeat them."""
    if not hidden:
        return answer
    headers = {name: masked(value, hidden) for name, value in answer.headers.items()}
    return Answer(answer.status, headers, masked_bytes(answer.content, hidden))


def _wants_csrf(answer: Answer) -> bool:
    return answer.status == 403 and answer.headers.get("x-csrf-token", "").lower() == "required"


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in headers.items():
        key = name.lower()
        found[key] = f"{found[key]}, {value}" if key in found else value
    return found


def failure(host: str, error: Exception) -> Unavailable:
    """A failure in words that name the host and never the request."""
    hint = ""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            cause = error.certificate_error
            reason = getattr(cause, "verify_message", "") or str(cause)
            words = f"its certificate is not trusted ({reason})"
            hint = "give the authority's certificate as `tls: { ca: … }`"
        case aiohttp.ClientSSLError():
            words = f"no TLS connection ({error.os_error.strerror or type(error.os_error).__name__})"
        case aiohttp.ClientConnectorDNSError():
            words = "the name does not resolve"
        case aiohttp.ClientProxyConnectionError():
            words = "the proxy does not answer"
        case aiohttp.ClientHttpProxyError():
            words = f"the proxy answered {error.status}"
        case aiohttp.ConnectionTimeoutError():
            words = "no connection in time"
        case aiohttp.ClientConnectorError():
            words = f"no connection ({why_not(error.os_error)})"
        case aiohttp.ServerDisconnectedError():
            words = "closed the connection without an answer"
        case aiohttp.ClientPayloadError():
            words = "the answer broke off"
        case aiohttp.ClientResponseError():
            words = "what it answers is not HTTP"
        case OSError():
            words = f"the connection was lost ({error.strerror or type(error).__name__})"
        case _:
            words = f"the request failed ({type(error).__name__})"
    return Unavailable(f"{host}: {words}", hint=hint)
