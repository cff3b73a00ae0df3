"""What `esb lint --fix` changes by itself: only what can mean one thing, and never a comment."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from esb.config.diagnostics import ReadLines
from esb.errors import Position, Problem

_DID_YOU_MEAN = re.compile(r"did you mean [`'](?P<word>[^`']+)[`']\?(?: |$)")
_HERE_IT_IS = re.compile(r"here it is `(?P<word>[A-Za-z_][\w-]*)`$")
_QUOTES = re.compile(r"put it in quotes: '(?P<word>[^']*)'$")
_PATH = re.compile(r"`(?P<path>[^`]+)` (?:is not|is never)")
_SPAN = re.compile(
    r"(?P<number>\d+)\s*(?P<unit>ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|weeks?)"
)
#: codes whose suggestion is a word to write in place of the one that stands there
_WORDS = frozenset(
    {"ESB101", "ESB105", "ESB203", "ESB204", "ESB205", "ESB301", "ESB302", "ESB303", "ESB304", "ESB306", "ESB309",
     "ESB310", "ESB312", "ESB402", "ESB403", "ESB405", "ESB407", "ESB408", "ESB804"}
)  # fmt: skip
#: how alike a word and the suggestion must be, so that nothing else can have been meant
CERTAIN = 0.72
MODELINE = "# yaml-language-server: $schema="
#: where an editor's schema may lie, in the order of preference
SCHEMAS = (".esb/schema.json", ".vscode/esb.schema.json")


@dataclass(frozen=True, slots=True, order=True)
class Edit:
    """``length`` characters of a line from ``column`` on (from 1) become ``text``."""

    path: str
    line: int
    column: int
    length: int
    text: str


def fix_of(problem: Problem, read_lines: ReadLines) -> Edit | None:
    """The change that puts a problem right, None where it takes a person."""
    at = problem.position
    lines = read_lines(at.path)
    if not 0 < at.line <= len(lines) or not at.path.endswith((".yaml", ".yml", ".jmes", ".j2")):
        return None
    line = lines[at.line - 1]
    token = line[at.column - 1 : at.column - 1 + at.length]
    if problem.code in _WORDS:
        return _word(problem, at, line, token)
    if problem.code == "ESB103" and (found := _QUOTES.search(problem.hint)) is not None and token == found["word"]:
        return Edit(at.path, at.line, at.column, len(token), f"'{token}'")
    if problem.code == "ESB104":
        return _duration(at, token)
    if problem.code == "ESB008" and token.startswith("{{"):
        return _template(at, line)
    return None


def _word(problem: Problem, at: Position, line: str, token: str) -> Edit | None:
    exact = _HERE_IT_IS.search(problem.hint)
    guess = exact or _DID_YOU_MEAN.match(problem.hint)
    if guess is None:
        return None
    old, new, column = token, guess["word"], at.column
    if old[:1] in ("'", '"') and old[-1:] == old[:1] and len(old) > 1:
        old, column = old[1:-1], column + 1
    if problem.code in ("ESB402", "ESB405", "ESB408"):
        old, new, column = _path(problem, line, at, old, new)
    if not old or old == new or line[column - 1 : column - 1 + len(old)] != old:
        return None
    if exact is None and not certain(old, new):
        return None
    return Edit(at.path, at.line, column, len(old), new)


def _path(problem: Problem, line: str, at: Position, old: str, new: str) -> tuple[str, str, int]:
    """A suggestion for a field is its whole path, the place is that of the last name in it."""
    if problem.code == "ESB408":  # a literal in the line
        given = re.search(r"is never '(?P<word>[^']*)'", problem.message)
        column = line.find(f"'{given['word']}'", at.column - 1) + 2 if given else 0
        return (given["word"], new, column) if given and column > 1 else ("", new, at.column)
    found = _PATH.search(problem.message)
    path = found["path"] if found else old
    end = at.column - 1 + at.length
    if "." not in new or line[end - len(path) : end] == path:
        return (path, new, end - len(path) + 1) if "." in new else (old, new, at.column)
    before, _, last = new.rpartition(".")
    return (old, last, at.column) if before == path.rpartition(".")[0] else ("", new, at.column)


def certain(old: str, new: str) -> bool:
    """Whether ``new`` is so near to ``old`` that nothing else was meant; numbers (``v1``, ``v2``) are never a typo."""
    if re.findall(r"\d+", old) != re.findall(r"\d+", new):
        return False
    one, other = (re.sub(r"[\W_]", "", word).lower() for word in (old, new))
    if one[:1] == other[:1] and sorted(one) == sorted(other):  # letters that changed places
        return True
    return difflib.SequenceMatcher(None, one, other).ratio() >= CERTAIN


def _duration(at: Position, token: str) -> Edit | None:
    """``5 sec`` is ``5s``; a number without a unit could be anything."""
    text = token.strip("'\"")
    found = _SPAN.fullmatch(text)
    if found is None:
        return None
    unit = found["unit"]
    short = "ms" if unit.startswith("mil") or unit == "ms" else unit[0]
    new = found["number"] + short
    return Edit(at.path, at.line, at.column, len(token), new) if new != text else None


def _template(at: Position, line: str) -> Edit | None:
    """A value that begins with ``{{`` in quotes, where it is the rest of its line."""
    rest = line[at.column - 1 :].rstrip()
    if not rest.endswith("}}") or '"' in rest or "#" in rest or "\\" in rest:
        return None
    return Edit(at.path, at.line, at.column, len(rest), f'"{rest}"')


def edited(text: str, edits: Iterable[Edit]) -> str:
    """A file after its edits; where two overlap, the first one only. Ends of lines stay what they are."""
    lines = text.splitlines(keepends=True)
    taken: dict[int, int] = {}
    for edit in sorted(edits, key=lambda one: (one.line, one.column), reverse=True):
        start, end = edit.column - 1, edit.column - 1 + edit.length
        if end > taken.get(edit.line, 1 << 30):
            continue
        taken[edit.line] = start
        line = lines[edit.line - 1]
        lines[edit.line - 1] = line[:start] + edit.text + line[end:]
    return "".join(lines)


def with_modeline(path: str, text: str, schema: str) -> str:
    """A file of the workspace with the line by which editors know its schema; as it is where it has one."""
    if MODELINE in text:
        return text
    end = "\r\n" if "\r\n" in text else "\n"
    return f"{MODELINE}{'../' * path.count('/')}{schema}{end}{text}"


def by_file(edits: Sequence[Edit]) -> Mapping[str, list[Edit]]:
    """The edits of each file."""
    found: dict[str, list[Edit]] = {}
    for edit in dict.fromkeys(edits):
        found.setdefault(edit.path, []).append(edit)
    return found
