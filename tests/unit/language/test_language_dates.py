"""Dates and instants: what is read, what is written, and that a pure date never gets a zone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esb.clock import ManualClock
from esb.language.dates import DateFunctions, directives, zone_of
from esb.language.workspace import WorkspaceLanguage

EARLY, LATE = datetime.fromisoformat("1980-01-01"), datetime.fromisoformat("2090-01-01")
DATES = DateFunctions(ManualClock("2026-01-05T09:00:00+00:00"), "Europe/Vienna")
Scope = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    ("text", "pattern", "zone", "result"),
    [
        ("31.01.2026", "dd.MM.yyyy", None, "2026-01-31"),
        ("31.01.2026", "%d.%m.%Y", None, "2026-01-31"),
        ("20260131", "yyyyMMdd", None, "2026-01-31"),
        ("20260131", "%Y%m%d", None, "2026-01-31"),
        ("31.01.26", "dd.MM.yy", None, "2026-01-31"),
        ("2026-031", "yyyy-DDD", None, "2026-01-31"),
        ("31.01.2026 10:30", "dd.MM.yyyy HH:mm", None, "2026-01-31T09:30:00Z"),
        ("31.07.2026 10:30", "dd.MM.yyyy HH:mm", None, "2026-07-31T08:30:00Z"),
        ("31.01.2026 10:30", "dd.MM.yyyy HH:mm", "UTC", "2026-01-31T10:30:00Z"),
        ("31.01.2026 10:30", "dd.MM.yyyy HH:mm", "America/New_York", "2026-01-31T15:30:00Z"),
        ("20260131103015", "yyyyMMddHHmmss", "UTC", "2026-01-31T10:30:15Z"),
        ("2026-01-31T10:30:15.250", "yyyy-MM-dd'T'HH:mm:ss.SSS", "UTC", "2026-01-31T10:30:15.250000Z"),
        ("2026-01-31T10:30:15+0300", "yyyy-MM-ddTHH:mm:ssXX", None, "2026-01-31T07:30:15Z"),
        ("01/31/2026 02:05 PM", "MM/dd/yyyy hh:mm a", "UTC", "2026-01-31T14:05:00Z"),
        ("2026-01-31", "iso", None, "2026-01-31"),
        ("2026-01-31T10:30:00Z", "iso", None, "2026-01-31T10:30:00Z"),
        ("2026-01-31T10:30:00+01:00", "iso", None, "2026-01-31T09:30:00Z"),
        ("2026-01-31 10:30", "iso", None, "2026-01-31T09:30:00Z"),
        ("2026-01-31T10:30:00.123456789Z", "iso", None, "2026-01-31T10:30:00.123456Z"),
        (1767225600, "unix", None, "2026-01-01T00:00:00Z"),
        ("1767225600500", "unix_ms", None, "2026-01-01T00:00:00.500000Z"),
        ("2026-10-25 02:30", "yyyy-MM-dd HH:mm", None, "2026-10-25T00:30:00Z"),
        (None, "iso", None, None),
    ],
)
def test_dates_and_instants_are_read(text: Any, pattern: str, zone: str | None, result: str | None) -> None:
    assert DATES.date_parse(text, pattern, zone) == result


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("32.01.2026", "dd.MM.yyyy"),
        ("29.02.2026", "dd.MM.yyyy"),
        ("31.01.2026 10:30", "dd.MM.yyyy"),
        ("2026131", "yyyyMMdd"),
        ("202601311", "yyyyMMdd"),
        ("", "dd.MM.yyyy"),
        ("00000000", "yyyyMMdd"),
        ("0000-00-00", "iso"),
        ("yesterday", "iso"),
        ("2026-01-31T25:00:00Z", "iso"),
        ("2026-03-29 02:30", "yyyy-MM-dd HH:mm"),
        ("soon", "unix"),
        ("1e400", "unix"),
        ([], "iso"),
        ({}, "dd.MM.yyyy"),
    ],
)
def test_what_is_no_such_date_is_an_error(text: Any, pattern: str) -> None:
    with pytest.raises(ValueError, match=r"date|not exist|must be"):
        DATES.date_parse(text, pattern)


@pytest.mark.parametrize(
    ("value", "pattern", "zone", "result"),
    [
        ("2026-01-31", "yyyy/MM", None, "2026/01"),
        ("2026-01-31", "dd.MM.yyyy", None, "31.01.2026"),
        ("2026-01-31T23:30:00Z", "yyyy-MM-dd HH:mm", None, "2026-02-01 00:30"),
        ("2026-01-31T23:30:00Z", "yyyy-MM-dd HH:mm", "UTC", "2026-01-31 23:30"),
        ("2026-01-31T23:30:00Z", "%Y/%m", "UTC", "2026/01"),
        ("2026-01-31T23:30:00.250Z", "HH:mm:ss.SSS", "UTC", "23:30:00.250"),
        ("2026-01-31T23:30:00Z", "yyyy-MM-dd'T'HH:mm:ssXX", None, "2026-02-01T00:30:00+0100"),
        ("2026-01-31T23:30:00Z", "iso", None, "2026-01-31T23:30:00Z"),
        ("2026-01-01T00:00:00Z", "unix", None, "1767225600"),
        ("2026-01-01T00:00:00.250Z", "unix_ms", None, "1767225600250"),
        (datetime(2026, 1, 31, 23, 30, tzinfo=UTC), "%H:%M", "UTC", "23:30"),
        (date(2026, 1, 31), "%j", None, "031"),
        ("0001-01-01", "yyyyMMdd", None, "00010101"),  # what ERP systems write for no date at all
        ("0001-01-01", "dd.MM.yy", None, "01.01.01"),
        ("0999-01-02", "%G-W%V %F 100%% %%Y", None, "0999-W01 0999-01-02 100% %Y"),
        (None, "%Y", None, None),
    ],
)
def test_dates_and_instants_are_written(value: Any, pattern: str, zone: str | None, result: str | None) -> None:
    assert DATES.date_format(value, pattern, zone) == result


def test_a_date_has_no_time_and_no_zone() -> None:
    for pattern in ("HH:mm", "yyyy-MM-dd HH", "%Y-%m-%dT%H", "yyyy-MM-ddXX", "unix"):
        with pytest.raises(ValueError, match="a date without a time"):
            DATES.date_format("2026-01-31", pattern)
    assert DATES.in_zone("2026-01-31", "Asia/Tokyo") == "2026-01-31"
    assert DATES.date_format("2026-01-31", "dd.MM.yyyy", "Asia/Tokyo") == "31.01.2026"
    with pytest.raises(ValueError, match="not whole days"):
        DATES.date_add("2026-01-31", "36h")


def test_zones_and_sums() -> None:
    assert DATES.in_zone("2026-07-01T08:00:00Z") == "2026-07-01T10:00:00+02:00"
    assert DATES.in_zone("2026-07-01T08:00:00Z", "UTC") == "2026-07-01T08:00:00Z"
    assert DATES.in_zone("2026-07-01T08:00:00+02:00", "Asia/Tokyo") == "2026-07-01T15:00:00+09:00"
    assert DATES.date_add("2026-02-27", "3d") == "2026-03-02"
    assert DATES.date_add("2026-01-01", "-1d") == "2025-12-31"
    assert DATES.date_add("2026-01-01T00:00:00Z", "-90m") == "2025-12-31T22:30:00Z"
    with pytest.raises(ValueError, match="no date of this calendar"):
        DATES.date_add("9999-12-31", "2d")
    with pytest.raises(ValueError, match="unknown time zone"):
        DATES.in_zone("2026-07-01T08:00:00Z", "../../etc/passwd")


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("/Date(1767225600000)/", "2026-01-01T00:00:00Z"),
        ("/Date(1767225600000+0060)/", "2026-01-01T00:00:00Z"),
        ("Date(-86400000)", "1969-12-31T00:00:00Z"),
        ("20260131", "2026-01-31"),
    ],
)
def test_dates_of_sap(text: str, result: str) -> None:
    assert DATES.sap_date(text) == result


@pytest.mark.parametrize("text", ["", "00000000", "/Date(x)/", "2026-01-31", "20261301", "/Date(99999999999999999)/"])
def test_what_sap_does_not_write_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="sap_date"):
        DATES.sap_date(text)


def test_the_clock_is_the_one_given(language: WorkspaceLanguage, scope: Scope) -> None:
    assert language.expression("now()")(scope()) == "2026-01-05T09:00:00Z"
    assert language.template("{{ now() | date_format('dd.MM. HH:mm') }}").render(scope()) == "05.01. 10:00"


def test_patterns_are_checked() -> None:
    assert directives("dd.MM.yyyy 'um' HH''mm") == "%d.%m.%Y um %H'%M"
    for pattern in ("QQ", "text", "", "%Q", "dd.MM.yyyyy", "%"):
        with pytest.raises(ValueError, match="date format"):
            directives(pattern)


@given(st.datetimes(min_value=EARLY, max_value=LATE).map(lambda d: d.replace(microsecond=0)))
def test_what_is_written_in_utc_is_read_back(moment: datetime) -> None:
    text = DATES.date_format(moment.replace(tzinfo=UTC), "yyyy-MM-dd HH:mm:ss", "UTC")
    back = DATES.date_parse(text, "yyyy-MM-dd HH:mm:ss", "UTC")
    assert back == moment.isoformat() + "Z"


def test_zone_of_refuses_odd_names() -> None:
    for name in ("", "/etc/localtime", "..", "Europe"):
        with pytest.raises(ValueError, match="unknown time zone"):
            zone_of(name)
