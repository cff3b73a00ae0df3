"""Requests that wait for a second person: over the API, and on a page of their own."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from esb.access.requests import PAYLOAD
from esb.access.roles import Principal, Right
from esb.admin import render
from esb.admin.actions import Actions
from esb.admin.answers import Gate, answer, body_of, who_of
from esb.admin.by import By
from esb.admin.shell import Form, Shell


class Approvals:
    """What waits, and the yes or no of somebody else."""

    def __init__(self, actions: Actions, gate: Gate, shell: Shell | None = None) -> None:
        self._actions = actions
        self._gate = gate
        self._shell = shell

    def routes(self) -> list[BaseRoute]:
        at, guarded = "/api/v1/approvals", self._gate.guarded
        found: list[BaseRoute] = [
            Route(at, guarded(self.all, Right.APPROVE)),
            Route(f"{at}/{{id}}/approve", guarded(self.approve, Right.APPROVE, action=True), methods=["POST"]),
            Route(f"{at}/{{id}}/deny", guarded(self.deny, Right.APPROVE, action=True), methods=["POST"]),
        ]
        if self._shell is not None:
            found += [
                self._shell.read("/approvals", self.page, Right.APPROVE),
                self._shell.act("/approvals/{id}/approve", self.approve_form, Right.APPROVE),
                self._shell.act("/approvals/{id}/deny", self.deny_form, Right.APPROVE),
            ]
        return found

    def _seen(self, who: Principal) -> list[dict[str, Any]]:
        """The requests of routes that the one who asks may all see; the payload of an edit only for who may see payloads."""
        found = [
            item for item in self._actions.requests.all() if all(self._actions.sees(who, r) for r in item["routes"])
        ]
        if who.everywhere(Right.PAYLOAD):
            return found
        return [{name: value for name, value in item.items() if name != PAYLOAD} for item in found]

    async def all(self, request: Request) -> Response:
        return answer("ApprovalList", self._seen(who_of(request)))

    async def approve(self, request: Request) -> Response:
        return await self._decide(request, approve=True)

    async def deny(self, request: Request) -> Response:
        return await self._decide(request, approve=False)

    async def _decide(self, request: Request, *, approve: bool) -> Response:
        by = By.of(request, await body_of(request))
        done = await self._actions.decide(by, request.path_params["id"], approve=approve)
        return answer("Approval", [{name: value for name, value in done.items() if name != PAYLOAD}])

    # -- the page -------------------------------------------------------------------------------------------------------
    async def page(self, request: Request) -> Response:
        assert self._shell is not None
        items = self._seen(who_of(request))
        waiting = [item for item in items if item["state"] in ("pending", "approved")]
        return self._shell.page(
            request,
            "approvals.html",
            waiting=waiting,
            decided=[item for item in items if item not in waiting][:50],
            twin="/api/v1/approvals",
            cli=render.command("approvals", "ls"),
        )

    async def approve_form(self, request: Request, form: Form, by: By) -> tuple[str, str]:
        done = await self._actions.decide(by, request.path_params["id"], approve=True)
        said = ", ".join(f"{count} {result}" for result, count in done["results"].items())
        return "/approvals", f"Approved: {said or 'nothing was left to do'}"

    async def deny_form(self, request: Request, form: Form, by: By) -> tuple[str, str]:
        done = await self._actions.decide(by, request.path_params["id"], approve=False)
        return "/approvals", f"Denied: {done['action']} of {done['count']}"
