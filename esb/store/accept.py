"""Storing a new message: the command ``accept``, and the children of a settlement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from esb.errors import StoreError
from esb.message import State
from esb.store.base import Accepted, DedupeKey, NewMessage, Settlement
from esb.store.blob_rows import CLAIM_CHECK, claims_in, content_of, keep, keep_claimed
from esb.store.chain import append
from esb.store.codes import (
    ABSORBED,
    ACCEPTED,
    CODES,
    DEAD,
    DISCARDED,
    DONE,
    DUPLICATE,
    HELD,
    QUEUED,
    RUNNING,
    STATES,
    SUPERSEDED,
    WAITING,
)
from esb.store.facts import apply
from esb.store.values import (
    NULL,
    cell,
    dump,
    dump_any,
    dump_error,
    dump_trace,
    dump_vars,
    group_of,
    id_of,
    micros,
    mid_of,
)
from esb.store.writer import Writer

_MESSAGE = (
    "INSERT INTO message (seq, route, scope, version, mid, key, created, correlation, parent, replay_of, duplicate_of,"
    " origin, overtakes, priority, content, headers, vars, meta, track, body)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_PENDING = (
    "INSERT INTO pending (seq, mid, route, scope, key, state, due, attempts, earlier, crashes, traces, created,"
    " priority, overtakes, version) VALUES (?, ?, ?, ?, ?, ?, NULL, ?, 0, 0, 0, ?, ?, ?, ?)"
)
_OUTCOME = (
    "INSERT INTO outcome (seq, route, state, finished, attempts, reason, error, trace, grp, dead_letter)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_TRACK = "INSERT INTO track (value, name, seq) VALUES (?, ?, ?)"
# one statement takes a free or expired key; no row changed means that somebody else has it
CLAIM = (
    "INSERT INTO dedupe (route, space, key, seq, mid, expires, fingerprint) VALUES (?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (route, space, key) DO UPDATE SET seq = excluded.seq, mid = excluded.mid,"
    " expires = excluded.expires, fingerprint = excluded.fingerprint WHERE dedupe.expires <= ?"
)
_TAKE_OVER = (
    "UPDATE dedupe SET seq = ?, mid = ?, expires = ?, fingerprint = ? WHERE route = ? AND space = ? AND key = ?"
)
IS_OPEN = "SELECT 1 FROM pending WHERE route = ? AND scope = ? AND key = ? LIMIT 1"
IS_BLOCKED = "SELECT 1 FROM block WHERE route = ? AND scope = ? AND key = ? LIMIT 1"
_OWNER = "SELECT seq, mid, fingerprint FROM dedupe WHERE route = ? AND space = ? AND key = ?"

#: The events of a birth, by the state that it ends in: a repeat is no new message, one that is refused at the door is.
_ACCEPTED = frozenset({"accepted", "replayed"})
_BORN = {State.DUPLICATE: frozenset({"duplicate"}), State.DEAD: _ACCEPTED | {"dead"}}

#: Messages that wait whose rows need not be read again when they start.
_REMEMBERED = 10_000

#: States that a message may be born in.
_BIRTH = frozenset({State.QUEUED, State.HELD, State.DEAD, State.DUPLICATE})


class Ending(Struct, frozen=True, gc=False):
    """A settlement, checked and encoded outside of the transaction."""

    settlement: Settlement
    code: int
    at: int
    due: int | None
    error: bytes | None
    trace: bytes | None
    ledger: Sequence[tuple[int, str, bytes]]
    children: Sequence[Draft]

    @staticmethod
    def of(settlement: Settlement) -> Ending:
        """Raises TypeError, ValueError and StoreError for what cannot be stored."""
        seq, due, ledger, children = settlement.seq, settlement.due, settlement.ledger, settlement.children
        if due is None and settlement.state is State.WAITING:
            raise StoreError("a waiting message needs `due`")
        return Ending(
            settlement,
            CODES[settlement.state],
            micros(settlement.at),
            None if due is None else micros(due),
            None if settlement.error is None else dump_error(settlement.error),
            dump_trace(settlement.trace),
            [(seq, entry.step, dump_any(entry.value)) for entry in ledger] if ledger else (),
            [Draft.of(child) for child in children] if children else (),
        )


class Draft(Struct, frozen=True, gc=False):
    """A new message, checked and turned into columns outside of the transaction."""

    new: NewMessage
    mid: bytes
    created: int
    columns: tuple[Any, ...]
    claimed: Sequence[bytes]
    error: bytes | None
    ending: Ending | None
    beside: Sequence[Draft]

    @staticmethod
    def of(new: NewMessage) -> Draft:
        """Raises TypeError, ValueError and StoreError for what cannot be stored."""
        envelope = new.envelope
        if new.state not in _BIRTH:
            raise StoreError(f"a message cannot be born {new.state}")
        mid, created = mid_of(own := envelope.id), micros(envelope.accepted_at)
        body, blob, headers, meta, track = envelope.body, envelope.blob, envelope.headers, envelope.meta, envelope.track
        vars_ = dump_vars(envelope.vars) if envelope.vars else None
        columns = (
            bytearray(mid),
            NULL if envelope.key is None else envelope.key,
            created,
            NULL if envelope.correlation_id == own else envelope.correlation_id,
            NULL if envelope.parent_id is None else bytearray(mid_of(envelope.parent_id)),
            NULL if envelope.replay_of is None else mid_of(envelope.replay_of),
            NULL if envelope.duplicate_of is None else mid_of(envelope.duplicate_of),
            NULL if envelope.origin == own else envelope.origin,
            1 if envelope.overtakes else 0,
            envelope.priority,
            envelope.content if blob is None else content_of(envelope.content, blob),
            cell(dump(headers)) if headers else NULL,
            NULL if vars_ is None else bytearray(vars_),
            cell(dump_vars(meta)) if meta else NULL,
            cell(dump(track)) if track else NULL,
            bytearray(body),
        )
        return Draft(
            new,
            mid,
            created,
            columns,
            claims_in(body, vars_) if vars_ is not None or body.find(CLAIM_CHECK) >= 0 else (),
            None if new.error is None else dump_error(new.error),
            None if new.ending is None else _told_before(new.ending),
            [Draft.of(other) for other in new.beside] if new.beside else (),
        )

    def as_duplicate_of(self, first: bytes | None) -> tuple[Any, ...]:
        return (*self.columns[:6], first, *self.columns[7:])


def _told_before(ending: Settlement) -> Ending | None:
    """The end that a message comes with; None where a child of it cannot be stored: the ordinary way says what is wrong."""
    try:
        return Ending.of(ending)
    except (TypeError, ValueError, StoreError):
        return None


def accept(writer: Writer, draft: Draft) -> Accepted:
    """Store a message in its place of the order; ``source_key`` known or ``dedupe`` taken as :class:`NewMessage` says.

    A message that is born dead takes no dedupe key: its corrected repeat must get through.
    """
    new = draft.new
    envelope = new.envelope
    if new.by is not None:
        append(writer, new.by, draft.created)
    known = writer.words.ids
    route = known[envelope.route] if envelope.route in known else writer.word(envelope.route)
    seq = writer.next_seq
    reused: str | None = None
    if new.source_key is not None and not take(writer, route, new.source_key, seq, draft.mid, draft.created):
        found = _known(writer, route, new.source_key)
        if not (found.conflict and new.source_key.apart):
            return found
        # decided here, in the order of commits: whoever came with it again would go behind those that came after it
        own = replace(new.source_key, key=f"{new.source_key.key}#{new.source_key.fingerprint}")
        if not take(writer, route, own, seq, draft.mid, draft.created):
            return _known(writer, route, own)
        reused = found.first_id
    state, columns, first = new.state, draft.columns, envelope.duplicate_of
    if (
        new.dedupe is not None
        and state is not State.DEAD
        and state is not State.DUPLICATE
        and not take(writer, route, new.dedupe, seq, draft.mid, draft.created)
    ):
        owner, mid, _ = owner_of(writer, route, new.dedupe)
        if envelope.origin == envelope.id or _origin(writer, owner) != _whatever_round(envelope.origin):
            state, columns = State.DUPLICATE, draft.as_duplicate_of(mid)
            first = None if mid is None else id_of(mid)
    writer.next(draft.created)
    scope = known[envelope.scope] if envelope.scope in known else writer.word(envelope.scope)
    version = known[envelope.version] if envelope.version in known else writer.word(envelope.version)
    superseded: tuple[int, ...] = ()
    if new.supersede and envelope.key is not None and (state is State.QUEUED or state is State.HELD):
        superseded = supersede(writer, (route, scope, envelope.key), seq, envelope.id, draft.created)
    elif state is State.QUEUED and envelope.key is not None and _is_held(writer, (route, scope, envelope.key)):
        state = State.HELD  # decided here, in the order of commits: memory may be about to hear of a release
    writer.later(_MESSAGE, (seq, route, scope, version, *columns))
    if envelope.blob is not None:
        keep(writer, seq, envelope.blob)
    if draft.claimed:
        keep_claimed(writer, seq, draft.claimed)
    if envelope.track:
        for name, value in envelope.track.items():
            writer.later(_TRACK, (value, name, seq))
    ending, started = draft.ending, new.started
    if (ending is not None or started) and not (
        state is State.QUEUED and (envelope.key is None or _is_first(writer, (route, scope, envelope.key)))
    ):
        ending, started = None, False
    if ending is not None:
        state = State.DONE
    elif state is State.QUEUED or state is State.HELD:
        state = State.RUNNING if started else state
        if envelope.key is not None:
            writer.waiting.add((route, scope, envelope.key))
        if started:
            writer.running[seq] = route
        elif state is State.QUEUED and len(writer.queued) < _REMEMBERED:
            writer.queued[seq] = route
        writer.later(
            _PENDING,
            (
                seq,
                columns[0],
                route,
                scope,
                columns[1],
                CODES[state],
                1 if started else 0,
                draft.created,
                envelope.priority,
                columns[8],
                version,
            ),
        )
    else:
        _bear_ended(writer, draft, seq, route, state)
    writer.count(route, ACCEPTED)
    writer.count(route, CODES[state])
    if new.facts:
        apply(writer, new.facts, _BORN.get(state, _ACCEPTED))
    children = () if ending is None else _end_at_once(writer, ending, seq, route)
    if draft.beside:
        children = tuple([accept(writer, other) for other in draft.beside])
    return Accepted(seq, envelope.id, state, first_id=first or reused, superseded=superseded, children=children)


def _bear_ended(writer: Writer, draft: Draft, seq: int, route: int, state: State) -> None:
    """A message that is over when it is stored: a duplicate, or refused by its contract."""
    error = draft.new.error if state is State.DEAD else None
    writer.later(
        _OUTCOME,
        (
            seq,
            route,
            CODES[state],
            draft.created,
            0,
            NULL,
            cell(draft.error if error is not None else None),
            NULL,
            group_of(draft.new.envelope.route, error) if state is State.DEAD else NULL,
            (error.dead_letter or NULL) if error is not None else NULL,
        ),
    )


def _end_at_once(writer: Writer, ending: Ending, seq: int, route: int) -> tuple[Accepted, ...]:
    """The good end of a message that was worked off before it was stored, with everything that belongs to it."""
    settlement = ending.settlement
    reason, trace = settlement.reason or NULL, cell(ending.trace)
    writer.later(_OUTCOME, (seq, route, ending.code, ending.at, settlement.attempts, reason, NULL, trace, NULL, NULL))
    if settlement.facts:
        apply(writer, settlement.facts)
    return tuple([accept(writer, child) for child in ending.children]) if ending.children else ()


# -- keys ---------------------------------------------------------------------------------------------------------------
def _is_held(writer: Writer, lane: tuple[int, int, str]) -> bool:
    """Whether a dead message blocks the lane; a message accepted now is behind every one of them."""
    row = writer.execute(IS_BLOCKED, lane).fetchone()
    return row is not None


def _is_first(writer: Writer, lane: tuple[int, int, str]) -> bool:
    """Whether nothing open is before a message in its lane. What this transaction ends may still count as open."""
    return lane not in writer.waiting and writer.execute(IS_OPEN, lane).fetchone() is None


def take(writer: Writer, route: int, key: DedupeKey, seq: int, mid: bytes, now: int) -> bool:
    """Have the message own the key, unless another one does."""
    expires = micros(key.expires_at)
    row = (route, key.space, key.key, seq, mid, expires, key.fingerprint, now)
    writer.execute(CLAIM, row)
    if writer.cursor.rowcount == 1:
        return True
    if key.space == "source" or writer.state_of(owner_of(writer, route, key)[0]) != DISCARDED:
        return False
    # whoever discarded the owner said that it has no effect, so a repeat may have one
    writer.execute(_TAKE_OVER, (seq, mid, expires, key.fingerprint, route, key.space, key.key))
    return True


def owner_of(writer: Writer, route: int, key: DedupeKey) -> tuple[int, bytes | None, str]:
    row: tuple[int, bytes | None, str] = writer.execute(_OWNER, (route, key.space, key.key)).fetchone()
    return row


def _origin(writer: Writer, seq: int) -> str | None:
    """What the delivery ids of a message that was born of another one are made of; the same for what a replay makes again."""
    writer.flush()
    row = writer.execute("SELECT origin FROM message WHERE seq = ?", (seq,)).fetchone()
    return None if row is None or row[0] is None else _whatever_round(row[0])


def _whatever_round(origin: str) -> str:
    """The same for what was undone and is done again (`id~1/split[0]`), which has delivery ids of its own."""
    first, slash, rest = origin.partition("/")
    return first.partition("~")[0] + slash + rest


def _known(writer: Writer, route: int, key: DedupeKey) -> Accepted:
    """The first message of a source key. One that retention removed counts as done."""
    seq, mid, fingerprint = owner_of(writer, route, key)
    state = writer.state_of(seq)
    first = "" if mid is None else id_of(mid)
    return Accepted(
        seq,
        first,
        STATES[DONE if state is None else state],
        known=True,
        first_id=first,
        conflict=fingerprint != key.fingerprint,
    )


def claim(writer: Writer, space: str, key: str, seq: int, expires: int, now: int) -> bool:
    """Take a key for ``seq`` unless another message holds it; route 0 keeps these apart from the routes' own.

    A child of a replay acts for that of the original. A message that was discarded has given its keys back.
    """
    writer.execute(CLAIM, (0, space, key, seq, None, expires, "", now))
    if writer.cursor.rowcount == 1:
        return True
    owner: int = writer.execute(_OWNER, (0, space, key)).fetchone()[0]
    if owner != seq and writer.state_of(owner) == DISCARDED:
        writer.execute(_TAKE_OVER, (seq, None, expires, "", 0, space, key))
        return True
    return owner == seq or (_origin(writer, owner) or owner) == (_origin(writer, seq) or seq)


# -- overtaking ---------------------------------------------------------------------------------------------------------
def supersede(writer: Writer, lane: tuple[int, int, str], seq: int, by: str, at: int) -> tuple[int, ...]:
    """Earlier messages of the lane that were not sent become superseded: open ones that do not run, and dead heads."""
    writer.flush()
    reason = f"overtaken by {by}"
    rows = writer.execute(
        "SELECT seq, state, attempts + earlier FROM pending"
        " WHERE route = ? AND scope = ? AND key = ? AND seq < ? AND state <> ? ORDER BY seq",
        (*lane, seq, RUNNING),
    ).fetchall()
    for earlier, state, attempts in rows:
        end_open(writer, earlier, lane[0], state, SUPERSEDED, at, attempts, reason)
    heads = writer.execute(
        "SELECT seq FROM block WHERE route = ? AND scope = ? AND key = ? AND seq < ? ORDER BY seq", (*lane, seq)
    ).fetchall()
    for (dead,) in heads:
        end_dead(writer, dead, lane[0], SUPERSEDED, at, reason)
    if heads:
        writer.execute("DELETE FROM block WHERE route = ? AND scope = ? AND key = ? AND seq < ?", (*lane, seq))
    return tuple(sorted([row[0] for row in rows] + [row[0] for row in heads]))


def absorb(
    writer: Writer,
    seq: int,
    id_: str,
    others: Sequence[int],
    payload: tuple[bytes, str, bytes | None, bytes | None],
    at: int,
) -> bool:
    """A message takes others that wait into itself: they end as done, it has another payload. False where one does not wait."""
    rows = []
    for other in others:
        row = writer.execute("SELECT route, state, attempts + earlier FROM pending WHERE seq = ?", (other,)).fetchone()
        if row is None or row[1] not in (QUEUED, WAITING):
            return False
        rows.append((other, *row))
    if writer.state_of(seq) not in (QUEUED, RUNNING, WAITING):
        return False
    for other, route, state, attempts in rows:
        end_open(writer, other, route, state, DONE, at, attempts, f"{ABSORBED}{id_}")
    body, content, vars_, meta = payload
    changed = "UPDATE message SET body = ?, content = ?, vars = ?, meta = ? WHERE seq = ?"
    writer.execute(changed, (body, content, vars_, meta, seq))
    keep_claimed(writer, seq, claims_in(body, vars_))
    return True


def end_open(writer: Writer, seq: int, route: int, state: int, after: int, at: int, attempts: int, reason: str) -> None:
    """An open message ends without an attempt of its own. Raises StoreError where it is not in ``state``."""
    writer.queued.pop(seq, None)
    writer.execute("DELETE FROM pending WHERE seq = ? AND state = ?", (seq, state))
    if writer.cursor.rowcount != 1:
        raise StoreError(f"message {seq} is not in the state that was read a moment ago")
    writer.execute(_OUTCOME, (seq, route, after, at, attempts, reason, None, None, None, None))
    writer.move(route, state, after)


def end_dead(writer: Writer, seq: int, route: int, after: int, at: int, reason: str) -> None:
    """A dead message ends for good; its error stays to be read."""
    writer.execute(
        "UPDATE outcome SET state = ?, finished = ?, reason = ? WHERE seq = ? AND state = ?",
        (after, at, reason, seq, DEAD),
    )
    if writer.cursor.rowcount != 1:
        raise StoreError(f"message {seq} is not dead any more")
    writer.move(route, DEAD, after)


#: The states that another message, or a person, may end: open ones that do not run.
IDLE = (QUEUED, WAITING, HELD)
__all__ = ["DUPLICATE", "IDLE", "Draft", "accept", "claim", "end_dead", "end_open", "supersede"]
