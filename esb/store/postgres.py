"""The database of a store on a server: PostgreSQL, by the tables that every store has.

One process owns it: the session that writes holds an advisory lock, so a process whose session has ended, and with it its
transaction, cannot write before it holds the lock again; the epoch tells it whether somebody else had it meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack
from uuid import uuid4

from esb.errors import StoreBusy, StoreCorrupt, StoreError
from esb.store import files
from esb.store.address import Address
from esb.store.codes import SCHEMA_VERSION
from esb.store.remote import Link, RemoteCommitter, RemoteReader
from esb.store.unreachable import unreachable

if TYPE_CHECKING:
    from esb.store.connection import Hooks
    from esb.store.pgwire import Connection
    from esb.store.writer import Writer

#: Seconds that a start waits for the lock: the server needs a moment to see that the process before has died.
PATIENCE = 3.0
#: Seconds that a statement of the writer may take.
LONGEST_COMMAND = 30.0
#: Seconds of a round trip from which on a person should know.
SLOW = 0.005
MARKER = "postgresql.exists"
#: The oldest server; older ones are out of support.
OLDEST = 130_000
#: SQLSTATE of what does not fit into an index.
_TOO_LONG = "54000"
_OWNER = "INSERT INTO meta (name, value) VALUES ('owner', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"


class Postgres:
    """Implements :class:`esb.store.connection.Database`; call :meth:`prepare` before anything else."""

    def __init__(self, address: Address, root: Path) -> None:
        try:
            from esb.store import pgwire  # noqa: PLC0415 - the driver is an extra, imported where it connects
        except ImportError as error:
            raise StoreError(
                f"a store on PostgreSQL needs psycopg: {error}", hint="pip install 'plantbus[postgres]'"
            ) from error
        self._wire = pgwire
        self.address = address
        self._folder = root / ".esb"
        self._link = Link()
        self._watchdog = pgwire.Watchdog()
        self.path = self._folder / "pg"
        self._asking = self.reader()

    # -- connections --------------------------------------------------------------------------------------------------
    def _connect(self, more: str) -> Connection:
        session = (
            f'SET search_path TO "{self.address.schema}"; SET client_min_messages = error; SET TimeZone = UTC;'
            f" SET idle_in_transaction_session_timeout = 0; {more}"
        )
        return self._watchdog.watch(self._wire.connect(self.address.arguments, session))

    def writer(self) -> Connection:
        """The session that writes: it holds the lock, and each commit waits for the disk. Raises StoreBusy, OSError."""
        connection = self._connect(_DURABLE)
        try:
            self._lock(connection)
            connection.limit(LONGEST_COMMAND)
            owner = {"pid": os.getpid(), "host": socket.gethostname(), "started": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
            connection.execute(_OWNER, (json.dumps(owner),))
        except BaseException:
            connection.close()
            raise
        return connection

    def reader(self) -> RemoteReader:
        """A session that reads only; several questions in one transaction see the same commits."""
        return RemoteReader(partial(self._connect, _READS), self._wire.selected, self._link)

    def committer(self, writer: Writer, *, threaded: bool | None, **hooks: Unpack[Hooks]) -> RemoteCommitter:
        del threaded  # always: a server may be late
        return RemoteCommitter(writer, self._link, self._wire.Cursor.read_ahead, **hooks)

    async def answering(self) -> None:
        """Asked in a thread, on a connection that nobody else waits for."""
        await asyncio.to_thread(self._asking.answer)

    @property
    def away(self) -> str:
        """Why the database cannot be reached; empty while it can."""
        return self._link.away

    def close(self) -> None:
        self._asking.close()
        self._watchdog.close()

    def _lock(self, connection: Connection) -> None:
        until = time.monotonic() + PATIENCE
        while not connection.execute("SELECT pg_try_advisory_lock(?)", (self.address.lock,)).fetchone()[0]:
            if time.monotonic() > until:
                raise self._owned(connection)
            time.sleep(0.05)

    def _owned(self, connection: Connection) -> StoreBusy:
        try:
            row = connection.execute("SELECT value FROM meta WHERE name = 'owner'").fetchone()
            owner = json.loads(row[0]) if row is not None else {}
        except OSError:  # the store is being made just now
            owner = {}
        who = f"process {owner['pid']} on {owner['host']}" if "pid" in owner else "another process"
        return StoreBusy(
            f"{who} owns the store {self.address.where}" + (f" since {owner['started']}" if "started" in owner else ""),
            hint="ask it (`esb status` in its workspace), or stop it first",
        )

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        try:
            yield
        except self._wire.Lost as error:
            raise unreachable(self.address, str(error), error.state) from error
        except self._wire.StatementError as error:
            raise StoreError(
                f"what is in {self.address.where} is no store of this program: {str(error).splitlines()[0]}",
                hint=f"give the store a schema of its own: `?schema=NAME`; {self.address.schema} holds something else",
            ) from error
        except OSError as error:
            raise StoreError(
                f"{self._folder} cannot be used: {error}", hint="check owner, permissions and disk"
            ) from error

    def examine(self) -> list[tuple[Literal["ok", "warning", "fault"], str, str]]:
        """What a person should know of the server: level, what was found, what helps. Raises StoreError as :meth:`prepare`."""
        try:
            with self.explained(), contextlib.closing(self._connect(_DURABLE)) as connection:
                self._fit(connection)
                version, _ = _found(connection)
                settings = dict(connection.execute(_SAFETY).fetchall())
                server = connection.version // 10000
                took = min(_timed(connection) for _ in range(5))
        finally:
            self.close()
        there = f"schema version {version}" if version else "no tables yet; `esb run` makes them"
        where = f"{self.address.where}, PostgreSQL {server}: {there}"
        found: list[tuple[Literal["ok", "warning", "fault"], str, str]] = [("ok", where, "")]
        for name in (name for name, value in settings.items() if value == "off"):
            todo = f"set `{name} = on` in postgresql.conf: with it off, a power cut loses what was acknowledged"
            found.append(("fault", f"the server runs with {name} = off", todo))
        if not self.address.is_verified:
            todo = (
                "add `?sslmode=verify-full` (and `sslrootcert=FILE`) to `store`: the password goes to whoever answers"
            )
            found.append(("warning", "nobody checks that the database is the one that was meant", todo))
        level: Literal["ok", "warning"] = "warning" if took > SLOW else "ok"
        todo = "every message waits for several: put the database nearer" if level == "warning" else ""
        found.append((level, f"a round trip to the database takes {took * 1000:.2f} ms", todo))
        return found

    # -- making a store, or finding it --------------------------------------------------------------------------------
    def prepare(self, now: datetime, *, read_only: bool = False) -> None:
        """Make sure that a store which may be opened is there; make it where there never was one.

        Raises StoreBusy where the server cannot be reached or another process owns the store, StoreCorrupt where the store
        has vanished, is another one or is newer than this program; StoreError for wrong logins and unfit servers.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.explained(), contextlib.closing(self._connect(_DURABLE)) as connection:
            self._fit(connection)
            version, identity = _found(connection)
            if not version:
                self._refuse_missing()
                if read_only:
                    raise StoreError(f"there is no store in {self.address.where} yet", hint="`esb run` makes it")
                self._lock(connection)
                version, identity = _found(connection)
                if not version:
                    identity = self._create(connection, now)
            elif version > SCHEMA_VERSION:
                raise StoreCorrupt(
                    f"{self.address.where} was written by a newer version of this program"
                    f" (schema {version}, this one knows {SCHEMA_VERSION})",
                    hint="install the newer version again; a store is never taken back to an older one",
                )
            elif version < SCHEMA_VERSION and not read_only:
                self._lock(connection)
                self._upgrade(connection)
            self._refuse_unreadable(connection, read_only=read_only)
            self.path = self._folder / f"pg-{identity[:12]}"
            if not read_only:
                self._mark(identity)

    def take_over(self, now: datetime, fill: Callable[[Connection], None]) -> None:
        """Make the store with the rows that ``fill`` writes into its empty tables, in one transaction: all of it or nothing.

        ``path`` is that of the new store while ``fill`` runs. Raises as :meth:`prepare`, and StoreError where a store is there.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.explained(), contextlib.closing(self._connect(_DURABLE)) as connection:
            self._fit(connection)
            self._lock(connection)
            if _found(connection)[0]:
                raise StoreError(
                    f"{self.address.where} holds a store already; nothing was moved",
                    hint=f"take a schema of its own (`?schema=NAME`), or, where nobody needs that store:"
                    f" `drop schema {self.address.schema} cascade`, and remove .esb/{MARKER}",
                )
            self._refuse_missing()
            connection.limit(float("inf"))
            self._mark(self._create(connection, now, fill))

    @staticmethod
    def _fit(connection: Connection) -> None:
        version = connection.version
        if version < OLDEST:
            raise StoreError(f"PostgreSQL {version // 10000} is too old", hint=f"{OLDEST // 10000} or newer is needed")
        if (encoding := connection.encoding) != "UTF8":
            raise StoreError(f"the database has the encoding {encoding}", hint="make one with `encoding 'UTF8'`")
        if connection.execute(
            "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean"
        ).fetchone()[0]:
            raise StoreBusy(
                "the server takes no changes: it is a standby, or reads only",
                hint="give the address of the primary, or `?target_session_attrs=read-write`",
            )

    def _create(self, connection: Connection, now: datetime, fill: Callable[[Connection], None] | None = None) -> str:
        identity, statements = uuid4().hex, schema().values()
        indexes = [statement for statement in statements if not statement.lstrip().startswith("CREATE TABLE")]
        self.path = self._folder / f"pg-{identity[:12]}"
        connection.execute("BEGIN")
        try:
            if connection.execute("SELECT current_schema()").fetchone()[0] is None:
                if connection.execute(_HAS_SCHEMA, (self.address.schema,)).fetchone() is not None:
                    raise unreachable(self.address, f"permission denied for schema {self.address.schema}")
                connection.execute(f'CREATE SCHEMA "{self.address.schema}"')
            for statement in (statement for statement in statements if statement not in indexes):
                connection.execute(statement)
            connection.execute("INSERT INTO word (id, text) VALUES (0, '')")
            known = {"epoch": "0", "clean": "1", "last_seq": "0", "audit_head": "", "created": now.isoformat()}
            known |= {"schema_version": str(SCHEMA_VERSION), "store_id": identity}
            connection.cursor().executemany("INSERT INTO meta (name, value) VALUES (?, ?)", list(known.items()))
            if fill is not None:
                fill(connection)
            for statement in indexes:  # after the rows: many times quicker
                connection.execute(statement)
            connection.execute("COMMIT")
        except Exception as error:
            with contextlib.suppress(OSError):
                connection.execute("ROLLBACK")
            if isinstance(error, (OSError, StoreError)):
                raise
            hint = f"give the store a schema of its own: `?schema=NAME`; {self.address.schema} holds something else"
            if getattr(error, "sqlstate", "") == _TOO_LONG:
                hint = "a key, tracked value or correlation id has more than about 2 600 bytes, the most that it may have there"
            raise StoreError(
                f"the tables of the store cannot be made in {self.address.where}: {error}", hint=hint
            ) from error
        return identity

    @staticmethod
    def _upgrade(connection: Connection) -> None:
        """Add the tables and indexes that an older program did not know, all or none."""
        rows = connection.execute(
            "SELECT relname::text FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
        )
        known = {name for (name,) in rows.fetchall()}
        connection.execute("BEGIN")
        for name, statement in schema().items():
            if name not in known:
                connection.execute(statement)
        connection.execute("UPDATE meta SET value = ? WHERE name = 'schema_version'", (str(SCHEMA_VERSION),))
        connection.execute("COMMIT")

    def _refuse_unreadable(self, connection: Connection, *, read_only: bool) -> None:
        """A table that may not be used would be found out in the middle of the work."""
        rights = "SELECT" if read_only else "SELECT,INSERT,UPDATE,DELETE"
        found = connection.execute(_LOCKED_UP, (rights,)).fetchone()
        if found is not None:
            raise unreachable(self.address, f"permission denied for table {found[0]}")

    # -- the note beside it -------------------------------------------------------------------------------------------
    def _noted(self) -> dict[str, str]:
        try:
            found = json.loads((self._folder / MARKER).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {str(where): str(identity) for where, identity in found.items()} if isinstance(found, dict) else {}

    def _refuse_missing(self) -> None:
        if self.address.where in self._noted():
            raise StoreCorrupt(
                f"the store {self.address.where} is missing, but .esb/{MARKER} says that there was one",
                hint=f"put it back (`pg_restore`); to start empty and lose its messages, remove .esb/{MARKER}",
            )

    def _mark(self, identity: str) -> None:
        """Remember which store is there, so that one which has vanished, or was swapped, is no fresh start."""
        noted = self._noted()
        known = noted.get(self.address.where)
        if known == identity:
            return
        if known is not None:
            raise StoreCorrupt(
                f"{self.address.where} holds another store than the last time",
                hint=f"put the right one back (`pg_restore`); to go on with this one, remove .esb/{MARKER}",
            )
        marker = self._folder / MARKER
        fresh = marker.with_name(marker.name + ".new")
        with fresh.open("w", encoding="utf-8") as file:
            json.dump({**noted, self.address.where: identity}, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.chmod(0o600)
        fresh.replace(marker)
        files.sync_folder(self._folder)


#: What a server does for speed and the store must not rely on: `remote_apply` waits for more than `on`, and stays.
_DURABLE = (
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') <> 'remote_apply'"
)
_HAS_SCHEMA = "SELECT 1 FROM pg_namespace WHERE nspname = ?"
_LOCKED_UP = (
    "SELECT relname::text FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' AND NOT"
    " (SELECT bool_and(has_table_privilege(oid, one)) FROM unnest(string_to_array(?, ',')) AS one) ORDER BY 1 LIMIT 1"
)
_SAFETY = "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'full_page_writes')"
_READS = "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"


def _timed(connection: Connection) -> float:
    began = time.perf_counter()
    connection.execute("SELECT 1").fetchall()
    return time.perf_counter() - began


def _found(connection: Connection) -> tuple[int, str]:
    """Version of the schema and identity of the store; 0 where there is none."""
    if connection.execute("SELECT to_regclass('meta') IS NULL OR to_regclass('message') IS NULL").fetchone()[0]:
        return 0, ""
    rows = connection.execute("SELECT name, value FROM meta WHERE name IN ('schema_version', 'store_id')").fetchall()
    known: dict[str, Any] = dict(rows)
    return int(known.get("schema_version", 0)), str(known.get("store_id", ""))


def schema() -> dict[str, str]:
    """The statements that make the tables and indexes, by their names."""
    from sqlalchemy.dialects.postgresql import dialect  # noqa: PLC0415 - see esb.store.tables

    make: Any = dialect
    return files.schema(make())
