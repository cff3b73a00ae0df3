"""The functions of the JMESPath specification, with int and Decimal as its numbers and errors in plain words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import reduce
from typing import Any

from esb.language.declare import function
from esb.language.numbers import EXACT, ceil_number, exact_sum, floor_number, plain_number, quotient
from esb.language.texts import to_json
from esb.language.values import (
    MAX_RESULT,
    bounded,
    describe,
    is_number,
    need_list,
    need_number,
    need_text,
    plain,
    type_name,
)

#: An expression argument (``&name``), ready to be asked for one element.
Key = Callable[[Any], Any]


_NUMBERS = frozenset({int, Decimal})
_DECIMALS, _ZERO = {Decimal}, Decimal(0)


def _numbers(values: Any, name: str) -> list[Any]:
    if _NUMBERS.issuperset(map(type, need_list(values, name, "numbers"))):
        return values  # type: ignore[no-any-return]  # it is a list
    for place, value in enumerate(values):
        if not is_number(value):
            extra = "; write number(…) around it" if isinstance(value, str) else ""
            raise ValueError(f"{name}: element {place} must be a number, it is {describe(value)}{extra}")
    return values  # type: ignore[no-any-return]  # its type was asked


def _alike(values: list[Any], name: str, what: str = "element") -> list[Any]:
    """The values if all are numbers or all are texts, so that they have an order."""
    if not values:
        return values
    textual = isinstance(values[0], str)
    for place, value in enumerate(values):
        if not (isinstance(value, str) if textual else is_number(value)):
            wanted = "text" if textual else "a number" if is_number(values[0]) else "a number or text"
            raise ValueError(f"{name}: {what} {place} must be {wanted}, it is {describe(value)}")
    return values


def _object(value: Any, name: str) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    raise ValueError(f"{name}: needs an object, it is {describe(value)}")


# -- numbers ------------------------------------------------------------------------------------------------------------


@function("abs(x)", doc="The number without its sign.", example="abs(`-1.50`)", gives="`1.50`", standard=True)
def abs_(x: Any) -> Any:
    number = need_number(x, "abs", "x")
    return number.copy_abs() if isinstance(number, Decimal) else abs(number)


@function("avg(numbers)", doc="The mean; null for none.", example="avg(`[1, 2.5]`)", gives="`1.75`", standard=True)
def avg(numbers: Any) -> Any:
    values = _numbers(numbers, "avg")
    return quotient(exact_sum(values), len(values), "avg") if values else None


@function("ceil(x)", doc="The next whole number up.", example="ceil(`1.2`)", gives="`2`", standard=True)
def ceil(x: Any) -> int:
    return ceil_number(need_number(x, "ceil", "x"))


@function("floor(x)", doc="The next whole number down.", example="floor(`1.8`)", gives="`1`", standard=True)
def floor(x: Any) -> int:
    return floor_number(need_number(x, "floor", "x"))


@function("sum(numbers)", doc="The exact sum; 0 for none.", example="sum(`[0.1, 0.2]`)", gives="`0.3`", standard=True)
def sum_(numbers: Any) -> Any:
    try:
        if set(map(type, numbers)) == _DECIMALS and type(numbers) is list:  # the most frequent by far
            return reduce(EXACT.add, numbers, _ZERO)
    except (TypeError, ArithmeticError):
        pass  # said in words below
    return exact_sum(_numbers(numbers, "sum"))


@function(
    "to_number(value)",
    doc="The number that a text holds (written with a point), null where it holds none. For commas use `number`.",
    example="to_number('12.10')",
    gives="`12.10`",
    standard=True,
)
def to_number(value: Any) -> Any:
    if is_number(value):
        return value
    return plain_number(value) if isinstance(value, str) else None


# -- order --------------------------------------------------------------------------------------------------------------


@function(
    "max(list)", doc="The largest number or text; null for none.", example="max(`[2, 3]`)", gives="`3`", standard=True
)
def max_(list_: Any) -> Any:
    return max(_alike(need_list(list_, "max", "list"), "max"), default=None)


@function(
    "min(list)", doc="The smallest number or text; null for none.", example="min(`[2, 3]`)", gives="`2`", standard=True
)
def min_(list_: Any) -> Any:
    return min(_alike(need_list(list_, "min", "list"), "min"), default=None)


@function("sort(list)", doc="Numbers or texts in order.", example="sort(`[2, 1]`)", gives="`[1, 2]`", standard=True)
def sort(list_: Any) -> list[Any]:
    return sorted(_alike(need_list(list_, "sort", "list"), "sort"))


def _keyed(list_: Any, key: Key, name: str) -> tuple[list[Any], list[Any]]:
    values = need_list(list_, name, "list")
    return values, _alike([key(value) for value in values], name, "the key of element")


@function(
    "sort_by(list, &key)",
    doc="The elements in the order of a number or text of theirs.",
    example='sort_by(`[{"n": 2}, {"n": 1}]`, &n)[0].n',
    gives="`1`",
    standard=True,
)
def sort_by(list_: Any, key: Key) -> list[Any]:
    values, keys = _keyed(list_, key, "sort_by")
    return [values[place] for place in sorted(range(len(values)), key=keys.__getitem__)]


@function(
    "max_by(list, &key)",
    doc="The element with the largest number or text.",
    example='max_by(`[{"n": 2}, {"n": 1}]`, &n).n',
    gives="`2`",
    standard=True,
)
def max_by(list_: Any, key: Key) -> Any:
    values, keys = _keyed(list_, key, "max_by")
    return values[max(range(len(values)), key=keys.__getitem__)] if values else None


@function(
    "min_by(list, &key)",
    doc="The element with the smallest number or text.",
    example='min_by(`[{"n": 2}, {"n": 1}]`, &n).n',
    gives="`1`",
    standard=True,
)
def min_by(list_: Any, key: Key) -> Any:
    values, keys = _keyed(list_, key, "min_by")
    return values[min(range(len(values)), key=keys.__getitem__)] if values else None


@function(
    "group_by(list, &key)",
    doc="An object of lists: the elements by a text or number of theirs, in their order.",
    example='group_by(`[{"p": "A"}, {"p": "B"}, {"p": "A"}]`, &p).A',
    gives='`[{"p": "A"}, {"p": "A"}]`',
)
def group_by(list_: Any, key: Key) -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = {}
    for place, value in enumerate(need_list(list_, "group_by", "list")):
        name = key(value)
        if not (isinstance(name, str) or is_number(name)):
            raise ValueError(f"group_by: the key of element {place} must be text or a number, it is {describe(name)}")
        groups.setdefault(name if isinstance(name, str) else plain(name), []).append(value)
    return groups


@function(
    "map(&expression, list)",
    doc="The expression applied to each element; nulls stay.",
    example='map(&upper(@), `["a"]`)',
    gives='`["A"]`',
    standard=True,
)
def map_(expression: Key, list_: Any) -> list[Any]:
    return [expression(value) for value in need_list(list_, "map", "list")]


@function("reverse(list)", doc="A list or text backwards.", example="reverse('abc')", gives="'cba'", standard=True)
def reverse(list_: Any) -> Any:
    if isinstance(list_, (str, list)):
        return list_[::-1]
    raise ValueError(f"reverse: needs a list or text, it is {describe(list_)}")


# -- text ---------------------------------------------------------------------------------------------------------------


@function(
    "contains(subject, search)",
    doc="Whether a text holds a text, or a list an element.",
    example="contains('4711-A', '-A')",
    gives="`true`",
    standard=True,
)
def contains(subject: Any, search: Any) -> bool:
    if isinstance(subject, str):
        return isinstance(search, str) and search in subject
    return search in need_list(subject, "contains", "subject")


@function(
    "starts_with(text, prefix)",
    doc="Whether a text begins with another.",
    example="starts_with('4711-A', '47')",
    gives="`true`",
    standard=True,
)
def starts_with(text: Any, prefix: Any) -> bool:
    return need_text(text, "starts_with", "text").startswith(need_text(prefix, "starts_with", "prefix"))


@function(
    "ends_with(text, suffix)",
    doc="Whether a text ends with another.",
    example="ends_with('4711-A', 'A')",
    gives="`true`",
    standard=True,
)
def ends_with(text: Any, suffix: Any) -> bool:
    return need_text(text, "ends_with", "text").endswith(need_text(suffix, "ends_with", "suffix"))


@function(
    "join(separator, texts)",
    doc="Texts put together with a separator between them. For numbers among them write to_text(…), or use concat.",
    example='join(\'-\', `["4711", "10"]`)',
    gives="'4711-10'",
    standard=True,
)
def join(separator: Any, texts: Any) -> str:
    mark, parts = need_text(separator, "join", "separator"), need_list(texts, "join", "texts")
    if len(mark) * len(parts) > MAX_RESULT:
        raise ValueError(f"join: the result has more than {MAX_RESULT} characters")
    try:
        return bounded(mark.join(parts), "join")
    except TypeError:
        place, value = next((p, v) for p, v in enumerate(parts) if not isinstance(v, str))
        extra = "; write to_text(…) around it" if is_number(value) else ""
        raise ValueError(f"join: element {place} must be text, it is {describe(value)}{extra}") from None


@function(
    "length(value)",
    doc="How many characters, elements or fields.",
    example="length('abc')",
    gives="`3`",
    standard=True,
)
def length(value: Any) -> int:
    if isinstance(value, (str, list, Mapping)):
        return len(value)
    raise ValueError(f"length: needs text, a list or an object, it is {describe(value)}")


@function(
    "to_string(value)",
    doc="Text as it is, any other value as JSON (null becomes `null`; to_text keeps null).",
    example="to_string(`12.10`)",
    gives="'12.10'",
    standard=True,
)
def to_string(value: Any) -> str:
    if isinstance(value, str):
        return value
    if is_number(value):
        return plain(value)
    return to_json(value)


# -- objects and types ----------------------------------------------------------------------------------------------------


@function("keys(object)", doc="The names of the fields.", example='keys(`{"a": 1}`)', gives='`["a"]`', standard=True)
def keys(object_: Any) -> list[str]:
    return list(_object(object_, "keys"))


@function("values(object)", doc="The values of the fields.", example='values(`{"a": 1}`)', gives="`[1]`", standard=True)
def values_(object_: Any) -> list[Any]:
    return list(_object(object_, "values").values())


@function(
    "merge(object, more…)",
    doc="One object out of several; later fields win.",
    example='merge(`{"a": 1}`, `{"a": 2}`)',
    gives='`{"a": 2}`',
    standard=True,
)
def merge(*objects: Any) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for object_ in objects:
        merged.update(_object(object_, "merge"))
    return merged


@function(
    "not_null(value, more…)",
    doc="The first value that is not null.",
    example="not_null(`null`, 'x')",
    gives="'x'",
    standard=True,
)
def not_null(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


@function(
    "to_array(value)",
    doc="A list as it is, any other value in a list.",
    example="to_array(`1`)",
    gives="`[1]`",
    standard=True,
)
def to_array(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@function(
    "type(value)",
    doc="`string`, `number`, `boolean`, `array`, `object` or `null`.",
    example="type(`1.0`)",
    gives="'number'",
    standard=True,
)
def type_(value: Any) -> str:
    return type_name(value)
