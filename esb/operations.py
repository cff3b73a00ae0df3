"""What people do to messages and routes: retry, edit, discard, replay, pause. Each writes the audit in its transaction.

The same commands serve the running bus (``live`` is its supervisor) and a stopped one (``live`` is None: the store under
its lock; messages become queued and run at the next start).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

from esb.clock import Clock
from esb.durations import Rate
from esb.errors import EsbError
from esb.message import OPEN_STATES, State
from esb.runtime.births import Birth, Births
from esb.store.base import Accepted, AuditEntry, Filter, Pending, Store, Stored


class NotAllowed(EsbError):
    """The operation needs something that was not given, such as a reason."""


class Live(Protocol):
    """What operations tell the running bus."""

    def adopt(self, pending: Pending) -> None: ...

    def lane_released(self, route: str, scope: str, key: str, seqs: tuple[int, ...]) -> None: ...

    def dropped(self, route: str, seqs: tuple[int, ...]) -> None: ...

    def arrived(self, birth: Birth, accepted: Accepted) -> None: ...

    def version_of(self, route: str) -> str: ...

    async def pause(self, name: str, *, paused: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class Who:
    """The person behind an operation, and why."""

    actor: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Operations:
    store: Store
    clock: Clock
    live: Live | None = None

    # -- dead letters -------------------------------------------------------------------------------------------------
    async def retry(
        self, filter_: Filter, who: Who, *, stale: bool = False, dry_run: bool = False, rate: Rate | None = None
    ) -> list[dict[str, Any]]:
        """Queue dead messages again, oldest first; they keep id and delivery ids.

        A message whose key was delivered by a later one is skipped unless ``stale`` (which needs a reason): delivering it
        now would undo the newer state.
        """
        if stale and not who.reason:
            raise NotAllowed(
                "`--stale` needs a reason", hint='add --reason "why the old state may overwrite the newer one"'
            )
        results = []
        async for stored in self._paced(filter_, (State.DEAD,), rate):
            newer = self.store.newer_done(stored)
            if stored.state is not State.DEAD:
                results.append(_result(stored, "skipped", f"is {stored.state.value}, not dead"))
            elif newer is not None and not stale:
                results.append(
                    _result(
                        stored,
                        "skipped",
                        f"stale: {newer} of the same key was delivered; --stale with a reason retries it",
                    )
                )
            elif dry_run:
                results.append(_result(stored, "would retry"))
            else:
                detail = {"stale": True} if newer is not None else {}
                results.append(await self._retry(stored, audit_of("dlq.retry", stored, who, detail)))
        return results

    async def _retry(self, stored: Stored, entry: AuditEntry) -> dict[str, Any]:
        pending = await self.store.retry(stored.envelope.seq, entry, self.clock.now())
        if pending is None:
            return _result(stored, "skipped", "not dead any more")
        if self.live is not None:
            self.live.adopt(pending)
        await self._release(stored)
        return _result(stored, pending.state.value)

    async def discard(self, filter_: Filter, who: Who, *, dry_run: bool = False) -> list[dict[str, Any]]:
        """Give up dead or open messages for good; needs a reason. Their lanes go on."""
        _need_reason(who, "discard")
        results = []
        wanted = (State.DEAD,) if not filter_.states else filter_.states
        async for stored in self._paced(filter_, wanted, None):
            if stored.state is not State.DEAD and stored.state not in OPEN_STATES:
                results.append(_result(stored, "skipped", f"is {stored.state.value}"))
                continue
            if dry_run:
                results.append(_result(stored, "would discard"))
                continue
            done = await self.store.discard(stored.envelope.seq, audit_of("dlq.discard", stored, who), self.clock.now())
            if done:
                if self.live is not None:
                    self.live.dropped(stored.envelope.route, (stored.envelope.seq,))
                await self._release(stored)
            results.append(_result(stored, "discarded" if done else "skipped", "" if done else "it is running"))
        return results

    async def edit(self, id_: str, body: bytes, who: Who) -> dict[str, Any]:
        """Replace the payload of a dead message; the original stays in its trace. Needs a reason. Does not retry it."""
        _need_reason(who, "edit")
        stored = self._one(id_)
        if not await self.store.edit(stored.envelope.seq, body, audit_of("dlq.edit", stored, who), self.clock.now()):
            return _result(stored, "skipped", f"is {stored.state.value}, not dead")
        return _result(stored, "edited")

    async def _release(self, stored: Stored) -> None:
        envelope = stored.envelope
        if envelope.key is None:
            return
        seqs = await self.store.release_lane(envelope.route, envelope.scope, envelope.key)
        if self.live is not None:
            self.live.lane_released(envelope.route, envelope.scope, envelope.key, seqs)

    # -- replay -------------------------------------------------------------------------------------------------------
    async def replay(
        self, filter_: Filter, who: Who, *, dry_run: bool = False, rate: Rate | None = None
    ) -> list[dict[str, Any]]:
        """Make new messages from done or dead ones, linked by ``replay_of``, under the same delivery ids."""
        results = []
        wanted = filter_.states or (State.DONE, State.DEAD)
        blocked = set(self.store.blocked_lanes())
        chosen: set[str] = set()
        async for stored in self._paced(filter_, wanted, rate):
            envelope = stored.envelope
            chosen.add(envelope.id)
            if not filter_.ids and (envelope.replay_of is not None or envelope.parent_id in chosen):
                continue  # its original, or its parent, is replayed already: its deliveries come from there
            if stored.state not in (State.DONE, State.DEAD):
                why = f"is {stored.state.value}; only done or dead messages are replayed"
                results.append(_result(stored, "skipped", why))
            elif stored.state is State.DEAD and (envelope.route, envelope.scope, envelope.key) in blocked:
                why = "its key waits behind it; `esb dlq retry` sends it in its place"
                results.append(_result(stored, "skipped", why))
            elif dry_run:
                results.append(_result(stored, "would replay"))
            else:
                results.append(await self._replay(stored, who))
        return results

    async def _replay(self, stored: Stored, who: Who) -> dict[str, Any]:
        original, _ = self.store.payload(stored.envelope.seq)
        version = self.live.version_of(original.route) if self.live is not None else original.version
        birth = Births.of_replay(original, version, self.clock.now())
        # both are put into the same group of the committer: the new message and its audit stand or fall together
        accepting = self.store.accept(birth.new)
        auditing = self.store.audit(audit_of("replay", stored, who, {"new": birth.new.envelope.id}), self.clock.now())
        accepted = await accepting
        await auditing
        if self.live is not None:
            self.live.arrived(birth, accepted)
        return _result(stored, "replayed", new_id=accepted.id)

    # -- routes -------------------------------------------------------------------------------------------------------
    async def pause(self, route: str, who: Who, *, paused: bool) -> dict[str, Any]:
        """Stop (or go on) taking and working off a route's messages; kept over restarts."""
        entry = AuditEntry(who.actor, "route.pause" if paused else "route.resume", route, who.reason)
        await self.store.audit(entry, self.clock.now())
        if self.live is not None:
            await self.live.pause(route, paused=paused)
        else:
            await self.store.put_state("route", route, {"paused": True} if paused else None)
        return {"route": route, "result": "paused" if paused else "running"}

    # -- inside -------------------------------------------------------------------------------------------------------
    def _one(self, id_: str) -> Stored:
        stored = self.store.get(id_)
        if stored is None:
            raise NotAllowed(f"no message {id_}", hint="esb messages ls")
        return stored

    async def _paced(self, filter_: Filter, states: tuple[State, ...], rate: Rate | None) -> AsyncIterator[Stored]:
        """The messages an operator means, oldest first so that keys keep their order; unknown ids raise NotAllowed."""
        if filter_.ids:
            found = [self._one(id_) for id_ in filter_.ids]
            found.sort(key=lambda stored: stored.envelope.seq)
        else:
            found = self.store.find(replace(filter_, states=states, oldest_first=True))
        for index, stored in enumerate(found):
            if rate is not None and index:
                await self.clock.sleep(1.0 / rate.per_second)
            elif index % 50 == 49:
                await asyncio.sleep(0)
            yield stored


def audit_of(action: str, stored: Stored, who: Who, detail: dict[str, Any] | None = None) -> AuditEntry:
    """The audit entry of an action on a message."""
    envelope = stored.envelope
    about = {"route": envelope.route, "key": envelope.key, "state": stored.state.value, **(detail or {})}
    return AuditEntry(who.actor, action, envelope.id, who.reason, about)


def _need_reason(who: Who, what: str) -> None:
    if not who.reason.strip():
        raise NotAllowed(f"{what} needs a reason", hint='add --reason "…"; it is kept in the audit')


def _result(stored: Stored, result: str, why: str = "", new_id: str | None = None) -> dict[str, Any]:
    envelope = stored.envelope
    one = {"id": envelope.id, "route": envelope.route, "key": envelope.key, "result": result, "why": why}
    if new_id is not None:
        one["new_id"] = new_id
    return one
