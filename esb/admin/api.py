"""Health, metrics and ``/api/v1``: the same data and actions as the command line.

Reading from loopback needs no token, unless the bus has one configured; every action, and every call from elsewhere, does.
The Host header must name loopback or an allowed host, so that a web page cannot reach the bus by DNS rebinding. What is asked
is read strictly, and an error never shows more than its own words.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from esb import views
from esb.access.roles import Right
from esb.admin import wire
from esb.admin.actions import Actions
from esb.admin.answers import Gate, answer, body_of, listed, not_served, problem, who_of
from esb.admin.by import By
from esb.admin.insight import KpiFacts, families
from esb.admin.trends import TrendFacts
from esb.clock import Clock
from esb.errors import Unavailable
from esb.formats.json import Json
from esb.observe import metrics
from esb.store.base import Filter, Store

if TYPE_CHECKING:
    from esb.admin.groups import DeadGroups


class BusFacts(views.RouteFacts, KpiFacts, TrendFacts, Protocol):
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

    def site_of(self, route: str) -> str:
        """The site that a route belongs to, empty where sites mean nothing."""
        ...

    @property
    def marked(self) -> frozenset[str]:
        """The names of members that contracts mark as sensitive."""
        ...

    def sites(self) -> list[dict[str, Any]]: ...

    def troubled(self, route: str) -> dict[str, str]:
        """Targets of a route that did not answer at the last try, with what is known of them."""
        ...

    async def send(
        self, route: str, payload: bytes, headers: Mapping[str, str], wait: float, by: tuple[str, str]
    ) -> dict[str, Any]: ...

    async def reload(self, actor: str, reason: str) -> dict[str, Any]: ...


#: Which messages an action means, and how it is given a payload.
MEANT = wire.FILTER | {"all"}
PAYLOAD = frozenset({"body", "body_base64"})

Endpoint = Callable[[Request], Awaitable[Response]]
HttpError = Callable[[Request, Exception], Awaitable[Response]]


class Api:
    """The endpoints, over a store, its operations and the facts of the running bus."""

    def __init__(
        self, store: Store, actions: Actions, bus: BusFacts, clock: Clock, gate: Gate, groups: DeadGroups
    ) -> None:
        self._groups = groups
        self._store = store
        self._actions = actions
        self._bus = bus
        self._clock = clock
        self._gate = gate

    def app(self, more: Sequence[BaseRoute] = (), http_error: HttpError | None = None) -> Starlette:
        """The application; ``more`` is served beside the API, ``http_error`` answers where nothing is."""
        read, act = self._reading, self._acting
        routes = [
            Route("/livez", self.livez),
            Route("/readyz", self.readyz),
            Route("/metrics", self._gate.guarded(self.metrics, Right.READ, words=None)),
            read("", self.index),
            read("/status", self.status),
            read("/routes", self.routes),
            read("/sites", self.sites),
            read("/messages", self.messages, words=wire.FILTER | {"whole"}),
            read("/messages/{id}", self.message),
            read("/trace/{word:path}", self.trace),
            read("/dlq", self.dlq, words=wire.FILTER),
            read("/dlq/groups", self.dlq_groups, words=wire.FILTER),
            read("/audit", self.audit, Right.AUDIT, frozenset({"limit", "after"})),
            read("/audit/verify", self.audit_verify, Right.AUDIT),
            act("/dlq/retry", self.retry, Right.RETRY),
            act("/dlq/discard", self.discard, Right.DISCARD),
            act("/dlq/edit", self.edit, Right.EDIT),
            act("/replay", self.replay, Right.REPLAY),
            act("/reload", self.reload, Right.RELOAD),
            act("/routes/{name}/send", self.send, Right.SEND),
            act("/routes/{name}/pause", self.pause, Right.PAUSE),
            act("/routes/{name}/resume", self.resume, Right.PAUSE),
            *more,
        ]
        app = Starlette(routes=routes, exception_handlers={HTTPException: http_error or not_served})
        app.router.redirect_slashes = False  # a redirect would name whatever host the client wrote
        return app

    def _reading(
        self, path: str, endpoint: Endpoint, right: Right = Right.READ, words: frozenset[str] = frozenset()
    ) -> BaseRoute:
        return Route(f"/api/v1{path}", self._gate.guarded(endpoint, right, words=words))

    def _acting(self, path: str, endpoint: Endpoint, right: Right) -> BaseRoute:
        return Route(f"/api/v1{path}", self._gate.guarded(endpoint, right, action=True), methods=["POST"])

    # -- health -------------------------------------------------------------------------------------------------------
    async def livez(self, request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(self, request: Request) -> Response:
        reason = self._bus.not_ready
        return PlainTextResponse(f"not ready: {reason}\n" if reason else "ok\n", status_code=503 if reason else 200)

    async def metrics(self, request: Request) -> Response:
        whole, items = who_of(request).everywhere(Right.READ), self._status(request)
        # in a thread: where thousands are dead, nobody else waits for their sum
        dead = (
            await asyncio.to_thread(self._store.groups, Filter())
            if any(one["states"].get("dead") for one in items)
            else []
        )
        page = metrics.render(
            items,
            bus=self._bus.name,
            uptime=self._bus.uptime,
            ready=not self._bus.not_ready,
            now=self._clock.now(),
            ended=self._bus.meters.ended(),
            dead=dead,
            more=families(self._bus, self._store, self._clock.now()) if whole else (),
        )
        page += "\n".join([*self._bus.meters.lines(), ""]) if whole else ""
        return PlainTextResponse(page, media_type=metrics.CONTENT_TYPE)

    async def index(self, request: Request) -> Response:
        return answer("Bus", [{"bus": self._bus.name, "uptime_seconds": self._bus.uptime, **self._bus.health}])

    # -- reading ------------------------------------------------------------------------------------------------------
    def _status(self, request: Request) -> list[dict[str, Any]]:
        items = views.status(self._store, self._clock.now(), self._bus)
        return self._actions.seen(who_of(request), items)

    async def status(self, request: Request) -> Response:
        return answer("Status", self._status(request))

    async def routes(self, request: Request) -> Response:
        return answer("RouteList", self._status(request))

    async def sites(self, request: Request) -> Response:
        return answer("SiteList", self._actions.seen_sites(who_of(request), self._bus.sites()))

    def _filter(self, request: Request, **fixed: Any) -> Filter:
        words: dict[str, Any] = dict(request.query_params)
        if tracks := request.query_params.getlist("track"):
            words["track"] = tracks
        return self._known(request, wire.filter_of({**words, **fixed}, self._clock.now()))

    def _seen(self, request: Request, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return self._actions.seen(who_of(request), items)

    async def _listed(self, request: Request, kind: str, pages: Iterable[list[dict[str, Any]]]) -> Response:
        return await listed(kind, (self._seen(request, page) for page in pages))

    def _known(self, request: Request, selection: Filter) -> Filter:
        """The selection, if its route exists; a mistyped name must not look like an empty answer."""
        if selection.route:
            names = {count.route for count in self._store.counts()} | set(self._bus.names())
            seen = {name for name in names if self._actions.sees(who_of(request), name)}
            if selection.route not in seen:
                raise wire.UnknownRoute(f"no route {selection.route}", hint=wire.nearest_route(selection.route, seen))
        return selection

    async def messages(self, request: Request) -> Response:
        shown = views.whole if wire.asked(request.query_params, "whole") else views.messages
        found = shown(self._store, self._filter(request), self._actions.sight(who_of(request)))
        return await self._listed(request, "MessageList", found)

    async def message(self, request: Request) -> Response:
        found = views.message(self._store, request.path_params["id"])
        seen = self._seen(request, [found]) if found is not None else []
        if not seen:
            return problem(404, "not-found", f"no message {request.path_params['id']}")
        return answer("Message", seen)

    async def trace(self, request: Request) -> Response:
        return await self._listed(request, "Trace", views.trace(self._store, request.path_params["word"]))

    async def dlq(self, request: Request) -> Response:
        selection = self._filter(request, state="dead")
        found = views.messages(self._store, selection, self._actions.sight(who_of(request)))
        return await self._listed(request, "DeadLetterList", found)

    async def dlq_groups(self, request: Request) -> Response:
        return answer("DeadLetterGroups", self._seen(request, self._groups.items(self._filter(request))))

    async def audit(self, request: Request) -> Response:
        limit = wire.filter_of({"limit": request.query_params.get("limit")}, self._clock.now(), limit=1000).limit
        after = wire.number(request.query_params.get("after"), "after")
        begin = after if after is not None else max(0, self._store.audit_head()[0] - limit)
        return answer("AuditList", self._store.audit_entries(limit, begin))

    async def audit_verify(self, request: Request) -> Response:
        return answer("AuditFaults", [{"fault": fault} for fault in self._store.verify_audit()])

    # -- acting -------------------------------------------------------------------------------------------------------
    def _meant(self, request: Request, words: Mapping[str, Any]) -> Filter:
        selection = wire.filter_of(words, self._clock.now(), limit=10_000)
        if not (selection.ids or selection.route or selection.group or selection.key or wire.flag(words, "all")):
            raise wire.BadRequest("which messages?", hint="give ids, route, group, key, or all")
        return self._known(request, selection)

    async def retry(self, request: Request) -> Response:
        words = await body_of(request, MEANT | {"stale", "dry_run", "rate", "background"})
        done = await self._actions.retry(
            By.of(request, words),
            self._meant(request, words),
            stale=wire.flag(words, "stale"),
            dry_run=wire.flag(words, "dry_run"),
            rate=wire.rate_of(words.get("rate")),
            background=wire.flag(words, "background"),
        )
        return _done("BulkRetryList" if any("job" in item for item in done) else "RetryResult", done)

    async def discard(self, request: Request) -> Response:
        words = await body_of(request, MEANT | {"dry_run"})
        dry_run = wire.flag(words, "dry_run")
        done = await self._actions.discard(By.of(request, words), self._meant(request, words), dry_run=dry_run)
        return _done("DiscardResult", done)

    async def edit(self, request: Request) -> Response:
        """``id``, ``body`` or ``body_base64``, and ``replaces``: the SHA-256 of the payload that it was made from."""
        words = await body_of(request, PAYLOAD | {"id", "replaces"})
        id_, replaces = str(words.get("id") or ""), str(words.get("replaces") or "").lower()
        done = await self._actions.edit(By.of(request, words), id_, payload_of(words), replaces=replaces)
        return _done("EditResult", done)

    async def replay(self, request: Request) -> Response:
        words = await body_of(request, MEANT | {"dry_run", "rate", "from", "to"})
        for own, other in (("since", "from"), ("until", "to")):  # as `esb replay` calls them
            if words.get(other) is not None:
                if words.get(own) is not None:
                    raise wire.BadRequest(f"`{own}` and `{other}` are the same", hint="give one of the two")
                words = {**words, own: words[other]}
        done = await self._actions.replay(
            By.of(request, words),
            self._meant(request, words),
            dry_run=wire.flag(words, "dry_run"),
            rate=wire.rate_of(words.get("rate")),
        )
        return _done("ReplayResult", done)

    async def send(self, request: Request) -> Response:
        words, name = await body_of(request, PAYLOAD | {"headers", "wait"}), request.path_params["name"]
        given = words.get("headers") or {}
        if not isinstance(given, dict):
            raise wire.BadRequest("`headers` is no object", hint='write it like `{"x-plant": "P10"}`')
        headers = {str(name).lower(): str(value) for name, value in given.items()}
        wait = wire.seconds_of(words.get("wait"), 0.0)
        try:
            receipts = await self._actions.send(By.of(request, words), name, payload_of(words), headers, wait)
        except KeyError:
            return problem(404, "not-found", f"no route {name}")
        except Unavailable as error:
            return problem(503, "unavailable", str(error), headers={"Retry-After": "5"})
        return answer("Receipt", receipts)

    async def pause(self, request: Request) -> Response:
        return await self._pause(request, paused=True)

    async def resume(self, request: Request) -> Response:
        return await self._pause(request, paused=False)

    async def _pause(self, request: Request, *, paused: bool) -> Response:
        words = await body_of(request, frozenset())
        done = await self._actions.pause(By.of(request, words), request.path_params["name"], paused=paused)
        return answer("RouteResult", done)

    async def reload(self, request: Request) -> Response:
        return answer("Reload", await self._actions.reload(By.of(request, await body_of(request, frozenset()))))


def _done(kind: str, items: list[dict[str, Any]]) -> Response:
    """What was done, or (202) what waits for a second person."""
    return answer(kind, items, 202 if any("approval" in item for item in items) else 200)


def payload_of(words: Mapping[str, Any]) -> bytes:
    """The payload of an action: ``body`` (text, or JSON as it stands) or ``body_base64``."""
    if "body_base64" in words:
        try:
            return base64.b64decode(str(words["body_base64"]), validate=True)
        except binascii.Error:
            raise wire.BadRequest("`body_base64` is not base64") from None
    if "body" not in words:
        raise wire.BadRequest("`body` is missing", hint="the payload as text or JSON, or `body_base64`")
    body = words["body"]
    return body.encode("utf-8", "surrogatepass") if isinstance(body, str) else Json().encode(body)


__all__ = ["Api", "BusFacts", "payload_of"]
