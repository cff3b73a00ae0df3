"""Texts and files: what they give, what they cost nothing for, how they fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest

from esb.errors import InternalFault, Unmapped
from esb.language.workspace import WorkspaceLanguage

Scope = Callable[..., dict[str, Any]]

BODY = {
    "lot": "L-1",
    "qty": Decimal("12.10"),
    "n": 3,
    "ok": True,
    "nothing": None,
    "items": [{"a": 1, "p": "x"}, {"a": 2, "p": "y"}, {"a": 2, "p": "z"}],
    "by": {"items": "field", "keys": 5, "upper": "up"},
    "text": "a<b & 'c'",
    "list": ["b", "a", "b"],
    "plant": "P10",
    "_id": "under",
    "__metadata": {"uri": "u"},
    "at": "2026-01-05T09:00:00Z",
    "deep": {"er": {"still": [[1, 2], [3]]}},
}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("/lots/{{ body.lot }}/x", "/lots/L-1/x"),
        ("{{ body.qty }}", "12.10"),
        ("{{ body['lot'] }}", "L-1"),
        ("{{ body.items[1].p }}", "y"),
        ("{{ body.items[-1]['p'] }}", "z"),
        ("{{ body.deep.er.still[0][1] }}", "2"),
        ("{{ body.ok }}", "true"),
        ("{{ body.items | tojson }}", '[{"a":1,"p":"x"},{"a":2,"p":"y"},{"a":2,"p":"z"}]'),
        ("{{ body.deep }}", '{"er":{"still":[[1,2],[3]]}}'),
        ("{{ body.by.items }}", "field"),
        ("{{ body.by.keys }}", "5"),
        ("{{ body.by['upper'] }}", "up"),
        ("{{ body._id }}", "under"),
        ("{{ body.__metadata.uri }}", "u"),
        ("{{ body.text | x }}", "a&lt;b &amp; &apos;c&apos;"),
        ("{{ body.text | e }}", "a&lt;b &amp; &apos;c&apos;"),
        ("{{ body.text }}", "a<b & 'c'"),
        ("{{ body.nothing | default('none') }}", "none"),
        ("{{ body.missing | default('none') }}", "none"),
        ("{{ body.missing.deeper[0].x | default('none') }}", "none"),
        ("{{ body.nothing.deeper | default('none') }}", "none"),
        ("{{ body.lot.deeper | default('none') }}", "none"),
        ("{{ coalesce(body.missing, body.nothing, body.lot) }}", "L-1"),
        ("{{ '' | default('none', true) }}", "none"),
        ("{% if body.missing is defined %}y{% else %}n{% endif %}", "n"),
        ("{% if body.lot is defined %}y{% else %}n{% endif %}", "y"),
        ("{% if body.nothing is none %}y{% endif %}", "y"),
        ("{{ body.at | date_format('%Y/%m') }}", "2026/01"),
        ("{{ body.at | date_format('HH:mm') }}", "10:00"),
        ("{{ body.lot | pad(6) | upper }}", "000L-1"),
        ("{{ pad(body.n, 4) }}", "0003"),
        ("{{ concat('a', body.n) }}", "a3"),
        ("{{ body.lot ~ '/' ~ body.qty ~ body.ok }}", "L-1/12.10true"),
        ("{{ body.qty + 1 }}", "13.10"),
        ("{{ body.qty + 0.05 }}", "12.15"),
        ("{{ 12.10 }}", "12.10"),
        ("{{ 0.1 + 0.2 }}", "0.3"),
        ("{{ 1 / 3 }}", "0.3333333333333333333333333333333333"),
        ("{{ 7 // 2 }} {{ 7 % 4 }} {{ 2 ** 10 }} {{ -body.qty }} {{ +body.n }}", "3 3 1024 -12.10 3"),
        ("{{ 7.5 // 2 }}", "3"),
        ("{{ body.n * 'ab' }}{{ 'x' * 2 }}", "abababxx"),
        ("{{ 'a' + body.lot }}", "aL-1"),
        ("{{ ([1] + [2]) | tojson }}", "[1,2]"),
        ("{{ body.qty > 12 and body.n == 3 }}", "true"),
        ("{{ 'y' if body.ok else 'n' }}", "y"),
        ("{{ round(body.qty, 1) }} {{ body.qty | round(1) }}", "12.1 12.1"),
        ("{{ body.items | sum(attribute='a') }} {{ [0.1, 0.2] | sum }}", "5 0.3"),
        ("{{ body.items | map(attribute='p') | join('-') }}", "x-y-z"),
        ("{{ body.items | join('-', attribute='a') }}", "1-2-2"),
        ("{{ join('-', body.list) }}", "b-a-b"),
        ("{{ body.items | selectattr('a', 'eq', 2) | map(attribute='p') | list | tojson }}", '["y","z"]'),
        ("{{ body.items | length }} {{ body.lot | count }}", "3 3"),
        ("{{ body.list | unique | join(',') }}", "b,a"),
        ("{{ body.list | sort | join(',') }} {{ body.list | first }}{{ body.list | last }}", "a,b,b bb"),
        ("{{ body.items | groupby('a') | map(attribute='grouper') | join(',') }}", "1,2"),
        ("{% for g in body.items | groupby('a') %}{{ g.grouper }}:{{ g.list | length }};{% endfor %}", "1:1;2:2;"),
        ("{% for a, l in body.items | groupby('a') %}{{ a }}:{{ l | length }};{% endfor %}", "1:1;2:2;"),
        ("{{ body.items | batch(2) | length }}", "2"),
        ("{{ (body.items | max(attribute='a')).p }}", "y"),
        ("{{ [3, 1.5] | min }}", "1.5"),
        ("{% for k, v in body.by | dictsort %}{{ k }}={{ v }};{% endfor %}", "items=field;keys=5;upper=up;"),
        ("{% for k, v in body.deep.items() %}{{ k }}{% endfor %}", "er"),
        ("{% for k in body.deep %}{{ k }}{% endfor %}", "er"),
        ("{{ body.lot.upper() }} {{ body.lot.startswith('L') }} {{ 'a-b'.split('-') | tojson }}", 'L-1 true ["a","b"]'),
        ("{{ '-'.join(['a', 'b']) }} {{ 'a.b'.replace('.', '') }}", "a-b ab"),
        ("{{ body.get('lot') }}{{ body.get('none', 'd') }}", "L-1d"),
        ("{% for i in body.items %}{{ loop.index }}/{{ loop.length }}{% if not loop.last %},{% endif %}{% endfor %}",
         "1/3,2/3,3/3"),
        ("{% for i in range(3) %}{{ loop.cycle('a', 'b') }}{% endfor %}", "aba"),
        ("{% for i in [] %}x{% else %}none{% endfor %}", "none"),
        ("{% for i in body.items if i.a > 1 %}{{ i.p }}{% endfor %}", "yz"),
        ("{% set t = body.lot %}{{ t }}", "L-1"),
        ("{% set t %}[{{ body.lot }}]{% endset %}{{ t }}", "[L-1]"),
        ("{% with t = body.n + 1 %}{{ t }}{% endwith %}", "4"),
        ("{% macro m(x, y=2) %}<{{ x }}{{ y }}>{% endmacro %}{{ m(body.lot) }}{{ m(1, y=3) }}", "<L-12><13>"),
        ("{% macro m() %}({{ caller() }}){% endmacro %}{% call m() %}in{% endcall %}", "(in)"),
        ("{% filter upper %}{{ body.lot }}a{% endfilter %}", "L-1A"),
        ("{% raw %}{{ body.lot }}{% endraw %}", "{{ body.lot }}"),
        ("{# comment #}{{ body.lot }}", "L-1"),
        ("{{ xref('plants', body.plant) }} {{ body.plant | xref('plants') }} {{ body.plant | xref('plants', 'name') }}",
         "1000 1000 Graz"),
        ("{% if true %}{{ body.plant | xref('plants') }}{{ xref('plants', 'P20', 'name') }}{% endif %}", "1000Linz"),
        ("{{ uuid(body.lot) == uuid('L-1') }} {{ hash('abc') | truncate(9, true, '…') }}", "true ba7816bf…"),
        ("{{ number('1.234,5', 'de-DE') }} {{ '1.234,5' | number('de-DE') }}", "1234.5 1234.5"),
        ("{{ starts_with(body.lot, 'L') }} {{ body.lot | contains('-') }}", "true true"),
        ("{{ 'a b/ü' | urlencode }}", "a%20b/%C3%BC"),
        ("{{ headers['x-id'] }} {{ headers | tojson }}", '7 {"x-id":"7"}'),
        ("{{ [headers, body.qty] | tojson }}", '[{"x-id":"7"},12.10]'),
        ("{{ meta.when }}", "2026-01-05T09:00:00Z"),
        ("a\r\nb {{ body.lot }}\n", "a\nb L-1\n"),
        ("{{ body.items[0:2] | length }} {{ body.lot[0] }}", "2 L"),
        ("{{ '{{' }} {{ body.lot }}", "{{ L-1"),
        ("{{ 1000000 * 1000000.50 }}", "1000000500000.00"),
        ("{{ 'a\nb' | indent(2) }}", "a\n  b"),
        ("{% if body.lot %}{% set x = 'a' %}{% else %}{% set x = 'b' %}{% endif %}{{ x }}", "a"),
        ("{% if not body.lot %}{% set x = 'a' %}{% endif %}{{ x | default('none') }}", "none"),
    ],
)  # fmt: skip
def test_template_gives(language: WorkspaceLanguage, scope: Scope, text: str, result: str) -> None:
    given = scope(
        BODY,
        headers=MappingProxyType({"x-id": "7"}),
        meta={"when": datetime(2026, 1, 5, 9, tzinfo=UTC)},
        site={"city": "Linz"},
    )
    assert language.template(text).render(given) == result


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{{ body.missing }}", "there is no `body.missing` in this message"),
        ("{{ body.items[7].p }}", "there is no `body.items.7.p`"),
        ("{{ body.lot.deeper }}", "there is no `body.lot.deeper`"),
        ("{% if true %}{{ body.missing }}{% endif %}", "there is no `missing`"),
        ("{% if true %}{{ body.missing.deeper }}{% endif %}", "there is no `missing`"),
        ("{% if true %}{{ body.lot.deeper }}{% endif %}", "the text 'L-1' has no field `deeper`"),
        ("{% if body.missing %}{% endif %}", "there is no `missing`"),
        ("{% for x in body.missing %}{% endfor %}", "there is no `missing`"),
        ("{{ body.nothing }}", "`body.nothing` is null"),
        ("{% if true %}{{ body.nothing }}{% endif %}", "a value is null"),
        ("{{ body.lot ~ body.nothing }}", "it is null"),
        ("{{ body.missing | upper }}", "there is no `body.missing`"),
        ("{{ body.lot | pad(body.missing) }}", "there is no `body.missing`"),
        ("{{ body.missing + 1 }}", "there is no `missing`"),
        ("{{ -body.missing }}", "there is no `missing`"),
        ("{{ [body.missing] | tojson }}", "cannot be written as JSON"),
        ("{{ body.items | map('upper') }}", "cannot be written as text"),
        ("{{ body.lot + 1 }}", "`+` cannot take the text 'L-1' and the number 1"),
        ("{{ body.lot % 1 }}", "not formatted with `%`"),
        ("{{ -body.lot }}", "needs a number"),
        ("{{ body.lot < 1 }}", "not supported"),
        ("{{ body.lot() }}", "is not available"),
        ("{{ body.by.items() }}", "is not a function"),
        ("{{ body.lot.nothing() }}", "`nothing` cannot be called on the text"),
        ("{{ upper(body.n) }}", "`text` must be text"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ '\x00' | x }}", "U+0000 cannot stand in XML"),
        ("{{ body.items | join(1) }}", "`separator` must be text"),
        ("{{ body.items | join(',') }}", "it is an object"),
        ("{{ body.n | length }}", "needs text, a list or an object"),
        ("{% for x in body.n %}{% endfor %}", "a loop needs a list, this is the number 3"),
        ("{{ 10 ** 100 }}", "power from 0 to 64"),
    ],
)  # fmt: skip
def test_a_template_that_fails_on_a_message_says_why(
    language: WorkspaceLanguage, scope: Scope, text: str, words: str
) -> None:
    template = language.template(text)
    with pytest.raises(InternalFault) as caught:
        template.render(scope(BODY))
    assert words in str(caught.value) or words == "is not available"


def test_a_missing_row_of_a_table_stays_what_it_is(language: WorkspaceLanguage, scope: Scope) -> None:
    for text in ("{{ body | xref('plants') }}", "{% if true %}\n{{ xref('plants', body) }}{% endif %}"):
        with pytest.raises(Unmapped):
            language.template(text).render(scope("P99"))


def test_text_without_jinja_is_given_back_as_it_is(language: WorkspaceLanguage, scope: Scope) -> None:
    for text in ("/in/*.csv", "", "a { b } % c #", "two\r\nlines\n"):
        template = language.template(text)
        assert template.constant
        assert template.evaluate(scope()) is text
    assert not language.template("{{ body }}").constant
    assert not language.template("{# only a comment #}").constant


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("/lots/{{ body.lot.id }}/{{ site.plant }}", {"body.lot.id", "site.plant"}),
        ("{{ body['lot']['id'] }}", {"body.lot.id"}),
        ("{{ body.items[0].x }}", {"body.items.0.x"}),
        ("{% for i in body.items %}{{ i.x }}{% endfor %}", {"body.items"}),
        ("{{ vars.x | default(meta.y) }}", {"vars.x", "meta.y"}),
        ("{{ body.lot.upper() }}", {"body.lot"}),
        ("{{ body.items[vars.n] }}", {"body.items", "vars.n"}),
        ("plain", set()),
    ],
)
def test_names_are_the_paths_that_it_reads(language: WorkspaceLanguage, text: str, names: set[str]) -> None:
    assert language.template(text).names == names


def test_what_a_message_holds_is_never_a_template(language: WorkspaceLanguage, scope: Scope) -> None:
    hostile = "{{ 7 * 7 }} {% for i in range(9) %}{% endfor %} ${HOME} {# #}"
    for text in ("{{ body.x }}", "{% if true %}{{ body.x }}{% endif %}", "{{ body.x | trim }}", "{{ body.x ~ '' }}"):
        assert language.template(text).render(scope({"x": hostile})) == hostile
    assert json.loads(language.template("{{ body | tojson }}").render(scope({"x": hostile}))) == {"x": hostile}


def test_one_rendering_leaves_nothing_for_the_next(language: WorkspaceLanguage, scope: Scope) -> None:
    template = language.template("{% set t = body.x %}{% for i in [1] %}{% set u = t %}{{ u }}{% endfor %}{{ t }}")
    assert template.render(scope({"x": "A"})) == "AA"
    assert template.render(scope({"x": "B"})) == "BB"


# -- files ----------------------------------------------------------------------------------------------------------------

FILES = {
    "row.j2": "<row>{{ item.p | x }}</row>",
    "macros.j2": "{% macro tag(name, value) %}<{{ name }}>{{ value | x }}</{{ name }}>{% endmacro %}",
    "base.j2": "<doc>{% block content %}{% endblock %}</doc>",
    "sub/leaf.j2": "leaf {{ body.lot }}",
    "loop.j2": "{% include 'loop2.j2' %}",
    "loop2.j2": "{% include 'loop.j2' %}",
    "broken.j2": "line one\n{{ body.lot | nofilter }}",
    "unknown.j2": "{{ nothing_set }}",
    "fails.j2": "one\ntwo {{ body.missing }}",
}


@pytest.fixture
def filing() -> WorkspaceLanguage:
    return WorkspaceLanguage(include=FILES.get)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("{% for item in body.items %}{% include 'row.j2' %}{% endfor %}", "<row>x</row><row>y</row><row>z</row>"),
        ("{% import 'macros.j2' as m %}{{ m.tag('lot', body.lot) }}", "<lot>L-1</lot>"),
        ("{% from 'macros.j2' import tag %}{{ tag('lot', body.text) }}", "<lot>a&lt;b &amp; &apos;c&apos;</lot>"),
        ("{% extends 'base.j2' %}{% block content %}{{ body.lot }}{% endblock %}", "<doc>L-1</doc>"),
        ("{% extends 'base.j2' %}{% block content %}{{ super() }}x{% endblock %}", "<doc>x</doc>"),
        ("{% include 'sub/leaf.j2' %}", "leaf L-1"),
    ],
)
def test_files_include_files_beside_them(filing: WorkspaceLanguage, scope: Scope, text: str, result: str) -> None:
    template = filing.file_template(text, "transforms/main.j2")
    assert template.render(scope(BODY)) == result
    assert template.name == "transforms/main.j2"


def test_an_include_keeps_the_text_of_its_load(scope: Scope) -> None:
    files = {"row.j2": "old"}
    language = WorkspaceLanguage(include=files.get)
    template = language.file_template("{% include 'row.j2' %}", "main.j2")
    assert template.render(scope()) == "old"
    files["row.j2"] = "new"
    assert template.render(scope()) == "old"


def test_a_failure_names_the_file_and_the_line(filing: WorkspaceLanguage, scope: Scope) -> None:
    template = filing.file_template("{# 1 #}\n{% if true %}\n{{ body.missing }}{% endif %}", "transforms/main.j2")
    with pytest.raises(InternalFault, match=r"template `transforms/main.j2` failed: line 3: there is no `missing`"):
        template.render(scope({}))
    template = filing.file_template("{# 1 #}\n{% include 'fails.j2' %}", "transforms/main.j2")
    with pytest.raises(InternalFault, match=r"fails.j2 line 2: there is no `missing`"):
        template.render(scope({}))
