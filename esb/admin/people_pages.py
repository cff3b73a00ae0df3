"""The page of those who look after users and tokens."""

from __future__ import annotations

from datetime import timedelta

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from esb.access.people import People
from esb.access.roles import ROLES, Right
from esb.admin import render, wire
from esb.admin.actions import Actions
from esb.admin.by import By
from esb.admin.people import LASTS
from esb.admin.shell import Form, Shell


class PeoplePages:
    """Users and tokens: who there is, and making, changing and ending them."""

    def __init__(self, people: People, actions: Actions, shell: Shell) -> None:
        self._people, self._actions, self._shell = people, actions, shell

    def routes(self) -> list[BaseRoute]:
        act = self._shell.act
        return [
            self._shell.read("/people", self.page, Right.PEOPLE),
            act("/people/add", self.add, Right.PEOPLE),
            act("/people/{name}/roles", self.roles, Right.PEOPLE),
            act("/people/{name}/disable", self.disable, Right.PEOPLE),
            act("/people/{name}/enable", self.enable, Right.PEOPLE),
            act("/tokens/create", self.create, Right.PEOPLE),
            act("/tokens/{name}/revoke", self.revoke, Right.PEOPLE),
        ]

    async def page(self, request: Request) -> Response:
        return self._shell.page(
            request,
            "people.html",
            users=self._people.users(),
            tokens=self._people.tokens(),
            known=list(ROLES),
            twin="/api/v1/users",
            cli=render.command("users", "ls"),
        )

    async def add(self, request: Request, form: Form, by: By) -> tuple[str, str]:
        name, roles = form.get("name", ""), _words(form, "roles")
        who = await self._actions.sign_people(by, {"user": name, "roles": roles})
        made = await self._people.add(
            name,
            roles,
            form.get("secret", ""),
            who.actor,
            reason=who.reason,
            full_name=form.get("full_name", ""),
            about=who.detail,
        )
        return "/people", f"{made['user']} was added; they can change the password on the page behind their name"

    async def roles(self, request: Request, form: Form, by: By) -> tuple[str, str]:
        return await self._change(request, by, roles=_words(form, "roles"))

    async def disable(self, request: Request, form: Form, by: By) -> tuple[str, str]:
        return await self._change(request, by, disabled=True)

    async def enable(self, request: Request, form: Form, by: By) -> tuple[str, str]:
        return await self._change(request, by, disabled=False)

    async def _change(
        self, request: Request, by: By, *, roles: list[str] | None = None, disabled: bool | None = None
    ) -> tuple[str, str]:
        name = request.path_params["name"]
        record = {"user": name, **({"roles": roles} if roles is not None else {"disabled": disabled})}
        who = await self._actions.sign_people(by, record)
        done = await self._people.change(
            name, who.actor, reason=who.reason, roles=roles, disabled=disabled, about=who.detail
        )
        return "/people", f"{done['user']}: {done['result']}, may {', '.join(done['roles'])}"

    async def create(self, request: Request, form: Form, by: By) -> tuple[str, str]:
        """The secret is told by the next page, once."""
        lasts = timedelta(seconds=wire.seconds_of(form.get("expires"), LASTS.total_seconds()))
        name, scopes = form.get("name", ""), _words(form, "scopes")
        owner = by.principal.user
        record = {"token": name, "scopes": scopes, "owner": owner, "expires": form.get("expires", "")}
        who = await self._actions.sign_people(by, record)
        made = await self._people.create_token(name, scopes, lasts, owner, who.actor, who.reason, who.detail)
        return "/people", f"The token {made['token']}, shown this once: {made['secret']}"

    async def revoke(self, request: Request, form: Form, by: By) -> tuple[str, str]:
        name = request.path_params["name"]
        who = await self._actions.sign_people(by, {"token": name, "revoked": True})
        done = await self._people.revoke_token(name, who.actor, who.reason, who.detail)
        return "/people", f"{done['token']}: revoked"


def _words(form: Form, name: str) -> list[str]:
    """Roles or rights with blanks or commas between them. Raises BadRequest for none."""
    found = form.get(name, "").replace(",", " ").split()
    if not found:
        raise wire.BadRequest("no role or right", hint=f"such as {', '.join(ROLES)}, `retry` or `operator@P10`")
    return found
