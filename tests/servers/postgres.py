"""A private PostgreSQL on loopback, with a superuser `esb` whom nobody asks for a password."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

from tests.servers.require import free_port, program

_BIN = "usr/lib/postgresql/*/bin"
#: seconds until a server that does not come up fails the test
PATIENCE = 40.0


def _as_user(command: list[str]) -> list[str]:
    """PostgreSQL refuses to run as root; Debian's package brings the user `postgres`."""
    return (
        ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command] if os.getuid() == 0 else command
    )


class Postgres:
    """Start, stop, freeze and kill it; the data lie in a temporary folder."""

    def __init__(self) -> None:
        self._postgres = program("postgres", f"{_BIN}/postgres", package="postgresql")
        initdb = program("initdb", f"{_BIN}/initdb", package="postgresql")
        if initdb.parent != self._postgres.parent:
            initdb = self._postgres.parent / "initdb"
        self.folder = Path(tempfile.mkdtemp(prefix="esb-pg-"))
        if os.getuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
        self.data = self.folder / "data"
        self.port = free_port()
        self.settings: tuple[str, ...] = ()  #: more of postgresql.conf, as `name=value`
        self._process: subprocess.Popen[bytes] | None = None
        command = [
            str(initdb),
            "-D",
            str(self.data),
            "-U",
            "esb",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        ]
        subprocess.run(_as_user(command), check=True, capture_output=True, cwd=self.folder)

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://127.0.0.1:{self.port}/postgres"

    def start(self, *, durable: bool = False) -> None:
        """``durable``: commits wait for the disk, as on a real server."""
        sync = "fsync=on" if durable else "fsync=off"
        options = ["-k", "", "-c", "listen_addresses=127.0.0.1", "-c", sync, "-c", "max_connections=60"]
        options += [word for setting in self.settings for word in ("-c", setting)]
        command = [str(self._postgres), "-D", str(self.data), "-p", str(self.port), *options]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                _as_user(command), stdout=log, stderr=log, cwd=self.folder, start_new_session=True
            )
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.connect().close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError((self.folder / "log").read_text()) from None

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="esb", dbname="postgres", autocommit=True, connect_timeout=5
        )

    def execute(self, statement: str, values: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        with self.connect() as connection:
            cursor = connection.execute(statement, values or None)  # type: ignore[call-overload]  # any statement
            return list(cursor.fetchall()) if cursor.description else []

    def kill(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: a fast shutdown; SIGKILL: as the power would end it."""
        if self._process is None:
            return
        if how == signal.SIGKILL:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, how)
        else:
            self._process.send_signal(how)
        self._process.wait(PATIENCE)
        self._process = None

    @contextlib.contextmanager
    def away(self, how: signal.Signals = signal.SIGINT) -> Iterator[None]:
        """Killed, and started again whatever happens meanwhile."""
        self.kill(how)
        try:
            yield
        finally:
            self.start()

    def _backends(self) -> list[int]:
        assert self._process is not None
        found = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self._process.pid)], check=True, capture_output=True, text=True
        )
        return [self._process.pid, *(int(pid) for pid in found.stdout.split())]

    def freeze(self) -> None:
        for pid in self._backends():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in self._backends():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        if self._process is not None:
            self.thaw()
        self.kill(signal.SIGQUIT)  # nobody needs the data any more
        shutil.rmtree(self.folder, ignore_errors=True)


def empty_store(server: Postgres, schema: str = "contract") -> str:
    """The address of a store without messages; made by whoever opens it first, emptied for whoever comes after."""
    (made,) = server.execute("select to_regclass(%s) is not null", (f"{schema}.meta",))[0]
    if made:
        rows = server.execute("select tablename from pg_tables where schemaname = %s", (schema,))
        tables = sorted(str(name) for (name,) in rows if name not in ("meta", "word"))
        emptied = "; ".join(f"delete from {schema}.{name}" for name in tables)
        kept = "('created', 'schema_version', 'store_id')"
        server.execute(
            f"{emptied}; delete from {schema}.word where id > 0; delete from {schema}.meta where name not in {kept};"
            f" insert into {schema}.meta values ('epoch', '0'), ('clean', '1'), ('last_seq', '0'), ('audit_head', '')"
        )
    return f"postgresql+psycopg://esb@127.0.0.1:{server.port}/postgres?schema={schema}"
