"""JSON: places of errors, exact writing, encodings."""

from __future__ import annotations

from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest

from esb.errors import Invalid
from esb.formats.json import Json
from esb.formats.numbers import MAX_DIGITS, MAX_EXPONENT


def refused(data: bytes, **options: Any) -> Invalid:
    with pytest.raises(Invalid) as caught:
        Json(**options).decode(data)
    return caught.value


def unwritable(body: Any, **options: Any) -> Invalid:
    with pytest.raises(Invalid) as caught:
        Json(**options).encode(body)
    return caught.value


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{\n  "a": 1,\n  "a": 2\n}', 'line 3, column 3: the key "a" stands twice in one object'),
        (b"[1,\n2,]", "line 2, column 3: a comma with nothing after it"),
        ('{"ü": "ö" x}'.encode(), "line 1, column 11: expected `,` or `}`"),
        (b'{"a": NaN}', "line 1, column 7: NaN is not a number that JSON knows"),
        (b'{"a": -Infinity}', "Infinity is not a number that JSON knows"),
        (b"[True]", "True is not JSON; it knows `true`, `false` and `null`"),
        (b"['a']", "a text stands in double quotes"),
        (b"<a/>", "this looks like XML or HTML"),
        (b'{"a": "b', "it ends in the middle of a text"),
        (b'{"a": 1', "it ends in the middle of an object"),
        (b"[1", "it ends in the middle of a list"),
        (b'{"a":', "it ends where a value should stand"),
        (b'["\\ud800"]', "half a surrogate pair"),
        (b'["a\x01"]', "must be escaped"),
        (b"[" * 300, "nested deeper than 200 levels"),
        (b"[012]", "no leading zeros"),
        (b"", "it is empty"),
        (b" \n", "it is empty"),
    ],
)
def test_an_error_says_what_and_where(data: bytes, said: str) -> None:
    assert said in refused(data).message


@pytest.mark.parametrize("number", [b"1e999", b"-1e-999", b"1" * 401, b"1E99999999999999999999", b"1" * 5000])
def test_a_number_out_of_bounds_is_told_the_bound(number: bytes) -> None:
    error = refused(b'{"lots": [{"qty/net": %s}]}' % number)
    assert f"at most {MAX_DIGITS} digits" in error.message
    assert f"between -{MAX_EXPONENT} and {MAX_EXPONENT}" in error.message


def test_a_number_out_of_bounds_is_found_by_its_pointer() -> None:
    error = refused(b'{"lots": [{"qty": 1}, {"qty/net": 1e401}]}')
    assert error.violations[0].pointer == "/lots/1/qty~1net"


def test_an_undecodable_byte_has_its_offset_and_a_hint() -> None:
    error = refused(b'{"name":\n"J\xf6rg"}')
    assert "byte 11 (line 2) is 0xF6" in error.message
    assert "encoding: cp1252" in error.hint


def test_utf16_is_recognised_and_read_when_it_is_declared() -> None:
    data = '{"name": "Jörg"}'.encode("utf-16")
    assert refused(data).hint == "set `encoding: utf-16`"
    assert Json(encoding="utf-16").decode(data) == {"name": "Jörg"}


def test_a_declared_single_byte_encoding_is_read() -> None:
    assert Json(encoding="cp1252").decode('{"name": "Jörg €"}'.encode("cp1252")) == {"name": "Jörg €"}


def test_a_byte_that_the_declared_encoding_lacks_is_refused() -> None:
    assert "byte 2 (line 1) is 0x81" in refused(b'["\x81"]', encoding="cp1252").message


@pytest.mark.parametrize(
    ("body", "written"),
    [
        (Decimal("12.10"), b"12.10"),
        (Decimal("12345678901234567890.123"), b"12345678901234567890.123"),
        (Decimal("1E+5"), b"1E+5"),
        (Decimal("0.000001"), b"0.000001"),
        (Decimal("-0.0"), b"-0.0"),
        (2**64, b"18446744073709551616"),
        (-(2**63) - 1, b"-9223372036854775809"),
        (10**60 + 1, b"1" + b"0" * 59 + b"1"),
        ({"b": [1, None, True], "a": "ü"}, '{"b":[1,null,true],"a":"ü"}'.encode()),
        (MappingProxyType({"h": MappingProxyType({"x": 1})}), b'{"h":{"x":1}}'),
        ({"t": ("a", "b")}, b'{"t":["a","b"]}'),
        ("\u2028</script>\x00", '"\u2028</script>\\u0000"'.encode()),
    ],
)
def test_written_exactly_and_compactly(body: Any, written: bytes) -> None:
    assert Json().encode(body) == written


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"a": [1, Decimal("NaN")]}, "/a/1"),
        ({"a": Decimal("sNaN")}, "/a"),
        ({"a": Decimal("-Infinity")}, "/a"),
        ({"a": {"b": float("nan")}}, "/a/b"),
        ([float("inf")], "/0"),
    ],
)
def test_what_is_no_number_is_not_written(body: Any, pointer: str) -> None:
    error = unwritable(body)
    assert "not a number that JSON knows" in error.message
    assert error.violations[0].pointer == pointer


def test_the_words_NaN_and_Infinity_are_fine_as_texts() -> None:
    assert Json().encode({"name": "NaN", "other": "Infinity", "none": None})


def test_raw_bytes_are_not_written() -> None:
    assert "raw bytes" in unwritable(b"{}").message


def test_half_a_surrogate_pair_is_not_written() -> None:
    assert "U+D800" in unwritable({"a": "x\ud800"}).message


def test_an_object_of_some_class_is_not_written() -> None:
    assert "object has no JSON form" in unwritable({"a": object()}).message


def test_a_body_that_holds_itself_is_not_written() -> None:
    body: list[Any] = []
    body.append(body)
    assert "holds itself" in unwritable(body).message


def test_a_character_that_the_encoding_lacks_is_escaped() -> None:
    codec = Json(encoding="cp1252")
    data = codec.encode({"a": "ü€中😀"})
    assert data == b'{"a":"\\u00fc\\u20ac\\u4e2d\\ud83d\\ude00"}'
    assert codec.decode(data) == {"a": "ü€中😀"}


def test_nothing_is_ever_a_float() -> None:
    body = Json().decode(b"[0.1, 1.0, 1e2, 1E-2, 100000000000000000000000.0]")
    assert [type(number) for number in body] == [Decimal] * 5
