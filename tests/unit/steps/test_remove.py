from __future__ import annotations

import pytest


def test_fields_are_taken_from_body_headers_and_vars(run):
    answer = run(
        "remove: [body.price, headers.Authorization, vars.tmp]",
        {"price": 1, "no": 2},
        headers={"authorization": "x", "a": "1"},
        vars={"tmp": 1, "keep": 2},
    )
    assert (answer.body, answer.headers, answer.vars) == ({"no": 2}, {"a": "1"}, {"keep": 2})


@pytest.mark.parametrize("path", ["body.items[].cost", "body.items.cost"])
def test_field_is_taken_from_every_item_of_a_list(run, path):
    body = {"items": [{"cost": 1, "n": 1}, {"n": 2}, "text", None]}
    assert run(f"remove: ['{path}']", body).body == {"items": [{"n": 1}, {"n": 2}, "text", None]}


def test_lists_in_lists_and_a_list_as_the_body(run):
    body = [[{"a": {"b": 1, "c": 2}}], {"a": 5}]
    assert run("remove: [body.a.b]", body).body == [[{"a": {"c": 2}}], {"a": 5}]


def test_message_that_came_in_does_not_change(run):
    body = {"a": {"b": 1}, "items": [{"x": 1}]}
    run("remove: [body.a.b, body.items.x]", body)
    assert body == {"a": {"b": 1}, "items": [{"x": 1}]}


@pytest.mark.parametrize("body", [None, "text", 5, [], {"a": 1}, {"x": 5}, {"x": None}])
def test_what_is_not_there_is_no_fault_and_nothing_is_copied(run, body):
    assert run("remove: [body.x.y, headers.h, vars.v]", body).body is body


def test_single_place_needs_no_list(run):
    assert run("remove: body.x", {"x": 1}).body == {}
    assert run("remove: { paths: [body.x] }", {"x": 1}).body == {}


@pytest.mark.parametrize(
    ("text", "code", "hint"),
    [
        ("remove: [price]", "ESB101", "`body.price`"),
        ("remove: [body]", "ESB101", "set"),
        ("remove: [headers]", "ESB101", "`headers.x`"),
        ("remove: ['body.items[]']", "ESB101", "`body.items`"),
        ("remove: [meta.x]", "ESB101", "vars.x"),
        ("remove: []", "ESB102", "[body.x]"),
        ("remove: [5]", "ESB103", ""),
    ],
)
def test_problem_says_what_to_write(problem_of, text, code, hint):
    problem = problem_of(text)
    assert problem.code == code
    assert hint in problem.hint
