"""Questions to the store. The ones that the runtime asks per message are plain SQL, those of people SQLAlchemy Core."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from esb.blob import Blob
from esb.errors import StoreError
from esb.message import Envelope
from esb.store.base import DeadGroup, Filter, Pending, RouteCounts, Stored
from esb.store.blob_rows import split_content
from esb.store.codes import ACCEPTED, CODES, DEAD, DONE, LAST_OPEN, PURGED, SPAN, STATES
from esb.store.reader import Reader
from esb.store.retention import Old, bound_of
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
_FATE = (
    "coalesce(p.state, o.state), coalesce(p.attempts + p.earlier, o.attempts), o.finished, p.due, o.reason,"
    " CASE WHEN p.seq IS NULL THEN o.error ELSE"
    " (SELECT error FROM attempt a WHERE a.seq = m.seq ORDER BY a.n DESC LIMIT 1) END"
)
_JOINED = " FROM message m LEFT JOIN pending p ON p.seq = m.seq LEFT JOIN outcome o ON o.seq = m.seq"
_ITEM = ", ".join(f"m.{column}" for column in _HEAD.split(", "))
_FOUND = f"SELECT {_FATE}, {_ITEM} {_JOINED}"
_STORED = f"SELECT {_FATE}, {_ITEM}, m.body {_JOINED} WHERE m.mid = ?"
_CHILDREN = "SELECT seq FROM message WHERE parent = ? ORDER BY seq LIMIT 10000"
#: Messages that one statement reads.
_TOGETHER = 500
_TRACE = (
    "SELECT attempt, at, state, trace, error FROM (SELECT n, attempt, at, state, trace, error FROM attempt WHERE seq = :seq"
    " UNION ALL SELECT 9e18, attempts, finished, state, trace, NULL FROM outcome WHERE seq = :seq AND trace IS NOT NULL) AS entries"
    " ORDER BY n"
)
_TRACKED = (
    "SELECT t.seq FROM track t JOIN message m ON m.seq = t.seq WHERE t.value = :value AND t.name = :name AND t.seq > :after"
    " AND (:route = 0 OR m.route = :route) AND (m.scope = 0 OR m.route <> :whole) ORDER BY t.seq DESC LIMIT 10"
)
_ARRIVALS = (
    "SELECT created FROM message WHERE route = ? AND seq >= coalesce((SELECT min(n) FROM span WHERE last > ?), 0) * ?"
    " AND created > ? AND created <= ? AND scope = 0 AND duplicate_of IS NULL AND replay_of IS NULL"
    " ORDER BY seq DESC LIMIT ?"
)
#: A newer one that reached only some of its targets counts, too: there, the older one would undo it; one that overtakes counts
#: from its acceptance on. `+`: the index of the route would lead over all of its newer messages.
NEWER_DONE = (
    "SELECT m.mid FROM message m LEFT JOIN outcome o ON o.seq = m.seq"
    " WHERE m.key = ? AND +m.route = ? AND m.scope = ? AND m.seq > ? AND ((o.state = ? AND o.reason IS NULL)"
    " OR (m.overtakes = 1 AND (o.state IS NULL OR o.state = ?))"
    " OR EXISTS (SELECT 1 FROM ledger l WHERE l.seq = m.seq)) ORDER BY m.seq DESC LIMIT 1"
)
_TAKEN = "SELECT mid FROM dedupe WHERE route = ? AND space = 'source' AND key = ?"
_GONE = "no message {seq} in the store"


class Queries:
    """Reads committed data only. ``words`` are the writer's, or loaded by a store that is only read."""

    def __init__(self, reader: Reader, words: Words, blob_at: Callable[[str, int], Blob]) -> None:
        self._reader = reader
        self._words = words
        self._blob_at = blob_at

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

    def tracked(self, name: str, value: str, route: str, after_seq: int, whole: str) -> list[int]:
        number = self._words.number(route) if route else 0
        values = {"name": name, "value": value, "route": number, "after": after_seq, "whole": self._words.number(whole)}
        rows = self._reader.rows(_TRACKED, values)
        return [row[0] for row in rows]

    def states(self, prefix: str, after: tuple[str, str], limit: int) -> list[tuple[str, str, Any]]:
        rows = self._reader.rows(
            "SELECT space, name, value FROM state WHERE space >= ? AND space < ? AND (space, name) > (?, ?)"
            " ORDER BY space, name LIMIT ?",
            (prefix, prefix + "\U0010ffff", *after, limit),
        )
        return [(space, name, load_any(value)) for space, name, value in rows]

    def taken_under(self, route: str, key: str) -> str:
        number = self._words.number(route)
        row = self._reader.row(_TAKEN, (number, key)) if number is not None else None
        return id_of(row[0]) if row is not None else ""

    def arrivals(self, route: str, since: datetime, until: datetime, most: int) -> list[datetime]:
        number = self._words.number(route)
        if number is None:
            return []
        after = micros(since)
        rows = self._reader.rows(_ARRIVALS, (number, after, SPAN, after, micros(until), most))
        return [instant_of(row[0]) for row in rows]

    def get(self, id_: str, *, trace: bool) -> Stored | None:
        mid = find_mid(id_)
        row = None if mid is None else self._reader.row(_STORED, (mid,))
        if row is None:
            return None
        return self._stored(row[6:], row[:6], self._trace(row[6]) if trace else ())

    def _trace(self, seq: int) -> list[dict[str, Any]]:
        """The entries of every attempt, in order; the last one of each says when and how the attempt ended."""
        entries: list[dict[str, Any]] = []
        for number, at, state, trace, error in self._reader.rows(_TRACE, {"seq": seq}):
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
        content, blob = split_content(content, self._blob_at)
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
            meta=load_vars(meta),
            track=load(track),
            seq=seq,
            blob=blob,
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

    # -- asked by housekeeping ----------------------------------------------------------------------------------------
    def expiring(self, old: Old, limit: int) -> list[int]:
        """The seqs of messages that are old, oldest first."""
        condition, values = old.condition()
        rows = self._reader.rows(
            f"SELECT o.seq FROM outcome o WHERE o.seq < ? AND {condition} ORDER BY o.seq LIMIT ?",  # noqa: S608 - only places
            (bound_of(self._reader.row, old.before), *values, limit),
        )
        return [row[0] for row in rows]

    # -- asked by people ----------------------------------------------------------------------------------------------
    def find(self, filter_: Filter) -> list[Stored]:
        known, route = self._route_of(filter_)
        if not known:
            return []
        with self._reader.snapshot():
            from esb.store.search import places  # noqa: PLC0415 - see esb.store.tables

            return self._stored_at([row[0] for row in self._reader.select(places(filter_, route))])

    def children(self, ids: Sequence[str]) -> list[Stored]:
        mids = [mid for id_ in ids if (mid := find_mid(id_)) is not None]
        with self._reader.snapshot():
            found = [row[0] for mid in mids for row in self._reader.rows(_CHILDREN, (mid,))]
            return self._stored_at(sorted(found))

    def _route_of(self, filter_: Filter) -> tuple[bool, int | None]:
        """Whether the filter's route is known, and its number; none where it names none."""
        if not filter_.route or filter_.ids:
            return True, None
        number = self._words.number(filter_.route)
        return number is not None, number

    def _stored_at(self, seqs: Sequence[int]) -> list[Stored]:
        """The messages of these places, in that order."""
        found: dict[int, Stored] = {}
        for start in range(0, len(seqs), _TOGETHER):
            some = seqs[start : start + _TOGETHER]
            places_ = ", ".join("?" * len(some))
            for row in self._reader.rows(f"{_FOUND} WHERE m.seq IN ({places_})", some):
                found[row[6]] = self._stored(row[6:], row[:6])
        return [found[seq] for seq in seqs]

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
        known, route = self._route_of(filter_)
        if not known:
            return []
        from esb.store.search import dead_groups  # noqa: PLC0415 - see esb.store.tables

        found = [self._group(*row) for row in self._reader.select(dead_groups(filter_, route))]
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
        lane = (envelope.key, number(envelope.route), number(envelope.scope), envelope.seq, DONE, DEAD)
        row = self._reader.row(NEWER_DONE, lane)
        return None if row is None else id_of(row[0])

    def blocked_lanes(self) -> dict[tuple[str, str, str], int]:
        text = self._words.text
        rows = self._reader.rows("SELECT route, scope, key, min(seq) FROM block GROUP BY route, scope, key")
        return {(text(route), text(scope), key): seq for route, scope, key, seq in rows}


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


__all__ = ["PENDING", "Queries", "pending_of"]
