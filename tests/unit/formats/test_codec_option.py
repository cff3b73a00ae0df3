"""``format:`` as a route writes it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import esb.formats.csv
import esb.formats.json
import esb.formats.text
import esb.formats.xml
from esb.errors import Position
from esb.formats.base import CodecKind
from esb.formats.csv import Csv
from esb.formats.json import Json
from esb.formats.text import Raw
from esb.formats.xml import Xml
from esb.registry import Registry, components_of
from esb.spec import MISSING, ListNode, MapNode, Node, Reader, ScalarNode

AT = Position("routes/x.yaml", 1, 1)
MODULES = (esb.formats.json, esb.formats.xml, esb.formats.csv, esb.formats.text)
REGISTRY = Registry(tuple(component for module in MODULES for component in components_of(module)))


def node(value: Any) -> Node:
    if isinstance(value, dict):
        return MapNode(AT, tuple((ScalarNode(AT, key, key), node(inner)) for key, inner in value.items()))
    if isinstance(value, list):
        return ListNode(AT, tuple(map(node, value)))
    return ScalarNode(AT, value, str(value))


def read(value: Any) -> tuple[Any, list[Any]]:
    reader = Reader(SimpleNamespace(registry=REGISTRY), where="format")
    return CodecKind().read(node(value), reader), reader.problems


@pytest.mark.parametrize(
    ("written", "codec"),
    [
        ("json", Json()),
        ("raw", Raw()),
        ({"csv": {"delimiter": ";", "decimal": ",", "encoding": "cp1252"}}, Csv(delimiter=";", decimal=",", encoding="cp1252")),
        ({"csv": {"header": ["a", "b"], "numbers": "a"}}, Csv(header=("a", "b"), numbers=("a",))),
        ({"xml": {"always_list": ["E1MARAM"], "charset": "CP1252"}}, Xml(always_list=("E1MARAM",), charset="cp1252")),
        ({"xml": {"root": "drop", "element": "Order", "namespaces": "keep"}}, Xml(root="drop", element="Order", namespaces="keep")),
        ({"json": {"encoding": "utf-16"}}, Json(encoding="utf-16")),
    ],
)  # fmt: skip
def test_a_format_is_read(written: Any, codec: Any) -> None:
    found, problems = read(written)
    assert problems == []
    assert found == codec


@pytest.mark.parametrize(
    ("written", "code", "said"),
    [
        ("jsn", "ESB205", "unknown format `jsn`"),
        ({"yaml": {}}, "ESB205", "unknown format `yaml`"),
        ({"csv": {"delimitter": ";"}}, "ESB101", "unknown key `delimitter`"),
        ({"json": {}, "xml": {}}, "ESB103", "a format"),
        (5, "ESB103", "a format"),
    ],
)
def test_a_bad_format_is_a_problem(written: Any, code: str, said: str) -> None:
    found, problems = read(written)
    assert found is MISSING
    assert problems[0].code == code
    assert said in problems[0].message


def test_a_slip_gets_the_right_word() -> None:
    assert read("jsn")[1][0].hint == "did you mean `json`?"
    assert "`delimiter`" in read({"csv": {"delimitter": ";"}})[1][0].hint
