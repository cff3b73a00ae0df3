"""Rows as JSON, parameters for a driver, watermarks that keep their type."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from esb.endpoints._sql.values import earlier, mark_of, of_mark, parameter, plain
from esb.errors import Invalid

VIENNA = timezone(timedelta(hours=1))
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "body"),
    [
        (Decimal("12.10"), Decimal("12.10")),
        (0.1, Decimal("0.1")),
        (float("nan"), "nan"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=VIENNA), "2026-01-02T02:04:05Z"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).replace(tzinfo=None), "2026-01-02T03:04:05"),
        (date(2026, 1, 2), "2026-01-02"),
        (time(3, 4), "03:04:00"),
        (timedelta(seconds=90), Decimal("90.0")),
        (b"\x00\xff", "AP8="),
        (memoryview(b"a"), "YQ=="),
        (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        ({"a": [1, 0.5]}, {"a": [1, Decimal("0.5")]}),
        (True, True),
        (None, None),
    ],
)
def test_a_column_as_json(value: Any, body: Any) -> None:
    assert plain(value) == body


def test_parameters() -> None:
    assert parameter("q", Decimal("12.10"), "postgresql") == Decimal("12.10")
    assert parameter("q", Decimal("12.10"), "sqlite") == "12.10"  # SQLite would make a float of it
    assert parameter("b", {"lot": "0012", "qty": Decimal("1.50")}, "sqlite") == '{"lot":"0012","qty":1.50}'
    for value in ("a\0b", object()):
        with pytest.raises(Invalid):
            parameter("x", value, "postgresql")


@pytest.mark.parametrize("value", [7, Decimal("7.10"), NOON, date(2026, 1, 2), "0012", UUID(int=7)])
def test_a_watermark_keeps_its_type(value: Any) -> None:
    again = of_mark(mark_of(value))
    assert again == value
    assert type(again) is type(value)


@pytest.mark.parametrize("value", [None, True, b"x", [1]])
def test_what_is_no_watermark_is_refused(value: Any) -> None:
    with pytest.raises(Invalid, match="no watermark"):
        mark_of(value)


def test_an_overlap_goes_back() -> None:
    assert earlier(NOON, timedelta(hours=1)) == datetime(2026, 1, 2, 11, tzinfo=UTC)
    assert earlier("2026-01-02 12:00:00", timedelta(hours=1)) == "2026-01-02 11:00:00"
    assert earlier("2026-01-02T12:00:00Z", timedelta(hours=1))[:19] == "2026-01-02T11:00:00"
    assert earlier(7, timedelta(hours=1)) == 7
