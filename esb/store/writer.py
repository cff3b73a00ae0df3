"""The one connection that writes and checkpoints, and what it must remember inside a transaction."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from esb.errors import StoreBusy, StoreError
from esb.store.codes import SPAN
from esb.store.connection import Connection

#: What :meth:`Writer.mark` gives: the next seq and the number of words.
Mark = tuple[int, int]


class Words:
    """The names that repeat in rows (routes, scopes, versions), both ways. Id 0 is the empty text.

    ``reload`` is for a store that is only read: another process may have written new ones.
    """

    __slots__ = ("ids", "reload", "texts")

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}
        self.texts: list[str] = []
        self.reload: Callable[[], list[tuple[Any, ...]]] | None = None

    def fill(self, rows: list[tuple[Any, ...]]) -> None:
        """Take over the rows of ``word`` in order of id."""
        self.texts = [row[0] for row in rows]
        self.ids = {text: number for number, text in enumerate(self.texts)}

    def text(self, number: int) -> str:
        if number >= len(self.texts) and self.reload is not None:
            self.fill(self.reload())
        return self.texts[number]

    def number(self, text: str) -> int | None:
        if text not in self.ids and self.reload is not None:
            self.fill(self.reload())
        return self.ids.get(text)

    def forget_after(self, count: int) -> None:
        for text in self.texts[count:]:
            del self.ids[text]
        del self.texts[count:]


#: The rows of ``word`` as :meth:`Words.fill` wants them.
ALL_WORDS = "SELECT text FROM word ORDER BY id"
_COUNTER = (
    "INSERT INTO counter (route, state, n) VALUES (?, ?, ?)"
    " ON CONFLICT (route, state) DO UPDATE SET n = counter.n + excluded.n"
)
_SPAN = (
    "INSERT INTO span (n, first, last) VALUES (?, ?, ?) ON CONFLICT (n) DO UPDATE"
    " SET first = CASE WHEN excluded.first < span.first THEN excluded.first ELSE span.first END,"
    " last = CASE WHEN excluded.last > span.last THEN excluded.last ELSE span.last END"
)
_TALLY = (
    "INSERT INTO kpi_hour (kpi, hour, label, what, n, weight) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (kpi, hour, label, what) DO UPDATE"
    " SET n = kpi_hour.n + excluded.n, weight = kpi_hour.weight + excluded.weight"
)
_META = "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
#: kpi, hour, label, what
Slot = tuple[int, int, str, str]


class Writer:
    """Commands run on it, between :meth:`begin` and :meth:`commit`; ``execute`` is its one cursor's.

    Sequence numbers, words and counters are kept in memory while a transaction runs; :meth:`mark` and :meth:`reset` take
    them back together with a savepoint. The rows of :meth:`later` are written together, by the commit at the latest:
    what looks for them asks for a :meth:`flush` first.
    """

    __slots__ = (
        "_connect",
        "_deltas",
        "_rows",
        "_spans",
        "_tallies",
        "connection",
        "cursor",
        "epoch",
        "execute",
        "next_seq",
        "queued",
        "running",
        "waiting",
        "words",
    )

    def __init__(self, connect: Callable[[], Connection], words: Words) -> None:
        self._connect = connect
        self._deltas: dict[tuple[int, int], int] = defaultdict(int)
        self._spans: dict[int, tuple[int, int]] = {}
        self._tallies: dict[Slot, tuple[int, int]] = {}
        self._rows: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        #: lanes whose open messages are among the rows that are not written yet
        self.waiting: set[tuple[int, int, str | None]] = set()
        #: routes of messages that wait, and that run, as their birth left them: what else their rows say is known, unless
        #: somebody else was there meanwhile. Whoever relies on it writes by :meth:`later`, which finds out.
        self.queued: dict[int, int] = {}
        self.running: dict[int, int] = {}
        self.next_seq: int = 1
        self.words = words
        self.epoch = ""
        self.open()

    # -- the connection -----------------------------------------------------------------------------------------------
    def open(self) -> None:
        """Connect and read what must be known; also after an I/O error, when nothing in memory can be trusted."""
        self.connection = self._connect()
        self.cursor = self.connection.cursor()
        self.execute = self.cursor.execute
        try:
            self.words.fill(self.execute(ALL_WORDS).fetchall())
            (highest,) = self.execute("SELECT coalesce(max(seq), 0) FROM message").fetchone()
            self.next_seq = max(highest, int(self.meta("last_seq") or 0)) + 1
        except BaseException:
            self.close()
            raise

    def reopen(self) -> None:
        """A fresh connection and an empty log: an fsync that failed is never tried again.

        The pages that it left unwritten count as clean, so the log is not written on: what can be read of it goes into the
        file, which is synced, before the next commit begins a new one. Raises StoreBusy while a reader stands in the way.
        """
        self.close()
        self._forget()
        self.open()
        if not self.connection.put_away():
            raise StoreBusy("the store is being read; its log could not be put away", hint="it is tried again")

    def close(self) -> None:
        try:
            self.connection.close()
        except (sqlite3.Error, OSError):
            return  # it is broken; the next one recovers from the log

    # -- transactions -------------------------------------------------------------------------------------------------
    def begin(self) -> None:
        """Start a transaction. Raises StoreBusy where another process has taken over the store."""
        self.execute("BEGIN IMMEDIATE")
        if self.epoch and self.meta("epoch") != self.epoch:
            raise StoreBusy(
                "another process has taken over the store; this one must not write any more",
                hint="stop one of the two; `.esb/bus.lock` names the owner",
                retry_after=timedelta(minutes=1),
            )

    def finish(self) -> None:
        """The last statements before a commit (or the end of a savepoint): rows, counters and spans of time."""
        if self._rows:
            self.flush()
        if self._spans:
            spans = [(n, first, last) for n, (first, last) in self._spans.items()]
            self._spans.clear()
            self.cursor.executemany(_SPAN, spans)
        if self._deltas:
            rows = [(route, state, n) for (route, state), n in self._deltas.items() if n]
            self._deltas.clear()
            self.cursor.executemany(_COUNTER, rows)
        if self._tallies:
            tallies = [(*slot, n, weight) for slot, (n, weight) in self._tallies.items()]
            self._tallies.clear()
            self.cursor.executemany(_TALLY, tallies)

    def commit(self) -> None:
        self.connection.execute("COMMIT")

    def rollback(self, mark: Mark) -> None:
        """Take the whole transaction back. SQLite may have done so itself after a full disk or an I/O error."""
        self.reset(mark)
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def mark(self) -> Mark:
        return self.next_seq, len(self.words.texts)

    def reset(self, mark: Mark) -> None:
        """Forget what was taken since ``mark``."""
        self._forget()
        self.next_seq = mark[0]
        self.words.forget_after(mark[1])

    def _forget(self) -> None:
        """Nothing of what this transaction would have counted is so."""
        self._rows.clear()
        self.waiting.clear()
        self.queued.clear()
        self.running.clear()
        self._deltas.clear()
        self._spans.clear()
        self._tallies.clear()

    # -- rows of a group ----------------------------------------------------------------------------------------------
    def later(self, statement: str, row: tuple[Any, ...]) -> None:
        """Write a row together with all others of the group: half as dear as one by one, and less with ``NULL`` and byte arrays in it.

        The statement changes exactly one row; where it turns out that it did not, the group is taken back and its commands
        run one by one, so that only the one whose row it was fails.
        """
        self._rows[statement].append(row)

    def flush(self) -> None:
        """Write the rows of :meth:`later`. Raises StoreError where one of them was not what it was a moment ago."""
        if not self._rows:
            return
        written, self._rows = self._rows, defaultdict(list)
        self.waiting.clear()
        cursor = self.cursor
        for statement, rows in written.items():
            cursor.executemany(statement, rows)
            if cursor.rowcount != len(rows):
                raise StoreError("a message is not in the state that was read a moment ago")

    # -- what commands need -------------------------------------------------------------------------------------------
    def word(self, text: str) -> int:
        """The number of a name; a new one is written along."""
        known = self.words.ids.get(text)
        if known is None:
            known = len(self.words.texts)
            self.execute("INSERT INTO word (id, text) VALUES (?, ?)", (known, text))
            self.words.texts.append(text)
            self.words.ids[text] = known
        return known

    def next(self, created: int) -> int:
        """The next place in the order, taken by a message of that instant."""
        seq = self.next_seq
        self.next_seq = seq + 1
        n, spans = seq // SPAN, self._spans
        known = spans.get(n)
        if known is None:
            spans[n] = (created, created)
        elif created > known[1]:
            spans[n] = (known[0], created)
        elif created < known[0]:
            spans[n] = (created, known[1])
        return seq

    def count(self, route: int, state: int, n: int = 1) -> None:
        self._deltas[route, state] += n

    def move(self, route: int, before: int, after: int, n: int = 1) -> None:
        self._deltas[route, before] -= n
        self._deltas[route, after] += n

    def tally(self, slot: Slot, n: int, weight: int = 0) -> None:
        """Count for an indicator; written once per transaction, however often it is called."""
        before = self._tallies.get(slot, (0, 0))
        self._tallies[slot] = (before[0] + n, before[1] + weight)

    def meta(self, name: str) -> str:
        row = self.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return "" if row is None else row[0]

    def put_meta(self, name: str, value: str) -> None:
        self.execute(_META, (name, value))

    def state_of(self, seq: int) -> int | None:
        """The state of a message, None where there is none (any more)."""
        self.flush()
        row = self.execute("SELECT state FROM pending WHERE seq = ?", (seq,)).fetchone()
        if row is None:
            row = self.execute("SELECT state FROM outcome WHERE seq = ?", (seq,)).fetchone()
        return None if row is None else row[0]


#: A command: runs on the writer inside a transaction, gives the result of its future.
Command = Callable[..., Any]
