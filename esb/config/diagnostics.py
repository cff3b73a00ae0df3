"""Problems as people and programs read them: excerpt with a caret, or JSON. A secret in a file is never shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from esb.errors import Position, Problem

#: gives the lines of a file of the workspace, none where it cannot be read
ReadLines = Callable[[str], Sequence[str]]

PER_FILE = 20
#: the label of a problem whose value is not shown
HIDDEN = "value hidden"
_HIDDEN = "********"
_RED, _YELLOW, _BLUE, _BOLD, _OFF = "\x1b[31m", "\x1b[33m", "\x1b[34m", "\x1b[1m", "\x1b[0m"
_SENSITIVE = re.compile(
    r"""(?ix) (?P<key> [\w.-]* (?: pas+[sw]?wor | pwd | passphrase | secret | token | api[-_]?key | credential | private[-_]?key)
        [\w.-]* ['"]? \s*:\s+ )
        (?P<value> "(?:\\.|[^"\\])*"? | '(?:''|[^'])*'? | [^\s,{}\[\]\#|>][^,}\]]* )"""
)
_USERINFO = re.compile(r"(?P<key>://[^/\s:@'\"]*:)(?P<value>[^@/\s'\"]+)(?=@)")


def order(problems: Iterable[Problem]) -> list[Problem]:
    """By file and place, each said once; ``esb.yaml`` first."""
    unique = dict.fromkeys(problems)
    return sorted(unique, key=lambda p: (p.position.path != "esb.yaml", *place(p), p.code))


def place(problem: Problem) -> tuple[str, int, int]:
    return problem.position.path, problem.position.line, problem.position.column


# -- text -----------------------------------------------------------------------------------------------------------------


def render_text(
    problems: Iterable[Problem], read_lines: ReadLines, color: bool = False, *, files: int | None = None
) -> str:
    """Every problem with excerpt, caret and hint, sorted by file and line; ends with a summary line.

    The first line of each is exactly ``path:line:col: CODE message``. Empty where there is no problem. ``files`` is the number
    of files that were read.
    """
    ordered = order(problems)
    if not ordered:
        return ""
    page = _Page(read_lines, _spans(ordered, read_lines), color)
    blocks: list[str] = []
    for path, group in groupby(ordered, key=lambda problem: problem.position.path):
        own = list(group)
        blocks.extend(page.problem(problem) for problem in own[:PER_FILE])
        if len(own) > PER_FILE:
            blocks.append(f"{path}: and {len(own) - PER_FILE} more")
    blocks.append(summary(ordered, files))
    return "\n\n".join(blocks)


def excerpt(problem: Problem, read_lines: ReadLines) -> str:
    """One problem with excerpt, caret and hint."""
    return _Page(read_lines, _spans([problem], read_lines), color=False).problem(problem)


def summary(problems: Sequence[Problem], files: int | None = None) -> str:
    """``2 errors, 1 warning in 14 files``."""
    errors = sum(problem.severity == "error" for problem in problems)
    warnings = len(problems) - errors
    parts = [_count(errors, "error")] if errors else []
    parts += [_count(warnings, "warning")] if warnings else []
    shown = files if files is not None else len({problem.position.path for problem in problems})
    where = f" in {_count(shown, 'file')}" if shown else ""
    return (", ".join(parts) or "no problems") + where


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")


def headline(problem: Problem) -> str:
    """``path:line:col: CODE message``; a warning says so."""
    word = "warning: " if problem.severity == "warning" else ""
    return f"{problem.position}: {problem.code} {word}{_one_line(problem.message)}"


def _one_line(text: str) -> str:
    """Message text comes from files: nothing in it may break the line or steer a terminal."""
    return "".join(ch if ch.isprintable() else " " for ch in text)


Spans = Mapping[tuple[str, int], Sequence[tuple[int, int]]]


def _spans(problems: Iterable[Problem], read_lines: ReadLines) -> Spans:
    """Where secrets stand: hidden in every excerpt, whichever problem it belongs to."""
    found: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for problem in problems:
        if not _hides(problem):
            continue
        at, start = problem.position, problem.position.column - 1
        found.setdefault((at.path, at.line), []).append((start, start + at.length))
        lines = read_lines(at.path)
        if at.line > len(lines) or lines[at.line - 1][:start].strip():
            continue
        for number in range(at.line + 1, len(lines) + 1):  # a text of several lines goes on as far as it is indented
            line = lines[number - 1]
            if line.strip() and len(line) - len(line.lstrip()) < start:
                break
            found.setdefault((at.path, number), []).append((start, len(line)))
    return found


def _hides(problem: Problem) -> bool:
    return problem.code == "ESB501" or problem.label == HIDDEN


class _Page:
    def __init__(self, read_lines: ReadLines, spans: Spans, color: bool) -> None:
        self._read_lines, self._spans, self._color = read_lines, spans, color

    def problem(self, problem: Problem) -> str:
        lines = [self._headline(problem)]
        gutter = len(str(problem.position.line))
        excerpt = self._excerpt(problem, gutter)
        lines.extend(excerpt)
        indent = " " * gutter
        if problem.hint:
            lines.append(f"{indent} {self._paint('=', _BLUE)} help: {_one_line(problem.hint)}")
        for at, words in problem.related:
            lines.append(f"{indent} {self._paint(':::', _BLUE)} {at} {_one_line(words)}".rstrip())
        return "\n".join(lines)

    def _headline(self, problem: Problem) -> str:
        plain = headline(problem)
        if not self._color:
            return plain
        at, code, rest = str(problem.position), problem.code, plain.partition(f": {problem.code} ")[2]
        tint = _RED if problem.severity == "error" else _YELLOW
        return f"{_BOLD}{at}{_OFF}: {tint}{code}{_OFF} {rest}"

    def _excerpt(self, problem: Problem, gutter: int) -> list[str]:
        at = problem.position
        text = self._text(at.path, at.line)
        if text is None:
            return []
        before = self._text(at.path, at.line - 1) if at.line > 1 else None
        lines = []
        if before is not None and before.strip():
            lines.append(
                self._numbered(at.line - 1, self._readable(before, self._secrets(at.path, at.line - 1)), gutter)
            )
        # an expression that cannot be read has to be seen; a literal secret is ESB501 and always hidden
        keep = None if _hides(problem) else at.column - 1
        secrets = self._secrets(at.path, at.line, keep)
        lines.append(self._numbered(at.line, self._readable(text, secrets), gutter))
        start = min(at.column - 1, len(text))
        length = max(1, min(at.length, len(text) - start))
        if any(first == start for first, _ in secrets):
            length = len(_HIDDEN)
        ahead = self._readable(text[:start], [span for span in secrets if span[1] <= start])
        pad = "".join("\t" if ch == "\t" else " " for ch in ahead)
        caret = self._paint("^" * length, _RED if problem.severity == "error" else _YELLOW)
        label = f" {_one_line(problem.label)}" if problem.label else ""
        lines.append(f"{' ' * gutter} {self._paint('|', _BLUE)} {pad}{caret}{label}")
        return lines

    def _numbered(self, number: int, text: str, gutter: int) -> str:
        return f"{self._paint(f'{number:>{gutter}} |', _BLUE)} {text}".rstrip()

    def _text(self, path: str, number: int) -> str | None:
        lines = self._read_lines(path)
        return lines[number - 1] if 0 < number <= len(lines) else None

    def _secrets(self, path: str, number: int, keep: int | None = None) -> list[tuple[int, int]]:
        return secret_spans(self._text(path, number) or "", self._spans.get((path, number), ()), keep)

    @staticmethod
    def _readable(text: str, secrets: Sequence[tuple[int, int]]) -> str:
        return "".join(ch if ch.isprintable() or ch == "\t" else "\ufffd" for ch in _hide(text, secrets))

    def _paint(self, text: str, color: str) -> str:
        return f"{color}{text}{_OFF}" if self._color else text


def mask(text: str) -> str:
    """A line of a file without what looks like a secret: after keys such as ``password:``, and in URLs."""
    return _hide(text, secret_spans(text))


def secret_spans(text: str, known: Sequence[tuple[int, int]] = (), keep: int | None = None) -> list[tuple[int, int]]:
    """Where a line holds secrets: the known places, and what looks like one; references such as ``${secret:name}`` do not.

    The value that stands at ``keep`` stays readable unless its place is known.
    """
    found = set(known)
    for pattern in (_SENSITIVE, _USERINFO):
        for match in pattern.finditer(text):
            value = match["value"].rstrip()
            start = match.start("value")
            end = start + len(value)
            overlaps = any(start < other[1] and other[0] < end for other in found)
            if overlaps or "${" in value or not value.strip("\"'") or (keep is not None and start <= keep < end):
                continue
            found.add((start, end))
    return sorted(found)


def _hide(text: str, spans: Sequence[tuple[int, int]]) -> str:
    for start, end in reversed(spans):
        if start < len(text):
            text = text[:start] + _HIDDEN + text[end:]
    return text


# -- JSON -----------------------------------------------------------------------------------------------------------------


def render_json(problems: Iterable[Problem]) -> dict[str, Any]:
    """``{"kind": "ProblemList", "items": […]}``, in the order of the text."""
    return {"kind": "ProblemList", "items": [_item(problem) for problem in order(problems)]}


def _item(problem: Problem) -> dict[str, Any]:
    return {
        "code": problem.code,
        "severity": problem.severity,
        **_place(problem.position),
        "message": problem.message,
        "label": problem.label,
        "hint": problem.hint,
        "related": [{**_place(at), "message": words} for at, words in problem.related],
    }


def _place(at: Position) -> dict[str, Any]:
    return {"path": at.path, "line": at.line, "column": at.column, "length": at.length}
