"""Results for people, and as JUnit XML for build servers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import Any, TypeVar

from esb.config.junit import Check, Failure
from esb.config.junit import junit as as_junit
from esb.config.model import RouteSpec
from esb.durations import format_duration
from esb.testing.results import Result
from esb.testing.trace import not_run
from esb.testing.ways import not_gone

_SHOWN = 12
_T = TypeVar("_T")


def lines_of(result: Result) -> list[str]:
    """One line for a case that passed; what was expected, what came and what happened for one that did not."""
    time = f"  (virtual {_virtual(result.virtual)})" if result.virtual >= 1 else ""
    lines = [f"  {'✓' if result.passed else '✗'} {result.case.name}{time}"]
    for failure in result.failures:
        lines.append(f"      {failure}")
        lines += [f"        {line}" for line in failure.lines]
    if result.failures and result.trace:
        lines += ["      what happened:", *(f"        {line}" for line in result.trace)]
    return lines


def _virtual(seconds: float) -> str:
    return format_duration(timedelta(seconds=round(seconds)))


def text_of(results: Iterable[Result]) -> list[str]:
    """Every case, file by file."""
    lines: list[str] = []
    for path, group in groupby(results, key=lambda result: result.path):
        lines.append(path)
        for result in group:
            lines += lines_of(result)
    return lines


def summary(results: Sequence[Result], routes: Mapping[str, RouteSpec]) -> list[str]:
    """How many passed, and which steps and ways of the tested routes no case took."""
    found = coverage(results, {name: routes[name] for name in dict.fromkeys(result.route for result in results)})
    lines = [f"{one.route}: {step}" for one in found for step in one.not_run]
    ways = [f"{one.route}: {way}" for one in found for way in one.not_taken]
    return [_head(results, found), *_first(lines, "not run"), *_first(ways, "not taken")]


def summary_by_route(results: Sequence[Result], found: Sequence[Coverage]) -> list[str]:
    """The same, route by route, with every step and way that no case took."""
    width = max((len(one.route) for one in found), default=0)
    lines = [_head(results, found)]
    for one in found:
        steps, ways = f"steps {_of(one.steps, one.not_run)}", f"branches {_of(one.ways, one.not_taken)}"
        lines.append(f"  {one.route:<{width}}  {steps}" + (f" · {ways}" if one.ways else ""))
        lines += [f"    not run: {step}" for step in one.not_run]
        lines += [f"    not taken: {way}" for way in one.not_taken]
    return lines


@dataclass(frozen=True, slots=True)
class Coverage:
    """What cases did of a route: how many steps and ways it has, and those that none took, in the order of the file."""

    route: str
    steps: int
    ways: int
    not_run: Sequence[str]
    not_taken: Sequence[str]

    def as_item(self) -> dict[str, Any]:
        """For ``--json``."""
        counts = {"steps": self.steps, "steps_run": self.steps - len(self.not_run)}
        counts |= {"branches": self.ways, "branches_taken": self.ways - len(self.not_taken)}
        return {"route": self.route, **counts, "not_run": list(self.not_run), "not_taken": list(self.not_taken)}


def coverage(results: Sequence[Result], routes: Mapping[str, RouteSpec]) -> list[Coverage]:
    """By route, what all cases together did of it."""
    ran, gone = _all(result.steps for result in results), _all(result.ways for result in results)
    found = []
    for name, spec in routes.items():
        (steps, missing), (ways, left) = not_run(spec, ran), not_gone(spec, gone)
        found.append(Coverage(name, steps, ways, missing, left))
    return found


def _head(results: Sequence[Result], found: Sequence[Coverage]) -> str:
    failed = sum(not result.passed for result in results)
    steps = _of(sum(one.steps for one in found), [step for one in found for step in one.not_run])
    ways, left = sum(one.ways for one in found), [way for one in found for way in one.not_taken]
    head = f"{len(results) - failed} passed, {failed} failed · steps covered {steps}"
    return head + (f" · branches {_of(ways, left)}" if ways else "")


def _of(total: int, missing: Sequence[str]) -> str:
    return f"{total - len(missing)}/{total}"


def _first(missing: Sequence[str], words: str) -> list[str]:
    more = [f"  and {len(missing) - _SHOWN} more"] if len(missing) > _SHOWN else []
    return [f"  {words}: {one}" for one in missing[:_SHOWN]] + more


def _all(found: Iterable[Mapping[str, frozenset[_T]]]) -> dict[str, set[_T]]:
    """By route, what any case did."""
    every: dict[str, set[_T]] = {}
    for one in found:
        for route, done in one.items():
            every.setdefault(route, set()).update(done)
    return every


def junit(results: Sequence[Result]) -> str:
    """One suite for each file."""
    return as_junit(map(_check, results))


def _check(result: Result) -> Check:
    failure = None
    if result.failures:
        failure = Failure(result.failures[0].words, "\n".join(lines_of(result)[1:]))
    case = result.case
    return Check(result.path, result.route, case.name, result.path, case.position.line, result.seconds, failure)
