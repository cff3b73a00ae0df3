"""A private OpenSSH server on loopback: own host key, one authorized key, SFTP only; ended by its own process id."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.servers.require import free_port, program

#: seconds until a start is given up
START = 60.0


class OpenSsh:
    """One sshd for the user who runs the tests. ``files`` is an empty folder to serve; paths on the server are the machine's."""

    def __init__(self) -> None:
        self._sshd = program("sshd", "usr/sbin/sshd", package="openssh-server")
        self.folder = Path(tempfile.mkdtemp(prefix="esb-sshd-"))
        self.files = self.folder / "files"
        self.files.mkdir()
        self.port = free_port()
        self.user = getpass.getuser()
        self.key, self.known_hosts = self.folder / "id", self.folder / "known_hosts"
        self._process: subprocess.Popen[bytes] | None = None
        self.make_key("host")
        self.make_key("id")
        (self.folder / "id.pub").rename(self.folder / "authorized_keys")
        self.pin("host", self.known_hosts)

    def make_key(self, name: str, kind: str = "ed25519") -> Path:
        """The private key of this name, made at the first call."""
        keygen = program("ssh-keygen", package="openssh-client")
        path = self.folder / name
        if path.exists():
            return path
        subprocess.run([keygen, "-q", "-t", kind, "-N", "", "-f", str(path)], check=True)
        return path

    def pin(self, key: str, into: Path) -> None:
        """Write a known_hosts file that trusts ``key`` for this server."""
        kind, text, *_ = (self.folder / f"{key}.pub").read_text().split()
        into.write_text(f"[127.0.0.1]:{self.port} {kind} {text}\n")

    # -- life ---------------------------------------------------------------------------------------------------------
    def start(self, host_key: str = "host", **more: str) -> None:
        """Start it with this host key; ``more`` are options of sshd_config."""
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        options = {
            "ListenAddress": "127.0.0.1",
            "PidFile": "none",
            "AuthorizedKeysFile": self.folder / "authorized_keys",
            "StrictModes": "no",
            "UsePAM": "no",
            "PasswordAuthentication": "no",
            "PermitRootLogin": "yes",
            "Subsystem": "sftp internal-sftp",
            "MaxStartups": "200",
            **more,
        }
        command = [self._sshd, "-D", "-f", "/dev/null", "-h", self.folder / host_key, "-E", self.folder / "log"]
        command += ["-p", str(self.port), *(part for name in options for part in ("-o", f"{name}={options[name]}"))]
        self._process = subprocess.Popen([str(part) for part in command], start_new_session=True)
        deadline = time.monotonic() + START
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as probe:
                # a child of the server before may hold its port for a moment, without anybody to answer
                if probe.recv(4) == b"SSH-":
                    return
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"sshd does not start: {(self.folder / 'log').read_text()}")
            time.sleep(0.01)

    def _family(self) -> list[int]:
        """The processes of open sessions, children first."""
        assert self._process is not None
        found, queue = [], [self._process.pid]
        while queue:
            pid = queue.pop()
            # a session may end while it is looked at
            with suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    with suppress(OSError):
                        children = (task / "children").read_text()
                        queue += (pids := [int(text) for text in children.split()])
                        found += pids
        return found[::-1]

    def signal_sessions(self, what: signal.Signals) -> None:
        """Freeze (SIGSTOP), thaw (SIGCONT) or cut off (SIGKILL) the open sessions."""
        for pid in self._family():
            with suppress(ProcessLookupError):
                os.kill(pid, what)

    def stop(self) -> None:
        """End the listener and its sessions; the folder stays."""
        if self._process is not None:
            self.signal_sessions(signal.SIGCONT)
            self.signal_sessions(signal.SIGKILL)
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self, host_key: str = "host", **more: str) -> None:
        self.stop()
        self.start(host_key, **more)

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def openssh() -> Iterator[OpenSsh]:
    server = OpenSsh()
    try:
        server.start()
        yield server
    finally:
        server.close()


__all__ = ["OpenSsh", "openssh"]
