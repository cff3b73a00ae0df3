"""AQDEF: line form and compact form, several parts, attributive values; every real file there and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from esb.errors import Invalid
from esb.formats.aqdef import Aqdef

DATA = Path(__file__).parents[3] / "examples" / "data" / "aqdef"
FILES = sorted(DATA.glob("*.dfq"))


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_every_real_file_goes_there_and_back(path: Path) -> None:
    body = Aqdef().decode(path.read_bytes())
    assert body["parts"]
    assert Aqdef().decode(Aqdef().encode(body)) == body


def test_values_line_by_line() -> None:
    body = Aqdef().decode((DATA / "basicDfq_singlePart_threeCharacteristics.dfq").read_bytes())
    first, *_, last = body["parts"][0]["characteristics"]
    assert [value["K0001"] for value in first["values"]] == ["1.6", "1.7", "1.8"]
    assert last["K2001"] == "<characteristic_code_3>"
    assert last["values"][0] == {"K0001": "4.6", "K0004": "01.01.2013/15:18:31"}


def test_values_in_the_compact_form() -> None:
    body = Aqdef().decode((DATA / "testmeasures.dfq").read_bytes())
    one, two = body["parts"][0]["characteristics"]
    assert len(one["values"]) == len(two["values"]) == 5
    assert one["values"][0]["K0001"] == "2.49960000000000E+0002"
    assert one["values"][0]["K0004"] == "17.05.2002/05:54:58"
    assert two["values"][0]["K0053"] == "615 647"  # a line after the values belongs to the last of its characteristic


def test_both_forms_give_the_same() -> None:
    head = b"K0100 2\nK1001/1 p\nK2001/1 a\nK2001/2 b\n"
    lines = head + b"K0001/1 1.0\nK0004/1 t\nK0001/2 2.0\nK0001/1 1.1\nK0001/2 2.1\n"
    compact = head + b"1.0\x14\x14t\x0f2.0\n1.1\x0f2.1\n"
    assert Aqdef().decode(lines) == Aqdef().decode(compact)


def test_characteristics_belong_to_their_part() -> None:
    body = Aqdef().decode((DATA / "multipleParts.dfq").read_bytes())
    assert [part["K1001"] for part in body["parts"]] == ["part 1", "part 2"]
    assert [part["characteristics"][0]["values"][0]["K0001"] for part in body["parts"]] == ["7.1", "7.2"]


def test_errors_are_counted_for_attributive_characteristics() -> None:
    path = DATA / "attributiveDfq_attributiveCharacteristic_and_errorLogSheet.dfq"
    one = Aqdef().decode(path.read_bytes())["parts"][0]["characteristics"][0]
    assert one["values"] == [{"K0020": "1000", "K0021": "1", "K0004": "01.01.2013/15:18:31"}]


def test_hierarchies_are_kept_as_lines() -> None:
    path = DATA / "characteristicHierarchy_singlePart_singleGroup_twoCharacteristics.dfq"
    lines = Aqdef().decode(path.read_bytes())["parts"][0]["lines"]
    assert lines[0] == {"field": "K5002", "number": 1, "value": "<group_1>"}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"hello\n", "line 1: 'hello' is neither"),
        (b"K0100 1\nK0001/1 2.0\n", "line 2: a value of characteristic 1"),
        (b"K1001/1 p\nK2001/1 a\n1\x0f2\n", "line 3: values of 2 characteristics"),
        (b"K1001/1 p\nK2001/1 a\n" + b"\x14".join([b"1"] * 12) + b"\n", "12 fields in one value"),
        (b"K1001/1 \xff\n", "0xFF"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(data: bytes, words: str) -> None:
    with pytest.raises(Invalid) as caught:
        Aqdef().decode(data)
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ([], "without `parts`"),
        ({"parts": [{"lot": "1"}]}, "'lot' is no K-field"),
        ({"parts": [{"K1001": {"a": 1}}]}, "does not fit into a line"),
        ({"parts": [{"characteristics": [{"values": [{"K0001": "a\nb"}]}]}]}, "does not fit into a line"),
    ],
)
def test_what_cannot_be_written_is_said(body: Any, words: str) -> None:
    with pytest.raises(Invalid) as caught:
        Aqdef().encode(body)
    assert words in caught.value.message
