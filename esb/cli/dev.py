"""``esb dev``: run, watch, lint, test and stub in one command, for the one who writes routes."""

from __future__ import annotations

import asyncio
import os
import sys
import time
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import click

from esb.bus import Bus
from esb.cli import exits
from esb.cli.keys import in_words, listen
from esb.cli.output import safe
from esb.cli.places import workspace_folder
from esb.cli.run import _address, _loop, _on_signals
from esb.cli.traffic import shown
from esb.testing.again import WATCHED, Reading, Saves, pairs
from esb.testing.live import DevSupervisor
from esb.testing.targets import Asked

STORE = "sqlite:///.esb/dev.db"
#: What a key does, where stdin is a terminal.
KEYS = {"r": "reload", "t": "tests", "l": "lint", "o": "pages", "q": "quit", "?": "help"}
#: Problems that `l` tells; `esb lint` tells them all.
MOST_PROBLEMS = 20
#: Events of the log that are told; the rest is for operators.
_TOLD = {"message.dead": "✗", "message.retry": "…", "message.parked": "…", "message.expired": "✗", "message.log": "·"}


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=Path())
@click.option("--http", "http_text", metavar="HOST:PORT", help="Ingress of routes, instead of esb.yaml's.")
@click.option("--admin", "admin_text", metavar="HOST:PORT", help="Admin listener, instead of esb.yaml's.")
@click.option("--keep", is_flag=True, help="Keep the messages of the last time.")
@click.option("--no-tests", is_flag=True, help="Do not run route tests on save.")
def dev(directory: Path, http_text: str | None, admin_text: str | None, keep: bool, no_tests: bool) -> None:
    """Run the bus of DIRECTORY for writing routes: watch, lint and test on save, with stubs for every target.

    Nothing leaves: targets answer what the connector's `stub` says, else a plain success, and what they would get is shown. Sources of
    connectors do not run (`esb send` gives their routes messages); HTTP, files of the workspace, timers and topics do. Messages are in a
    store of their own, new at each start. Secrets that are not set do not matter. Prints one line that begins with `ready`; Ctrl-C
    ends. In a terminal single keys do something at once: r reload, t tests, l lint, o the pages, q quit, ? help.
    """
    from esb.cli.author import line_reader
    from esb.config.diagnostics import render_text
    from esb.errors import ConfigError, EsbError, StoreError

    root = workspace_folder(directory, "dev", exits.BAD_CONFIG)
    addresses = _address(http_text, "--http"), _address(admin_text, "--admin")
    if not keep:
        _forget(root)
    try:
        _loop(_dev(root, *addresses, tests=not no_tests))
    except ConfigError as error:
        click.echo(render_text(error.problems, line_reader(root)), err=True)
        sys.exit(exits.BAD_CONFIG)
    except StoreError:
        raise
    except EsbError as error:
        raise exits.Exit(str(error), exits.BAD_CONFIG, hint=error.hint) from None


def _forget(root: Path) -> None:
    """The messages of the last time, unless a bus has them in its hands."""
    from esb.store.lock import read_owner

    if read_owner(root / ".esb") is None:
        for place in (root / ".esb").glob("dev.db*"):
            with suppress(OSError):
                place.unlink()


@dataclass(slots=True)
class Screen:
    """What is told, line by line; the same thing several times in a row is counted."""

    write: Callable[[str], None] = click.echo
    last: str = ""
    again: int = 0

    def line(self, sign: str, words: str) -> None:
        if words == self.last:
            self.again += 1
            return
        if self.again:
            self.write(f"           (the same {self.again} more time{'s' if self.again > 1 else ''})")
        self.last, self.again = words, 0
        self.write(safe(f"{time.strftime('%H:%M:%S')} {sign} {words}"))
        sys.stdout.flush()

    def answer(self) -> None:
        """Somebody asks: what comes next is said, also where it is what was said last."""
        self.last = ""

    def log(self, level: str, event: str, **fields: Any) -> None:
        """Implements the log of the bus."""
        if event == "message.log":
            self.line("·", f"{fields.get('route')}: {fields.get('text')}")
        elif event in _TOLD:
            words = " ".join(
                f"{name}={value}"
                for name, value in fields.items()
                if name in ("class_", "step", "error", "due") and value
            )
            self.line(
                _TOLD[event], f"{fields.get('route')} {event.partition('.')[2]}  {fields.get('message', '')}  {words}"
            )
        elif level == "error" and not event.startswith("reload."):
            self.line("✗", f"{event} " + " ".join(f"{name}={value}" for name, value in fields.items() if value))

    def sent(self, route: str, asked: Asked) -> None:
        request = f" {asked.method} {asked.path}" if asked.method else ""
        said = f"  ← {asked.said}" if asked.said else ""
        self.line("→", f"{route} → {asked.to}{request}  {shown(asked.body)}{said}")


@dataclass(slots=True)
class DevBus(Bus):
    """A bus that tells what a save did."""

    watched = WATCHED

    screen: Screen = field(default_factory=Screen)
    tests: bool = True
    saves: Saves | None = None

    async def begin(self) -> None:
        supervisor = self.supervisor
        assert isinstance(supervisor, DevSupervisor)
        supervisor.tell = self.screen.sent
        supervisor.stub_targets(self.clock)
        await self.start(watch=False)
        self.saves = Saves(self.root, self.files)
        await self._watch()

    async def _changed(self) -> None:
        """A save: the files are read, taken over, and tested."""
        await self.take_over(self.saves.names() if self.saves is not None else ())

    async def take_over(self, names: Sequence[str]) -> None:
        """Read all files and take them over; ``names`` are those that changed, none where somebody just wants it done."""
        began = time.monotonic()
        done = await self.reload()
        took = (time.monotonic() - began) * 1000
        supervisor = self.supervisor
        if isinstance(supervisor, DevSupervisor):
            supervisor.take_stubs(self.workspace)
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        what = ", ".join(dict.fromkeys(names[:3])) + more or "reload"
        errors = [one for one in done["problems"] if one["severity"] == "error"]
        for one in errors[:5]:
            hint = f"; {one['hint']}" if one["hint"] else ""
            self.screen.line("✗", f"{one['path']}:{one['line']}:{one['column']} {one['code']} {one['message']}{hint}")
        if errors:
            self.screen.line(
                "✗", f"{what}: {len(errors)} fault{'s' if len(errors) > 1 else ''}; the live version goes on"
            )
            return
        warned = f" ({len(done['problems'])} warnings)" if done["problems"] else ""
        touched = [name for kind in ("added", "changed", "removed") for name in done.get(kind, ())]
        live = f"live in {took:.0f} ms: {', '.join(touched)}" if touched else "nothing to swap"
        self.screen.line("↻", f"{what}: lint ✓{warned} · {live}")
        if self.tests and names:
            await self.test(names, frozenset(touched))

    async def test(self, names: Sequence[str] = (), touched: frozenset[str] = frozenset()) -> None:
        """Run the tests that a save of these files is about, all of them without."""
        await asyncio.to_thread(self._test, names, touched)

    def _test(self, names: Sequence[str], touched: frozenset[str]) -> None:
        reading = Reading(self.root)
        for one in reading.errors[:5]:
            self.screen.line("✗", str(one))
        cases = reading.about(names, touched) if names else list(pairs(reading.suites))
        if not cases:
            return
        began, failed = time.monotonic(), 0
        for result in reading.runner.run(cases):
            for failure in result.failures:
                self.screen.line("✗", f"{result.case.name}: {failure}")
            failed += not result.passed
        sign, took = ("✗" if failed else "✓"), time.monotonic() - began
        self.screen.line(sign, f"tests {len(cases) - failed}/{len(cases)} in {took:.1f} s")

    async def lint(self) -> None:
        """Say everything that can be said of the files as they are."""
        from esb.config.loader import read_workspace

        found = await asyncio.to_thread(partial(read_workspace, self.root, need_secrets=False))
        for one in found.problems[:MOST_PROBLEMS]:
            self.screen.line("✗" if one.severity == "error" else "!", f"{one}{f'; {one.hint}' if one.hint else ''}")
        errors = len(found.errors)
        words = f"{errors} errors, {len(found.problems) - errors} warnings" if found.problems else "no problems"
        self.screen.line("✗" if errors else "✓", f"lint: {words} in {found.files} files")


async def _hear(keys: asyncio.Queue[str], bus: DevBus, end: Callable[[], None]) -> None:
    """Do what the keys say, one after the other."""
    while True:
        key = await keys.get()
        bus.screen.answer()
        try:
            await _do(key.lower(), bus, end)
        except Exception as error:  # noqa: BLE001 - a full disk, a fault: the next key must still be heard
            bus.screen.line("✗", f"{type(error).__name__}: {error}")


async def _do(key: str, bus: DevBus, end: Callable[[], None]) -> None:
    match key:
        case "r":
            await bus.take_over(())
        case "t":
            await bus.test()
        case "l":
            await bus.lint()
        case "o":
            bus.screen.line("·", f"pages {bus.admin_url}/")
            if os.name == "nt" or sys.platform == "darwin" or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
                await asyncio.to_thread(webbrowser.open, f"{bus.admin_url}/")
        case "q":
            end()
        case "?" | "h":
            bus.screen.line("·", in_words(KEYS))


async def _dev(root: Path, http: tuple[str, int] | None, admin: tuple[str, int] | None, *, tests: bool) -> int:
    screen = Screen()
    opened = await DevBus.open(
        root, http=http, admin=admin, log=screen.log, store_url=STORE, supervised_by=DevSupervisor, need_secrets=False
    )
    assert isinstance(opened, DevBus)
    bus, stop = opened, asyncio.Event()
    bus.screen, bus.tests = screen, tests
    _on_signals(stop.set)
    await bus.begin()
    supervisor = bus.supervisor
    assert isinstance(supervisor, DevSupervisor)
    count = sum(1 for route in bus.workspace.routes.values() if route.enabled)
    click.echo(f"ready http={bus.http_url} admin={bus.admin_url} routes={count} bus={bus.name}")
    keys: asyncio.Queue[str] = asyncio.Queue()
    deaf = listen(keys.put_nowait)
    stubbed = ", ".join(sorted(bus.workspace.connectors)) or "there are no connectors"
    ends = in_words(KEYS) if deaf else "Ctrl-C ends"
    click.echo(f"targets are stubbed: {stubbed} · pages {bus.admin_url}/ · {ends}")
    for name, connector in sorted(supervisor.resting.items()):
        click.echo(f"  {name} takes nothing from {connector}: esb send {name} --data @file")
    sys.stdout.flush()
    hearing = asyncio.create_task(_hear(keys, bus, stop.set))
    try:
        if tests:
            await bus.test()
        await stop.wait()
    finally:
        hearing.cancel()
        if deaf:
            deaf()
    await bus.stop()
    return exits.DONE
