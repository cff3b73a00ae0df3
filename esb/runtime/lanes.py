"""Which message may run now: one lane per (scope, key), whose head alone is runnable.

Lanes are a cache of committed rows; they are rebuilt from the store at start. Nothing here decides a message's fate.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from esb.message import Envelope, Message
from esb.store.base import Pending

LaneId = tuple[str, str]


@dataclass(slots=True, eq=False)
class Entry:
    """An open message in memory. ``message`` is its decoded form while it is fresh; otherwise the store is asked."""

    seq: int
    id: str
    scope: str
    key: str | None
    accepted_at: datetime
    version: str
    attempts: int = 0
    earlier: int = 0  #: attempts before a person retried it
    crashes: int = 0
    overtakes: bool = False
    size: int = 0
    due: datetime | None = None
    envelope: Envelope | None = None
    message: Message | None = None
    running: bool = False
    started: bool = False  #: the store knows already that it runs
    superseded: bool = False  #: an overtaking message came while it ran
    gone: bool = False  #: it left the lanes while a heap still names it

    def __lt__(self, other: Entry) -> bool:
        return self.seq < other.seq

    @property
    def lane(self) -> LaneId | None:
        return None if self.key is None else (self.scope, self.key)

    @classmethod
    def of(cls, pending: Pending) -> Entry:
        return cls(
            seq=pending.seq,
            id=pending.id,
            scope=pending.scope,
            key=pending.key,
            accepted_at=pending.accepted_at,
            version=pending.version,
            attempts=pending.attempts,
            earlier=pending.earlier,
            crashes=pending.crashes,
            overtakes=pending.overtakes,
            due=pending.due,
        )


@dataclass(slots=True)
class _Lane:
    entries: list[Entry] = field(default_factory=list)  #: in order of acceptance, overtaking ones first
    blocked: bool = False  #: behind a dead message


class Lanes:
    """The open messages of one route."""

    def __init__(self) -> None:
        self._lanes: dict[LaneId, _Lane] = {}
        self._ready: list[Entry] = []
        self._due: list[tuple[datetime, int, Entry]] = []
        self._open: dict[int, Entry] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._open.values())

    def get(self, seq: int) -> Entry | None:
        return self._open.get(seq)

    def is_blocked(self, lane: LaneId | None) -> bool:
        known = self._lanes.get(lane) if lane is not None else None
        return known is not None and known.blocked

    def is_free(self, lane: LaneId | None) -> bool:
        """Whether a message of this lane, accepted now, would be its head."""
        return lane is None or lane not in self._lanes

    # -- coming -------------------------------------------------------------------------------------------------------
    def add(self, entry: Entry) -> None:
        """Take up an open message; it becomes runnable when it is the head of its lane and due."""
        if entry.seq in self._open:
            return
        self._open[entry.seq] = entry
        self.bytes += entry.size
        lane_id = entry.lane
        if lane_id is None:
            self._offer(entry)
            return
        lane = self._lanes.setdefault(lane_id, _Lane())
        lane.entries.insert(self._place(lane.entries, entry), entry)
        self._offer_head(lane)

    @staticmethod
    def _place(entries: list[Entry], entry: Entry) -> int:
        """Behind what runs, overtaking ones before the others, each of them in order of acceptance."""
        if not entry.overtakes and (not entries or entries[-1].seq < entry.seq):
            return len(entries)
        for index, other in enumerate(entries):
            if other.running or (other.overtakes and not entry.overtakes):
                continue
            if (entry.overtakes and not other.overtakes) or other.seq > entry.seq:
                return index
        return len(entries)

    # -- going to run -------------------------------------------------------------------------------------------------
    def wake(self, now: datetime) -> None:
        """Make those runnable whose time has come."""
        while self._due and self._due[0][0] <= now:
            _, _, entry = heapq.heappop(self._due)
            if not entry.gone and not entry.running and entry.due is not None and entry.due <= now:
                entry.due = None
                heapq.heappush(self._ready, entry)

    def take(self) -> Entry | None:
        """The next runnable message, now marked running; None where there is none."""
        while self._ready:
            entry = heapq.heappop(self._ready)
            if entry.gone or entry.running or entry.due is not None:
                continue
            lane = self._lanes.get(entry.lane) if entry.lane is not None else None
            if lane is not None and (lane.blocked or lane.entries[0] is not entry):
                continue
            entry.running = True
            return entry
        return None

    @property
    def next_due(self) -> datetime | None:
        while self._due and self._due[0][2].gone:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    # -- after an attempt ---------------------------------------------------------------------------------------------
    def finish(self, entry: Entry) -> None:
        """The message has ended; the next of its lane may run."""
        entry.running = False
        self._remove(entry)

    def park(self, entry: Entry, due: datetime) -> None:
        """The message waits; its lane waits with it."""
        entry.running = False
        entry.due = due
        entry.message = None
        entry.envelope = None
        heapq.heappush(self._due, (due, entry.seq, entry))

    def give_back(self, entry: Entry) -> None:
        """The attempt did not happen (a shutdown); the message is runnable again."""
        entry.running = False
        heapq.heappush(self._ready, entry)

    def die(self, entry: Entry, *, block: bool) -> None:
        """The message is dead; its lane blocks or goes on."""
        entry.running = False
        lane_id = entry.lane
        if block and lane_id is not None:
            self._lanes.setdefault(lane_id, _Lane()).blocked = True
        self._remove(entry)

    # -- from outside -------------------------------------------------------------------------------------------------
    def block(self, lane: LaneId) -> None:
        self._lanes.setdefault(lane, _Lane()).blocked = True

    def unblock(self, lane_id: LaneId) -> None:
        lane = self._lanes.get(lane_id)
        if lane is None:
            return
        lane.blocked = False
        if not lane.entries:
            del self._lanes[lane_id]
            return
        self._offer_head(lane)

    def drop(self, seqs: Iterable[int]) -> None:
        """Messages that were superseded or discarded; a running one is told so instead."""
        for seq in seqs:
            entry = self._open.get(seq)
            if entry is None:
                continue
            if entry.running:
                entry.superseded = True
            else:
                self._remove(entry)

    def supersede_running(self, lane_id: LaneId, seq: int) -> None:
        """Tell the running message of a lane that a newer one overtook it."""
        lane = self._lanes.get(lane_id)
        for entry in lane.entries if lane is not None else ():
            if entry.running and entry.seq < seq:
                entry.superseded = True

    # -- inside -------------------------------------------------------------------------------------------------------
    def _offer(self, entry: Entry) -> None:
        if entry.running:
            return
        if entry.due is not None:
            heapq.heappush(self._due, (entry.due, entry.seq, entry))
        else:
            heapq.heappush(self._ready, entry)

    def _offer_head(self, lane: _Lane) -> None:
        if lane.entries and not lane.blocked:
            self._offer(lane.entries[0])

    def _remove(self, entry: Entry) -> None:
        if self._open.pop(entry.seq, None) is None:
            return
        entry.gone = True
        self.bytes -= entry.size
        lane_id = entry.lane
        if lane_id is None:
            return
        lane = self._lanes.get(lane_id)
        if lane is None:
            return
        if entry in lane.entries:
            lane.entries.remove(entry)
        if lane.entries:
            self._offer_head(lane)
        elif not lane.blocked:
            del self._lanes[lane_id]
