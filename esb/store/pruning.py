"""What the embedded store does for retention, beside :mod:`esb.store.retention`, which does it inside the transaction."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from esb.errors import StoreError
from esb.message import OPEN_STATES, State
from esb.store import retention
from esb.store.codes import CODES
from esb.store.queries import Queries
from esb.store.reader import Reader
from esb.store.values import micros
from esb.store.writer import Words, Writer


class Pruning:
    """Part of :class:`esb.store.sqlstore.SqlStore`."""

    _submit: Callable[..., asyncio.Future[Any]]
    _search: Reader
    _queries: Queries
    _words: Words

    _writer: Writer | None
    _short: bool

    def _tell_unheard(self, *_: object) -> None:
        raise NotImplementedError

    def _look_at_disk(self) -> None:
        raise NotImplementedError

    def purge(
        self,
        before: datetime,
        states: Sequence[State],
        limit: int = 200,
        *,
        routes: Sequence[str] = (),
        but: Sequence[str] = (),
        only: Sequence[int] = (),
    ) -> asyncio.Future[int]:
        """Remove up to ``limit`` messages that ended before an instant; gives the number removed.

        Of ``routes``, else of every route that is not in ``but``; ``only`` names them by their numbers. Messages under a legal hold
        stay. Below ``limit`` nothing is left to do; let other work go on between two calls. Raises StoreError for open states.
        """
        old = self._old(before, states, routes, but, only)
        future: asyncio.Future[int] = self._submit(retention.purge, old, limit)
        if State.DEAD in states:
            future.add_done_callback(self._tell_unheard)  # what a purged one blocked is queued now
        return future

    def strip(
        self, before: datetime, states: Sequence[State], limit: int = 200, *, only: Sequence[int] | None = None
    ) -> asyncio.Future[int]:
        """Take payloads away, not their messages; gives 0 where nothing is left to do. ``only`` are those of :meth:`stripping`."""
        future: asyncio.Future[int] = self._submit(retention.strip, self._old(before, states), limit, only)
        return future

    def stripping(self, before: datetime, states: Sequence[State], limit: int = 200) -> list[int]:
        """The numbers of the messages whose payloads :meth:`strip` would take away next."""
        return retention.strippable(self._search.rows, self._old(before, states), limit)[1]

    def expiring(
        self,
        before: datetime,
        states: Sequence[State],
        limit: int,
        *,
        routes: Sequence[str] = (),
        but: Sequence[str] = (),
    ) -> list[int]:
        """The numbers of the messages that :meth:`purge` would remove."""
        return self._queries.expiring(self._old(before, states, routes, but), limit)

    def _old(
        self,
        before: datetime,
        states: Sequence[State],
        routes: Sequence[str] = (),
        but: Sequence[str] = (),
        only: Sequence[int] = (),
    ) -> retention.Old:
        if wrong := [state for state in states if state in OPEN_STATES]:
            raise StoreError(f"messages that are {wrong[0]} cannot be purged")
        number = self._words.number
        known = [n for name in routes if (n := number(name)) is not None]
        spared = [n for name in but if (n := number(name)) is not None]
        codes = [CODES[state] for state in states]
        return retention.Old(micros(before), codes, known if not routes else known or [-1], spared, only)

    def make_room(self) -> bool:
        """Put the log of the store into its file, so that it begins anew, where the disk is short. False where that is no help."""
        self._look_at_disk()
        if not self._short or self._writer is None:
            return False
        try:
            return self._writer.connection.put_away()
        except sqlite3.Error:  # a commit is under way, or the disk is ill
            return False

    def used_bytes(self) -> int:
        """Bytes of the store that hold something: in the database, and payload files."""
        blobs = self._search.rows("SELECT coalesce(sum(size), 0) FROM (SELECT DISTINCT sha, size FROM blob) AS files")
        return self._search.used_bytes() + int(blobs[0][0])
