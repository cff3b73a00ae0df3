"""Fixed width: places, implied decimals, packed and zoned numbers, EBCDIC, record types."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esb.errors import Invalid
from esb.formats.fixed import Fixed
from esb.formats.places import Place, PlaceKind
from esb.spec import MapNode, Reader, ScalarNode
from esb.spec.nodes import Position


def place(text: str) -> Place:
    reader = Reader()
    found = PlaceKind().read(ScalarNode(Position("x", 1, 1), text, text), reader)
    assert not reader.problems
    return found


def places(**fields: str) -> dict[str, Place]:
    return {name: place(text) for name, text in fields.items()}


def refused(call: Any, argument: Any) -> Invalid:
    with pytest.raises(Invalid) as caught:
        call(argument)
    return caught.value


def test_fields_by_their_places() -> None:
    codec = Fixed(fields=places(lot="1-6", qty="7-12 number 2", note="13-20 raw"))
    assert codec.decode(b"0012  001250 x      \r\n0013        y       \n") == [
        {"lot": "0012", "qty": Decimal("12.50"), "note": " x      "},
        {"lot": "0013", "qty": None, "note": "y       "},
    ]


def test_a_short_line_ends_in_blanks() -> None:
    codec = Fixed(fields=places(lot="1-6", qty="7-12 number"))
    assert codec.decode(b"0012\n") == [{"lot": "0012", "qty": None}]


def test_record_types() -> None:
    codec = Fixed(by=place("1"), records={"H": places(order="2-5"), "P": places(lot="2-5", qty="6-8 number")})
    body = codec.decode(b"H4711\nP0012005\n")
    assert body == [{"record": "H", "order": "4711"}, {"record": "P", "lot": "0012", "qty": Decimal(5)}]
    assert codec.encode(body) == b"H4711\nP0012005\n"
    error = refused(codec.decode, b"H4711\nX\n")
    assert "record 2 is of type 'X'" in error.message
    assert "H, P" in error.hint


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("12345C", "123.45"), ("12345D", "-123.45"), ("00000F", "0.00"), ("99999C", "999.99"),
    ],
)  # fmt: skip
def test_packed_decimals(raw: str, value: str) -> None:
    codec = Fixed(fields=places(n="1-3 packed 2"), length=3, newline="none")
    assert codec.decode(bytes.fromhex(raw)) == [{"n": Decimal(value)}]


def test_a_packed_number_that_is_none() -> None:
    codec = Fixed(fields=places(n="1-2 packed"), length=2, newline="none")
    assert "no packed number" in refused(codec.decode, b"\x12\x34").message
    assert codec.decode(b"\0\0") == [{"n": None}]


@pytest.mark.parametrize(("raw", "value"), [(b"0012{", "1.20"), (b"0012J", "-1.21"), (b"00123", "1.23")])
def test_zoned_decimals(raw: bytes, value: str) -> None:
    assert Fixed(fields=places(n="1-5 zoned 2")).decode(raw) == [{"n": Decimal(value)}]


def test_ebcdic_records_without_line_ends() -> None:
    codec = Fixed(
        fields=places(name="1-6", n="7-9 packed 2", z="10-13 zoned 1"), length=13, newline="none", encoding="cp273"
    )
    rows = [{"name": "Größe", "n": Decimal("-123.45"), "z": Decimal("-1.5")}, {"name": "", "n": None, "z": None}]
    data = codec.encode(rows)
    assert len(data) == 26
    assert codec.decode(data) == rows
    assert "no whole number of records" in refused(codec.decode, data[:-1]).message


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "t": st.text("abcÄ 0", max_size=5).map(lambda text: text.rstrip(" ")),
                "n": st.integers(-9999, 99999).map(lambda i: Decimal(i).scaleb(-2)),
                "p": st.integers(-99999, 99999).map(lambda i: Decimal(i).scaleb(-3)),
            }
        ),
        max_size=4,
    )
)
def test_what_is_written_is_read(rows: list[dict[str, Any]]) -> None:
    codec = Fixed(
        fields=places(t="1-5", n="6-10 number 2", p="11-13 packed 3"), length=13, newline="none", encoding="cp037"
    )
    assert codec.decode(codec.encode(rows)) == rows


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"lot": "1234567"}, "does not fit into 6 columns"),
        ({"qty": Decimal("1.234")}, "more than 2 decimals"),
        ({"qty": Decimal(100000)}, "does not fit into 6 columns"),
        ({"qty": "x"}, "is no number"),
        ({"lot": "a\nb"}, "line end"),
        ({"lot": []}, "is no text"),
        ({"else": 1}, "record 1 has 'else'"),
        (7, "not an object"),
    ],
)
def test_what_does_not_fit_is_refused(row: Any, words: str) -> None:
    codec = Fixed(fields=places(lot="1-6", qty="7-12 number 2"))
    assert words in refused(codec.encode, [row]).message


def test_all_bad_fields_are_listed_with_their_pointers() -> None:
    error = refused(Fixed(fields=places(qty="1-3 number")).decode, b"12x\n012\nabc\n")
    assert [violation.pointer for violation in error.violations] == ["/0/qty", "/2/qty"]


@pytest.mark.parametrize("text", ["", "x", "5-2", "0-3", "1-2 money", "1-2 packed x"])
def test_a_place_that_is_none_is_reported(text: str) -> None:
    reader = Reader()
    PlaceKind().read(ScalarNode(Position("x", 1, 1), text, text), reader)
    assert [problem.code for problem in reader.problems] == ["ESB103"]


def test_options_that_contradict_each_other_are_reported() -> None:
    reader = Reader()
    Fixed(newline="none").check(MapNode(Position("x", 1, 1)), reader)
    assert len(reader.problems) == 2
