"""JSON lines: a value for each line, with exact numbers, and faults that name their line."""

from __future__ import annotations

from decimal import Decimal

import pytest

from esb.errors import Invalid
from esb.formats.content_types import by_content_type
from esb.formats.jsonl import JsonLines
from esb.registry import load

CODEC = JsonLines()


def test_each_line_is_a_value_with_exact_numbers() -> None:
    body = CODEC.decode(b'\xef\xbb\xbf{"qty": 12.10, "lot": "0012"}\r\n\n  \n[1]\nnull')
    assert body == [{"qty": Decimal("12.10"), "lot": "0012"}, [1], None]
    assert CODEC.encode(body) == b'{"qty":12.10,"lot":"0012"}\n[1]\nnull\n'
    assert CODEC.decode(b"") == []


def test_every_bad_line_is_named() -> None:
    with pytest.raises(Invalid, match='line 2: column 17: the key "a" stands twice') as caught:
        CODEC.decode(b'{"a": 1}\n{"a": {"b": 1}, "a": 2}\n1\n{\n')
    assert [(v.pointer, v.detail.partition(":")[0]) for v in caught.value.violations] == [
        ("/1", "line 2"),
        ("/3", "line 4"),
    ]


def test_the_list_of_faults_is_bounded() -> None:
    with pytest.raises(Invalid) as caught:
        CODEC.decode(b"x\n" * 1000)
    assert len(caught.value.violations) == 50


@pytest.mark.parametrize("body", [{"a": 1}, "text", None, [b"raw"]])
def test_only_lists_of_json_values_can_be_written(body: object) -> None:
    with pytest.raises(Invalid, match="cannot be written as JSON lines"):
        CODEC.encode(body)


@pytest.mark.parametrize(("content_type", "suffix"), [("application/x-ndjson", ""), ("", ".jsonl"), ("", ".ndjson")])
def test_it_is_chosen_by_type_and_suffix(content_type: str, suffix: str) -> None:
    assert isinstance(by_content_type(load(), content_type, suffix), JsonLines)
