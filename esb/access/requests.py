"""Actions that wait for a second person: kept in the store until somebody else says yes or no, or their time is up."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from esb.access.people import Taken, UnknownPerson
from esb.clock import Clock
from esb.errors import EsbError
from esb.store.base import AuditEntry, Store

REQUEST = "request"
#: What of a request only those see who may see payloads.
PAYLOAD = "body_base64"
_OVER = frozenset({"done", "denied", "expired"})
#: Requests that may be open at once, that are remembered when they are over, and messages that those still name.
MOST_OPEN, MOST_KEPT, SHOWN = 100, 500, 100


class TooMany(EsbError):
    """More requests are open than anybody decides about."""


class Requests:
    """The requests of a bus. What is asked for is fixed when it is asked: the ids of the messages, the payload of an edit."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def all(self) -> list[dict[str, Any]]:
        """Newest first; ``state`` is pending, approved (and not done yet), done, denied or expired."""
        found = [self._shown(id_, record) for id_, record in self._store.access(REQUEST).items()]
        return sorted(found, key=lambda item: str(item["at"]), reverse=True)

    def get(self, id_: str) -> dict[str, Any]:
        """One request. Raises UnknownPerson where there is none."""
        record = self._store.access(REQUEST).get(id_)
        if record is None:
            raise UnknownPerson(f"no request {id_}", hint="esb approvals ls")
        return self._shown(id_, record)

    def _shown(self, id_: str, record: Mapping[str, Any]) -> dict[str, Any]:
        over = record["state"] == "pending" and datetime.fromisoformat(record["expires"]) <= self._clock.now()
        return {"approval": id_, **record, **({"state": "expired"} if over else {})}

    async def ask(self, record: Mapping[str, Any], detail: Mapping[str, Any]) -> str:
        """Keep a request; gives its id."""
        await self._make_room(record["by"])
        id_ = secrets.token_hex(4)
        what = {"action": record["action"], "count": record["count"], "routes": record["routes"], **detail}
        entry = AuditEntry(record["by"], "approval.request", id_, record["reason"], what)
        kept = {**record, "at": self._clock.now().isoformat(), "state": "pending", "decided_by": "", "results": {}}
        await self._put(id_, kept, None, entry)
        return id_

    async def _make_room(self, actor: str) -> None:
        """Forget the oldest that are over; the audit goes on to name them. Raises TooMany where too many are open."""
        found = self.all()
        over = [item for item in found if item["state"] in _OVER]
        if len(found) - len(over) >= MOST_OPEN:
            raise TooMany(f"{MOST_OPEN} requests wait already", hint="decide about them first: esb approvals ls")
        for item in over[MOST_KEPT:]:
            id_, record = str(item["approval"]), self._store.access(REQUEST)[str(item["approval"])]
            entry = AuditEntry(actor, "approval.forgotten", id_, "", {"state": item["state"]})
            await self._store.put_access(REQUEST, id_, None, record, entry, self._clock.now())

    async def move(
        self, request: Mapping[str, Any], state: str, actor: str, reason: str, detail: Mapping[str, Any], **more: Any
    ) -> dict[str, Any]:
        """Into the next state, if nobody was faster. Raises Taken."""
        id_ = str(request["approval"])
        before = {name: value for name, value in request.items() if name != "approval"}
        after = {**before, **more, "state": state}
        if state in _OVER:  # what was done to which message is in the audit, the payload in the message
            after = {**after, "ids": after["ids"][:SHOWN], PAYLOAD: ""}
        entry = AuditEntry(actor, f"approval.{state}", id_, reason, {"action": request["action"], **detail})
        await self._put(id_, after, before, entry)
        return {"approval": id_, **after}

    async def _put(
        self, id_: str, value: Mapping[str, Any], before: Mapping[str, Any] | None, entry: AuditEntry
    ) -> None:
        if not await self._store.put_access(REQUEST, id_, value, before, entry, self._clock.now()):
            raise Taken(f"somebody else decided about {id_} just now", hint="esb approvals ls")
