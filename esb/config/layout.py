"""One layout for the YAML of a workspace: two spaces, one way to write braces, no stray blanks. Scalars stay as they are written.

Works on the tokens of the text: nothing is read into values and written again, so that `0012`, `12e5`, quotes, comments and the
breaks of a long line are the author's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

STEP = 2
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(slots=True)
class _Open:
    """A block collection that is being written: where it stood, and where it goes."""

    old: int
    new: int
    listed: bool
    #: a list at the column of the key it belongs to, for which YAML has no token of its own
    bare: bool = False


@dataclass(slots=True)
class _Line:
    """A line of the file: its tokens, and how far it moves."""

    text: str
    tokens: list[Any] = field(default_factory=list)
    indent: int | None = None  #: its new indentation, where a token of a block begins it
    shift: int = 0  #: how far it moves with what it belongs to
    #: inside of a text of several lines: a block scalar keeps its blanks at the end
    inside: bool = False


def laid_out(text: str) -> str:
    """The text in its one layout. Raises yaml.YAMLError where it cannot be read."""
    lines = [_Line(line) for line in text.splitlines()]
    if not lines:
        return ""
    _place(lines, text)
    return "\n".join(_trimmed(list(_written(lines)))) + "\n"


def comments_of(text: str) -> list[str]:
    """Every comment of a text, sorted. Raises yaml.YAMLError where it cannot be read."""
    lines = [_Line(line) for line in text.splitlines()]
    _place(lines, text)
    found = []
    for number, line in enumerate(lines):
        if not line.tokens:
            rest = "" if line.inside else line.text
        else:
            last = line.tokens[-1].end_mark
            block = isinstance(line.tokens[-1], yaml.ScalarToken) and line.tokens[-1].style in ("|", ">")
            start = (
                line.tokens[-1].start_mark.column if block else last.column if last.line == number else len(line.text)
            )
            rest = line.text[start:].lstrip("|>+-0123456789") if block else line.text[start:]
        if rest.strip().startswith("#"):
            found.append(rest.strip())
    return sorted(found)


# -- where lines go ---------------------------------------------------------------------------------------------------------


def _place(lines: list[_Line], text: str) -> None:
    """Give every line its tokens, and its indentation or shift."""
    stack: list[_Open] = []
    depth = 0  # of braces and brackets
    for token in yaml.scan(text, Loader=_LOADER):
        start = token.start_mark
        if isinstance(token, (yaml.BlockMappingStartToken, yaml.BlockSequenceStartToken)):
            stack.append(_opened(stack, start.column, listed=isinstance(token, yaml.BlockSequenceStartToken)))
            continue
        if isinstance(token, yaml.BlockEndToken):
            while stack.pop().bare:
                pass
            continue
        if isinstance(token, (yaml.StreamStartToken, yaml.StreamEndToken)):
            continue
        if isinstance(token, yaml.DocumentStartToken | yaml.DocumentEndToken):
            stack.clear()
        if not depth:
            _bare_list(stack, token)
        line = lines[start.line]
        if not depth and not line.tokens:
            line.indent = stack[-1].new if stack and _begins(token, stack[-1]) else None
            line.shift = _shift(stack)
        elif not line.tokens:
            line.shift = _shift(stack)
        if token.end_mark.index > start.index:
            line.tokens.append(token)
        if isinstance(token, (yaml.FlowMappingStartToken, yaml.FlowSequenceStartToken)):
            depth += 1
        elif isinstance(token, (yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)):
            depth -= 1
        elif isinstance(token, yaml.ScalarToken):
            _cover(lines, token, _shift(stack))


def _opened(stack: list[_Open], column: int, *, listed: bool) -> _Open:
    if not stack:
        return _Open(column, 0, listed)
    return _Open(column, stack[-1].new + STEP, listed)


def _bare_list(stack: list[_Open], token: Any) -> None:
    """A list whose dashes stand at the column of its key begins and ends without a token."""
    column = token.start_mark.column
    if isinstance(token, yaml.BlockEntryToken):
        if stack and not stack[-1].listed and stack[-1].old == column:
            stack.append(_Open(column, stack[-1].new + STEP, True, bare=True))
    elif isinstance(token, yaml.KeyToken) and stack and stack[-1].bare and stack[-1].old == column:
        stack.pop()


def _begins(token: Any, where: _Open) -> bool:
    return isinstance(token, (yaml.BlockEntryToken, yaml.KeyToken)) and token.start_mark.column == where.old


def _shift(stack: Sequence[_Open]) -> int:
    return stack[-1].new - stack[-1].old if stack else 0


def _cover(lines: list[_Line], token: Any, shift: int) -> None:
    """The further lines of a text of several lines."""
    last = token.end_mark.line - (1 if token.end_mark.column == 0 or token.style in ("|", ">") else 0)
    for number in range(token.start_mark.line + 1, min(last, len(lines) - 1) + 1):
        line = lines[number]
        if token.style not in ("|", ">") or not line.tokens:
            line.inside, line.shift = True, shift


# -- how lines are written --------------------------------------------------------------------------------------------------


def _written(lines: list[_Line]) -> Iterator[str]:
    for number, line in enumerate(lines):
        if line.inside and not line.tokens:
            yield _moved(line.text, line.shift)
        elif line.tokens:
            yield _spaced(line)
        elif line.text.strip():
            yield _moved(line.text.rstrip(), _shift_of_comment(lines, number))
        else:
            yield ""


def _moved(text: str, shift: int) -> str:
    if not text.strip():
        return text if shift >= 0 else text[-shift:]
    old = len(text) - len(text.lstrip(" "))
    return " " * max(0, old + shift) + text.lstrip(" ")


def _shift_of_comment(lines: Sequence[_Line], number: int) -> int:
    """A comment goes with the line below it where both stand in one column, else with the one above."""
    column = _column(lines[number].text)
    below = next((line for line in lines[number + 1 :] if line.tokens), None)
    if below is not None and _column(below.text) == column:
        return _move_of(below)
    above = next((line for line in reversed(lines[:number]) if line.tokens and not line.inside), None)
    while above is not None and _column(above.text) > column:
        before = lines[: lines.index(above)]
        above = next((line for line in reversed(before) if line.tokens and _column(line.text) <= column), None)
    chosen = above or below
    return _move_of(chosen) if chosen is not None else 0


def _column(text: str) -> int:
    return len(text) - len(text.lstrip(" "))


def _move_of(line: _Line) -> int:
    return line.shift if line.indent is None else line.indent - _column(line.text)


def _spaced(line: _Line) -> str:
    """The tokens of a line with one way of blanks between them; a comment behind them keeps its column where it can."""
    first = line.tokens[0]
    head = line.text[: first.start_mark.column]
    if line.inside and head.strip():  # the end of a text of several lines, and what follows it
        head, written = "", _moved(line.text[: first.start_mark.column], line.shift)
    else:
        indent = line.indent if line.indent is not None else max(0, first.start_mark.column + line.shift)
        written = " " * indent
    place: int = first.start_mark.column
    before = None
    for token in line.tokens:
        start = token.start_mark.column
        if before is not None:
            written += " " * _gap(before, token, start - place)
        end = token.end_mark.column if token.end_mark.line == token.start_mark.line else len(line.text)
        if isinstance(token, yaml.ScalarToken) and token.style in ("|", ">"):
            return written + line.text[start:].rstrip()
        written += line.text[start:end]
        place, before = end, token
    rest = line.text[place:]
    if not rest.strip():
        return written.rstrip() if place < len(line.text) or not line.inside else written
    gap = len(rest) - len(rest.lstrip())
    return written + " " * max(min(gap, 2), place + gap - len(written)) + rest.strip()


_OPENS = (yaml.FlowMappingStartToken, yaml.FlowSequenceStartToken)
_CLOSES = (yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)


def _gap(before: Any, token: Any, now: int) -> int:
    """The blanks between two tokens of a line."""
    if isinstance(token, (yaml.FlowEntryToken, yaml.ValueToken)):
        return 0 if not isinstance(before, yaml.AliasToken) else now
    if isinstance(before, yaml.FlowMappingStartToken) and isinstance(token, yaml.FlowMappingEndToken):
        return 0
    if isinstance(before, yaml.FlowSequenceStartToken):
        return 1 if isinstance(token, yaml.FlowMappingStartToken) else 0
    if isinstance(token, yaml.FlowSequenceEndToken):
        return 1 if isinstance(before, yaml.FlowMappingEndToken) else 0
    if isinstance(before, yaml.KeyToken):
        return now
    return 1


def _trimmed(lines: list[str]) -> list[str]:
    """No blank lines at the ends."""
    while lines and not lines[-1].strip():
        lines.pop()
    while lines and not lines[0].strip():
        lines.pop(0)
    return lines
