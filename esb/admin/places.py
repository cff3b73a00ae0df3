"""Pages to find one's way: how everything hangs together, the sites, what arrives right now, and what the words mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import urlencode

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from esb import views
from esb.access.roles import Principal, Right
from esb.admin import render, wire
from esb.admin.actions import Actions
from esb.admin.answers import Gate, answer, who_of
from esb.admin.api import BusFacts
from esb.admin.shell import Shell
from esb.clock import Clock
from esb.config.model import Workspace
from esb.observe.trends import accepted_by_hour
from esb.outline import graph
from esb.store.base import Store

#: Messages on the live page, and what they may be narrowed by.
NEWEST, _LIVE = 40, ("route", "state", "key", "track")
#: What a state means and what a person does, for the help page (SPEC's states, in the order of a message's life).
MEANINGS: Mapping[str, str] = {
    "queued": "Accepted and safe on disk; its turn comes.",
    "running": "A step is at work on it.",
    "waiting": "A target did not take it; it is tried again at the time shown. Nothing needs to be done.",
    "held": "An older message of the same key is dead. It goes on when that one is retried or discarded.",
    "done": "Every target has it, or a filter said that nobody wants it (the reason says so).",
    "dead": "It cannot go on without a person: look at the error, then retry, edit or discard it.",
    "expired": "Its time to live was over before a target took it.",
    "duplicate": "The same message was there before; it links to the first one and had no effect.",
    "superseded": "A newer message of its key that may not wait, such as a hold, has overtaken it.",
    "discarded": "A person took it out; the audit says who and why.",
}


class PlaceFacts(BusFacts, Protocol):
    """What these pages ask of the running bus."""

    def described(self) -> tuple[Workspace, str]: ...


class Places:
    def __init__(self, store: Store, actions: Actions, bus: PlaceFacts, clock: Clock, gate: Gate, shell: Shell) -> None:
        self._store, self._actions, self._bus = store, actions, bus
        self._clock, self._gate, self._shell = clock, gate, shell

    def routes(self) -> list[BaseRoute]:
        read = self._shell.read
        return [
            Route("/api/v1/graph", self._gate.guarded(self.edges, Right.READ)),
            read("/topology", self.topology),
            read("/sites", self.sites),
            read("/live", self.live),
            read("/help", self.help),
        ]

    # -- how it hangs together ------------------------------------------------------------------------------------------
    def _edges(self, who: Principal) -> list[graph.Edge]:
        """Those between ends that the one who asks may know of."""
        workspace, _ = self._bus.described()
        return [
            edge for edge in graph.edges_of(workspace) if self._known(who, edge.start) and self._known(who, edge.end)
        ]

    def _known(self, who: Principal, end: str) -> bool:
        kind, _, name = end.partition(" ")
        return kind != "route" or self._actions.sees(who, name)

    async def edges(self, request: Request) -> Response:
        found = self._edges(who_of(request))
        return answer("Graph", [{"start": edge.start, "end": edge.end, "by": edge.by} for edge in found])

    async def topology(self, request: Request) -> Response:
        who = who_of(request)
        items = self._actions.seen(who, views.status(self._store, self._clock.now(), self._bus))
        edges = self._edges(who)
        loads = {route: sum(n) for route, n in accepted_by_hour(self._bus.trends, self._clock.now()).items()}
        paused = {item["route"] for item in items if item["state"] == "paused"}
        drawn = graph.svg(edges, to="/routes/", marks=_marks(items), loads=loads, paused=paused)
        picture = Markup(drawn)  # noqa: S704 - drawn and escaped there
        return self._shell.page(
            request,
            "topology.html",
            picture=picture,
            edges=edges,
            loads=loads,
            marked={item["route"]: item for item in items if item["route"] in _marks(items)},
            twin="/api/v1/graph",
            cli=render.command("graph"),
        )

    # -- the others -----------------------------------------------------------------------------------------------------
    async def sites(self, request: Request) -> Response:
        who = who_of(request)
        items = self._actions.seen(who, views.status(self._store, self._clock.now(), self._bus))
        return self._shell.page(
            request,
            "sites.html",
            sites=self._actions.seen_sites(who, self._bus.sites()),
            counts={item["route"]: item for item in items},
            twin="/api/v1/sites",
            cli=render.command("sites", "ls"),
        )

    async def live(self, request: Request) -> Response:
        """The newest messages, of those that the URL asks for."""
        words = {name: request.query_params.get(name, "").strip() for name in _LIVE}
        asked = {name: value for name, value in words.items() if value}
        who = who_of(request)
        known = {count.route for count in self._store.counts()} | set(self._bus.names())
        routes = sorted(name for name in known if self._actions.sees(who, name))
        if words["route"] and words["route"] not in routes:
            raise wire.UnknownRoute(f"no route {words['route']}", hint=wire.nearest_route(words["route"], routes))
        pages = views.messages(self._store, wire.filter_of({**asked, "limit": NEWEST}, self._clock.now()))
        return self._shell.page(
            request,
            "live.html",
            items=self._actions.seen(who, [item for page in pages for item in page]),
            words=words,
            routes=routes,
            states=("open", *views.STATES),
            twin=f"/api/v1/messages?{urlencode({**asked, 'limit': NEWEST})}",
            cli=render.command("tail", **({"route": words["route"]} if words["route"] else {})),
        )

    async def help(self, request: Request) -> Response:
        twin, cli = "/api/v1/status", "esb --help"
        return self._shell.page(request, "help.html", meanings=MEANINGS, advice=render.ADVICE, twin=twin, cli=cli)


def _marks(items: list[dict[str, Any]]) -> dict[str, str]:
    """The routes that need a person, and why."""
    found = {}
    for item in items:
        words = [item["state"]] if item["state"] in ("failed", "paused") else []
        words += [f"{item['dead']} dead"] if item["dead"] else []
        words += ["late"] if item["late"] else []
        if words:
            found[str(item["route"])] = ", ".join(words)
    return found
