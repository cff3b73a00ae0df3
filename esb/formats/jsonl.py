"""JSON lines: one JSON value on each line."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar

from esb.errors import Invalid, Violation
from esb.formats.faults import invalid, shown
from esb.formats.json import Json, may_be_out_of_bounds, parse
from esb.formats.lines import line_groups
from esb.registry import format_

_BAD = "the body is not valid JSON lines"
_UNWRITABLE = "the body cannot be written as JSON lines"
#: violations that one error lists
LISTED = 50
_JSON = Json()


@format_("jsonl")
@dataclass(frozen=True, slots=True)
class JsonLines:
    """JSON lines (NDJSON): a list with one JSON value for each line, in UTF-8.

    Every line is read as by `json`: decimals keep their digits, duplicate keys are refused. Empty lines are left out. A bad
    line is refused with its number. Written with a line end behind every value.
    """

    content_type: ClassVar[str] = "application/x-ndjson"
    media_types: ClassVar[tuple[str, ...]] = (
        "application/x-ndjson",
        "application/ndjson",
        "application/jsonl",
        "application/json-lines",
        "application/x-jsonlines",
    )
    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson")

    def decode(self, data: bytes) -> list[Any]:
        """The values. Raises Invalid with up to 50 bad lines."""
        bad: list[Invalid] = []
        values = [value for value in _values(io.BytesIO(data), bad.append) if len(bad) < LISTED]
        if bad:
            violations = [violation for error in bad[:LISTED] for violation in error.violations]
            raise Invalid(bad[0].message, hint=bad[0].hint, violations=violations)
        return values

    def streams(self, path: tuple[str, ...]) -> bool:
        """The body itself is the list."""
        return not path

    def items(self, source: BinaryIO, path: tuple[str, ...]) -> Iterator[Any]:
        """The values one by one. Raises Invalid at the first bad line."""
        del path
        return _values(source, _raise)

    def encode(self, body: Any) -> bytes:
        """One line for each item. Raises Invalid where the body is no list, or an item has no JSON form."""
        if not isinstance(body, (list, tuple)):
            raise invalid(_UNWRITABLE, f"it is {shown(body)}, not a list", hint="give it a list, such as `body.lines`")
        lines = []
        for index, item in enumerate(body):
            try:
                lines.append(_JSON.encode(item) + b"\n")
            except Invalid as error:
                raise invalid(_UNWRITABLE, f"item {index}: {error.message}", at=(index,), hint=error.hint) from None
        return b"".join(lines)


def _values(source: BinaryIO, on_bad: Callable[[Invalid], None]) -> Iterator[Any]:
    """The values of the lines that have one; bad lines go to ``on_bad``."""
    number = index = 0
    for lines in line_groups(source, _BAD):
        read = _JSON.decode if may_be_out_of_bounds(b"\n".join(lines)) else parse
        for line in lines:
            number += 1
            try:
                value = read(line)
            except (ValueError, Invalid):
                if not line.strip():
                    continue
                on_bad(_fault(line, number, index))
            else:
                yield value
            index += 1


def _raise(error: Invalid) -> None:
    raise error


def _fault(line: bytes, number: int, index: int) -> Invalid:
    """What is wrong with a bad line, and where."""
    try:
        _JSON.decode(line)
    except Invalid as error:
        detail = error.violations[0].detail if error.violations else error.message
        detail = f"line {number}: {detail.removeprefix('line 1, ')}"
        pointer = f"/{index}{error.violations[0].pointer if error.violations else ''}"
        return Invalid(f"{_BAD}: {detail}", hint=error.hint, violations=(Violation(pointer, detail),))
    raise AssertionError(f"line {number} can be read after all")
