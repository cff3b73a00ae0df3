"""A connection that only reads: committed data, short statements, never a checkpoint."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from esb.errors import StoreBusy, StoreCorrupt
from esb.store.connection import Connection

if TYPE_CHECKING:
    from sqlalchemy.sql import ClauseElement

#: A query that takes longer is stopped: a long reader keeps the write-ahead log from being reused.
LONGEST_QUERY = 5.0


class Reader:
    """Runs queries on a read connection of its own; may be called from any thread, one query at a time.

    Raises StoreBusy where a query takes longer than ``LONGEST_QUERY`` seconds, StoreCorrupt where the file is damaged.
    """

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connection = connect()
        self._lock = threading.RLock()

    def rows(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._ask(sql, parameters, LONGEST_QUERY)

    def _ask(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any], most: float) -> list[tuple[Any, ...]]:
        self._connection.limit(most)
        try:
            return self._connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise _explained(error) from error

    def row(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> tuple[Any, ...] | None:
        found = self.rows(sql, parameters)
        return found[0] if found else None

    def select(self, query: ClauseElement) -> list[tuple[Any, ...]]:
        """Run a SQLAlchemy Core query."""
        return self.rows(*self._connection.select(query))

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Several queries that see the same commits; nobody else asks on this connection meanwhile."""
        with self._lock:
            self.rows("BEGIN")
            try:
                yield
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def unlimited(self, sql: str) -> list[tuple[Any, ...]]:
        """For checks of the whole file, while nothing else happens."""
        with self._lock:
            return self._ask(sql, (), float("inf"))

    def used_bytes(self) -> int:
        """Bytes of the database that hold something."""
        with self._lock:
            self._connection.limit(LONGEST_QUERY)
            try:
                return self._connection.used_bytes()
            except sqlite3.Error as error:
                raise _explained(error) from error

    def faults(self) -> list[str]:
        """What the database finds wrong with its own files; may read all of them."""
        with self._lock:
            self._connection.limit(float("inf"))
            try:
                return self._connection.faults()
            except sqlite3.Error as error:
                raise _explained(error) from error

    def close(self) -> None:
        with self._lock:
            self._connection.close()


def _explained(error: sqlite3.Error) -> Exception:
    code = int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
    if code == sqlite3.SQLITE_INTERRUPT:
        return StoreBusy(
            f"the query took longer than {LONGEST_QUERY:g} s and was stopped",
            hint="narrow it: a route, a key, a shorter span of time",
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreCorrupt(f"the store is damaged: {error}", hint="stop the bus, then `esb db verify`")
    return StoreBusy(f"the store could not be read: {error}", hint="look at the disk; try again")
