"""The page of a version of a route: what it changed, how it differs from what is live, and what it was made of."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from esb import versions
from esb.access.roles import Right
from esb.admin import render
from esb.admin.actions import Actions
from esb.admin.answers import who_of
from esb.admin.faults import Fault
from esb.admin.shell import Refused, Shell
from esb.message import short_version
from esb.runtime.history import turns_of
from esb.store.base import Store

#: Turns on the page of a route, the newest.
LISTED = 20


def newest_turns(store: Store, route: str) -> list[dict[str, Any]]:
    """The newest turns of the versions of a route, without their texts; the first one is live."""
    found = turns_of(store, route)[: -LISTED - 1 : -1]
    return [{**turn, "version": short_version(turn["digest"]), "live": not place} for place, turn in enumerate(found)]


class VersionPage:
    def __init__(self, store: Store, actions: Actions, shell: Shell) -> None:
        self._store, self._actions, self._shell = store, actions, shell

    def routes(self) -> list[BaseRoute]:
        return [self._shell.read("/routes/{name}/versions/{version}", self.shown)]

    async def shown(self, request: Request) -> Response:
        name, wanted = request.path_params["name"], request.path_params["version"]
        if not self._actions.sees(who_of(request), name):
            raise Refused(Fault(404, "not-found", f"there is no route {render.text(name)}", "esb routes ls"))
        self._actions.permit_route(who_of(request), Right.READ, name)
        found = versions.texts_of(self._store, name, wanted)
        turns = turns_of(self._store, name)
        place = next((n for n, turn in enumerate(turns) if turn["digest"] == found["digest"]), 0)
        before = self._texts(name, turns[place - 1]["digest"]) if place else {}
        live = self._texts(name, turns[-1]["digest"]) if turns else {}
        return self._shell.page(
            request,
            "version.html",
            item=found,
            route=name,
            first=not place,
            changed=versions.unified(before, found["files"], ("before", "this")) if place else "",
            differs=versions.unified(live, found["files"], ("live", "this")),
            twin=f"/api/v1/routes/{quote(name)}/versions/{quote(found['digest'])}",
            cli=render.command("routes", "diff", name, found["version"]),
        )

    def _texts(self, name: str, digest: str) -> dict[str, str]:
        return dict(self._store.version(name, digest) or {})
