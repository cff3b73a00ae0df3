"""One small workspace, the systems behind it, and a bus that may be planted with a fault in each of its lives."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from esb.clock import SystemClock
from esb.store import open_store
from examples.demo.harness import Bus, TooLate, until

ROUTES = {
    "in": """
route: in
key: body.lot
from: { http: { path: /in, method: POST } }
steps: [ { to: { http: { url: "${SINK}/in", method: POST } } } ]
""",
    "sync": """
route: sync
from: { http: { path: /sync, method: POST, reply: delivered } }
steps: [ { to: { http: { url: "${SINK}/sync", method: POST } } } ]
""",
    "pure": """
route: pure
from: { http: { path: /pure, method: POST } }
steps: [ { map: { lot: body.lot } }, { publish: lots } ]
""",
    "reader": """
route: reader
from: { topic: lots }
steps: [ { filter: body.lot } ]
""",
    "rows": """
route: rows
from: { http: { path: /rows, method: POST } }
steps: [ { split: { each: body.rows, steps: [ { to: { http: { url: "${SINK}/rows", method: POST } } } ] } } ]
""",
    "no": """
route: "no"
key: body.lot
retry: { max: 0 }
from: { http: { path: /no, method: POST } }
steps: [ { to: { http: { url: "${SINK}/no", method: POST } } } ]
""",
    "instead": """
route: instead
retry: { max: 0 }
from: { http: { path: /instead, method: POST } }
steps: [ { to: { http: { url: "${SINK}/no/first", method: POST } } } ]
on_error: [ { for: any, steps: [ { to: { http: { url: "${SINK}/spare", method: POST } } } ] } ]
""",
    "pickup": """
route: pickup
from: { file: { path: "drop/*.json", every: 100ms, ready: { rename: true } } }
steps: [ { to: { file: { path: "out/{{ body.id }}.json" } } } ]
""",
    "tick": """
route: tick
from: { timer: { every: 1s } }
steps: [ { to: { file: { path: "ticks/{{ meta.slot | replace(':', '') }}.json" } } } ]
""",
}


class Target:
    """A system that keeps what it saw; ``/no`` and what is below it refuses while :attr:`refuses`."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, Any]] = []
        self.refuses = True
        target = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                target.seen.append((self.path, self.headers["Idempotency-Key"], body))
                self.send_response(422 if self.path.startswith("/no") and target.refuses else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def at(self, path: str) -> list[tuple[str, str, Any]]:
        return [one for one in self.seen if one[0] == path]


class Site:
    """One workspace with some of the routes, a target, and the bus in its lives."""

    def __init__(self, root: Path, routes: tuple[str, ...], settings: str) -> None:
        self.root, self.target = root, Target()
        (root / "routes").mkdir(parents=True)
        (root / "esb.yaml").write_text(f"bus: crash\n{settings}", encoding="utf-8")
        for name in routes:
            (root / "routes" / f"{name}.yaml").write_text(ROUTES[name], encoding="utf-8")
        self.bus = Bus(root, environment={})

    def start(self, failpoints: str = "") -> None:
        environment = {"SINK": self.target.url, "ESB_TEST": "1", "ESB_FAILPOINTS": failpoints}
        self.bus = Bus(self.root, environment=environment, options=("--no-watch",))
        self.bus.start()

    def start_to_die(self, failpoints: str) -> None:
        """Start with a kill planted that may strike before the bus is ready."""
        try:
            self.start(failpoints)
        except TooLate:
            self.died()

    def died(self) -> None:
        assert self.bus.process.popen.wait(60) == -9, self.bus.log()[-2000:]

    def post(self, path: str, body: Any, key: str = "k") -> tuple[int, dict[str, Any]]:
        """Status and answer; status 0 where the bus hung up."""
        where = urlsplit(self.bus.http)
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=30)
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        try:
            connection.request("POST", path, json.dumps(body), headers)
            with connection.getresponse() as answer:
                return answer.status, json.loads(answer.read() or b"{}")
        except (OSError, http.client.HTTPException):
            return 0, {}
        finally:
            connection.close()

    def act(self, what: str, **words: Any) -> tuple[int, list[dict[str, Any]]]:
        """An operator's action by the API, with the token of the local command line."""
        token = json.loads((self.root / ".esb" / "bus.lock").read_text())["token"]
        where = urlsplit(self.bus.admin)
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=30)
        try:
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            connection.request("POST", f"/api/v1/{what}", json.dumps({"reason": "test", **words}), headers)
            with connection.getresponse() as answer:
                return answer.status, json.loads(answer.read()).get("items", [])
        except (OSError, http.client.HTTPException):
            return 0, []
        finally:
            connection.close()

    def drop(self, id_: str) -> None:
        folder = self.root / "drop"
        folder.mkdir(exist_ok=True)
        (folder / f"{id_}.tmp").write_text(json.dumps({"id": id_}))
        (folder / f"{id_}.tmp").rename(folder / f"{id_}.json")

    def states(self, route: str) -> dict[str, int]:
        return {state: n for state, n in self.bus.status()[route]["states"].items() if n}

    def ends(self, route: str, **states: int) -> None:
        """Wait until the messages of a route are in exactly these states."""
        until(lambda: self.states(route) == states, within=60, what=f"{route}: {states}", alive=self._alive)

    def _alive(self) -> None:
        assert self.bus.process.running, self.bus.log()[-2000:]

    def whole(self) -> None:
        """Stop the bus in peace and look at what it leaves: file, conservation, audit chain."""
        assert self.bus.stop() == 0, self.bus.log()[-2000:]
        assert asyncio.run(_faults(self.root)) == []


async def _faults(root: Path) -> list[str]:
    store = await open_store("sqlite:///.esb/bus.db", root, clock=SystemClock(), min_free=0, threaded=False)
    try:
        return [*store.verify_file(), *store.verify_conservation(), *store.verify_audit(), *store.verify_blobs()]
    finally:
        await store.close()


@contextmanager
def site_of(root: Path, routes: tuple[str, ...], settings: str = "") -> Iterator[Site]:
    """A site that is taken down whatever happens."""
    site = Site(root, routes, settings)
    try:
        yield site
    finally:
        site.bus.kill()
        site.target.server.shutdown()
        site.target.server.server_close()
