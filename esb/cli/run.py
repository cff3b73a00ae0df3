"""``esb run``."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esb.cli import exits

if TYPE_CHECKING:
    from esb.observe.logs import Log


def _address(text: str | None, option: str) -> tuple[str, int] | None:
    if text is None:
        return None
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise click.BadParameter(f"`{text}` is no address; write HOST:PORT, such as 127.0.0.1:8080", param_hint=option)
    return host.strip("[]"), int(port)


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=Path())
@click.option("--http", "http_text", metavar="HOST:PORT", help="Ingress of routes, instead of esb.yaml's.")
@click.option("--admin", "admin_text", metavar="HOST:PORT", help="Admin listener, instead of esb.yaml's.")
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Worker processes (one in this version).",
)
@click.option("--no-watch", is_flag=True, help="Do not reload when files change.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Form of the log on stderr.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="Least level that is logged.",
)
def run(
    directory: Path,
    http_text: str | None,
    admin_text: str | None,
    workers: int,
    no_watch: bool,
    log_format: str,
    log_level: str,
) -> None:
    """Run the bus of DIRECTORY (default: here) in the foreground.

    Prints one line that begins with `ready` when every route is live. SIGTERM or Ctrl-C drains and exits 0; a second one
    stops at once, which is safe, too. Exit codes: 75 another process owns the store, 78 invalid configuration.
    """
    from esb.cli.author import line_reader
    from esb.config.diagnostics import render_text
    from esb.errors import ConfigError, EsbError, StoreError
    from esb.observe.logs import Log

    http, admin = _address(http_text, "--http"), _address(admin_text, "--admin")
    if not directory.is_dir():
        raise exits.Exit(
            f"no folder {directory}", exits.MISSING, hint="esb run DIR, where DIR holds esb.yaml or routes/"
        )
    log = Log(level=log_level, as_json=log_format == "json")
    if workers > 1:
        log("warning", "run.workers", hint="this version runs one process; more are planned", asked=workers)
    try:
        code = _loop(_run(directory.resolve(), http, admin, not no_watch, log))
    except ConfigError as error:
        click.echo(render_text(error.problems, line_reader(directory)), err=True)
        sys.exit(exits.BAD_CONFIG)
    except StoreError:
        raise
    except EsbError as error:
        raise exits.Exit(str(error), exits.BAD_CONFIG, hint=error.hint) from None
    sys.exit(code)


def _loop(main: Coroutine[Any, Any, int]) -> int:
    """Run on uvloop where it exists."""
    try:
        import uvloop
    except ImportError:  # Windows
        return asyncio.run(main)
    return uvloop.run(main)


async def _run(
    directory: Path, http: tuple[str, int] | None, admin: tuple[str, int] | None, watch: bool, log: Log
) -> int:
    from esb.bus import Bus

    bus = await Bus.open(directory, http=http, admin=admin, log=log)
    stop = asyncio.Event()
    forced = asyncio.Event()

    def on_signal() -> None:
        (forced if stop.is_set() else stop).set()

    _on_signals(on_signal)
    await bus.start(watch=watch)
    count = sum(1 for route in bus.workspace.routes.values() if route.enabled)
    click.echo(f"ready http={bus.http_url} admin={bus.admin_url} routes={count} bus={bus.name}")
    sys.stdout.flush()
    await stop.wait()
    bus.log("info", "run.stopping", grace=str(bus.workspace.settings.limits.drain))
    stopping, force = asyncio.create_task(bus.stop()), asyncio.create_task(forced.wait())
    await asyncio.wait({stopping, force}, return_when=asyncio.FIRST_COMPLETED)
    force.cancel()
    if not stopping.done():
        bus.log("warning", "run.forced", hint="everything that was accepted is in the store")
        return exits.DONE
    stopping.result()
    bus.log("info", "run.stopped")
    return exits.DONE


def _on_signals(act: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(name, act)
        except NotImplementedError:  # Windows: Ctrl-C and Ctrl-Break come as plain signals
            signal.signal(name, lambda *_: loop.call_soon_threadsafe(act))
