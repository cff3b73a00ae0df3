"""A private Redis server that writes every command to disk; ended by its own process id."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import redis

from tests.servers.require import free_port, program

PASSWORD = "only-for-this-test"
_CONFIG = """
bind 127.0.0.1
port {port}
tls-port {tls}
tls-cert-file {folder}/server.crt
tls-key-file {folder}/server.key
tls-ca-cert-file {folder}/ca.crt
tls-auth-clients optional
requirepass {password}
appendonly yes
appendfsync always
save ""
dir {folder}
"""
START = 60.0


class Redis:
    def __init__(self, certificates: Path) -> None:
        self._program = program("redis-server", "usr/bin/redis-server", package="redis-server")
        self.folder = Path(tempfile.mkdtemp(prefix="esb-redis-"))
        for name in ("ca.crt", "server.crt", "server.key"):
            shutil.copy(certificates / name, self.folder / name)
        self.port, self.tls_port = free_port(), free_port()
        config = _CONFIG.format(port=self.port, tls=self.tls_port, folder=self.folder, password=PASSWORD)
        (self.folder / "redis.conf").write_text(config)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "out").open("ab") as out:
            command = [self._program, self.folder / "redis.conf"]
            self._process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
        deadline = time.monotonic() + START
        while True:
            with suppress(redis.ConnectionError), self.client() as client:
                client.ping()
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Redis does not start: {(self.folder / 'out').read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self._process is not None:
            os.kill(self._process.pid, how)
            self._process.wait(START)
            self._process = None

    def close(self) -> None:
        self.stop(signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def client(self) -> redis.Redis:
        """A client of its own, apart from everything under test."""
        return redis.Redis(port=self.port, password=PASSWORD)
