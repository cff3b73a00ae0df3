"""What a store promises. One writer; every command is committed with an fsync before its future resolves.

Commands are grouped: all that arrive in one turn of the loop share one commit (at most 500). A failed commit fails
every command of its group and none of them took effect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

from esb.blob import Blob, Spool
from esb.errors import ErrorRecord, StoreError
from esb.message import EMPTY, PARKED, Envelope, State, short_version
from esb.store.connection import Answers

if TYPE_CHECKING:
    from esb.store.differences import Differences
    from esb.store.facts import Fact
    from esb.store.holds import Holds
    from esb.store.indicators import Indicators

# -- commands -----------------------------------------------------------------------------------------------------------


class DedupeKey(Struct, frozen=True):
    """``space`` separates scopes (``dedupe`` of the route, ``source`` keys, one per ``dedupe`` step)."""

    space: str
    key: str
    expires_at: datetime
    fingerprint: str = ""
    apart: bool = False  #: found with another fingerprint it is another message's, which gets a key made of both


class NewMessage(Struct, frozen=True, gc=False):
    """A message to be stored.

    ``state`` is QUEUED, HELD, DEAD (refused by a contract) or DUPLICATE. ``source_key`` found again: nothing is stored and
    the first message is given back. ``dedupe`` found again (and not expired): stored as DUPLICATE, linked to the first, but for what
    a replay makes again (the same ``origin``).
    ``started`` stores it RUNNING with one attempt, for direct dispatch, unless it is held or something is before it in its lane.
    """

    envelope: Envelope
    state: State = State.QUEUED
    dedupe: DedupeKey | None = None
    source_key: DedupeKey | None = None
    error: ErrorRecord | None = None
    started: bool = False
    #: an overtaking message: earlier messages of its lane in QUEUED, WAITING, HELD (and DEAD heads) become SUPERSEDED
    supersede: bool = False
    by: AuditEntry | None = None  #: a person made it (``replay``, ``send``): audited in the same transaction
    facts: Sequence[Fact] = ()  #: about indicators; those of the event that takes place are stored (``accepted`` …)
    #: its end (DONE, of the first attempt), where its steps were worked off before it is stored: a message that would be
    #: queued, and has nothing before it in its lane, is stored with this end at once; every other one as if it had none
    ending: Settlement | None = None
    beside: Sequence[NewMessage] = ()  #: what tells of one that is born DEAD: stored if it is, in the same transaction


class Accepted(Struct, frozen=True, gc=False):
    """The answer to :class:`NewMessage`. ``state`` says what was stored; ``known`` that nothing was.

    ``first_id`` is the message that owns the dedupe or source key; ``conflict`` that the source key came with another
    fingerprint. ``superseded`` are the seqs that this message overtook, ``children`` what was born of its ``ending`` or ``beside`` it.
    """

    seq: int
    id: str
    state: State
    known: bool = False
    first_id: str | None = None
    conflict: bool = False
    superseded: tuple[int, ...] = ()
    children: tuple[Accepted, ...] = ()


class NewPayload(Struct, frozen=True):
    """What :meth:`Store.absorb` makes of a message."""

    body: bytes
    content: str
    meta: Mapping[str, Any]
    vars: Mapping[str, Any] = EMPTY


class Confirmed(Struct, frozen=True):
    """A delivery for the ledger. ``value`` is small JSON: the reply, or what a step remembers. ``facts`` count once for it."""

    step: str
    value: Any
    facts: Sequence[Fact] = ()


class Settlement(Struct, frozen=True, gc=False):
    """The end of one attempt, with everything that must be true at the same instant.

    ``state``: DONE (with ``reason`` where filtered), WAITING (``due``), DEAD, EXPIRED, SUPERSEDED, QUEUED (given back at a
    shutdown). ``attempts`` is the number of attempts now used. ``ledger`` and ``trace`` are stored for the attempt;
    ``children`` are born with it. ``hold_lane`` turns the lane's later open messages into HELD (a dead head that blocks).
    """

    seq: int
    state: State
    attempts: int
    at: datetime
    due: datetime | None = None
    error: ErrorRecord | None = None
    reason: str = ""
    trace: Sequence[Mapping[str, Any]] = ()
    ledger: Sequence[Confirmed] = ()
    children: Sequence[NewMessage] = ()
    hold_lane: bool = False
    facts: Sequence[Fact] = ()  #: what this end says about indicators
    version: str = ""  #: the version that the attempt ran on, where the message was stored with another one
    told: Sequence[Confirmed] = ()  #: deliveries of one that is done: their facts count, the ledger needs them no more


class AuditEntry(Struct, frozen=True):
    """Who did what to which object, and why (SPEC promise 9). The store adds seq, time and the hash chain."""

    actor: str
    action: str  #: ``dlq.retry``, ``dlq.discard``, ``dlq.edit``, ``replay``, ``route.pause``, ``reload`` …
    object: str  #: message id, route name …
    reason: str = ""
    detail: Mapping[str, Any] = EMPTY


class Pending(Struct, frozen=True):
    """An open message as lanes know it: everything but the payload."""

    seq: int
    id: str
    route: str
    scope: str
    key: str | None
    state: State
    due: datetime | None
    attempts: int
    crashes: int
    accepted_at: datetime
    priority: int
    overtakes: bool
    version: str
    earlier: int = 0  #: attempts before a person retried it; ``attempts`` counts from there
    superseded: tuple[int, ...] = ()  #: what it overtook as a person let it in


@dataclass(frozen=True, slots=True)
class Stored:
    """A message with its fate, for people: what ``messages show`` and ``trace`` print."""

    envelope: Envelope
    state: State
    attempts: int
    finished_at: datetime | None
    due: datetime | None
    error: ErrorRecord | None
    reason: str
    trace: Sequence[Mapping[str, Any]]

    def as_item(self) -> dict[str, Any]:
        """The item of ``--json`` (SPEC section 4); instants are RFC 3339 UTC."""
        e = self.envelope
        return {
            "id": e.id,
            "route": e.route,
            "state": self.state.value,
            "key": e.key,
            "correlation_id": e.correlation_id,
            "parent_id": e.parent_id,
            "replay_of": e.replay_of,
            "duplicate_of": e.duplicate_of,
            "scope": e.scope,
            "version": short_version(e.version),
            "digest": e.version,
            "accepted_at": e.accepted_at.isoformat(),
            "finished_at": self.finished_at.isoformat() if self.finished_at else None,
            "due": self.due.isoformat() if self.due and self.due != PARKED else None,
            "attempts": self.attempts,
            "reason": self.reason,
            "error": self.error.as_dict() if self.error else None,
            "track": dict(e.track),
        }


@dataclass(frozen=True, slots=True)
class Filter:
    """Which messages a query or an operator means. Empty means all; ``ids`` wins over the rest.

    ``track`` pairs are all required. ``text`` searches id, key, correlation id and tracked values exactly (``trace KEY|ID``).
    """

    ids: tuple[str, ...] = ()
    route: str = ""
    states: tuple[State, ...] = ()
    key: str | None = None
    track: tuple[tuple[str, str], ...] = ()
    correlations: tuple[str, ...] = ()  #: any of them
    text: str = ""
    group: str = ""
    since: datetime | None = None
    until: datetime | None = None
    before_seq: int | None = None  #: paging: only messages accepted before this one
    oldest_first: bool = False
    limit: int = 100


@dataclass(frozen=True, slots=True)
class RouteCounts:
    """``accepted = sum(states) + purged``, at any instant."""

    route: str
    accepted: int
    states: Mapping[str, int]
    purged: int
    oldest_open: datetime | None


@dataclass(frozen=True, slots=True)
class DeadGroup:
    """Dead letters that look alike: same route, step, error class and message with its numbers and ids blanked."""

    id: str
    route: str
    step: str
    error_class: str
    message: str
    count: int
    oldest: datetime
    newest: datetime


SAME_AS = "="  #: in place of the texts of a version: the version that has the same

#: Space, name and value of what is kept in the transaction that moves a message, by the state that the message gets.
Memo = Callable[[State], tuple[str, str, Any]]


class Store(Answers, Protocol):
    """The one place where messages live. Commands give futures; queries run at once on a read connection. Raises
    StoreBusy (disk full, over a limit) and StoreCorrupt."""

    # commands: the future resolves after the commit
    def accept(self, new: NewMessage) -> asyncio.Future[Accepted]: ...

    def accept_then(self, new: NewMessage, then: Callable[[Accepted | StoreError], None]) -> None:
        """The same without a future: ``then`` hears the answer on the loop, at once after the commit."""
        ...

    def start(self, seq: int, attempts: int, at: datetime) -> asyncio.Future[bool]:
        """QUEUED or WAITING becomes RUNNING."""
        ...

    def start_then(self, seq: int, attempts: int, then: Callable[[bool | StoreError], None]) -> None:
        """The same without a future, as :meth:`accept_then`."""
        ...

    @property
    def works_ahead(self) -> bool:
        """Whether steps may be computed before their message is stored: not in a process that follows on one that died of steps."""
        ...

    def at_work(self, seq: int) -> None:
        """The process computes steps of ``seq`` from now on (0: of none); a death meanwhile counts as a crash of it.

        Never waits and never fails. A settlement to QUEUED or WAITING forgets the crashes of a message.
        """
        ...

    def confirm(self, seq: int, entry: Confirmed) -> asyncio.Future[None]:
        """Put a confirmed delivery into the ledger before the message is settled."""
        ...

    def bear(
        self, seq: int, children: Sequence[NewMessage], progress: Confirmed
    ) -> asyncio.Future[tuple[Accepted, ...] | None]:
        """Store children of a message that goes on running, and ``progress`` in its ledger; None, and nothing, where it is over."""
        ...

    def settle(self, settlement: Settlement) -> asyncio.Future[tuple[Accepted, ...]]:
        """End an attempt; gives one :class:`Accepted` for each child."""
        ...

    def settle_then(self, settlement: Settlement, then: Callable[[tuple[Accepted, ...] | StoreError], None]) -> None:
        """The same without a future, as :meth:`accept_then`."""
        ...

    def absorb(
        self, seq: int, id_: str, others: Sequence[int], payload: NewPayload, at: datetime
    ) -> asyncio.Future[bool]:
        """QUEUED or WAITING ``others`` become DONE, ``aggregated into`` the message, which gets another payload, at the same instant.
        False, and nothing is changed, where one of them is not queued (any more)."""
        ...

    def claim(self, space: str, key: str, seq: int, expires_at: datetime, now: datetime) -> asyncio.Future[bool]:
        """True if ``seq`` owns the key: it was free, expired, or its own already, or that of the one that a replay makes again."""
        ...

    def put_state(self, space: str, name: str, value: Any, audit: AuditEntry | None = None) -> asyncio.Future[None]:
        """Durable memory of a part of the bus; ``value`` None forgets. With the entry of the audit, if one is given."""
        ...

    def audit(self, entry: AuditEntry, at: datetime) -> asyncio.Future[None]: ...

    def put_access(
        self,
        kind: str,
        name: str,
        value: Mapping[str, Any] | None,
        before: Mapping[str, Any] | None,
        audit: AuditEntry,
        at: datetime,
    ) -> asyncio.Future[bool]:
        """Write a user, token or request (``value`` None removes it) with its audit entry.

        False, and nothing is written, where it is not (any more) what ``before`` says; None means that there is none yet.
        """
        ...

    def retry(
        self, seq: int, audit: AuditEntry, at: datetime, memo: Memo | None = None, admitted: NewMessage | None = None
    ) -> asyncio.Future[Pending | None]:
        """DEAD becomes QUEUED (or HELD behind an older dead head of its lane); keeps id and ledger. None: not dead.
        ``admitted`` says what it is now, where it was refused at the door. Raises KeyTaken."""
        ...

    def discard(self, seq: int, audit: AuditEntry, at: datetime) -> asyncio.Future[bool]:
        """An open, not running, or dead message becomes DISCARDED."""
        ...

    def edit(self, seq: int, body: bytes, audit: AuditEntry, at: datetime, before: str = "") -> asyncio.Future[bool]:
        """A dead message gets a new payload; its first one is kept in its trace. ``before``: SHA-256 that the old one must have."""
        ...

    def release_lane(self, route: str, scope: str, key: str) -> asyncio.Future[tuple[int, ...]]:
        """HELD messages of a lane become QUEUED, unless an older dead message still blocks it; gives their seqs."""
        ...

    def release_route(self, route: str) -> asyncio.Future[int]:
        """No dead message of the route blocks its key any more (`on_dead: skip`); its HELD ones become QUEUED, gives how many."""
        ...

    def save_version(self, route: str, version: str, source: Mapping[str, str], at: datetime) -> asyncio.Future[None]:
        """Keep what a version was made of (file name to text), so that its messages can be explained and drained."""
        ...

    def when_unheard(self, act: Callable[[], None]) -> None:
        """``act`` is called on the loop after open messages may have changed without a future that said so (a commit in doubt, a purge)."""
        ...

    def tracked(self, name: str, value: str, route: str, after_seq: int, whole: str) -> list[int]:
        """At most ten, newest first, with a tracked value, of any route if empty; no part of one of ``whole``: those have its values."""
        ...

    # large payloads
    def hold(self, seq: int, blob: Blob) -> asyncio.Future[None]:
        """The message keeps the file from now on."""
        ...

    def held(self, seq: int, sha256: str) -> Blob | None:
        """A file that the message keeps: its payload, what was put aside for it, or what its body or ``vars`` name."""
        ...

    @property
    def blobs(self) -> Spool:
        """Where payloads go that are too large for a row."""

    # queries
    @property
    def indicators(self) -> Indicators: ...

    @property
    def holds(self) -> Holds: ...

    @property
    def differences(self) -> Differences: ...

    @property
    def refusal(self) -> str:
        """Why nothing new is taken, empty while it is: no room, or a database that is away. Settlements are tried all the same."""
        ...

    def blocked_lanes(self) -> dict[tuple[str, str, str], int]:
        """(route, scope, key) of every lane that a dead message blocks, with the number of the oldest such message."""
        ...

    def pending(self, route: str | None = None, *, after_seq: int = 0, limit: int = 1_000_000) -> list[Pending]: ...

    def payload(self, seq: int) -> tuple[Envelope, Mapping[str, Any]]:
        """The envelope with its body, and the ledger (step to value)."""
        ...

    def get(self, id_: str, *, trace: bool = True) -> Stored | None: ...

    def find(self, filter_: Filter) -> list[Stored]:
        """Newest first; without bodies and traces (``get`` and ``payload`` have them). ``limit`` at most 10 000."""
        ...

    def children(self, ids: Sequence[str]) -> list[Stored]: ...

    def counts(self) -> list[RouteCounts]: ...

    def groups(self, filter_: Filter) -> list[DeadGroup]: ...

    def newer_done(self, stored: Stored) -> str | None:
        """The id of a later message of the same lane that was delivered, or that overtakes, else None (the stale guard)."""
        ...

    def arrivals(self, route: str, since: datetime, until: datetime, most: int) -> list[datetime]:
        """When the newest ``most`` messages came into a route from outside of it, later than ``since``; no duplicates, no replays."""
        ...

    def states(self, prefix: str, after: tuple[str, str], limit: int) -> list[tuple[str, str, Any]]:
        """Space, name and value of what is kept in spaces that begin so, in their order, behind the place ``after``."""
        ...

    def get_state(self, space: str, name: str) -> Any: ...

    def taken_under(self, route: str, key: str) -> str:
        """The id of the message that was accepted under a source key, empty where none was."""

    def access(self, kind: str) -> dict[str, dict[str, Any]]:
        """The records of a kind by name: ``user``, ``token``, ``request``."""

    def version(self, route: str, version: str) -> Mapping[str, str] | None:
        """The texts of a version; those of another one where it was saved with a ``SAME_AS`` to it."""

    def audit_entries(self, limit: int = 1000, after: int = 0) -> list[dict[str, Any]]: ...

    def audit_of(self, objects: Sequence[str]) -> list[dict[str, Any]]: ...

    def audit_head(self) -> tuple[int, str]:
        """Number and hash of the newest entry (0 and empty where there is none)."""
        ...

    def verify_audit(self) -> list[str]:
        """Faults in the chain, empty where it is whole."""
        ...

    def pause(self, route: str, audit: AuditEntry, at: datetime, *, paused: bool) -> asyncio.Future[None]:
        """Note that a route is paused or not; kept over restarts."""
        ...

    async def close(self) -> None: ...
