"""Taking away what is old, in small pieces between the work: one large delete would stop everything for half a second."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from esb.failpoints import hit
from esb.store.codes import DEAD, DISCARDED, PURGED, SPAN
from esb.store.commands import release
from esb.store.holds import HELD
from esb.store.values import load
from esb.store.writer import Writer

_ENDED = "SELECT o.seq, o.route, o.state, m.scope, m.key, m.track FROM outcome o JOIN message m ON m.seq = o.seq WHERE o.seq < ?"
#: A number that no message has.
_BEYOND = 1 << 62
#: What a payload that retention took away is stored as.
REMOVED = "removed"
_PARTS = (
    "DELETE FROM attempt WHERE seq = ?",
    "DELETE FROM ledger WHERE seq = ?",
    "DELETE FROM blob WHERE seq = ?",
    "DELETE FROM outcome WHERE seq = ?",
    "DELETE FROM message WHERE seq = ?",
)

#: The place in ``dedupe`` where the next look for expired keys goes on.
Place = tuple[int, str, str]
FIRST_PLACE: Place = (-1, "", "")


@dataclass(frozen=True, slots=True)
class Old:
    """Messages that ended before an instant in one of some states: of ``routes``, else of every route that is not in ``but``;
    ``only`` names them. Messages under a legal hold are none of them."""

    before: int
    codes: Sequence[int]
    routes: Sequence[int] = ()
    but: Sequence[int] = ()
    only: Sequence[int] = ()

    def condition(self) -> tuple[str, list[int]]:
        """SQL over ``o`` (outcome), and its values."""
        parts, values = ["o.finished < ?"], [self.before]
        for column, word, wanted in (
            ("state", "IN", self.codes),
            ("route", "IN", self.routes),
            ("route", "NOT IN", self.but),
            ("seq", "IN", self.only),
        ):
            if wanted or column == "state":
                parts.append(f"o.{column} {word} ({', '.join('?' * len(wanted))})")
                values += wanted
        return f"{' AND '.join(parts)} AND o.seq NOT IN ({HELD})", values


def bound_of(row: Callable[[str, Sequence[Any]], Sequence[Any] | None], before: int) -> int:
    """Beyond the last message that can have ended before an instant: one that was accepted after it cannot. ``row`` asks the store."""
    found = row("SELECT min(n) FROM span WHERE last >= ?", (before,))
    if found is None or found[0] is None:
        return _BEYOND
    after = "SELECT seq FROM message WHERE seq >= ? AND created >= ? ORDER BY seq LIMIT 1"
    first = row(after, (found[0] * SPAN, before))
    return _BEYOND if first is None else int(first[0])


def _asking(writer: Writer) -> Callable[[str, Sequence[Any]], Sequence[Any] | None]:
    return lambda sql, values: writer.execute(sql, values).fetchone()


def strippable(rows: Callable[[str, Sequence[Any]], Sequence[Any]], old: Old, limit: int) -> tuple[int, list[int]]:
    """The last of the next ``limit`` messages behind the mark, and those of them whose payloads go; 0 where nothing is left to do.

    Up to the first message that is open or too young. ``rows`` asks the store.
    """
    mark = int(next((value for (value,) in rows("SELECT value FROM meta WHERE name = 'stripped'", ())), 0))
    ((first_open,),) = rows("SELECT min(seq) FROM pending", ())
    bound = bound_of(lambda sql, values: next(iter(rows(sql, values)), None), old.before)
    bound = bound if first_open is None else min(bound, first_open)
    looked = rows(
        "SELECT seq, finished FROM outcome WHERE seq > ? AND seq < ? ORDER BY seq LIMIT ?", (mark, bound, limit)
    )
    young = next((place for place, (_, finished) in enumerate(looked) if finished >= old.before), len(looked))
    if not young:
        return 0, []
    last, (condition, values) = looked[young - 1][0], old.condition()
    found = rows(
        f"SELECT o.seq FROM outcome o WHERE o.seq > ? AND o.seq <= ? AND {condition}",  # noqa: S608 - a constant - only places
        (mark, last, *values),
    )
    return int(last), [int(row[0]) for row in found]


def strip(writer: Writer, old: Old, limit: int, only: Sequence[int] | None) -> int:
    """Take the payloads of messages away that ended well before an instant, in the order of acceptance; their records stay.

    Goes on where it stopped last; of those that are due ``only`` these, where it is given. Gives 0 where nothing is left to do.
    """
    last, found = strippable(lambda sql, values: writer.execute(sql, tuple(values)).fetchall(), old, limit)
    if not last:
        return 0
    if only is not None and (more := [seq for seq in found if seq not in set(only)]):
        last = more[0] - 1  # due since a moment ago, as when a hold was lifted: it is the next one's
        found = [seq for seq in found if seq <= last]
    many = writer.cursor.executemany
    many(
        "UPDATE message SET body = ?, content = ?, headers = NULL, vars = NULL WHERE seq = ?",
        [(b"", REMOVED, seq) for seq in found],
    )
    many("DELETE FROM blob WHERE seq = ?", [(seq,) for seq in found])
    writer.put_meta("stripped", str(last))
    return 1


def purge(writer: Writer, old: Old, limit: int) -> int:
    """Remove up to ``limit`` messages that ended before an instant in one of the given states; they count as purged.

    Their dedupe keys live on until they expire, but those of discarded messages go: nobody could tell any more that a repeat
    may have an effect. What a dead one held behind it is queued. Gives the number removed; below ``limit`` nothing is left to do.
    """
    bound = bound_of(_asking(writer), old.before)
    condition, values = old.condition()
    rows = writer.execute(f"{_ENDED} AND {condition} ORDER BY o.seq LIMIT ?", (bound, *values, limit)).fetchall()
    if not rows:
        return 0
    hit("retention.purging")
    many = writer.cursor.executemany
    tracked = [(value, name, row[0]) for row in rows if row[5] for name, value in load(row[5]).items()]
    if tracked:
        many("DELETE FROM track WHERE value = ? AND name = ? AND seq = ?", tracked)
    blocking = [(row[1], row[3], row[4], row[0]) for row in rows if row[2] == DEAD and row[4] is not None]
    if blocking:
        many("DELETE FROM block WHERE route = ? AND scope = ? AND key = ? AND seq = ?", blocking)
        for lane in {row[:3] for row in blocking}:
            release(writer, lane)
    # by hand, and few: keys may be looked through
    discarded = [(row[0], row[1]) for row in rows if row[2] == DISCARDED]
    for route in {0, *(route for _, route in discarded)} if discarded else ():  # 0: those of `dedupe` steps
        _forget_keys(writer, route, [seq for seq, own in discarded if route in (own, 0)])
    for statement in _PARTS:
        many(statement, [(row[0],) for row in rows])
    for _, route, state, *_ in rows:
        writer.move(route, state, PURGED)
    # a number is never given twice, also where the newest message goes
    writer.put_meta("last_seq", str(writer.next_seq - 1))
    return len(rows)


def _forget_keys(writer: Writer, route: int, seqs: Sequence[int]) -> None:
    places = ", ".join("?" * len(seqs))
    writer.execute(
        f"DELETE FROM dedupe WHERE route = ? AND space <> 'source' AND seq IN ({places})",  # noqa: S608 - question marks
        (route, *seqs),
    )


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
