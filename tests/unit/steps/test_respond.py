from __future__ import annotations

from decimal import Decimal

import pytest

from esb.errors import InternalFault


def test_body_of_the_message_is_the_answer_if_nothing_is_said(run, context):
    assert run("respond: {}", {"a": 1}).body == {"a": 1}
    assert context.response == (200, {}, {"a": 1})


def test_status_headers_and_body_are_given(run, context):
    run(
        'respond: { status: 201, headers: { Location: "/o/{{ body.no }} " }, body: "{ no: body.no }" }',
        {"no": 7, "x": 1},
    )
    assert context.response == (201, {"Location": "/o/7"}, {"no": 7})


def test_answer_may_be_empty(run, context):
    run("respond: { status: 204, body: '`null`' }", {"a": 1})
    assert context.response == (204, {}, None)


def test_status_may_be_an_expression(run, context):
    run('respond: { status: "body.new && `201` || `200`" }', {"new": True})
    assert context.response[0] == 201


@pytest.mark.parametrize("value", [None, "201", True, 99, 600, 100, Decimal(200), [200]])
def test_expression_must_give_a_status(run, context, value):
    with pytest.raises(InternalFault, match="not a status from 200 to 599"):
        run("respond: { status: body.s }", {"s": value})
    assert context.response is None


def test_header_with_a_line_break_is_refused(run):
    with pytest.raises(InternalFault, match="line break"):
        run('respond: { headers: { X: "{{ body }}" } }', "a\nb")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("respond: { status: 99 }", "ESB106"),
        ("respond: { status: body. }", "ESB401"),
        ("respond: { headers: { 'a b': x } }", "ESB110"),
        ("respond: { code: 200 }", "ESB101"),
        ("respond: 200", "ESB103"),
    ],
)
def test_problem_has_its_code(problem_of, text, code):
    assert problem_of(text).code == code
