"""The servers that the demo needs beside its simulators: database, SFTP server and broker, each the real one where it is installed.

Where one is not installed (or does not come up), something simpler that speaks the same language stands in for it: a SQLite file, an
SFTP server of asyncssh; for the broker there is none, and orders go to the shop floor as files. ``words`` says which it is.
"""

from __future__ import annotations

import getpass
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

from examples.demo.harness import Process, TooLate, until

INLETS = Path(__file__).with_name("inlets")
TABLE = """create table production_orders (no text primary key, kind text, material text, plant text, quantity numeric(13,3),
    unit text, state text, starts text, ends text, sent integer not null default 0)"""
#: seconds until a server that does not come up is done without
PATIENCE = 60.0


def _program(name: str, *more: str) -> str:
    """Where a program is: in ``more`` (patterns below /), on the PATH, in /usr/sbin; empty where it is not."""
    found = [str(path) for pattern in more for path in sorted(Path("/").glob(pattern))]
    return next(iter(found), "") or shutil.which(name) or shutil.which(name, path="/usr/sbin") or ""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _answers(port: int, say: bytes = b"") -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2) as probe:
        probe.sendall(say)
        return bool(probe.recv(1))
    return False


class Servers:
    """Started before the bus and stopped after it; ``environment`` is what the bus needs to find them."""

    def __init__(self, *, real: bool = True) -> None:
        """``real=False``: only stand-ins, as on a machine where no server is installed."""
        self._real = real
        self.folder = Path(tempfile.mkdtemp(prefix="esb-demo-"))
        self.folder.chmod(0o755)  # the database runs as a user of its own where the demo runs as root
        self.environment: dict[str, str] = {}
        self.words: list[tuple[str, str]] = []
        self.files = self.folder / "certificates"
        self._ends: list[Callable[[], None]] = []
        self._execute: Callable[[str, tuple[Any, ...]], None] = self._sqlite
        self._broker = 0

    def start(self, workspace: Path) -> None:
        """Start what there is, and put the routes and connectors for it into the workspace."""
        broker = self._start_broker() if self._real else None
        self._real_or("transfer table", self._postgres, self._sqlite_file)
        with suppress(ImportError):
            self._real_or("SFTP", self._sshd, self._asyncssh)
        self._meet_broker(broker)
        sftp = "PARTNER_SFTP_PORT" in self.environment
        names = {"routes": ["erp-orders"], "connectors": ["erp-db"]}
        names["routes"] += ["mes-orders-amqp" if self._broker else "mes-orders-files", *(["certificates-sftp"] * sftp)]
        names["connectors"] += [*(["mes-broker"] * bool(self._broker)), *(["partner-sftp"] * sftp)]
        for folder, wanted in names.items():
            for name in wanted:
                shutil.copy(INLETS / folder / f"{name}.yaml", workspace / folder / f"inlet-{name}.yaml")
        if sftp:
            shutil.copy(self.folder / "known_hosts", workspace / "connectors" / "partner-sftp.known_hosts")
        self._workspace = workspace

    def stop(self) -> None:
        for end in reversed(self._ends):
            with suppress(OSError, subprocess.SubprocessError):
                end()
        self._ends.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- what the systems behind them do ------------------------------------------------------------------------------
    def release_order(self, number: str, quantity: Decimal) -> None:
        """The ERP lays a released order into its transfer table."""
        row = (
            number,
            "YBM4",
            "000000000000104711",
            "1010",
            str(quantity),
            "ST",
            "RELEASED",
            "2026-11-24",
            "2026-11-26",
        )
        self._execute(
            "insert into production_orders (no, kind, material, plant, quantity, unit, state, starts, ends)"
            " values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        )

    def upload(self, name: str, data: bytes) -> None:
        """A supplier lays down a certificate."""
        draft = self.files / "in" / f".{name}"
        draft.write_bytes(data)
        draft.rename(self.files / "in" / name)

    def orders(self) -> list[str]:
        """The orders that the shop floor has got since the last question, as JSON texts."""
        if not self._broker:
            found = sorted((self._workspace / "var" / "out" / "mes-orders").glob("*.json"))
            texts = [path.read_text(encoding="utf-8") for path in found]
            for path in found:
                path.unlink()
            return texts
        with self._connection() as connection, connection.channel() as channel:
            texts = []
            while (message := channel.basic_get("mes.orders.floor", no_ack=True)) is not None:
                body = message.body
                texts.append(body if isinstance(body, str) else bytes(body).decode())
            return texts

    # -- starting -----------------------------------------------------------------------------------------------------
    def _real_or(self, what: str, real: Callable[[], str], other: Callable[[], str]) -> None:
        try:
            if not self._real:
                raise OSError("as asked for")
            said = real()
        except (OSError, subprocess.SubprocessError, TooLate, KeyError, ImportError) as error:
            said = f"{other()} ({str(error).splitlines()[0][:90] or type(error).__name__})"
        self.words.append((what, said))

    def _run(self, name: str, command: list[str], how: signal.Signals, **environment: str) -> Process:
        process = Process(
            command, environment={**os.environ, **environment}, log=self.folder / f"{name}.log", cwd=self.folder
        )

        def end() -> None:
            if process.running:
                process.popen.send_signal(how)
            try:
                process.popen.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()

        self._ends.append(end)
        return process

    def _await(self, process: Process, check: Callable[[], bool], what: str) -> None:
        def alive() -> None:
            if not process.running:
                raise TooLate(f"{what} ended: {process.tail(3)}")

        until(check, within=PATIENCE, what=what, alive=alive)

    def _postgres(self) -> str:
        server = _program("postgres", "usr/lib/postgresql/*/bin/postgres")
        if not server:
            raise OSError("PostgreSQL is not installed")
        import psycopg  # noqa: PLC0415 - it may be missing where a stand-in serves

        home = self.folder / "postgres"
        home.mkdir()
        lower: list[str] = []
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            user = pwd.getpwnam("postgres")
            os.chown(home, user.pw_uid, user.pw_gid)
            lower = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        data, port = home / "data", _free_port()
        initdb = [
            *lower,
            str(Path(server).with_name("initdb")),
            "-D",
            str(data),
            "-U",
            "esb",
            "-A",
            "trust",
            "-E",
            "UTF8",
        ]
        subprocess.run(
            [*initdb, "--locale=C", "--no-sync"], check=True, capture_output=True, cwd=home, timeout=PATIENCE
        )
        command = [*lower, server, "-D", str(data), "-p", str(port), "-k", "", "-c", "listen_addresses=127.0.0.1"]
        process = self._run("postgres", command, signal.SIGINT)
        where = f"host=127.0.0.1 port={port} user=esb dbname=postgres"

        def execute(statement: str, values: tuple[Any, ...]) -> None:
            with psycopg.connect(where, autocommit=True, connect_timeout=5) as connection:
                connection.execute(statement.replace("?", "%s"), values)  # type: ignore[call-overload] # a text is fine

        def ready() -> bool:
            with suppress(psycopg.OperationalError):
                execute("select 1", ())
                return True
            return False

        self._await(process, ready, "PostgreSQL")
        execute(TABLE, ())
        self._execute = execute
        self.environment["ERP_DB_URL"] = f"postgresql+psycopg://127.0.0.1:{port}/postgres"
        self.environment["PGUSER"] = "esb"
        return "PostgreSQL"

    def _sqlite(self, statement: str, values: tuple[Any, ...]) -> None:
        with closing(sqlite3.connect(self.folder / "erp.db", timeout=20)) as connection, connection:
            connection.execute(statement, values)

    def _sqlite_file(self) -> str:
        self._execute = self._sqlite
        self._sqlite(TABLE, ())
        self.environment["ERP_DB_URL"] = f"sqlite:///{self.folder}/erp.db"
        return "a SQLite file stands in"

    def _keys(self, port: int) -> None:
        import asyncssh  # noqa: PLC0415 - the same

        host, client = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
        for name, key in (("host", host), ("client", client)):
            path = self.folder / name
            path.touch(mode=0o600)
            path.write_bytes(key.export_private_key())
        (self.folder / "authorized_keys").write_bytes(client.export_public_key())
        (self.folder / "known_hosts").write_bytes(f"[127.0.0.1]:{port} ".encode() + host.export_public_key())
        (self.files / "in").mkdir(parents=True, exist_ok=True)
        self.environment["PARTNER_SFTP_USER"] = getpass.getuser()
        self.environment["PARTNER_SFTP_FOLDER"] = str(self.files)
        self.environment["ESB_SECRET_PARTNER_SFTP_KEY"] = (self.folder / "client").read_text(encoding="ascii")

    def _sshd(self) -> str:
        sshd = _program("sshd", "usr/sbin/sshd")
        if not sshd:
            raise OSError("OpenSSH is not installed")
        port = _free_port()
        self._keys(port)
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        options = {"ListenAddress": "127.0.0.1", "PidFile": "none", "StrictModes": "no", "UsePAM": "no"}
        options |= {"AuthorizedKeysFile": str(self.folder / "authorized_keys"), "PasswordAuthentication": "no"}
        options |= {"PermitRootLogin": "yes", "Subsystem": "sftp internal-sftp"}
        command = [sshd, "-D", "-e", "-f", "/dev/null", "-h", str(self.folder / "host"), "-p", str(port)]
        command += [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        self._await(self._run("sshd", command, signal.SIGTERM), lambda: _answers(port), "OpenSSH")
        self.environment["PARTNER_SFTP_PORT"] = str(port)
        return "OpenSSH"

    def _asyncssh(self) -> str:
        port = _free_port()
        self._keys(port)
        command = [sys.executable, "-m", "examples.demo.sftp_server", str(port), str(self.folder)]
        self._await(self._run("asyncssh", command, signal.SIGTERM), lambda: _answers(port), "the SFTP server")
        self.environment["PARTNER_SFTP_PORT"] = str(port)
        return "an SFTP server of asyncssh stands in"

    # -- the broker: it takes long, so it is started first and waited for last ------------------------------------------
    def _start_broker(self) -> tuple[Process, int] | None:
        server = _program("rabbitmq-server", "usr/lib/rabbitmq/bin/rabbitmq-server")
        if not server or importlib.util.find_spec("amqp") is None:
            return None
        home = self.folder / "rabbitmq"
        for name in ("mnesia", "log", "home"):
            (home / name).mkdir(parents=True)
        port, epmd, dist = (_free_port() for _ in range(3))
        settings = f"listeners.tcp.1 = 127.0.0.1:{port}\nloopback_users = none\ndisk_free_limit.absolute = 50MB\n"
        (home / "rabbitmq.conf").write_text(settings)
        (home / "plugins").write_text("[].\n")
        cookie = "-setcookie esb-demo -kernel inet_dist_use_interface {127,0,0,1}"
        own = {
            "HOME": str(home / "home"), "RABBITMQ_NODENAME": f"esbdemo{port}@localhost", "RABBITMQ_DIST_PORT": str(dist),
            "ERL_EPMD_PORT": str(epmd), "ERL_EPMD_ADDRESS": "127.0.0.1", "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(home / "log"), "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"), "RABBITMQ_PID_FILE": str(home / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": cookie,
        }  # fmt: skip

        def end_names() -> None:  # the name server that the node brought along
            environment = {**os.environ, **own}
            subprocess.run(["epmd", "-kill"], env=environment, capture_output=True, timeout=20, check=False)

        self._ends.append(end_names)
        return self._run("rabbitmq", [server], signal.SIGTERM, **own), port

    def _meet_broker(self, broker: tuple[Process, int] | None) -> None:
        said = "orders go to the shop floor as files: no RabbitMQ"
        if broker is not None:
            try:
                self._await(broker[0], lambda: _answers(broker[1], b"AMQP\x00\x00\x09\x01"), "RabbitMQ")
                self._broker = broker[1]
                with self._connection() as connection, connection.channel() as channel:
                    channel.exchange_declare("mes.orders", "topic", durable=True, auto_delete=False)
                    channel.queue_declare("mes.orders.floor", durable=True, auto_delete=False)
                    channel.queue_bind("mes.orders.floor", "mes.orders", "order.#")
                self.environment["MES_BROKER_URL"] = f"amqp://127.0.0.1:{self._broker}/"
                said = "RabbitMQ"
            except TooLate:
                said = "orders go to the shop floor as files: RabbitMQ did not come up"
        self.words.append(("broker", said))

    def _connection(self) -> Any:
        import amqp  # noqa: PLC0415 - the same

        return amqp.Connection(f"127.0.0.1:{self._broker}", userid="guest", password="guest", connect_timeout=10)
