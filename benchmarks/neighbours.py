"""A route that must not notice its neighbours, and neighbours that try: used by the isolation test and its benchmark."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROUTES = """
route: probe
from: { http: { path: /probe, contract: probe.v1 } }
steps: [ { validate: probe.v1 }, { map: { number: body.no } }, { to: { http: { url: "@/probe" } } } ]
---
route: dead
from: { http: { path: /dead } }
retry: { max: 2, backoff: 50ms..100ms }
steps: [ { to: { http: { url: "http://127.0.0.1:9" } }, timeout: 1s } ]
---
route: drip
from: { http: { path: /drip } }
retry: { max: 0 }
steps: [ { to: { http: { url: "@/drip" } }, timeout: 1s } ]
---
route: bomb
from: { http: { path: /bomb } }
retry: { max: 0 }
steps: [ { to: { http: { url: "@/bomb" } }, timeout: 5s } ]
---
route: redirect
from: { http: { path: /redirect } }
retry: { max: 0 }
steps: [ { to: { http: { url: "@/redirect", headers: { X-API-Key: "the-key" } } }, timeout: 5s } ]
---
route: poison
from: { http: { path: /poison } }
steps: [ { validate: probe.v1 } ]
---
route: crash
from: { http: { path: /crash } }
steps: [ { end-process: {} } ]
---
route: endless
from: { http: { path: /endless } }
steps: [ { set: { vars.a: "body.l[].{x: $.body.l[].{y: $.body.l[].n}}" } } ]
---
route: large
from: { http: { path: /large } }
steps: [ { log: "large" } ]
---
route: pattern
from: { http: { path: /pattern, contract: pattern.v1 } }
steps: [ { log: "pattern" } ]
"""
SCHEMAS = {
    "probe.v1": '{"type": "object", "required": ["no"], "properties": {"no": {"type": "integer"}}}',
    "pattern.v1": '{"type": "object", "properties": {"text": {"pattern": "^(a+)+$"}, "list": {"uniqueItems": true}}}',
}
PLUGIN = '''
"""A step that takes its process along."""
from __future__ import annotations

import os
from dataclasses import dataclass

from esb.registry import step


@step("end-process")
@dataclass(frozen=True, slots=True)
class EndProcess:
    """Ends the process that runs it."""

    def apply(self, message, context):
        os._exit(3)
'''
#: 300 MB of zeros, packed.
BOMB = gzip.compress(bytes(300_000_000), 1)
#: route, body, the state it ends in, and the class of its error; None where the door refuses it, with that status.
ATTACKS: tuple[tuple[str, bytes, str | int, str], ...] = (
    ("dead", b"{}", "dead", "exhausted"),
    ("drip", b"{}", "dead", "timeout"),
    ("bomb", b"{}", "dead", ""),
    ("redirect", b"{}", "dead", "rejected"),
    ("poison", b'{"no": "seven"}', "dead", "invalid"),
    ("crash", json.dumps({"text": "x" * 60_000}).encode(), "dead", "internal"),
    ("endless", json.dumps({"l": [{"n": n} for n in range(2_500)]}).encode(), "dead", "internal"),
    ("large", b'{"text": "' + b"x" * 20_000_000 + b'"}', 413, ""),
    ("pattern", json.dumps({"text": "a" * 30_000 + "b", "list": list(range(3_000))}).encode(), 422, ""),
)


@dataclass
class World:
    """The target of every route, good and bad; ``probes`` are the numbers that arrived, ``canary`` what must not."""

    probes: list[int] = field(default_factory=list)
    canary: list[str] = field(default_factory=list)
    url: str = ""
    _server: Any = None

    def start(self) -> None:
        world = self

        class Target(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                getattr(self, self.path.strip("/"))(body)

            def probe(self, body: bytes) -> None:
                world.probes.append(json.loads(body)["number"])
                self._answer(b"{}")

            def canary(self, body: bytes) -> None:
                world.canary.append(self.headers.get("X-API-Key", ""))
                self._answer(b"{}")

            def redirect(self, body: bytes) -> None:
                self._answer(b"", 307, Location=f"{world.url}/canary")

            def bomb(self, body: bytes) -> None:
                self._answer(BOMB, **{"Content-Encoding": "gzip", "Content-Type": "application/json"})

            def drip(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Length", "1000000")
                self.end_headers()
                for _ in range(60):
                    self.wfile.write(b"xx")
                    time.sleep(1)

            def _answer(self, body: bytes, status: int = 200, **headers: str) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Be quiet."""

            def handle(self) -> None:
                try:
                    super().handle()
                except OSError:
                    self.close_connection = True  # the bus hung up, as it should

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Target)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def write(self, root: Path) -> None:
        """The workspace of all these routes."""
        files = {
            "routes/all.yaml": ROUTES.replace("@", self.url),
            "connectors/own.py": PLUGIN,
            "esb.yaml": "limits: { transform: 2s }",
        }
        files |= {f"schemas/{name}.json": text for name, text in SCHEMAS.items()}
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)


def post(address: str, route: str, body: bytes) -> tuple[int, Any]:
    """Status and body of the answer; a refusal in the middle of a long body counts as it is answered."""
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        try:
            connection.request("POST", f"/{route}", body, {"Content-Type": "application/json"})
        except (BrokenPipeError, ConnectionResetError):
            if route != "large":
                raise
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")
    finally:
        connection.close()


def slow_clients(address: str, count: int) -> list[socket.socket]:
    """Clients that begin a request and go on no further."""
    host, port = address.rsplit(":", 1)
    found = []
    for _ in range(count):
        client = socket.create_connection((host, int(port)), timeout=60)
        client.sendall(b"POST /probe HTTP/1.1\r\nHost: x\r\nX-A: ")
        found.append(client)
    return found


def keep_on(attack: Callable[[], Any], ended: threading.Event) -> threading.Thread:
    """Attack again and again until ``ended``."""

    def loop() -> None:
        while not ended.is_set():
            attack()

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    return thread
