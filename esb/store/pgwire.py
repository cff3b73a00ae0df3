"""Connections to PostgreSQL in the words of :mod:`esb.store.connection`; the one module that imports the driver.

Faults of the connection and of the server are ``OSError`` here (:class:`Lost`, :class:`TooLong`), as those of a disk are
for SQLite; what is wrong with one statement stays the driver's own error, and fails one command.
"""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.abc import AdaptContext
from psycopg.pq import TransactionStatus
from psycopg.types.numeric import Int8BinaryDumper, NumericBinaryLoader
from psycopg.types.string import StrBinaryDumper

from esb.errors import StoreError
from esb.store.accept import CLAIM
from esb.store.ahead import Ahead, Questions
from esb.store.dialect import for_postgresql
from esb.store.values import NULL

if TYPE_CHECKING:
    from sqlalchemy.sql import ClauseElement

#: Seconds that opening a connection may take, that a server may be late beyond what a statement may take, and that data
#: may be under way.
CONNECT, SILENT, UNDER_WAY = 3, 5.0, 10.0
#: How text that PostgreSQL cannot hold is stored: its one forbidden character as the picture of it.
_NUL, _PICTURE = "\0", "\u2400"
#: SQLSTATEs, or their classes, that are faults of the server or of its setup and none of the statement.
_FAULTS = ("08", "28", "3D", "3F", "40", "53", "55", "57", "58", "XX", "25006", "42501", "42P01")


#: What a statement fails with by itself; see :func:`judged`.
StatementError = psycopg.Error


class Lost(ConnectionError):
    """The connection is gone, or the server cannot do what the store needs. ``state`` is the SQLSTATE, where it gave one."""

    def __init__(self, words: str, state: str = "") -> None:
        super().__init__(words)
        self.state = state


class Full(Lost):
    """The server's disk has no room: the connection is as good as before."""

    sqlite_errorcode = sqlite3.SQLITE_FULL  #: the committer knows this fault by that number


class TooLong(TimeoutError):
    """A statement took longer than it may."""


class _Text(StrBinaryDumper):
    """Text, also where it holds a NUL."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace(_NUL, _PICTURE) if _NUL in obj else obj)


class _Whole(NumericBinaryLoader):
    """``numeric``: sums of whole numbers, and nothing else, have this type in the store."""

    def load(self, data: Any) -> int:  # type: ignore[override]  # the driver's gives a Decimal
        return int(super().load(data))


class Cursor:
    """Runs the store's statements, translated and prepared."""

    __slots__ = ("_connection", "_raw", "_took", "fetchall", "fetchone")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._raw = connection.raw.cursor(binary=True)
        self._took = False
        self.fetchone: Callable[[], Any] = self._raw.fetchone
        self.fetchall: Callable[[], list[Any]] = self._raw.fetchall

    @property
    def rowcount(self) -> int:
        return 1 if self._took else self._raw.rowcount

    @property
    def said(self) -> str:
        """What the server called the last statement."""
        return self._raw.statusmessage or ""

    def read_ahead(self, about: Questions) -> None:
        """Ask at once what a group of commands will ask one by one."""
        self._connection.ahead, ahead = None, Ahead()
        try:
            ahead.read(lambda sql, values: self.execute(sql, values).fetchall(), about)
        except OSError:
            raise
        except (psycopg.Error, ValueError):
            return  # a key that cannot be sent: each command asks for itself, and the one that has it fails alone
        self._connection.ahead = ahead

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = (), /) -> Any:
        connection, self._took = self._connection, False
        if (ahead := connection.ahead) is not None:
            if (known := ahead.answer(sql, parameters)) is not None:
                self._took = sql == CLAIM
                return known
            if ahead.claims:
                self._claim(ahead)
        connection.busy_since = time.monotonic()
        try:
            self._raw.execute(for_postgresql(sql).encode(), parameters)
        except psycopg.Error as error:
            raise judged(error) from error
        finally:
            connection.busy_since = 0.0
        return self

    def executemany(self, sql: str, parameters: Sequence[Sequence[Any]], /) -> None:
        connection, self._took = self._connection, False
        if (ahead := connection.ahead) is not None:
            ahead.written(sql)
            if ahead.claims:
                self._claim(ahead)
        connection.busy_since = time.monotonic()
        try:
            rows = [[None if value is NULL else value for value in row] for row in parameters]
            self._raw.executemany(for_postgresql(sql).encode(), rows)
        except psycopg.Error as error:
            raise judged(error) from error
        finally:
            connection.busy_since = 0.0

    def _claim(self, ahead: Ahead) -> None:
        """Take the keys that were free when the group began. Raises StoreError where one is not: the group runs one by one."""
        rows, ahead.claims = ahead.claims, []
        self.executemany(CLAIM, rows)
        if self._raw.rowcount != len(rows):
            raise StoreError("a key is not as free as it was a moment ago")


class Connection:
    """Implements :class:`esb.store.connection.Connection`; made by :func:`connect`."""

    def __init__(self, raw: psycopg.Connection[tuple[Any, ...]]) -> None:
        self.raw = raw
        #: what is known of the group at work
        self.ahead: Ahead | None = None
        #: monotonic seconds at which the statement at work began, 0 while there is none; and what it may take
        self.busy_since = 0.0
        self.patience = SILENT
        self._limit: float | None = None

    @property
    def closed(self) -> bool:
        return self.raw.closed

    @property
    def version(self) -> int:
        """Of the server: 150002 is 15.2."""
        return self.raw.info.server_version

    @property
    def encoding(self) -> str:
        """Of the database, in the server's word."""
        return self.raw.info.parameter_status("server_encoding") or ""

    @property
    def in_transaction(self) -> bool:
        return not self.raw.closed and self.raw.info.transaction_status != TransactionStatus.IDLE

    def cursor(self) -> Cursor:
        try:
            return Cursor(self)
        except psycopg.Error as error:
            raise judged(error) from error

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = (), /) -> Cursor:
        cursor = self.cursor()
        cursor.execute(sql, parameters)
        if sql == "COMMIT" and cursor.said != "COMMIT":
            raise Lost("the server took the transaction back")
        return cursor

    def close(self) -> None:
        self.raw.close()

    def limit(self, seconds: float) -> None:
        if seconds != self._limit:
            most = 0 if seconds == float("inf") else max(1, int(seconds * 1000))
            self.execute(f"SET statement_timeout = {most}")
            self._limit, self.patience = seconds, seconds + SILENT

    def select(self, query: ClauseElement) -> tuple[str, Mapping[str, Any]]:
        return selected(query)

    def fill(self, table: str, columns: Mapping[str, str], rows: Iterable[Sequence[Any]]) -> int:
        """Write many rows by one `COPY`; ``columns`` gives the type of each. How many the server took."""
        words = f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT BINARY)"
        cursor = self.raw.cursor()
        try:
            with cursor.copy(words.encode()) as copy:
                copy.set_types(list(columns.values()))
                for row in rows:
                    copy.write_row(row)
        except psycopg.Error as error:
            raise judged(error) from error
        return cursor.rowcount

    def put_away(self) -> bool:
        return True  # the server's own work

    def used_bytes(self) -> int:
        """What the messages there are take up, by those that came last: the files themselves do not shrink when some go."""
        (stored,) = self.execute(_STORED).fetchone()
        if not stored:
            return 0
        (row,) = self.execute(_NEWEST).fetchone()
        (own, everything) = self.execute(_SIZES).fetchone()
        return int(stored * (row or 0.0) * max(1.0, everything / max(1, own)))

    def faults(self) -> list[str]:
        (failed,) = self.execute(
            "SELECT coalesce(checksum_failures, 0) FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
        return [f"the server found {failed} pages whose checksum is wrong"] if failed else []


_NEWEST = (  # the size of a column is known without reading what lies beside the table
    "SELECT avg(n)::float8 FROM (SELECT 160 + pg_column_size(body) + coalesce(pg_column_size(headers), 0)"
    " + coalesce(pg_column_size(vars), 0) + coalesce(pg_column_size(meta), 0) + coalesce(pg_column_size(track), 0) AS n"
    " FROM message ORDER BY seq DESC LIMIT 500) AS newest"
)
_STORED = "SELECT coalesce(sum(n), 0)::bigint FROM counter WHERE state < 100"
_SIZES = (
    "SELECT pg_table_size('message')::bigint, (SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c"
    " WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r')::bigint"
)


def selected(query: ClauseElement) -> tuple[str, Mapping[str, Any]]:
    """A query of SQLAlchemy Core with marks that :func:`esb.store.dialect.for_postgresql` takes."""
    from sqlalchemy.dialects.postgresql import dialect  # noqa: PLC0415 - see esb.store.tables

    named: Any = dialect
    compiled = query.compile(dialect=named(paramstyle="named"), compile_kwargs={"render_postcompile": True})
    return str(compiled), compiled.params


def connect(arguments: Mapping[str, Any], session: str) -> Connection:
    """A connection of the store; ``session`` are the statements that it begins with. Raises :class:`Lost`."""
    try:
        raw: psycopg.Connection[tuple[Any, ...]] = psycopg.connect(
            autocommit=True,
            prepare_threshold=2,
            connect_timeout=CONNECT,
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
            tcp_user_timeout=int(UNDER_WAY * 1000),
            application_name="esb",
            **arguments,
        )
    except psycopg.Error as error:
        raise judged(error) from error
    try:
        raw.prepared_max = 400
        _adapt(raw)
        raw.execute(session.encode())
    except psycopg.Error as error:
        raw.close()
        raise judged(error) from error
    return Connection(raw)


def _adapt(context: AdaptContext) -> None:
    adapters = context.adapters
    assert adapters is not None
    # one type for every number and every text: else each size would make a prepared statement of its own
    adapters.register_dumper(int, Int8BinaryDumper)
    adapters.register_dumper(str, _Text)
    adapters.register_loader("numeric", _Whole)


def judged(error: psycopg.Error) -> Exception:
    """The error of the driver as what it is for the store."""
    state = error.sqlstate or ""
    words = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if state == "57014":
        return TooLong(words)
    if state == "53100":
        return Full(words, state)
    if state.startswith(_FAULTS) or (
        not state and isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    ):
        return Lost(words, state)
    return error


class Watchdog:
    """Ends connections that are silent for too long: a server that hangs must not hang the bus.

    The one thread of a store looks at them every second; whoever waits on such a connection gets :class:`Lost`.
    """

    def __init__(self) -> None:
        self._watched: list[Connection] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, connection: Connection) -> Connection:
        with self._lock:
            self._watched = [one for one in self._watched if not one.closed] + [connection]
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="esb-store-watchdog", daemon=True)
                self._thread.start()
        return connection

    def close(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(1.0):
            now = time.monotonic()
            with self._lock:
                hung = [one for one in self._watched if one.busy_since and now - one.busy_since > one.patience]
            for one in hung:
                with contextlib.suppress(OSError, psycopg.Error):
                    _hang_up(one.raw.fileno())


def _hang_up(handle: int) -> None:
    """Close both ways of a connection that another thread waits on; the handle itself stays the driver's."""
    one = socket.socket(fileno=handle)  # no copy: Windows has none of a socket
    try:
        one.shutdown(socket.SHUT_RDWR)
    finally:
        one.detach()


__all__ = [
    "CONNECT",
    "Connection",
    "Cursor",
    "Full",
    "Lost",
    "StatementError",
    "TooLong",
    "Watchdog",
    "connect",
    "selected",
]
