"""Which values of sample files the tables of a site do not have: every lookup is asked, by the routes themselves.

Each sample runs through its route on the bus of a route test (virtual time, no network), with systems that say yes. A value
without a row is noted and stands for itself, so that one run finds all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from esb.config.model import RouteSpec
from esb.config.routes import steps_of
from esb.config.stubs import Stub
from esb.errors import Unmapped
from esb.message import EMPTY
from esb.steps.lookup import Lookup
from esb.store.base import Stored
from esb.tables import CsvTable
from esb.testing.model import Case, Expect, Send, Suite, SuiteOptions
from esb.testing.run import Runner

#: what a system answers where nobody says anything else
_YES = Stub(status=200, json={})


@dataclass(frozen=True, slots=True)
class Sample:
    """A file that a route shall be able to take."""

    route: str
    path: Path


@dataclass(frozen=True, slots=True)
class Gap:
    """A value that a table does not have. ``handled`` where the route has a `default` for it."""

    route: str
    table: str
    file: str
    value: str
    sample: str
    handled: bool


@dataclass(frozen=True, slots=True)
class Coverage:
    """What the samples of a site met: how many values were asked for, which have no row, which samples did not get through."""

    samples: int
    asked: int
    gaps: Sequence[Gap]
    stopped: Sequence[Mapping[str, str]]


@dataclass(slots=True)
class Probe:
    """Stands before every table and notes what is asked of it."""

    asked: set[tuple[str, str]] = field(default_factory=set)
    missing: dict[tuple[str, str], CsvTable] = field(default_factory=dict)

    def __call__(self, table: CsvTable) -> ProbedTable:
        return ProbedTable(table, self)


class ProbedTable:
    """A table that has an answer for everything."""

    def __init__(self, table: CsvTable, probe: Probe) -> None:
        self._table, self._probe = table, probe

    def __getattr__(self, name: str) -> Any:
        return getattr(self._table, name)

    def find(
        self, value: Any, *, column: str | None = None, site: Mapping[str, Any] = EMPTY, on: datetime | None = None
    ) -> Any:
        table = self._table
        self._probe.asked.add((table.name, str(value)))
        try:
            return table.find(value, column=column, site=site, on=on)
        except Unmapped:
            self._probe.missing[table.name, str(value)] = table
            whole = column is None and len(table.values) > 2
            return dict.fromkeys(table.columns, str(value)) if whole else str(value)

    def reverse(
        self, value: Any, *, column: str | None = None, site: Mapping[str, Any] = EMPTY, on: datetime | None = None
    ) -> Any:
        table = self._table
        self._probe.asked.add((table.name, str(value)))
        try:
            return table.reverse(value, column=column, site=site, on=on)
        except Unmapped:
            self._probe.missing[table.name, str(value)] = table
            return str(value)


def samples_of(root: Path, site: str, routes: Mapping[str, str], given: Mapping[str, Sequence[Path]]) -> list[Sample]:
    """The samples of a site: those in ``samples/<SITE>/<route>/``, and ``given`` files and folders.

    ``routes`` are the names of the site's routes by the name in the template; both are understood.
    """
    found: list[Sample] = []
    for base, name in routes.items():
        places = [root / "samples" / site / word for word in dict.fromkeys((base, name))]
        places += [place for word in dict.fromkeys((base, name)) for place in given.get(word, ())]
        found += [Sample(name, path) for place in places for path in _files(place)]
    return found


def _files(place: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
    elif place.is_dir():
        yield from sorted(path for path in place.rglob("*") if path.is_file() and not path.name.startswith("."))


def cover(root: Path, environ: Mapping[str, str], samples: Sequence[Sample]) -> Coverage:
    """Run every sample through its route. Raises ConfigError where the workspace has faults."""
    probe = Probe()
    runner = Runner(root, tables=probe)
    gaps: dict[tuple[str, str, str], Gap] = {}
    stopped: list[dict[str, str]] = []
    for sample in samples:
        workspace = runner.workspace(SuiteOptions(route=sample.route, env=environ, cases=()))
        spec = workspace.routes[sample.route]
        probe.missing.clear()
        case = Case(name=sample.path.name, send=(Send(file=str(sample.path)),), expect=Expect())
        stubs = dict.fromkeys(spec.targets, (_YES,))
        local = [name for name, one in workspace.routes.items() if one.place is not None and _together(one, spec)]
        options = SuiteOptions(route=sample.route, env=environ, stubs=stubs, cases=(case,), with_=tuple(local))
        result = next(iter(runner.run([(Suite("", options), case)])))
        shown = sample.path.relative_to(root).as_posix() if sample.path.is_relative_to(root) else str(sample.path)
        for (table, value), found in probe.missing.items():
            handled = table in _with_default(spec)
            gaps.setdefault((sample.route, table, value), Gap(sample.route, table, found.path, value, shown, handled))
        left = list(open_messages(result.facts.messages)) if result.facts is not None else []
        if left or not result.passed:
            why = "; ".join(dict.fromkeys(left or [failure.words for failure in result.failures]))
            stopped.append({"route": sample.route, "sample": shown, "why": why})
    return Coverage(len(samples), len(probe.asked), list(gaps.values()), stopped)


def _together(one: RouteSpec, other: RouteSpec) -> bool:
    """Whether a route of the same site takes what the other hands over."""
    assert one.place is not None
    same = other.place is not None and one.place.site == other.place.site
    return same and one.name != other.name and one.source.protocol in ("route", "topic")


def _with_default(spec: RouteSpec) -> set[str]:
    """The tables that the route asks with a `default` only."""
    steps = [node.step for node in steps_of(spec.blocks) if isinstance(node.step, Lookup)]
    return {step.table.name for step in steps if step.default is not None} - {
        step.table.name for step in steps if step.default is None
    }


def open_messages(messages: Sequence[Stored]) -> Iterator[str]:
    """What is dead, or still waits for something."""
    for stored in messages:
        if stored.state.value in ("dead", "waiting", "held", "queued", "expired"):
            where = "/".join(filter(None, (stored.envelope.route, stored.envelope.scope)))
            error = stored.error
            yield f"{where}: {stored.state.value}" + (f", {error.error_class}: {error.message}" if error else "")
