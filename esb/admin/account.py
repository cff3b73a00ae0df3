"""One's own account: what one may do, and another password."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from esb.access.people import People
from esb.access.roles import Right
from esb.admin import render
from esb.admin.access import Access, address_of
from esb.admin.answers import who_of
from esb.admin.faults import Fault
from esb.admin.shell import Refused, Shell
from esb.errors import EsbError


class Account:
    """The page of who is logged in."""

    def __init__(self, people: People, access: Access, shell: Shell) -> None:
        self._people, self._access, self._shell = people, access, shell

    def routes(self) -> list[BaseRoute]:
        return [self._shell.read("/account", self.page), self._shell.plain("/account", self.change, "POST")]

    async def page(self, request: Request) -> Response:
        return self._page(request)

    def _page(self, request: Request, said: str = "") -> Response:
        who = who_of(request)
        record: dict[str, Any] = self._people.user(who.user) if who.user and who.method != "api-token" else {}
        words = {"roles": [str(grant) for grant in who.grants], "full_name": record.get("full_name", "")}
        return self._shell.page(
            request,
            "account.html",
            400 if said else 200,
            said=said,
            local=record.get("origin") == "local",
            origin=record.get("origin", ""),
            twin="/api/v1",
            cli=render.command("users", "passwd", who.user) if who.user else render.command("users", "ls"),
            **words,
        )

    async def change(self, request: Request) -> Response:
        """Another password, for who knows the one of now: all sessions of the user end, and a new one begins."""
        session, form = self._access.session(request), await self._shell.form(request)
        if session is None or not session.wrote(form.get("csrf", "")):
            raise Refused(Fault(403 if session else 401, "foreign-form", "this form is not of your session", "log in, and open the page again"))  # fmt: skip
        request.state.who = who = self._access.of_session(session)
        if who.method != "session" or not who.somewhere(Right.READ):
            raise Refused(Fault(403, "forbidden", "only users with a password of their own have one to change"))
        if form.get("new", "") != form.get("again", ""):
            return self._page(request, "The two new passwords differ.")
        if not await self._access.check_password(address_of(request), who.user, form.get("password", "")):
            return self._page(request, "The password of now is not right, or it was tried too often.")
        try:
            await self._people.change(
                who.user,
                who.actor,
                reason="one's own",
                password=form.get("new", ""),
                about={"unsigned": "with the password of before"},
            )
        except EsbError as error:
            return self._page(request, f"{error}; {error.hint}" if error.hint else str(error))
        fresh = self._access.begin_user(request, who.user, "session")
        assert fresh is not None  # the password was right a moment ago
        fresh.notice = "Your password is another one now; your other sessions are over."
        return self._shell.entered(request, fresh, "/account")
