from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from esb.errors import Invalid
from esb.steps.base import Stop


def test_first_message_of_a_key_goes_on(run, context):
    assert run("dedupe: body.id", {"id": "a"}).body == {"id": "a"}
    assert context.claims == [("a", timedelta(days=7))]


def test_repeat_ends_as_a_duplicate(run, context):
    context.owned = {"a"}
    assert run("dedupe: body.id", {"id": "a"}) == Stop("duplicate")


def test_window_is_given_on(run, context):
    run("dedupe: { key: body, window: 1d }", "a")
    assert context.claims == [("a", timedelta(days=1))]


@pytest.mark.parametrize(("value", "key"), [(5, "5"), (Decimal("1.50"), "1.50"), (True, "true"), (False, "false")])
def test_single_values_are_keys(run, context, value, key):
    run("dedupe: body", value)
    assert context.claims[0][0] == key


@pytest.mark.parametrize("value", [None, ""])
def test_no_key_identifies_nothing(run, context, value):
    assert run("dedupe: body.id", {"id": value}).body == {"id": value}
    assert (context.claims, context.notes) == ([], {"dedupe": "no key"})


@pytest.mark.parametrize("value", [[1], {"a": 1}])
def test_list_or_object_is_no_key(run, value):
    with pytest.raises(Invalid, match="one value"):
        run("dedupe: body", value)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("dedupe: { key: body, window: 0s }", "ESB106"),
        ("dedupe: { key: body, window: 5 }", "ESB104"),
        ("dedupe: { window: 1d }", "ESB102"),
        ("dedupe: { key: body, ttl: 1d }", "ESB101"),
    ],
)
def test_problem_has_its_code(problem_of, text, code):
    assert problem_of(text).code == code
