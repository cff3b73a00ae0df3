"""The commands of the runtime: one function each, run inside the group's transaction.

Every change of state is one guarded statement whose row count is checked, and follows ``esb.message.MOVES``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from esb.errors import StoreError
from esb.message import MOVES, State
from esb.store.accept import Draft, Ending, accept
from esb.store.base import Accepted
from esb.store.codes import CODES, DEAD, DONE, HELD, LAST_OPEN, QUEUED, RUNNING, STATES, WAITING
from esb.store.facts import Fact, apply
from esb.store.values import NULL, cell, dump_any, group_of
from esb.store.writer import Writer

OPEN = "SELECT route, scope, key, state, earlier, traces FROM pending WHERE seq = ?"
ROUTE_AND_STATE = "SELECT route, state FROM pending WHERE seq = ?"
STATE_ALONE = "SELECT state FROM pending WHERE seq = ?"
START = "UPDATE pending SET state = ?, due = NULL, attempts = ? WHERE seq = ? AND state IN (?, ?)"
_AGAIN = "UPDATE pending SET state = ?, due = ?, attempts = ?, crashes = 0, traces = ? WHERE seq = ? AND state = ?"
_LEAVE = "DELETE FROM pending WHERE seq = ? AND state = ?"
_OUTCOME = (
    "INSERT INTO outcome (seq, route, state, finished, attempts, reason, error, trace, grp, dead_letter)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_LEDGER = "INSERT INTO ledger (seq, step, value) VALUES (?, ?, ?) ON CONFLICT (seq, step) DO UPDATE SET value = excluded.value"
_ATTEMPT = "INSERT INTO attempt (seq, n, attempt, at, state, trace, error) VALUES (?, ?, ?, ?, ?, ?, ?)"
_BLOCK = "INSERT INTO block (route, scope, key, seq) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
_IS_OVERTAKEN = "SELECT 1 FROM pending WHERE route = ? AND scope = ? AND key = ? AND seq > ? AND overtakes = 1 LIMIT 1"
_HOLD = "UPDATE pending SET state = ?, due = NULL WHERE route = ? AND scope = ? AND key = ? AND seq > ? AND state = ?"


def _may_settle() -> frozenset[tuple[int, int]]:
    """(from, to) of a settlement. A start of the same group, or one whose group failed, is implied: via running."""
    found = set()
    for before in (State.QUEUED, State.RUNNING, State.WAITING, State.HELD):
        allowed = set(MOVES[before])
        if State.RUNNING in allowed:
            allowed |= MOVES[State.RUNNING]
        allowed -= {State.RUNNING, State.HELD, State.DISCARDED}
        found |= {(CODES[before], CODES[after]) for after in allowed}
    return frozenset(found)


_MAY_SETTLE = _may_settle()


# -- attempts -----------------------------------------------------------------------------------------------------------
def start(writer: Writer, seq: int, attempts: int) -> bool:
    """QUEUED or WAITING becomes RUNNING; false where a person or another message was faster."""
    known = writer.queued.pop(seq, None)
    if known is not None:
        writer.later(START, (RUNNING, attempts, seq, QUEUED, WAITING))
        writer.move(known, QUEUED, RUNNING)
        writer.running[seq] = known
        return True
    row = writer.execute(ROUTE_AND_STATE, (seq,)).fetchone()
    if row is None:
        return False
    writer.execute(START, (RUNNING, attempts, seq, QUEUED, WAITING))
    if writer.cursor.rowcount != 1:
        return False
    writer.move(row[0], row[1], RUNNING)
    return True


def would_start(writer: Writer, seq: int, attempts: int) -> bool:
    """What :func:`start` would answer. The settlement in the same group makes the move, so nothing is written here."""
    if seq in writer.queued:
        return True
    row = writer.execute(STATE_ALONE, (seq,)).fetchone()
    return row is not None and row[0] in (QUEUED, WAITING)


def confirm(writer: Writer, seq: int, step: str, value: bytes, facts: Sequence[Fact] = ()) -> None:
    """A confirmed delivery. It is kept whatever became of the message meanwhile: the effect is out there."""
    if facts:
        tell(writer, seq, step, facts)
    writer.later(_LEDGER, (seq, step, value))


def bear(writer: Writer, seq: int, drafts: Sequence[Draft], progress: tuple[Any, ...]) -> tuple[Accepted, ...] | None:
    """Children of a message that runs, and how far it is; None where it is not open any more."""
    if writer.execute("SELECT 1 FROM pending WHERE seq = ? AND state = ?", (seq, RUNNING)).fetchone() is None:
        return None
    writer.execute(_LEDGER, progress)
    return tuple([accept(writer, draft) for draft in drafts])


def tell(writer: Writer, seq: int, step: str, facts: Sequence[Fact]) -> None:
    """What a delivery says about indicators, unless the ledger has the delivery: then it was told."""
    writer.flush()
    if writer.execute("SELECT 1 FROM ledger WHERE seq = ? AND step = ?", (seq, step)).fetchone() is None:
        apply(writer, facts)


def settle(writer: Writer, ending: Ending) -> tuple[Accepted, ...]:
    """End an attempt with everything that belongs to it; a message that is not open any more is left as it is."""
    settlement, code = ending.settlement, ending.code
    seq = settlement.seq
    state, known = RUNNING, writer.running.pop(seq, None)
    if known is None:
        state, known = QUEUED, writer.queued.pop(seq, None)
    row: tuple[Any, ...] | None
    if known is not None and code == DONE:
        row = (known, 0, None, state, 0, 0)  # as its birth left it; what leaves `pending` must be so
    else:
        row = writer.execute(OPEN, (seq,)).fetchone()
    if row is None:
        return ()
    route, scope, key, before, earlier, traces = row
    if (before, code) not in _MAY_SETTLE:
        raise StoreError(f"message {seq} is {STATES[before]} and cannot become {STATES[code]}")
    # the trace of a good end stands in its outcome: one row less for nearly every message
    traced = (ending.trace is not None or ending.error is not None) and (code <= LAST_OPEN or code == DEAD)
    if code <= LAST_OPEN:
        due = ending.due if code == WAITING else None
        writer.later(_AGAIN, (code, due, settlement.attempts, traces + (1 if traced else 0), seq, before))
    else:
        writer.later(_LEAVE, (seq, before))
    if before != code:
        writer.move(route, before, code)
    attempts = earlier + settlement.attempts
    if code > LAST_OPEN:
        _end(writer, ending, route, attempts)
    for entry in (*settlement.ledger, *settlement.told):
        if entry.facts:
            tell(writer, seq, entry.step, entry.facts)
    if settlement.facts:
        apply(writer, settlement.facts)
    if settlement.version:
        writer.flush()
        writer.execute("UPDATE message SET version = ? WHERE seq = ?", (writer.word(settlement.version), seq))
    for row_ in ending.ledger:
        writer.later(_LEDGER, row_)
    if traced:
        writer.later(_ATTEMPT, (seq, traces + 1, attempts, ending.at, code, ending.trace, ending.error))
    if settlement.hold_lane and code == DEAD and key is not None:
        hold_lane(writer, (route, scope, key), seq)
    if not ending.children:
        return ()
    return tuple([accept(writer, child) for child in ending.children])


def _end(writer: Writer, ending: Ending, route: int, attempts: int) -> None:
    settlement, code = ending.settlement, ending.code
    trace, group, letter = ending.trace, NULL, NULL
    if code == DEAD:
        trace, group = None, group_of(writer.words.texts[route], settlement.error)
        letter = (settlement.error.dead_letter or NULL) if settlement.error is not None else NULL
    reason, error = settlement.reason or NULL, cell(ending.error)
    writer.later(
        _OUTCOME, (settlement.seq, route, code, ending.at, attempts, reason, error, cell(trace), group, letter)
    )


# -- lanes --------------------------------------------------------------------------------------------------------------
def hold_lane(writer: Writer, lane: tuple[int, int, str], seq: int) -> None:
    """A dead head blocks its lane: note it, and hold what was accepted after it.

    An overtaking message that was committed while the head died takes its place: a lane that waited for the older one
    would never go on, as nobody may send that one again.
    """
    writer.flush()
    if writer.execute(_IS_OVERTAKEN, (*lane, seq)).fetchone() is not None:
        return
    writer.execute(_BLOCK, (*lane, seq))
    for state in (QUEUED, WAITING):
        writer.execute(_HOLD, (HELD, *lane, seq, state))
        if writer.cursor.rowcount:
            writer.move(lane[0], state, HELD, writer.cursor.rowcount)


def release_lane(writer: Writer, route: str, scope: str, key: str) -> tuple[int, ...]:
    """HELD messages become QUEUED, up to the first dead one that still blocks."""
    ids = writer.words.ids
    if route not in ids or scope not in ids:
        return ()
    return release(writer, (ids[route], ids[scope], key))


def release(writer: Writer, lane: tuple[int, int, str]) -> tuple[int, ...]:
    (limit,) = writer.execute("SELECT min(seq) FROM block WHERE route = ? AND scope = ? AND key = ?", lane).fetchone()
    limit = writer.next_seq if limit is None else limit
    where = (*lane, limit, HELD)
    rows = writer.execute(
        "SELECT seq FROM pending WHERE route = ? AND scope = ? AND key = ? AND seq < ? AND state = ? ORDER BY seq",
        where,
    ).fetchall()
    writer.execute(
        "UPDATE pending SET state = ? WHERE route = ? AND scope = ? AND key = ? AND seq < ? AND state = ?",
        (QUEUED, *where),
    )
    if writer.cursor.rowcount:
        writer.move(lane[0], HELD, QUEUED, writer.cursor.rowcount)
    return tuple(row[0] for row in rows)


def release_route(writer: Writer, route: str) -> int:
    """The dead messages of a route block nothing any more, and what they held is queued."""
    number = writer.word(route)
    writer.execute("DELETE FROM block WHERE route = ?", (number,))
    writer.execute("UPDATE pending SET state = ? WHERE route = ? AND state = ?", (QUEUED, number, HELD))
    released = writer.cursor.rowcount
    if released:
        writer.move(number, HELD, QUEUED, released)
    return released


# -- small memories -----------------------------------------------------------------------------------------------------
_STATE = (
    "INSERT INTO state (space, name, value) VALUES (?, ?, ?)"
    " ON CONFLICT (space, name) DO UPDATE SET value = excluded.value"
)


def put_state(writer: Writer, space: str, name: str, value: bytes | None) -> None:
    if value is None:
        writer.execute("DELETE FROM state WHERE space = ? AND name = ?", (space, name))
    else:
        writer.execute(_STATE, (space, name, value))


def save_version(writer: Writer, route: str, version: str, source: Mapping[str, Any], at: int) -> None:
    """Kept once; the same version always stands for the same files."""
    writer.execute(
        "INSERT INTO version (route, version, files, at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (route, version, dump_any(source), at),
    )
