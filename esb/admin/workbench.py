"""The failure workbench: a dead message is edited, tried on stubs, and retried, over the API and on a page of its own."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from esb import views
from esb.access.roles import Right
from esb.admin import render
from esb.admin.actions import Actions
from esb.admin.answers import Gate, answer, body_of, who_of
from esb.admin.api import PAYLOAD, payload_of
from esb.admin.by import By
from esb.admin.rehearsal import Rehearsal, difference, without_payloads
from esb.admin.shell import Form, Shell
from esb.message import State
from esb.operations import NotAllowed, UnknownMessage
from esb.store.base import Filter, Store

#: Longest payload that a form takes, in bytes, and the form around it with every byte written as three.
LONGEST = 100_000
LONGEST_FORM = 3 * LONGEST + 20_000


class Workbench:
    """Edit, dry run and retry of one message. ``shell`` is None where there are no pages."""

    def __init__(
        self, store: Store, actions: Actions, gate: Gate, rehearsal: Rehearsal, shell: Shell | None = None
    ) -> None:
        self._store, self._actions, self._gate = store, actions, gate
        self._rehearsal, self._shell = rehearsal, shell

    def routes(self) -> list[BaseRoute]:
        rehearse = self._gate.guarded(self.rehearse, Right.EDIT, action=True)
        found: list[BaseRoute] = [Route("/api/v1/dlq/rehearse", rehearse, methods=["POST"])]
        if self._shell is not None:
            found += [
                self._shell.read("/messages/{id}/edit", self.editor, Right.EDIT),
                self._shell.act("/messages/{id}/edit", self.edited, Right.EDIT, most=LONGEST_FORM),
            ]
        return found

    async def rehearse(self, request: Request) -> Response:
        """``id``, and ``body`` or ``body_base64`` for another payload: what the targets would get. Sends and stores nothing."""
        words, who = await body_of(request, PAYLOAD | {"id"}), who_of(request)
        id_ = str(words.get("id") or "")
        self._actions.permit(who, Right.EDIT, Filter(ids=(id_,)))
        other = payload_of(words) if "body" in words or "body_base64" in words else None
        item = await self._rehearsal.of(id_, other)
        may = self._actions.may(who, Right.PAYLOAD, item["route"])
        return answer("Rehearsal", [item if may else without_payloads(item)])

    # -- the page -------------------------------------------------------------------------------------------------------
    async def editor(self, request: Request) -> Response:
        item, before = self._editable(request)
        return self._page(request, item, before, before, "", tried=None, moved=False)

    async def edited(self, request: Request, form: Form, by: By) -> tuple[str, str] | Response:
        item, before = self._editable(request)
        after = form.get("payload", "").replace("\r\n", "\n")
        if "\r\n" in before:
            after = after.replace("\n", "\r\n")
        payload, id_ = after.encode("utf-8", "surrogatepass"), str(item["id"])
        if len(payload) > LONGEST:
            raise NotAllowed(f"a form takes {LONGEST} bytes", hint="esb dlq edit ID --data @FILE takes more")
        replaces = form.get("replaces", "")
        moved = replaces not in ("", _hash_of(item))
        if moved or form.get("do") not in ("save", "retry"):
            tried = await self._rehearsal.of(id_, payload)
            return self._page(request, item, before, after, by.reason, tried=tried, moved=moved)
        done = await self._actions.edit(by, id_, payload, replaces=replaces)
        said = render.outcome("Edit", done)
        if form["do"] == "retry" and done[0]["result"] == "edited":
            said += "; " + render.outcome("Retry", await self._actions.retry(by, Filter(ids=(id_,))))
        return f"/messages/{quote(id_)}", said

    def _page(
        self, request: Request, item: dict[str, Any], before: str, after: str, reason: str, *, tried: Any, moved: bool
    ) -> Response:
        """``moved``: somebody else edited the message since the form was opened, so nothing was saved."""
        assert self._shell is not None
        id_ = str(item["id"])
        return self._shell.page(
            request,
            "edit.html",
            item=item,
            payload=after,
            reason=reason,
            tried=tried,
            replaces=_hash_of(item),
            moved=moved,
            difference=difference(before, after) if tried is not None else [],
            twin=f"/api/v1/messages/{quote(id_)}",
            cli=render.command("dlq", "edit", id_, data="@fixed.json") + " --dry-run",
        )

    def _editable(self, request: Request) -> tuple[dict[str, Any], str]:
        """A dead message and its payload as text. Raises UnknownMessage, Forbidden, NotAllowed where a form would change it."""
        id_ = request.path_params["id"]
        for right in (Right.EDIT, Right.PAYLOAD):
            self._actions.permit(who_of(request), right, Filter(ids=(id_,)))
        item = views.message(self._store, id_)
        if item is None:
            raise UnknownMessage(f"there is no message {render.text(id_)}", hint="retention may have removed it")
        if item["state"] != State.DEAD.value:
            raise NotAllowed(f"it is {item['state']}, not dead", hint="only dead messages are edited")
        body = item["body"]
        if not isinstance(body, str) or len(body.encode()) > LONGEST or not _survives(body):
            raise NotAllowed("a form cannot hold this payload as it is", hint=f"esb dlq edit {id_} --data @FILE")
        return item, render.pretty(body) if body.lstrip()[:1] in ("{", "[") else body


def _hash_of(item: dict[str, Any]) -> str:
    """The SHA-256 of a payload that is a text."""
    return hashlib.sha256(str(item["body"]).encode()).hexdigest()


def _survives(text: str) -> bool:
    """Whether a form gives the text back as it was: it writes all ends of lines alike, and drops what no text has."""
    lines = text.replace("\r\n", "\n")
    mixed = "\r" in lines or ("\r\n" in text and text.count("\r\n") != text.count("\n"))
    return not mixed and all(ch.isprintable() or ch in "\n\t" for ch in lines)
