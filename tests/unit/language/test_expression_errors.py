"""What lint says about an expression: code, place, words, and what to write instead."""

from __future__ import annotations

from typing import Any

import pytest

from esb.language import ExpressionError
from esb.language.workspace import WorkspaceLanguage


def error_of(language: WorkspaceLanguage, text: str) -> ExpressionError:
    with pytest.raises(ExpressionError) as caught:
        language.expression(text)
    return caught.value


SYNTAX = [
    ("body.result = 'R'", 12, "compared with `==`"),
    ("body.items[?a = 'x']", 14, "compared with `==`"),
    ("body.a === body.b", 9, "`==`"),
    ("body.a <> body.b", 8, "`!=`"),
    ("body.a and body.b", 7, "`&&`"),
    ("body.a or body.b", 7, "`||`"),
    ("not body.a", 0, "`!`"),
    ("body.a & body.b", 7, "`&&`"),
    ("body.qty > 5", 11, "`5`"),
    ("body.qty > 1.5", 11, "`1.5`"),
    ("body.items[?qty > 5]", 18, "`5`"),
    ("round(body.qty, 2)", 16, "`2`"),
    ("body.a + body.b", 7, "add(left, right)"),
    ("body.a - body.b", 7, "sub(left, right)"),
    ("body.a -1", 7, "sub(left, right)"),
    ("body.a * body.b", 7, "mul(left, right)"),
    ("body.a / body.b", 7, "div(left, right)"),
    ("body.a % body.b", 7, "mod(left, right)"),
    ("body.a ? 'x' : 'y'", 7, "if_else"),
    ("body.lot-id", 8, '"lot-id"'),
    ("body.2nd", 5, '"2nd"'),
    ("body..x", 5, "one point"),
    ("body.items.0", 11, "[0]"),
    ("body['x']", 5, ".x"),
    ("body['a-b']", 5, '."a-b"'),
    ("body.items[a]", 11, "`?condition`"),
    ("join('-' [body.a])", 10, "commas"),
    ("body.x == 'it''s'", 14, "\\'"),
    ("“x”", 0, "straight quotes"),
    ("{{ body.x }}", 0, "write `body.x`"),
    ("body.x == `REJECT`", 10, "'REJECT'"),
    ("body.x == `True`", 10, "write `true`"),
    ("body.ok == true", 11, "`true` in backticks"),
    ("body.ok == True", 11, "`true` in backticks"),
    ("body.x == None", 10, "`null` in backticks"),
    ("body.items[?ok == true]", 18, "`true` in backticks"),
    ('body.items[?a == "REJECT"]', 17, "'REJECT'"),
    ('body.items[?contains("REJECT", a)]', 21, "'REJECT'"),
    ("(body.x", 0, "add `)`"),
    ("body.items[", 10, "add `]`"),
    ("sum(body.x", 3, "add `)`"),
    ("", 0, "body.lot.id"),
    ("   ", 0, "body.lot.id"),
]


@pytest.mark.parametrize(("text", "offset", "hint"), SYNTAX)
def test_a_slip_of_another_language_is_told_with_the_right_words(
    language: WorkspaceLanguage, text: str, offset: int, hint: str
) -> None:
    error = error_of(language, text)
    assert (error.code, error.offset) == ("ESB401", offset)
    assert hint in error.hint


@pytest.mark.parametrize(
    "text",
    ["'REJECT", '"x', "`1", "body.x ==", "body.", "body.x; x", "sum(body.x]]", "body.x, body.y", "{a: body.x b: body.y}",
     "{a: body.x,}", "sum(body.x,)", "${X}", "body.x.`1`", "&body.x", "body.items[::0]", "body.items[1:2:3:4]", "'a'('b')",
     '"sum"(body.x)', "body.items[?]", "[]x", "!", "body.x ||", "{}", "(", "`1e99999999`", '`{"a": 1, "a": 2}`', "`NaN`"],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_at_its_place(language: WorkspaceLanguage, text: str) -> None:
    error = error_of(language, text)
    assert error.code == "ESB401"
    assert 0 <= error.offset < max(len(text), 1)
    assert error.length >= 1
    assert "jmespath" not in str(error).lower()


@pytest.mark.parametrize(
    ("text", "offset", "length", "hint"),
    [
        ("lot.id", 0, 3, "body.lot"),
        ("boddy.lot", 0, 5, "`body`"),
        ("header.x", 0, 6, "`headers`"),
        ("Body.lot", 0, 4, "`body`"),
        ("bdoy.lot", 0, 4, "did you mean `body`?"),
        ("siet.plant", 0, 4, "did you mean `site`?"),
        ("size.plant", 0, 4, "body.size"),
        ("REJECT", 0, 6, "'REJECT'"),
        ('"REJECT"', 0, 8, "'REJECT'"),
        ('body.result == "REJECT"', 15, 8, "'REJECT'"),
        ("sum(samples[].qty)", 4, 7, "body.samples"),
        ("sort_by(samples, &qty)", 8, 7, "body.samples"),
        ("[body.a, lot]", 9, 3, "body.lot"),
        ("{a: lot}", 4, 3, "body.lot"),
        ("body.a || lot", 10, 3, "body.lot"),
        ("!lot", 1, 3, "body.lot"),
        ("lot[0]", 0, 3, "body.lot"),
        ("lots[?a == 'x']", 0, 4, "body.lots"),
        ("@.lot", 2, 3, "body.lot"),
        ("$.lot", 2, 3, "body.lot"),
        ("body.items[?a > $.lot]", 18, 3, "body.lot"),
        ("[0]", 0, 1, ""),
        ("[*].x", 0, 1, ""),
        ("[?a == 'x']", 0, 1, ""),
    ],
)
def test_an_expression_begins_with_a_part_of_the_message(
    language: WorkspaceLanguage, text: str, offset: int, length: int, hint: str
) -> None:
    error = error_of(language, text)
    assert (error.code, error.offset, error.length) == ("ESB402", offset, length)
    assert hint in error.hint


@pytest.mark.parametrize(
    "text",
    ["body.samples[].qty", "body.samples[?qty > `5`].n", "sort_by(body.samples, &qty)", "body | lot.id", "body.*.qty",
     "map(&lot, body.items)", "body.items[].{a: lot, b: x.y}", "body.items[0].lot", "(body.items)[0].lot", "body.x.[a, b]",
     "body.items[?true_flag]", 'body."true"', "vars | @.x", "site.plant || vars.plant", 'headers."content-type"',
     "join('-', [body.PO, body.Line])", "body.items[?\"odd name\" == 'x']", "@", "now()", "'literal'", "`5`"],
)  # fmt: skip
def test_inside_lists_and_after_pipes_names_are_those_of_the_value(language: WorkspaceLanguage, text: str) -> None:
    assert language.expression(text).text == text


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("toUpper(body.x)", "`upper`"),
        ("TO_UPPER(body.x)", "`upper`"),
        ("len(body.x)", "`length`"),
        ("uuid_v4()", "`uuid`"),
        ("currentDate()", "`now`"),
        ("nvl(body.x, 'a')", "`coalesce`"),
        ("substring(body.x, `1`)", "`substr`"),
        ("parseInt(body.x)", "`to_number`"),
        ("lpad(body.x, `10`)", "`pad`"),
        ("formatDate(body.x)", "`date_format`"),
        ("lookup('plants', body.x)", "`xref`"),
        ("sha256(body.x)", "`hash`"),
        ("sortBy(body.x, &y)", "`sort_by`"),
        ("rond(body.x)", "`round`"),
        ("first(body.x)", "list[0]"),
        ("filter(body.x)", "[?condition]"),
        ("isEmpty(body.x)", "!value"),
    ],
)
def test_an_unknown_function_is_told_with_the_nearest_one(language: WorkspaceLanguage, text: str, hint: str) -> None:
    error = error_of(language, text)
    assert (error.code, error.offset, error.length) == ("ESB403", 0, text.index("("))
    assert hint in error.hint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("round()", "takes 1 to 3 arguments, not 0"),
        ("round(body.x, `1`, 'up', `4`)", "takes 1 to 3 arguments, not 4"),
        ("join(body.x)", "takes 2 arguments, not 1"),
        ("upper(body.x, body.y)", "takes 1 argument, not 2"),
        ("now(body.x)", "takes no arguments, not 1"),
        ("add(body.x)", "takes at least 2 arguments, not 1"),
        ("sort_by(body.x, y)", "put `&` before it"),
        ("upper(&body.x)", "`&` cannot stand before it"),
        ("map(body.x, &y)", "put `&` before it"),
        ("number(body.x, 'xx-YY')", "unknown locale 'xx-YY'"),
        ("number(body.x, 'de')", ""),
        ("round(body.x, `2`, 'bankers')", "unknown mode"),
        ("date_parse(body.x, 'QQ')", "unknown part `QQ`"),
        ("date_parse(body.x, '%H:%M')", "names no full date"),
        ("date_format(body.x, '%K')", "unknown part `%K`"),
        ("in_zone(body.x, 'Mars/Olympus')", "unknown time zone"),
        ("date_format(body.x, '%Y', 'Mars')", "unknown time zone"),
        ("date_add(body.x, '3 weeks')", "is not a duration"),
        ("xref('plant', body.x)", "did you mean 'plants'?"),
    ],
)
def test_arguments_are_checked_as_far_as_they_are_written_out(
    language: WorkspaceLanguage, text: str, words: str
) -> None:
    if not words:
        language.expression(text)
        return
    error = error_of(language, text)
    assert (error.code, error.offset) == ("ESB304" if text.startswith("xref") else "ESB404", 0)
    assert words in error.message


@pytest.mark.parametrize(
    "text",
    ["(" * 200 + "body" + ")" * 200, "!" * 300 + "body", "body.a[" + "body[" * 150, "body" + " || body" * 3000,
     "body" + "[*].a" * 1000, "body" + " | @" * 3000, "[" * 90 + "body" + "]" * 90 + "(" * 20, "x" * 70_000,
     "sum(" * 99 + "body" + ")" * 99 + "(" * 30],
)  # fmt: skip
def test_deep_and_endless_expressions_are_refused(language: WorkspaceLanguage, text: str) -> None:
    assert error_of(language, text).code == "ESB401"


def test_long_but_flat_expressions_are_fine(language: WorkspaceLanguage) -> None:
    wide = "{" + ", ".join(f"f{n}: body.a{n}.b" for n in range(500)) + "}"
    scope = {"body": {"a7": {"b": 1}}}
    assert language.expression(wide)(scope)["f7"] == 1
    assert language.expression("body" + ".a" * 2000)(scope) is None
    deep = "[" * 60 + "body.a7.b" + "]" * 60
    assert language.expression(deep)(scope)[0][0][0] is not None


def test_brackets_in_texts_do_not_count_as_nesting(language: WorkspaceLanguage) -> None:
    assert language.expression("'" + "([{" * 200 + "'")({}) == "([{" * 200


def test_places_in_a_text_of_several_lines(language: WorkspaceLanguage) -> None:
    error = error_of(language, "body.a\n  && lot.id")
    assert (error.line, error.column, error.offset) == (2, 6, 12)
    error = error_of(language, "{\n  a: body.x,\n  b: body.y = 'x'\n}")
    assert (error.line, error.column) == (3, 13)


def test_projections_may_stand_in_each_other_deeply(language: WorkspaceLanguage) -> None:
    """Python itself allows no more than twenty nested blocks."""
    value: Any = 1
    for _ in range(60):
        value = {"a": [value]}
    found = language.expression("body" + ".a[*]" * 60)({"body": value})
    for _ in range(60):
        (found,) = found
    assert found == 1
    assert language.expression("body" + ".a[?@ || `false`]" * 40)({"body": value}) is not None
