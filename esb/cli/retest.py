"""``esb test --watch``: the tests that a save is about, again and again until Ctrl-C."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from threading import Event

import click

from esb.cli import exits
from esb.cli.output import log_line
from esb.cli.run import _loop, _on_signals
from esb.cli.test import chosen, show_faults, summarize, told
from esb.clock import SystemClock
from esb.errors import ConfigError
from esb.runtime.watch import Watcher
from esb.testing.again import WATCHED, Reading, Saves
from esb.testing.model import Case, Suite
from esb.testing.results import Result

#: How a case is known from one reading to the next: its file, its route, its name.
Called = tuple[str, str, str]


def retest(root: Path, expression: str, *, coverage: bool) -> int:
    """Run tests until Ctrl-C; the exit code of the last run."""
    return _loop(_retest(Retest(root, expression, coverage=coverage)))


async def _retest(tests: Retest) -> int:
    stop = asyncio.Event()

    def end() -> None:
        tests.ended.set()
        stop.set()

    _on_signals(end)
    await asyncio.to_thread(tests.everything)
    watcher = Watcher(tests.root, SystemClock(), tests.saved, log_line, WATCHED)
    await watcher.start()
    await tests.saved()  # what came while the first run took its time
    click.echo("watching · Ctrl-C ends")
    await stop.wait()
    await watcher.stop()
    return tests.code


class Retest:
    """What is known from one run to the next: the versions of the routes, and the cases that failed."""

    def __init__(self, root: Path, expression: str, *, coverage: bool) -> None:
        self.root = root
        #: set by Ctrl-C: the case that runs is the last one
        self.ended = Event()
        self.code = exits.DONE
        self._expression, self._coverage = expression, coverage
        self._saves = Saves(root)
        #: what was saved since the files could be read
        self._open: list[str] = []
        self._versions: Mapping[tuple[str, str], str] = {}
        self._failed: set[Called] = set()
        self._turn = asyncio.Lock()

    def everything(self) -> None:
        """Run all cases that are meant."""
        self._run(None)

    async def saved(self) -> None:
        """Run what the saves since the last time are about."""
        async with self._turn:
            names = self._saves.names()
            if names and not self.ended.is_set():
                await asyncio.to_thread(self._run, names)

    def _run(self, names: Sequence[str] | None) -> None:
        if names is not None:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            click.echo(f"\n{time.strftime('%H:%M:%S')} ↻ {', '.join(names[:3])}{more}")
            self._open += names
        reading = Reading(self.root)
        try:
            cases = chosen(reading, self._expression)
        except ConfigError as error:
            show_faults(self.root, error)
            self.code = exits.BAD_CONFIG
            return
        except exits.Exit as error:
            error.show()
            self.code = error.code
            return
        before, self._versions = self._versions, reading.versions()
        changed = {name for (path, name), digest in self._versions.items() if before.get((path, name)) != digest}
        about = cases if names is None else reading.about(self._open, changed)
        self._open = []
        wanted = {_called(*pair) for pair in about} | self._failed
        meant = [pair for pair in cases if _called(*pair) in wanted]
        if not meant:
            click.echo("no test is about it")
            self.code = exits.DONE
            return
        results = list(told(self._until_the_end(reading.runner.run(meant))))
        ran = {(one.path, one.route, one.case.name): one.passed for one in results}
        left = self._failed & {_called(*pair) for pair in cases} - ran.keys()
        self._failed = left | {called for called, passed in ran.items() if not passed}
        summarize(reading, meant, results, coverage=self._coverage, whole=len(meant) == len(cases))
        self.code = exits.NO if self._failed else exits.DONE

    def _until_the_end(self, results: Iterator[Result]) -> Iterator[Result]:
        for result in results:
            yield result
            if self.ended.is_set():
                return


def _called(suite: Suite, case: Case) -> Called:
    return suite.path, suite.options.route, case.name
