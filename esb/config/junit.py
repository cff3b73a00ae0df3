"""JUnit XML, as build servers read it: checks by file, with what is wrong with each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from xml.sax.saxutils import escape, quoteattr


@dataclass(frozen=True, slots=True)
class Failure:
    """What is wrong: in a line, and in full."""

    message: str
    text: str
    type: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a file; it passed where there is no ``failure``. ``said`` is worth knowing all the same."""

    suite: str
    classname: str
    name: str
    file: str = ""
    line: int = 0
    seconds: float = 0.0
    failure: Failure | None = None
    said: str = ""


def junit(checks: Iterable[Check]) -> str:
    """One suite for each run of checks of the same ``suite``."""
    parts = ['<?xml version="1.0" encoding="UTF-8"?>', "<testsuites>"]
    for name, group in groupby(checks, key=lambda check: check.suite):
        own = list(group)
        failed = sum(check.failure is not None for check in own)
        counts = f'tests="{len(own)}" failures="{failed}" errors="0" time="{sum(check.seconds for check in own):.3f}"'
        parts.append(f"  <testsuite name={quoteattr(printable(name))} {counts}>")
        for check in own:
            parts += _lines(check)
        parts.append("  </testsuite>")
    return "\n".join([*parts, "</testsuites>"]) + "\n"


def _lines(check: Check) -> Iterator[str]:
    head = f"classname={quoteattr(printable(check.classname))} name={quoteattr(printable(check.name))}"
    if check.file:
        head += f' file={quoteattr(printable(check.file))} line="{check.line}"'
    head += f' time="{check.seconds:.3f}"'
    if check.failure is None and not check.said:
        yield f"    <testcase {head}/>"
        return
    yield f"    <testcase {head}>"
    if (failure := check.failure) is not None:
        kind = f" type={quoteattr(failure.type)}" if failure.type else ""
        words = quoteattr(printable(failure.message))
        yield f"      <failure message={words}{kind}>{escape(printable(failure.text))}</failure>"
    else:
        yield f"      <system-out>{escape(printable(check.said))}</system-out>"
    yield "    </testcase>"


def printable(text: str) -> str:
    """Without the control characters that XML cannot hold."""
    return "".join(ch if ch.isprintable() or ch in "\n\t" else f"\\x{ord(ch):02x}" for ch in text)
