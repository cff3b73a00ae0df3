"""Values in rows: nothing is rounded, nothing changes its type, and no odd value stops a message."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esb.errors import ErrorRecord
from esb.message import EMPTY, new_id
from esb.store import values

DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, places=3)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), DECIMALS, st.binary(max_size=20), st.text(max_size=20))
BODIES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=10,
)

#: fixed, since the ids of parametrised tests must be the same in every process
ID = "01a21537-e999-721e-9343-e2f12a023894"


@given(BODIES)
def test_any_body_value_comes_back_as_it_was(value: Any) -> None:
    back = values.load_any(values.dump_any(value))
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize("text", ["12.10", "0.00", "12345678901234567890.123", "-0.5", "1E+3", "1E-30"])
def test_decimals_keep_every_digit(text: str) -> None:
    assert str(values.load_any(values.dump_any([Decimal(text)]))[0]) == text


@given(st.datetimes(timezones=st.just(UTC)))
def test_instants_are_exact(instant: datetime) -> None:
    assert values.instant_of(values.micros(instant)) == instant


def test_an_instant_of_another_zone_is_the_same_instant() -> None:
    vienna = datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    assert values.instant_of(values.micros(vienna)) == vienna
    with pytest.raises(TypeError):
        values.micros(datetime(2026, 7, 1))  # noqa: DTZ001 - the point of the test


def test_ids_are_sixteen_bytes_and_come_back() -> None:
    id_ = new_id()
    assert len(values.mid_of(id_)) == 16
    assert values.id_of(values.mid_of(id_)) == id_
    assert values.find_mid(id_.upper()) == values.mid_of(id_)


@pytest.mark.parametrize("text", ["", "x" * 36, ID.upper() + "A", ID.replace("-", ""), "0-" * 18])
def test_what_is_no_id_is_refused_from_code_and_not_found_for_people(text: str) -> None:
    assert values.find_mid(text) is None
    with pytest.raises(ValueError, match="no message id"):
        values.mid_of(text)


def test_read_only_mappings_are_stored_like_others() -> None:
    assert values.dump(EMPTY) is None
    assert values.load(None) == {}
    inner = MappingProxyType({"a": MappingProxyType({"b": (1, 2)})})
    assert values.load(values.dump(inner)) == {"a": {"b": [1, 2]}}
    with pytest.raises(TypeError, match="cannot be stored"):
        values.dump({"a": object()})


def test_a_trace_is_stored_whatever_a_step_noted() -> None:
    loop: list[Any] = []
    loop.append(loop)
    for odd in (object(), "\ud800", {1: {2}}, float("nan"), b"\xff", loop, datetime(2026, 1, 1, tzinfo=UTC)):
        back = values.load_trace(values.dump_trace([{"step": "a", "note": odd}]))
        assert len(back) == 1


def test_an_error_with_broken_text_is_stored() -> None:
    back = values.load_error(values.dump_error(ErrorRecord("rejected", "bad \ud800 text")))
    assert back is not None
    assert back.message == "bad ? text"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("lot 4711 is locked", "lot 12 is locked", True),
        (f"message {ID} not found", f"message {ID.replace('e', 'f')} not found", True),
        ("12.5 is above 10,00", "7 is above 3", True),
        ("lot is locked", "lot is unlocked", False),
    ],
)
def test_errors_are_grouped_by_what_does_not_vary(one: str, other: str, same: bool) -> None:
    groups = {values.group_of("r", ErrorRecord("rejected", text, "to:erp")) for text in (one, other)}
    assert len(groups) == (1 if same else 2)


def test_groups_tell_routes_steps_and_classes_apart() -> None:
    error = ErrorRecord("rejected", "no", "to:erp")
    groups = {
        values.group_of("r", error),
        values.group_of("s", error),
        values.group_of("r", ErrorRecord("rejected", "no", "to:mes")),
        values.group_of("r", ErrorRecord("timeout", "no", "to:erp")),
        values.group_of("r", None),
    }
    assert len(groups) == 5
