"""What an attacker has: a raw socket, an HTTP client, a listener that counts, and a bus that somebody left running."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from examples.demo.harness import ROOT, Bus, until

JSON = {"Content-Type": "application/json"}
#: a route that every bus here has: what a normal client sends after each attack
PROBE = """
route: probe
from: { http: { path: /probe, method: POST, format: json, reply: delivered } }
steps:
  - respond: { status: 200, body: body }
"""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One kept connection; a server that closes it is called again."""

    def __init__(self, url: str, within: float = 20.0) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "", parts.port or 0
        self.within = within
        self._connection: http.client.HTTPConnection | None = None

    def __call__(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.send(method, path, body, named)

    def send(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        for again in (True, False):
            if self._connection is None:
                self._connection = http.client.HTTPConnection(self.host, self.port, timeout=self.within)
            try:
                self._connection.request(method, path, body, dict(headers or {}))
                with self._connection.getresponse() as got:
                    found = Answer(got.status, {n.lower(): v for n, v in got.getheaders()}, got.read())
            except (http.client.RemoteDisconnected, ConnectionError):
                self.close()
                if not again:
                    raise
            else:
                if found.headers.get("connection") == "close":
                    self.close()
                return found
        raise AssertionError("unreachable")

    def post(self, path: str, body: bytes, **headers: str) -> Answer:
        return self("POST", path, body, **{**JSON, **headers})

    def post_json(self, path: str, body: Any, **headers: str) -> Answer:
        return self.post(path, json.dumps(body).encode(), **headers)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def raw(self, data: bytes, *, within: float = 10.0) -> bytes:
        """Send bytes as they are; everything that comes back until the other side closes or is silent for a second."""
        with socket.create_connection((self.host, self.port), timeout=within) as one:
            with contextlib.suppress(ConnectionError):
                one.sendall(data)
            found = b""
            with contextlib.suppress(ConnectionError, TimeoutError):
                while piece := one.recv(65536):
                    found += piece
                    one.settimeout(1.0)
            return found


def statuses(raw: bytes) -> list[int]:
    """The statuses of all answers in what a raw connection gave."""
    return [int(line[9:12]) for line in raw.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]


@dataclass
class Got:
    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes


@dataclass
class Listener:
    """An HTTP server on loopback that remembers what it got. ``answers[path]`` is a function that answers, else 200 `{}`."""

    got: list[Got] = field(default_factory=list)
    answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=dict)
    url: str = ""
    connections: int = 0

    def bodies(self, path: str = "/") -> list[bytes]:
        return [one.body for one in self.got if one.path.startswith(path)]

    def wait(self, count: int, path: str = "/", *, within: float = 30.0) -> list[Got]:
        def enough() -> list[Got] | None:
            found = [one for one in self.got if one.path.startswith(path)]
            return found if len(found) >= count else None

        return until(enough, within=within, what=f"{count} requests to {path}") or []


@contextlib.contextmanager
def listening(tls: ssl.SSLContext | None = None) -> Iterator[Listener]:
    listener = Listener()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            listener.connections += 1

        def log_message(self, *_args: object) -> None:
            """Quiet."""

        def _take(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            listener.got.append(Got(self.command, self.path, self.headers.items(), body))
            answer = listener.answers.get(self.path.partition("?")[0])
            if answer is not None:
                answer(self)
                return
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _take  # noqa: N815 - the names that the base class calls

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, *_args: object) -> None:
            """A client that goes away in the middle is what these tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:  # the handshake is made where the request is read, so that a client may refuse it
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    listener.url = f"http{'s' if tls is not None else ''}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield listener
    finally:
        server.shutdown()
        server.server_close()


def write(root: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write a workspace: the files, and the probe."""
    for name, content in {"routes/probe.yaml": PROBE, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(0o644)
    return root


@dataclass
class Target:
    """A running bus and the ways to it."""

    bus: Bus
    root: Path
    http: Client
    admin: Client
    sent: int = 0

    def alive(self) -> None:
        """The process lives, and a normal message passes."""
        assert self.bus.process.running, self.bus.log()[-3000:]
        self.sent += 1
        answer = self.http.post_json("/probe", {"n": self.sent})
        assert (answer.status, answer.body) == (200, b'{"n":%d}' % self.sent), answer

    def setup_link(self) -> str:
        """Path and query of the printed link, which follows the line that says ready: all that a start waits for."""
        found: list[str] = until(
            lambda: re.findall(r"http\S+(/setup\?token=\S+)\s", self.bus.log()), within=60, what="the setup link"
        )
        return found[0]

    def states(self, route: str) -> dict[str, int]:
        item = self.status(route)
        return {name: item[name] for name in ("queued", "running", "waiting", "held", "done", "dead")}

    def status(self, route: str) -> dict[str, Any]:
        found = self.admin.send("GET", "/api/v1/status", None, {"Authorization": f"Bearer {self.token()}"}).json[
            "items"
        ]
        return next(item for item in found if item["route"] == route)

    def drained(self, route: str, *, within: float = 60.0) -> dict[str, int]:
        """The states of a route once nothing of it is under way."""

        def still() -> dict[str, int] | None:
            found = self.states(route)
            return None if any(found[name] for name in ("queued", "running", "waiting")) else found

        return until(still, within=within, what=f"{route} works off what it took") or {}

    def rss(self) -> int:
        """Resident memory of the process in bytes."""
        words = Path(f"/proc/{self.bus.process.popen.pid}/statm").read_text().split()
        return int(words[1]) * os.sysconf("SC_PAGE_SIZE")

    def token(self) -> str:
        """What only the bus's own user can read."""
        return str(json.loads((self.root / ".esb" / "bus.lock").read_text())["token"])


@contextlib.contextmanager
def attacked(root: Path, files: Mapping[str, str | bytes], *options: str, **environment: str) -> Iterator[Target]:
    """A bus on these files. At the end it must stop with exit code 0, without a traceback in its log."""
    bus = Bus(write(root, files), environment=environment, options=options)
    try:
        bus.start()
        http, admin = Client(bus.http), Client(bus.admin)
        try:
            yield Target(bus, root, http, admin)
        finally:
            http.close()
            admin.close()
        assert bus.stop() == 0, bus.log()[-3000:]
        assert "Traceback" not in bus.log(), bus.log()[-6000:]
    finally:
        bus.kill()


def esb(*words: str, cwd: Path, within: float = 60.0, **environment: str) -> subprocess.CompletedProcess[str]:
    """One command of the program, from outside."""
    command = [sys.executable, "-m", "esb", *words]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=within, check=False)


def problems(root: Path) -> list[dict[str, Any]]:
    """What `esb lint` finds, one item per problem; the program may say no, but must not fail."""
    done = esb("lint", ".", "--format", "json", cwd=root)
    assert done.returncode in (0, 1), done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    return list(json.loads(done.stdout)["items"])
