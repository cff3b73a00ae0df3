from __future__ import annotations

from decimal import Decimal

import pytest

from esb.errors import InternalFault, MessageError


def test_each_field_of_the_new_body_is_an_expression(run):
    answer = run("map: { no: body.AUFNR, plant: vars.werks }", {"AUFNR": "0012"}, vars={"werks": "1000"})
    assert answer.body == {"no": "0012", "plant": "1000"}
    assert list(answer.body) == ["no", "plant"]


def test_mappings_and_lists_nest(run):
    step = """
    map:
      order: { no: body.no, site: site.plant }
      parties: [ { role: "'buyer'", id: body.buyer }, body.extra ]
    """
    assert run(step, {"no": 7, "buyer": "B1", "extra": {"role": "payer"}}).body == {
        "order": {"no": 7, "site": "P10"},
        "parties": [{"role": "buyer", "id": "B1"}, {"role": "payer"}],
    }


def test_decimals_keep_their_digits(run):
    assert str(run("map: { qty: body.qty }", {"qty": Decimal("12.10")}).body["qty"]) == "12.10"


def test_field_that_gives_null_stays_as_null(run):
    assert run("map: { a: body.a, b: body.b }", {"a": 1}).body == {"a": 1, "b": None}


def test_optional_field_that_gives_null_is_left_out(run):
    assert run("map: { a?: body.a, b?: body.b }", {"a": False}).body == {"a": False}


def test_optional_field_keeps_an_empty_list_that_an_expression_gives(run):
    assert run("map: { a?: body.a }", {"a": []}).body == {"a": []}


def test_optional_mapping_is_left_out_when_nothing_is_left_in_it(run):
    step = "map: { no: body.no, address?: { street?: body.street, city?: body.city } }"
    assert run(step, {"no": 1}).body == {"no": 1}
    assert run(step, {"no": 1, "city": "Graz"}).body == {"no": 1, "address": {"city": "Graz"}}


def test_body_of_any_shape_is_taken(run):
    assert run("map: { all: body, x: body.x }", None).body == {"all": None, "x": None}
    assert run("map: { all: body }", ["a"]).body == {"all": ["a"]}


def test_headers_vars_and_meta_stay(run):
    answer = run("map: { a: body }", 1, headers={"x": "1"}, vars={"v": 2}, meta={"route": "r"})
    assert (answer.headers, answer.vars, answer.meta) == ({"x": "1"}, {"v": 2}, {"route": "r"})


def test_target_field_may_have_the_name_of_the_option(run):
    assert run("map: { fields: body.x }", {"x": 1}).body == {"fields": 1}


def test_failing_field_is_named_in_the_trace(run, context):
    with pytest.raises(MessageError):
        run("map: { a: body.n, lines: [ { sum: 'add(body.n, body.t)' } ] }", {"n": 1, "t": "x"})
    assert context.notes == {"field": "lines[0].sum"}


def test_failure_says_which_expression(run):
    with pytest.raises(InternalFault, match="add"):
        run("map: { a: 'add(body.n, body.t)' }", {"n": 1, "t": "x"})


def test_empty_mapping_and_list_inside_are_constants(run):
    assert run("map: { a: {}, b: [] }", 1).body == {"a": {}, "b": []}


@pytest.mark.parametrize(
    ("text", "code", "hint"),
    [
        ("map: body.order", "ESB103", "transform: { jmespath"),
        ("map: {}", "ESB102", "field: expression"),
        ("map: { a: 5 }", "ESB103", "`5` in backticks"),
        ("map:\n  a:", "ESB103", "`null`"),
        ("map: { a: 'body.' }", "ESB401", ""),
        ("map: { a: body.x, a?: body.y }", "ESB109", "same target field"),
        ("map: { o: { p: [ 7 ] } }", "ESB103", "backticks"),
    ],
)
def test_problem_says_what_to_write(problem_of, text, code, hint):
    problem = problem_of(text)
    assert problem.code == code
    assert hint in problem.hint


def test_problem_points_at_the_field(problem_of):
    problem = problem_of("map:\n  a: body.x\n  b:\n    c: 5\n")
    assert (problem.position.line, problem.position.column) == (4, 8)
    assert "`b.c`" in problem.message
