from __future__ import annotations

import pytest

from esb.errors import Invalid


def test_text_body_is_read(run):
    assert run("parse: json", '{"lot": "0012"}').body == {"lot": "0012"}


def test_bytes_are_read_in_the_declared_encoding(run):
    step = "parse: { csv: { delimiter: ';', encoding: cp1252 } }"
    assert run(step, "name;n\nMüller;007\n".encode("cp1252")).body == [{"name": "Müller", "n": "007"}]


def test_text_is_read_whatever_encoding_the_bytes_would_have(run):
    step = "parse: { csv: { delimiter: ';', encoding: cp1252 } }"
    assert run(step, "name\nŽ☃\n").body == [{"name": "Ž☃"}]


def test_xml_text_with_a_declared_encoding_is_read(run):
    text = '<?xml version="1.0" encoding="ISO-8859-1"?><a>ü</a>'
    assert run("parse: xml", text).body == {"a": "ü"}
    assert run("parse: xml", text.encode("iso-8859-1")).body == {"a": "ü"}


def test_part_of_the_message_is_read(run):
    assert run("parse: { as: json, from: body.attachment }", {"attachment": "[1]"}).body == [1]
    step = "parse: { as: { csv: { delimiter: ';' } }, from: vars.text }"
    assert run(step, None, vars={"text": "a;b\n1;2\n"}).body == [{"a": "1", "b": "2"}]


def test_text_that_is_not_in_the_format_is_invalid(run):
    with pytest.raises(Invalid):
        run("parse: json", "{nope}")


@pytest.mark.parametrize(
    ("body", "words"),
    [({"a": 1}, "an object"), ([], "a list"), (None, "null"), (5, "the number 5"), (True, "`true`")],
)
def test_what_is_no_text_is_invalid(run, body, words):
    with pytest.raises(Invalid, match=f"the body is {words}, not a text") as caught:
        run("parse: json", body)
    assert caught.value.hint


def test_missing_part_is_named(run):
    with pytest.raises(Invalid, match=r"`body\.x` is null"):
        run("parse: { as: json, from: body.x }", {})


@pytest.mark.parametrize(
    ("text", "code"), [("parse: jsn", "ESB205"), ("parse: { from: body.x }", "ESB102"), ("parse: 5", "ESB103")]
)
def test_problem_has_its_code(problem_of, text, code):
    assert problem_of(text).code == code


def test_other_words_for_the_options_are_answered(problem_of):
    assert problem_of("parse: { format: json, from: body.x }").hint == "here it is `as`"
