from __future__ import annotations

from decimal import Decimal

import pytest

from esb.errors import InternalFault


def test_places_in_vars_headers_and_body_are_set(run):
    answer = run(
        "set: { vars.a: body.n, headers.x-plant: site.plant, body.checked.by: meta.route }",
        {"n": 5},
        meta={"route": "r"},
    )
    assert answer.vars == {"a": 5}
    assert answer.headers == {"x-plant": "P10"}
    assert answer.body == {"n": 5, "checked": {"by": "r"}}


def test_message_that_came_in_does_not_change(run):
    body = {"a": {"b": 1}}
    answer = run("set: { body.a.c: '`2`' }", body)
    assert body == {"a": {"b": 1}}
    assert answer.body == {"a": {"b": 1, "c": 2}}


def test_later_line_sees_what_an_earlier_one_set(run):
    answer = run("set: { vars.a: body, vars.b: vars.a, body: vars.b, vars.c: body }", 7)
    assert answer.vars == {"a": 7, "b": 7, "c": 7}
    assert answer.body == 7


def test_whole_of_vars_can_be_kept_in_one_of_them(run):
    assert run("set: { vars.a: '`1`', vars.copy: vars }", None).vars == {"a": 1, "copy": {"a": 1}}


def test_vars_nest(run):
    assert run("set: { vars.a.b: body }", 1, vars={"a": {"c": 2}}).vars == {"a": {"b": 1, "c": 2}}


def test_whole_body_is_replaced(run):
    assert run("set: { body: vars.x }", {"old": 1}, vars={"x": [1]}).body == [1]


def test_null_body_becomes_an_object_on_the_way(run):
    assert run("set: { body.a.b: '`1`' }", None).body == {"a": {"b": 1}}


def test_quoted_names_may_hold_anything(run):
    assert run("set: { 'body.\"a b.c\".d': body.x }", {"x": 1}).body == {"x": 1, "a b.c": {"d": 1}}


@pytest.mark.parametrize(
    ("value", "text"),
    [("'a'", "a"), ("`7`", "7"), ("`true`", "true"), ("body.qty", "12.10")],
)
def test_header_is_text(run, value, text):
    assert run(f'set: {{ headers.X-Y: "{value}" }}', {"qty": Decimal("12.10")}).headers == {"x-y": text}


def test_header_name_may_hold_dots(run):
    assert run("set: { headers.order.id: body }", "7").headers == {"order.id": "7"}


def test_null_takes_a_header_away(run):
    assert run("set: { headers.a: body.x }", {}, headers={"a": "1", "b": "2"}).headers == {"b": "2"}


@pytest.mark.parametrize("body", [["a"], {"a": 1}, "line\r\nX-Evil: 1", "a\0"])
def test_header_that_cannot_be_one_is_refused(run, body):
    with pytest.raises(InternalFault, match="header `a`"):
        run("set: { headers.a: body }", body)


@pytest.mark.parametrize(
    ("body", "words"), [([1], "a list"), ("x", "a text"), (5, "a single value"), (b"x", "raw bytes")]
)
def test_place_inside_of_something_that_is_no_object_is_refused(run, body, words):
    with pytest.raises(InternalFault, match=f"`body` is {words}, not an object"):
        run("set: { body.a: '`1`' }", body)


def test_step_says_what_it_writes(read_step):
    step = read_step("set: { vars.a: body, body.x.y: body, headers.B: body }")
    assert step.writes == (("vars", "a"), ("body", "x", "y"), ("headers", "b"))


@pytest.mark.parametrize(
    ("text", "code", "hint"),
    [
        ("set: { decision: body.x }", "ESB101", "`vars.decision`"),
        ("set: { meta.x: body.x }", "ESB101", "`vars.x`"),
        ("set: { site.plant: body.x }", "ESB101", "`vars.plant`"),
        ("set: { vars: body }", "ESB101", "`vars.x`"),
        ("set: { headers: body }", "ESB101", "`headers.x`"),
        ("set: { 'body.a[0]': body }", "ESB101", "the whole list"),
        ("set: { 'body.a[]': body }", "ESB101", "the whole list"),
        ("set: { 'body..a': body }", "ESB101", "names with dots"),
        ("set: { vars.x: 5 }", "ESB103", "backticks"),
        ("set: { vars.x: body. }", "ESB401", ""),
        ("set: {}", "ESB102", "vars.x"),
        ("set: vars.x", "ESB103", "vars.x: expression"),
    ],
)
def test_problem_says_what_to_write(problem_of, text, code, hint):
    problem = problem_of(text)
    assert problem.code == code
    assert hint in problem.hint
