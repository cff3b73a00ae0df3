"""``/api/v1/users`` and ``/api/v1/tokens``: who may come, and with what."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from esb.access.people import People
from esb.access.roles import Right
from esb.admin import wire
from esb.admin.actions import Actions
from esb.admin.answers import Gate, answer, body_of, who_of
from esb.admin.by import By
from esb.operations import Who

#: How long a token lasts that does not say it.
LASTS = timedelta(days=90)


class PeopleApi:
    """The endpoints, over the people of the bus."""

    def __init__(self, people: People, actions: Actions, gate: Gate) -> None:
        self._people, self._actions, self._gate = people, actions, gate

    def routes(self) -> list[BaseRoute]:
        def route(path: str, endpoint: Any, method: str) -> BaseRoute:
            guarded = self._gate.guarded(endpoint, Right.PEOPLE, action=method == "POST")
            return Route(f"/api/v1{path}", guarded, methods=[method])

        return [
            route("/users", self.users, "GET"),
            route("/users", self.add, "POST"),
            route("/users/{name}/roles", self.roles, "POST"),
            route("/users/{name}/passwd", self.passwd, "POST"),
            route("/users/{name}/disable", self.disable, "POST"),
            route("/users/{name}/enable", self.enable, "POST"),
            route("/tokens", self.tokens, "GET"),
            route("/tokens", self.create, "POST"),
            route("/tokens/{name}/revoke", self.revoke, "POST"),
        ]

    async def users(self, request: Request) -> Response:
        return answer("UserList", self._people.users())

    async def tokens(self, request: Request) -> Response:
        return answer("TokenList", self._people.tokens())

    async def add(self, request: Request) -> Response:
        words = await body_of(request)
        roles = _texts(words, "roles")
        password, name = _text(words, "password"), _text(words, "name")
        full_name = str(words.get("full_name") or "")
        by = await self._by(request, words, {"user": name, "roles": roles})
        done = await self._people.add(
            name, roles, password, by.actor, reason=by.reason, full_name=full_name, about=by.detail
        )
        return answer("UserResult", [done])

    async def roles(self, request: Request) -> Response:
        words = await body_of(request)
        return await self._change(request, words, roles=_texts(words, "roles"))

    async def passwd(self, request: Request) -> Response:
        words = await body_of(request)
        return await self._change(request, words, password=_text(words, "password"))

    async def disable(self, request: Request) -> Response:
        return await self._change(request, await body_of(request), disabled=True)

    async def enable(self, request: Request) -> Response:
        return await self._change(request, await body_of(request), disabled=False)

    async def _change(self, request: Request, words: Mapping[str, Any], **what: Any) -> Response:
        name = request.path_params["name"]
        record = {"user": name, **{key: value if key != "password" else "changed" for key, value in what.items()}}
        by = await self._by(request, words, record)
        done = await self._people.change(name, by.actor, reason=by.reason, about=by.detail, **what)
        return answer("UserResult", [done])

    async def create(self, request: Request) -> Response:
        words = await body_of(request)
        expires = str(words.get("expires") or "")
        lasts = None if expires == "never" else timedelta(seconds=wire.seconds_of(expires, LASTS.total_seconds()))
        owner = str(words.get("owner") or "") or who_of(request).user
        if owner:
            self._people.user(owner)  # must be somebody
        name, scopes = _text(words, "name"), _texts(words, "scopes")
        by = await self._by(request, words, {"token": name, "scopes": scopes, "owner": owner, "expires": expires})
        done = await self._people.create_token(name, scopes, lasts, owner.lower(), by.actor, by.reason, by.detail)
        return answer("TokenResult", [done])

    async def revoke(self, request: Request) -> Response:
        name = request.path_params["name"]
        by = await self._by(request, await body_of(request), {"token": name, "revoked": True})
        return answer("TokenResult", [await self._people.revoke_token(name, by.actor, by.reason, by.detail)])

    async def _by(self, request: Request, words: Mapping[str, Any], record: Mapping[str, Any]) -> Who:
        return await self._actions.sign_people(By.of(request, words), record)


def _text(words: Mapping[str, Any], name: str) -> str:
    value = words.get(name)
    if not isinstance(value, str) or not value:
        raise wire.BadRequest(f"`{name}` is missing", hint="a text")
    return value


def _texts(words: Mapping[str, Any], name: str) -> list[str]:
    value = words.get(name)
    if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
        raise wire.BadRequest(f"`{name}` is missing", hint='a list, such as ["operator"]')
    return value
