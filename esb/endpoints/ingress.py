"""The shared HTTP listener of all routes: one table from method and path to handler, swapped whole on every change."""

from __future__ import annotations

import ipaddress
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote_to_bytes

from esb.endpoints._http.whole import Whole
from esb.endpoints.base import Handler, Memo, Request, Response, Soon, Tell
from esb.endpoints.limits import Quotas
from esb.endpoints.problem import problem
from esb.errors import EsbError
from esb.message import EMPTY

Admit = Callable[[Request], Response | None]
Log = Callable[..., None]

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_PLAIN = re.compile(r"[A-Za-z0-9/._~-]+")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f/\\]")
_RETRY_AFTER = timedelta(seconds=5)


def host_of(header: str) -> str:
    """The host of a ``Host`` header: without port and brackets, in lower case."""
    host = header.rsplit(":", 1)[0] if not header.endswith("]") else header
    return host.strip("[]").lower()


def is_loopback(host: str) -> bool:
    """True for a loopback address; a name is none."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class BadPath(Exception):
    """A path that no route can have: an empty part, a dot part, an escape that is broken or hides a slash."""

    def __init__(self, detail: str, status: int = 404) -> None:
        super().__init__(detail)
        self.detail, self.status = detail, status


def split_path(raw: str) -> tuple[str, ...]:
    """The decoded parts of a raw path, each decoded exactly once. Raises :class:`BadPath`.

    Authentication and dispatch both work on this one reading, so that no spelling of a path reaches one without the other.
    """
    if raw == "/":
        return ()
    parts = raw.split("/")[1:]
    if "%" in raw:
        if _BAD_ESCAPE.search(raw):
            raise BadPath("the path holds a broken escape", 400)
        try:
            parts = [unquote_to_bytes(part).decode() for part in parts]
        except UnicodeDecodeError:
            raise BadPath("the path is not UTF-8", 400) from None
    for part in parts:
        if part in ("", ".", "..") or _UNSAFE.search(part):
            raise BadPath("no route has such a path")
    return tuple(parts)


@dataclass(frozen=True, slots=True)
class PathPattern:
    """A route's path. ``names`` are its ``{params}`` by place; literal parts must match exactly, also in case."""

    text: str
    parts: tuple[str, ...]
    names: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> PathPattern:
        """Raises ValueError with the words for a person."""
        if not text.startswith("/"):
            raise ValueError(f"a path begins with `/`, not `{text[:1]}`")
        if "?" in text or "#" in text or "%" in text:
            raise ValueError("a path is written plain, without `?`, `#` and `%`")
        parts = tuple(text.split("/")[1:]) if text != "/" else ()
        names: dict[int, str] = {}
        for place, part in enumerate(parts):
            if part in ("", ".", "..") or _UNSAFE.search(part):
                raise ValueError(f"`{text}` has a part that is empty, a dot or a backslash")
            if "{" in part or "}" in part:
                match = _PARAMETER.fullmatch(part)
                if match is None:
                    raise ValueError(f"`{part}`: a parameter takes a whole part of the path, like `/lots/{{lot}}`")
                if match[1] in names.values():
                    raise ValueError(f"the parameter `{match[1]}` stands twice")
                names[place] = match[1]
        return cls(text, parts, MappingProxyType(names))

    @property
    def shape(self) -> tuple[str, ...]:
        """Two patterns of one shape would serve the same paths."""
        return tuple("{}" if place in self.names else part for place, part in enumerate(self.parts))

    def match(self, parts: tuple[str, ...]) -> Mapping[str, str] | None:
        """The parameters, or None. ``parts`` has as many parts as the pattern."""
        for place, part in enumerate(self.parts):
            if place not in self.names and part != parts[place]:
                return None
        return {name: parts[place] for place, name in self.names.items()}

    @property
    def order(self) -> tuple[bool, ...]:
        """The most specific pattern first: a literal part goes before a parameter, from the left."""
        return tuple(place in self.names for place in range(len(self.parts)))


@dataclass(frozen=True, slots=True, eq=False)
class Mounted:
    """What :meth:`HttpIngress.mount` gives, and :meth:`HttpIngress.unmount` takes."""

    method: str
    pattern: PathPattern
    handler: Handler
    admit: Admit | None
    max_body: int | None
    soon: Soon | None = None


@dataclass(frozen=True, slots=True)
class _Table:
    """Every mounted handler; never changed, only replaced."""

    mounts: Mapping[tuple[str, tuple[str, ...]], Mounted] = field(default_factory=dict)
    exact: Mapping[tuple[str, ...], Mapping[str, Mounted]] = field(default_factory=dict)
    #: the same by raw path, where no part of it needs an escape
    plain: Mapping[str, tuple[tuple[str, ...], Mapping[str, Mounted]]] = field(default_factory=dict)
    patterns: Mapping[int, tuple[tuple[PathPattern, Mapping[str, Mounted]], ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, mounts: Mapping[tuple[str, tuple[str, ...]], Mounted]) -> _Table:
        shapes: dict[tuple[str, ...], dict[str, Mounted]] = {}
        for (method, shape), mounted in mounts.items():
            shapes.setdefault(shape, {})[method] = mounted
        exact: dict[tuple[str, ...], Mapping[str, Mounted]] = {}
        patterns: dict[int, list[tuple[PathPattern, Mapping[str, Mounted]]]] = {}
        for shape, methods in shapes.items():
            pattern = next(iter(methods.values())).pattern
            if pattern.names:
                patterns.setdefault(len(shape), []).append((pattern, methods))
            else:
                exact[shape] = methods
        ordered = {length: tuple(sorted(found, key=lambda one: one[0].order)) for length, found in patterns.items()}
        plain = {"/" + "/".join(shape): (shape, methods) for shape, methods in exact.items()}
        return cls(mounts, exact, {raw: found for raw, found in plain.items() if _PLAIN.fullmatch(raw)}, ordered)

    def find(self, parts: tuple[str, ...]) -> Mapping[str, Mounted] | None:
        """The handlers by method of the most specific path that fits."""
        methods = self.exact.get(parts)
        if methods is not None:
            return methods
        for pattern, found in self.patterns.get(len(parts), ()):
            if pattern.match(parts) is not None:
                return found
        return None


class HttpIngress:
    """A raw ASGI application over a table of handlers (:class:`esb.endpoints.base.Ingress`).

    The order is: path, method, ``admit``, size, body, handler. ``max_body`` bounds one body and ``max_held`` all bodies in
    memory at once, in bytes. With ``hosts`` only these names, and loopback, are answered. :meth:`drain` makes every later request a 503.
    """

    def __init__(
        self,
        *,
        max_body: int = 10_000_000,
        max_held: int = 256_000_000,
        hosts: tuple[str, ...] = (),
        log: Log | None = None,
        quotas: Quotas | None = None,
    ) -> None:
        self.quotas = quotas or Quotas()
        self._table = _Table()
        self._max_body = max_body
        self._max_held = max_held
        self._hosts = frozenset(host.lower() for host in hosts)
        self._held = 0
        self._draining = False
        self._log = log or (lambda *_args, **_fields: None)

    # -- routes -------------------------------------------------------------------------------------------------------
    def mount(
        self,
        method: str,
        path: str,
        handler: Handler,
        *,
        admit: Admit | None = None,
        max_body: int | None = None,
        soon: Soon | None = None,
    ) -> object:
        pattern = PathPattern.parse(path)
        mounted = Mounted(method.upper(), pattern, handler, admit, max_body, soon)
        self._table = _Table.of({**self._table.mounts, (mounted.method, pattern.shape): mounted})
        return mounted

    def unmount(self, token: object) -> None:
        mounts = {key: mounted for key, mounted in self._table.mounts.items() if mounted is not token}
        if len(mounts) != len(self._table.mounts):
            self._table = _Table.of(mounts)

    def drain(self) -> None:
        """Refuse every later request with 503, so that no client takes a stop for a missing path."""
        self._draining = True

    @property
    def mounted(self) -> tuple[tuple[str, str], ...]:
        """Method and path of everything that is served, sorted by path."""
        return tuple(
            sorted(((m.method, m.pattern.text) for m in self._table.mounts.values()), key=lambda one: (one[1], one[0]))
        )

    # -- requests -----------------------------------------------------------------------------------------------------
    async def __call__(
        self, scope: Mapping[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        if scope["type"] != "http":
            raise EsbError(f"this listener speaks HTTP only, not {scope['type']}")
        response = await self._answer(scope, receive)
        if response is None:
            return
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers.items()]
        if response.status not in (204, 304):
            headers.append((b"content-length", b"%d" % len(response.body)))
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})

    async def _answer(self, scope: Mapping[str, Any], receive: Callable[[], Awaitable[Any]]) -> Response | None:
        if self._draining:
            return problem(503, "draining", "the bus is stopping; try again soon", retry_after=_RETRY_AFTER)
        found = self._find(scope["method"], scope["raw_path"].decode("ascii"))
        if isinstance(found, Response):
            return found
        mounted, parts = found
        headers = read_headers(scope["headers"])
        client = scope.get("client")
        query = scope["query_string"].decode("ascii")
        request = _request(mounted, parts, query, headers, b"", client[0] if client else "")
        try:
            refusal = self._refuse(mounted, request)
            if refusal is not None:
                return refusal
            body = await self._read(receive, self._max_body if mounted.max_body is None else mounted.max_body)
            if not isinstance(body, bytes):
                return body
            try:
                return await mounted.handler(_with_body(request, body))
            finally:
                self._held -= len(body)
        except Exception as error:  # noqa: BLE001 - the last place that can answer; the client gets a number, the log the rest
            return self._failed(mounted, error)

    # -- requests that came in one piece ------------------------------------------------------------------------------
    def whole(self, head: Whole, body: bytes, client: str, tell: Tell) -> Response | Awaitable[Response] | None:
        """The answer (:class:`esb.endpoints._http.whole.Answers`), in the same order."""
        if self._draining:
            return problem(503, "draining", "the bus is stopping; try again soon", retry_after=_RETRY_AFTER)
        known, headers = self._table.plain.get(head.path), head.headers
        mounted = known[1].get(head.method) if known is not None else None
        if mounted is not None and not mounted.pattern.names:
            request = Request(head.method, mounted.pattern.text, head.query, headers, body, client, EMPTY, head.memo)
        else:
            found = self._find(head.method, head.path)
            if isinstance(found, Response):
                return found
            mounted = found[0]
            request = _request(*found, head.query, headers, body, client, head.memo)
        size = len(body)
        self._held += size
        answer: Response | Awaitable[Response] | None = None
        try:
            if self._hosts or mounted.admit is not None or "sec-fetch-site" in headers:
                answer = self._refuse(mounted, request)
            elif "content-encoding" in headers or size > (self._max_body if (m := mounted.max_body) is None else m):
                answer = self._refuse_size(mounted, headers)
            if answer is None:
                if self._held > self._max_held:
                    answer = problem(503, "busy", "too many bodies are being read", retry_after=_RETRY_AFTER)
                elif mounted.soon is None:
                    answer = mounted.handler(request)
                else:
                    answer = mounted.soon(request, partial(self._tell, mounted, size, tell))
                    if answer is None:
                        return None
        except Exception as error:  # noqa: BLE001 - as above
            answer = self._failed(mounted, error)
        if isinstance(answer, Response):
            self._held -= size
            return answer
        return self._finish_whole(mounted, size, answer)

    def _tell(
        self, mounted: Mounted, size: int, tell: Tell, answer: Response | Awaitable[Response] | Exception
    ) -> None:
        """Hears what a handler says later, and passes it on."""
        if isinstance(answer, Response):
            self._held -= size
            tell(answer)
        elif isinstance(answer, Exception):
            self._held -= size
            tell(self._failed(mounted, answer))
        else:
            tell(self._finish_whole(mounted, size, answer))

    async def _finish_whole(self, mounted: Mounted, size: int, answer: Awaitable[Response]) -> Response:
        try:
            return await answer
        except Exception as error:  # noqa: BLE001 - as above
            return self._failed(mounted, error)
        finally:
            self._held -= size

    def _failed(self, mounted: Mounted, error: Exception) -> Response:
        incident = str(uuid.uuid4())
        self._log("error", "http.handler_failed", incident=incident, path=mounted.pattern.text, error=repr(error))
        return problem(500, "internal", "the bus could not handle this request", incident=incident)

    def _find(self, method: str, raw: str) -> tuple[Mounted, tuple[str, ...]] | Response:
        """Who serves a raw path, with its decoded parts."""
        known = self._table.plain.get(raw)
        if known is not None:
            parts, methods = known
        else:
            try:
                parts = split_path(raw)
            except BadPath as error:
                return problem(error.status, "bad-path" if error.status == 400 else "unknown-path", error.detail)
            found = self._table.find(parts)
            if found is None:
                return problem(404, "unknown-path", "no route is served under this path")
            methods = found
        mounted = methods.get(method)
        if mounted is None:
            allow = ", ".join(sorted(methods))
            return problem(405, "method-not-allowed", f"this path takes {allow}", headers={"allow": allow})
        return mounted, parts

    def _refuse(self, mounted: Mounted, request: Request) -> Response | None:
        """What the head alone says against a request."""
        headers = request.headers
        refusal = self._refuse_page(headers) if "sec-fetch-site" in headers or self._hosts else None
        if refusal is None and mounted.admit is not None:
            refusal = mounted.admit(request)
        return refusal or self._refuse_size(mounted, headers)

    def _refuse_page(self, headers: Mapping[str, str]) -> Response | None:
        """Browsers are no clients of a route: a page of another site, or one that got our address under its own name."""
        if headers.get("sec-fetch-site") == "cross-site":
            return problem(403, "foreign-page", "a page of another site may not call this listener")
        if self._hosts:
            host = host_of(headers.get("host", ""))
            if not (host == "localhost" or is_loopback(host) or host in self._hosts):
                return problem(421, "misdirected", "this listener does not answer under that host name")
        return None

    def _refuse_size(self, mounted: Mounted, headers: Mapping[str, str]) -> Response | None:
        if "content-encoding" in headers and headers["content-encoding"].strip().lower() not in ("identity", ""):
            return problem(
                415,
                "encoding-not-taken",
                "send the body as it is, without Content-Encoding",
                headers={"accept-encoding": "identity"},
            )
        limit = self._max_body if mounted.max_body is None else mounted.max_body
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit():
            return problem(400, "bad-request", "Content-Length is not a plain number")
        return _too_large(limit) if int(length) > limit else None

    async def _read(self, receive: Callable[[], Awaitable[Any]], limit: int) -> bytes | Response | None:
        """The body, whose bytes then count as held; a refusal; or None where the client went away."""
        pieces: list[bytes] = []
        size = 0
        kept = False
        try:
            while True:
                event = await receive()
                if event["type"] != "http.request":
                    return None
                piece = event.get("body", b"")
                size += len(piece)
                self._held += len(piece)
                pieces.append(piece)
                if size > limit:
                    return _too_large(limit)
                if self._held > self._max_held:
                    return problem(503, "busy", "too many bodies are being read", retry_after=_RETRY_AFTER)
                if not event.get("more_body", False):
                    kept = True
                    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        finally:
            if not kept:
                self._held -= size


def _request(
    mounted: Mounted,
    parts: tuple[str, ...],
    query: str,
    headers: Mapping[str, str],
    body: bytes,
    client: str,
    memo: Memo | None = None,
) -> Request:
    pattern = mounted.pattern
    if not pattern.names:  # so that is its path
        return Request(mounted.method, pattern.text, query, headers, body, client, EMPTY, memo)
    return Request(
        mounted.method, "/" + "/".join(parts), query, headers, body, client, pattern.match(parts) or EMPTY, memo
    )


def _with_body(head: Request, body: bytes) -> Request:
    # spelled out: `dataclasses.replace` takes several times as long, and every request comes through here
    return Request(head.method, head.path, head.query, head.headers, body, head.client, head.params)


def _too_large(limit: int) -> Response:
    return problem(413, "body-too-large", f"a body here has at most {limit} bytes")


def read_headers(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Names come in lower case; a repeated header becomes one, joined by commas. UTF-8 where it is, else Latin-1."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in raw:
        name = raw_name.decode("latin-1")
        try:
            value = raw_value.decode().rstrip(" \t")
        except UnicodeDecodeError:
            value = raw_value.decode("latin-1").rstrip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
