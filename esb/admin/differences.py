"""``/api/v1/differences`` and its page: what ``reconcile`` steps found, and accepting it by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from esb.access.roles import Principal, Right
from esb.admin import render, wire
from esb.admin.actions import Actions
from esb.admin.answers import Gate, answer, body_of, who_of
from esb.admin.by import By
from esb.clock import Clock
from esb.operations import NotAllowed, signed
from esb.store.base import AuditEntry, Store

if TYPE_CHECKING:
    from esb.admin.shell import Shell

_LISTED = frozenset({"reconcile", "key", "all", "limit"})


class DifferenceList:
    """The endpoints; everybody sees the differences of the routes that they see."""

    def __init__(self, store: Store, actions: Actions, gate: Gate, clock: Clock) -> None:
        self._store, self._actions, self._gate, self._clock = store, actions, gate, clock

    def routes(self) -> list[BaseRoute]:
        close = self._gate.guarded(self.close, Right.DISCARD, action=True)
        return [
            Route("/api/v1/differences", self._gate.guarded(self.listed, Right.READ, words=_LISTED)),
            Route("/api/v1/differences/close", close, methods=["POST"]),
        ]

    def items(
        self, who: Principal, name: str = "", key: str = "", *, closed: bool = False, limit: int = 1000
    ) -> list[dict[str, Any]]:
        now = self._clock.now()
        found = self._store.differences.tracked(name, key, closed=closed, limit=limit)
        seen = [one.as_item(now) for one in found if self._actions.sees(who, route_of(one.name))]
        return [self._actions.masked_difference(who, route_of(item["reconcile"]), item) for item in seen]

    async def listed(self, request: Request) -> Response:
        words = request.query_params
        limit, closed = wire.number(words.get("limit"), "limit"), wire.asked(words, "all")
        name, key = words.get("reconcile", ""), words.get("key", "")
        found = self.items(who_of(request), name, key, closed=closed, limit=1000 if limit is None else limit)
        return answer("DifferenceList", found)

    async def close(self, request: Request) -> Response:
        """A person accepts a difference as it is; it comes back when it changes."""
        words = await body_of(request)
        by, name, key = By.of(request, words), str(words.get("reconcile") or ""), str(words.get("key") or "")
        if not name or not key:
            raise wire.BadRequest("which difference?", hint="give `reconcile` and `key`")
        self._actions.permit_route(by.principal, Right.DISCARD, route_of(name))
        if not by.reason:
            raise NotAllowed("closing needs a reason", hint='add --reason "why it may stay so"')
        who = await self._actions.sign(by, Right.DISCARD, route_of(name))
        detail = {"key": key, **signed(who, {"reconcile": name, "key": key})}
        entry = AuditEntry(who.actor, "reconcile.close", name, who.reason, detail)
        done = await self._store.differences.close(name, key, entry, self._clock.now())
        result = {"result": "closed" if done else "skipped", "why": "" if done else "not open"}
        return answer("DifferenceResult", [{"reconcile": name, "key": key, **result}])


class DifferencePage:
    """The list for people."""

    def __init__(self, differences: DifferenceList, shell: Shell) -> None:
        self._differences, self._shell = differences, shell

    def routes(self) -> list[BaseRoute]:
        return [self._shell.read("/differences", self.shown)]

    async def shown(self, request: Request) -> Response:
        items = self._differences.items(who_of(request))
        cli = render.command("reconcile", "ls")
        return self._shell.page(request, "differences.html", items=items, twin="/api/v1/differences", cli=cli)


def route_of(name: str) -> str:
    """The route of a comparison: a second one in a route has the name of its step behind a slash."""
    return name.partition("/")[0]
