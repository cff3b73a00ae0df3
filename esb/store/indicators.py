"""What the store knows of indicators: counted hours, what is so now, open pairs and levels. Nothing here looks at messages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from esb.blob import Blob
from esb.store import facts, past
from esb.store.base import AuditEntry
from esb.store.chain import append
from esb.store.past import Past
from esb.store.reader import Reader
from esb.store.values import instant_of, micros
from esb.store.writer import Words, Writer

#: Weights and levels are stored in millionths.
MILLION = 1_000_000
#: Keys that one statement looks for.
_TOGETHER = 500


@dataclass(frozen=True, slots=True)
class Counted:
    """A number of an indicator: how often, with what weight (millionths)."""

    label: str
    what: str
    n: int
    weight: int


@dataclass(frozen=True, slots=True)
class Open:
    """An open pair, or a key with a level: since when, until when, with what weight (millionths)."""

    key: str
    label: str
    since: datetime
    due: datetime | None
    n: int
    weight: int
    seen: tuple[str, ...] = ()


class Indicators:
    """Queries run at once, on the connection for what people ask; ``close`` and ``forget`` are commands of the store."""

    def __init__(
        self,
        reader: Reader,
        words: Words,
        submit: Callable[..., asyncio.Future[Any]],
        blob_at: Callable[[str, int], Blob],
    ) -> None:
        self._reader = reader
        self._words = words
        self._submit = submit
        self._blob_at = blob_at

    # -- numbers ------------------------------------------------------------------------------------------------------
    def now(self, kpi: str) -> list[Counted]:
        """What is so now (``open`` pairs, ``keys`` with a ``level``), and what was ever counted."""
        return self._rows("SELECT label, what, n, weight FROM kpi_hour WHERE kpi = ? AND hour = 0", kpi)

    def since(self, kpi: str, begin: datetime) -> list[Counted]:
        """What was counted since the hour of ``begin``, summed over the hours."""
        sql = (
            "SELECT label, what, sum(n), sum(weight) FROM kpi_hour WHERE kpi = ? AND hour > 0 AND hour >= ?"
            " GROUP BY label, what"
        )
        return self._rows(sql, kpi, micros(begin) // facts.HOUR)

    def hours(self, kpi: str, begin: datetime, whats: Sequence[str]) -> list[tuple[datetime, str, int]]:
        """(hour, what, number) of some numbers since ``begin``, oldest first."""
        number = self._words.number(f"kpi:{kpi}")
        if number is None:
            return []
        places = ", ".join("?" * len(whats))
        rows = self._reader.rows(
            f"SELECT hour, what, sum(n) FROM kpi_hour WHERE kpi = ? AND hour > 0 AND hour >= ? AND what IN ({places})"  # noqa: S608 - only places
            " GROUP BY hour, what ORDER BY hour",
            (number, micros(begin) // facts.HOUR, *whats),
        )
        return [(instant_of(hour * facts.HOUR), what, n) for hour, what, n in rows]

    def by_hour(self, kpi: str, begin: datetime) -> list[tuple[datetime, Counted]]:
        """Everything that was counted since ``begin``, by hour, over all labels; without what single parts of a pair took."""
        number = self._words.number(f"kpi:{kpi}")
        if number is None:
            return []
        rows = self._reader.rows(
            "SELECT hour, what, sum(n), sum(weight) FROM kpi_hour WHERE kpi = ? AND hour > 0 AND hour >= ?"
            " AND what NOT LIKE '%:%' GROUP BY hour, what ORDER BY hour",
            (number, micros(begin) // facts.HOUR),
        )
        return [(instant_of(hour * facts.HOUR), Counted("", what, n, weight)) for hour, what, n, weight in rows]

    def _rows(self, sql: str, kpi: str, *more: Any) -> list[Counted]:
        number = self._words.number(f"kpi:{kpi}")
        return [] if number is None else [Counted(*row) for row in self._reader.rows(sql, (number, *more))]

    # -- what is open -------------------------------------------------------------------------------------------------
    def overdue(self, kpi: str, now: datetime) -> tuple[int, int]:
        """Number and weight of open pairs whose time has passed."""
        number = self._words.number(f"kpi:{kpi}")
        if number is None:
            return 0, 0
        row = self._reader.row(
            "SELECT count(*), coalesce(sum(weight), 0) FROM kpi_pair WHERE kpi = ? AND due <= ?", (number, micros(now))
        )
        return (0, 0) if row is None else (row[0], row[1])

    def ages(self, kpi: str, edges: Sequence[datetime], *, levels: bool) -> list[tuple[int, int]]:
        """Number and weight of what is open, by age: since the first edge, between the edges, before the last one.

        ``edges`` are instants, the newest first.
        """
        number = self._words.number(f"kpi:{kpi}")
        if number is None:
            return [(0, 0)] * (len(edges) + 1)
        table, column = ("kpi_level", "since") if levels else ("kpi_pair", "start")
        found, before = [], 1 << 62
        for edge in [*(micros(edge) for edge in edges), -(1 << 62)]:
            sql = (
                f"SELECT count(*), coalesce(sum(weight), 0) FROM {table}"  # noqa: S608 - constants
                f" WHERE kpi = ? AND {column} >= ? AND {column} < ?"
            )
            row = self._reader.row(sql, (number, edge, before)) or (0, 0)
            found.append((row[0], row[1]))
            before = edge
        return found

    def oldest(self, kpi: str, limit: int, *, levels: bool, label: str | None = None) -> list[Open]:
        """What is open, the oldest first."""
        number = self._words.number(f"kpi:{kpi}")
        if number is None:
            return []
        columns = "key, label, since, NULL, n, weight, '[]'" if levels else "key, label, start, due, 1, weight, seen"
        table, order = ("kpi_level", "since") if levels else ("kpi_pair", "start")
        narrowed = "" if label is None else " AND label = ?"
        rows = self._reader.rows(
            f"SELECT {columns} FROM {table} WHERE kpi = ?{narrowed} ORDER BY {order}, key LIMIT ?",  # noqa: S608 - constants
            (number, *(() if label is None else (label,)), max(0, min(limit, 10_000))),
        )
        return [
            Open(
                key,
                name,
                instant_of(since),
                None if due is None else instant_of(due),
                n,
                weight,
                tuple(json.loads(seen)),
            )
            for key, name, since, due, n, weight, seen in rows
        ]

    def open_of(self, kpi: str, keys: Sequence[str]) -> tuple[int, int]:
        """Number and weight of the open pairs of some keys."""
        number = self._words.number(f"kpi:{kpi}")
        if number is None or not keys:
            return 0, 0
        wanted, count, weight = sorted(set(keys)), 0, 0
        for start in range(0, len(wanted), _TOGETHER):
            some = wanted[start : start + _TOGETHER]
            places = ", ".join("?" * len(some))
            (row,) = self._reader.rows(
                f"SELECT count(*), coalesce(sum(weight), 0) FROM kpi_pair WHERE kpi = ? AND key IN ({places})",  # noqa: S608 - only places
                (number, *some),
            )
            count, weight = count + row[0], weight + row[1]
        return count, weight

    # -- commands -----------------------------------------------------------------------------------------------------
    def close(self, kpi: str, key: str, audit: AuditEntry, at: datetime) -> asyncio.Future[bool]:
        """A person closes an open pair; audited in the same transaction. False where it is not open."""
        future: asyncio.Future[bool] = self._submit(_close, kpi, key, audit, micros(at))
        return future

    def forget(self, before: datetime) -> asyncio.Future[int]:
        """Remove hours that ended before an instant; gives how many rows went."""
        future: asyncio.Future[int] = self._submit(_forget, micros(before) // facts.HOUR)
        return future

    # -- what was stored before -----------------------------------------------------------------------------------------
    def past(self) -> Past:
        """The events of stored messages."""
        return Past(self._reader, self._words, self._blob_at)

    def clear(self, kpi: str, space: str = "") -> asyncio.Future[None]:
        """Forget all numbers of an indicator, and what was put aside in a space."""
        future: asyncio.Future[None] = self._submit(past.clear, kpi, space)
        return future

    def fill(
        self,
        found: Sequence[facts.Fact],
        space: str,
        name: str,
        progress: Any,
        aside: tuple[str, Any] | None = None,
    ) -> asyncio.Future[None]:
        """Take over facts of the past together with how far that is, kept as ``space`` and ``name``; ``aside`` is kept until the end."""
        future: asyncio.Future[None] = self._submit(past.fill, found, space, name, progress, aside)
        return future

    def finish(
        self,
        kpi: str,
        draft: str,
        work: Callable[[Past], Sequence[facts.Fact] | None],
        space: str,
        audit: AuditEntry,
        at: datetime,
    ) -> asyncio.Future[bool]:
        """The numbers of ``draft``, with the facts that ``work`` finds within the transaction, become those of ``kpi``; audited.

        False, and nothing is done, where ``work`` gives None.
        """
        future: asyncio.Future[bool] = self._submit(
            past.finish, kpi, draft, work, self._blob_at, space, audit, micros(at)
        )
        return future


def _close(writer: Writer, kpi: str, key: str, entry: AuditEntry, at: int) -> bool:
    number = writer.words.ids.get(f"kpi:{kpi}")
    if number is None or not facts.close(writer, number, key, at, "closed-by-hand"):
        return False
    append(writer, entry, at)
    return True


def _forget(writer: Writer, hour: int) -> int:
    gone = 0
    for text, number in writer.words.ids.items():
        if text.startswith("kpi:"):
            writer.execute("DELETE FROM kpi_hour WHERE kpi = ? AND hour > 0 AND hour < ?", (number, hour))
            gone += writer.cursor.rowcount
    return gone
