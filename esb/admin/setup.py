"""The first user: made over a link that `esb run` prints, once, from the machine itself."""

from __future__ import annotations

import asyncio
import secrets

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from esb.access.people import People
from esb.admin.access import Access, address_of
from esb.admin.faults import Fault
from esb.admin.shell import Form, Refused, Shell
from esb.clock import Clock
from esb.endpoints.ingress import is_loopback
from esb.errors import EsbError
from esb.secret import Secret

#: Seconds for which the link is good.
GOOD_FOR = 3600.0


class Setup:
    """The page behind the link. It is there until somebody was set up, for an hour, for loopback."""

    def __init__(self, people: People, access: Access, shell: Shell, clock: Clock) -> None:
        self._people = people
        self._access = access
        self._shell = shell
        self._clock = clock
        self._token = Secret(secrets.token_urlsafe(32))
        self._began = clock.monotonic()
        self._one = asyncio.Lock()

    def link(self, base: str) -> str:
        """The address to open; empty where there is nothing to set up."""
        return f"{base}/setup?token={self._token.reveal()}" if self._access.is_open else ""

    def routes(self) -> list[BaseRoute]:
        return [self._shell.plain("/setup", self.form), self._shell.plain("/setup", self.make, "POST")]

    async def form(self, request: Request) -> Response:
        token = request.query_params.get("token", "")
        self._check(request, token)
        return self._page(token)

    async def make(self, request: Request) -> Response:
        form = await self._shell.form(request)
        async with self._one:  # a password takes its time to be hashed: two would find that nobody is there yet
            return await self._first(request, form)

    async def _first(self, request: Request, form: Form) -> Response:
        token, password = form.get("token", ""), form.get("password", "")
        self._check(request, token)
        words = {"user": form.get("user", ""), "full_name": form.get("full_name", "")}
        if password != form.get("again", ""):
            return self._page(token, "The two passwords differ.", **words)
        try:
            made = await self._people.add(
                words["user"],
                ["admin"],
                password,
                "setup",
                reason="first user",
                full_name=words["full_name"],
                about={"unsigned": "the link of the first start"},
            )
        except EsbError as error:
            return self._page(token, f"{error}; {error.hint}" if error.hint else str(error), **words)
        session = self._access.begin_user(request, made["user"], "session")
        if session is None:
            raise Refused(Fault(409, "conflict", "somebody else was faster"))
        session.notice = f"{made['user']} is an admin now. Others: esb users add NAME --role operator"
        return self._shell.entered(request, session, "/")

    def _page(self, token: str, said: str = "", user: str = "", full_name: str = "") -> Response:
        status = 400 if said else 200
        return self._shell.bare("setup.html", status, token=token, said=said, user=user, full_name=full_name)

    def _check(self, request: Request, token: str) -> None:
        late = self._clock.monotonic() - self._began > GOOD_FOR
        right = self._token.matches(token)
        if not right and self._access.is_open:
            self._access.note_guess(request)
        if late or not right or not self._access.is_open or not is_loopback(address_of(request)):
            hint = "start the bus again for a new one, or: esb users add NAME --role admin"
            raise Refused(Fault(404, "not-found", "this link is not good, or not any more", hint))
