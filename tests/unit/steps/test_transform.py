from __future__ import annotations

import pytest

from esb.errors import InternalFault


def test_file_gives_the_body(run):
    assert run("transform: transforms/lot.jmes", {"id": 5}).body == {"lot": 5}
    assert run("transform: { file: transforms/lot.jmes }", {"id": 5}).body == {"lot": 5}


def test_expression_gives_the_body(run):
    answer = run("transform: { jmespath: 'body.lines[].{ pos: nr }' }", {"lines": [{"nr": 1}, {"nr": 2}]})
    assert answer.body == [{"pos": 1}, {"pos": 2}]


def test_template_text_is_read_as_json_if_nothing_is_said(run):
    step = """
    transform:
      jinja: '{ "lot": {{ body.lot | tojson }}, "qty": 12.10 }'
    """
    body = run(step, {"lot": 'a "b"'}).body
    assert body["lot"] == 'a "b"'
    assert str(body["qty"]) == "12.10"


def test_template_text_is_read_as_xml(run):
    step = "transform: { jinja: '<Lot no=\"{{ body.no }}\"/>', format: xml }"
    assert run(step, {"no": "01"}).body == {"Lot": {"@no": "01"}}


def test_template_text_may_stay_text(run):
    assert run("transform: { jinja: 'Lot {{ body.no }}', format: text }", {"no": 1}).body == "Lot 1"


def test_encoding_of_a_format_does_not_touch_template_text(run):
    step = "transform: { jinja: 'a;b\\n{{ body }};ß', format: { csv: { delimiter: ';', encoding: cp1252 } } }"
    assert run(step.replace("'a;b\\n{{ body }};ß'", '"a;b\\n{{ body }};ß"'), "ž€").body == [{"a": "ž€", "b": "ß"}]


def test_broken_text_of_a_template_is_a_fault_of_the_route(run):
    with pytest.raises(InternalFault, match="cannot be read") as caught:
        run("transform: { jinja: '{ \"a\": {{ body }} }', format: json }", "unquoted")
    assert "tojson" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("transform: { jmespath: body.x, jinja: '{{ body }}' }", "ESB107"),
        ("transform: { file: transforms/lot.jmes, jmespath: body.x }", "ESB107"),
        ("transform: { format: json }", "ESB107"),
        ("transform: { jmespath: body.x, format: json }", "ESB107"),
        ("transform: transforms/nowhere.jmes", "ESB302"),
        ("transform: { jinja: '{{ body' }", "ESB406"),
        ("transform: { jinja: 'x', format: jsn }", "ESB205"),
    ],
)
def test_problem_has_its_code(problem_of, text, code):
    assert problem_of(text).code == code
