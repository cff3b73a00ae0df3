"""The words in which every codec and contract says what is wrong with a payload, and where."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from esb.errors import Invalid, Violation

#: characters of a value that an error may show
SHOWN = 80


def pointer(parts: Iterable[str | int]) -> str:
    """A JSON pointer (RFC 6901): ``["a/b", 0]`` is ``/a~1b/0``; the whole body is the empty text."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def shown(value: Any) -> str:
    """A value for an error message, cut at 80 characters: texts in quotes, the rest as JSON would write it."""
    match value:
        case None:
            text = "null"
        case bool():
            text = "true" if value else "false"
        case str():
            text = repr(value[: SHOWN + 1])
        case dict():
            text = f"an object with {_count(len(value), 'member')}" if value else "an empty object"
        case list() | tuple():
            text = f"a list of {_count(len(value), 'item')}" if value else "an empty list"
        case bytes():
            text = "raw bytes"
        case Decimal() | int():
            text = str(value) if _printable(value) else "a number that is too large to show"
        case _:
            text = f"a {type(value).__name__}"
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _printable(value: Decimal | int) -> bool:
    # str() of a huge int raises (sys.set_int_max_str_digits) and takes quadratic time below that limit
    return isinstance(value, Decimal) or value.bit_length() < 4096


def invalid(message: str, detail: str, *, at: Iterable[str | int] = (), hint: str = "") -> Invalid:
    """An :class:`Invalid` with one violation; ``at`` are the parts of its pointer."""
    return Invalid(f"{message}: {detail}", hint=hint, violations=(Violation(pointer(at), detail),))
