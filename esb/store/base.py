"""What a store promises. One writer; every command is committed with an fsync before its future resolves.

Commands are grouped: all that arrive in one turn of the loop share one commit (at most 500). A failed commit fails
every command of its group and none of them took effect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from esb.errors import ErrorRecord
from esb.message import EMPTY, Envelope, State

# -- commands -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DedupeKey:
    """``space`` separates scopes (``dedupe`` of the route, ``source`` keys, one per ``dedupe`` step)."""

    space: str
    key: str
    expires_at: datetime
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to be stored.

    ``state`` is QUEUED, HELD, DEAD (refused by a contract) or DUPLICATE. ``source_key`` found again: nothing is stored and
    the first message is given back. ``dedupe`` found again (and not expired): stored as DUPLICATE, linked to the first.
    ``started`` stores it RUNNING with one attempt, for direct dispatch.
    """

    envelope: Envelope
    state: State = State.QUEUED
    dedupe: DedupeKey | None = None
    source_key: DedupeKey | None = None
    error: ErrorRecord | None = None
    started: bool = False
    #: an overtaking message: earlier messages of its lane in QUEUED, WAITING, HELD (and DEAD heads) become SUPERSEDED
    supersede: bool = False


@dataclass(frozen=True, slots=True)
class Accepted:
    """The answer to :class:`NewMessage`. ``state`` says what was stored; ``known`` that nothing was.

    ``first_id`` is the message that owns the dedupe or source key; ``conflict`` that the source key came with another
    fingerprint. ``superseded`` are the seqs that this message overtook.
    """

    seq: int
    id: str
    state: State
    known: bool = False
    first_id: str | None = None
    conflict: bool = False
    superseded: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A delivery for the ledger. ``value`` is small JSON: the reply, or what a step remembers."""

    step: str
    value: Any


@dataclass(frozen=True, slots=True)
class Settlement:
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


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who did what to which object, and why (SPEC promise 9). The store adds seq, time and the hash chain."""

    actor: str
    action: str  #: ``dlq.retry``, ``dlq.discard``, ``dlq.edit``, ``replay``, ``route.pause``, ``reload`` …
    object: str  #: message id, route name …
    reason: str = ""
    detail: Mapping[str, Any] = field(default=EMPTY)


@dataclass(frozen=True, slots=True)
class Pending:
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
            "version": e.version,
            "accepted_at": e.accepted_at.isoformat(),
            "finished_at": self.finished_at.isoformat() if self.finished_at else None,
            "due": self.due.isoformat() if self.due else None,
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
    correlation_id: str = ""
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


class Store(Protocol):
    """The one place where messages live. Commands give futures; queries run at once on a read connection.

    Raises StoreBusy (disk full, over a limit) and StoreCorrupt.
    """

    # commands: the future resolves after the commit
    def accept(self, new: NewMessage) -> asyncio.Future[Accepted]: ...

    def start(self, seq: int, attempts: int, at: datetime) -> asyncio.Future[bool]:
        """QUEUED or WAITING becomes RUNNING; counts a possible crash until the message is settled."""
        ...

    def confirm(self, seq: int, entry: Confirmed) -> asyncio.Future[None]:
        """Put a confirmed delivery into the ledger before the message is settled."""
        ...

    def settle(self, settlement: Settlement) -> asyncio.Future[tuple[Accepted, ...]]:
        """End an attempt; gives one :class:`Accepted` for each child."""
        ...

    def claim(self, space: str, key: str, seq: int, expires_at: datetime, now: datetime) -> asyncio.Future[bool]:
        """True if ``seq`` owns the key: it was free, expired, or ``seq``'s own already."""
        ...

    def put_state(self, space: str, name: str, value: Any) -> asyncio.Future[None]:
        """A source's durable memory; ``value`` None forgets."""
        ...

    def audit(self, entry: AuditEntry, at: datetime) -> asyncio.Future[None]: ...

    def retry(self, seq: int, audit: AuditEntry, at: datetime) -> asyncio.Future[Pending | None]:
        """DEAD becomes QUEUED (or HELD behind an older dead head of its lane); keeps id and ledger. None: not dead."""
        ...

    def discard(self, seq: int, audit: AuditEntry, at: datetime) -> asyncio.Future[bool]:
        """An open, not running, or dead message becomes DISCARDED."""
        ...

    def edit(self, seq: int, body: bytes, audit: AuditEntry, at: datetime) -> asyncio.Future[bool]:
        """A dead message gets a new payload; the original is kept as the first entry of its trace."""
        ...

    def release_lane(self, route: str, scope: str, key: str) -> asyncio.Future[tuple[int, ...]]:
        """HELD messages of a lane become QUEUED, unless an older dead message still blocks it; gives their seqs."""
        ...

    def save_version(self, route: str, version: str, source: Mapping[str, str], at: datetime) -> asyncio.Future[None]:
        """Keep what a version was made of (file name to text), so that its messages can be explained and drained."""
        ...

    # queries
    @property
    def open_for_intake(self) -> bool:
        """False while free disk space is below the watermark: settle, but take nothing new."""
        ...

    def blocked_lanes(self) -> list[tuple[str, str, str]]:
        """(route, scope, key) of every lane that has a dead message; whether it blocks is the route's ``order``."""
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
        """The id of a later message of the same lane that was delivered already, else None (the stale guard)."""
        ...

    def get_state(self, space: str, name: str) -> Any: ...

    def version(self, route: str, version: str) -> Mapping[str, str] | None: ...

    def audit_entries(self, limit: int = 1000, after: int = 0) -> list[dict[str, Any]]: ...

    def audit_head(self) -> tuple[int, str]:
        """Number and hash of the newest entry (0 and empty where there is none)."""
        ...

    def verify_audit(self) -> list[str]:
        """Faults in the chain, empty where it is whole."""
        ...

    async def close(self) -> None: ...
