"""How operating commands reach the bus: the running process by its admin listener, or the store itself when it is stopped.

``ESB_SERVER`` names a bus elsewhere, ``ESB_TOKEN`` an API token to be shown instead of the local one.

Both ways answer with the same words, because a stopped bus is served by the same API, called without a network.
"""

from __future__ import annotations

import asyncio
import getpass
import http.client
import json
import os
import socket
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from esb.cli import exits
from esb.cli.places import operated_folder
from esb.cli.signature import asked, of_environment, proof_of
from esb.trust import trusting

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

    def get(self, path: str, params: Mapping[str, Any] | None = None, *, timeout: float = TIMEOUT) -> dict[str, Any]:
        query = urllib.parse.urlencode({k: v for k, v in (params or {}).items() if v not in (None, "", ())}, doseq=True)
        return _checked(*self._answer("GET", _target(path) + (f"?{query}" if query else ""), None, timeout))

    def post(self, path: str, words: Mapping[str, Any], *, timeout: float = TIMEOUT) -> dict[str, Any]:
        """Act; where the bus wants a signature, the person at the terminal is asked for it."""
        words = {"actor": actor(), **words}
        if signature := of_environment():
            words["signature"] = signature
        target = _target(path)
        status, body = self._answer("POST", target, words, timeout)
        whole = words.get("signature", {}).get("password")
        needed = status == 403 and b'"signature-required"' in body and not whole
        if needed and (signature := asked(str(json.loads(body)["detail"]))):
            words["signature"] = signature
            status, body = self._answer("POST", target, words, timeout)
        elsewhere = status == 403 and b'"signature-elsewhere"' in body
        if elsewhere and (proof := proof_of(str(json.loads(body)["detail"]))):
            words["signature"] = {**words["signature"], "proof": proof}
            status, body = self._answer("POST", target, words, timeout)
        return _checked(status, body)

    @property
    def is_running(self) -> bool:
        """Whether a bus answers, and not this command in its place."""
        from esb.store.lock import read_owner

        owner = read_owner(self.root / ".esb")
        return bool(os.environ.get("ESB_SERVER")) or (owner is not None and not owner.get("command"))

    def _answer(self, method: str, target: str, words: Any, timeout: float) -> tuple[int, bytes]:
        from esb.store.lock import read_owner

        server, own = os.environ.get("ESB_SERVER", ""), _token_of_environment()
        if server:
            return _remote(_address(server), own, method, target, words, timeout, _elsewhere)
        operated_folder(self.root)
        owner = read_owner(self.root / ".esb")
        if owner is not None and owner.get("admin"):
            certificate = str(owner.get("cert") or "")
            token = own or str(owner.get("token", ""))
            return _remote(str(owner["admin"]), token, method, target, words, timeout, lambda: _own(certificate))
        if owner is not None and not owner.get("command"):  # another command is waited for
            raise exits.Exit(
                f"the bus (process {owner.get('pid')}) is still starting", exits.AGAIN, hint="try again in a moment"
            )
        return asyncio.run(_local(self.root, method, target, words))


def _target(path: str) -> str:
    """``path`` of the API as it stands in a request: a name is what was typed, also with a blank, an umlaut or a `?` in it."""
    return "/api/v1" + urllib.parse.quote(path, safe="/%")  # what is quoted already stays


def _address(server: str) -> str:
    """``ESB_SERVER``, if it can be one. Nothing but HTTP is spoken with it: a file is no bus."""
    try:
        parts = urllib.parse.urlsplit(server)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known:
        hint = "write it like https://esb-admin.plant.example:8081"
        raise exits.Exit(f"ESB_SERVER is no address: {server}", exits.USAGE, hint=hint)
    return server.rstrip("/")


def _token_of_environment() -> str:
    token = os.environ.get("ESB_TOKEN", "").strip()  # a line break comes along from a file
    if not (token.isascii() and token.isprintable()):
        hint = "it has characters that no token has; see how it came into the environment"
        raise exits.Exit("ESB_TOKEN is no token", exits.NOT_ALLOWED, hint=hint)
    return token


def _elsewhere() -> ssl.SSLContext:
    """Trusts the authorities of this machine, or the ones in the file that ``ESB_CA`` names."""
    authorities = os.environ.get("ESB_CA") or None
    try:
        return trusting(authorities)
    except OSError as error:  # an SSLError is one, too
        raise exits.Exit(f"ESB_CA: no authority can be read from {authorities}: {error}", exits.BAD_CONFIG) from None


def _own(certificate: str) -> ssl.SSLContext:
    """Trusts the one certificate that the running bus says is its own, whatever host it names: this is loopback."""
    context = trusting(certificate or None)
    if certificate:
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A bus redirects no call of the API; a token is not taken elsewhere by whoever answers instead of it."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _remote(
    base: str, token: str, method: str, target: str, words: Any, timeout: float, trusted: Callable[[], ssl.SSLContext]
) -> tuple[int, bytes]:
    data = _encoded(words)
    request = urllib.request.Request(base + target, data=data, method=method)  # noqa: S310 - the bus's own address
    request.add_header("Authorization", f"Bearer {token}")
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({}), _NoRedirect()]
    if base.startswith("https:"):
        handlers.append(urllib.request.HTTPSHandler(context=trusted()))
    opener = urllib.request.build_opener(*handlers)
    try:
        with opener.open(request, timeout=timeout) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except (OSError, http.client.HTTPException) as error:
        # the latter where something else answers, or it died while it did
        raise exits.Exit(f"the running bus does not answer at {base}: {_why(error)}", exits.UNREACHABLE) from None


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, OSError) and reason.strerror and not isinstance(reason, ssl.SSLError):
        return reason.strerror
    if isinstance(reason, http.client.IncompleteRead):
        return "it ended in the middle of its answer"
    if isinstance(reason, http.client.BadStatusLine) and not isinstance(reason, OSError):
        return "what answers there is no HTTP"
    return str(reason) or type(reason).__name__


def _encoded(words: Any) -> bytes | None:
    return None if words is None else json.dumps(words, ensure_ascii=False).encode()


async def _local(root: Path, method: str, target: str, words: Any) -> tuple[int, bytes]:
    from esb.cli.offline import offline_app

    async with offline_app(root) as app:
        path, _, query = target.partition("?")
        body = _encoded(words) or b""
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
    403: exits.NOT_ALLOWED,
    421: exits.NOT_ALLOWED,
    429: exits.AGAIN,
    404: exits.MISSING,
    409: exits.NOT_ALLOWED,
    422: exits.BAD_INPUT,
    503: exits.AGAIN,
}
#: codes that say more than their status
_SAID = {"not-running": exits.UNREACHABLE, "bad-configuration": exits.BAD_CONFIG}


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
        where = f"{error['pointer']}: " if error.get("pointer") else ""
        hint += f"{hint and chr(10) + ' ' * 10}{where}{error.get('detail')}"
    code = _SAID.get(str(words.get("code")), _CODES.get(status, exits.BUG))
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
