from __future__ import annotations

from datetime import timedelta

import pytest

from esb.durations import Rate, parse_rate
from esb.runtime.throttles import Throttles

STEP = ("r", "throttle", parse_rate("2/s"))


@pytest.mark.parametrize("text", ["throttle: 50/s", "throttle: { rate: 50/s }"])
def test_message_waits_for_its_turn_and_stays_as_it_is(run, context, text):
    assert run(text, "body").body == "body"
    assert context.turns == [Rate(50, timedelta(seconds=1))]


@pytest.mark.parametrize(
    ("text", "code"), [("throttle: 50", "ESB104"), ("throttle: 0/s", "ESB104"), ("throttle: {}", "ESB102")]
)
def test_problem_has_its_code(problem_of, text, code):
    assert problem_of(text).code == code


def test_turns_are_evenly_spaced_and_kept_until_they_are_taken():
    throttles = Throttles()
    assert [throttles.turn(STEP, name, 10.0) for name in "abca"] == [10.0, 10.5, 11.0, 10.0]
    throttles.take(STEP, "a")
    assert throttles.turn(STEP, "a", 10.0) == 11.5
    assert throttles.turn(STEP, "d", 99.0) == 99.0, "time that nobody used is not saved up"


def test_turn_that_nobody_took_is_forgotten():
    throttles = Throttles()
    throttles.turn(STEP, "gone", 10.0)
    throttles.turn(STEP, "next", 100.0)
    assert throttles.turn(STEP, "gone", 100.0) == 100.5


def test_another_rate_begins_anew():
    throttles = Throttles()
    throttles.turn(("r", "throttle", parse_rate("1/d")), "a", 0.0)
    assert throttles.turn(STEP, "b", 1.0) == 1.0
