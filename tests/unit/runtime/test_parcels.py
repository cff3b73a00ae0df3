"""Parcels: what goes in comes out, in pieces of bounded size."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esb.errors import InternalFault, MessageError
from esb.formats.json import Json
from esb.runtime import parcels
from esb.runtime.away import error_in
from esb.runtime.parcels import PIECE, Unpacker, pack
from esb.runtime.worker import error_out

NUMBERS = st.integers() | st.decimals(
    allow_nan=False, allow_infinity=False, places=2, min_value=-(10**9), max_value=10**9
)
LEAVES = st.none() | st.booleans() | NUMBERS | st.text() | st.binary()
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=40)


def carried(value: Any) -> tuple[Any, list[bytes]]:
    pieces = list(pack(value))
    unpacker = Unpacker()
    for piece in pieces:
        unpacker.add(piece)
    return unpacker.value, pieces


@given(VALUES)
def test_plain_values_and_bytes_come_out_as_they_went_in(value: Any) -> None:
    assert carried(value)[0] == value


def test_numbers_keep_their_digits() -> None:
    value, _ = carried({"a": [Decimal("12.10"), 10**30]})
    assert str(value) == str({"a": [Decimal("12.10"), 10**30]})


@pytest.mark.parametrize(
    "value",
    [
        [{"no": n, "text": "x" * 50} for n in range(20_000)],
        {f"field {n}": n for n in range(20_000)},
        {"a": {"b": {"c": [[n] * 10 for n in range(5_000)]}}},
        [[[["deep"] * 3_000] * 3] * 3],
    ],
    ids=["records", "fields", "nested", "deep"],
)
def test_large_values_are_taken_apart(value: Any) -> None:
    found, pieces = carried(value)
    assert found == value
    assert len(pieces) > 3
    assert max(len(piece) for piece in pieces) < len(Json().encode(value)) // 2
    assert max(len(piece) for piece in pieces) < PIECE * 100


def test_records_are_weighed_by_the_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """To weigh a record takes longer than to write it, and each call of its own as long again."""
    asked: list[Any] = []

    def weight(value: Any) -> int:
        asked.append(value)
        return int(weigh(value))

    weigh = parcels._weight
    monkeypatch.setattr(parcels, "_weight", weight)
    pieces = list(pack([{"n": n} for n in range(20_000)]))
    assert len(asked) <= len(pieces)
    assert sum(len(group) for group in asked[1:]) < 25_000


def test_elements_too_heavy_for_one_piece_are_each_taken_apart_and_light_ones_beside_them_are_not() -> None:
    heavy, light = list(range(PIECE + 1)), [{"n": n} for n in range(500)]
    value = [*light, heavy, heavy, *light, "x" * 500_000, *light, b"raw", *light]
    found, pieces = carried(value)
    assert found == value
    assert len(pieces) < 80


def test_the_order_of_fields_stays_and_views_become_objects() -> None:
    value = {"z": 1, "big": list(range(5000)), "a": MappingProxyType({"b": b"raw"})}
    found, _ = carried(value)
    assert list(found) == ["z", "big", "a"]
    assert found["a"] == {"b": b"raw"}


def test_something_else_is_no_parcel() -> None:
    with pytest.raises(InternalFault):
        Unpacker().add(b"\x80\x04}")


@pytest.mark.parametrize("kind", MessageError.__subclasses__())
def test_every_error_that_a_function_may_raise_keeps_its_class(kind: type[MessageError]) -> None:
    back = error_in(error_out(kind("no", hint="do", retry_after=timedelta(seconds=2))))
    assert (back.error_class, back.message, back.hint, back.retry_after) == (
        kind.error_class,
        "no",
        "do",
        timedelta(seconds=2),
    )
