"""Warnings that somebody accepted, with a reason, where they stand: ``# esb: allow ESB601 the desk checks for doubles``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from esb.config.diagnostics import ReadLines
from esb.errors import Position, Problem

_ALLOW = re.compile(r"#\s*esb:\s*allow\s+(?P<codes>ESB\d{3}(?:\s*,\s*ESB\d{3})*)(?P<reason>[^\n]*)$", re.IGNORECASE)
_COMMENT = re.compile(r"\s*#")


def without_allowed(problems: Iterable[Problem], read_lines: ReadLines) -> Iterator[Problem]:
    """The problems but for allowed warnings; an allowance that gives no reason is a warning itself."""
    for problem in problems:
        found = _allowance(problem, read_lines) if problem.severity == "warning" else None
        if found is None:
            yield problem
            continue
        at, reason = found
        if not reason.strip(" :-–"):
            yield problem
            message = f"`{problem.code}` cannot be allowed without a reason"
            yield Problem("ESB610", message, at, "write why, behind the code", severity="warning")


def _allowance(problem: Problem, read_lines: ReadLines) -> tuple[Position, str] | None:
    """Where a warning is allowed, and the reason: in its own line, or in a line of its own above it."""
    at = problem.position
    lines: Sequence[str] = read_lines(at.path)
    for number in (at.line, at.line - 1):
        if not 0 < number <= len(lines) or (number < at.line and not _COMMENT.match(lines[number - 1])):
            continue
        match = _ALLOW.search(lines[number - 1])
        if match is not None and problem.code in match["codes"].upper():
            length = len(match[0].rstrip())
            return Position(at.path, number, match.start() + 1, length), match["reason"]
    return None
