from __future__ import annotations

import pytest

from esb.steps.base import Stop


@pytest.mark.parametrize("body", [{"ok": True}, {"ok": 0}, {"ok": "x"}, {"ok": [None]}])
def test_message_that_fits_goes_on(run, body):
    assert run("filter: body.ok", body).body is body


@pytest.mark.parametrize(
    "body", [{"ok": False}, {"ok": None}, {"ok": ""}, {"ok": []}, {"ok": {}}, {}, None, "text", [1]]
)
def test_every_other_message_ends_with_the_reason(run, body):
    assert run("filter: body.ok", body) == Stop("filtered: body.ok")


def test_option_may_be_named(run):
    assert run("filter: { when: \"body == 'a'\" }", "b") == Stop("filtered: body == 'a'")


def test_other_words_for_the_option_are_answered(problem_of):
    assert problem_of("filter: { if: body.x }").hint == "here it is `when`"
