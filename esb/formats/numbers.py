"""Bounds of a number, and decimals as people write them. Nothing here ever makes a float."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from esb.language.values import MAX_DIGITS, MAX_EXPONENT

#: A number beyond is refused: writing it out would take gigabytes.
BOUND = f"a number may have at most {MAX_DIGITS} digits and an exponent between -{MAX_EXPONENT} and {MAX_EXPONENT}"

_LIMIT: int = 10**MAX_DIGITS
_GROUPS = {",": "[. \u00a0\u202f'’]", ".": "[, \u00a0\u202f'’]"}
_NUMBER = {
    mark: re.compile(
        rf"([+-]?)(\d+|\d{{1,3}}(?P<group>{groups})\d{{3}}(?:(?P=group)\d{{3}})*)"
        rf"(?:{re.escape(mark)}(\d+))?([eE][+-]?\d{{1,4}})?(-?)"
    )
    for mark, groups in _GROUPS.items()
}


def in_bounds(value: Decimal | int) -> bool:
    """True for a finite number within the bounds above."""
    if isinstance(value, int):
        return abs(value) < _LIMIT
    if not value.is_finite():
        return False
    _, digits, exponent = value.as_tuple()
    return len(digits) <= MAX_DIGITS and isinstance(exponent, int) and abs(exponent + len(digits) - 1) <= MAX_EXPONENT


def numbers_in(body: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every number of a body with its path; floats, too, for those who must refuse them."""
    if isinstance(body, dict):
        for name, value in body.items():
            yield from numbers_in(value, (*path, name))
    elif isinstance(body, (list, tuple)):
        for index, value in enumerate(body):
            yield from numbers_in(value, (*path, index))
    elif isinstance(body, (int, Decimal, float)) and not isinstance(body, bool):
        yield path, body


def parse_decimal(text: str, mark: str) -> Decimal:
    """Read ``1.234,50`` (``mark`` is the decimal mark, ``,`` or ``.``), exactly.

    Groups of three may be set apart by the other mark, a space or an apostrophe, and a trailing minus (SAP) counts.
    Raises ValueError where the text is no such number: ``1.23`` is refused where the mark is a comma.
    """
    match = _NUMBER[mark].fullmatch(text.strip())
    if match is None or (match[1] and match[6]):
        raise ValueError(f"not a number with `{mark}` as its decimal mark")
    sign, whole, _, fraction, exponent, minus = match.groups()
    if len(whole) + len(fraction or "") > 2 * MAX_DIGITS:  # before Decimal sees it
        raise ValueError(BOUND)
    digits = "".join(ch for ch in whole if ch.isdigit())
    number = Decimal(f"{sign or minus}{digits}{'.' + fraction if fraction else ''}{exponent or ''}")
    if not in_bounds(number):
        raise ValueError(BOUND)
    return number
