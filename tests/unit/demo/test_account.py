"""What the demo prints, and the exit code that it ends with."""

from __future__ import annotations

import io
from itertools import count

import pytest

from examples.demo.account import Account
from examples.demo.harness import TooLate, until
from examples.demo.story import Case


def test_a_run_without_a_fault_passes() -> None:
    out = io.StringIO()
    account = Account(out)
    account.act("Goods arrive")
    account.check("the lot is there", truth=True)
    assert account.verdict() == 0
    assert "VERDICT  passed: 1 of 1 checks" in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_a_failed_check_is_named_again_at_the_end() -> None:
    out = io.StringIO()
    account = Account(out)
    account.check("the lot is there", truth=False, detail="it is not")
    assert account.verdict() == 1
    assert out.getvalue().count("✗ the lot is there") == 2


def test_what_does_not_come_in_time_fails_and_the_demo_goes_on() -> None:
    account = Account(io.StringIO())
    assert account.expect("never", lambda: None, within=0) is None
    assert account.expect("at once", lambda: 7) == 7
    assert (account.passed, account.failed) == (1, ["never"])


def test_waiting_gives_what_was_found() -> None:
    numbers = count()
    assert until(lambda: next(numbers) >= 2, within=5, what="two") is True
    with pytest.raises(TooLate, match="rain: not within 0 s"):
        until(lambda: False, within=0, what="rain")


def test_two_cases_share_nothing() -> None:
    one, other = Case(1), Case(2)
    names = ("lot", "document", "purchase_order", "inspection_lot", "nc", "hold_id", "disposition_id", "correlation")
    assert all(getattr(one, name) != getattr(other, name) for name in names)
    assert len(one.lot) <= 10
