"""What people who change routes ask of a bus: versions of a route, stored traffic to try a change on, the way back.

All of it is below ``/api/v1/routes/{name}``. Reading is as open as the rest of the API; bringing a version back is an action, needs
a reason, and is in the audit before the first file is written.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from esb import versions, views
from esb.access.roles import Right
from esb.admin import wire
from esb.admin.actions import Actions
from esb.admin.answers import ExactJson, Gate, answer, body_of, listed, problem, who_of
from esb.admin.api import BusFacts
from esb.admin.by import By
from esb.beside import beside
from esb.clock import Clock
from esb.config.model import Workspace
from esb.errors import ConfigError
from esb.message import State
from esb.operations import NotAllowed, signed
from esb.outline.asyncapi import asyncapi
from esb.outline.openapi import openapi
from esb.store.base import AuditEntry, Filter, Store

#: Messages of one answer with payloads.
PAGE = 500
_TRAFFIC = frozenset({"state", "id", "before", "limit"})


class AuthoringFacts(BusFacts, Protocol):
    """What these endpoints ask of a bus, running or stopped, besides what the API asks."""

    @property
    def root(self) -> Path: ...

    def described(self) -> tuple[Workspace, str]:
        """The workspace that is live, or stands on the disk, and where its ingress listens. Raises ConfigError."""
        ...


class Authoring:
    """The endpoints, beside the API and under its rules."""

    def __init__(self, store: Store, bus: AuthoringFacts, actions: Actions, gate: Gate, clock: Clock) -> None:
        self._store, self._bus, self._actions, self._gate, self._clock = store, bus, actions, gate, clock

    def routes(self) -> list[BaseRoute]:
        at = "/api/v1/routes/{name}"
        return [
            Route("/openapi.json", self._gate.guarded(self.openapi, Right.READ, words=None)),
            Route("/asyncapi.json", self._gate.guarded(self.asyncapi, Right.READ, words=None)),
            Route("/api/v1/live", self._gate.guarded(self.live, Right.RELOAD)),
            Route(f"{at}/versions", self._gate.guarded(self.versions, Right.READ)),
            Route(f"{at}/versions/{{version}}", self._gate.guarded(self.version, Right.READ)),
            Route(f"{at}/traffic", self._gate.guarded(self.traffic, Right.PAYLOAD, words=_TRAFFIC)),
            Route(f"{at}/rollback", self._gate.guarded(self.rollback, Right.RELOAD, action=True), methods=["POST"]),
        ]

    async def openapi(self, request: Request) -> Response:
        self._actions.permit_all(who_of(request), Right.READ)
        workspace, url = self._bus.described()
        return ExactJson(await beside(partial(openapi, workspace, url)))

    async def asyncapi(self, request: Request) -> Response:
        self._actions.permit_all(who_of(request), Right.READ)
        workspace, _ = self._bus.described()
        return ExactJson(await beside(partial(asyncapi, workspace)))

    async def live(self, request: Request) -> Response:
        """The texts of everything that is live, or was when the bus stopped; no item where no bus ran yet."""
        self._actions.permit_all(who_of(request), Right.RELOAD)
        return answer("Live", versions.live(self._store))

    async def versions(self, request: Request) -> Response:
        return answer("RouteVersions", versions.listing(self._store, self._known(request)))

    async def version(self, request: Request) -> Response:
        name = self._known(request)
        return answer("RouteVersion", [versions.texts_of(self._store, name, request.path_params["version"])])

    async def traffic(self, request: Request) -> Response:
        words = request.query_params
        name = self._known(request, Right.PAYLOAD)
        states = wire.states_of([part for part in words.get("state", "").split(",") if part])
        selection = Filter(
            ids=tuple(words.getlist("id")[:PAGE]),
            route=name,
            states=states or (State.DONE, State.DEAD, State.QUEUED, State.RUNNING, State.WAITING, State.HELD),
            before_seq=wire.number(words.get("before"), "before"),
            limit=min(wire.number(words.get("limit"), "limit") or PAGE, PAGE),
        )
        self._actions.permit(who_of(request), Right.PAYLOAD, selection)  # ids may be of another route
        return await listed("Traffic", views.traffic(self._store, selection))

    async def rollback(self, request: Request) -> Response:
        """``version`` and ``reason``; ``dry_run`` says what would be written, ``shared`` takes files of other routes along."""
        words = await body_of(request, frozenset({"version", "dry_run", "shared"}))
        name = self._known(request, Right.RELOAD)
        by = By.of(request, words)
        wanted = versions.texts_of(self._store, name, str(words.get("version") or ""))
        shared = wire.flag(words, "shared")
        try:
            plan = await beside(partial(versions.restoration, self._bus.root, name, wanted["files"], shared=shared))
        except ConfigError as error:
            hint = "mend the other files first, or give --shared: `esb lint` names what is wrong"
            return problem(409, "not-valid", f"with that version the workspace would have faults: {error}", hint=hint)
        item = {
            "route": name,
            "version": wanted["version"],
            "digest": wanted["digest"],
            "result": "unchanged" if not plan.write else "would write" if wire.flag(words, "dry_run") else "written",
            "files": sorted(plan.write),
            "left": list(plan.left),
            "diff": versions.unified(plan.before, plan.write),
        }
        if item["result"] == "written":
            who = await self._actions.sign(by, Right.RELOAD, name)
            if not who.reason.strip():
                raise NotAllowed("rollback needs a reason", hint='add --reason "…"; it is kept in the audit')
            detail = {"version": wanted["digest"], "files": item["files"]}
            entry = AuditEntry(who.actor, "route.rollback", name, who.reason, {**detail, **signed(who, detail)})
            drafts = await beside(partial(versions.drafted, self._bus.root, plan.write))
            try:
                await self._store.audit(entry, self._clock.now())
                for draft in drafts:
                    draft.publish()
            finally:
                for draft in drafts:
                    draft.drop()
        return answer("Rollback", [item])

    def _known(self, request: Request, right: Right = Right.READ) -> str:
        """The route of the request. Raises UnknownRoute for one that neither lives nor ever lived, Forbidden."""
        name = str(request.path_params["name"])
        self._actions.permit_route(who_of(request), right, name)
        if name not in self._bus.names() and not versions.listing(self._store, name):
            raise wire.UnknownRoute(f"no route {name}", hint=wire.nearest_route(name, self._bus.names()))
        return name


__all__ = ["Authoring"]
