"""Every function of the language, gathered from the modules that declare them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from esb.clock import Clock, SystemClock
from esb.language import numbers, standard, texts
from esb.language.dates import DateFunctions
from esb.language.declare import Function, functions_of
from esb.language.lookups import Table, TableFunctions
from esb.language.numbers import LocalNumbers


def functions(tables: Mapping[str, Table], timezone: str, clock: Clock, locale: str = "c") -> Mapping[str, Function]:
    """The functions by name, bound to the tables, time zone, locale and clock of one workspace or site."""
    homes = (DateFunctions(clock, timezone), LocalNumbers(locale), TableFunctions(tables, timezone))
    found = [*_everywhere(), *(function for home in homes for function in functions_of(home))]
    return MappingProxyType({function.name: function for function in sorted(found, key=lambda f: f.name)})


@cache
def _everywhere() -> tuple[Function, ...]:
    """The functions that are the same in every workspace and site."""
    return tuple(function for home in (standard, numbers, texts) for function in functions_of(home))


def function_docs() -> tuple[Function, ...]:
    """What the docs print about each function: signature, sentence, example and its value."""
    return tuple(functions({}, "UTC", SystemClock()).values())
