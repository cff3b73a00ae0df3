"""Cron expressions: what they mean, what they refuse, and the two nights when the clocks change."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from esb.endpoints.cron import Cron, CronError, to_utc

VIENNA = ZoneInfo("Europe/Vienna")
START = datetime(2026, 1, 1, tzinfo=UTC)  # a Thursday


def slots(text: str, after: str, count: int, zone: ZoneInfo) -> list[str]:
    """The next slots as local time with offset."""
    instant = datetime.fromisoformat(after)
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=zone)
    found = islice(Cron.parse(text).slots(instant, zone), count)
    return [slot.astimezone(zone).strftime("%Y-%m-%d %H:%M%z") for slot in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("* * * * *", ["01-01 00:01", "01-01 00:02"]),
        ("0 * * * *", ["01-01 01:00", "01-01 02:00"]),
        ("*/15 * * * *", ["01-01 00:15", "01-01 00:30"]),
        ("7/20 * * * *", ["01-01 00:07", "01-01 00:27", "01-01 00:47", "01-01 01:07"]),
        ("10-20/5 * * * *", ["01-01 00:10", "01-01 00:15", "01-01 00:20", "01-01 01:10"]),
        ("0,30 6 * * *", ["01-01 06:00", "01-01 06:30", "01-02 06:00"]),
        ("5,1-3 * * * *", ["01-01 00:01", "01-01 00:02", "01-01 00:03", "01-01 00:05"]),
        ("0 6 * * 1-5", ["01-01 06:00", "01-02 06:00", "01-05 06:00"]),
        ("0 6 * * MON-FRI", ["01-01 06:00", "01-02 06:00", "01-05 06:00"]),
        ("0 6 * * mon,wed", ["01-05 06:00", "01-07 06:00"]),
        ("0 6 * * 0", ["01-04 06:00", "01-11 06:00"]),
        ("0 6 * * 7", ["01-04 06:00", "01-11 06:00"]),
        ("0 6 * * SUN", ["01-04 06:00", "01-11 06:00"]),
        ("0 6 * * 6-7", ["01-03 06:00", "01-04 06:00", "01-10 06:00"]),
        ("0 6 * * FRI-SUN", ["01-02 06:00", "01-03 06:00", "01-04 06:00"]),
        ("0 6 * * 1/2", ["01-02 06:00", "01-05 06:00", "01-07 06:00"]),
        ("0 6 * * */2", ["01-01 06:00", "01-03 06:00", "01-04 06:00"]),
        ("0 0 1 * *", ["02-01 00:00", "03-01 00:00"]),
        ("0 0 31 * *", ["01-31 00:00", "03-31 00:00", "05-31 00:00"]),
        ("0 0 30 * *", ["01-30 00:00", "03-30 00:00"]),
        ("0 0 * 3 *", ["03-01 00:00", "03-02 00:00"]),
        ("0 0 1 JAN,JUL *", ["07-01 00:00", "01-01 00:00"]),
        ("0 0 1 */6 *", ["07-01 00:00", "01-01 00:00"]),
        ("0 0 1 jun-aug *", ["06-01 00:00", "07-01 00:00", "08-01 00:00"]),
        ("0 0 13 * 5", ["01-02 00:00", "01-09 00:00", "01-13 00:00", "01-16 00:00"]),
        ("0 0 */10 * 5", ["05-01 00:00", "07-31 00:00"]),
        ("0 0 13 * *", ["01-13 00:00", "02-13 00:00"]),
        ("59 23 31 12 *", ["12-31 23:59", "12-31 23:59"]),
        ("@hourly", ["01-01 01:00", "01-01 02:00"]),
        ("@daily", ["01-02 00:00", "01-03 00:00"]),
        ("@weekly", ["01-04 00:00", "01-11 00:00"]),
        ("@monthly", ["02-01 00:00", "03-01 00:00"]),
        ("@YEARLY", ["01-01 00:00", "01-01 00:00"]),
        ("  0   6 * *  1-5 ", ["01-01 06:00", "01-02 06:00"]),
    ],
)
def test_a_cron_means_what_it_means_in_unix(text: str, expected: list[str]) -> None:
    found = [slot[5:16] for slot in slots(text, START.isoformat(), len(expected), ZoneInfo("UTC"))]
    assert found == expected


def test_29_february_waits_for_its_year() -> None:
    assert slots("0 0 29 2 *", "2026-01-01T00:00", 2, ZoneInfo("UTC")) == [
        "2028-02-29 00:00+0000",
        "2032-02-29 00:00+0000",
    ]
    assert slots("0 0 29 2 *", "2096-03-01T00:00", 1, ZoneInfo("UTC")) == ["2104-02-29 00:00+0000"]


def test_a_slot_is_later_than_the_instant_that_is_asked_from() -> None:
    assert slots("0 6 * * *", "2026-01-01T06:00:00+00:00", 1, ZoneInfo("UTC")) == ["2026-01-02 06:00+0000"]
    assert slots("0 6 * * *", "2026-01-01T05:59:59.999999+00:00", 1, ZoneInfo("UTC")) == ["2026-01-01 06:00+0000"]


@pytest.mark.parametrize(
    ("text", "words", "at"),
    [
        ("", "0 fields", 0),
        ("* * * *", "4 fields", 0),
        ("0 0 6 * * 1-5", "every: 30s", 0),
        ("0 0 6 * * ? 2026", "every: 30s", 0),
        ("60 * * * *", "minute 60", 0),
        ("0 24 * * *", "hour 24", 2),
        ("0 0 0 * *", "day of month 0", 4),
        ("0 0 32 * *", "day of month 32", 4),
        ("0 0 * 13 *", "month 13", 6),
        ("0 0 * 0 *", "month 0", 6),
        ("0 0 * * 8", "day of week 8", 8),
        ("0 0 * * MOO", "SUN, MON", 8),
        ("0 0 * FOO *", "JAN, FEB", 6),
        ("0 0 ? * *", "write `*`", 4),
        ("0 0 L * *", "`L` is no day of month", 4),
        ("0 0 * * 5#2", "is no day of week", 8),
        ("5-1 * * * *", "`5-59,0-1`", 0),
        ("0 22-2 * * *", "`22-23,0-2`", 2),
        ("*/0 * * * *", "step", 0),
        ("*/60 * * * *", "step", 0),
        ("*/x * * * *", "step", 0),
        ("*/ * * * *", "step", 0),
        ("1,, * * * *", "is no minute", 2),
        ("1,61 * * * *", "minute 61", 2),
        ("-5 * * * *", "is no minute", 0),
        ("1-2-3 * * * *", "is no minute", 0),
        ("1.5 * * * *", "is no minute", 0),
        ("\u0661 * * * *", "is no minute", 0),
        ("0 0 30 2 *", "never comes", 4),
        ("0 0 31 4,6 *", "never comes", 4),
        ("@reboot", "known: @hourly", 0),
    ],
)
def test_a_bad_cron_says_where_and_what_to_write(text: str, words: str, at: int) -> None:
    with pytest.raises(CronError) as caught:
        Cron.parse(text)
    assert words in f"{caught.value} {caught.value.hint}"
    assert caught.value.offset == at


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        # spring: 02:00 to 03:00 do not exist on 2026-03-29
        ("30 2 * * *", "2026-03-28T12:00", ["2026-03-29 03:00+0200", "2026-03-30 02:30+0200"]),
        ("0 2 * * *", "2026-03-28T12:00", ["2026-03-29 03:00+0200", "2026-03-30 02:00+0200"]),
        ("59 2 * * *", "2026-03-28T12:00", ["2026-03-29 03:00+0200", "2026-03-30 02:59+0200"]),
        ("0 3 * * *", "2026-03-28T12:00", ["2026-03-29 03:00+0200", "2026-03-30 03:00+0200"]),
        ("0 2,3 * * *", "2026-03-28T12:00", ["2026-03-29 03:00+0200", "2026-03-30 02:00+0200"]),
        ("15 2,3 * * *", "2026-03-28T12:00", ["2026-03-29 03:00+0200", "2026-03-29 03:15+0200"]),
        ("30 1 * * *", "2026-03-28T12:00", ["2026-03-29 01:30+0100", "2026-03-30 01:30+0200"]),
        (
            "*/30 * * * *",
            "2026-03-29T01:15",
            ["2026-03-29 01:30+0100", "2026-03-29 03:00+0200", "2026-03-29 03:30+0200"],
        ),
        ("0 * * * *", "2026-03-29T00:30", ["2026-03-29 01:00+0100", "2026-03-29 03:00+0200", "2026-03-29 04:00+0200"]),
        ("30 2 29 3 *", "2026-03-28T12:00", ["2026-03-29 03:00+0200", "2027-03-29 02:30+0200"]),
        ("30 2 * * SUN", "2026-03-28T12:00", ["2026-03-29 03:00+0200", "2026-04-05 02:30+0200"]),
        ("0 6 * * *", "2026-03-28T12:00", ["2026-03-29 06:00+0200", "2026-03-30 06:00+0200"]),
        # autumn: 02:00 to 03:00 come twice on 2026-10-25
        ("30 2 * * *", "2026-10-24T12:00", ["2026-10-25 02:30+0200", "2026-10-26 02:30+0100"]),
        ("0 2 * * *", "2026-10-24T12:00", ["2026-10-25 02:00+0200", "2026-10-26 02:00+0100"]),
        ("0 3 * * *", "2026-10-24T12:00", ["2026-10-25 03:00+0100", "2026-10-26 03:00+0100"]),
        (
            "*/30 * * * *",
            "2026-10-25T01:45",
            ["2026-10-25 02:00+0200", "2026-10-25 02:30+0200", "2026-10-25 03:00+0100"],
        ),
        ("0 * * * *", "2026-10-25T01:30", ["2026-10-25 02:00+0200", "2026-10-25 03:00+0100"]),
        ("0 6 * * *", "2026-10-24T12:00", ["2026-10-25 06:00+0100", "2026-10-26 06:00+0100"]),
    ],
)
def test_the_nights_of_the_clocks_in_vienna(text: str, after: str, expected: list[str]) -> None:
    assert slots(text, after, len(expected), VIENNA) == expected


@pytest.mark.parametrize(
    "second", ["2026-10-25T00:29:00+00:00", "2026-10-25T01:15:00+00:00", "2026-10-25T01:45:00+00:00"]
)
def test_the_second_half_past_two_runs_nothing(second: str) -> None:
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    found = Cron.parse("30 2 * * *").after(datetime.fromisoformat(second), VIENNA)
    assert found == (first if datetime.fromisoformat(second) < first else datetime(2026, 10, 26, 1, 30, tzinfo=UTC))


@pytest.mark.parametrize(
    ("zone", "wall", "instant"),
    [
        ("Australia/Lord_Howe", "2026-10-04T02:15", "2026-10-03T15:30+00:00"),  # half an hour forward
        ("America/Sao_Paulo", "2018-11-04T00:00", "2018-11-04T03:00+00:00"),  # midnight does not exist
        ("Pacific/Apia", "2011-12-30T12:00", "2011-12-30T10:00+00:00"),  # a whole day does not exist
        ("America/St_Johns", "2026-03-08T02:30", "2026-03-08T05:30+00:00"),
        ("Asia/Kolkata", "2026-03-08T02:30", "2026-03-07T21:00+00:00"),
        ("UTC", "2026-03-08T02:30", "2026-03-08T02:30+00:00"),
    ],
)
def test_a_time_on_the_wall_is_one_instant_in_every_zone(zone: str, wall: str, instant: str) -> None:
    assert to_utc(datetime.fromisoformat(wall), ZoneInfo(zone)) == datetime.fromisoformat(instant)


@pytest.mark.parametrize("zone", ["Europe/Vienna", "Pacific/Apia", "America/Sao_Paulo", "UTC"])
@pytest.mark.parametrize("text", ["*/20 * * * *", "30 2 * * *", "0 0 1,15 * MON"])
def test_slots_are_in_order_and_unique_and_asking_from_any_of_them_goes_on(text: str, zone: str) -> None:
    cron = Cron.parse(text)
    found = list(islice(cron.slots(datetime(2011, 12, 25, tzinfo=UTC), ZoneInfo(zone)), 400))
    assert found == sorted(set(found))
    for index in range(0, 399, 7):
        assert cron.after(found[index], ZoneInfo(zone)) == found[index + 1]


def test_an_option_points_into_the_text(options: Callable[[type, Any], tuple[Any, list[str]]]) -> None:
    from esb.endpoints.timer import TimerSource

    timer, problems = options(TimerSource, {"cron": "0 6 * * 1-5"})
    assert problems == []
    assert timer.cron.text == "0 6 * * 1-5"
    assert options(TimerSource, {"cron": "0 25 * * *"})[1] == ["ESB106 hour 25 is not from 0 to 23 | 0 to 23"]
    assert options(TimerSource, {"cron": 5})[1][0].startswith("ESB103")
