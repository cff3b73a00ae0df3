"""Keeps the trends: looks at counters that exist anyway, twice a minute or when somebody asks, and keeps the differences.

A message costs nothing more for it. A death of the process loses the numbers of at most the last half minute, never a message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from esb.clock import Clock
from esb.config.model import Workspace
from esb.errors import EsbError
from esb.message import OPEN_STATES
from esb.observe.indicators import Observer
from esb.observe.kpis import Tally
from esb.observe.trends import (
    ACCEPTED,
    BUS,
    KEPT,
    KEPT_LONG,
    PER_HOUR,
    PREFIX,
    Slot,
    StoredRows,
    hour_of,
    name_of,
    slot_of,
    space_of,
)
from esb.runtime.rounds import Rounds
from esb.store.base import RouteCounts, Store

#: Seconds between two looks, and between two for people who ask, however many they are.
ROUND, SHORTEST = 30.0, 5.0
#: Rounds between two looks for rows that are too old.
HOURLY = 120
#: Rows of a series that are forgotten at once.
CHUNK = 48

#: Behind every name that a row may have.
LAST = "\U0010ffff"

Times = tuple[int, ...]
Key = tuple[str, int]  #: series and hour


class Counting(Protocol):
    """What the trends look at in the running bus."""

    @property
    def workspace(self) -> Workspace: ...

    @property
    def observer(self) -> Observer: ...


@dataclass(slots=True)
class _Seen:
    """What the counters said of a route at the last look; they only rise."""

    accepted: int = 0
    done: int = 0
    failed: int = 0
    times: Times = ()


@dataclass(slots=True)
class Trends:
    """Implements :class:`esb.observe.trends.Rows` for a running bus: rows of the store, and over them what is not written yet."""

    store: Store
    clock: Clock
    bus: Counting
    log: Callable[..., None]
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _rows: dict[Key, dict[Any, Any]] = field(default_factory=dict)
    _changed: set[Key] = field(default_factory=set)
    _looked: float | None = None
    _rounds: Rounds | None = None
    _number: int = 0

    # -- life ---------------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Everything that is counted after this call is seen. The current hour goes on where it was left."""
        self.begin()
        self._rounds = Rounds("trends", ROUND, self.round, self.clock, self.log, store=self.store)
        self._rounds.start()

    def begin(self) -> None:
        for count in self.store.counts():
            self._seen[count.route] = _Seen(accepted=count.accepted)

    async def stop(self) -> None:
        """Write what is not written yet; call it when nothing is at work any more."""
        if self._rounds is not None:
            await self._rounds.stop()
            try:
                self.look()
                await self._write()
            except EsbError as error:  # a full disk must not keep the store from being closed
                self.log("warning", "trends.failed", error=str(error))

    async def round(self) -> None:
        """Look, write what has changed, and now and then forget what is too old."""
        self.look()
        await self._write()
        if self._number % HOURLY == 0:
            await self.forget(self.clock.now())
        self._number += 1

    # -- reading ------------------------------------------------------------------------------------------------------
    def rows(self, series: str, since: datetime) -> dict[int, Any]:
        """As of now: what counters say is taken in first, at most every five seconds."""
        if self._looked is not None and self.clock.monotonic() - self._looked >= SHORTEST:
            self.look()
        found = StoredRows(self.store).rows(series, since)
        first = hour_of(since)
        fresh = {hour: _packed(own, row) for (own, hour), row in self._rows.items() if own == series and hour >= first}
        return {**found, **fresh}

    # -- looking ------------------------------------------------------------------------------------------------------
    def look(self) -> None:
        """Take what the counters say into the slot of now; at once, a few queries on counters."""
        now, whole = self.clock.now(), Slot()
        dead = waiting = 0
        hour, place = hour_of(now), slot_of(now) % PER_HOUR
        meters = self.bus.observer.meters
        attempts, times = meters.attempts(), meters.times()
        for count in self.store.counts():
            name = count.route
            slot = self._of_route(count, attempts.get(name, (0, 0)), times.get(name, ()), now)
            whole.add(slot)
            dead, waiting = dead + slot.dead, waiting + slot.open
            if slot.accepted:
                counted = self._row((ACCEPTED, hour))
                counted[name] = counted.get(name, 0) + slot.accepted
                self._changed.add((ACCEPTED, hour))
            self._note((f"route:{name}", hour), place, slot)
        whole.dead, whole.open = dead, waiting
        self._note((BUS, hour), place, whole)
        self._levels(hour, place, now)
        self._looked = self.clock.monotonic()

    def _of_route(self, count: RouteCounts, ended: tuple[int, int], times: Times, now: datetime) -> Slot:
        seen = self._seen.setdefault(count.route, _Seen())
        done, failed = ended
        before = seen.times or (0,) * len(times)
        self._seen[count.route] = _Seen(count.accepted, done, failed, times)
        return Slot(
            accepted=max(0, count.accepted - seen.accepted),
            done=done - seen.done,
            failed=failed - seen.failed,
            dead=count.states.get("dead", 0),
            open=sum(count.states.get(state.value, 0) for state in OPEN_STATES),
            oldest=0 if count.oldest_open is None else max(0, int((now - count.oldest_open).total_seconds() * 1000)),
            times={step: n - before[step] for step, n in enumerate(times) if n != before[step]},
        )

    def _levels(self, hour: int, place: int, now: datetime) -> None:
        """What is open of each indicator, which its hours do not tell afterwards."""
        book = self.store.indicators
        for kpi in self.bus.workspace.kpis.values():
            if kpi.kind == "counter":
                continue
            counted = Tally(book.now(kpi.name))
            if kpi.kind == "gauge":
                level = [counted.n("keys"), 0, counted.n("level"), counted.millionths("level")]
            else:
                level = [counted.n("open"), book.overdue(kpi.name, now)[0], 0, counted.millionths("open")]
            key = (f"kpi:{kpi.name}", hour)
            row = self._row(key)
            if row.get(place) != level:
                row[place] = level
                self._changed.add(key)

    def _note(self, key: Key, place: int, slot: Slot) -> None:
        if slot == Slot() and key[0] != BUS and key not in self._rows:
            return  # nothing happened, and nothing is open
        row = self._row(key)
        known = row.get(place)
        whole = Slot() if known is None else Slot.unpacked(known)
        whole.add(slot)
        packed = whole.packed()
        if packed != known:
            row[place] = packed
            self._changed.add(key)

    def _row(self, key: Key) -> dict[Any, Any]:
        """An hour of a series: what this process has seen of it, and the one before it."""
        known = self._rows.get(key)
        if known is None:
            series, hour = key
            stored = self.store.get_state(space_of(series), name_of(hour))
            known = dict(stored or {}) if series == ACCEPTED else {int(place): row for place, *row in stored or ()}
            self._rows[key] = known
        return known

    # -- keeping ------------------------------------------------------------------------------------------------------
    async def _write(self) -> None:
        """Everything that has changed, in one commit; hours that are over are read from the store from now on."""
        changed, self._changed = self._changed, set()
        try:
            written = [
                self.store.put_state(space_of(series), name_of(hour), _packed(series, self._rows[series, hour]))
                for series, hour in changed
            ]
            await asyncio.gather(*written)
        except BaseException:
            self._changed |= changed
            raise
        hour = hour_of(self.clock.now())
        for key in [key for key in self._rows if key[1] < hour and key not in self._changed]:
            del self._rows[key]

    async def forget(self, now: datetime) -> int:
        """Remove rows that are too old, also of routes that are gone; gives how many."""
        space, gone = "", 0
        while found := self.store.states(PREFIX, (space, LAST), 1):
            space = found[0][0]
            keep = KEPT if space.startswith(f"{PREFIX}route:") else KEPT_LONG
            oldest = name_of(hour_of(now - keep))
            while True:
                names = [name for own, name, _ in self.store.states(space, (space, ""), CHUNK) if own == space]
                old = [name for name in names if name < oldest]
                await asyncio.gather(*(self.store.put_state(space, name, None) for name in old))
                gone += len(old)
                if len(old) < CHUNK:
                    break
            await asyncio.sleep(0)
        return gone


def _packed(series: str, row: Mapping[Any, Any]) -> Any:
    return dict(row) if series == ACCEPTED else [[place, *values] for place, values in sorted(row.items())]
