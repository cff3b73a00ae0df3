"""What a process does with the store before its first command, and after its last."""

from __future__ import annotations

import sqlite3

from esb.errors import StoreError
from esb.store.base import Pending
from esb.store.queries import PENDING, pending_of
from esb.store.tables import HELD, QUEUED, RUNNING
from esb.store.writer import Writer

_UNBLOCKED = (
    "SELECT seq, route FROM pending p WHERE state = ? AND NOT EXISTS (SELECT 1 FROM block b WHERE b.route = p.route"
    " AND b.scope = p.scope AND b.key = p.key AND b.seq < p.seq)"
)


def recover(writer: Writer) -> tuple[bool, list[Pending]]:
    """Take the store over: was it left in peace, and which messages ran when it was not.

    Those are queued again and count a crash. Messages held behind a dead one that is gone (the process died between a
    person's action and the release) are queued. A new epoch locks out a process that still holds the file.
    """
    mark = writer.mark()
    writer.begin()
    try:
        clean = writer.meta("clean") == "1"
        running = writer.execute("SELECT seq, route FROM pending WHERE state = ?", (RUNNING,)).fetchall()
        for seq, route in running:
            writer.execute(
                "UPDATE pending SET state = ?, crashes = crashes + ? WHERE seq = ? AND state = ?",
                (QUEUED, 0 if clean else 1, seq, RUNNING),
            )
            writer.move(route, RUNNING, QUEUED)
        for seq, route in writer.execute(_UNBLOCKED, (HELD,)).fetchall():
            writer.execute("UPDATE pending SET state = ? WHERE seq = ? AND state = ?", (QUEUED, seq, HELD))
            writer.move(route, HELD, QUEUED)
        epoch = str(int(writer.meta("epoch")) + 1)
        writer.put_meta("epoch", epoch)
        writer.put_meta("clean", "0")
        writer.finish()
        writer.commit()
    except BaseException:
        writer.rollback(mark)
        raise
    writer.epoch = epoch
    found = []
    for seq, _ in running:
        row = writer.execute(f"{PENDING} WHERE seq = ?", (seq,)).fetchone()
        found.append(pending_of(writer.words, row))
    return clean, found


def leave(writer: Writer) -> None:
    """Note that this process went in peace and put the log into the file. A fault here only costs the note."""
    mark = writer.mark()
    try:
        writer.begin()
        writer.put_meta("clean", "1")
        writer.commit()
        writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except (sqlite3.Error, StoreError):
        writer.rollback(mark)
