"""Nobody gets from a template to Python: known gadget chains fail at load or on the message, without any effect."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from esb.errors import InternalFault
from esb.language import ExpressionError
from esb.language.workspace import WorkspaceLanguage

Scope = Callable[..., dict[str, Any]]

GADGETS = [
    # classes and what hangs on them
    "{{ ''.__class__ }}",
    "{{ ''['__class__'] }}",
    "{{ body.__class__.__mro__ }}",
    "{{ body['__class__']['__mro__'][1] }}",
    "{{ [].__class__.__base__.__subclasses__() }}",
    "{{ ().__class__.__bases__[0].__subclasses__()[40]('CANARY', 'w').write('x') }}",
    "{{ 1.__class__ }}",
    "{{ (1).__class__.__init__ }}",
    "{{ {}.__class__.__init__.__globals__ }}",
    "{{ ''['__cla' ~ 'ss__'] }}",
    "{{ ''['__cla' + 'ss__'] }}",
    "{{ ''[['__cla', 'ss__'] | join] }}",
    "{{ ''['\\x5f\\x5fclass\\x5f\\x5f'] }}",
    "{{ ''['__SSALC__' | lower | reverse] }}",
    "{{ body[body.attack] }}",
    "{{ body.text[body.attack] }}",
    "{{ body.text[body.attack][body.attack] }}",
    # the filter for attributes
    "{{ '' | attr('__class__') }}",
    "{{ body | attr('__class__') | attr('__mro__') }}",
    "{{ '' | attr(body.attack) }}",
    "{{ ['x'] | map('attr', '__class__') | list }}",
    "{{ [''] | map(attribute='__class__') | list }}",
    "{{ [''] | map(attribute=body.attack) | join }}",
    "{{ [''] | groupby('__class__') | list }}",
    "{{ ['', 'a'] | sort(attribute='__class__') }}",
    "{{ [''] | selectattr('__class__') | list }}",
    "{{ [''] | sum(attribute='__class__') }}",
    "{{ [''] | join(',', attribute='__class__') }}",
    "{{ [''] | unique(attribute='__class__') | list }}",
    "{{ ['', 'a'] | max(attribute='__class__') }}",
    # formats
    "{{ '{0.__class__}'.format('') }}",
    "{{ '{x.__class__}'.format_map({'x': ''}) }}",
    "{{ '%s' | format(body.__class__) }}",
    "{{ '{0.__class__}' | format('') }}",
    "{% set f = '{0.__class__}'.format %}{{ f('') }}",
    "{{ ['{0.__class__}'] | map('format', '') | list }}",
    "{{ 'x'.format_map.__self__ }}",
    # what Jinja leaves lying around
    "{{ self }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ self._TemplateReference__context.cycler.__init__.__globals__.os.popen('touch CANARY').read() }}",
    "{{ cycler.__init__.__globals__.os.popen('touch CANARY').read() }}",
    "{{ cycler('a', 'b') }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ joiner(',') }}",
    "{{ namespace.__init__.__globals__.os.system('touch CANARY') }}",
    "{% set ns = namespace(x=1) %}{{ ns.x }}",
    "{{ lipsum.__globals__['os'].popen('touch CANARY').read() }}",
    "{{ lipsum() }}",
    "{{ dict.__base__ }}",
    "{{ dict(a=1) }}",
    "{{ range.__class__ }}",
    "{{ range.__init__.__self__ }}",
    "{{ now.__globals__ }}",
    "{{ now.__self__ }}",
    "{{ upper.__wrapped__ }}",
    "{{ upper.__code__.co_consts }}",
    "{{ xref.__closure__ }}",
    "{{ loop.__init__ }}",
    "{% for i in [1] %}{{ loop.__init__.__globals__ }}{% endfor %}",
    "{% for i in [1] %}{{ loop._iterable }}{% endfor %}",
    "{% for i in [1] %}{{ loop['_iterator'] }}{% endfor %}",
    "{% macro m() %}{% endmacro %}{{ m.__init__.__globals__ }}",
    "{% macro m() %}{% endmacro %}{{ m._environment }}",
    "{% macro m() %}{% endmacro %}{{ m['_func'] }}",
    "{% macro m() %}{{ caller.__globals__ }}{% endmacro %}{% call m() %}{% endcall %}",
    "{% block b %}{% endblock %}{{ self.b.__globals__ }}",
    # names of frameworks
    "{{ config }}",
    "{{ config.items() }}",
    "{{ request.application.__globals__ }}",
    "{{ get_flashed_messages.__globals__ }}",
    "{{ url_for.__globals__.os }}",
    "{{ environment }}",
    "{{ context }}",
    "{{ g }}",
    "{{ app }}",
    "{{ __import__('os').system('touch CANARY') }}",
    "{{ __builtins__ }}",
    "{{ __file__ }}",
    "{{ open('CANARY', 'w') }}",
    "{{ eval('1') }}",
    "{{ exec('1') }}",
    "{{ getattr(body, '__class__') }}",
    "{{ get(body, '__class__').__mro__ }}",
    "{{ get('', '__class__') }}",
    # methods that change or leave data
    "{{ body.list.append(1) }}",
    "{{ body.list.clear() }}",
    "{{ body.update({'x': 1}) }}",
    "{{ body.pop('x') }}",
    "{{ body.setdefault('x', 1) }}",
    "{{ body.text.encode('utf-8') }}",
    "{{ body.text.translate({}) }}",
    "{{ (5).to_bytes(9, 'big') }}",
    "{{ (5.5).as_tuple() }}",
    "{{ body.when.__reduce_ex__(2) }}",
    "{{ body.text.mro() }}",
    # what runs text, or reads files
    "{% include '/etc/passwd' %}",
    "{% include body.attack %}",
    "{% import 'os' as os %}{{ os.system('touch CANARY') }}",
    "{% from 'os' import system %}",
    "{% extends '../../x' %}",
    "{% do body.list.append(1) %}",
    "{% debug %}",
    "{{ body.text | render }}",
    "{{ body.text | safe }}",
    "{% set body.x = 1 %}",
    "{% set x = body.list %}{% set x.y = 1 %}",
]


@pytest.mark.parametrize("payload", GADGETS)
def test_a_gadget_fails_without_any_effect(
    language: WorkspaceLanguage, scope: Scope, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, payload: str
) -> None:
    canary = tmp_path / "canary"
    started: list[Any] = []
    monkeypatch.setattr(os, "system", started.append)
    monkeypatch.setattr(os, "popen", started.append)
    monkeypatch.setattr(subprocess, "Popen", started.append)
    body = {"attack": "__class__", "text": "{{ 7 * 7 }}", "list": [1], "x": 1, "when": 5}
    with pytest.raises((ExpressionError, InternalFault)):
        language.template(payload.replace("CANARY", str(canary))).render(scope(body))
    assert not canary.exists()
    assert started == []
    assert body == {"attack": "__class__", "text": "{{ 7 * 7 }}", "list": [1], "x": 1, "when": 5}


def test_there_are_many_gadgets() -> None:
    assert len(GADGETS) >= 40
    assert len(set(GADGETS)) == len(GADGETS)


def test_fields_with_odd_names_are_fields(language: WorkspaceLanguage, scope: Scope) -> None:
    body = {"__class": 1, "_x": 2, "mro": 3, "()upper": 4, "format": 5, "copy": "c"}
    template = language.template(
        "{{ body.__class }}{{ body._x }}{{ body.mro }}{{ body['()upper'] }}{{ body.format }}{{ body.copy }}"
    )
    assert template.render(scope(body)) == "12345c"
    with pytest.raises(ExpressionError):
        language.template("{{ body['__class__'] }}")


@pytest.mark.parametrize("key", ["__class__", "()upper", "upper", "format", "_x", "items"])
def test_a_key_from_a_message_reads_fields_only(language: WorkspaceLanguage, scope: Scope, key: str) -> None:
    for text in (
        "{{ body.text[body.key] }}",
        "{{ body[body.key] }}",
        "{{ [body.text] | map(attribute=body.key) | join }}",
    ):
        with pytest.raises(InternalFault):
            language.template(text).render(scope({"text": "t", "key": key}))


@pytest.mark.parametrize(
    "bomb",
    [
        "{{ 'a' * 200000000 }}",
        "{{ 200000000 * 'a' }}",
        "{{ [1] * 200000000 }}",
        "{{ 'a' * 1000000 * 1000000 }}",
        "{{ 10 ** 1000000 }}",
        "{{ 9 ** 9 ** 9 ** 9 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%*d' % (1000000000, 1) }}",
        "{{ 'a'.ljust(1000000000) }}",
        "{{ 'a'.center(1000000000) }}",
        "{{ 'a'.zfill(1000000000) }}",
        "{{ 'a\\t'.expandtabs(1000000000) }}",
        "{{ 'a' | center(1000000000) }}",
        "{{ 'a' | indent(1000000000) }}",
        "{{ 'a\\na' | indent(1000000000, true) }}",
        "{{ 'a' | pad(1000000000) }}",
        "{{ pad('a', 1000000000) }}",
        "{{ range(1000000000) | list | length }}",
        "{{ range(1000000000) | sum }}",
        "{{ [1] | batch(1000000000, 'x') | list }}",
        "{{ ('a' * 1000000).replace('a', 'b' * 1000000) }}",
        "{{ ('a' * 1000000) | replace('a', 'b' * 1000000) }}",
        "{{ ('x' * 1000000).join(['a', 'b', 'c']) }}",
        "{{ ['a', 'b', 'c'] | join('x' * 1000000) }}",
        "{{ ('&' * 1000000) | x }}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{{ 'a' * 100 }}{% endfor %}",
        "{% set x %}{% for i in range(99999) %}{{ 'a' * 1000 }}{% endfor %}{% endset %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
        "{% macro m(s, n) %}{% if n %}{{ m(s ~ s, n - 1) }}{% endif %}{% endmacro %}{{ m('a', 60) }}",
        "{% macro m(s, n) %}{% if n %}{{ m(s + s, n - 1) }}{% endif %}{% endmacro %}{{ m('a', 60) }}",
        "{% macro m(s, n) %}{% if n %}{{ m(s + s, n - 1) }}{% endif %}{% endmacro %}{{ m([1], 60) }}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{% for x in range(9) recursive %}{{ loop(range(99999)) if loop.depth < 4 }}{% endfor %}",
        "{% set a = range(1000) | list %}{% set b = [a] * 1000 %}{% set c = [b] * 1000 %}{{ c | tojson }}",
        "{% set a = range(1000) | list %}{% set b = [a] * 1000 %}{% set c = [b] * 1000 %}{{ c }}",
        "{% set a = range(1000) | list %}{% set b = [a] * 1000 %}{% set c = [b] * 1000 %}{{ to_text(c) }}",
        "{% set a = range(1000) | list %}{% set b = [a] * 1000 %}{% set c = [b] * 1000 %}{{ hash(c) }}",
        "{{ 1e900 * 1e900 * 1e900 * 1e900 }}",
        "{{ floor(1e900 * 1e900) }}",
        "{{ round(1, 1000000000) }}",
    ],
)
def test_a_bomb_is_cut(language: WorkspaceLanguage, scope: Scope, bomb: str) -> None:
    with pytest.raises((ExpressionError, InternalFault)):
        language.template(bomb).render(scope({}))


def test_texts_up_to_the_bound_are_fine(language: WorkspaceLanguage, scope: Scope) -> None:
    text = "{% for row in body %}{{ row.a }};{% endfor %}"
    assert len(language.template(text).render(scope([{"a": "x" * 90}] * 10_000))) == 910_000
    with pytest.raises(InternalFault, match="more than 1000000 characters"):
        language.template(text).render(scope([{"a": "x" * 90}] * 12_000))
    assert len(language.file_template(text, "x.j2").render(scope([{"a": "x" * 90}] * 12_000))) == 1_092_000
    with pytest.raises(InternalFault, match="more than 1000000 characters"):
        language.template("{{ body }}{{ body }}").render(scope("x" * 600_000))


@pytest.mark.parametrize(
    "payload",
    ["body.__class__", 'body."__class__".__mro__', "get(body, '__class__')", "body.x.__globals__", "now().__self__"],
)
def test_expressions_read_fields_only(language: WorkspaceLanguage, scope: Scope, payload: str) -> None:
    assert language.expression(payload)(scope({"x": "text", "__init__": 1})) is None


@pytest.mark.parametrize(
    "bomb",
    ["pad(body, `1000000000`)", "mul(`1e300`, `1e300`, `1e300`, `1e300`)", "floor(mul(`1e399`, `1e399`))",
     "replace(body, 'a', body)", "concat(body, body, body)", "round(`1`, `1000000000`)", "join(body, ['a', 'b', 'c'])",
     "number(concat('1', 'e', '99999'))"],
)  # fmt: skip
def test_an_expression_bomb_is_cut(language: WorkspaceLanguage, scope: Scope, bomb: str) -> None:
    with pytest.raises(InternalFault):
        language.expression(bomb)(scope("a" * 9_000_000))
