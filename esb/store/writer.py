"""The one connection that writes and checkpoints, and what it must remember inside a transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from esb.errors import StoreBusy
from esb.store.tables import SPAN

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
    "INSERT INTO counter (route, state, n) VALUES (?, ?, ?) ON CONFLICT (route, state) DO UPDATE SET n = n + excluded.n"
)
_SPAN = (
    "INSERT INTO span (n, first, last) VALUES (?, ?, ?) ON CONFLICT (n) DO UPDATE"
    " SET first = min(first, excluded.first), last = max(last, excluded.last)"
)


class Writer:
    """Commands run on it, between :meth:`begin` and :meth:`commit`; ``execute`` is its one cursor's.

    Sequence numbers, words and counters are kept in memory while a transaction runs; :meth:`mark` and :meth:`reset` take
    them back together with a savepoint.
    """

    __slots__ = ("_connect", "_deltas", "_spans", "connection", "cursor", "epoch", "execute", "next_seq", "words")

    def __init__(self, connect: Callable[[], sqlite3.Connection], words: Words) -> None:
        self._connect = connect
        self._deltas: dict[tuple[int, int], int] = {}
        self._spans: dict[int, tuple[int, int]] = {}
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
        """A fresh connection: an fsync that failed is never tried again on the old one."""
        self.close()
        self._deltas.clear()
        self._spans.clear()
        self.open()

    def close(self) -> None:
        try:
            self.connection.close()
        except sqlite3.Error:
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
        """The last statements before a commit (or the end of a savepoint): counters and spans of time."""
        if self._spans:
            spans = [(n, first, last) for n, (first, last) in self._spans.items()]
            self._spans.clear()
            self.cursor.executemany(_SPAN, spans)
        if self._deltas:
            rows = [(route, state, n) for (route, state), n in self._deltas.items() if n]
            self._deltas.clear()
            self.cursor.executemany(_COUNTER, rows)

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
        self._deltas.clear()
        self._spans.clear()
        self.next_seq = mark[0]
        self.words.forget_after(mark[1])

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
        n = seq // SPAN
        first, last = self._spans.get(n, (created, created))
        self._spans[n] = (min(first, created), max(last, created))
        return seq

    def count(self, route: int, state: int, n: int = 1) -> None:
        slot = (route, state)
        self._deltas[slot] = self._deltas.get(slot, 0) + n

    def move(self, route: int, before: int, after: int, n: int = 1) -> None:
        self.count(route, before, -n)
        self.count(route, after, n)

    def meta(self, name: str) -> str:
        row = self.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return "" if row is None else row[0]

    def put_meta(self, name: str, value: str) -> None:
        self.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (name, value))

    def state_of(self, seq: int) -> int | None:
        """The state of a message, None where there is none (any more)."""
        row = self.execute("SELECT state FROM pending WHERE seq = ?", (seq,)).fetchone()
        if row is None:
            row = self.execute("SELECT state FROM outcome WHERE seq = ?", (seq,)).fetchone()
        return None if row is None else row[0]


#: A command: runs on the writer inside a transaction, gives the result of its future.
Command = Callable[..., Any]
