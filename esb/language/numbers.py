"""Arithmetic on exact decimals, and numbers as people of a country write them."""

from __future__ import annotations

import decimal
import math
import re
from collections.abc import Callable
from decimal import Decimal
from functools import reduce
from typing import Any

from esb.language.declare import UNKNOWN, function
from esb.language.values import (
    MAX_DIGITS,
    MAX_EXPONENT,
    describe,
    in_bounds,
    is_number,
    need_number,
    need_text,
    need_whole,
)

#: Sums, differences and products keep every digit; one that needs more than this is an error, never rounded.
_BEYOND = [decimal.Overflow, decimal.Underflow, decimal.Subnormal]
EXACT = decimal.Context(
    prec=MAX_DIGITS,
    Emax=MAX_EXPONENT,
    Emin=-MAX_EXPONENT,
    traps=[decimal.Inexact, decimal.InvalidOperation, decimal.DivisionByZero, *_BEYOND],
)

#: Significant digits of a quotient that does not end (as in IEEE 754 decimal128).
QUOTIENT_DIGITS = 34
_ENDING = decimal.Context(
    prec=100,
    Emax=MAX_EXPONENT,
    Emin=-MAX_EXPONENT,
    traps=[decimal.Inexact, decimal.InvalidOperation, decimal.DivisionByZero, *_BEYOND],
)
_QUOTIENT = decimal.Context(
    prec=QUOTIENT_DIGITS,
    Emax=MAX_EXPONENT,
    Emin=-MAX_EXPONENT,
    traps=[decimal.InvalidOperation, decimal.DivisionByZero, *_BEYOND],
)

_MODES = {
    "half_even": decimal.ROUND_HALF_EVEN,
    "half_up": decimal.ROUND_HALF_UP,
    "half_down": decimal.ROUND_HALF_DOWN,
    "up": decimal.ROUND_UP,
    "down": decimal.ROUND_DOWN,
    "ceiling": decimal.ROUND_CEILING,
    "floor": decimal.ROUND_FLOOR,
}

Number = int | Decimal


_WHOLE = frozenset({int})


def _exactly(name: str, operation: Callable[[Any, Any], Decimal], left: Number, right: Any) -> Decimal:
    try:
        return operation(left, right)
    except decimal.DivisionByZero:
        raise ValueError(f"{name}: division by zero") from None
    except decimal.InvalidOperation:
        what = "division by zero" if right == 0 else "no number comes out"
        raise ValueError(f"{name}: {what}") from None
    except (decimal.Inexact, *_BEYOND):
        raise ValueError(
            f"{name}: the exact result has more than {MAX_DIGITS} digits or a power of ten beyond {MAX_EXPONENT}"
        ) from None


def exact_sum(values: list[Number]) -> Number:
    """The exact sum of numbers; of none it is 0."""
    if _WHOLE.issuperset(map(type, values)):
        return sum(values)
    return _exactly("sum", lambda first, rest: reduce(EXACT.add, rest, first), 0, values)


def quotient(left: Number, right: Number, name: str = "div") -> Decimal:
    """Exact where the decimals end, else rounded half-even to 34 significant digits."""
    try:
        try:
            return _ENDING.divide(left, right)
        except decimal.Inexact:
            return _QUOTIENT.divide(left, right)
    except tuple(_BEYOND):
        raise ValueError(f"{name}: the quotient has a power of ten beyond {MAX_EXPONENT}") from None
    except (decimal.DivisionByZero, decimal.InvalidOperation):
        raise ValueError(f"{name}: division by zero") from None


@function(
    "add(left, right, more…)",
    doc="The exact sum of two or more numbers.",
    example="add(`0.1`, `0.2`)",
    gives="`0.3`",
)
def add(left: Any, right: Any, *more: Any) -> Number:
    numbers = [need_number(value, "add", f"argument {place}") for place, value in enumerate((left, right, *more), 1)]
    return exact_sum(numbers)


@function("sub(left, right)", doc="The exact difference.", example="sub(`10`, `0.10`)", gives="`9.90`")
def sub(left: Any, right: Any) -> Number:
    a, b = need_number(left, "sub", "left"), need_number(right, "sub", "right")
    return a - b if type(a) is int and type(b) is int else _exactly("sub", EXACT.subtract, a, b)


@function(
    "mul(left, right, more…)",
    doc="The exact product of two or more numbers.",
    example="mul(`12.10`, `3`)",
    gives="`36.30`",
)
def mul(left: Any, right: Any, *more: Any) -> Number:
    total = need_number(left, "mul", "argument 1")
    for place, value in enumerate((right, *more), 2):
        factor = need_number(value, "mul", f"argument {place}")
        product = _exactly("mul", EXACT.multiply, total, factor)
        total = int(product) if type(total) is int and type(factor) is int else product
    return total


@function(
    "div(left, right)",
    doc="The quotient: exact where its decimals end, else 34 significant digits, half-even.",
    example="div(`7`, `4`)",
    gives="`1.75`",
)
def div(left: Any, right: Any) -> Decimal:
    return quotient(need_number(left, "div", "left"), need_number(right, "div", "right"))


@function(
    "mod(left, right)",
    doc="The rest of a whole-number division; it has the sign of `left`.",
    example="mod(`7`, `4`)",
    gives="`3`",
)
def mod(left: Any, right: Any) -> Number:
    a, b = need_number(left, "mod", "left"), need_number(right, "mod", "right")
    rest = _exactly("mod", EXACT.remainder, a, b)
    return int(rest) if type(a) is int and type(b) is int else rest


def _check_round(x: Any, digits: Any = 0, mode: Any = "half_even") -> str:
    if mode is not UNKNOWN and mode not in _MODES:
        return f"round: unknown mode {describe(mode)}; known: {', '.join(_MODES)}"
    return ""


@function(
    "round(x, digits?, mode?)",
    doc="Round to `digits` decimals (default 0; negative for tens, hundreds). `mode` is half_even (default), half_up,"
    " half_down, up, down, ceiling or floor.",
    example="round(`2.345`, `2`)",
    gives="`2.34`",
    check="_check_round",
)
def round_(x: Any, digits: Any = 0, mode: Any = "half_even") -> Number:
    number, places = need_number(x, "round", "x"), need_whole(digits, "round", "digits", -100, 100)
    rounding = _MODES.get(mode) if isinstance(mode, str) else None
    if rounding is None:
        raise ValueError(f"round: unknown mode {describe(mode)}; known: {', '.join(_MODES)}")
    if places == 0 and type(number) is int:
        return number
    result = Decimal(number).quantize(Decimal(1).scaleb(-places), rounding=rounding, context=_ROUNDING)
    return result.quantize(Decimal(1), context=_ROUNDING) if places < 0 else result


_ROUNDING = decimal.Context(prec=5000, Emax=5000, Emin=-5000, traps=[decimal.InvalidOperation])


def whole(number: Number, name: str, rounder: Callable[[Any], int]) -> int:
    """Floor or ceiling, refusing numbers of absurd length."""
    if type(number) is Decimal and number.adjusted() > EXACT.prec:
        raise ValueError(f"{name}: the result has more than {EXACT.prec} digits")
    return rounder(number)


def floor_number(number: Number) -> int:
    return whole(number, "floor", math.floor)


def ceil_number(number: Number) -> int:
    return whole(number, "ceil", math.ceil)


# -- numbers as text ----------------------------------------------------------------------------------------------------

_PLAIN = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,5})?")


def plain_number(text: str) -> Number | None:
    """A number as programs write it (``-12.50``, ``1e3``), exact; None where the text is none."""
    text = text.strip(" \t\r\n")
    if len(text) > 1000 or _PLAIN.fullmatch(text) is None:
        return None
    if text.lstrip("+-").isdigit():
        return int(text)
    number = Decimal(text)
    return number if in_bounds(number) else None


_POINT, _COMMA = (".", ","), (",", ".")
_SPACES = "\u0020\u00a0\u202f\u2009"
_APOSTROPHES = "'\u2019"
#: decimal sign and group signs by language; a country in _BY_COUNTRY goes first
_BY_LANGUAGE: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("en", "ja", "zh", "ko", "th", "he", "hi"), _POINT),
    **dict.fromkeys(("de", "nl", "da", "el", "tr", "id", "hr", "sl", "ro", "sr", "vi", "is"), _COMMA),
    **dict.fromkeys(("it", "es", "pt", "ca"), (",", "." + _SPACES)),
    **dict.fromkeys(
        ("fr", "pl", "cs", "sk", "hu", "sv", "nb", "nn", "no", "fi", "ru", "uk", "bg", "et", "lv", "lt"), (",", _SPACES)
    ),
}
_BY_COUNTRY: dict[str, tuple[str, str]] = {
    "de-at": (",", "." + _SPACES),
    "de-ch": (".", _APOSTROPHES),
    "de-li": (".", _APOSTROPHES),
    "it-ch": (".", _APOSTROPHES),
    "fr-ch": (".,", _APOSTROPHES + _SPACES),
    "en-ch": (".", _APOSTROPHES),
    "en-za": (".,", _SPACES),
    "es-mx": _POINT,
    "es-us": _POINT,
    "pt-br": _COMMA,
}
#: written as programs do: a point, no groups
_PROGRAM = ("c", "posix", "iso")


def _signs(locale: str) -> tuple[str, str] | None:
    name = locale.strip().lower().replace("_", "-").split(".")[0]
    if name in _PROGRAM:
        return (".", "")
    return _BY_COUNTRY.get(name) or _BY_LANGUAGE.get(name.split("-")[0])


def _unknown_locale(locale: Any) -> str:
    shown = f"'{locale}'" if isinstance(locale, str) else describe(locale)
    return f"number: unknown locale {shown}; write it like 'de-DE', 'en-US', 'fr-FR', or 'c' for 1234.56"


def is_locale(locale: str) -> bool:
    """Whether `number` knows how a locale writes numbers."""
    return _signs(locale) is not None


class LocalNumbers:
    """`number`, bound to the locale of the workspace or site."""

    def __init__(self, locale: str = "c") -> None:
        self._locale = locale

    def check_number(self, _: Any, locale: Any = None) -> str:
        if locale is None or locale is UNKNOWN or (isinstance(locale, str) and is_locale(locale)):
            return ""
        return _unknown_locale(locale)

    @function(
        "number(text, locale?)",
        doc="Read a number as a country writes it; the default is the locale of the site, else `c`, which is `1234.56`. A minus"
        " may stand behind (SAP), groups must be whole. A number stays as it is, null stays null. Anything else is an error.",
        example="number('1.234,56-', 'de-DE')",
        gives="`-1234.56`",
        check="check_number",
    )
    def number(self, text: Any, locale: Any = None) -> Number | None:
        return number(text, self._locale if locale is None else locale)


def number(text: Any, locale: Any = "c") -> Number | None:
    """The number that a text is in a locale; a number and null stay as they are. Raises ValueError."""
    signs = _signs(locale) if isinstance(locale, str) else None
    if signs is None:
        raise ValueError(_unknown_locale(locale))
    if text is None or is_number(text):
        return text  # type: ignore[no-any-return]  # its type was asked
    if not isinstance(text, str):
        need_text(text, "number", "text")
    digits = _without_groups(text.strip(_SPACES + "\t\r\n"), *signs)
    found = plain_number(digits) if digits is not None else None
    if found is None:
        raise ValueError(f"number: {describe(text)} is not a number in locale {locale}")
    return found


def _without_groups(text: str, decimals: str, groups: str) -> str | None:
    """The text as programs write it; None where it is not a number of that country."""
    sign = ""
    if text[-1:] in ("-", "+") and text[:1] not in ("-", "+"):
        text = text[-1] + text[:-1].rstrip(_SPACES)
    text = text.replace("\u2212", "-", 1)
    if text[:1] in ("-", "+"):
        sign, text = text[0], text[1:].lstrip(_SPACES)
    places = [text.rfind(mark) for mark in decimals if mark in text]
    cut = max(places, default=len(text))
    whole_part, fraction = text[:cut], text[cut + 1 :]
    if any(text.count(mark) > 1 for mark in decimals) or not (fraction == "" or fraction.isdigit()):
        return _exponent(sign, text, decimals) if groups == "" else None
    used = {character for character in whole_part if not character.isdigit()}
    if used:
        if len(used) > 1 or not used <= set(groups):
            return _exponent(sign, text, decimals) if groups == "" else None
        first, *rest = whole_part.split(used.pop())
        if not 1 <= len(first) <= 3 or any(len(part) != 3 for part in rest):
            return None
        whole_part = first + "".join(rest)
    if not (whole_part + fraction).isascii() or not (whole_part or fraction):
        return None
    return f"{sign}{whole_part or '0'}" + (f".{fraction}" if fraction else "")


def _exponent(sign: str, text: str, decimals: str) -> str | None:
    """Programs may write powers of ten; people's locales may not."""
    return sign + text if _PLAIN.fullmatch(text) and decimals == "." else None
