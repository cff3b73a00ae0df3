"""``/api/v1/dlq/bulk``: how far bulk retries are, and stopping one, also from the page of dead letters."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from esb.access.roles import Principal, Right
from esb.admin import wire
from esb.admin.actions import Actions
from esb.admin.answers import Gate, answer, body_of, who_of
from esb.admin.by import By
from esb.admin.jobs import Jobs
from esb.admin.shell import Form, Shell
from esb.operations import UnknownMessage


class BulkRetries:
    """The endpoints and the form; everybody sees the jobs of the routes that they see."""

    def __init__(self, actions: Actions, jobs: Jobs, gate: Gate, shell: Shell | None = None) -> None:
        self._actions, self._jobs, self._gate, self._shell = actions, jobs, gate, shell

    def routes(self) -> list[BaseRoute]:
        at, guarded = "/api/v1/dlq/bulk", self._gate.guarded
        found: list[BaseRoute] = [
            Route(at, guarded(self.all, Right.READ)),
            Route(f"{at}/{{id}}", guarded(self.one, Right.READ, words=frozenset({"messages"}))),
            Route(f"{at}/{{id}}/stop", guarded(self.stop, Right.RETRY, action=True), methods=["POST"]),
        ]
        if self._shell is not None:
            found.append(self._shell.act("/dead/bulk/{id}/stop", self.stop_form, Right.RETRY))
        return found

    async def all(self, request: Request) -> Response:
        return answer("BulkRetryList", self._actions.jobs_seen(who_of(request), self._jobs))

    async def one(self, request: Request) -> Response:
        """One job; with ``messages=1`` what came of each message so far as ``messages``."""
        item = self._known(who_of(request), request.path_params["id"])
        if wire.asked(request.query_params, "messages"):
            item = {**item, "messages": self._jobs.results(item["job"])}
        return answer("BulkRetryList", [item])

    async def stop(self, request: Request) -> Response:
        by = By.of(request, await body_of(request))
        return answer("BulkRetryList", [await self._stop(by, request.path_params["id"])])

    async def stop_form(self, request: Request, form: Form, by: By) -> tuple[str, str]:
        done = await self._stop(by, request.path_params["id"])
        return "/dead", f"Bulk retry {done['state']}: {done['done']} of {done['total']}"

    async def _stop(self, by: By, id_: str) -> dict[str, Any]:
        item = self._known(by.principal, id_)
        for route in item["routes"]:
            self._actions.permit_route(by.principal, Right.RETRY, route)
        return await self._jobs.stop(id_, by.who())

    def _known(self, who: Principal, id_: str) -> dict[str, Any]:
        found = next((item for item in self._actions.jobs_seen(who, self._jobs) if item["job"] == id_), None)
        if found is None:
            raise UnknownMessage(f"no bulk retry {id_}", hint="the page of dead letters lists them")
        return found
