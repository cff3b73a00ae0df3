"""``esb run``."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esb.cli import exits
from esb.cli.notify import Notifier
from esb.cli.places import workspace_folder
from esb.cli.streams import tell

if TYPE_CHECKING:
    from esb.bus import Bus
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
    help="Worker processes for heavy steps, instead of esb.yaml's `limits.workers`.",
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
    workers: int | None,
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
    root = workspace_folder(directory, "run", exits.BAD_CONFIG)
    # files of messages are nobody's but the bus's and its group's; the store is the bus's alone, whatever the mask
    os.umask(os.umask(0o077) | 0o027)
    log = Log(level=log_level, as_json=log_format == "json")
    try:
        code = _loop(_run(root, http, admin, not no_watch, workers, log))
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
    new_loop: Callable[[], asyncio.AbstractEventLoop]
    try:
        from uvloop import new_event_loop as new_loop
    except ImportError:  # Windows
        from esb.cli.proactor import new_loop
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main)


def keep_loaded() -> None:
    """Take what is loaded out of all later collections, and collect more rarely.

    A message is some fifty containers, nearly none of them in a cycle: by the usual 700 a collection comes with every
    dozenth message and finds nothing, which took a seventh of the time of a busy bus.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


async def _run(
    directory: Path,
    http: tuple[str, int] | None,
    admin: tuple[str, int] | None,
    watch: bool,
    workers: int | None,
    log: Log,
) -> int:
    from esb.bus import Bus

    gc.disable()  # what is loaded now stays: looking through it again and again takes a third of the time
    bus = await Bus.open(directory, http=http, admin=admin, log=log, workers=workers)
    stop = asyncio.Event()
    forced = asyncio.Event()

    def on_signal() -> None:
        (forced if stop.is_set() else stop).set()

    _on_signals(on_signal)
    await bus.start(watch=watch)
    keep_loaded()
    gc.enable()
    count = sum(1 for route in bus.workspace.routes.values() if route.enabled)
    manager = Notifier()
    _on_hangup(bus, manager, on_signal)  # whoever hears that it is ready may say so at once
    tell(f"ready http={bus.http_url} admin={bus.admin_url} routes={count} bus={bus.name}")
    if link := bus.setup_link:
        tell(f"nobody was set up yet: make the first user at {link} (once, within an hour, from here)", err=True)
    manager.begin(f"{count} routes, http {bus.http_url}")
    await stop.wait()
    manager.end()
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


def _on_hangup(bus: Bus, manager: Notifier, stop: Callable[[], None]) -> None:
    """SIGHUP: take over the files (`systemctl reload`); at a terminal, which is gone then, stop."""
    if not hasattr(signal, "SIGHUP") or signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # Windows; nohup
        return
    under_way: set[asyncio.Task[None]] = set()

    async def reload() -> None:
        manager.reloading()
        try:
            if bus.workspace.settings.regulated:  # there a change is somebody's, who signs it
                bus.log("warning", "reload.not_signed", hint="esb routes reload --reason …")
            else:
                await bus.reload("service manager", "SIGHUP")
        except Exception as error:  # noqa: BLE001 - a full disk, say: the bus goes on, and the manager must not wait for it
            bus.log("error", "reload.failed", error=repr(error))
        routes = sum(1 for route in bus.workspace.routes.values() if route.enabled)
        manager.say("READY=1", f"STATUS={routes} routes, http {bus.http_url}")

    def act() -> None:
        task = asyncio.ensure_future(reload())
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    asyncio.get_running_loop().add_signal_handler(
        signal.SIGHUP, stop if sys.stdin.isatty() and not manager.heard else act
    )


def _on_signals(act: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    # SIGBREAK is of Windows alone: Ctrl-Break, a console that is closed, the end of the session or of the machine
    for name in filter(None, (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGBREAK", None))):
        try:
            loop.add_signal_handler(name, act)
        except NotImplementedError:  # Windows: Ctrl-C and Ctrl-Break come as plain signals
            signal.signal(name, lambda *_: loop.call_soon_threadsafe(act))
