"""Which message may run now: one lane per (scope, key), whose head alone is runnable.

Lanes are a cache of committed rows; they are rebuilt from the store at start. Nothing here decides a message's fate.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Container, Iterable, Iterator
from datetime import datetime, timedelta

from msgspec import Struct

from esb.message import PARKED, Envelope, Message, State
from esb.store.base import Pending

LaneId = tuple[str, str]


class Entry(Struct, eq=False):
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
    parked: bool = False  #: it waits for another version of the route
    bound: bool = False  #: it stays on its version, as what it belongs to (a group, a sequence, a saga) began there
    was: str = ""  #: the version that it is stored with, while it runs on another one
    moved: bool = False  #: it was released onto a newer version than the one that it began on
    seen: int = 0  #: messages of its lane, itself included, when it looked for the parts of its group
    rank: int | None = None  #: its number in a sequence, which goes before the order of acceptance
    superseded: bool = False  #: an overtaking message came while it ran
    over: bool = False  #: it was too old while it was held: it ends where it stands
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
            # one that the store has as running although nobody knows of it: the attempt that it counts did not happen
            attempts=pending.attempts - (pending.state is State.RUNNING),
            started=pending.state is State.RUNNING,
            earlier=pending.earlier,
            crashes=pending.crashes,
            overtakes=pending.overtakes,
            due=None if pending.due == PARKED else pending.due,  # after a start the table may have its row
        )


class _Lane(Struct, eq=False):
    entries: list[Entry] = []  #: in order of acceptance, overtaking ones first
    limit: int = 0  #: the dead message that it waits behind: nothing from this number on runs; 0 where there is none

    def may_run(self, entry: Entry) -> bool:
        return self.entries[0] is entry and (not self.limit or entry.seq < self.limit)


class Lanes:
    """The open messages of one route. ``ends`` says when one is too old, which ends it also where a dead message holds it."""

    def __init__(self, ends: Callable[[Entry], datetime | None] = lambda entry: None) -> None:
        self._ends_at = ends
        self._ends: list[tuple[datetime, int, Entry]] = []  #: of held messages
        self._lanes: dict[LaneId, _Lane] = {}
        self._ready: list[tuple[int, Entry]] = []  #: by number: comparing those costs no call
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
        return known is not None and known.limit > 0

    def blocked(self) -> list[LaneId]:
        """The lanes that a dead message blocks."""
        return [lane_id for lane_id, lane in self._lanes.items() if lane.limit]

    def is_free(self, lane: LaneId | None) -> bool:
        """Whether a message of this lane, accepted now, would be its head."""
        return lane is None or lane not in self._lanes

    @property
    def waits(self) -> bool:
        """Whether a message may be runnable."""
        return bool(self._ready)

    @property
    def ready(self) -> int:
        """Messages that may be runnable, at most."""
        return len(self._ready)

    @property
    def rest(self) -> bool:
        """Whether no message may be runnable, now or by its time alone."""
        return not (self._ready or self._due or self._ends)

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
        if lane.limit:
            self._grow_old(lane, entry)

    @staticmethod
    def _place(entries: list[Entry], entry: Entry) -> int:
        """Behind what runs, overtaking ones before the others, each of them in order of acceptance, or of their numbers."""
        if entry.rank is not None:
            for index, other in enumerate(entries):
                if not other.running and other.rank is not None and (other.rank, other.seq) > (entry.rank, entry.seq):
                    return index
            return len(entries)
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
                entry.due, entry.parked = None, False
                heapq.heappush(self._ready, (entry.seq, entry))
        while self._ends and self._ends[0][0] <= now:
            _, _, entry = heapq.heappop(self._ends)
            end = None if entry.gone or entry.running or entry.over else self._ends_at(entry)
            if end is not None and end > now:  # the route has another `ttl` by now
                heapq.heappush(self._ends, (end, entry.seq, entry))
            elif end is not None:
                entry.over, entry.due, entry.parked = True, None, False
                heapq.heappush(self._ready, (entry.seq, entry))

    def take(self) -> Entry | None:
        """The next runnable message, now marked running; None where there is none."""
        while self._ready:
            _, entry = heapq.heappop(self._ready)
            if entry.gone or entry.running or entry.due is not None:
                continue
            lane = self._lanes.get(entry.lane) if entry.lane is not None else None
            if lane is not None and not (entry.over or lane.may_run(entry)):
                continue
            entry.running = True
            return entry
        return None

    @property
    def next_due(self) -> datetime | None:
        for heap in (self._due, self._ends):
            while heap and heap[0][2].gone:
                heapq.heappop(heap)
        return min((heap[0][0] for heap in (self._due, self._ends) if heap), default=None)

    # -- after an attempt ---------------------------------------------------------------------------------------------
    def finish(self, entry: Entry) -> None:
        """The message has ended; the next of its lane may run."""
        entry.running = False
        self._remove(entry)

    def park(self, entry: Entry, due: datetime, *, parked: bool = False) -> None:
        """The message waits; its lane waits with it. A ``parked`` one waits for :meth:`release`, at most until ``due``."""
        entry.running = False
        entry.due = due
        entry.parked = parked
        entry.message = None
        entry.envelope = None
        self._offer(entry)
        lane = self._lanes.get(entry.lane) if entry.rank is not None and entry.lane is not None else None
        if lane is not None:  # lower numbers may have come while it ran
            lane.entries.remove(entry)
            lane.entries.insert(self._place(lane.entries, entry), entry)
            if lane.entries[0] is not entry:
                self._offer_head(lane)

    def release(self, version: str, blocks: Container[str]) -> None:
        """Make the parked messages runnable, on this version where it has their block."""
        for entry in self._open.values():
            if entry.parked and not entry.bound:
                if not entry.scope or entry.scope in blocks:
                    entry.version, entry.moved = version, True
                self._rouse(entry)

    def head(self, lane_id: LaneId | None) -> Entry | None:
        """The message of a lane that the others wait behind."""
        lane = self._lanes.get(lane_id) if lane_id is not None else None
        return lane.entries[0] if lane is not None and lane.entries else None

    def behind(self, entry: Entry) -> list[Entry]:
        """The messages behind the head of a lane, in their order."""
        lane = self._lanes.get(entry.lane) if entry.lane is not None else None
        return [] if lane is None or lane.entries[0] is not entry else lane.entries[1:]

    def rouse(self, lane_id: LaneId | None, may_be: Callable[[int], bool]) -> None:
        """Make a parked head runnable where its lane has changed since it looked, so that it may have what it waits for."""
        lane = self._lanes.get(lane_id) if lane_id is not None else None
        if lane is None or not lane.entries:
            return
        head, count = lane.entries[0], len(lane.entries)
        if head.parked and head.seen != count and may_be(count):
            self._rouse(head)

    def look(self, lane_id: LaneId | None) -> None:
        """Make a parked head runnable: what it waits for may be there."""
        lane = self._lanes.get(lane_id) if lane_id is not None else None
        if lane is not None and lane.entries and lane.entries[0].parked:
            self._rouse(lane.entries[0])

    def _rouse(self, entry: Entry) -> None:
        entry.due, entry.parked = None, False
        heapq.heappush(self._ready, (entry.seq, entry))

    def shift(self, by: timedelta, now: datetime) -> None:
        """Move every wait: the clock was set to ``now``, and the waits go by it. Nothing was accepted later than that."""
        for entry in self._open.values():
            entry.accepted_at = min(entry.accepted_at, now)
            if entry.due is not None and entry.due != PARKED:
                entry.due += by
        self._due = [(one.due, one.seq, one) for _, _, one in self._due if one.due is not None and not one.gone]
        heapq.heapify(self._due)
        self.age_anew()

    def give_back(self, entry: Entry) -> None:
        """The attempt did not happen (a shutdown); the message is runnable again."""
        entry.running = False
        heapq.heappush(self._ready, (entry.seq, entry))

    def die(self, entry: Entry, *, block: bool) -> None:
        """The message is dead; its lane blocks or goes on."""
        entry.running = False
        lane_id = entry.lane
        if block and lane_id is not None:
            self.block(lane_id, entry.seq)
        self._remove(entry)

    # -- from outside -------------------------------------------------------------------------------------------------
    def block(self, lane_id: LaneId, seq: int) -> None:
        """Nothing of the lane that was accepted with ``seq`` or later runs; what is older may."""
        lane = self._lanes.setdefault(lane_id, _Lane())
        if not lane.limit or seq < lane.limit:
            lane.limit = seq
            self._grow_old(lane, *lane.entries)

    def unblock(self, lane_id: LaneId, limit: int = 0) -> None:
        """The lane goes on, up to the next dead message that blocks it where there is one."""
        lane = self._lanes.get(lane_id)
        if lane is None:
            return
        lane.limit = limit
        if not lane.entries and not limit:
            del self._lanes[lane_id]
            return
        self._grow_old(lane, *lane.entries)
        self._offer_head(lane)
        self.look(lane_id)

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

    def age_anew(self) -> None:
        """Another version of the route has another idea of when a message is too old."""
        self._ends.clear()
        for lane in self._lanes.values():
            self._grow_old(lane, *lane.entries)

    # -- inside -------------------------------------------------------------------------------------------------------
    def _offer(self, entry: Entry) -> None:
        if entry.running:
            return
        if entry.due == PARKED:
            return
        if entry.due is not None:
            heapq.heappush(self._due, (entry.due, entry.seq, entry))
        else:
            heapq.heappush(self._ready, (entry.seq, entry))

    def _offer_head(self, lane: _Lane) -> None:
        if lane.entries and lane.may_run(lane.entries[0]):
            self._offer(lane.entries[0])

    def _grow_old(self, lane: _Lane, *entries: Entry) -> None:
        """Those of them that the lane holds end when they are too old; the others find out when it is their turn."""
        for entry in entries if lane.limit else ():
            if entry.seq >= lane.limit and not entry.running and (end := self._ends_at(entry)) is not None:
                heapq.heappush(self._ends, (end, entry.seq, entry))

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
        elif not lane.limit:
            del self._lanes[lane_id]
