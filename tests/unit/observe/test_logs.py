"""One record per event, whatever its values; a flood is counted, not written."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from esb.observe.logs import ALL_PER_SECOND, LONGEST_RECORD, PER_SECOND, Log


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_flood_of_one_event_is_counted_and_the_others_are_written() -> None:
    stream, clock = io.StringIO(), Clock()
    log = Log(stream=stream, seconds=clock)
    for _ in range(PER_SECOND + 1000):
        log("warning", "message.dead", error="x")
    log("info", "other.event")
    clock.now = 1.0
    log("info", "next.second")
    lines = stream.getvalue().splitlines()
    assert len([line for line in lines if "message.dead error" in line]) == PER_SECOND
    assert [line.split(" ", 1)[1] for line in lines[PER_SECOND:]] == [
        "info    other.event",
        "warning log.left_out of=message.dead records=1000",
        "info    next.second",
    ]


def test_an_instant_is_written_as_the_time_of_the_record_is() -> None:
    stream = io.StringIO()
    log = Log(stream=stream)
    log("info", "message.retry", due=datetime(2026, 5, 31, 6, tzinfo=UTC))
    log("info", "message.retry", due=datetime(2026, 5, 31, 8, tzinfo=timezone(timedelta(hours=2))))
    assert [line.split()[-1] for line in stream.getvalue().splitlines()] == ["due=2026-05-31T06:00:00.000Z"] * 2


def test_many_events_together_have_a_limit_too() -> None:
    stream = io.StringIO()
    log = Log(stream=stream, seconds=Clock())
    for n in range(ALL_PER_SECOND + 500):
        log("info", f"event.{n}")
    assert len(stream.getvalue().splitlines()) == ALL_PER_SECOND


def test_nothing_inside_a_value_stays_nothing() -> None:
    stream = io.StringIO()
    Log(stream=stream, as_json=True, seconds=Clock())("info", "a", reply={"status": None, "rows": [None, True, 1]})
    assert json.loads(stream.getvalue())["reply"] == {"status": None, "rows": [None, True, 1]}


@pytest.mark.parametrize("as_json", [True, False])
def test_a_record_is_cut_where_its_values_are_long_and_stays_readable(as_json: bool) -> None:
    stream = io.StringIO()
    log = Log(stream=stream, as_json=as_json, seconds=Clock())
    log("info", "a", value={f"k{n}": ["x" * 5000] * 50 for n in range(50)}, more="y\n" * 5000)
    (line,) = stream.getvalue().splitlines()
    assert len(line) <= LONGEST_RECORD
    if as_json:
        assert json.loads(line)["too_long"] > LONGEST_RECORD
