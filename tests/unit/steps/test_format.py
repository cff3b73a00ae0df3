from __future__ import annotations

from decimal import Decimal

import pytest

from esb.errors import Invalid


def test_body_becomes_text(run):
    assert run("format: json", {"qty": Decimal("12.10")}).body == '{"qty":12.10}'


def test_part_of_the_message_becomes_text(run):
    step = "format: { as: { csv: { delimiter: ';' } }, from: body.rows }"
    assert run(step, {"rows": [{"a": 1, "b": "x"}]}).body.splitlines() == ["a;b", "1;x"]


def test_xml_text_says_what_it_is(run):
    assert run("format: xml", {"Lot": {"@no": "ü"}}).body.endswith('<Lot no="ü"/>')


def test_other_encoding_than_utf8_gives_bytes(run):
    assert run("format: { text: { encoding: cp1252 } }", "ü").body == b"\xfc"
    assert run("format: text", "ü").body == "ü"


def test_raw_bytes_stay_bytes(run):
    assert run("format: raw", b"\0").body == b"\0"


def test_what_the_format_cannot_hold_is_invalid(run):
    with pytest.raises(Invalid):
        run("format: text", {"a": 1})
    with pytest.raises(Invalid):
        run("format: xml", None)


def test_unknown_format_is_a_problem(problem_of):
    problem = problem_of("format: xlm")
    assert (problem.code, problem.hint) == ("ESB205", "did you mean `xml`?")
