"""What the values of a message are called and how they become text; shared by every function."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any

#: Longest text of a template in a route, in characters.
MAX_TEXT = 1_000_000

#: Longest text that a function or a template file may make, in characters, and most values that it may write as JSON.
MAX_RESULT = 16_000_000
MAX_VALUES = 1_000_000

#: Most digits and largest power of ten of a number, wherever it comes from: what is computed can be stored and read back.
MAX_DIGITS = 400
MAX_EXPONENT = 400


_CONTAINERS = (dict, list, tuple, MappingProxyType)


def is_number(value: Any) -> bool:
    """True for int and Decimal; a boolean is not a number."""
    kind = type(value)
    return kind is int or kind is Decimal


def type_name(value: Any) -> str:
    """The JMESPath word for the type of a value."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case str():
            return "string"
        case int() | Decimal() | float():
            return "number"
        case list():
            return "array"
        case Mapping():
            return "object"
    return "unknown"


def describe(value: Any) -> str:
    """A value in the words of an error message; long texts are cut."""
    match value:
        case None:
            return "null"
        case bool():
            return f"`{str(value).lower()}`"
        case str():
            return f"the text '{value}'" if len(value) <= 40 else f"a text of {len(value)} characters"
        case int() | Decimal():
            return f"the number {plain(value)}"
        case list():
            return "a list"
        case Mapping():
            return "an object"
        case float():
            return "a binary float (the bus keeps exact decimals)"
    return f"a {type(value).__name__}"


def plain(number: int | Decimal) -> str:
    """A number as digits, never in powers of ten: ``1200``, ``0.0000001``."""
    if type(number) is Decimal:
        if not number.is_finite() or abs(number.adjusted()) > MAX_EXPONENT * 2:
            return str(number)
        return format(number, "f")
    return str(number)


def text_of(value: Any, function: str, parameter: str) -> str:
    """A text, number or boolean as text. Raises ValueError for null, a list or an object."""
    if type(value) is str:
        return value
    if is_number(value):
        return plain(value)
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, str):
        return str(value)
    raise ValueError(f"{function}: `{parameter}` must be text or a number, it is {describe(value)}")


def need_text(value: Any, function: str, parameter: str) -> str:
    """The value if it is text. Raises ValueError with the function and parameter otherwise."""
    if isinstance(value, str):
        return value
    extra = "; write to_text(…) around it" if is_number(value) else ""
    raise ValueError(f"{function}: `{parameter}` must be text, it is {describe(value)}{extra}")


def need_number(value: Any, function: str, parameter: str) -> int | Decimal:
    """The value if it is a number. Raises ValueError with the function and parameter otherwise."""
    if is_number(value):
        return value  # type: ignore[no-any-return]  # its type was asked
    extra = "; write number(…) around it" if isinstance(value, str) else ""
    raise ValueError(f"{function}: `{parameter}` must be a number, it is {describe(value)}{extra}")


def need_whole(value: Any, function: str, parameter: str, low: int, high: int) -> int:
    """The value as a whole number between two bounds. Raises ValueError otherwise."""
    number = need_number(value, function, parameter)
    if number != int(number) or not low <= number <= high:
        raise ValueError(
            f"{function}: `{parameter}` must be a whole number from {low} to {high}, it is {describe(value)}"
        )
    return int(number)


def need_list(value: Any, function: str, parameter: str) -> list[Any]:
    """The value if it is a list. Raises ValueError with the function and parameter otherwise."""
    if isinstance(value, list):
        return value
    raise ValueError(f"{function}: `{parameter}` must be a list, it is {describe(value)}")


def bounded(text: str, function: str) -> str:
    """The text, unless it is longer than any that a function may make."""
    if len(text) > MAX_RESULT:
        raise ValueError(f"{function}: the result has more than {MAX_RESULT} characters")
    return text


def measure(value: Any) -> None:
    """Refuse structures that are small in memory and endless on paper (a list that holds one list many times)."""
    left = MAX_VALUES
    rest = [value]
    while rest:
        inner = rest.pop()
        items = inner.values() if isinstance(inner, Mapping) else inner
        left -= len(items)
        if left < 0:
            raise ValueError(f"a structure of more than {MAX_VALUES} values")
        for item in items:
            if item.__class__ in _CONTAINERS:
                rest.append(item)  # noqa: PERF401 - this is the fastest form


def in_bounds(number: Decimal) -> bool:
    """True for a finite number whose power of ten is one that people write."""
    return number.is_finite() and abs(number.adjusted()) <= MAX_EXPONENT and len(number.as_tuple().digits) <= MAX_DIGITS
