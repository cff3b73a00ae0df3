"""Taking away what is old, in small pieces between the work: one large delete would stop everything for half a second."""

from __future__ import annotations

from collections.abc import Sequence

from esb.store.tables import DEAD, PURGED, SPAN
from esb.store.values import load
from esb.store.writer import Writer

_ENDED = (
    "SELECT o.seq, o.route, o.state, m.scope, m.key, m.track FROM outcome o JOIN message m ON m.seq = o.seq"
    " WHERE o.seq < ? AND o.finished < ? AND o.state IN (%s) ORDER BY o.seq LIMIT ?"
)
_PARTS = (
    "DELETE FROM attempt WHERE seq = ?",
    "DELETE FROM ledger WHERE seq = ?",
    "DELETE FROM outcome WHERE seq = ?",
    "DELETE FROM message WHERE seq = ?",
)

#: The place in ``dedupe`` where the next look for expired keys goes on.
Place = tuple[int, str, str]
FIRST_PLACE: Place = (-1, "", "")


def purge(writer: Writer, before: int, codes: Sequence[int], limit: int) -> int:
    """Remove up to ``limit`` messages that ended before an instant in one of the given states; they count as purged.

    Their dedupe keys live on until they expire. Gives the number removed; below ``limit`` nothing is left to do.
    """
    # nothing that ended before the instant was accepted after it: look no further than the first such message
    (span,) = writer.execute("SELECT min(n) FROM span WHERE last >= ?", (before,)).fetchone()
    row = None
    if span is not None:
        row = writer.execute(
            "SELECT seq FROM message WHERE seq >= ? AND created >= ? ORDER BY seq LIMIT 1", (span * SPAN, before)
        ).fetchone()
    bound = writer.next_seq if row is None else row[0]
    places = ", ".join("?" * len(codes))
    rows = writer.execute(_ENDED % places, (bound, before, *codes, limit)).fetchall()
    if not rows:
        return 0
    many = writer.cursor.executemany
    tracked = [(value, name, row[0]) for row in rows if row[5] for name, value in load(row[5]).items()]
    if tracked:
        many("DELETE FROM track WHERE value = ? AND name = ? AND seq = ?", tracked)
    blocking = [(row[1], row[3], row[4], row[0]) for row in rows if row[2] == DEAD and row[4] is not None]
    if blocking:
        many("DELETE FROM block WHERE route = ? AND scope = ? AND key = ? AND seq = ?", blocking)
    for statement in _PARTS:
        many(statement, [(row[0],) for row in rows])
    for _, route, state, *_ in rows:
        writer.move(route, state, PURGED)
    # a number is never given twice, also where the newest message goes
    writer.put_meta("last_seq", str(writer.next_seq - 1))
    return len(rows)


def purge_expired(writer: Writer, now: int, after: Place, limit: int) -> tuple[int, Place]:
    """Look at the next ``limit`` dedupe keys and remove those that have expired; gives their number and the next place."""
    rows = writer.execute(
        "SELECT route, space, key, expires FROM dedupe WHERE (route, space, key) > (?, ?, ?)"
        " ORDER BY route, space, key LIMIT ?",
        (*after, limit),
    ).fetchall()
    expired = [row[:3] for row in rows if row[3] <= now]
    if expired:
        writer.cursor.executemany("DELETE FROM dedupe WHERE route = ? AND space = ? AND key = ?", expired)
    return len(expired), (rows[-1][:3] if len(rows) == limit else FIRST_PLACE)
