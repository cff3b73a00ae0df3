"""Where a pointer stands in a JSON text: line, column and length, for diagnostics of files."""

from __future__ import annotations

import re
from collections.abc import Sequence

from esb.errors import Position

_TOKEN = re.compile(r'\s*(?:("(?:[^"\\]|\\.)*")|([\[\]{}:,])|([^\s\[\]{}:,"]+))')


def place(text: str, path: str, pointer: Sequence[str | int], *, key: bool = False) -> Position:
    """The position of the value at ``pointer`` (or of its key) in a well-formed ``text``; the start where it is not found."""
    found = _find(text, [str(part) for part in pointer], key=key)
    if found is None:
        return Position(path)
    start, end = found
    line_start = text.rfind("\n", 0, start) + 1
    length = max(1, min(end, len(text.splitlines()[text.count("\n", 0, start)]) + line_start) - start)
    return Position(path, text.count("\n", 0, start) + 1, start - line_start + 1, length)


def _find(text: str, wanted: list[str], *, key: bool) -> tuple[int, int] | None:
    """Walk the tokens with a stack of the path so far; ``[]`` counts items, ``{}`` remembers the last key."""
    stack: list[list[str]] = []  # [kind, name of the current member or item]
    last_key: tuple[int, int] | None = None
    expects_key = False
    for match in _TOKEN.finditer(text):
        mark, start, end = match[0].strip(), match.end() - len(match[0].strip()), match.end()
        if mark in ("]", "}"):
            if stack:
                stack.pop()
            expects_key = False
        elif mark == ",":
            if stack and stack[-1][0] == "[":
                stack[-1][1] = str(int(stack[-1][1]) + 1)
            expects_key = bool(stack) and stack[-1][0] == "{"
        elif mark == ":":
            expects_key = False
        elif expects_key and match[1]:
            stack[-1][1], last_key = _unquoted(mark), (start, end)
            expects_key = False
        else:
            if [name for _, name in stack] == wanted:
                return last_key if key and last_key and stack and stack[-1][0] == "{" else (start, end)
            if mark in ("[", "{"):
                stack.append([mark, "0" if mark == "[" else ""])
                expects_key = mark == "{"
    return None


def _unquoted(mark: str) -> str:
    inner = mark[1:-1]
    if "\\" not in inner:
        return inner
    simple = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
    return re.sub(
        r"\\(u[0-9a-fA-F]{4}|.)",
        lambda found: chr(int(found[1][1:], 16)) if len(found[1]) > 1 else simple.get(found[1], found[1]),
        inner,
    )
