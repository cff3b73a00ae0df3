"""What JSON accepts and refuses, byte for byte."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from esb.errors import Invalid
from esb.formats.json import Json

ACCEPTED: dict[str, tuple[bytes, Any]] = {
    "array empty": (b"[]", []),
    "array with spaces": (b" [ 1 , 2 ] \r\n\t", [1, 2]),
    "array nested to 200": (b"[" * 200 + b"]" * 200, None),
    "array of null": (b"[null]", [None]),
    "bool alone": (b"true", True),
    "bool false": (b"[false]", [False]),
    "bom": (b"\xef\xbb\xbf{}", {}),
    "null alone": (b"null", None),
    "number at the bound of digits": (b"9" * 400, int("9" * 400)),
    "number at the bound of the exponent": (b"1e400", Decimal("1E+400")),
    "number beyond 64 bits": (b"123456789012345678901234567890", 123456789012345678901234567890),
    "number decimal": (b"[12.10]", [Decimal("12.10")]),
    "number exponent": (b"[1E5]", [Decimal("1E+5")]),
    "number exponent minus": (b"[1e-5]", [Decimal("0.00001")]),
    "number exponent plus": (b"[1.5e+3]", [Decimal("1.5E+3")]),
    "number long decimal": (b"12345678901234567890.123", Decimal("12345678901234567890.123")),
    "number minus": (b"[-1]", [-1]),
    "number negative zero": (b"-0.0", Decimal("-0.0")),
    "number tiny": (b"0.0000000000000000000000000000000000000000001", Decimal("1E-43")),
    "number trailing zeros": (b"[1.000]", [Decimal("1.000")]),
    "number zero": (b"0", 0),
    "object empty": (b"{}", {}),
    "object empty key": (b'{"":0}', {"": 0}),
    "object escaped NUL in key": (b'{"a\\u0000b":1}', {"a\x00b": 1}),
    "object key order": (b'{"b":1,"a":2}', {"b": 1, "a": 2}),
    "object keys that differ in case": (b'{"a":1,"A":2}', {"a": 1, "A": 2}),
    "object same key in two objects": (b'[{"a":1},{"a":2}]', [{"a": 1}, {"a": 2}]),
    "string alone": (b'"asd"', "asd"),
    "string all short escapes": (b'"\\b\\f\\n\\r\\t\\"\\\\\\/"', '\b\f\n\r\t"\\/'),
    "string comment inside": (b'["/* a */"]', ["/* a */"]),
    "string del": (b'"\x7f"', "\x7f"),
    "string emoji": ('"😀"'.encode(), "😀"),
    "string escaped NUL": (b'"\\u0000"', "\x00"),
    "string leading zeros": (b'"0012"', "0012"),
    "string line separator": ('"\u2028"'.encode(), "\u2028"),
    "string noncharacter": (b'"\\uFFFE"', "\ufffe"),
    "string surrogate pair": (b'"\\ud83d\\ude00"', "😀"),
    "string that looks like a big exponent": (b'["1e999", "a1e9999,"]', ["1e999", "a1e9999,"]),
    "string uuid with e and digits": (
        b'"9c0f4e59-8a1b-4e12-1e45-6712e3456789"',
        "9c0f4e59-8a1b-4e12-1e45-6712e3456789",
    ),
    "string of 500 digits": (b'"' + b"1" * 500 + b'"', "1" * 500),
    "space before and after": (b" \n 1 \t", 1),
}

REFUSED: dict[str, bytes] = {
    "array cut off": b"[1, 2",
    "array double comma": b"[1,,2]",
    "array extra close": b"[1]]",
    "array just comma": b"[,]",
    "array leading comma": b"[,1]",
    "array missing comma": b"[1 2]",
    "array nested to 300": b"[" * 300 + b"]" * 300,
    "array trailing comma": b"[1,]",
    "array unclosed 100000 deep": b"[" * 100_000,
    "bom alone": b"\xef\xbb\xbf",
    "bom twice": b"\xef\xbb\xbf\xef\xbb\xbf{}",
    "comment": b"[1] // no",
    "empty": b"",
    "form feed as space": b"\x0c[1]",
    "html": b"<html>",
    "literal cut off": b"[tru]",
    "literal in capitals": b"[True]",
    "no-break space": b"\xc2\xa0[1]",
    "NUL alone": b"\x00",
    "number -Infinity": b"[-Infinity]",
    "number NaN": b"[NaN]",
    "number Infinity": b"[Infinity]",
    "number beyond the bound of digits": b"9" * 401,
    "number beyond the bound of digits on both sides": b"9" * 250 + b"." + b"9" * 250,
    "number beyond the bound of the exponent": b"1e999",
    "number beyond the bound in an object": b'{"a": 1e-999 }',
    "number double minus": b"[--1]",
    "number exponent of 20 digits": b"1e99999999999999999999",
    "number exponent of zero": b"0e9999",
    "number exponent without digits": b"[1e]",
    "number hex": b"[0x1F]",
    "number leading plus": b"[+1]",
    "number leading point": b"[.5]",
    "number leading zero": b"[012]",
    "number minus alone": b"[-]",
    "number minus leading zero": b"[-01]",
    "number of 100000 digits": b"1" * 100_000,
    "number of 100000 decimals": b"1." + b"1" * 100_000,
    "number trailing point": b"[1.]",
    "number with a comma": b"[1,5.2.1]",
    "number with underscores": b"[1_000]",
    "object colon missing": b'{"a" 1}',
    "object comma missing": b'{"a":1 "b":2}',
    "object duplicate key": b'{"a":1,"a":1}',
    "object duplicate key by escape": b'{"a":1,"\\u0061":2}',
    "object duplicate key deep": b'{"x":[{"a":1,"b":2,"a":3}]}',
    "object key bare": b"{a:1}",
    "object key number": b"{1:1}",
    "object nested to 300": b'{"a":' * 300 + b"1" + b"}" * 300,
    "object trailing comma": b'{"a":1,}',
    "object unclosed": b'{"a":1',
    "object value missing": b'{"a":}',
    "only spaces": b"  \n ",
    "second value": b"1 2",
    "string bad escape": b'"\\x41"',
    "string bad unicode escape": b'"\\u12G4"',
    "string control character": b'"a\x01b"',
    "string cut in an escape": b'"\\u12',
    "string half pair reversed": b'"\\udc00\\ud800"',
    "string invalid byte": b'"\xff"',
    "string lone surrogate": b'"\\ud800"',
    "string lone surrogate then text": b'"\\ud800abc"',
    "string newline": b'"a\nb"',
    "string overlong slash": b'"\xc0\xaf"',
    "string single quotes": b"['a']",
    "string surrogate as bytes": b'"\xed\xa0\x80"',
    "string tab": b'"a\tb"',
    "string unclosed": b'"a',
    "utf-16 with mark": '{"a":1}'.encode("utf-16"),
    "utf-16 without mark": '{"a":1}'.encode("utf-16-le"),
    "utf-32": '{"a":1}'.encode("utf-32"),
}


def test_the_corpus_is_large_enough() -> None:
    assert len(ACCEPTED) + len(REFUSED) >= 100


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted_with_exactly_its_value(name: str) -> None:
    data, expected = ACCEPTED[name]
    body = Json().decode(data)
    if expected is None and data != b"null" and b"[null]" not in data:
        return  # a shape whose value is not written out
    assert body == expected
    assert repr(body) == repr(expected)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_one_violation_in_our_words(name: str) -> None:
    with pytest.raises(Invalid) as caught:
        Json().decode(REFUSED[name])
    assert caught.value.error_class == "invalid"
    assert len(caught.value.violations) == 1
    assert caught.value.message.startswith("the body is not valid JSON: ")
    assert "EOF" not in caught.value.message
    assert "Internal" not in caught.value.message
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_was_accepted_is_written_and_read_back_equal(name: str) -> None:
    body = Json().decode(ACCEPTED[name][0])
    assert repr(Json().decode(Json().encode(body))) == repr(body)
