"""Legal holds: while one stands, retention removes no message that tracks its value."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from esb.store.base import AuditEntry
from esb.store.chain import append
from esb.store.reader import Reader
from esb.store.values import instant_of
from esb.store.writer import Writer

#: Of messages that a hold keeps; for a condition on a seq.
HELD = "SELECT t.seq FROM legal_hold h JOIN track t ON t.value = h.value AND t.name = h.name"


class Holds:
    """Placing and lifting is audited in the same transaction."""

    def __init__(self, reader: Reader, submit: Callable[..., asyncio.Future[Any]]) -> None:
        self._reader = reader
        self._submit = submit

    def place(self, name: str, value: str, audit: AuditEntry, at: int) -> asyncio.Future[bool]:
        """False where the hold stands already. ``at`` in microseconds since 1970 UTC."""
        future: asyncio.Future[bool] = self._submit(_place, name, value, audit, at)
        return future

    def lift(self, name: str, value: str, audit: AuditEntry, at: int) -> asyncio.Future[bool]:
        """False where there is no such hold."""
        future: asyncio.Future[bool] = self._submit(_lift, name, value, audit, at)
        return future

    def listed(self) -> list[dict[str, Any]]:
        """Every hold, the oldest first, with the number of messages that it keeps."""
        rows = self._reader.rows(
            "SELECT h.name, h.value, h.who, h.reason, h.at,"
            " (SELECT count(*) FROM track t WHERE t.value = h.value AND t.name = h.name) FROM legal_hold h ORDER BY h.at"
        )
        return [
            {
                "track": f"{name}={value}",
                "by": who,
                "reason": reason,
                "at": instant_of(at).isoformat(),
                "messages": count,
            }
            for name, value, who, reason, at, count in rows
        ]


def _place(writer: Writer, name: str, value: str, entry: AuditEntry, at: int) -> bool:
    writer.execute(
        "INSERT INTO legal_hold (name, value, who, reason, at) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (name, value, entry.actor, entry.reason, at),
    )
    if writer.cursor.rowcount != 1:
        return False
    append(writer, entry, at)
    return True


def _lift(writer: Writer, name: str, value: str, entry: AuditEntry, at: int) -> bool:
    writer.execute("DELETE FROM legal_hold WHERE name = ? AND value = ?", (name, value))
    if writer.cursor.rowcount != 1:
        return False
    append(writer, entry, at)
    return True
