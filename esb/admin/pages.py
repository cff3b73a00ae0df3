"""The pages for people: the same data and actions as the API, rendered on the server, without scripts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from esb import views
from esb.access.roles import Right
from esb.admin import render, wire
from esb.admin.actions import Actions
from esb.admin.answers import who_of
from esb.admin.api import BusFacts
from esb.admin.by import By
from esb.admin.faults import Fault
from esb.admin.groups import DeadGroups
from esb.admin.insight import Insight
from esb.admin.shell import Form, Refused, Shell
from esb.admin.trends import TrendCharts
from esb.admin.verdict import verdict
from esb.admin.version_page import newest_turns
from esb.clock import Clock
from esb.message import State
from esb.operations import NotAllowed
from esb.store.base import Filter, Store

#: Messages on one page of a search, groups of dead letters (the largest), messages shown of each, entries of the audit.
PAGE, GROUPS, SAMPLES, ENTRIES = 50, 30, 3, 200
#: Bulk retries beside the groups, the newest.
JOBS = 5
#: Longest audit that is verified without being asked; a longer one takes its time.
VERIFIED = 2_000
_FILTERS = ("text", "key", "route", "state", "track", "correlation", "since", "until", "group")


class PageFacts(BusFacts, Protocol):
    """What the pages ask of the running bus besides what the API asks."""

    def outline(self, route: str) -> list[dict[str, Any]]: ...


class Pages:
    """The pages, over a store, its operations and the facts of the running bus."""

    def __init__(
        self,
        store: Store,
        actions: Actions,
        bus: PageFacts,
        clock: Clock,
        shell: Shell,
        insight: Insight,
        groups: DeadGroups,
        trends: TrendCharts,
    ) -> None:
        self._trends = trends
        self._groups = groups
        self._store = store
        self._actions = actions
        self._bus = bus
        self._clock = clock
        self._shell = shell
        self._insight = insight

    def routes(self) -> list[BaseRoute]:
        read, act = self._shell.read, self._shell.act
        return [
            *self._shell.routes(),
            read("/", self.overview),
            read("/messages", self.messages),
            read("/messages/{id}", self.message),
            read("/dead", self.dead),
            read("/routes/{name}", self.route),
            read("/audit", self.audit, Right.AUDIT),
            act("/dead/retry", self.retry_group, Right.RETRY),
            act("/dead/discard", self.discard_group, Right.DISCARD),
            act("/messages/{id}/retry", self.retry_one, Right.RETRY),
            act("/messages/{id}/discard", self.discard_one, Right.DISCARD),
            act("/routes/{name}/pause", self.pause, Right.PAUSE),
            act("/routes/{name}/resume", self.resume, Right.PAUSE),
        ]

    # -- looking --------------------------------------------------------------------------------------------------------
    def _status(self, request: Request) -> list[dict[str, Any]]:
        return self._seen(request, views.status(self._store, self._clock.now(), self._bus))

    def _seen(self, request: Request, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return self._actions.seen(who_of(request), items)

    def _names(self, request: Request) -> list[str]:
        """The routes that run or have messages, and that the one who asks may know of."""
        known = {count.route for count in self._store.counts()} | set(self._bus.names())
        return sorted(name for name in known if self._actions.sees(who_of(request), name))

    async def overview(self, request: Request) -> Response:
        items = self._status(request)
        newest: dict[str, dict[str, Any]] = {}
        found = self._seen(request, views.groups(self._store, Filter()))
        for group in sorted(found, key=lambda group: str(group["newest"])):
            newest[group["route"]] = group
        items.sort(key=lambda item: (not _needs(item), item["route"]))
        totals = {name: sum(item[name] for item in items) for name in ("accepted", "purged", *views.STATES)}
        problems = self._bus.health.get("problems", [])
        tiles = self._insight.tiles(who_of(request))
        return self._shell.page(
            request,
            "overview.html",
            items=items,
            last_errors=newest,
            totals=totals,
            problems=problems,
            needs=[item for item in items if _needs(item)],
            uptime=self._bus.uptime,
            kpis=tiles,
            answer=verdict(tiles),
            look=self._trends.overview(request, who_of(request)),
            sparks=self._trends.sparks(),
            alerts=self._insight.firing(who_of(request)),
            differences=self._insight.differences(who_of(request)),
            twin="/api/v1/status",
            cli=render.command("status"),
        )

    async def messages(self, request: Request) -> Response:
        words = {name: request.query_params.get(name, "").strip() for name in _FILTERS}
        asked = {name: value for name, value in words.items() if value}
        before = request.query_params.get("before")
        routes = self._names(request)
        if words["route"] and words["route"] not in routes:
            raise wire.UnknownRoute(f"no route {words['route']}", hint=wire.nearest_route(words["route"], routes))
        selection = wire.filter_of({**asked, "before": before, "limit": PAGE + 1}, self._clock.now())
        found = self._store.find(selection)
        older = found[PAGE - 1].envelope.seq if len(found) > PAGE else None
        items = self._seen(request, [views.item(stored) for stored in found[:PAGE]])
        query = urlencode({**asked, **({"before": before} if before else {}), "limit": PAGE})
        shell = {name: words[name] for name in ("route", "state", "key", "track", "correlation", "since", "until")}
        cli = render.command("trace", words["text"]) if words["text"] else render.command("messages", "ls", **shell)
        return self._shell.page(
            request,
            "messages.html",
            items=items,
            words=words,
            routes=routes,
            states=("open", *views.STATES),
            before=before,
            newest=urlencode(asked),
            older=urlencode({**asked, "before": older}) if older is not None else "",
            twin=f"/api/v1/messages?{query}",
            cli=cli,
        )

    async def message(self, request: Request) -> Response:
        id_ = request.path_params["id"]
        found = views.message(self._store, id_)
        item = next(iter(self._seen(request, [found])), None) if found is not None else None
        if item is None:
            raise Refused(Fault(404, "not-found", f"there is no message {render.text(id_)}", "retention may have removed it"))  # fmt: skip
        error = item["error"] or {}
        newer, troubled = self._groups.in_the_way(item)
        return self._shell.page(
            request,
            "message.html",
            item=item,
            sent_by=views.sender(item["meta"]),
            newer=newer,
            troubled=troubled,
            attempts=render.timeline(item["trace"]),
            advice=render.ADVICE.get(str(error.get("class")), "").replace("ID", id_),
            twin=f"/api/v1/messages/{quote(id_)}",
            cli=render.command("messages", "show", id_),
        )

    async def dead(self, request: Request) -> Response:
        route = request.query_params.get("route", "")
        found = self._seen(request, self._groups.items(Filter(route=route), SAMPLES))
        groups = found[:GROUPS]
        for group in groups:
            if "samples" not in group:
                sample = Filter(group=group["group"], route=group["route"], states=(State.DEAD,), limit=SAMPLES)
                group["samples"] = [item for page in views.messages(self._store, sample) for item in page]
            group["samples"] = self._seen(request, group["samples"])
            group["advice"] = render.ADVICE.get(group["class"], "")
        twin = "/api/v1/dlq/groups" + (f"?{urlencode({'route': route})}" if route else "")
        cli = render.command("dlq", "groups", route=route)
        return self._shell.page(
            request,
            "dead.html",
            groups=groups,
            more=len(found) - len(groups),
            route=route,
            jobs=self._actions.jobs_seen(who_of(request))[:JOBS],
            twin=twin,
            cli=cli,
        )

    async def route(self, request: Request) -> Response:
        name = request.path_params["name"]
        item = next((item for item in self._status(request) if item["route"] == name), None)
        if item is None:
            raise Refused(Fault(404, "not-found", f"there is no route {render.text(name)}", wire.nearest_route(name, self._names(request))))  # fmt: skip
        texts = dict(self._store.version(name, str(item.get("digest", ""))) or {})
        own = texts.pop(str(item.get("file", "")), "")
        return self._shell.page(
            request,
            "route.html",
            item=item,
            look=self._trends.route(request, name, item.get("within_seconds")),
            versions=newest_turns(self._store, name),
            steps=self._bus.outline(name),
            own=own,
            others=texts,
            groups=self._seen(request, views.groups(self._store, Filter(route=name))),
            twin="/api/v1/routes",
            cli=render.command("messages", "ls", route=name),
        )

    async def audit(self, request: Request) -> Response:
        head, digest = self._store.audit_head()
        entries = self._store.audit_entries(ENTRIES, max(0, head - ENTRIES))
        verify = head <= VERIFIED or request.query_params.get("verify") == "yes"
        return self._shell.page(
            request,
            "audit.html",
            entries=entries[::-1],
            head=head,
            digest=digest,
            verified=verify,
            faults=self._store.verify_audit() if verify else [],
            twin=f"/api/v1/audit?limit={ENTRIES}",
            cli=render.command("audit", "ls"),
        )

    # -- acting: where to go on, and what to tell there -------------------------------------------------------------------
    async def retry_group(self, request: Request, form: Form, by: By) -> tuple[str, str]:
        rate = wire.rate_of(form.get("rate", "").strip())
        done = await self._actions.retry(by, _group_of(form), rate=rate, background=rate is not None)
        return "/dead", render.outcome("Bulk retry" if rate is not None else "Retry", done)

    async def discard_group(self, request: Request, form: Form, by: By) -> tuple[str, str]:
        selection = _group_of(form)
        self._actions.permit(by.principal, Right.DISCARD, selection)
        count = sum(group.count for group in self._store.groups(selection) if group.id == selection.group)
        if str(count) != form.get("count"):
            raise NotAllowed(f"the group has {count} dead letters now, not those you saw", hint="look at it again, then discard")  # fmt: skip
        return "/dead", render.outcome("Discard", await self._actions.discard(by, selection))

    async def retry_one(self, request: Request, form: Form, by: By) -> tuple[str, str]:
        id_ = request.path_params["id"]
        done = await self._actions.retry(by, Filter(ids=(id_,)), stale=form.get("stale") == "yes")
        return f"/messages/{quote(id_)}", render.outcome("Retry", done)

    async def discard_one(self, request: Request, form: Form, by: By) -> tuple[str, str]:
        id_ = request.path_params["id"]
        done = await self._actions.discard(by, Filter(ids=(id_,)))
        return f"/messages/{quote(id_)}", render.outcome("Discard", done)

    async def pause(self, request: Request, form: Form, by: By) -> tuple[str, str]:
        return await self._pause(request.path_params["name"], by, paused=True)

    async def resume(self, request: Request, form: Form, by: By) -> tuple[str, str]:
        return await self._pause(request.path_params["name"], by, paused=False)

    async def _pause(self, name: str, by: By, *, paused: bool) -> tuple[str, str]:
        (done,) = await self._actions.pause(by, name, paused=paused)
        return f"/routes/{quote(name)}", f"{name} is {done['result']}"


def _needs(item: Mapping[str, Any]) -> bool:
    """Whether a route needs a person."""
    return bool(item["dead"] or item["late"] or item["state"] in ("failed", "paused"))


def _group_of(form: Form) -> Filter:
    group, route = form.get("group", ""), form.get("route", "")
    if not group or not route:
        raise wire.BadRequest("which group?", hint="go back to the dead letters")
    return Filter(group=group, route=route, limit=10_000)
