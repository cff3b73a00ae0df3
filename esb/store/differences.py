"""Differences between systems that a ``reconcile`` step found: opened, seen again, closed; nothing is forgotten between two runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from esb.message import EMPTY
from esb.store.base import AuditEntry
from esb.store.chain import append
from esb.store.reader import Reader
from esb.store.values import dump_any, instant_of, load_any, maybe_instant, micros
from esb.store.writer import Writer

MILLION = 1_000_000
#: How a difference ended.
AGREES, BY_HAND = "agrees", "by hand"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one run found under one key. ``fingerprint`` stands for both sides: a difference that a person closed comes back
    when it changes. ``value`` in millionths."""

    key: str
    fingerprint: str
    what: str
    value: int = 0
    unit: str = ""
    owner: str = ""
    repair: str = ""
    sides: Any = EMPTY


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference as the store keeps it."""

    name: str
    key: str
    opened: datetime
    seen: datetime
    closed: datetime | None
    how: str
    who: str
    reason: str
    finding: Finding

    def as_item(self, now: datetime) -> dict[str, Any]:
        """The item of ``--json``."""
        value = self.finding.value
        return {
            "reconcile": self.name,
            "key": self.key,
            "what": self.finding.what,
            "opened_at": self.opened.isoformat(),
            "seen_at": self.seen.isoformat(),
            "age_seconds": round(((self.closed or now) - self.opened).total_seconds(), 3),
            "value": value // MILLION if value % MILLION == 0 else value / MILLION,
            "unit": self.finding.unit,
            "owner": self.finding.owner,
            "repair": self.finding.repair,
            "sides": self.finding.sides,
            "closed_at": self.closed.isoformat() if self.closed is not None else None,
            "how": self.how or None,
            "by": self.who or None,
            "reason": self.reason or None,
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run changed, as keys."""

    opened: tuple[str, ...]
    closed: tuple[str, ...]
    open: int


class Differences:
    """Queries run at once; ``found`` and ``close`` are commands of the store."""

    def __init__(self, reader: Reader, submit: Callable[..., asyncio.Future[Any]]) -> None:
        self._reader = reader
        self._submit = submit

    def found(self, name: str, findings: Sequence[Finding], at: datetime) -> asyncio.Future[Outcome]:
        """Take over what a whole comparison found: what is new is opened, what is gone is closed, the rest is seen again."""
        rows = [(finding, _packed(finding)) for finding in findings]
        future: asyncio.Future[Outcome] = self._submit(_found, name, rows, micros(at))
        return future

    def close(self, name: str, key: str, audit: AuditEntry, at: datetime) -> asyncio.Future[bool]:
        """A person accepts a difference as it is; false where it is not open. Audited in the same transaction."""
        future: asyncio.Future[bool] = self._submit(_close, name, key, audit, micros(at))
        return future

    def tracked(self, name: str = "", key: str = "", *, closed: bool = False, limit: int = 1000) -> list[Difference]:
        """Open differences, oldest first; ``closed`` gives every one, newest first."""
        where, words = ["1 = 1"] if closed else ["closed IS NULL"], []
        for column, value in (("name", name), ("key", key)):
            if value:
                where.append(f"{column} = ?")
                words.append(value)
        order = "opened DESC" if closed else "opened"
        rows = self._reader.rows(
            "SELECT name, key, opened, seen, closed, how, who, reason, fingerprint, value, finding FROM difference"  # noqa: S608 - constants
            f" WHERE {' AND '.join(where)} ORDER BY {order}, key LIMIT ?",
            (*words, max(0, min(limit, 10_000))),
        )
        return [_difference(row) for row in rows]

    def counts(self) -> list[tuple[str, int, datetime, int]]:
        """(name, open, oldest, value in millionths) of each comparison with open differences."""
        sql = "SELECT name, count(*), min(opened), sum(value) FROM difference WHERE closed IS NULL GROUP BY name"
        return [(name, n, instant_of(oldest), value) for name, n, oldest, value in self._reader.rows(sql)]


def _packed(finding: Finding) -> bytes:
    plain = {"what": finding.what, "unit": finding.unit, "owner": finding.owner, "repair": finding.repair}
    return dump_any({**plain, "sides": finding.sides})


def _difference(row: Sequence[Any]) -> Difference:
    name, key, opened, seen, closed, how, who, reason, fingerprint, value, packed = row
    finding = Finding(key, fingerprint, value=value, **load_any(packed))
    times = (instant_of(opened), instant_of(seen), maybe_instant(closed))
    return Difference(name, key, *times, how or "", who or "", reason or "", finding)


# -- commands -------------------------------------------------------------------------------------------------------------
def _found(writer: Writer, name: str, rows: Sequence[tuple[Finding, bytes]], at: int) -> Outcome:
    known = dict(
        writer.execute("SELECT key, opened FROM difference WHERE name = ? AND closed IS NULL", (name,)).fetchall()
    )
    accepted = set(
        writer.execute(
            "SELECT key, fingerprint FROM difference WHERE name = ? AND how = ? AND still = 1", (name, BY_HAND)
        ).fetchall()
    )
    opened, found = [], set()
    for finding, packed in rows:
        found.add(finding.key)
        if finding.key in known:
            writer.execute(
                "UPDATE difference SET seen = ?, fingerprint = ?, value = ?, finding = ? WHERE name = ? AND key = ? AND opened = ?",
                (at, finding.fingerprint, finding.value, packed, name, finding.key, known[finding.key]),
            )
        elif (finding.key, finding.fingerprint) not in accepted:
            opened.append(finding.key)
            writer.execute(
                "INSERT INTO difference (name, key, opened, seen, fingerprint, value, finding, still) VALUES (?, ?, ?, ?, ?, ?, ?, 1)",
                (name, finding.key, at, at, finding.fingerprint, finding.value, packed),
            )
    gone = sorted(set(known) - found)
    for key in gone:
        writer.execute(
            "UPDATE difference SET closed = ?, how = ?, still = 0 WHERE name = ? AND key = ? AND closed IS NULL",
            (at, AGREES, name, key),
        )
    for key, _ in accepted:
        if key not in found:  # what a person accepted is over; should it come back, it is new
            writer.execute("UPDATE difference SET still = 0 WHERE name = ? AND key = ?", (name, key))
    return Outcome(tuple(opened), tuple(gone), len(known) - len(gone) + len(opened))


def _close(writer: Writer, name: str, key: str, entry: AuditEntry, at: int) -> bool:
    writer.execute(
        "UPDATE difference SET closed = ?, how = ?, who = ?, reason = ? WHERE name = ? AND key = ? AND closed IS NULL",
        (at, BY_HAND, entry.actor, entry.reason, name, key),
    )
    if writer.cursor.rowcount != 1:
        return False
    append(writer, entry, at)
    return True
