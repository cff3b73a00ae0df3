"""Trends: what the bus, its routes and its indicators did in each slot of five minutes, from small rows of the store.

A row is one hour of one series. Nothing here costs a message anything: the numbers are taken from counters that exist anyway
(:mod:`esb.runtime.trends`). What is not in the store did not happen; where the whole bus has no slot, it did not run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from msgspec import Struct

from esb.observe.meters import BOUNDS
from esb.store.base import Store

#: Seconds of a slot, and how many an hour has.
SLOT = 300
PER_HOUR = 3600 // SLOT
#: Where the store keeps rows: space ``trend:<series>/``, name the hour.
PREFIX = "trend:"
#: The series of the whole bus, and of what every route accepted in an hour.
BUS, ACCEPTED = "bus", "accepted"
#: How long rows are kept: those of routes, those of the few other series.
KEPT, KEPT_LONG = timedelta(days=8), timedelta(days=35)
#: The spans that people look at, each with the step of its points.
SPANS: Mapping[str, tuple[timedelta, timedelta]] = {
    "6h": (timedelta(hours=6), timedelta(minutes=5)),
    "24h": (timedelta(hours=24), timedelta(minutes=15)),
    "7d": (timedelta(days=7), timedelta(hours=2)),
}
#: The same for indicators, which count by the hour.
KPI_SPANS: Mapping[str, tuple[timedelta, timedelta]] = {
    "24h": (timedelta(hours=24), timedelta(hours=1)),
    "7d": (timedelta(days=7), timedelta(hours=6)),
    "30d": (timedelta(days=30), timedelta(days=1)),
}
SPAN = "24h"


class Slot(Struct):
    """Five minutes of the bus or of a route. ``dead`` and ``open`` are as of its end, ``oldest`` (milliseconds) the worst of it."""

    accepted: int = 0
    done: int = 0
    failed: int = 0  #: attempts that ended with an error
    dead: int = 0
    open: int = 0
    oldest: int = 0
    times: dict[int, int] = {}  #: messages that ended, by step of ``BOUNDS``: how long each took since its acceptance

    def packed(self) -> list[Any]:
        return [self.accepted, self.done, self.failed, self.dead, self.open, self.oldest, sorted(self.times.items())]

    @classmethod
    def unpacked(cls, row: Sequence[Any]) -> Slot:
        accepted, done, failed, dead, open_, oldest, times = row
        return cls(accepted, done, failed, dead, open_, oldest, {int(step): int(n) for step, n in times})

    def add(self, other: Slot) -> None:
        """Take in a later slot: what is counted is summed, what is so at the end is that of the later one."""
        self.accepted += other.accepted
        self.done += other.done
        self.failed += other.failed
        self.dead, self.open = other.dead, other.open
        self.oldest = max(self.oldest, other.oldest)
        for step, n in other.times.items():
            self.times[step] = self.times.get(step, 0) + n


class Rows(Protocol):
    """Rows by series, where what has not been written yet is known as well."""

    def rows(self, series: str, since: datetime) -> dict[int, Any]:
        """Hour (hours since 1970 UTC) to row, from the hour of ``since`` on."""
        ...


@dataclass(frozen=True, slots=True)
class StoredRows:
    """The rows of a store; all there is of a bus that does not run."""

    store: Store

    def rows(self, series: str, since: datetime) -> dict[int, Any]:
        space = space_of(series)
        found = self.store.states(space, (space, name_of(hour_of(since) - 1)), 10_000)
        return {int(name): row for _, name, row in found}


def space_of(series: str) -> str:
    return f"{PREFIX}{series}/"


def name_of(hour: int) -> str:
    """Of one length, so that names are in the order of their hours."""
    return f"{hour:08d}"


def hour_of(instant: datetime) -> int:
    return int(instant.timestamp()) // 3600


def slot_of(instant: datetime) -> int:
    """Number of a slot since 1970 UTC."""
    return int(instant.timestamp()) // SLOT


def slots(rows: Mapping[int, Any]) -> dict[int, Slot]:
    """The slots of a route or of the bus, by number."""
    return {hour * PER_HOUR + place: Slot.unpacked(row) for hour, row in rows.items() for place, *row in row}


# -- points ---------------------------------------------------------------------------------------------------------------
def stretches(span: timedelta, step: timedelta, now: datetime) -> list[int]:
    """Where each point begins, in slots; the last one is not over yet."""
    each = int(step.total_seconds()) // SLOT
    last = slot_of(now) // each * each
    return [last - each * back for back in reversed(range(int(span / step)))]


def series(rows: Rows, name: str, span: timedelta, step: timedelta, now: datetime) -> list[dict[str, Any]]:
    """The points of the bus or of a route, oldest first. ``running`` is false where the bus did not run: its numbers are null."""
    begins, each = stretches(span, step, now), int(step.total_seconds()) // SLOT
    since = datetime.fromtimestamp(begins[0] * SLOT, UTC)
    whole = slots(rows.rows(BUS, since))
    own = whole if name == BUS else slots(rows.rows(name, since))
    return [_point(begin, range(begin, begin + each), own, whole) for begin in begins]


def _point(begin: int, numbers: Iterable[int], own: Mapping[int, Slot], whole: Mapping[int, Slot]) -> dict[str, Any]:
    at = datetime.fromtimestamp(begin * SLOT, UTC).isoformat()
    ran = [number for number in numbers if number in whole]
    if not ran:
        return {"at": at, "running": False, **dict.fromkeys(_NUMBERS)}
    total = Slot()
    for number in ran:
        total.add(own.get(number) or Slot())
    return {
        "at": at,
        "running": True,
        "accepted": total.accepted,
        "done": total.done,
        "failed": total.failed,
        "dead": total.dead,
        "open": total.open,
        "oldest_seconds": total.oldest / 1000,
        "p50_seconds": quantile(total.times, 0.5),
        "p95_seconds": quantile(total.times, 0.95),
    }


_NUMBERS = ("accepted", "done", "failed", "dead", "open", "oldest_seconds", "p50_seconds", "p95_seconds")


def quantile(times: Mapping[int, int], share: float) -> float | None:
    """The time in seconds that a share of the messages did not exceed: even within a step, as Prometheus reckons.

    None where none ended; the last bound, 60 s, stands for everything beyond it.
    """
    total = sum(times.values())
    if not total:
        return None
    wanted, before = share * total, 0
    for step in sorted(times):
        if before + times[step] >= wanted:
            if step >= len(BOUNDS):
                break
            low, high = (BOUNDS[step - 1] if step else 0.0), BOUNDS[step]
            return round(low + (high - low) * (wanted - before) / times[step], 6)
        before += times[step]
    return BOUNDS[-1]


def accepted_by_hour(rows: Rows, now: datetime, hours: int = 24) -> dict[str, list[int]]:
    """What each route accepted in each of the last hours, oldest first; a route that accepted nothing is left out."""
    first = hour_of(now) - hours + 1
    found: dict[str, list[int]] = {}
    for hour, row in rows.rows(ACCEPTED, now - timedelta(hours=hours - 1)).items():
        for route, n in row.items():
            if first <= hour < first + hours:
                found.setdefault(route, [0] * hours)[hour - first] = int(n)
    return found
