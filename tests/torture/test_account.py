"""The checker itself: what it must find, and what it must not take for a fault."""

from __future__ import annotations

from tests.torture.account import Seen, Sent, judge

A = Sent("a", acked=True)


def test_what_arrived_once_everywhere_is_no_fault() -> None:
    verdict = judge([A], [Seen("http", "a", "k1"), Seen("out", "a", "k2")], ("http", "out"))
    assert (verdict.faults, verdict.repeated, verdict.recovered) == ([], 0, 0)


def test_an_acknowledged_message_that_one_sink_never_saw_is_lost() -> None:
    verdict = judge([A], [Seen("http", "a", "k")], ("http", "out"))
    assert verdict.lost == {("out", "a")}
    assert verdict.faults == ["lost 1: a at out"]


def test_a_message_without_a_yes_may_be_missing_or_there() -> None:
    unanswered = [Sent("a", acked=False), Sent("b", acked=False)]
    verdict = judge(unanswered, [Seen("http", "b", "k")], ("http",))
    assert (verdict.faults, verdict.recovered) == ([], 1)


def test_a_repeat_under_one_delivery_id_is_allowed_and_counted() -> None:
    verdict = judge([A], [Seen("http", "a", "k"), Seen("http", "a", "k", applied=False)], ("http",))
    assert (verdict.faults, verdict.repeated) == ([], 1)


def test_a_repeat_under_another_delivery_id_is_a_fault() -> None:
    verdict = judge([A], [Seen("http", "a", "k"), Seen("http", "a", "k2")], ("http",))
    assert (verdict.split, verdict.doubled) == ({("http", "a")}, {("http", "a")})


def test_a_second_effect_under_one_delivery_id_is_a_fault() -> None:
    verdict = judge([A], [Seen("http", "a", "k"), Seen("http", "a", "k")], ("http",))
    assert (verdict.split, verdict.doubled) == (set(), {("http", "a")})


def test_what_a_filter_should_have_kept_back_is_leaked_and_is_never_lost() -> None:
    kept = Sent("m", acked=True, wanted=False)
    assert judge([kept], [], ("http",)).faults == []
    assert judge([kept], [Seen("http", "m", "k")], ("http",)).leaked == {("http", "m")}


def test_what_nobody_sent_is_unknown() -> None:
    assert judge([], [Seen("http", "ghost", "k")], ("http",)).faults == ["unknown 1: ghost at http"]
