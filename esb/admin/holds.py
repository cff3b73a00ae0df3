"""``/api/v1/holds``: legal holds on tracked values."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from esb.access.roles import Right
from esb.admin import wire
from esb.admin.actions import Actions
from esb.admin.answers import Gate, answer, body_of, who_of
from esb.admin.by import By
from esb.clock import Clock
from esb.operations import NotAllowed, signed
from esb.store.base import AuditEntry, Store
from esb.store.values import micros


class HoldList:
    """The endpoints. A hold is of the bus as a whole, and is placed by who may read its audit."""

    def __init__(self, store: Store, actions: Actions, gate: Gate, clock: Clock) -> None:
        self._store, self._actions, self._gate, self._clock = store, actions, gate, clock

    def routes(self) -> list[BaseRoute]:
        def act(verb: str, endpoint: Callable[[Request], Awaitable[Response]]) -> BaseRoute:
            guarded = self._gate.guarded(endpoint, Right.AUDIT, action=True)
            return Route(f"/api/v1/holds/{verb}", guarded, methods=["POST"])

        return [
            Route("/api/v1/holds", self._gate.guarded(self.listed, Right.AUDIT)),
            act("place", self.place),
            act("lift", self.lift),
        ]

    async def listed(self, request: Request) -> Response:
        self._actions.permit_all(who_of(request), Right.AUDIT)
        return answer("HoldList", self._store.holds.listed())

    async def place(self, request: Request) -> Response:
        return await self._do(request, "hold.place", "placed", "stands already")

    async def lift(self, request: Request) -> Response:
        return await self._do(request, "hold.lift", "lifted", "there is no such hold")

    async def _do(self, request: Request, action: str, done: str, why: str) -> Response:
        words = await body_of(request)
        by = By.of(request, words)
        self._actions.permit_all(by.principal, Right.AUDIT)
        name, equals, value = str(words.get("track") or "").partition("=")
        if not (name and equals and value):
            raise wire.BadRequest("a hold of what?", hint="give `track`, such as `lot=4711`")
        if not by.reason:
            raise NotAllowed("a legal hold needs a reason", hint='add --reason "complaint 17"')
        who = await self._actions.sign(by, Right.AUDIT)
        detail: dict[str, Any] = dict(signed(who, {"track": f"{name}={value}"}))
        entry, now = AuditEntry(who.actor, action, f"{name}={value}", who.reason, detail), micros(self._clock.now())
        holds = self._store.holds
        change = holds.place if action == "hold.place" else holds.lift
        took = await change(name, value, entry, now)
        result = {"track": f"{name}={value}", "result": done if took else "skipped", "why": "" if took else why}
        return answer("HoldResult", [result])
