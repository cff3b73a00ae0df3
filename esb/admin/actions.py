"""What people do, the same for API and pages: may they, to these objects; then the operation, with its entry in the audit."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any, Protocol

from esb.access.masks import Masks
from esb.access.people import Taken
from esb.access.requests import PAYLOAD, Requests
from esb.access.roles import Principal, Right
from esb.admin import wire
from esb.admin.by import By
from esb.admin.jobs import Jobs
from esb.admin.signing import Signing
from esb.config.model import Approval
from esb.durations import Rate
from esb.errors import EsbError
from esb.operations import NotAllowed, Operations, UnknownMessage, Who, signed
from esb.store.base import AuditEntry, Filter, Store

#: Largest payload of an edit that may wait for a second person, in characters of base64.
LARGEST_EDIT = 1_400_000


class Forbidden(EsbError):
    """The one who asks may not do this to that."""


class Sites(Protocol):
    """What says which route belongs where."""

    def names(self) -> list[str]: ...

    def facts(self, route: str) -> Mapping[str, Any]: ...

    def site_of(self, route: str) -> str: ...

    @property
    def marked(self) -> frozenset[str]:
        """The names of members that contracts mark as sensitive."""
        ...

    async def reload(self, actor: str, reason: str) -> dict[str, Any]: ...

    async def send(
        self, route: str, payload: bytes, headers: Mapping[str, str], wait: float, by: tuple[str, str]
    ) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Actions:
    """The operations, each for who may do it to every object that it would touch."""

    store: Store
    operations: Operations
    bus: Sites
    signing: Signing
    requests: Requests
    approval: Approval = field(default=Approval())
    #: None where nothing runs in the background: the bus is stopped
    jobs: Jobs | None = None
    #: requests about which somebody decides right now
    _deciding: set[str] = field(default_factory=set)

    async def retry(
        self,
        by: By,
        meant: Filter,
        *,
        stale: bool = False,
        dry_run: bool = False,
        rate: Rate | None = None,
        background: bool = False,
    ) -> list[dict[str, Any]]:
        """``background`` gives the bulk retry that was started instead of what came of each message."""
        words = {"stale": stale, "rate": _numbers(rate), **({"background": True} if background else {})}
        return await self._act(by, Right.RETRY, meant, words, dry_run=dry_run)

    async def discard(self, by: By, meant: Filter, *, dry_run: bool = False) -> list[dict[str, Any]]:
        return await self._act(by, Right.DISCARD, meant, {}, dry_run=dry_run)

    async def replay(
        self, by: By, meant: Filter, *, dry_run: bool = False, rate: Rate | None = None
    ) -> list[dict[str, Any]]:
        return await self._act(by, Right.REPLAY, meant, {"rate": _numbers(rate)}, dry_run=dry_run)

    async def edit(self, by: By, id_: str, payload: bytes, *, replaces: str = "") -> list[dict[str, Any]]:
        """``replaces`` as for :meth:`Operations.edit`."""
        words = {PAYLOAD: base64.b64encode(payload).decode(), "replaces": replaces}
        return await self._act(by, Right.EDIT, Filter(ids=(id_,)), words)

    async def _act(
        self, by: By, right: Right, meant: Filter, words: Mapping[str, Any], *, dry_run: bool = False
    ) -> list[dict[str, Any]]:
        """Permitted, signed where it must be, and handed to a second person where it must be; else done at once."""
        self.permit(by.principal, right, meant)
        if dry_run:
            return await self._run(right, meant, by.who(), words, dry_run=True)
        planned = await self._planned(by, right, meant, words)
        signer, detail = await self.signing.person(by, right, known=bool(planned))
        self.permit(signer, right, meant)
        who = Who(signer.user if "signature" in detail else by.actor, by.reason, detail)
        if not planned:
            return await self._run(right, meant, who, words)
        return await self._ask(signer, right, planned, {**words, "reason": by.reason}, detail)

    async def _run(
        self, right: Right, meant: Filter, who: Who, words: Mapping[str, Any], *, dry_run: bool = False
    ) -> list[dict[str, Any]]:
        rate = Rate(int(words["rate"][0]), timedelta(seconds=words["rate"][1])) if words.get("rate") else None
        if right is Right.RETRY and words.get("background") and self.jobs is not None and not dry_run:
            return [await self.jobs.start(meant, who, stale=bool(words.get("stale")), rate=rate)]
        if right is Right.RETRY:
            return await self.operations.retry(meant, who, stale=bool(words.get("stale")), dry_run=dry_run, rate=rate)
        if right is Right.DISCARD:
            return await self.operations.discard(meant, who, dry_run=dry_run)
        if right is Right.REPLAY:
            return await self.operations.replay(meant, who, dry_run=dry_run, rate=rate)
        # one that was approved replaces what was there when it was asked for
        replaces = str(words.get("payload") or words.get("replaces") or "")
        return [await self.operations.edit(meant.ids[0], base64.b64decode(words[PAYLOAD]), who, replaces=replaces)]

    # -- the second person ------------------------------------------------------------------------------------------------
    async def _planned(self, by: By, right: Right, meant: Filter, words: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What would be done, where it has to wait for a second person; empty where it need not."""
        limit: int | None = getattr(self.approval, right.value)
        if limit is None:
            return []
        if right is Right.EDIT:
            stored = self.store.get(meant.ids[0], trace=False)
            moved = words["replaces"] not in ("", self._payload_hash(meant.ids[0]))
            if not by.reason.strip() or stored is None or moved:
                return []  # the operation itself says what is wrong
            planned = [{"id": meant.ids[0], "route": stored.envelope.route, "key": stored.envelope.key}]
        else:
            done = await self._run(right, meant, by.who(), words, dry_run=True)
            planned = [item for item in done if str(item["result"]).startswith("would")]
        grave = any(self.bus.facts(str(item["route"])).get("criticality") in self.approval.always for item in planned)
        return planned if len(planned) >= limit or grave else []

    async def _ask(
        self,
        signer: Principal,
        right: Right,
        planned: Sequence[Mapping[str, Any]],
        words: Mapping[str, Any],
        detail: Mapping[str, Any],
    ) -> list[dict[str, Any]]:
        if len(str(words.get(PAYLOAD, ""))) > LARGEST_EDIT:
            raise NotAllowed(
                "the payload is too large to wait for a second person", hint="discard it, and send it again"
            )
        ids = [str(item["id"]) for item in planned]
        record = {
            **words,
            "action": right.value,
            "ids": ids,
            "count": len(ids),
            "routes": sorted({str(item["route"]) for item in planned}),
            "by": signer.user,
            "expires": (self.operations.clock.now() + self.approval.expires).isoformat(),
            "payload": self._payload_hash(ids[0]) if right is Right.EDIT else "",
        }
        id_ = await self.requests.ask(record, signed(Who(signer.user, "", detail), record))
        why = f"needs a second person: esb approvals approve {id_}"
        kept = ("id", "route", "key")
        return [
            {**{name: item[name] for name in kept}, "result": "waits", "why": why, "approval": id_} for item in planned
        ]

    def _payload_hash(self, id_: str) -> str:
        stored = self.store.get(id_, trace=False)
        return str(self.operations.record_of(stored)["payload"]) if stored is not None else ""

    async def decide(self, by: By, id_: str, *, approve: bool) -> dict[str, Any]:
        """A second person says yes, and it is done, or no. Who asked may only take it back. Raises Forbidden, Taken."""
        if id_ in self._deciding:  # a double click, or a third person while it is being done
            raise Taken(f"somebody decides about {id_} right now", hint="esb approvals ls")
        self._deciding.add(id_)
        try:
            return await self._decide(by, id_, approve=approve)
        finally:
            self._deciding.discard(id_)

    async def _decide(self, by: By, id_: str, *, approve: bool) -> dict[str, Any]:
        request = self.requests.get(id_)
        right, meant = Right(request["action"]), Filter(ids=tuple(request["ids"]), limit=10_000)
        if not by.reason.strip():
            raise NotAllowed("a decision needs a reason", hint='add --reason "…"; it is kept in the audit')
        open_ = ("pending", "approved") if approve else ("pending",)  # approved and not done: the bus died in between
        if request["state"] not in open_:
            raise NotAllowed(f"{id_} is {request['state']}", hint="esb approvals ls")
        signer, detail = await self.signing.person(by, f"approval of {right}", known=True)
        own = signer.user == request["by"]
        if approve and own:
            raise Forbidden("who asks for something cannot approve it", hint="somebody else must")
        if not own:
            for needed in (Right.APPROVE, right):
                self.permit(signer, needed, meant)
        about = signed(Who(signer.user, "", detail), request)
        if not approve:
            return await self.requests.move(request, "denied", signer.user, by.reason, about, decided_by=signer.user)
        if right is Right.EDIT and self._payload_hash(meant.ids[0]) != request["payload"]:
            raise NotAllowed("the payload was changed after this was asked for", hint="deny it, and ask again")
        if request["state"] == "pending":
            request = await self.requests.move(
                request, "approved", signer.user, by.reason, about, decided_by=signer.user
            )
        who = Who(request["by"], request["reason"], {**detail, "approval": id_, "approved_by": signer.user})
        if right is Right.REPLAY:
            meant = replace(meant, ids=self._not_replayed(meant.ids, id_))
        done = await self._run(right, meant, who, request) if meant.ids else []
        results = dict(Counter(str(item["result"]) for item in done))
        return await self.requests.move(request, "done", signer.user, "", {"results": results}, results=results)

    def _not_replayed(self, ids: tuple[str, ...], approval: str) -> tuple[str, ...]:
        """Those that the bus had not come to when it died: a second replay would be one more message."""
        entries = (entry for entry in self.store.audit_of(ids) if entry["action"] == "replay")
        done = {entry["object"] for entry in entries if entry["detail"].get("approval") == approval}
        return tuple(id_ for id_ in ids if id_ not in done)

    # -- routes -----------------------------------------------------------------------------------------------------------
    async def sign(self, by: By, right: Right, route: str = "") -> Who:
        """Who does something to a route (empty: to the bus) that never waits for a second person: permitted, and signed where
        the bus is regulated. Raises Forbidden, NeedsSignature, WrongSignature."""
        self._permit_at(by.principal, right, route)
        signer, detail = await self.signing.person(by, right, known=False)
        self._permit_at(signer, right, route)
        return Who(signer.user, by.reason, detail) if "signature" in detail else by.who()

    async def sign_people(self, by: By, record: Mapping[str, Any]) -> Who:
        """Who changes users or tokens: signed where the bus is regulated and there is an admin who can sign. The ``detail`` says which.

        Raises as :meth:`sign`.
        """
        if self.signing.regulated and not self.signing.possible(Right.PEOPLE):
            self.permit_all(by.principal, Right.PEOPLE)
            return Who(by.actor, by.reason, {"unsigned": "there was no admin who could sign"})
        who = await self.sign(by, Right.PEOPLE)
        return Who(who.actor, who.reason, signed(who, record))

    def _permit_at(self, principal: Principal, right: Right, route: str) -> None:
        if route:
            self.permit_route(principal, right, route)
        else:
            self.permit_all(principal, right)

    async def pause(self, by: By, route: str, *, paused: bool) -> list[dict[str, Any]]:
        self.permit_route(by.principal, Right.PAUSE, route)
        if route not in self.bus.names():
            raise wire.UnknownRoute(f"no route {route}", hint=wire.nearest_route(route, self.bus.names()))
        return [await self.operations.pause(route, await self.sign(by, Right.PAUSE, route), paused=paused)]

    async def send(
        self, by: By, route: str, payload: bytes, headers: Mapping[str, str], wait: float
    ) -> list[dict[str, Any]]:
        """Raises what the bus's own ``send`` raises, and as :meth:`sign`."""
        who = await self.sign(by, Right.SEND, route)
        record = {"route": route, "payload": hashlib.sha256(payload).hexdigest()}
        await self._note_signature(who, "send", route, record)
        return [await self.bus.send(route, payload, headers, wait, (who.actor, who.reason))]

    async def reload(self, by: By) -> list[dict[str, Any]]:
        who = await self.sign(by, Right.RELOAD)
        await self._note_signature(who, "reload", "", {})
        return [await self.bus.reload(who.actor, who.reason)]

    async def _note_signature(self, who: Who, action: str, object_: str, record: Mapping[str, Any]) -> None:
        """A signature for what writes its own entry: it stands before it."""
        if "signature" in who.detail:
            entry = AuditEntry(who.actor, f"{action}.signature", object_, who.reason, signed(who, record))
            await self.store.audit(entry, self.operations.clock.now())

    # -- who may what ---------------------------------------------------------------------------------------------------
    @staticmethod
    def permit_all(principal: Principal, right: Right) -> None:
        """Raises Forbidden for who holds the right at single sites only."""
        if not principal.everywhere(right):
            raise Forbidden(f"{principal.actor} may not {right} the whole bus")

    def may(self, principal: Principal, right: Right, route: str) -> bool:
        """Whether the right is held for a route; who holds it everywhere holds it for any."""
        return principal.may(right, self.bus.site_of(route))

    def every_route(self, principal: Principal, right: Right) -> bool:
        """Whether the right is held for every route of the bus."""
        return principal.everywhere(right) or all(self.may(principal, right, name) for name in self.bus.names())

    def permit_every_route(self, principal: Principal, right: Right) -> None:
        """Raises Forbidden for who may not do it to every route: for what tells of the bus as a whole."""
        if not self.every_route(principal, right):
            raise Forbidden(f"{principal.actor} may {right} at single sites only", hint="this is of the whole bus")

    def permit_route(self, principal: Principal, right: Right, route: str) -> None:
        """Raises Forbidden, or UnknownRoute where not even the route's existence may be known."""
        if self.may(principal, right, route):
            return
        if not self.sees(principal, route):
            raise wire.UnknownRoute(f"no route {route}")
        raise Forbidden(f"{principal.actor} may not {right} at this site")

    def permit(self, principal: Principal, right: Right, meant: Filter) -> None:
        """Every object that is meant must be one for which the right is held: asked before anything is done."""
        if principal.everywhere(right):
            return
        if meant.ids:
            for id_ in meant.ids:
                stored = self.store.get(id_, trace=False)
                if stored is None or not self.sees(principal, stored.envelope.route):
                    raise UnknownMessage(f"no message {id_}", hint="esb messages ls")
                self.permit_route(principal, right, stored.envelope.route)
        elif meant.route:
            self.permit_route(principal, right, meant.route)
        else:
            raise Forbidden(f"{principal.actor} may {right} at single sites only", hint="name a route, or ids")

    def jobs_seen(self, principal: Principal, jobs: Jobs | None = None) -> list[dict[str, Any]]:
        """The bulk retries of routes that the one who asks may all see, newest first; ``jobs`` are those of a stopped bus."""
        known = jobs if jobs is not None else self.jobs
        found = known.items() if known is not None else []
        return [item for item in found if all(self.sees(principal, route) for route in item["routes"])]

    def sees(self, principal: Principal, route: str) -> bool:
        return self.may(principal, Right.READ, route)

    def sight(self, principal: Principal) -> Callable[[str], bool] | None:
        """:meth:`sees` of whom it concerns; None for who sees every route."""
        return None if principal.everywhere(Right.READ) else partial(self.sees, principal)

    def seen_sites(self, principal: Principal, sites: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Of sites those with a route that the one who asks may see, or without any route, with these routes alone."""
        shown = [
            {**site, "routes": [one for one in site["routes"] if self.sees(principal, one["route"])]} for site in sites
        ]
        return [new for new, site in zip(shown, sites, strict=True) if new["routes"] or not site["routes"]]

    def seen(self, principal: Principal, items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Of items with a ``route`` those that the one who asks may see, and of these what they may see."""
        masks = Masks(self.bus.marked, self.store)
        found = items
        if not principal.everywhere(Right.READ):
            found = [item for item in items if self.sees(principal, str(item["route"]))]
        if principal.everywhere(Right.PAYLOAD):
            return list(found)
        return [item if self.may(principal, Right.PAYLOAD, str(item["route"])) else masks.hide(item) for item in found]

    def masked_difference(self, principal: Principal, route: str, item: dict[str, Any]) -> dict[str, Any]:
        """A difference between systems as the one who asks may see it."""
        if not self.bus.marked or self.may(principal, Right.PAYLOAD, route):
            return item
        return Masks(self.bus.marked, self.store).hide_difference(item)


def _numbers(rate: Rate | None) -> list[float] | None:
    """A rate as it is kept in a request."""
    return None if rate is None else [rate.count, rate.span.total_seconds()]
