"""What each step of a route made of a message, over the API and on a page: recomputed, since only the beginning is stored."""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from esb.access.roles import Right
from esb.admin import render
from esb.admin.actions import Actions
from esb.admin.answers import Gate, answer, who_of
from esb.admin.rehearsal import Rehearsal, steps_without_payloads
from esb.admin.shell import Shell
from esb.store.base import Filter

#: What every step of the answer says of the whole.
_OF_ALL = ("version", "its_version", "more")


class Steps:
    """Before, after and what differs, step by step. ``shell`` is None where there are no pages."""

    def __init__(self, actions: Actions, gate: Gate, rehearsal: Rehearsal, shell: Shell | None = None) -> None:
        self._actions, self._gate, self._rehearsal, self._shell = actions, gate, rehearsal, shell

    def routes(self) -> list[BaseRoute]:
        found: list[BaseRoute] = [Route("/api/v1/messages/{id}/steps", self._gate.guarded(self.steps, Right.READ))]
        if self._shell is not None:
            found.append(self._shell.read("/messages/{id}/steps", self.page))
        return found

    async def steps(self, request: Request) -> Response:
        """An item for each step. Sends and stores nothing."""
        item = await self._item(request)
        whole = {name: item[name] for name in _OF_ALL}
        return answer("MessageSteps", [{**one, **whole} for one in item["steps"]])

    async def page(self, request: Request) -> Response:
        assert self._shell is not None
        id_ = str(request.path_params["id"])
        return self._shell.page(
            request,
            "steps.html",
            item=await self._item(request),
            twin=f"/api/v1/messages/{quote(id_)}/steps",
            cli=render.command("messages", "steps", id_),
        )

    async def _item(self, request: Request) -> dict[str, Any]:
        id_, who = str(request.path_params["id"]), who_of(request)
        self._actions.permit(who, Right.READ, Filter(ids=(id_,)))
        may = self._actions.may
        item = await self._rehearsal.steps(id_, partial(may, who, Right.EDIT))
        return item if may(who, Right.PAYLOAD, item["route"]) else steps_without_payloads(item)
