"""Health, metrics and ``/api/v1``: the same data and actions as the command line.

Reading from loopback needs no token, unless the bus has one configured; every action, and every call from elsewhere, does.
The Host header must name loopback or an allowed host, so that a web page cannot reach the bus by DNS rebinding.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from esb import views
from esb.admin import wire
from esb.clock import Clock
from esb.errors import EsbError, Invalid, NotRunning, StoreBusy, Unavailable, Violation
from esb.formats.json import Json
from esb.observe import metrics
from esb.operations import NotAllowed, Operations, Who
from esb.secret import Secret
from esb.store.base import Filter, Store

#: Largest body of an action.
MAX_BODY = 20_000_000


class BusFacts(views.RouteFacts, Protocol):
    """What the API asks of the running bus besides its store."""

    @property
    def name(self) -> str: ...

    @property
    def uptime(self) -> float: ...

    @property
    def not_ready(self) -> str:
        """Why the bus is not ready, empty while it is."""
        ...

    @property
    def health(self) -> Mapping[str, Any]: ...

    async def send(self, route: str, payload: bytes, headers: Mapping[str, str], wait: float) -> dict[str, Any]: ...

    async def reload(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call: a local token (a file that only the bus's user can read) and the configured one."""

    local: Secret
    configured: Secret | None
    hosts: tuple[str, ...]

    def admits(self, request: Request, *, action: bool) -> bool:
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and given:
            return self.local.matches(given) or (self.configured is not None and self.configured.matches(given))
        return not action and self.configured is None and _is_loopback(request.client.host if request.client else "")

    def knows_host(self, header: str) -> bool:
        host = header.rsplit(":", 1)[0] if not header.endswith("]") else header
        host = host.strip("[]").lower()
        return host == "localhost" or _is_loopback(host) or host in self.hosts


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


Endpoint = Callable[[Request], Awaitable[Response]]


class Api:
    """The endpoints, over a store, its operations and the facts of the running bus."""

    def __init__(self, store: Store, operations: Operations, bus: BusFacts, clock: Clock, access: Access) -> None:
        self._store = store
        self._operations = operations
        self._bus = bus
        self._clock = clock
        self._access = access

    def app(self) -> Starlette:
        read = [
            ("/api/v1/status", self.status),
            ("/api/v1/routes", self.routes),
            ("/api/v1/messages", self.messages),
            ("/api/v1/messages/{id}", self.message),
            ("/api/v1/trace/{word:path}", self.trace),
            ("/api/v1/dlq", self.dlq),
            ("/api/v1/dlq/groups", self.dlq_groups),
            ("/api/v1/audit", self.audit),
            ("/api/v1/audit/verify", self.audit_verify),
        ]
        act = [
            ("/api/v1/dlq/retry", self.retry),
            ("/api/v1/dlq/discard", self.discard),
            ("/api/v1/dlq/edit", self.edit),
            ("/api/v1/replay", self.replay),
            ("/api/v1/reload", self.reload),
            ("/api/v1/routes/{name}/send", self.send),
            ("/api/v1/routes/{name}/pause", self.pause),
            ("/api/v1/routes/{name}/resume", self.resume),
        ]
        routes = [
            Route("/livez", self.livez),
            Route("/readyz", self.readyz),
            Route("/metrics", self._guarded(self.metrics, action=False)),
            Route("/api/v1", self._guarded(self.index, action=False)),
            *(Route(path, self._guarded(endpoint, action=False)) for path, endpoint in read),
            *(Route(path, self._guarded(endpoint, action=True), methods=["POST"]) for path, endpoint in act),
        ]
        return Starlette(routes=routes, exception_handlers={HTTPException: _http_error})

    def _guarded(self, endpoint: Endpoint, *, action: bool) -> Endpoint:
        async def guard(request: Request) -> Response:
            if not self._access.knows_host(request.headers.get("host", "")):
                return problem(421, "misdirected", "this listener does not answer under that host name")
            if not self._access.admits(request, action=action):
                return problem(401, "unauthorized", "a bearer token is needed", headers={"WWW-Authenticate": "Bearer"})
            try:
                return await endpoint(request)
            except StoreBusy as error:
                wait = str(max(1, int(error.retry_after.total_seconds())))
                return problem(503, "busy", str(error), hint=error.hint, headers={"Retry-After": wait})
            except wire.UnknownRoute as error:
                return problem(404, "not-found", str(error), hint=error.hint)
            except wire.BadRequest as error:
                return problem(400, "bad-request", str(error), hint=error.hint)
            except Invalid as error:
                return problem(422, "invalid", str(error), hint=error.hint, violations=error.violations)
            except NotRunning as error:
                return problem(503, "not-running", str(error), hint=error.hint)
            except NotAllowed as error:
                return problem(409, "not-allowed", str(error), hint=error.hint)
            except EsbError as error:
                return problem(500, "failed", str(error), hint=error.hint)

        return guard

    # -- health -------------------------------------------------------------------------------------------------------
    async def livez(self, request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(self, request: Request) -> Response:
        reason = self._bus.not_ready
        return PlainTextResponse(f"not ready: {reason}\n" if reason else "ok\n", status_code=503 if reason else 200)

    async def metrics(self, request: Request) -> Response:
        page = metrics.render(
            self._status(), bus=self._bus.name, uptime=self._bus.uptime, ready=not self._bus.not_ready
        )
        return PlainTextResponse(page, media_type=metrics.CONTENT_TYPE)

    async def index(self, request: Request) -> Response:
        return answer("Bus", [{"bus": self._bus.name, "uptime_seconds": self._bus.uptime, **self._bus.health}])

    # -- reading ------------------------------------------------------------------------------------------------------
    def _status(self) -> list[dict[str, Any]]:
        return views.status(self._store, self._clock.now(), self._bus)

    async def status(self, request: Request) -> Response:
        return answer("Status", self._status())

    async def routes(self, request: Request) -> Response:
        return answer("RouteList", self._status())

    def _filter(self, request: Request, **fixed: Any) -> Filter:
        words: dict[str, Any] = dict(request.query_params)
        if tracks := request.query_params.getlist("track"):
            words["track"] = tracks
        return self._known(wire.filter_of({**words, **fixed}, self._clock.now()))

    def _known(self, selection: Filter) -> Filter:
        """The selection, if its route exists; a mistyped name must not look like an empty answer."""
        if selection.route and selection.route not in self._bus.names():
            names = {count.route for count in self._store.counts()} | set(self._bus.names())
            if selection.route not in names:
                raise wire.UnknownRoute(f"no route {selection.route}", hint=wire.nearest_route(selection.route, names))
        return selection

    async def messages(self, request: Request) -> Response:
        return answer("MessageList", views.messages(self._store, self._filter(request)))

    async def message(self, request: Request) -> Response:
        found = views.message(self._store, request.path_params["id"])
        if found is None:
            return problem(404, "not-found", f"no message {request.path_params['id']}")
        return answer("Message", [found])

    async def trace(self, request: Request) -> Response:
        return answer("Trace", views.trace(self._store, request.path_params["word"]))

    async def dlq(self, request: Request) -> Response:
        return answer("DeadLetterList", views.messages(self._store, self._filter(request, state="dead")))

    async def dlq_groups(self, request: Request) -> Response:
        return answer("DeadLetterGroups", views.groups(self._store, self._filter(request)))

    async def audit(self, request: Request) -> Response:
        limit = wire.filter_of({"limit": request.query_params.get("limit")}, self._clock.now(), limit=1000).limit
        after = request.query_params.get("after", "")
        begin = int(after) if after.isdigit() else max(0, self._store.audit_head()[0] - limit)
        return answer("AuditList", self._store.audit_entries(limit, begin))

    async def audit_verify(self, request: Request) -> Response:
        return answer("AuditFaults", [{"fault": fault} for fault in self._store.verify_audit()])

    # -- acting -------------------------------------------------------------------------------------------------------
    async def _body(self, request: Request) -> dict[str, Any]:
        size, parts = 0, []
        async for chunk in request.stream():
            size += len(chunk)
            if size > MAX_BODY:
                raise wire.BadRequest("the request is too large", hint=f"at most {MAX_BODY} bytes")
            parts.append(chunk)
        try:
            words = json.loads(b"".join(parts) or b"{}")
        except ValueError as error:
            raise wire.BadRequest(f"the request is no JSON: {error}") from None
        if not isinstance(words, dict):
            raise wire.BadRequest("the request must be a JSON object")
        return words

    def _who(self, words: Mapping[str, Any]) -> Who:
        return Who(str(words.get("actor") or "api")[:200], str(words.get("reason") or "")[:2000])

    def _meant(self, words: Mapping[str, Any]) -> Filter:
        selection = wire.filter_of(words, self._clock.now(), limit=10_000)
        if not (selection.ids or selection.route or selection.group or selection.key or words.get("all")):
            raise wire.BadRequest("which messages?", hint="give ids, route, group, key, or all")
        return self._known(selection)

    async def retry(self, request: Request) -> Response:
        words = await self._body(request)
        done = await self._operations.retry(
            self._meant(words),
            self._who(words),
            stale=bool(words.get("stale")),
            dry_run=bool(words.get("dry_run")),
            rate=wire.rate_of(words.get("rate")),
        )
        return answer("RetryResult", done)

    async def discard(self, request: Request) -> Response:
        words = await self._body(request)
        done = await self._operations.discard(self._meant(words), self._who(words), dry_run=bool(words.get("dry_run")))
        return answer("DiscardResult", done)

    async def edit(self, request: Request) -> Response:
        words = await self._body(request)
        id_ = str(words.get("id") or "")
        return answer("EditResult", [await self._operations.edit(id_, payload_of(words), self._who(words))])

    async def replay(self, request: Request) -> Response:
        words = await self._body(request)
        rate = wire.rate_of(words.get("rate"))
        done = await self._operations.replay(
            self._meant(words), self._who(words), dry_run=bool(words.get("dry_run")), rate=rate
        )
        return answer("ReplayResult", done)

    async def send(self, request: Request) -> Response:
        words = await self._body(request)
        headers = {str(name).lower(): str(value) for name, value in dict(words.get("headers") or {}).items()}
        wait = wire.seconds_of(words.get("wait"), 0.0)
        try:
            receipt = await self._bus.send(request.path_params["name"], payload_of(words), headers, wait)
        except KeyError:
            return problem(404, "not-found", f"no route {request.path_params['name']}")
        except Unavailable as error:
            return problem(503, "unavailable", str(error), headers={"Retry-After": "5"})
        return answer("Receipt", [receipt])

    async def pause(self, request: Request) -> Response:
        return await self._pause(request, paused=True)

    async def resume(self, request: Request) -> Response:
        return await self._pause(request, paused=False)

    async def _pause(self, request: Request, *, paused: bool) -> Response:
        words, name = await self._body(request), request.path_params["name"]
        if name not in self._bus.names():
            return problem(404, "not-found", f"no route {name}")
        return answer("RouteResult", [await self._operations.pause(name, self._who(words), paused=paused)])

    async def reload(self, request: Request) -> Response:
        return answer("Reload", [await self._bus.reload()])


def payload_of(words: Mapping[str, Any]) -> bytes:
    """The payload of an action: ``body`` (text) or ``body_base64``."""
    if "body_base64" in words:
        try:
            return base64.b64decode(str(words["body_base64"]), validate=True)
        except binascii.Error:
            raise wire.BadRequest("`body_base64` is not base64") from None
    if "body" not in words:
        raise wire.BadRequest("`body` is missing", hint="the payload as text, or `body_base64`")
    return str(words["body"]).encode("utf-8", "surrogatepass")


class ExactJson(JSONResponse):
    """JSON whose decimals are exact: payloads and replies hold them."""

    def render(self, content: Any) -> bytes:
        return _JSON.encode(content)


_JSON = Json()


def answer(kind: str, items: list[dict[str, Any]]) -> Response:
    return ExactJson(wire.listing(kind, items))


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    hint: str = "",
    headers: Mapping[str, str] | None = None,
    violations: Sequence[Violation] = (),
) -> Response:
    """An error as ``application/problem+json`` (RFC 9457)."""
    body = {"type": "about:blank", "title": code.replace("-", " "), "status": status, "code": code, "detail": detail}
    if hint:
        body["hint"] = hint
    return JSONResponse(
        {**body, "errors": []}, status, headers=dict(headers or {}), media_type="application/problem+json"
    )


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return problem(status, {404: "not-found", 405: "method-not-allowed"}.get(status, "failed"), "no such resource")


__all__ = ["Access", "Api", "BusFacts", "payload_of", "problem"]
