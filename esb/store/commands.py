"""The commands of the runtime: one function each, run inside the group's transaction.

Every change of state is one guarded statement whose row count is checked, and follows ``esb.message.MOVES``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from esb.errors import StoreError
from esb.message import MOVES, State
from esb.store.accept import Draft, accept
from esb.store.base import Accepted, Settlement
from esb.store.tables import CODES, DEAD, HELD, LAST_OPEN, QUEUED, RUNNING, STATES, WAITING
from esb.store.values import dump_any, dump_error, dump_trace, group_of, micros
from esb.store.writer import Writer

_OPEN = "SELECT route, scope, key, state, earlier, traces FROM pending WHERE seq = ?"
_START = "UPDATE pending SET state = ?, due = NULL, attempts = ? WHERE seq = ? AND state IN (?, ?)"
_AGAIN = "UPDATE pending SET state = ?, due = ?, attempts = ?, crashes = 0, traces = ? WHERE seq = ? AND state = ?"
_LEAVE = "DELETE FROM pending WHERE seq = ? AND state = ?"
_OUTCOME = (
    "INSERT INTO outcome (seq, route, state, finished, attempts, reason, error, trace, grp, dead_letter)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_LEDGER = "INSERT OR REPLACE INTO ledger (seq, step, value) VALUES (?, ?, ?)"
_ATTEMPT = "INSERT INTO attempt (seq, n, attempt, at, state, trace, error) VALUES (?, ?, ?, ?, ?, ?, ?)"
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
    row = writer.execute("SELECT route, state FROM pending WHERE seq = ?", (seq,)).fetchone()
    if row is None:
        return False
    writer.execute(_START, (RUNNING, attempts, seq, QUEUED, WAITING))
    if writer.cursor.rowcount != 1:
        return False
    writer.move(row[0], row[1], RUNNING)
    return True


def would_start(writer: Writer, seq: int, attempts: int) -> bool:
    """What :func:`start` would answer. The settlement in the same group makes the move, so nothing is written here."""
    row = writer.execute("SELECT state FROM pending WHERE seq = ?", (seq,)).fetchone()
    return row is not None and row[0] in (QUEUED, WAITING)


def confirm(writer: Writer, seq: int, step: str, value: bytes) -> None:
    """A confirmed delivery. It is kept whatever became of the message meanwhile: the effect is out there."""
    writer.execute(_LEDGER, (seq, step, value))


class Ending:
    """A settlement, checked and encoded outside of the transaction."""

    __slots__ = ("at", "children", "code", "due", "error", "ledger", "settlement", "trace")

    def __init__(self, settlement: Settlement) -> None:
        self.settlement = settlement
        self.code = CODES[settlement.state]
        self.at = micros(settlement.at)
        self.due = None if settlement.due is None else micros(settlement.due)
        if settlement.state is State.WAITING and self.due is None:
            raise StoreError("a waiting message needs `due`")
        self.error = dump_error(settlement.error)
        self.trace = dump_trace(settlement.trace)
        self.ledger = [(settlement.seq, entry.step, dump_any(entry.value)) for entry in settlement.ledger]
        self.children = [Draft(child) for child in settlement.children]


def settle(writer: Writer, ending: Ending) -> tuple[Accepted, ...]:
    """End an attempt with everything that belongs to it; a message that is not open any more is left as it is."""
    settlement, code = ending.settlement, ending.code
    seq = settlement.seq
    row = writer.execute(_OPEN, (seq,)).fetchone()
    if row is None:
        return ()
    route, scope, key, before, earlier, traces = row
    if (before, code) not in _MAY_SETTLE:
        raise StoreError(f"message {seq} is {STATES[before]} and cannot become {STATES[code]}")
    # the trace of a good end stands in its outcome: one row less for nearly every message
    traced = (ending.trace is not None or ending.error is not None) and (code <= LAST_OPEN or code == DEAD)
    if code <= LAST_OPEN:
        due = ending.due if code == WAITING else None
        writer.execute(_AGAIN, (code, due, settlement.attempts, traces + (1 if traced else 0), seq, before))
    else:
        writer.execute(_LEAVE, (seq, before))
    if writer.cursor.rowcount != 1:
        raise StoreError(f"message {seq} is not in the state that was read a moment ago")
    if before != code:
        writer.move(route, before, code)
    attempts = earlier + settlement.attempts
    if code > LAST_OPEN:
        _end(writer, ending, route, attempts)
    if ending.ledger:
        writer.cursor.executemany(_LEDGER, ending.ledger)
    if traced:
        writer.execute(_ATTEMPT, (seq, traces + 1, attempts, ending.at, code, ending.trace, ending.error))
    if settlement.hold_lane and code == DEAD and key is not None:
        hold_lane(writer, (route, scope, key), seq)
    if not ending.children:
        return ()
    return tuple([accept(writer, child) for child in ending.children])


def _end(writer: Writer, ending: Ending, route: int, attempts: int) -> None:
    settlement, code = ending.settlement, ending.code
    trace, group, letter = ending.trace, None, None
    if code == DEAD:
        trace, group = None, group_of(writer.words.texts[route], settlement.error)
        letter = (settlement.error.dead_letter or None) if settlement.error is not None else None
    reason = settlement.reason or None
    writer.execute(
        _OUTCOME, (settlement.seq, route, code, ending.at, attempts, reason, ending.error, trace, group, letter)
    )


# -- lanes --------------------------------------------------------------------------------------------------------------
def hold_lane(writer: Writer, lane: tuple[int, int, str], seq: int) -> None:
    """A dead head blocks its lane: note it, and hold what was accepted after it."""
    writer.execute("INSERT OR IGNORE INTO block (route, scope, key, seq) VALUES (?, ?, ?, ?)", (*lane, seq))
    for state in (QUEUED, WAITING):
        writer.execute(_HOLD, (HELD, *lane, seq, state))
        if writer.cursor.rowcount:
            writer.move(lane[0], state, HELD, writer.cursor.rowcount)


def release_lane(writer: Writer, route: str, scope: str, key: str) -> tuple[int, ...]:
    """HELD messages become QUEUED, up to the first dead one that still blocks."""
    ids = writer.words.ids
    if route not in ids or scope not in ids:
        return ()
    lane = (ids[route], ids[scope], key)
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


# -- small memories -----------------------------------------------------------------------------------------------------
def put_state(writer: Writer, space: str, name: str, value: bytes | None) -> None:
    if value is None:
        writer.execute("DELETE FROM state WHERE space = ? AND name = ?", (space, name))
    else:
        writer.execute("INSERT OR REPLACE INTO state (space, name, value) VALUES (?, ?, ?)", (space, name, value))


def save_version(writer: Writer, route: str, version: str, source: Mapping[str, Any], at: int) -> None:
    """Kept once; the same version always stands for the same files."""
    writer.execute(
        "INSERT OR IGNORE INTO version (route, version, files, at) VALUES (?, ?, ?, ?)",
        (route, version, dump_any(source), at),
    )
