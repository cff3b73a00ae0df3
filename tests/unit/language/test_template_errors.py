"""What lint says about a template: code, place, words, and what to write instead."""

from __future__ import annotations

import pytest

from esb.language import ExpressionError
from esb.language.workspace import WorkspaceLanguage


def error_of(language: WorkspaceLanguage, text: str) -> ExpressionError:
    with pytest.raises(ExpressionError) as caught:
        language.template(text)
    return caught.value


@pytest.mark.parametrize(
    ("text", "offset", "words"),
    [
        ("{{ body.lot", 0, "`}}`"),
        ("{{ body.lot }", 12, "`}` cannot stand here"),
        ("{{ body.lot && 1 }}", 12, "write `and`"),
        ("{{ body.lot == `5` }}", 15, "text stands in quotes"),
        ("{{ $x }}", 3, "names begin with"),
        ("{{ body.a ? 1 : 2 }}", 10, "a if condition else b"),
        ("{{ body.lot 'x' }}", 0, "with `~`"),
        ("{{ body.lot x }}", 12, "with `~`"),
        ("{{ body.lot = 1 }}", 12, "`==`"),
        ("{% if body.lot = 1 %}{% endif %}", 15, "`==`"),
        ("{{ pad(body.lot, 5 }}", 20, "`)` is missing"),
        ("{{ body. }}", 0, "a name is missing"),
        ("{{ 'abc }}", 3, "has no end"),
        ("{% foo %}", 3, "tags are"),
        ("{% if body.lot %}", 3, "add {% endif %}"),
        ("{# x", 0, "comment"),
        ("{% endfor %}", 3, "as a tag"),
        ("{% for x body.lot %}{% endfor %}", 9, "`in` is expected"),
        ("{{ }}", 0, "`}}` stands where an expression is expected"),
        ("{{ 1e99999 }}", 0, ""),
    ],
)
def test_syntax_is_told_in_plain_words(language: WorkspaceLanguage, text: str, offset: int, words: str) -> None:
    error = error_of(language, text)
    assert (error.code, error.offset) == ("ESB406", offset)
    assert words in error.message + error.hint


@pytest.mark.parametrize(
    ("text", "code", "word", "hint"),
    [
        ("{{ lot }}", "ESB407", "lot", "body.lot"),
        ("{{ lot.id }}", "ESB407", "lot", "body.lot"),
        ("{{ boddy.x }}", "ESB407", "boddy", "`body`"),
        ("{{ header['x'] }}", "ESB407", "header", "`headers`"),
        ("{% for i in items %}{% endfor %}", "ESB407", "items", "body.items"),
        ("{% for i in body.items %}{% set j = i %}{% endfor %}{{ j }}", "ESB407", "j", "body.j"),
        ("{% for i in body.items %}{% if i %}{% set j = i %}{% endif %}{% endfor %}{{ j }}", "ESB407", "j", "body.j"),
        ("{{ x }}{% set x = 1 %}", "ESB407", "x", "body.x"),
        ("{% if body.a %}{% set x = y %}{% endif %}{{ x }}", "ESB407", "y", "body.y"),
        ("{% for i in body.items %}{{ j }}{% endfor %}", "ESB407", "j", "body.j"),
        ("{% if lot %}{% endif %}", "ESB407", "lot", "body.lot"),
        ("{{ body.x | default(lot) }}", "ESB407", "lot", "body.lot"),
        ("{{ now }}", "ESB407", "now", "now(…)"),
        ("{{ body.lot | toUpper }}", "ESB407", "toUpper", "`upper`"),
        ("{{ body.lot | uper }}", "ESB407", "uper", "`upper`"),
        ("{{ body.lot | int }}", "ESB407", "int", "to_number"),
        ("{{ body.lot | float }}", "ESB407", "float", "exact decimals"),
        ("{{ body.lot | attr('x') }}", "ESB407", "attr", "get(object, name)"),
        ("{{ body.lot | format(1) }}", "ESB407", "format", "`~`"),
        ("{{ body.lot | safe }}", "ESB407", "safe", "`| x`"),
        ("{{ body.lot | center(9) }}", "ESB407", "center", "pad(10)"),
        ("{{ body.lot is lowercase }}", "ESB407", "lowercase", "tests are"),
        ("{{ toUpper(body.lot) }}", "ESB403", "toUpper", "`upper`"),
        ("{{ uuid_v4() }}", "ESB403", "uuid_v4", "`uuid`"),
        ("{{ len(body.lot) }}", "ESB403", "len", "`length`"),
        ("{{ pad(body.lot) }}", "ESB404", "pad", "pad(text, width, character?)"),
        ("{{ body.lot | pad }}", "ESB404", "pad", "pad(text, width, character?)"),
        ("{{ body.lot | upper(1) }}", "ESB404", "upper", "upper(text)"),
        ("{{ pad(body.lot, width=3) }}", "ESB404", "pad", "pad(text, width, character?)"),
        ("{{ body.x | number('xx-YY') }}", "ESB404", "number", "number("),
        ("{{ body.x | date_format('QQ') }}", "ESB404", "date_format", "date_format("),
        ("{{ body.x | in_zone('Mars') }}", "ESB404", "in_zone", "in_zone("),
        ("{{ xref('plant', body.x) }}", "ESB304", "xref", "xref("),
        ("{{ body.x | xref('plant') }}", "ESB304", "xref", "xref("),
        ("{{ body.x | round(1, 'bankers') }}", "ESB404", "round", "round("),
    ],
)
def test_names_filters_and_calls_are_checked_at_load(
    language: WorkspaceLanguage, text: str, code: str, word: str, hint: str
) -> None:
    error = error_of(language, text)
    assert (error.code, text[error.offset : error.offset + error.length]) == (code, word)
    assert hint in error.hint


def test_names_that_a_template_sets_are_known(language: WorkspaceLanguage) -> None:
    for text in (
        "{% set lot = body.lot %}{{ lot }}",
        "{% for i in body.items %}{{ loop.index }}{{ i.x }}{% endfor %}",
        "{% macro m(a) %}{{ a }}{{ varargs }}{{ kwargs }}{{ caller() }}{% endmacro %}",
        "{% with a = 1 %}{{ a }}{% endwith %}",
        "{% set now = body.x %}{{ now }}",
        "{% if body.a %}{% set x = 1 %}{% else %}{% set x = 2 %}{% endif %}{{ x }}",
        "{% if body.a %}{% set x = 1 %}{% elif body.b %}{% set x = 2 %}{% endif %}{{ x | default('none') }}",
        "{% if body.a %}{% set x = body.b %}{{ x }}{% endif %}",
        "{% for i in body.items %}{% if i.a %}{% set x = i.a %}{% else %}{% set x = 0 %}{% endif %}{{ x }}{% endfor %}",
        "{% if body.a %}{% set x %}text{% endset %}{% endif %}{% for i in body.items %}{{ x }}{% endfor %}",
    ):
        language.template(text)


def test_places_in_a_text_of_several_lines(language: WorkspaceLanguage) -> None:
    error = error_of(language, "<a>\n  <b>lot {{ lot }}</b>\n</a>")
    assert (error.line, error.column, error.length) == (2, 13, 3)
    error = error_of(language, "{# one #}\n\n{{ body.x | nofilter }}")
    assert (error.line, error.column) == (3, 13)
    error = error_of(language, "one\n{{ body.x 5 }}")
    assert error.line == 2


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("{% include 'nowhere.j2' %}", "ESB406", "there is no file `nowhere.j2`"),
        ("{% include body.name %}", "ESB406", "must be written out"),
        ("{% include 'a' ~ body.name %}", "ESB406", "must be written out"),
        ("{% include ['row.j2', 'b.j2'] %}", "ESB406", "must be written out"),
        ("{% import body.name as m %}", "ESB406", "must be written out"),
        ("{% extends body.name %}", "ESB406", "must be written out"),
        ("{% include 'loop.j2' %}", "ESB406", "includes itself"),
        ("{% include 'main.j2' %}", "ESB406", "includes itself"),
        ("{% include 'broken.j2' %}", "ESB407", "in `broken.j2`, line 2: there is no filter `nofilter`"),
        ("{% include 'unknown.j2' %}", "ESB407", "in `unknown.j2`, line 1: `nothing_set` is not known here"),
        ("{% include '../secret.j2' %}", "ESB406", "there is no file"),
        ("{% include '/etc/passwd' %}", "ESB406", "there is no file"),
        ("{% include 'a/../../b' %}", "ESB406", "there is no file"),
        ("{% include 'C:/x' %}", "ESB406", "there is no file"),
        ("{% include '..\\\\x' %}", "ESB406", "there is no file"),
    ],
)
def test_includes_are_checked_at_load(text: str, code: str, words: str) -> None:
    files = {
        "main.j2": "x",
        "loop.j2": "{% include 'loop2.j2' %}",
        "loop2.j2": "{% include 'loop.j2' %}",
        "broken.j2": "line one\n{{ body.lot | nofilter }}",
        "unknown.j2": "{{ nothing_set }}",
    }
    asked: list[str] = []

    def include(name: str) -> str | None:
        asked.append(name)
        return files.get(name)

    with pytest.raises(ExpressionError) as caught:
        WorkspaceLanguage(include=include).file_template(text, "main.j2")
    assert caught.value.code == code
    assert words in caught.value.message
    assert not any(".." in name or name.startswith("/") or ":" in name for name in asked)


def test_without_a_folder_nothing_can_be_included(language: WorkspaceLanguage) -> None:
    assert error_of(language, "{% include 'x.j2' %}").code == "ESB406"


@pytest.mark.parametrize(
    "text",
    ["{{ " + "(" * 500 + "1" + ")" * 500 + " }}", "{{ " + "[" * 900 + "]" * 900 + " }}", "{% if 1 %}" * 400 + "{% endif %}" * 400,
     "{{ body" + ".a" * 5000 + " }}", "x" * 1_000_001 + "{{ body }}", "{{ " + "not " * 3000 + "1 }}", "{{ " + "9" * 5000 + " }}"],
)  # fmt: skip
def test_deep_and_endless_templates_are_refused(language: WorkspaceLanguage, text: str) -> None:
    assert error_of(language, text).code == "ESB406"
