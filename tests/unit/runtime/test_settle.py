"""The decision after a failed attempt, as a value."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from esb.config.model import OnError, RouteSpec, SourceSpec
from esb.durations import parse_backoff
from esb.errors import Invalid, Position, Rejected, Timeout, Unavailable, Violation
from esb.runtime.settle import GiveUp, RetryAt, backoff, decide, handler_for, record
from esb.steps.base import Block, RetryPolicy, StepNode

NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)
POLICY = RetryPolicy(max=3, backoff=parse_backoff("2s..10s"))


def always_longest() -> float:
    return 1.0


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 2), (2, 4), (3, 8), (4, 10), (400, 10)])
def test_the_wait_doubles_up_to_the_longest(attempt: int, seconds: int) -> None:
    assert backoff(POLICY, attempt, always_longest) == timedelta(seconds=seconds)


def test_full_jitter_draws_below_the_wait_and_none_does_not() -> None:
    assert backoff(POLICY, 1, lambda: 0.25) == timedelta(seconds=0.5)
    assert backoff(RetryPolicy(backoff=parse_backoff("2s"), jitter="none"), 1, lambda: 0.0) == timedelta(seconds=2)


@pytest.mark.parametrize(
    ("text", "at_last"),
    [
        ("1d", timedelta(days=1)),
        ("1d..400d", timedelta(days=400)),
        ("365000d", timedelta(days=365_000)),
        ("0s..1d", timedelta(0)),
        ("1ms..365000d", timedelta(milliseconds=2**30)),
    ],
)
def test_a_long_wait_stays_its_longest_however_many_attempts_there_were(text: str, at_last: timedelta) -> None:
    policy = RetryPolicy(backoff=parse_backoff(text), jitter="none")
    assert backoff(policy, 1) == policy.backoff.first
    assert [backoff(policy, attempt) for attempt in (31, 100_000)] == [at_last, at_last]


def test_a_transient_error_is_tried_again() -> None:
    decision = decide(Unavailable("503"), policy=POLICY, attempt=1, accepted_at=NOW, now=NOW, chance=always_longest)
    assert decision == RetryAt(NOW + timedelta(seconds=2))


def test_after_the_last_retry_the_message_is_exhausted() -> None:
    decision = decide(Timeout("slow"), policy=POLICY, attempt=4, accepted_at=NOW, now=NOW)
    assert decision == GiveUp("exhausted")


@pytest.mark.parametrize("error", [Invalid("x"), Rejected("x")])
def test_errors_that_stay_are_not_retried(error: Invalid | Rejected) -> None:
    assert decide(error, policy=POLICY, attempt=1, accepted_at=NOW, now=NOW) == GiveUp(error.error_class)


def test_a_route_may_retry_what_it_likes() -> None:
    policy = RetryPolicy(for_=("any",), max=1)
    assert isinstance(decide(Rejected("x"), policy=policy, attempt=1, accepted_at=NOW, now=NOW), RetryAt)


def test_retry_after_is_honoured_up_to_an_hour() -> None:
    error = Unavailable("429", retry_after=timedelta(minutes=5))
    assert decide(error, policy=POLICY, attempt=1, accepted_at=NOW, now=NOW) == RetryAt(NOW + timedelta(minutes=5))
    error = Unavailable("429", retry_after=timedelta(days=9))
    assert decide(error, policy=POLICY, attempt=1, accepted_at=NOW, now=NOW) == RetryAt(NOW + timedelta(hours=1))


def test_within_gives_up_when_the_next_try_would_be_too_late() -> None:
    policy = RetryPolicy(max=99, backoff=parse_backoff("10s"), jitter="none", within=timedelta(minutes=1))
    late = NOW + timedelta(seconds=55)
    assert decide(Unavailable("x"), policy=policy, attempt=2, accepted_at=NOW, now=late) == GiveUp("exhausted")


def test_an_outage_that_is_dropped_at_a_time_is_tried_until_then_and_no_longer() -> None:
    error = Unavailable("down")
    error.dropped_at = NOW + timedelta(seconds=25)
    for past, due in ((0, 10), (24, 25)):
        now = NOW + timedelta(seconds=past)
        decision = decide(error, policy=POLICY, attempt=9, accepted_at=NOW, now=now, chance=always_longest)
        assert decision == RetryAt(NOW + timedelta(seconds=due))
    policy = RetryPolicy(within=timedelta(seconds=5), backoff=parse_backoff("10s"), jitter="none")
    assert decide(error, policy=policy, attempt=1, accepted_at=NOW, now=NOW) == GiveUp("exhausted")
    policy = RetryPolicy(for_=("timeout",))
    assert decide(error, policy=policy, attempt=1, accepted_at=NOW, now=NOW) == GiveUp("unavailable")


def test_an_open_circuit_uses_up_no_attempt() -> None:
    decision = decide(Unavailable("open"), policy=POLICY, attempt=99, accepted_at=NOW, now=NOW, counts=False)
    assert isinstance(decision, RetryAt)
    assert not decision.counts


SPEC = RouteSpec(
    "r",
    Position("r.yaml", 1, 8),
    SourceSpec("http", None, "", Position("r.yaml", 2, 9)),
    Block(),
    "digest",
    blocks={"": Block((StepNode("validate", "validate", None, Position("r.yaml", 7, 5)),))},  # type: ignore[arg-type]  # no step
)


def test_on_error_takes_the_first_entry_that_names_the_class_or_its_cause() -> None:
    entries = (
        OnError(for_=("unmapped",), dead_letter="master-data"),
        OnError(for_=("unavailable",), dead_letter="erp"),
    )
    assert handler_for(entries, "exhausted", "unavailable") is entries[1]
    assert handler_for(entries, "rejected", "rejected") is None
    assert handler_for((*entries, OnError(dead_letter="rest")), "rejected", "rejected").dead_letter == "rest"  # type: ignore[union-attr]  # it is there


def test_the_record_points_at_the_first_violation() -> None:
    error = Invalid("two faults", violations=[Violation("/lot", "missing"), Violation("/qty", "no number")])
    stored = record(error, step="validate", error_class="invalid", spec=SPEC)
    assert (stored.pointer, stored.step, len(stored.violations)) == ("/lot", "validate", 2)
    assert (stored.at, record(error, step="source", error_class="invalid", spec=SPEC).at) == (
        "r.yaml:7:5",
        "r.yaml:2:9",
    )
    assert stored.as_dict()["errors"][1] == {"pointer": "/qty", "detail": "no number"}
