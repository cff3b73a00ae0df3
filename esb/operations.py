"""What people do to messages and routes: retry, edit, discard, replay, pause. Each writes the audit in its transaction.

The same commands serve the running bus (``live`` is its supervisor) and a stopped one (``live`` is None: the store under
its lock; messages become queued and run at the next start).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from msgspec import structs

from esb.clock import Clock
from esb.durations import Rate
from esb.errors import ConfigError, ErrorRecord, EsbError, KeyTaken
from esb.failpoints import pause as failpoint
from esb.formats.content_types import parse_content_type
from esb.formats.json import Json
from esb.message import EMPTY, OPEN_STATES, Envelope, State
from esb.observe.indicators import Observer
from esb.runtime.births import Birth, Births
from esb.runtime.sagas import rounds, unfinished
from esb.steps.split_stream import born_of
from esb.store.base import Accepted, AuditEntry, Filter, Memo, NewMessage, Pending, Store, Stored
from esb.store.chain import canonical
from esb.store.codes import ABSORBED

#: Why the payload of a message of which items are born stays as it is: what is next counts the items of this one.
_BORN = "{} of its items are messages of their own already: correct those that are dead, or discard it and send the corrected payload as a new one"


class NotAllowed(EsbError):
    """The operation needs something that was not given, such as a reason."""


class UnknownMessage(EsbError):
    """There is no message of that id."""


class Door(Protocol):
    """The way into the routes, as their files stand."""

    async def once_more(self, envelope: Envelope) -> NewMessage | None:
        """A message that was refused at the door, as its route would take it now: dead again where it still would not.
        None where there is no such route."""
        ...


class Live(Door, Protocol):
    """What operations tell the running bus."""

    def adopt(self, pending: Pending) -> None: ...

    def lane_released(self, route: str, scope: str, key: str, seqs: tuple[int, ...]) -> None: ...

    def dropped(self, route: str, seqs: tuple[int, ...]) -> None: ...

    def arrived(self, birth: Birth, accepted: Accepted) -> None: ...

    def version_of(self, route: str) -> str: ...

    def pause(self, name: str, *, paused: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class Who:
    """The person behind an operation, and why; ``detail`` is kept in the audit beside what the operation itself notes.

    A ``signature`` in it is tied to the record that is acted on.
    """

    actor: str
    reason: str = ""
    detail: Mapping[str, Any] = EMPTY


@dataclass(frozen=True, slots=True)
class Operations:
    store: Store
    clock: Clock
    live: Live | None = None
    observer: Observer = field(default_factory=Observer)
    door: Door | None = None  #: where nothing is live

    # -- dead letters -------------------------------------------------------------------------------------------------
    async def retry(
        self,
        filter_: Filter,
        who: Who,
        *,
        stale: bool = False,
        dry_run: bool = False,
        rate: Rate | None = None,
        memo: Memo | None = None,
    ) -> list[dict[str, Any]]:
        """Queue dead messages again, oldest first; they keep id and delivery ids. ``memo`` is kept with each.

        A message whose key was delivered, or which was overtaken, by a later one is skipped unless ``stale`` (which needs a reason): delivering it
        now would undo the newer state. One that was refused at the door passes it now (contract, key, dedupe), or stays dead.
        """
        if stale and not who.reason:
            raise NotAllowed(
                "`--stale` needs a reason", hint='add --reason "why the old state may overwrite the newer one"'
            )
        results = []
        async for found in self._paced(filter_, (State.DEAD,), None if dry_run else rate):
            stored, admitted = await self._at_the_door(found)
            newer = self.store.newer_done(stored)
            if stored.state is not State.DEAD:
                results.append(_result(stored, "skipped", _not_dead(stored)))
            elif isinstance(admitted, str):
                results.append(_result(stored, "skipped", admitted))
            elif newer is not None and not stale:
                results.append(
                    _result(
                        stored,
                        "skipped",
                        f"stale: {newer} of the same key was delivered or overtook it; --stale with a reason retries it",
                    )
                )
            elif (open_one := unfinished(self.store, stored)) is not None:
                reason = f"its compensation has not ended: {open_one}; let it end, or discard it, first"
                results.append(_result(stored, "skipped", reason))
            elif dry_run:
                results.append(_result(stored, "would retry"))
            else:
                detail = {"stale": True} if newer is not None else {}
                entry = self._entry("dlq.retry", stored, who, detail)
                results.append(await self._retry(stored, entry, memo, admitted))
        return results

    async def _at_the_door(self, stored: Stored) -> tuple[Stored, NewMessage | str | None]:
        """A message that was refused at the door, with what the door makes of it now, or why it stays out; None for the others."""
        if not refused_at_the_door(stored):
            return stored, None
        door = self.door or self.live
        envelope, _ = self.store.payload(stored.envelope.seq)
        try:
            admitted = await door.once_more(envelope) if door is not None else None
        except ConfigError:  # the others of a selection go on
            return stored, "it was refused at the door, and the files that say what may pass have faults: esb lint"
        if admitted is None:
            return stored, f"it was refused at the door, and route {envelope.route} is not there to look at it again"
        if admitted.error is not None:
            return stored, _refusal(admitted.error)
        found = admitted.envelope
        about = structs.replace(stored.envelope, key=found.key, track=found.track, overtakes=found.overtakes)
        return replace(stored, envelope=about), admitted

    async def _retry(
        self, stored: Stored, entry: AuditEntry, memo: Memo | None, admitted: NewMessage | None
    ) -> dict[str, Any]:
        try:
            pending = await self.store.retry(stored.envelope.seq, entry, self.clock.now(), memo, admitted)
        except KeyTaken as taken:
            return _result(stored, "skipped", f"a repeat: {taken}; discard it, or replay the other one")
        if pending is None:
            return _result(stored, "skipped", "not dead any more")
        await failpoint("retry.committed")
        if self.live is not None:
            self.live.dropped(stored.envelope.route, pending.superseded)
            self.live.adopt(pending)
        await self._release(stored)
        return _result(stored, pending.state.value)

    async def discard(self, filter_: Filter, who: Who, *, dry_run: bool = False) -> list[dict[str, Any]]:
        """Give up dead or open messages for good; needs a reason, unless it only looks. Their lanes go on."""
        if not dry_run:
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
            done = await self.store.discard(
                stored.envelope.seq, self._entry("dlq.discard", stored, who), self.clock.now()
            )
            if done:
                if self.live is not None:
                    self.live.dropped(stored.envelope.route, (stored.envelope.seq,))
                await self._release(stored)
            results.append(_result(stored, "discarded") if done else self._missed(stored))
        return results

    async def edit(self, id_: str, body: bytes, who: Who, *, replaces: str = "") -> dict[str, Any]:
        """Replace the payload of a dead message; the original stays in its trace. Needs a reason. Does not retry it.

        ``replaces`` is the SHA-256 of the payload that the new one was made from: what somebody else made of it meanwhile is
        not undone, nor is a payload changed of which items were born one by one. Raises Invalid for a new payload that is no JSON where the message is JSON: a retry could only end dead again.
        """
        _need_reason(who, "edit")
        stored = self._one(id_)
        before, ledger = self.store.payload(stored.envelope.seq)
        if born := born_of(ledger):
            return _result(stored, "skipped", _BORN.format(born))
        media = parse_content_type(str(before.meta.get("content_type") or ""))[0]
        if before.content in ("json", "packed") or (before.content == "source" and media.endswith(("/json", "+json"))):
            Json().decode(body)
        now = payload_hash(before)
        if replaces not in ("", now):
            return self._missed(stored)
        entry = self._entry("dlq.edit", stored, who, edit_of(before.body if before.blob is None else None, body))
        if not await self.store.edit(stored.envelope.seq, body, entry, self.clock.now(), now):
            return self._missed(stored)
        return _result(stored, "edited")

    def _missed(self, stored: Stored) -> dict[str, Any]:
        """Nothing was done to a message that is not what it was any more: what became of it."""
        id_ = stored.envelope.id
        is_now = self.store.get(id_, trace=False)
        if is_now is None:
            return _result(stored, "skipped", "retention removed it")
        if is_now.state is not State.DEAD:
            return _result(is_now, "skipped", "it runs" if is_now.state is State.RUNNING else _not_dead(is_now))
        edits = [entry["actor"] for entry in self.store.audit_of([id_]) if entry["action"] == "dlq.edit"]
        why = f"{edits[-1] if edits else 'somebody'} edited it meanwhile: look at it again"
        return _result(is_now, "skipped", why)

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
        """Make new messages from done or dead ones, linked by ``replay_of``, under the same delivery ids.

        A superseded one only by its id and with a reason: it becomes the newest state of its key again.
        """
        results = []
        wanted = filter_.states or (State.DONE, State.DEAD)
        blocked = self.store.blocked_lanes()
        chosen: set[str] = set()
        async for stored in self._paced(filter_, wanted, None if dry_run else rate):
            envelope = stored.envelope
            chosen.add(envelope.id)
            if not filter_.ids and (envelope.replay_of is not None or envelope.parent_id in chosen):
                continue  # its original, or its parent, is replayed already: its deliveries come from there
            overtaken = bool(filter_.ids) and stored.state is State.SUPERSEDED
            if overtaken and not who.reason:
                why = "a later message overtook it, so a new one of it may undo the newer state: that needs --reason"
                results.append(_result(stored, "skipped", why))
            elif stored.state not in (State.DONE, State.DEAD) and not overtaken:
                why = f"is {stored.state.value}; only done or dead messages are replayed"
                results.append(_result(stored, "skipped", why))
            elif stored.state is State.DEAD and (envelope.route, envelope.scope, envelope.key) in blocked:
                why = "its key waits behind it; `esb dlq retry` sends it in its place"
                results.append(_result(stored, "skipped", why))
            elif refused_at_the_door(stored):
                why = (
                    "it was refused at the door, so nothing of it was ever done; `esb dlq retry` has it looked at again"
                )
                results.append(_result(stored, "skipped", why))
            elif stored.reason.startswith(ABSORBED):
                why = f"it is a part of {stored.reason.removeprefix(ABSORBED)}, which is replayed as a whole"
                results.append(_result(stored, "skipped", why))
            elif envelope.content == "removed":
                results.append(_result(stored, "skipped", "retention has taken its payload away"))
            elif dry_run:
                results.append(_result(stored, "would replay"))
            else:
                results.append(await self._replay(stored, who))
        return results

    async def _replay(self, stored: Stored, who: Who) -> dict[str, Any]:
        original, ledger = self.store.payload(stored.envelope.seq)
        original = structs.replace(original, origin=original.origin + rounds(ledger))
        version = self.live.version_of(original.route) if self.live is not None else original.version
        birth = Births.of_replay(original, version, self.clock.now())
        entry = self._entry("replay", stored, who, {"new": birth.new.envelope.id})
        facts = self.observer.replayed(birth.new.envelope)
        birth = structs.replace(birth, new=structs.replace(birth.new, by=entry, facts=facts))
        accepted = await self.store.accept(birth.new)
        if self.live is not None:
            self.live.arrived(birth, accepted)
        return _result(stored, "replayed", new_id=accepted.id)

    # -- routes -------------------------------------------------------------------------------------------------------
    async def pause(self, route: str, who: Who, *, paused: bool) -> dict[str, Any]:
        """Stop (or go on) taking and working off a route's messages; kept over restarts."""
        action, version = (
            ("route.pause" if paused else "route.resume"),
            self.live.version_of(route) if self.live else "",
        )
        entry = AuditEntry(who.actor, action, route, who.reason, signed(who, {"route": route, "version": version}))
        await self.store.pause(route, entry, self.clock.now(), paused=paused)
        if self.live is not None:
            self.live.pause(route, paused=paused)
        return {"route": route, "result": "paused" if paused else "running"}

    # -- inside -------------------------------------------------------------------------------------------------------
    def _entry(self, action: str, stored: Stored, who: Who, detail: Mapping[str, Any] | None = None) -> AuditEntry:
        """The audit entry of an action on a message; the record of a signature is the message with its payload."""
        envelope = stored.envelope
        about = {"route": envelope.route, "key": envelope.key, "state": stored.state.value, **(detail or {})}
        if who.detail:
            record = self.record_of(stored) if "signature" in who.detail else {}
            about |= signed(who, record)
        return AuditEntry(who.actor, action, envelope.id, who.reason, about)

    def record_of(self, stored: Stored) -> dict[str, Any]:
        """What a signature is about: which message, in which state, with which payload."""
        envelope, _ = self.store.payload(stored.envelope.seq)
        about = {"id": envelope.id, "route": envelope.route, "state": stored.state.value}
        return {**about, "payload": payload_hash(envelope)}

    def _one(self, id_: str) -> Stored:
        stored = self.store.get(id_)
        if stored is None:
            raise UnknownMessage(f"no message {id_}", hint="esb messages ls")
        return stored

    async def _paced(self, filter_: Filter, states: tuple[State, ...], rate: Rate | None) -> AsyncIterator[Stored]:
        """The messages an operator means, oldest first so that keys keep their order; unknown ids raise UnknownMessage."""
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


def signed(who: Who, record: Mapping[str, Any]) -> dict[str, Any]:
    """The detail of an audit entry, its signature (if there is one) tied to the record: its hash stands in it."""
    detail = dict(who.detail)
    if "signature" in detail:
        digest = hashlib.sha256(canonical(record).encode("utf-8", "replace")).hexdigest()
        detail["signature"] = {**detail["signature"], "record": digest}
    return detail


def payload_hash(envelope: Envelope) -> str:
    """The SHA-256 of a payload as it is stored."""
    return envelope.blob.sha256 if envelope.blob is not None else hashlib.sha256(envelope.body).hexdigest()


def refused_at_the_door(stored: Stored) -> bool:
    """Whether the contract of its source, or the key, dedupe or tracked values of its route, made it a dead letter: it was
    never worked on, and has no place in any order."""
    error = stored.error
    return stored.state is State.DEAD and stored.attempts == 0 and error is not None and error.step == "source"


def _refusal(error: ErrorRecord) -> str:
    """Why a message stays out, without a value of its payload: who may retry it need not be one who may see it."""
    if error.error_class == "expired":
        return error.message
    where = ", ".join(violation.pointer or "the whole body" for violation in error.violations[:5])
    more = f", and {len(error.violations) - 5} more" if len(error.violations) > 5 else ""
    return f"the door refuses it still: {error.error_class}{f' at {where}{more}' if where else ''}; `esb dlq show` says more"


#: Pointers to what an edit changed, at most, in its entry of the audit.
MOST_CHANGED = 20


def edit_of(before: bytes | None, after: bytes) -> dict[str, Any]:
    """What the audit keeps of an edit: the hash of the new payload, and pointers to what changed in JSON. The values stay in the
    trace of the message, where they are masked; ``before`` is None for a payload in a file."""
    found: dict[str, Any] = {"payload": hashlib.sha256(after).hexdigest()}
    if before is None:
        return found
    found["replaced"] = hashlib.sha256(before).hexdigest()
    try:
        changed = sorted(set(_changed(Json().decode(before), Json().decode(after), "")))
    except EsbError:
        return found  # no JSON: the hashes say that it changed
    more = {"more_changed": len(changed) - MOST_CHANGED} if len(changed) > MOST_CHANGED else {}
    return {**found, "changed": changed[:MOST_CHANGED], **more}


def _changed(before: Any, after: Any, at: str) -> Iterator[str]:
    """JSON pointers to the places where two values differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in before.keys() | after.keys():
            place = f"{at}/{str(name).replace('~', '~0').replace('/', '~1')}"
            if name in before and name in after:
                yield from _changed(before[name], after[name], place)
            else:
                yield place
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _changed(one, other, f"{at}/{index}")
    elif type(before) is not type(after) or before != after:
        yield at


def _not_dead(stored: Stored) -> str:
    """Why a message is left that is no dead letter, and what to type instead where there is something."""
    if stored.state is not State.SUPERSEDED:
        return f"is {stored.state.value}, not dead"
    again = f"`esb replay {stored.envelope.id} --reason …` makes a new message of it"
    return f"is superseded, not dead: a later message overtook it; {again}"


def _need_reason(who: Who, what: str) -> None:
    if not who.reason.strip():
        raise NotAllowed(f"{what} needs a reason", hint='add --reason "…"; it is kept in the audit')


def _result(stored: Stored, result: str, why: str = "", new_id: str | None = None) -> dict[str, Any]:
    envelope = stored.envelope
    one = {"id": envelope.id, "route": envelope.route, "key": envelope.key, "result": result, "why": why}
    if new_id is not None:
        one["new_id"] = new_id
    return one
