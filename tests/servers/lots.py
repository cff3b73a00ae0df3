"""A small system over HTTP, in a thread: a list, its pages, changes by delta link, and answers that a test has prepared."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Reply = tuple[int, Mapping[str, str], bytes]


class Lots:
    """Items in the order in which they came; each change is numbered, from 1.

    `/lots` is the whole list, `/paged` the same by next link, `/numbered` by `$skip` and `$top`, `/since?after=N` what came after a
    number, and `/changes` all of it by pages with a delta link at the end. ``before`` may answer a request itself.
    """

    page = 5

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.before: Callable[[str, dict[str, str]], Reply | None] = lambda path, headers: None
        self.numbers = 0
        lots = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                lots.seen.append((self.path, headers))
                status, fields, body = lots.before(self.path, headers) or lots.answer(self.path, headers)
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **fields}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Nobody reads it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def put(self, id_: str, **fields: Any) -> None:
        """A new item, or a change of one: it moves to the end."""
        self.numbers += 1
        self.items = [item for item in self.items if item["id"] != id_]
        self.items.append({"id": id_, "seq": self.numbers, **fields})

    def answer(self, path: str, headers: Mapping[str, str]) -> Reply:
        parts = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        plain = [{name: value for name, value in item.items() if name != "seq"} for item in self.items]
        match parts.path:
            case "/lots":
                return self.conditional(plain, headers)
            case "/numbered":
                skip, top = int(query["$skip"]), int(query["$top"])
                return 200, {}, json.dumps({"value": plain[skip : skip + top]}).encode()
            case "/paged":
                return self.pages(plain, query, "/paged", {})
            case "/since":
                found = [item for item in self.items if item["seq"] >= int(query["after"] or 0)]
                return 200, {}, json.dumps({"value": found[: self.page]}).encode()
            case "/changes":
                since, until = int(query.get("since", 0)), int(query.get("until", self.numbers))
                found = [item for item in self.items if since < item["seq"] <= until]
                end = {"@odata.deltaLink": f"{self.url}/changes?since={until}"}
                return self.pages(found, query, f"/changes?since={since}&until={until}", end)
        return 404, {}, b'{"error": {"code": "404", "message": "no such list"}}'

    def conditional(self, plain: list[Any], headers: Mapping[str, str]) -> Reply:
        body = json.dumps(plain).encode()
        tag = f'"{hash(body)}"'
        return (304, {"ETag": tag}, b"") if headers.get("if-none-match") == tag else (200, {"ETag": tag}, body)

    def pages(self, found: list[Any], query: Mapping[str, str], path: str, end: Mapping[str, str]) -> Reply:
        at = int(query.get("$skiptoken", 0))
        mark = "&" if "?" in path else "?"
        more = at + self.page < len(found)
        links = {"@odata.nextLink": f"{self.url}{path}{mark}$skiptoken={at + self.page}"} if more else end
        return 200, {}, json.dumps({"value": found[at : at + self.page], **links}).encode()
