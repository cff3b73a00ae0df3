"""Part of a document against the document: what is expected must be there, exactly; more may be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from esb.formats.json import Json

_SHOWN = 200


def differences(wanted: Any, got: Any, pointer: str = "") -> list[str]:
    """A line for each place where ``got`` lacks what ``wanted`` says. Lists are compared item by item, to their end.

    Numbers keep their digits: `12.10` is not `12.1`, `12` is not `'12'`.
    """
    if isinstance(wanted, Mapping):
        if not isinstance(got, Mapping):
            return [_line(pointer, wanted, got)]
        found: list[str] = []
        for name, value in wanted.items():
            place = f"{pointer}/{name}"
            found += (
                differences(value, got[name], place) if name in got else [f"{place}: not there, expected {show(value)}"]
            )
        return found
    if isinstance(wanted, list):
        if not isinstance(got, Sequence) or isinstance(got, (str, bytes)):
            return [_line(pointer, wanted, got)]
        found = [
            line
            for i, pair in enumerate(zip(wanted, got, strict=False))
            for line in differences(*pair, f"{pointer}/{i}")
        ]
        if len(wanted) != len(got):
            found.append(f"{pointer or '/'}: expected {len(wanted)} items, got {len(got)}")
        return found
    return [] if _same(wanted, got) else [_line(pointer, wanted, got)]


def _same(wanted: Any, got: Any) -> bool:
    numbers = isinstance(wanted, (int, Decimal)) and isinstance(got, (int, Decimal))
    if numbers and not isinstance(wanted, bool) and not isinstance(got, bool):
        return Decimal(wanted).as_tuple() == Decimal(got).as_tuple()
    return type(wanted) is type(got) and bool(wanted == got)


def _line(pointer: str, wanted: Any, got: Any) -> str:
    return f"{pointer or '/'}: expected {show(wanted)}, got {show(got)}"


def show(value: Any) -> str:
    """A value as JSON in one line, cut where it is long."""
    text = repr(value) if isinstance(value, bytes) else Json().encode(value).decode()
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every part of a value with its JSON pointer, as text; decimals keep their digits."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from leaves(inner, f"{path}/{name}")
    elif isinstance(value, (list, tuple)) and value:
        for number, inner in enumerate(value):
            yield from leaves(inner, f"{path}/{number}")
    else:
        yield path, repr(value) if isinstance(value, bytes) else Json().encode(value).decode()


def differing(old: Any, new: Any) -> dict[str, tuple[str | None, str | None]]:
    """Places at which two values differ, with both texts; None where one has nothing there."""
    before, after = dict(leaves(old)), dict(leaves(new))
    places = dict.fromkeys((*before, *after))
    return {at: (before.get(at), after.get(at)) for at in places if before.get(at) != after.get(at)}
