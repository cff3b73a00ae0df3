"""What an expression of a route is: its names, its result, its failure, and the file it may stand in."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest

from esb.errors import InternalFault, Unmapped
from esb.language import Expression, ExpressionError, Language
from esb.language.base import ExpressionKind
from esb.language.workspace import WorkspaceLanguage
from esb.message import Message


def test_it_is_the_language_that_the_rest_of_the_bus_knows(language: WorkspaceLanguage) -> None:
    known: Language = language
    assert isinstance(known.expression("body"), Expression)
    assert isinstance(Expression.kind, ExpressionKind)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("body.lot.id", {"body.lot.id"}),
        ("vars.werks", {"vars.werks"}),
        ("body", {"body"}),
        ("body.samples[].qty", {"body.samples"}),
        ("sum(body.samples[].qty)", {"body.samples"}),
        ("join('-', [body.PO, body.Line])", {"body.PO", "body.Line"}),
        ("body.items[?a == 'x'].b", {"body.items"}),
        ("body.items[0].lot", {"body.items"}),
        ("{a: vars.x, b: meta.route}", {"vars.x", "meta.route"}),
        ("body.a && !headers.b || site.c", {"body.a", "headers.b", "site.c"}),
        ("body | lot.id", {"body.lot.id"}),
        ("sort_by(body.items, &vars.x)", {"body.items"}),
        ("body.items[?qty > $.vars.limit]", {"body.items", "vars.limit"}),
        ("@.vars.x", {"vars.x"}),
        ("'text'", set()),
        ("body.*.x", {"body"}),
        ("body.x.[a, b]", {"body.x"}),
        ('headers."content-type"', {"headers.content-type"}),
    ],
)
def test_names_are_the_plain_paths_that_it_reads(language: WorkspaceLanguage, text: str, names: set[str]) -> None:
    assert language.expression(text).names == names


def test_it_reads_every_part_of_a_message(language: WorkspaceLanguage) -> None:
    message = Message({"a": 1}, {"h": "2"}, MappingProxyType({"v": 3}), MappingProxyType({"m": 4}))
    scope = message.scope(MappingProxyType({"s": 5}))
    assert language.expression("[body.a, headers.h, vars.v, meta.m, site.s]")(scope) == [1, "2", 3, 4, 5]
    assert language.expression("length(vars)")(scope) == 1
    assert language.expression("keys(merge(vars, meta))")(scope) == ["v", "m"]
    assert language.expression("type(site)")(scope) == "object"
    assert language.expression("to_string(vars)")(scope) == '{"v":3}'
    assert language.expression("vars.*")(scope) == [3]


@pytest.mark.parametrize(
    ("body", "truth"),
    [(None, False), (False, False), ("", False), ([], False), ({}, False), (0, True), ("0", True), (Decimal(0), True)],
)
def test_truth_is_that_of_jmespath(
    language: WorkspaceLanguage, scope: Callable[..., dict[str, Any]], body: Any, truth: bool
) -> None:
    assert language.expression("body").truth(scope(body)) is truth
    assert language.expression("body && 'yes' || 'no'")(scope(body)) == ("yes" if truth else "no")
    assert language.expression("!body")(scope(body)) is not truth
    assert language.expression("length([body][?@])")(scope(body)) == (1 if truth and body is not None else 0)


def test_a_failure_names_the_expression_and_the_element(
    language: WorkspaceLanguage, scope: Callable[..., dict[str, Any]]
) -> None:
    expression = language.expression("join('-', [body.PO, body.Line])")
    assert expression(scope({"PO": "4711", "Line": "10"})) == "4711-10"
    with pytest.raises(
        InternalFault, match=r"`join\('-', .*element 1 must be text, it is the number 10; write to_text"
    ):
        expression(scope({"PO": "4711", "Line": 10}))
    with pytest.raises(InternalFault, match="element 1 must be text, it is null"):
        expression(scope({"PO": "4711"}))


def test_a_missing_row_of_a_table_stays_what_it_is(
    language: WorkspaceLanguage, scope: Callable[..., dict[str, Any]]
) -> None:
    with pytest.raises(Unmapped, match="P99"):
        language.expression("xref('plants', body.plant)")(scope({"plant": "P99"}))


def test_numbers_stay_exact_through_an_expression(
    language: WorkspaceLanguage, scope: Callable[..., dict[str, Any]]
) -> None:
    body = {"price": Decimal("12.10"), "n": 3, "big": Decimal("12345678901234567890.123456789")}
    assert str(language.expression("body.price")(scope(body))) == "12.10"
    assert str(language.expression("mul(body.price, body.n)")(scope(body))) == "36.30"
    assert str(language.expression("add(body.big, `0.000000001`)")(scope(body))) == "12345678901234567890.123456790"
    assert language.expression("body.price == `12.1`")(scope(body)) is True
    assert language.expression("body.price > `12.0999999999999999999999`")(scope(body)) is True


def test_the_same_text_is_compiled_once(language: WorkspaceLanguage) -> None:
    assert language.expression("body.lot.id") is language.expression("body.lot.id")


def test_message_data_is_never_read_as_an_expression(
    language: WorkspaceLanguage, scope: Callable[..., dict[str, Any]]
) -> None:
    hostile = "now() | `1` || '); import os; os.system('x')"
    assert language.expression("body.x")(scope({"x": hostile})) == hostile
    assert language.expression("get(body, body.name)")(scope({"name": hostile})) is None


def test_constants_that_look_like_python_stay_text(
    language: WorkspaceLanguage, scope: Callable[..., dict[str, Any]]
) -> None:
    text = "\\'); __import__(\\'os\\').system(\\'x\\'); (\\'"
    assert language.expression(f"'{text}'")(scope()) == text.replace("\\'", "'")
    odd = 'body."\') or exec(\\"1/0\\") or (\'"'
    assert language.expression(odd)(scope({})) is None
    assert language.expression('{"\'): 1/0 #": body.x}')(scope({"x": 1})) == {"'): 1/0 #": 1}


def test_a_time_zone_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="Mars"):
        WorkspaceLanguage(timezone="Mars/Olympus")


FILE = """# the usage decision of an inspection lot
  # (comments may be indented)
{
  lot: body.lot.id,
  # text may hold a number sign
  mark: '# 1',
  block: 'line one
# line two'
}
"""


def test_a_file_holds_one_expression_over_several_lines(
    language: WorkspaceLanguage, scope: Callable[..., dict[str, Any]]
) -> None:
    expression = language.compile_file(FILE, "transforms/decision.jmes")
    assert expression(scope({"lot": {"id": "L1"}})) == {"lot": "L1", "mark": "# 1", "block": "line one\n# line two"}
    assert expression.names == {"body.lot.id"}


def test_a_fault_in_a_file_has_its_line_and_column(language: WorkspaceLanguage) -> None:
    with pytest.raises(ExpressionError) as caught:
        language.compile_file("# comment\n{\n  a: body.x,\n  # another\n  b: bodyy.y\n}\n", "x.jmes")
    assert (caught.value.code, caught.value.line, caught.value.column) == ("ESB402", 5, 6)
    with pytest.raises(ExpressionError) as caught:
        language.compile_file("# only a comment\n", "x.jmes")
    assert caught.value.code == "ESB401"


def test_a_file_that_fails_on_a_message_is_named(
    language: WorkspaceLanguage, scope: Callable[..., dict[str, Any]]
) -> None:
    expression = language.compile_file("upper(body.x)", "transforms/up.jmes")
    with pytest.raises(InternalFault, match=r"expression `transforms/up.jmes` failed: upper: `text` must be text"):
        expression(scope({"x": 5}))
