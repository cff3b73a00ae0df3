"""Connections to a database: each in a thread of its own, every wait with an end.

A driver may hang for ever (a frozen server, a lock). Then the caller's time is up, its thread is left to its fate with its
connection, and the next caller gets a new one; too many lost threads and the database counts as unavailable.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import NullPool

from esb.endpoints._sql.dialects import READS
from esb.endpoints._sql.groups import Groups
from esb.endpoints.base import ConnectionContext
from esb.errors import Timeout, Unavailable

if TYPE_CHECKING:
    from esb.endpoints.http import HttpTls
    from esb.endpoints.sql import SqlConnection

T = TypeVar("T")
#: threads that hang in their driver before nobody is let in any more
LOST = 8
#: free connections that wait for the next delivery
KEPT = 8
#: seconds that opening a connection may take
CONNECT = 10


class Session:
    """One thread with one connection. Not for two callers at a time."""

    def __init__(self, live: LiveSql) -> None:
        self._live = live
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._connection: Connection | None = None
        self.broken = False
        self._thread = threading.Thread(target=self._work, name=f"esb-sql-{live.name}", daemon=True)
        self._thread.start()

    async def run(self, job: Callable[[Connection], T], timeout: float) -> T:
        """``job`` in the session's thread. Raises Timeout when the time is up: what the job did is unknown then."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def answer(result: Any, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

        def work() -> None:
            result, error = None, None
            try:
                result = job(self._connected())
            except BaseException as caught:  # noqa: BLE001 - whatever the driver raises is the caller's to judge
                error = caught
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(answer, result, error)

        self._jobs.put(work)
        try:
            async with asyncio.timeout(timeout):
                return await future
        except (TimeoutError, asyncio.CancelledError) as error:
            self._abandon()
            if isinstance(error, TimeoutError):
                raise Timeout(f"{self._live.name}: the database did not answer within {timeout:g}s") from None
            raise

    def close(self) -> None:
        self._jobs.put(None)

    def _abandon(self) -> None:
        self.broken = True
        self._live.lost.add(self._thread)
        self._live.interrupt(self._connection)
        self._jobs.put(None)

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed or self._connection.invalidated:
            self._connection = self._live.engine.connect()
        return self._connection

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
        if self._connection is not None:
            with contextlib.suppress(Exception):  # a connection that cannot be closed is gone
                self._connection.close()


class LiveSql:
    """The live connection of a connector of type ``sql``."""

    def __init__(self, options: SqlConnection, context: ConnectionContext) -> None:
        self.name = context.name
        self.dialect = options.dialect
        self.engine = make_engine(options, context)
        self.lost: set[threading.Thread] = set()
        self.ledger_ready = False
        self.groups = Groups(self)
        self._free: list[Session] = []
        self._closed = False

    def session(self) -> Session:
        """A session of one's own; close it. Raises Unavailable while too many threads hang in the driver."""
        self.lost = {thread for thread in self.lost if thread.is_alive()}
        if len(self.lost) >= LOST:
            raise Unavailable(f"{self.name}: {len(self.lost)} connections hang; the database does not answer")
        return Session(self)

    @asynccontextmanager
    async def borrowed(self) -> AsyncIterator[Session]:
        """A session for one delivery; kept for the next."""
        session = self._free.pop() if self._free else self.session()
        try:
            yield session
        finally:
            if session.broken or self._closed or len(self._free) >= KEPT:
                session.close()
            else:
                self._free.append(session)

    def interrupt(self, connection: Connection | None) -> None:
        """Ask the database to stop what a connection runs; never waits."""
        driver = getattr(getattr(connection, "connection", None), "driver_connection", None)
        if self.dialect == "sqlite" and driver is not None:
            with contextlib.suppress(Exception):  # it has ended meanwhile
                driver.interrupt()

    @property
    def where(self) -> str:
        """The database, whoever logs in."""
        url = self.engine.url
        return url.set(drivername=self.dialect, username=None, password=None, query={}).render_as_string()

    async def close(self) -> None:
        self._closed = True
        await self.groups.close()
        for session in self._free:
            session.close()
        self._free.clear()


def make_engine(options: SqlConnection, context: ConnectionContext) -> Engine:
    """The engine of a connector. Raises Unavailable where its driver is not installed."""
    address = options.address(context.workspace)
    arguments = {**_arguments(address), **(_certificates(options.tls, context.workspace) if options.tls else {})}
    try:
        engine = create_engine(address, poolclass=NullPool, hide_parameters=True, connect_args=arguments)
    except ModuleNotFoundError as error:
        extra = options.extra
        hint = f"install it on the bus: pip install 'plantbus[{extra}]'"
        raise Unavailable(f"{context.name}: the driver {error.name} is not installed", hint=hint) from error
    if options.dialect == "sqlite":
        event.listen(engine, "connect", _sqlite_connect)
        event.listen(engine, "begin", _sqlite_begin)
    elif options.dialect == "postgresql":
        event.listen(engine, "connect", _postgresql_connect)
    return engine


def _arguments(address: URL) -> dict[str, Any]:
    match address.get_backend_name():
        case "sqlite":
            return {"timeout": 5, "check_same_thread": False}
        case "postgresql":
            return {
                "connect_timeout": CONNECT, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3,
                "tcp_user_timeout": 20_000, "application_name": "esb",
            }  # fmt: skip
        case "mysql" | "mariadb":
            return {"connect_timeout": CONNECT}
        case "mssql":
            return {"timeout": CONNECT}
    return {}


def _certificates(tls: HttpTls, workspace: Path) -> dict[str, str]:
    """TLS in the words of libpq: the server's certificate and its name are checked, unless all are trusted."""
    found = {"sslmode": "require"} if tls.trust_all else {"sslmode": "verify-full", "sslrootcert": "system"}
    if tls.ca:
        found["sslrootcert"] = str(workspace / tls.ca)
    if tls.cert:
        found |= {"sslcert": str(workspace / tls.cert), "sslkey": str(workspace / (tls.key or tls.cert))}
    return found


def _postgresql_connect(connection: Any, _record: Any) -> None:
    """Numbers inside a ``json`` or ``jsonb`` column keep their digits; the driver alone makes binary floats of them."""
    from psycopg.types.json import set_json_loads  # noqa: PLC0415 - the driver is an extra

    set_json_loads(partial(json.loads, parse_float=Decimal), connection)


def _sqlite_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are ours: see `_sqlite_begin`


def _sqlite_begin(connection: Connection) -> None:
    # a deferred transaction that reads first and writes later fails at once when another wrote between
    connection.exec_driver_sql("BEGIN" if connection.info.get(READS) else "BEGIN IMMEDIATE")
