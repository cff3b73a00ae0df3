"""A private RabbitMQ node: own name, ports and folders, its own epmd; ended by its own process id.

Fault tests freeze, kill and restart it. The first start takes some ten seconds, so a session shares one node.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.servers.require import free_port, program

_CONFIG = """
listeners.tcp.1 = 127.0.0.1:{port}
loopback_users = none
log.file.level = warning
disk_free_limit.absolute = 50MB
vm_memory_high_watermark.absolute = 1GB
{more}
"""
_TLS = """
listeners.ssl.1 = 127.0.0.1:{port}
ssl_options.cacertfile = {folder}/ca.crt
ssl_options.certfile = {folder}/server.crt
ssl_options.keyfile = {folder}/server.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = false
"""
START = 90.0


class RabbitMq:
    """One node. ``url`` is its address for AMQP, ``tls_url`` the one over TLS where a folder with certificates was given."""

    def __init__(self, certificates: Path | None = None) -> None:
        program("rabbitmq-server", "usr/lib/rabbitmq/bin/rabbitmq-server", package="rabbitmq-server")
        self._bin = program("rabbitmqctl", "usr/lib/rabbitmq/bin/rabbitmqctl", package="rabbitmq-server")
        if (own := Path("/usr/lib/rabbitmq/bin/rabbitmqctl")).exists():  # the one on the PATH switches the user
            self._bin = own
        self.folder = Path(tempfile.mkdtemp(prefix="esb-rabbitmq-"))
        self.port, self._epmd, self._dist, self.tls_port = (free_port() for _ in range(4))
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/"
        self.tls_url = f"amqps://guest:guest@127.0.0.1:{self.tls_port}/"
        self._name = f"esb{uuid.uuid4().hex[:8]}@localhost"
        self.certificates = certificates
        self._process: subprocess.Popen[bytes] | None = None

    # -- life ---------------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Start the node, and wait until it takes connections."""
        for name in ("mnesia", "log", "home"):
            (self.folder / name).mkdir(exist_ok=True)
        more = _TLS.format(port=self.tls_port, folder=self.certificates) if self.certificates is not None else ""
        (self.folder / "rabbitmq.conf").write_text(_CONFIG.format(port=self.port, more=more))
        (self.folder / "plugins").write_text("[].\n")
        with (self.folder / "out").open("ab") as out:
            self._process = subprocess.Popen(
                [self._bin.with_name("rabbitmq-server")],
                env=self._environment(),
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        deadline = time.monotonic() + START
        while not self.listens():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"RabbitMQ does not start: {(self.folder / 'out').read_text()[-2000:]}")
            time.sleep(0.1)

    def listens(self) -> bool:
        """Whether a client gets in: the handshake is answered."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
            probe.settimeout(2)
            probe.sendall(b"AMQP\x00\x00\x09\x01")
            return bool(probe.recv(1))
        return False

    def stop(self) -> None:
        """An orderly end, as an operator's restart begins."""
        self._signal(signal.SIGTERM)
        self._wait()

    def kill(self) -> None:
        """The power is gone."""
        self._signal(signal.SIGKILL)
        self._wait()

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """End everything that belongs to this node and remove its folder."""
        with suppress(OSError, ValueError):
            self.thaw()
        with suppress(OSError, ValueError):
            self.kill()
        with suppress(FileNotFoundError, subprocess.SubprocessError):
            subprocess.run(["epmd", "-kill"], env=self._environment(), capture_output=True, timeout=20, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- operators ----------------------------------------------------------------------------------------------------
    def ctl(self, *words: str) -> str:
        """``rabbitmqctl``; takes a second or two."""
        done = subprocess.run(
            [self._bin, "-n", self._name, "--erlang-cookie", "esb-tests", *words],
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"rabbitmqctl {' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout

    @contextmanager
    def channel(self) -> Iterator[Any]:
        """A plain client of its own, apart from everything under test."""
        import amqp

        with (
            amqp.Connection(
                f"127.0.0.1:{self.port}", userid="guest", password="guest", connect_timeout=10
            ) as connection,
            connection.channel() as channel,
        ):
            yield channel

    def depth(self, queue: str) -> int:
        """Messages that are ready in a queue."""
        with self.channel() as channel:
            return int(channel.queue_declare(queue, passive=True).message_count)

    def take_all(self, queue: str) -> list[Any]:
        """Every message of a queue that is ready, taken out of it."""
        found = []
        with self.channel() as channel:
            while (message := channel.basic_get(queue)) is not None:
                channel.basic_ack(message.delivery_tag)
                found.append(message)
        return found

    # -- inside -------------------------------------------------------------------------------------------------------
    def _pid(self) -> int:
        return int((self.folder / "pid").read_text())

    def _signal(self, number: signal.Signals) -> None:
        os.kill(self._pid(), number)

    def _wait(self) -> None:
        if self._process is not None:
            self._process.wait(60)
            self._process = None

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "HOME": str(self.folder / "home"),
            "RABBITMQ_NODENAME": self._name,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._dist),
            "ERL_EPMD_PORT": str(self._epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-setcookie esb-tests -kernel inet_dist_use_interface {127,0,0,1}",
        }
