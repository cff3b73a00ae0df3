"""How operating commands reach the bus: the running process by its admin listener, or the store itself when it is stopped.

Both ways answer with the same words, because a stopped bus is served by the same API, called without a network.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import socket
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from esb.cli import exits

TIMEOUT = 30.0


def actor() -> str:
    """Who acts, for the audit: user and machine."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):
        return "unknown"


class Gateway:
    """Asks and acts. ``root`` is the workspace."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        query = urllib.parse.urlencode({k: v for k, v in (params or {}).items() if v not in (None, "", ())}, doseq=True)
        return self._call("GET", f"/api/v1{path}" + (f"?{query}" if query else ""), None)

    def post(self, path: str, words: Mapping[str, Any], *, timeout: float = TIMEOUT) -> dict[str, Any]:
        return self._call("POST", f"/api/v1{path}", {"actor": actor(), **words}, timeout)

    def _call(self, method: str, target: str, words: Any, timeout: float = TIMEOUT) -> dict[str, Any]:
        from esb.store.lock import read_owner

        if not any((self.root / name).exists() for name in ("esb.yaml", "routes", ".esb")):
            raise exits.Exit(
                f"{self.root} is no workspace",
                exits.MISSING,
                hint="go to the folder of esb.yaml or routes/, or name it with -C DIR",
            )
        owner = read_owner(self.root / ".esb")
        if owner is not None and owner.get("admin"):
            status, body = _remote(str(owner["admin"]), str(owner.get("token", "")), method, target, words, timeout)
        elif owner is not None:
            raise exits.Exit(
                f"the bus (process {owner.get('pid')}) is still starting", exits.AGAIN, hint="try again in a moment"
            )
        else:
            status, body = asyncio.run(_local(self.root, method, target, words))
        return _checked(status, body)


def _remote(base: str, token: str, method: str, target: str, words: Any, timeout: float) -> tuple[int, bytes]:
    data = json.dumps(words).encode() if words is not None else None
    request = urllib.request.Request(base + target, data=data, method=method)  # noqa: S310 - the bus's own address
    request.add_header("Authorization", f"Bearer {token}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except OSError as error:
        raise exits.Exit(f"the running bus does not answer at {base}: {error}", exits.UNREACHABLE) from None


async def _local(root: Path, method: str, target: str, words: Any) -> tuple[int, bytes]:
    from esb.cli.offline import offline_app

    async with offline_app(root) as app:
        path, _, query = target.partition("?")
        body = json.dumps(words).encode() if words is not None else b""
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": urllib.parse.unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(b"host", b"localhost"), (b"authorization", b"Bearer offline")],
            "client": ("127.0.0.1", 0),
            "server": ("127.0.0.1", 0),
        }
        status, parts = 500, []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(event: Any) -> None:
            nonlocal status
            if event["type"] == "http.response.start":
                status = event["status"]
            elif event["type"] == "http.response.body":
                parts.append(event.get("body", b""))

        await app(scope, receive, send)
        return status, b"".join(parts)


_CODES = {
    400: exits.USAGE,
    401: exits.NOT_ALLOWED,
    404: exits.MISSING,
    409: exits.NOT_ALLOWED,
    422: exits.BAD_INPUT,
    503: exits.AGAIN,
}


def _checked(status: int, body: bytes) -> dict[str, Any]:
    from esb.errors import Invalid
    from esb.formats.json import Json

    try:
        words: dict[str, Any] = Json().decode(body)
    except Invalid:
        raise exits.Exit(f"the bus answered {status} with no JSON", exits.UNREACHABLE) from None
    if status < 400:
        return words
    hint = words.get("hint", "")
    for error in words.get("errors", [])[:5]:
        hint += f"\n          {error.get('pointer')}: {error.get('detail')}"
    code = exits.UNREACHABLE if words.get("code") == "not-running" else _CODES.get(status, exits.BUG)
    raise exits.Exit(str(words.get("detail", f"status {status}")), code, hint=hint)


def workspace_option(command: Any) -> Any:
    """``-C DIR``: the workspace, the current folder by default."""
    return click.option(
        "-C",
        "--dir",
        "root",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path(),
        help="Workspace folder.",
    )(command)


def json_option(command: Any) -> Any:
    return click.option("--json", "as_json", is_flag=True, help='Machine output: {"kind", "items"} on stdout.')(command)
