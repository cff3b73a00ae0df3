"""What a group of commands will ask, asked of a distant database in one go: a question each costs a way there and back.

Answers are given only as long as nothing was written that could change them. A dedupe key that is free is taken together with
the others of the group; whoever asks about keys before that finds them taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from esb.store.accept import CLAIM, IS_BLOCKED, IS_OPEN, Draft
from esb.store.commands import OPEN, ROUTE_AND_STATE, START, STATE_ALONE
from esb.store.committer import Job
from esb.store.writer import Words

#: The columns of open messages that are read ahead; each question is answered by some of them.
_COLUMNS = ("route", "scope", "key", "state", "earlier", "traces")
_OPEN = f"SELECT seq, {', '.join(_COLUMNS)} FROM pending WHERE seq = ANY(?)"  # noqa: S608 - constants
#: The questions about one open message, with the places of their answers among the columns.
_OF_SEQ = {OPEN: (0, 1, 2, 3, 4, 5), ROUTE_AND_STATE: (0, 3), STATE_ALONE: (3,)}
_BLOCKED = "SELECT DISTINCT route, scope, key FROM block LIMIT 501"
#: Blocked lanes up to which all of them are kept.
_MOST = 500
_LANES = (
    "SELECT DISTINCT p.route, p.scope, p.key FROM unnest(?::bigint[], ?::bigint[], ?::text[]) AS k(r, s, t)"
    ' JOIN pending p ON p.route = k.r AND p.scope = k.s AND p.key = k.t COLLATE "C"'
)
_TAKEN = (
    "SELECT d.route, d.space, d.key FROM unnest(?::bigint[], ?::text[], ?::text[]) AS k(r, s, t)"
    ' JOIN dedupe d ON d.route = k.r AND d.space = k.s COLLATE "C" AND d.key = k.t COLLATE "C"'
)
#: Statements that change nothing of this, as they begin.
_HARMLESS = (
    "SELECT",
    "INSERT INTO dedupe",
    "INSERT INTO word",
    "INSERT INTO ledger",
    "INSERT INTO track",
    "INSERT INTO message",
    "INSERT INTO kpi",
)
#: Statements that take everything back, or begin anew.
_ANEW = frozenset({"BEGIN IMMEDIATE", "ROLLBACK"})

Place = tuple[int, Any, str]


class Questions(NamedTuple):
    """What will be asked about: open messages, dedupe keys (route, space, key), lanes (route, scope, key)."""

    seqs: Sequence[int]
    keys: Sequence[Place]
    lanes: Sequence[Place]


def questions_of(group: Sequence[Job], words: Words) -> Questions:
    """What the commands of a group will ask about, as far as their arguments tell."""
    number, keys, lanes = words.ids.get, [], []
    for draft in _drafts([arg for job in group for arg in job.args]):
        new = draft.new
        route, scope = number(new.envelope.route), number(new.envelope.scope)
        if route is None:
            continue  # the first of its route: nothing is there
        keys += [(route, key.space, key.key) for key in (new.source_key, new.dedupe) if key is not None]
        if scope is not None and new.envelope.key is not None:
            lanes.append((route, scope, new.envelope.key))
    return Questions([job.seq for job in group if job.seq], keys, lanes)


def _drafts(parts: Iterable[Any]) -> Iterator[Draft]:
    for part in parts:
        if isinstance(part, Draft):
            yield part
            if part.ending is not None:
                yield from _drafts(part.ending.children)
        elif isinstance(part, list):
            yield from _drafts(part)
        elif children := getattr(part, "children", None):
            yield from _drafts(children)


class Known:
    """An answer that was there before the question."""

    __slots__ = ("_row",)

    def __init__(self, row: tuple[Any, ...] | None) -> None:
        self._row = row

    def fetchone(self) -> tuple[Any, ...] | None:
        return self._row


class Ahead:
    """The answers of one group, and the dedupe keys that it takes."""

    __slots__ = ("_blocked", "_free", "_lanes", "_occupied", "_open", "claims")

    def __init__(self) -> None:
        self._free: set[Place] = set()
        #: keys to be taken before anything else is asked or written
        self.claims: list[tuple[Any, ...]] = []
        self._open: dict[int, tuple[Any, ...] | None] = {}
        self._blocked: set[tuple[Any, ...]] | None = None
        self._lanes: set[Place] = set()
        self._occupied: set[tuple[Any, ...]] = set()

    def read(self, ask: Callable[[str, Sequence[Any]], list[tuple[Any, ...]]], about: Questions) -> None:
        if about.seqs:
            found = {row[0]: row[1:] for row in ask(_OPEN, (list(about.seqs),))}
            self._open = {seq: found.get(seq) for seq in about.seqs}
        if about.keys:
            self._free = set(about.keys) - set(ask(_TAKEN, [list(column) for column in zip(*about.keys, strict=True)]))
        if about.lanes:
            self._lanes = set(about.lanes)
            self._occupied = set(ask(_LANES, [list(column) for column in zip(*self._lanes, strict=True)]))
            blocked = ask(_BLOCKED, ())
            self._blocked = set(blocked) if len(blocked) <= _MOST else None

    def answer(self, sql: str, values: Any) -> Known | None:
        """The answer to a question where it is known; a statement that writes makes what it may change unknown."""
        places = _OF_SEQ.get(sql)
        if places is not None:
            seq = values[0]
            if seq not in self._open:
                return None
            row = self._open[seq]
            return Known(None if row is None else tuple([row[place] for place in places]))
        if sql == CLAIM:
            return self._claim(values)
        if sql == IS_BLOCKED:
            return None if self._blocked is None else Known((1,) if tuple(values) in self._blocked else None)
        if sql == IS_OPEN and tuple(values) in self._lanes:
            return Known((1,) if tuple(values) in self._occupied else None)
        if sql == START:
            self._open.pop(values[2], None)
        else:
            self.written(sql)
        return None

    def _claim(self, values: Any) -> Known | None:
        place = (values[0], values[1], values[2])
        if place not in self._free:
            return None
        self._free.discard(place)
        self.claims.append(values)
        return Known(None)

    def written(self, sql: str) -> None:
        """A statement is about to run that may change what is known."""
        if sql in _ANEW:
            self._free.clear()
            self.claims.clear()
        if not sql.startswith(_HARMLESS):
            self._forget()

    def _forget(self) -> None:
        self._open, self._blocked, self._lanes, self._occupied = {}, None, set(), set()
