"""Whoever changes the audit in the file is found out, except one who rewrites all of it: that takes an anchor elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from typing import Any

import pytest

from esb.store.base import AuditEntry
from esb.store.chain import COLUMNS, START, link

TAMPERING = {
    "an edited reason": ("UPDATE audit SET reason = 'other' WHERE seq = 4", "entry 4 was changed"),
    "an edited detail": ("UPDATE audit SET detail = '{}' WHERE seq = 4", "entry 4 was changed"),
    "an edited time": ("UPDATE audit SET at = '2020-01-01T00:00:00+00:00' WHERE seq = 1", "entry 1 was changed"),
    "an edited hash": ("UPDATE audit SET hash = 'x' WHERE seq = 10", "entry 10 was changed"),
    "a deleted entry": ("DELETE FROM audit WHERE seq = 4", "entry 4 is missing"),
    "a deleted first entry": ("DELETE FROM audit WHERE seq = 1", "entry 1 is missing"),
    "a cut tail": ("DELETE FROM audit WHERE seq > 8", "the last entry should be 10, it is 8"),
    "nothing left": ("DELETE FROM audit", "the last entry should be 10, it is 0"),
    "an added entry": (
        "INSERT INTO audit SELECT 11, at, actor, action, object, reason, detail, prev_hash, hash FROM audit WHERE seq = 10",
        "entry 11 does not follow",
    ),
    "an entry put in between": (
        """UPDATE audit SET seq = seq + 100 WHERE seq > 4; UPDATE audit SET seq = seq - 99 WHERE seq > 100;
        INSERT INTO audit SELECT 5, at, actor, action, object, reason, detail, prev_hash, hash FROM audit WHERE seq = 4""",
        "entry 5 does not follow",
    ),
    "two entries swapped": (
        """UPDATE audit SET seq = 99 WHERE seq = 4; UPDATE audit SET seq = 4 WHERE seq = 5;
        UPDATE audit SET seq = 5 WHERE seq = 99""",
        "entry 4 was changed",
    ),
}


def audited(stores: Any, count: int = 10) -> None:
    async def main() -> None:
        store = await stores.open()
        now = stores.new().envelope.accepted_at
        for n in range(count):
            await store.audit(AuditEntry("mia", "dlq.retry", f"m{n}", "reason", {"n": n}), now)
        assert store.verify_audit() == []
        await store.close()

    asyncio.run(main())


def verified(stores: Any) -> tuple[list[str], tuple[int, str]]:
    async def main() -> tuple[list[str], tuple[int, str]]:
        store = await stores.open()
        found = store.verify_audit(), store.audit_head()
        await store.close()
        return found

    return asyncio.run(main())


@pytest.mark.parametrize("name", TAMPERING)
def test_tampering_is_found_and_the_entry_named(stores: Any, name: str) -> None:
    statements, expected = TAMPERING[name]
    audited(stores)
    with contextlib.closing(sqlite3.connect(stores.path)) as connection:
        connection.executescript(statements)
    faults, _ = verified(stores)
    assert any(expected in fault for fault in faults), faults


def test_a_rewrite_of_everything_shows_against_an_anchor_only(stores: Any) -> None:
    audited(stores)
    _, anchor = verified(stores)
    with contextlib.closing(sqlite3.connect(stores.path, isolation_level=None)) as connection:
        before = START
        for values in connection.execute(f"SELECT {', '.join(COLUMNS)} FROM audit ORDER BY seq").fetchall():
            row = dict(zip(COLUMNS, values, strict=True)) | {"actor": "nobody", "prev_hash": before}
            before = row["hash"] = link(row)
            connection.execute(
                "UPDATE audit SET actor = :actor, prev_hash = :prev_hash, hash = :hash WHERE seq = :seq", row
            )
        connection.execute("UPDATE meta SET value = ? WHERE name = 'audit_head'", (f"10 {before}",))
    faults, head = verified(stores)
    assert faults == []
    assert head[0] == anchor[0]
    assert head[1] != anchor[1]


def test_the_chain_goes_on_after_a_restart(stores: Any) -> None:
    audited(stores, 2)
    audited(stores, 2)
    faults, head = verified(stores)
    assert (faults, head[0]) == ([], 4)
