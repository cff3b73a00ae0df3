"""Every function of the language, gathered from the modules that declare them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from esb.clock import Clock, SystemClock
from esb.language import numbers, standard, texts
from esb.language.dates import DateFunctions
from esb.language.declare import Function, functions_of
from esb.language.lookups import Table, TableFunctions


def functions(tables: Mapping[str, Table], timezone: str, clock: Clock) -> Mapping[str, Function]:
    """The functions by name, bound to the tables, time zone and clock of one workspace."""
    homes = (standard, numbers, texts, DateFunctions(clock, timezone), TableFunctions(tables))
    found = [function for home in homes for function in functions_of(home)]
    return MappingProxyType({function.name: function for function in sorted(found, key=lambda f: f.name)})


def function_docs() -> tuple[Function, ...]:
    """What the docs print about each function: signature, sentence, example and its value."""
    return tuple(functions({}, "UTC", SystemClock()).values())
