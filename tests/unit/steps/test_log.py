from __future__ import annotations

from decimal import Decimal

import pytest


def test_line_is_written_at_info(run, context):
    answer = run("log: 'lot {{ body.lot }}'", {"lot": 7})
    assert answer.body == {"lot": 7}
    assert context.lines == [("info", "lot 7", {})]


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_level_and_fields_are_given_on(run, context, level):
    run(f"log: {{ text: x, level: {level}, fields: {{ qty: body.qty, all: body }} }}", {"qty": Decimal("1.50")})
    assert context.lines == [(level, "x", {"qty": "1.50", "all": {"qty": Decimal("1.50")}})]


def test_line_that_fails_never_fails_the_message(run, context):
    assert run("log: { text: '{{ body.x.y }}', fields: { n: 'add(body, `1`)' } }", "text").body == "text"
    level, text, fields = context.lines[0]
    assert level == "info"
    assert text.startswith("(this line failed: ")
    assert fields["n"].startswith("(failed: ")


def test_long_texts_are_cut(run, context):
    run("log: { text: '{{ body }}', fields: { a: body, b: '[body]', c: '`null`', d: '`true`' } }", "x" * 5000)
    _, text, fields = context.lines[0]
    assert (len(text), text[-1]) == (2000, "…")
    assert (len(fields["a"]), len(fields["b"])) == (2000, 2000)
    assert (fields["c"], fields["d"]) == (None, True)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("log: { text: x, fields: { route: body.x } }", "ESB109"),
        ("log: { text: x, level: loud }", "ESB105"),
        ("log: { message: x }", "ESB101"),
        ("log: '{{ body'", "ESB406"),
        ("log: { fields: { a: body } }", "ESB102"),
    ],
)
def test_problem_has_its_code(problem_of, text, code):
    assert problem_of(text).code == code
