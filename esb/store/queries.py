"""Questions to the store. The ones that the runtime asks per message are plain SQL, those of people SQLAlchemy Core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, func, literal_column, or_, select, union

from esb.errors import StoreError
from esb.message import OPEN_STATES, Envelope, State
from esb.store.base import DeadGroup, Filter, Pending, RouteCounts, Stored
from esb.store.reader import Reader
from esb.store.tables import ACCEPTED, CODES, DEAD, DONE, LAST_OPEN, NOTABLE, PURGED, STATES, message, outcome
from esb.store.tables import attempt as attempt_table
from esb.store.tables import pending as pending_table
from esb.store.tables import track as track_table
from esb.store.values import (
    blank,
    find_mid,
    id_of,
    instant_of,
    load,
    load_any,
    load_error,
    load_trace,
    load_vars,
    maybe_instant,
    micros,
)
from esb.store.writer import Words

LARGEST_PAGE = 10_000

PENDING = (
    "SELECT seq, mid, route, scope, key, state, due, attempts, crashes, created, priority, overtakes, version, earlier"
    " FROM pending"
)
_HEAD = (
    "seq, mid, route, scope, version, key, created, correlation, parent, replay_of, duplicate_of, origin, overtakes,"
    " priority, content, headers, vars, meta, track"
)
_PAYLOAD = f"SELECT {_HEAD}, body FROM message WHERE seq = ?"  # noqa: S608 - a constant
_LEDGER = "SELECT step, value FROM ledger WHERE seq = ?"
_STORED = (
    "SELECT coalesce(p.state, o.state), coalesce(p.attempts + p.earlier, o.attempts), o.finished, p.due, o.reason,"
    " CASE WHEN p.seq IS NULL THEN o.error ELSE"
    " (SELECT error FROM attempt a WHERE a.seq = m.seq ORDER BY a.n DESC LIMIT 1) END, m.*"
    " FROM message m LEFT JOIN pending p ON p.seq = m.seq LEFT JOIN outcome o ON o.seq = m.seq WHERE m.mid = ?"
)
_TRACE = "SELECT attempt, at, state, trace, error FROM attempt WHERE seq = ? ORDER BY n"
_GONE = "no message {seq} in the store"


class Queries:
    """Reads committed data only. ``words`` are the writer's, or loaded by a store that is only read."""

    def __init__(self, reader: Reader, words: Words) -> None:
        self._reader = reader
        self._words = words

    # -- asked by the runtime -----------------------------------------------------------------------------------------
    def pending(self, route: str | None, after_seq: int, limit: int) -> list[Pending]:
        if route is None:
            rows = self._reader.rows(f"{PENDING} WHERE seq > ? ORDER BY seq LIMIT ?", (after_seq, limit))
        else:
            number = self._words.number(route)
            if number is None:
                return []
            rows = self._reader.rows(
                f"{PENDING} WHERE route = ? AND seq > ? ORDER BY seq LIMIT ?", (number, after_seq, limit)
            )
        words = self._words
        return [pending_of(words, row) for row in rows]

    def payload(self, seq: int) -> tuple[Envelope, Mapping[str, Any]]:
        row = self._reader.row(_PAYLOAD, (seq,))
        if row is None:
            raise StoreError(_GONE.format(seq=seq), hint="retention may have removed it")
        ledger = {step: load_any(value) for step, value in self._reader.rows(_LEDGER, (seq,))}
        return self._envelope(row), ledger

    def get(self, id_: str, *, trace: bool) -> Stored | None:
        mid = find_mid(id_)
        row = None if mid is None else self._reader.row(_STORED, (mid,))
        if row is None:
            return None
        return self._stored(row[6:], row[:6], self._trace(row[6]) if trace else ())

    def _trace(self, seq: int) -> list[dict[str, Any]]:
        """The entries of every attempt, in order; the last one of each says when and how the attempt ended."""
        entries: list[dict[str, Any]] = []
        for number, at, state, trace, error in self._reader.rows(_TRACE, (seq,)):
            steps = load_trace(trace)
            if not steps and (record := load_error(error)) is not None:
                steps = [{"step": record.step, "error": f"{record.error_class}: {record.message}"}]
            for step in steps:
                entries.append({"attempt": number, **step})  # noqa: PERF401 - the last one is completed below
            if steps:
                entries[-1] |= {"ended_at": instant_of(at).isoformat(), "state": STATES[state].value}
        return entries

    # -- rows to objects ----------------------------------------------------------------------------------------------
    def _envelope(self, row: Sequence[Any]) -> Envelope:
        (seq, mid, route, scope, version, key, created, correlation, parent, replay_of, duplicate_of, origin) = row[:12]
        overtakes, priority, content, headers, vars_, meta, track = row[12:19]
        text, own = self._words.text, id_of(mid)
        return Envelope(
            id=own,
            route=text(route),
            body=row[19] if len(row) > 19 else b"",
            content=content,
            accepted_at=instant_of(created),
            version=text(version),
            scope=text(scope),
            key=key,
            origin=own if origin is None else origin,
            correlation_id=own if correlation is None else correlation,
            parent_id=None if parent is None else id_of(parent),
            replay_of=None if replay_of is None else id_of(replay_of),
            duplicate_of=None if duplicate_of is None else id_of(duplicate_of),
            overtakes=bool(overtakes),
            priority=priority,
            headers=load(headers),
            vars=load_vars(vars_),
            meta=load(meta),
            track=load(track),
            seq=seq,
        )

    def _stored(self, head: Sequence[Any], fate: Sequence[Any], trace: Sequence[Mapping[str, Any]] = ()) -> Stored:
        state, attempts, finished, due, reason, error = fate
        return Stored(
            envelope=self._envelope(head),
            state=STATES[state],
            attempts=attempts,
            finished_at=maybe_instant(finished),
            due=maybe_instant(due),
            error=load_error(error),
            reason=reason or "",
            trace=trace,
        )

    # -- asked by people ----------------------------------------------------------------------------------------------
    def find(self, filter_: Filter) -> list[Stored]:
        query = self._select(filter_)
        if query is None:
            return []
        order = message.c.seq.asc() if filter_.oldest_first else message.c.seq.desc()
        limit = max(0, min(filter_.limit, LARGEST_PAGE))
        return self._found(query.order_by(order).limit(limit))

    def children(self, ids: Sequence[str]) -> list[Stored]:
        mids = [mid for id_ in ids if (mid := find_mid(id_)) is not None]
        found: list[Stored] = []
        for start in range(0, len(mids), 500):
            query = _rows().where(message.c.parent.in_(mids[start : start + 500])).order_by(message.c.seq)
            found.extend(self._found(query.limit(LARGEST_PAGE)))
        return sorted(found, key=lambda stored: stored.envelope.seq)

    def _found(self, query: Select[Any]) -> list[Stored]:
        return [self._stored(row[6:], row[:6]) for row in self._reader.select(query)]

    def _select(self, filter_: Filter) -> Select[Any] | None:
        """The messages of a filter; None where it names something that does not exist."""
        if filter_.ids:
            mids = [mid for id_ in filter_.ids[:LARGEST_PAGE] if (mid := find_mid(id_)) is not None]
            return _rows().where(message.c.mid.in_(mids)) if mids else None
        query = _rows(_kind_of(filter_))
        if filter_.route:
            number = self._words.number(filter_.route)
            if number is None:
                return None
            query = query.where(message.c.route == number)
        return _narrow(query, filter_)

    def counts(self) -> list[RouteCounts]:
        routes: dict[int, dict[int, int]] = {}
        for route, state, n in self._reader.rows("SELECT route, state, n FROM counter"):
            routes.setdefault(route, {})[state] = n
        found = []
        for route, counted in routes.items():
            oldest = None
            if any(counted.get(code) for code in range(LAST_OPEN + 1)):
                oldest = self._reader.row("SELECT created FROM pending WHERE route = ? ORDER BY seq LIMIT 1", (route,))
            found.append(
                RouteCounts(
                    route=self._words.text(route),
                    accepted=counted.get(ACCEPTED, 0),
                    states={state.value: counted.get(code, 0) for state, code in CODES.items()},
                    purged=counted.get(PURGED, 0),
                    oldest_open=None if oldest is None else instant_of(oldest[0]),
                )
            )
        return sorted(found, key=lambda counts: counts.route)

    def groups(self, filter_: Filter) -> list[DeadGroup]:
        """Largest first. Only dead messages count, whatever states the filter names."""
        inner = self._select(_dead(filter_))
        if inner is None:
            return []
        query = inner.with_only_columns(
            outcome.c.grp,
            func.count(),
            func.min(outcome.c.finished),
            func.max(outcome.c.finished),
            func.max(message.c.seq),
        )
        query = query.where(outcome.c.state == literal_column(str(DEAD))).group_by(outcome.c.grp)
        found = [self._group(*row) for row in self._reader.select(query)]
        return sorted(found, key=lambda group: (-group.count, group.id))

    def _group(self, id_: str, count: int, oldest: int, newest: int, seq: int) -> DeadGroup:
        row = self._reader.row("SELECT route, error FROM outcome WHERE seq = ?", (seq,))
        error = load_error(row[1]) if row is not None else None
        return DeadGroup(
            id=id_,
            route=self._words.text(row[0]) if row is not None else "",
            step=error.step if error is not None else "",
            error_class=error.error_class if error is not None else "",
            message=blank(error.message) if error is not None else "",
            count=count,
            oldest=instant_of(oldest),
            newest=instant_of(newest),
        )

    def newer_done(self, stored: Stored) -> str | None:
        envelope = stored.envelope
        if envelope.key is None:
            return None
        number = self._words.number
        lane = (envelope.key, number(envelope.route), number(envelope.scope), envelope.seq, DONE)
        row = self._reader.row(
            "SELECT m.mid FROM message m JOIN outcome o ON o.seq = m.seq"
            " WHERE m.key = ? AND m.route = ? AND m.scope = ? AND m.seq > ? AND o.state = ? AND o.reason IS NULL"
            " ORDER BY m.seq DESC LIMIT 1",
            lane,
        )
        return None if row is None else id_of(row[0])

    def blocked_lanes(self) -> list[tuple[str, str, str]]:
        text = self._words.text
        rows = self._reader.rows("SELECT DISTINCT route, scope, key FROM block")
        return [(text(route), text(scope), key) for route, scope, key in rows]


def pending_of(words: Words, row: tuple[Any, ...]) -> Pending:
    """A row of ``PENDING``."""
    seq, mid, route, scope, key, state, due, attempts, crashes, created, priority, overtakes, version, earlier = row
    text = words.text
    return Pending(
        seq,
        id_of(mid),
        text(route),
        text(scope),
        key,
        STATES[state],
        maybe_instant(due),
        attempts,
        crashes,
        instant_of(created),
        priority,
        bool(overtakes),
        text(version),
        earlier,
    )


# -- building the queries -----------------------------------------------------------------------------------------------
def _rows(kind: str = "both") -> Select[Any]:
    """Messages with their fate: only open ones, only ended ones, or both."""
    head = [column for column in message.c if column.name != "body"]
    p, o = pending_table.c, outcome.c
    null: ColumnElement[Any] = literal_column("NULL")
    a = attempt_table.c
    last = select(a.error).where(a.seq == message.c.seq).order_by(a.n.desc()).limit(1).scalar_subquery()
    fate: tuple[Any, ...]
    if kind == "open":
        fate = (p.state, p.attempts + p.earlier, null, p.due, null, last)
        joined = message.join(pending_table, p.seq == message.c.seq)
    elif kind == "ended":
        fate = (o.state, o.attempts, o.finished, null, o.reason, o.error)
        joined = message.join(outcome, o.seq == message.c.seq)
    else:
        fate = (
            func.coalesce(p.state, o.state),
            func.coalesce(p.attempts + p.earlier, o.attempts),
            o.finished,
            p.due,
            o.reason,
            case((p.seq.is_(None), o.error), else_=last),
        )
        joined = message.outerjoin(pending_table, p.seq == message.c.seq).outerjoin(outcome, o.seq == message.c.seq)
    return select(*fate, *head).select_from(joined)


def _kind_of(filter_: Filter) -> str:
    states = set(filter_.states)
    if filter_.group:
        return "ended"
    if not states:
        return "both"
    if states <= OPEN_STATES:
        return "open"
    return "both" if states & OPEN_STATES else "ended"


def _dead(filter_: Filter) -> Filter:
    kept = {name: getattr(filter_, name) for name in Filter.__slots__ if name != "states"}
    return Filter(**kept, states=(State.DEAD,))


def _narrow(query: Select[Any], filter_: Filter) -> Select[Any]:
    m = message.c
    query = _in_states(query, filter_)
    if filter_.group:
        either = or_(outcome.c.grp == filter_.group, outcome.c.dead_letter == filter_.group)
        query = query.where(outcome.c.state == literal_column(str(DEAD)), NOTABLE, either)
    if filter_.key is not None:
        query = query.where(m.key == filter_.key)
    if filter_.correlation_id:
        query = query.where(m.seq.in_(_by_correlation(filter_.correlation_id)))
    for name, value in filter_.track:
        t = track_table.c
        query = query.where(m.seq.in_(select(t.seq).where(t.value == value, t.name == name)))
    if filter_.text:
        query = query.where(m.seq.in_(_by_text(filter_.text)))
    if filter_.since is not None:
        query = query.where(m.created >= micros(filter_.since))
    if filter_.until is not None:
        query = query.where(m.created < micros(filter_.until))
    if filter_.before_seq is not None:
        query = query.where(m.seq < filter_.before_seq)
    return query


def _in_states(query: Select[Any], filter_: Filter) -> Select[Any]:
    open_codes = [CODES[state] for state in filter_.states if state in OPEN_STATES]
    ended_codes = [CODES[state] for state in filter_.states if state not in OPEN_STATES]
    conditions: list[ColumnElement[bool]] = []
    if open_codes:
        conditions.append(pending_table.c.state.in_(open_codes))
    if ended_codes:
        among = outcome.c.state.in_(ended_codes)
        conditions.append(and_(among, NOTABLE) if DONE not in ended_codes else among)
    return query.where(or_(*conditions)) if conditions else query


def _by_correlation(correlation: str) -> Any:
    found = select(message.c.seq).where(message.c.correlation == correlation)
    mid = find_mid(correlation)
    if mid is None:
        return found
    return union(found, select(message.c.seq).where(message.c.mid == mid, message.c.correlation.is_(None)))


def _by_text(text: str) -> Any:
    t = track_table.c
    parts = [
        select(message.c.seq).where(message.c.key == text),
        select(message.c.seq).where(message.c.correlation == text),
        select(t.seq).where(t.value == text),
    ]
    if (mid := find_mid(text)) is not None:
        parts.append(select(message.c.seq).where(message.c.mid == mid))
    return union(*parts)


__all__ = ["LARGEST_PAGE", "PENDING", "Queries", "pending_of"]
