from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from esb.clock import ManualClock
from esb.errors import Invalid
from esb.steps.base import Wait
from esb.steps.delay import instant


def test_message_waits_for_the_time_given(run, context):
    with pytest.raises(Wait) as caught:
        run("delay: 5s", 1)
    assert caught.value.until == context.clock.now() + timedelta(seconds=5)


@pytest.mark.parametrize("text", ["delay: 5s", "delay: { for: 5s }", "delay: { until: body }"])
def test_wait_is_remembered_and_not_prolonged_by_another_attempt(run, context, text):
    with pytest.raises(Wait) as first:
        run(text, "2026-01-05T09:00:05Z")
    context.clock.advance(3)
    with pytest.raises(Wait) as second:
        run(text, "2026-01-05T09:00:05Z")
    assert second.value.until == first.value.until
    context.clock.advance(2)
    assert run(text, "changed meanwhile").body == "changed meanwhile"


@pytest.mark.parametrize("by", [timedelta(hours=2), timedelta(days=400)])
def test_a_clock_that_is_set_back_does_not_prolong_the_wait_beyond_its_time(run, context, by):
    with pytest.raises(Wait):
        run("delay: 1h", 1)
    context.clock = ManualClock(context.clock.now() - by)
    with pytest.raises(Wait) as again:
        run("delay: 1h", 1)
    assert again.value.until == context.clock.now() + timedelta(hours=1)
    context.clock.advance(timedelta(hours=1))
    assert run("delay: 1h", 1).body == 1


@pytest.mark.parametrize("body", ["2026-01-05T10:00:01+01:00", "2026-01-05T09:00:01Z"])
def test_message_waits_until_an_instant(run, body):
    with pytest.raises(Wait) as caught:
        run("delay: { until: body }", body)
    assert caught.value.until == datetime(2026, 1, 5, 9, 0, 1, tzinfo=UTC)


@pytest.mark.parametrize("body", ["2026-01-05T09:00:00Z", "1999-01-01T00:00:00Z"])
def test_instant_in_the_past_does_not_wait(run, context, body):
    assert run("delay: { until: body }", body).body == body
    assert context.kept == {}


@pytest.mark.parametrize("value", [None, ""])
def test_no_instant_does_not_wait(run, context, value):
    assert run("delay: { until: body.at }", {"at": value}).body == {"at": value}
    assert context.notes == {"delay": "no instant"}


@pytest.mark.parametrize(
    "body", ["tomorrow", 1767600000, True, [], {}, "2026-01-05T09:00:00", "2026-01-05", "0001-01-01T00:00:00+14:00"]
)
def test_what_is_no_instant_is_invalid(run, body):
    if body in ([], {}):
        body = {"at": body}
        text = "delay: { until: body.at }"
    else:
        text = "delay: { until: body }"
    with pytest.raises(Invalid, match="cannot wait") as caught:
        run(text, body)
    assert caught.value.violations


def test_instant_may_be_a_datetime_already():
    assert instant(datetime(2026, 1, 1, tzinfo=UTC), "x") == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("delay: { for: 5s, until: body }", "ESB107"),
        ("delay: {}", "ESB107"),
        ("delay: 5", "ESB104"),
        ("delay: 4000d", "ESB106"),
        ("delay: { until: 5 }", "ESB103"),
    ],
)
def test_problem_has_its_code(problem_of, text, code):
    assert problem_of(text).code == code
