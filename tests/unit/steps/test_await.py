"""`await`: found, refused, not yet, too late."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from esb.clock import ManualClock
from esb.errors import Invalid, Overdue, Rejected
from esb.steps.base import Wait
from tests.unit.steps.conftest import FakeContext

STEP = "await: { track: { ack: body.ref }, within: 1h, route: acks, accepted_when: meta.reply.body.ok, reason: 'no {{ meta.reply.body.why }}' }"


def test_what_was_said_is_the_reply_and_the_body_stays(run: Any, context: FakeContext) -> None:
    context.told = {("ack", "12", "acks"): {"ok": True}}
    answer = run(STEP, {"ref": 12})
    assert (answer.body, answer.meta["reply"]["body"]) == ({"ref": 12}, {"ok": True})


def test_bad_news_reject_the_message_with_their_reason(run: Any, context: FakeContext) -> None:
    context.told = {("ack", "a", "acks"): {"ok": False, "why": "lot 7"}}
    with pytest.raises(Rejected, match="ack = a: no lot 7") as caught:
        run(STEP, {"ref": "a"})
    assert caught.value.reply is not None
    assert caught.value.reply["body"]["why"] == "lot 7"


def test_a_clock_that_is_set_back_does_not_prolong_the_wait_beyond_its_time(run: Any, context: FakeContext) -> None:
    with pytest.raises(Wait):
        run(STEP, {"ref": "a"})
    context.clock = ManualClock(context.clock.now() - timedelta(days=400))
    with pytest.raises(Wait):
        run(STEP, {"ref": "a"})
    context.clock.advance(timedelta(hours=1))
    with pytest.raises(Overdue):
        run(STEP, {"ref": "a"})


def test_it_looks_less_often_the_longer_it_waits_and_at_last_no_more(run: Any, context: FakeContext) -> None:
    waits = []
    while True:
        try:
            run(STEP, {"ref": "a"})
        except Wait as wait:
            waits.append((wait.until - context.clock.now()).total_seconds())
            context.clock.advance(wait.until - context.clock.now())
        except Overdue as error:
            said = error.message
            break
    assert said == "ack = a has not come within 1h"
    assert (waits[0], max(waits), round(sum(waits))) == (5.0, 300.0, 3600)
    assert len(waits) < 70
    context.told = {("ack", "a", "acks"): {"ok": True}}
    assert run(STEP, {"ref": "a"}).meta["reply"]["body"] == {"ok": True}, "a retry after it came late"


@pytest.mark.parametrize("body", [{"ref": None}, {}, {"ref": ""}, {"ref": [1]}])
def test_there_must_be_something_to_wait_for(run: Any, body: Any) -> None:
    with pytest.raises(Invalid):
        run(STEP, body)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("await: { track: { a: body.x, b: body.y }, within: 1h }", "ESB107"),
        ("await: { track: {}, within: 1h }", "ESB107"),
        ("await: { track: { a: body.x }, within: 0s }", "ESB106"),
        ("await: { track: { a: body.x } }", "ESB102"),
    ],
)
def test_what_makes_no_sense_is_said(problem_of: Any, text: str, code: str) -> None:
    assert problem_of(text).code == code


def test_the_first_look_is_at_once(run: Any, context: FakeContext) -> None:
    with pytest.raises(Wait) as caught:
        run(STEP, {"ref": "a"})
    assert caught.value.until - context.clock.now() == timedelta(seconds=5)
