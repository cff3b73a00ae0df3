"""One fault, one error: what only follows from another fault nearby is not said.

A wrong indentation makes children of neighbours, and a key that is missing in one place stands misspelt, or one level off, in
another. The first of such errors is the one to mend; when it is, whatever else was wrong is said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from esb.errors import Problem

#: Lines that two errors of one fault may be apart.
NEAR = 3
#: What a key at the wrong depth can look like.
_OF_DEPTH = frozenset({"ESB001", "ESB003", "ESB101", "ESB102", "ESB103", "ESB107", "ESB112", "ESB203", "ESB318"})
#: Something that is not there, and something that nobody knows.
_MISSING, _UNKNOWN = frozenset({"ESB102", "ESB315"}), frozenset({"ESB101", "ESB112", "ESB301", "ESB314"})
_OPENS = re.compile(r"^( *)((?:- )*)[\w.-]+:\s*(?:#.*)?$")
_MEANT = re.compile(r"did you mean `([^`]+)`")
_NAMED = re.compile(r"`([^`]+)`")

Lines = Callable[[str], Sequence[str]]


def without_consequences(problems: Iterable[Problem], lines: Lines) -> list[Problem]:
    """The problems without those that follow from another one; their order stays."""
    found = list(problems)
    by_file: dict[str, list[Problem]] = {}
    for problem in found:
        if problem.severity == "error":
            by_file.setdefault(problem.position.path, []).append(problem)
    gone: set[int] = set()
    for path, own in by_file.items():
        if len(own) > 1:
            own.sort(key=lambda one: (one.position.line, one.position.column))
            gone.update(id(one) for one in (*_explained(own), *_below(own, lines(path))))
    return [problem for problem in found if id(problem) not in gone]


def _explained(own: Sequence[Problem]) -> Iterator[Problem]:
    """What is missing where it stands nearby: misspelt, at another depth, or behind the place where reading ended."""
    for missing in own:
        if missing.code not in _MISSING:
            continue
        names = set(_NAMED.findall(missing.message))
        for other in own:
            if other is missing or abs(other.position.line - missing.position.line) > NEAR:
                continue
            meant = {*_MEANT.findall(other.hint), *_NAMED.findall(other.message)[:1]}
            if other.code == "ESB001" or (other.code in _UNKNOWN and names & meant):
                yield missing
                break


def _below(own: Sequence[Problem], text: Sequence[str]) -> Iterator[Problem]:
    """The errors that follow closely upon a key that has lost what stands under it."""
    last = 0  #: line of the last error of a chain
    for before, problem in zip((None, *own), own, strict=False):
        line = problem.position.line
        follows = before is not None and last and line - last <= NEAR
        if problem.code not in _OF_DEPTH:
            last = 0
        elif follows:
            last = line
            yield problem
        else:
            last = line if _is_bare(text, line) or _is_bare(text, line - 1) else 0


def _is_bare(text: Sequence[str], line: int) -> bool:
    """Whether a line opens a mapping and the next one is not below it."""
    opens = _OPENS.match(text[line - 1]) if 0 < line <= len(text) else None
    if opens is None:
        return False
    inner = next((one for one in text[line:] if one.strip() and not one.lstrip().startswith("#")), "")
    indent = len(inner) - len(inner.lstrip())
    own = len(opens[1]) + len(opens[2])
    return bool(inner) and (indent < own or (indent == own and not inner.lstrip().startswith("- ")))


__all__ = ["without_consequences"]
