"""Groups of dead letters as people work on them: what they are about, what stands in the way of a retry, who looks after them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from esb import views
from esb.access.people import Taken
from esb.access.roles import Right
from esb.admin.actions import Actions
from esb.admin.answers import Gate, answer, body_of
from esb.admin.by import By
from esb.admin.shell import Form, Shell
from esb.clock import Clock
from esb.config.kpis import Kpi
from esb.errors import ConfigError
from esb.message import State
from esb.observe.kpis import amount
from esb.operations import NotAllowed, UnknownMessage
from esb.store.base import AuditEntry, Filter, Store, Stored

#: Groups that are looked into, the largest; messages of each, the newest; values shown of each tracked name.
LOOKED_INTO, MESSAGES, VALUES = 20, 100, 5
#: Notes that are kept of a group, and groups that anybody wrote something about.
MOST_NOTES, MOST_KEPT = 20, 500
KIND = "deadgroup"


class GroupFacts(Protocol):
    """What only the bus knows of the targets and indicators behind a group."""

    @property
    def kpis(self) -> Mapping[str, Kpi]: ...

    def troubled(self, route: str) -> dict[str, str]:
        """Targets of a route that did not answer last, by name, with what is known; empty where the bus is stopped."""
        ...


class DeadGroups:
    """Groups with all that is known of them: the same for API, pages and command line."""

    def __init__(self, store: Store, bus: GroupFacts, clock: Clock) -> None:
        self._store, self._bus, self._clock = store, bus, clock

    def items(self, filter_: Filter, samples: int = 0) -> list[dict[str, Any]]:
        """Largest first. Only the first ``LOOKED_INTO`` are looked into, each in its newest ``MESSAGES``: ``looked_at`` says in how
        many, and what is counted is counted in those. With ``samples`` each of them has so many of its newest messages."""
        kept = self._store.access(KIND)
        found = views.groups(self._store, filter_)
        weighing = self._weighing() if found else []
        return [
            {
                **group,
                **self._about(group, weighing, samples, look=place < LOOKED_INTO),
                **_assigned(kept.get(group["group"])),
            }
            for place, group in enumerate(found)
        ]

    def _weighing(self) -> list[Kpi]:
        """The pairs that weigh something; none where the files of a stopped bus have faults."""
        try:
            known = self._bus.kpis.values()
        except ConfigError:
            return []
        return [kpi for kpi in known if kpi.options.weigh is not None and kpi.kind == "pair"]

    def _about(self, group: Mapping[str, Any], weighing: list[Kpi], samples: int, *, look: bool) -> dict[str, Any]:
        sample: list[Stored] = []
        if look:
            meant = Filter(group=group["group"], route=group["route"], states=(State.DEAD,), limit=MESSAGES)
            sample = self._store.find(meant)
        tracked: dict[str, set[str]] = {}
        for stored in sample:
            for name, value in stored.envelope.track.items():
                tracked.setdefault(name, set()).add(value)
        return {
            "looked_at": len(sample) if len(sample) == MESSAGES or not look else group["count"],
            "tracked": {name: {"count": len(values), "values": sorted(values)[:VALUES]} for name, values in tracked.items()},
            "affected": self._affected(sample, weighing),
            "stale": sum(self._store.newer_done(stored) is not None for stored in sample),
            "troubled": self._bus.troubled(group["route"]) if look else {},
            **({"samples": [stored.as_item() for stored in sample[:samples]]} if look and samples else {}),
        }  # fmt: skip

    def _affected(self, sample: list[Stored], weighing: list[Kpi]) -> list[dict[str, Any]]:
        """Open pairs of weighed indicators whose key is the key or a tracked value of one of the messages."""
        words = {
            value for stored in sample for value in (stored.envelope.key, *stored.envelope.track.values()) if value
        }
        found = []
        for kpi in weighing if words else ():
            number, weight = self._store.indicators.open_of(kpi.name, sorted(words))
            if number:
                found.append({"kpi": kpi.name, "open": number, "weight": amount(weight), "unit": kpi.options.unit})
        return found

    def in_the_way(self, item: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
        """What speaks against retrying a message now: the newer one of its key that was delivered (else empty), and targets that did
        not answer last."""
        stored = self._store.get(str(item["id"]), trace=False) if item["state"] == State.DEAD.value else None
        if stored is None:
            return "", {}
        return self._store.newer_done(stored) or "", self._bus.troubled(stored.envelope.route)

    def one(self, group: str, route: str) -> dict[str, Any]:
        """Raises UnknownMessage where there is no such group."""
        found = [one for one in views.groups(self._store, Filter(route=route)) if one["group"] == group]
        if not found:
            raise UnknownMessage(f"no group {group}", hint="esb dlq groups")
        return found[0]

    async def note(self, group: Mapping[str, Any], who: str, note: str, to: str | None) -> dict[str, Any]:
        """Write who looks after a group (``to`` None: as before, empty: nobody), and a note; audited. Raises Taken."""
        kept = self._store.access(KIND)
        before, now = kept.get(group["group"]), self._clock.now()
        assigned = str((before or {}).get("to", "")) if to is None else to
        notes = [{"at": now.isoformat(), "by": who, "text": note}, *(before or {}).get("notes", ())]
        record = {"route": group["route"], "to": assigned, "notes": notes[:MOST_NOTES]}
        entry = AuditEntry(who, "group.note", group["group"], note, {"route": group["route"], "to": assigned})
        if not await self._store.put_access(KIND, group["group"], record, before, entry, now):
            raise Taken("somebody else wrote about this group just now", hint="look at it, then write again")
        if len(kept) >= MOST_KEPT and before is None:
            await self._forget(kept, who)
        return {"group": group["group"], "route": group["route"], "result": "noted", **_assigned(record)}

    async def _forget(self, kept: Mapping[str, Mapping[str, Any]], who: str) -> None:
        """The record that nobody wrote into for the longest time; the audit keeps its words."""
        oldest = min(kept, key=lambda name: str(kept[name]["notes"][0]["at"]))
        entry = AuditEntry(who, "group.forgotten", oldest, "", {"route": kept[oldest]["route"]})
        await self._store.put_access(KIND, oldest, None, kept[oldest], entry, self._clock.now())


def _assigned(record: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"assigned": str(record["to"]), "notes": list(record["notes"])} if record else {"assigned": "", "notes": []}


class GroupNotes:
    """Writing about a group, over the API and from the page of dead letters."""

    def __init__(self, groups: DeadGroups, actions: Actions, gate: Gate, shell: Shell | None = None) -> None:
        self._groups, self._actions, self._gate, self._shell = groups, actions, gate, shell

    def routes(self) -> list[BaseRoute]:
        act = self._gate.guarded(self.write, Right.RETRY, action=True)
        found: list[BaseRoute] = [Route("/api/v1/dlq/groups/note", act, methods=["POST"])]
        if self._shell is not None:
            found.append(self._shell.act("/dead/note", self.written, Right.RETRY))
        return found

    async def write(self, request: Request) -> Response:
        """``group``, ``note`` (or ``reason``), ``to`` who looks after it from now on, ``route`` where it is known."""
        words = await body_of(request)
        by, to = By.of(request, words), words.get("to")
        note = str(words.get("note") or by.reason).strip()[:2000]
        return answer("GroupNote", [await self._write(by, words, note, None if to is None else str(to))])

    async def written(self, request: Request, form: Form, by: By) -> tuple[str, str]:
        done = await self._write(by, form, by.reason, form.get("to", ""))
        return "/dead", f"Noted; {done['assigned'] or 'nobody'} looks after it"

    async def _write(self, by: By, words: Mapping[str, Any], note: str, to: str | None) -> dict[str, Any]:
        group = self._groups.one(str(words.get("group") or ""), str(words.get("route") or ""))
        self._actions.permit_route(by.principal, Right.RETRY, group["route"])
        if not note:
            raise NotAllowed("a note has words", hint='add --note "…"; it is kept in the audit')
        return await self._groups.note(group, by.actor, note, None if to is None else to.strip()[:100])
