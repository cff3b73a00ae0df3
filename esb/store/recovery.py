"""What a process does with the store before its first command, and after its last."""

from __future__ import annotations

import sqlite3
from contextlib import suppress

from esb.errors import StoreError
from esb.store.accept import end_open
from esb.store.base import Pending
from esb.store.codes import HELD, QUEUED, RUNNING, SUPERSEDED
from esb.store.queries import PENDING, pending_of
from esb.store.values import id_of
from esb.store.writer import Writer

_UNBLOCKED = (
    "SELECT seq, route FROM pending p WHERE state = ? AND NOT EXISTS (SELECT 1 FROM block b WHERE b.route = p.route"
    " AND b.scope = p.scope AND b.key = p.key AND b.seq < p.seq)"
)
#: An overtaking message counts from its commit on, also where the process died before the overtaken one heard of it. Whom a
#: person sent again has attempts before, and stays.
_OVERTAKEN = (
    "SELECT p.seq, p.route, p.state, p.attempts + p.earlier, h.mid, h.created FROM pending h JOIN pending p"
    " ON p.route = h.route AND p.scope = h.scope AND p.key = h.key AND p.seq < h.seq"
    " WHERE h.overtakes = 1 AND p.earlier = 0 AND NOT EXISTS (SELECT 1 FROM pending l WHERE l.route = h.route"
    " AND l.scope = h.scope AND l.key = h.key AND l.seq > h.seq AND l.overtakes = 1) ORDER BY p.seq"
)


def recover(writer: Writer, suspect: int = 0) -> tuple[bool, list[Pending]]:
    """Take the store over: was it left in peace, and which messages ran when it was not.

    Those are queued again, unless a later message overtook them. ``suspect``, whose steps were being computed when the process died, counts a crash. Messages held
    behind a dead one that is gone (the process died between a person's action and the release) are queued. A new epoch
    locks out a process that still holds the file.
    """
    mark = writer.mark()
    writer.begin()
    try:
        clean = writer.meta("clean") == "1"
        running = writer.execute("SELECT seq, route FROM pending WHERE state = ?", (RUNNING,)).fetchall()
        for seq, route in running:
            writer.execute("UPDATE pending SET state = ? WHERE seq = ? AND state = ?", (QUEUED, seq, RUNNING))
            writer.move(route, RUNNING, QUEUED)
        if suspect and not clean:
            writer.execute("UPDATE pending SET crashes = crashes + 1 WHERE seq = ?", (suspect,))
        for seq, route, state, attempts, overtaker, at in writer.execute(_OVERTAKEN).fetchall():
            end_open(writer, seq, route, state, SUPERSEDED, at, attempts, f"overtaken by {id_of(overtaker)}")
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
        if row is not None:
            found.append(pending_of(writer.words, row))
    return clean, found


def leave(writer: Writer) -> None:
    """Note that this process went in peace and put the log into the file. A fault here only costs the note."""
    mark = writer.mark()
    try:
        writer.begin()
        writer.put_meta("clean", "1")
        writer.commit()
        writer.connection.put_away()
    except (sqlite3.Error, OSError, StoreError):
        with suppress(sqlite3.Error, OSError):
            writer.rollback(mark)
