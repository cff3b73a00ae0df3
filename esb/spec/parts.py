"""Looking through options for what they hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Any

#: Most values have no parts.
_LEAVES = frozenset({str, int, bool, type(None), bytes, timedelta})


def parts(value: Any, wanted: type | tuple[type, ...], closed: tuple[type, ...] = ()) -> list[Any]:
    """Every value of ``wanted`` in some options, in their order; what is ``closed`` is not looked into, nor what is found."""
    found: list[Any] = []
    _collect(value, wanted, closed, found)
    return found


def _collect(value: Any, wanted: type | tuple[type, ...], closed: tuple[type, ...], found: list[Any]) -> None:
    kind: Any = type(value)
    if kind in _LEAVES:
        return
    if isinstance(value, wanted):
        found.append(value)
    elif isinstance(value, closed):
        return
    elif (names := _fields_of(kind)) is not None:
        for name in names:
            _collect(getattr(value, name), wanted, closed, found)
    elif isinstance(value, Mapping):
        for inner in value.values():
            _collect(inner, wanted, closed, found)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _collect(inner, wanted, closed, found)


@lru_cache(maxsize=1024)
def _fields_of(cls: Any) -> tuple[str, ...] | None:
    """The fields of a dataclass; None for everything else."""
    return tuple(field.name for field in dataclasses.fields(cls)) if dataclasses.is_dataclass(cls) else None
