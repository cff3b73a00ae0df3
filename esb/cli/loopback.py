"""Pages for the person at this machine: a listener on loopback only, which answers under loopback names only."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING, Any, Literal

import click

from esb.cli import exits

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

#: Headers of every answer.
SAFE = {"x-content-type-options": "nosniff", "cache-control": "no-store", "referrer-policy": "same-origin"}


def serve(app: Any, port: int, *, lifespan: Literal["on", "off"] = "off") -> None:
    """Serve until Ctrl-C; ``port`` 0 is a free one."""
    import uvicorn

    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if sys.platform != "win32":  # there it lets two programs have one port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        listener.close()
        raise exits.Exit(f"cannot listen on 127.0.0.1:{port}: {error.strerror}", exits.BAD_CONFIG) from None
    listener.listen(16)  # who reads `ready` may call
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan=lifespan, server_header=False)
    click.echo(f"ready http://127.0.0.1:{listener.getsockname()[1]}/  (Ctrl-C ends)")
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        pass
    finally:
        listener.close()


def refusal(request: Request) -> Response | None:
    """The answer for who is not a person at this machine, on this very page."""
    from esb.admin.access import is_foreign
    from esb.endpoints.ingress import host_of, is_loopback

    host = request.headers.get("host", "")
    if host_of(host) != "localhost" and not is_loopback(host_of(host)):
        return plain(421, "this page does not answer under that host name")
    return plain(403, "a page of another site may not call this one") if is_foreign(request, host) else None


def plain(status: int, words: str) -> Response:
    """A line of text."""
    from starlette.responses import PlainTextResponse

    return PlainTextResponse(words + "\n", status, headers=SAFE)
