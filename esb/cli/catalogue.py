"""The pages of ``esb docs serve``: the catalogue of a workspace on this machine, built anew on every save."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esb.cli import loopback
from esb.cli.output import log_line
from esb.clock import SystemClock
from esb.errors import ConfigError
from esb.runtime.watch import Watcher

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

_TYPES = {"html": "text/html", "css": "text/css", "json": "application/json"}
_POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

#: Makes the files of the catalogue as the workspace is now. Raises ConfigError.
Build = Callable[[], Mapping[str, str]]


def serve(root: Path, build: Build, port: int) -> None:
    """Serve the pages until Ctrl-C. Raises ConfigError where the first building of them fails."""
    loopback.serve(app(root, build), port, lifespan="on")


def app(root: Path, build: Build) -> Starlette:
    """The catalogue of the workspace at ``root``."""
    from starlette.applications import Starlette
    from starlette.routing import Route

    pages = _Pages(root, build)
    return Starlette(routes=[Route("/{path:path}", pages.show)], lifespan=pages.kept_up)


class _Pages:
    def __init__(self, root: Path, build: Build) -> None:
        self._root, self._build = root, build
        self._files = build()

    @asynccontextmanager
    async def kept_up(self, _app: Any) -> AsyncIterator[None]:
        watcher = Watcher(self._root, SystemClock(), self._saved, log_line)
        await watcher.start()
        try:
            yield
        finally:
            await watcher.stop()

    async def show(self, request: Request) -> Response:
        from starlette.responses import Response as Answer

        if (refusal := loopback.refusal(request)) is not None:
            return refusal
        path = request.path_params["path"] or "index.html"
        text = self._files.get(path)
        if text is None:
            return loopback.plain(404, "there is no such page: a route may have another name now")
        kind = _TYPES.get(path.rpartition(".")[2], "text/plain")
        return Answer(text, media_type=kind, headers={"content-security-policy": _POLICY, **loopback.SAFE})

    async def _saved(self) -> None:
        """Build anew; with faults in the files the pages stay as they are, and the first faults are told."""
        at = time.strftime("%H:%M:%S")
        try:
            self._files = await asyncio.to_thread(self._build)
        except ConfigError as error:
            for one in [problem for problem in error.problems if problem.severity == "error"][:5]:
                click.echo(f"{at} ✗ {one}", err=True)
            click.echo(f"{at} ✗ the pages stay as they were", err=True)
            return
        click.echo(f"{at} ↻ built anew: {len(self._files)} files")
