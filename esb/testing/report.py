"""Results for people, and as JUnit XML for build servers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import TypeVar
from xml.sax.saxutils import escape, quoteattr

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
    failed = sum(not result.passed for result in results)
    names = list(dict.fromkeys(result.route for result in results))
    ran, gone = _all(result.steps for result in results), _all(result.ways for result in results)
    steps = _open({name: not_run(routes[name], ran) for name in names})
    ways = _open({name: not_gone(routes[name], gone) for name in names})
    head = f"{len(results) - failed} passed, {failed} failed · steps covered {steps.covered}"
    if ways.total:
        head += f" · branches {ways.covered}"
    return [head, *steps.lines("not run"), *ways.lines("not taken")]


def _all(found: Iterable[Mapping[str, frozenset[_T]]]) -> dict[str, set[_T]]:
    """By route, what any case did."""
    every: dict[str, set[_T]] = {}
    for one in found:
        for route, done in one.items():
            every.setdefault(route, set()).update(done)
    return every


@dataclass(frozen=True, slots=True)
class _Open:
    total: int
    missing: Sequence[str]

    @property
    def covered(self) -> str:
        return f"{self.total - len(self.missing)}/{self.total}"

    def lines(self, words: str) -> list[str]:
        shown = [f"  {words}: {one}" for one in self.missing[:_SHOWN]]
        return shown + ([f"  and {len(self.missing) - _SHOWN} more"] if len(self.missing) > _SHOWN else [])


def _open(routes: Mapping[str, tuple[int, list[str]]]) -> _Open:
    missing = [f"{name}: {one}" for name, (_, ones) in routes.items() for one in ones]
    return _Open(sum(total for total, _ in routes.values()), missing)


def junit(results: Sequence[Result]) -> str:
    """One suite for each file."""
    parts = ['<?xml version="1.0" encoding="UTF-8"?>', "<testsuites>"]
    for path, group in groupby(results, key=lambda result: result.path):
        own = list(group)
        failed = sum(not result.passed for result in own)
        seconds = sum(result.seconds for result in own)
        parts.append(
            f'  <testsuite name={quoteattr(path)} tests="{len(own)}" failures="{failed}" errors="0" time="{seconds:.3f}">'
        )
        for result in own:
            head = f"classname={quoteattr(result.route)} name={quoteattr(result.case.name)} file={quoteattr(path)}"
            head += f' line="{result.case.position.line}" time="{result.seconds:.3f}"'
            if result.passed:
                parts.append(f"    <testcase {head}/>")
                continue
            text = escape(_printable("\n".join(lines_of(result)[1:])))
            words = quoteattr(_printable(result.failures[0].words))
            parts += [f"    <testcase {head}>", f"      <failure message={words}>{text}</failure>", "    </testcase>"]
        parts.append("  </testsuite>")
    return "\n".join([*parts, "</testsuites>"]) + "\n"


def _printable(text: str) -> str:
    """Without the control characters that XML cannot hold."""
    return "".join(ch if ch.isprintable() or ch in "\n\t" else f"\\x{ord(ch):02x}" for ch in text)
