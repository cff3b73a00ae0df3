"""What templates have: every function of the language as ``f(x)`` and ``x | f``, and the filters that only make sense there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from types import GeneratorType
from typing import Any

from jinja2 import filters as jinja
from jinja2 import pass_context, pass_environment
from jinja2.runtime import Context, Undefined

from esb.language.declare import Function
from esb.language.output import joined, tojson, xmlescape
from esb.language.texts import to_text
from esb.language.values import MAX_RESULT, bounded, describe, need_text, need_whole

#: Jinja's own filters that hold no surprise: they neither make floats, nor reach attributes, nor grow their input
_FROM_JINJA = [
    "capitalize",
    "dictsort",
    "first",
    "groupby",
    "items",
    "last",
    "list",
    "map",
    "reject",
    "rejectattr",
    "select",
    "selectattr",
    "sort",
    "title",
    "truncate",
    "unique",
    "urlencode",
    "min",
    "max",
]

#: filters that take the value first although the function takes it second
VALUE_SECOND = ("xref", "join")

#: filters of Jinja that are not here, and what to write instead
INSTEAD: Mapping[str, str] = {
    "attr": "a field whose name is only known at run time is get(object, name)",
    "int": "write `| to_number`, `| number('de-DE')` or `| floor`",
    "float": "numbers are exact decimals here; write `| to_number` or `| number('de-DE')`",
    "format": "put texts together with `~`, write dates with `| date_format('…')`, fill with `| pad(10)`",
    "safe": "nothing is escaped unless you say `| x` (XML), so there is nothing to mark as safe",
    "center": "write `| pad(10)`",
    "random": "chance is not repeatable; uuid() gives a new id",
    "pprint": "write `| tojson`",
    "wordwrap": "write `| truncate(80)`",
    "slice": "a part of a list is `list[0:10]`",
    "forceescape": "write `| x`",
    "xmlattr": "write each attribute with `| x`",
    "d": "write `| default('…')`",
    "striptags": "write `| x`",
    "urlize": "write the link out",
}


def globals_of(functions: Mapping[str, Function]) -> dict[str, Callable[..., Any]]:
    """The functions as names that templates call."""
    return {name: in_template(function) for name, function in functions.items() if function.in_templates}


def filters_of(functions: Mapping[str, Function]) -> dict[str, Callable[..., Any]]:
    """The filters by name."""
    found = globals_of(functions)
    found.update({name: jinja.FILTERS[name] for name in _FROM_JINJA})
    if "xref" in functions:
        found["xref"] = _xref_filter(functions["xref"])
    found.update(
        batch=batch, count=length, e=xmlescape, escape=xmlescape, indent=indent, join=join, length=length, reverse=reverse,
        string=to_text, sum=_sum_filter(functions), tojson=tojson, x=xmlescape, xmlescape=xmlescape,
    )  # fmt: skip
    return found


def in_template(function: Function) -> Callable[..., Any]:
    """The function for templates: a missing field fails in its own words, or is null where that is asked for."""
    call = function.call

    def settle(arguments: Iterable[Any]) -> list[Any]:
        settled: list[Any] = []
        for argument in arguments:
            if isinstance(argument, Undefined):
                settled.append(None if function.missing_ok else str(argument))
            else:
                settled.append(list(argument) if isinstance(argument, GeneratorType) else argument)
        return settled

    if function.scoped:

        @pass_context
        @wraps(call)
        def scoped(context: Context, *arguments: Any) -> Any:
            return call(context, *settle(arguments))

        return scoped

    @wraps(call)
    def plain(*arguments: Any) -> Any:
        return call(*settle(arguments))

    return plain


def _xref_filter(function: Function) -> Callable[..., Any]:
    call = in_template(function)

    @pass_context
    def xref(context: Context, value: Any, table: Any, *more: Any) -> Any:
        return call(context, table, value, *more)

    return xref


def _sum_filter(functions: Mapping[str, Function]) -> Callable[..., Any]:
    add_up = functions["sum"].call

    @pass_environment
    def sum_(environment: Any, items: Any, attribute: str | None = None) -> Any:
        if attribute is not None:
            items = map(jinja.make_attrgetter(environment, attribute), items)
        return add_up([str(item) if isinstance(item, Undefined) else item for item in items])

    return sum_


@pass_environment
def join(environment: Any, items: Any, separator: Any = "", attribute: str | None = None) -> str:
    """Texts and numbers put together."""
    if isinstance(items, (str, Mapping)) or not isinstance(items, Iterable):
        raise ValueError(f"join: needs a list, this is {describe(items)}")  # noqa: TRY004 - one kind of error for all
    if attribute is not None:
        items = map(jinja.make_attrgetter(environment, attribute), items)
    return joined(items, need_text(separator, "join", "separator"))


def length(value: Any) -> int:
    """How many characters, elements or fields."""
    if isinstance(value, Undefined):
        str(value)
    if isinstance(value, (str, list, tuple, Mapping)):
        return len(value)
    if isinstance(value, Iterable):
        return sum(1 for _ in value)
    raise ValueError(f"length: needs text, a list or an object, this is {describe(value)}")


def reverse(value: Any) -> Any:
    """A list or text backwards."""
    if isinstance(value, Undefined):
        str(value)
    return value[::-1] if isinstance(value, (str, list)) else list(value)[::-1]


def batch(items: Any, size: Any) -> list[list[Any]]:
    """The list in lists of at most ``size`` elements."""
    step, whole = need_whole(size, "batch", "size", 1, 100_000), list(items)
    return [whole[start : start + step] for start in range(0, len(whole), step)]


def indent(text: Any, width: Any = 4, first: bool = False) -> str:
    """The lines of a text moved right; the first one only where ``first`` says so."""
    room = " " * need_whole(width, "indent", "width", 0, 100)
    lines = need_text(text, "indent", "text").splitlines(keepends=True)
    if len(lines) * len(room) > MAX_RESULT:
        raise ValueError(f"indent: the result has more than {MAX_RESULT} characters")
    moved = [line if number == 0 and not first else room + line for number, line in enumerate(lines)]
    return bounded("".join(moved), "indent")
