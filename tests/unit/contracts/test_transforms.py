"""Transform files: compiled with their place, and what a template writes is read in its format."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from esb.errors import ConfigError, InternalFault
from esb.language import Expression, ExpressionError, TextTemplate
from esb.transforms import JinjaTransform, JmesTransform, format_of, read_transform

SCOPE: Mapping[str, Any] = {"body": {"lot": "0012"}}


class Compiler:
    """A language that knows one text of each kind."""

    def compile_file(self, text: str, name: str) -> Expression:
        if "broken" in text:
            raise ExpressionError("ESB401", "unexpected end", offset=12, length=3, line=2, column=5, hint="close it")
        return Expression(text, lambda scope: scope["body"]["lot"], frozenset({"body.lot"}))

    def file_template(self, text: str, name: str) -> TextTemplate:
        if "broken" in text:
            raise ExpressionError("ESB406", "unknown tag", line=1, column=3)
        return TextTemplate(
            text, lambda scope: text.replace("LOT", scope["body"]["lot"]), names=frozenset({"body.lot"})
        )


def test_an_expression_file_gives_its_value() -> None:
    transform = read_transform("x", "body.lot", "transforms/x.jmes", Compiler())
    assert isinstance(transform, JmesTransform)
    assert transform.apply(SCOPE) == "0012"
    assert transform.names == {"body.lot"}


def test_a_template_writes_json_with_exact_numbers() -> None:
    transform = read_transform("x", '{"lot": "LOT", "qty": 12.10}', "transforms/x.j2", Compiler())
    assert transform.apply(SCOPE) == {"lot": "0012", "qty": Decimal("12.10")}
    assert transform.names == {"body.lot"}


def test_a_template_writes_xml_or_text_by_its_name() -> None:
    assert read_transform("x", "<Lot>LOT</Lot>", "t/x.xml.j2", Compiler()).apply(SCOPE) == {"Lot": "0012"}
    assert read_transform("x", "lot LOT", "t/x.txt.j2", Compiler()).apply(SCOPE) == "lot 0012"


def test_a_stated_format_beats_the_name() -> None:
    assert read_transform("x", "LOT", "t/x.j2", Compiler(), format_="text").apply(SCOPE) == "0012"


@pytest.mark.parametrize(
    ("path", "format_"),
    [("a.j2", "json"), ("a.json.j2", "json"), ("a.xml.j2", "xml"), ("a.txt.j2", "text"), ("v1.2.j2", "json")],
)
def test_a_file_name_tells_the_format(path: str, format_: str) -> None:
    assert format_of(path) == format_


def test_broken_json_is_a_fault_of_the_route_and_shows_its_line() -> None:
    transform = read_transform("order.j2", '{\n  "lot": LOT,\n}', "t/order.j2", Compiler())
    with pytest.raises(InternalFault) as caught:
        transform.apply(SCOPE)
    assert "template order.j2 did not write JSON: line 2" in caught.value.message
    assert 'in `"lot": 0012,`' in caught.value.message
    assert "tojson" in caught.value.hint


def test_broken_xml_is_a_fault_of_the_route() -> None:
    transform = JinjaTransform("x", TextTemplate("<a>", lambda scope: "<a>"), "xml")
    with pytest.raises(InternalFault, match="did not write XML: line 1") as caught:
        transform.apply(SCOPE)
    assert "| e" in caught.value.hint


def test_half_a_surrogate_pair_is_a_fault_of_the_route() -> None:
    transform = JinjaTransform("x", TextTemplate("", lambda scope: '"\ud800"'))
    with pytest.raises(InternalFault):
        transform.apply(SCOPE)


@pytest.mark.parametrize(("path", "code", "line", "column"), [("x.jmes", "ESB401", 2, 5), ("x.j2", "ESB406", 1, 3)])
def test_a_fault_has_its_place(path: str, code: str, line: int, column: int) -> None:
    with pytest.raises(ConfigError) as caught:
        read_transform("x", "a\nbroken", path, Compiler())
    [problem] = caught.value.problems
    assert (problem.code, problem.position.path) == (code, path)
    assert (problem.position.line, problem.position.column) == (line, column)
