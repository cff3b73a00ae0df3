"""What the quick reader of JSON gives is what the careful one gives, to the type and the last digit, or it is not asked."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from typing import Any

import pytest
from jiter import from_json

from esb.errors import Invalid
from esb.formats import json as json_format
from esb.formats.json import Json, parse
from esb.formats.numbers import in_bounds

PIECES = [
    b'{"a":1}', b'{"a":1,"a":2}', b'{"a":1,"\\u0061":2}', b'{"a":{"b":[1,2,{"c":null}]}}', b"[]", b"{}", b"", b" ", b"1", b"-0", b"-0.0", b"0.0",
    b"12.10", b"1e5", b"1E5", b"1E+5", b"1E+417", b"1e-7", b"0.0000001", b"0.00000001", b"123456789012345678901234567890", b"-18446744073709551617",
    b"18446744073709551615", b"99999999999999999999.50", b"01", b"1.", b".5", b"+1", b"--1", b"NaN", b"-Infinity", b"nul", b"null", b"true", b"false",
    b'"text"', b'"\\n\\t\\""', b'"\\/"', b'"\\u00e4"', '"ä€😀"'.encode(), b'"\\ud83d\\ude00"', b'"\\ud800"', b'"\\ud800x"', b'"\xed\xa0\x80"', b'"\xff"',
    b'"\x7f"', b'"\x1f"', b'"a\x00"', '"\u2028"'.encode(), b'{"a": 1}', b"[1, 2]", b"[1,2] ", b"\n[1]", b"[1]x", b"[1,]", b'{"a":1,}', b"{1:2}", b"'a'",
    b'{"":0}', b'{"":0,"":0}', b'{"a":":","b":"\\":"}', b"9" * 401, b"0." + b"1" * 500, b"1e999", b"5e-324", b"9" * 5_000, b'{"$bytes":"AA=="}', b"\xef\xbb\xbf1",
]  # fmt: skip


def careful(data: bytes) -> Any:
    return from_json(data, float_mode="decimal", catch_duplicate_keys=True, allow_inf_nan=False)


def told(read: Any, data: bytes) -> Any:
    """The value with the types of all its parts, or that there is none, in the same words."""
    try:
        return repr(read(data))
    except ValueError as error:
        return f"refused: {error}"


@pytest.fixture(autouse=True)
def _short_texts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_format, "_SHORT", 0)


@pytest.mark.parametrize("data", PIECES, ids=range(len(PIECES)))
def test_both_readers_agree(data: bytes) -> None:
    for text in (data, b"[" + data + b"]", b'{"x":' + data + b"}", b'{"x":[' + data + b"," + data + b"]}"):
        assert told(parse, text) == told(careful, text)


@pytest.mark.parametrize("depth", [1, 100, 149, 150, 199, 200, 201, 250, 5_000])
@pytest.mark.parametrize("pair", [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")])
def test_both_readers_agree_on_how_deep_a_text_may_be(depth: int, pair: tuple[bytes, bytes]) -> None:
    text = pair[0] * depth + b"1" + pair[1] * depth
    assert told(parse, text) == told(careful, text)


def made(chance: random.Random, depth: int = 0) -> Any:
    """A value of any shape."""
    kind = chance.random()
    if depth < 4 and kind < 0.3:
        return {chance.choice("abcä\n"): made(chance, depth + 1) for _ in range(chance.randint(0, 4))}
    if depth < 4 and kind < 0.5:
        return [made(chance, depth + 1) for _ in range(chance.randint(0, 4))]
    if kind < 0.7:
        return chance.choice([None, True, False, "", "x:y", '":', "\\", "ä\x7f", "\u2028", '"a":1,"a":2'])
    return chance.choice([0, -1, 10**19, 10**30, 1.5, 1e-7, 1e22, 12.1, -0.0, chance.random()])


def test_both_readers_agree_on_whatever_became_of_a_text() -> None:
    chance, taken = random.Random(11), 0
    for _ in range(20_000):
        separators = (",", ":") if chance.random() < 0.8 else (", ", ": ")
        data = bytearray(json.dumps(made(chance), ensure_ascii=chance.random() < 0.5, separators=separators).encode())
        for _ in range(chance.choice([0, 0, 0, 1, 2])):
            at = chance.randrange(len(data) + 1)
            data[at : at + chance.randint(0, 2)] = chance.choice(
                [b"", b"1", b"0", b".", b"e", b'"', b",", b":", b"{", b"}", b"[", b"]", b" ", b"\\", b'"a":1,', b"\xc3", b"-"]
            )  # fmt: skip
        text = bytes(data)
        found = told(parse, text)
        assert found == told(careful, text), text
        taken += not found.startswith("refused")
    assert taken > 10_000


def test_a_number_with_a_point_is_a_decimal_and_one_without_is_whole() -> None:
    body = parse(b'{"a":12.10,"b":10000000000000000000000,"c":0.10}')
    assert [(type(value), str(value)) for value in body.values()] == [
        (Decimal, "12.10"),
        (int, "10000000000000000000000"),
        (Decimal, "0.10"),
    ]


@pytest.mark.parametrize(
    "number",
    [
        "0", "0.0", "-0.0", "0e400", "0e401", "0e-400", "0e-401", "0e-500", "0." + "0" * 400, "0." + "0" * 401, "1e400", "1e401", "-9.9e400", "99e400", "1e-400",
        "1e-401", "1.5e-400", "12e-401", "1e-399", "1.23e-399", "9" * 400, "9" * 401, "-" + "9" * 401, "1." + "0" * 399, "1." + "0" * 400, "0." + "1" * 400,
        "0." + "1" * 401, "9" * 4_000, "9" * 5_000, "1e5", "1e999999999", "1e99999999999999999999", "123456789.123456789",
    ],
)  # fmt: skip
@pytest.mark.parametrize("text", ["%s", '{"a":[%s]}', '{"a":"b","c":%s,"d":"' + "x" * 99 + '"}'])
def test_the_quick_reader_keeps_to_the_bounds_of_numbers(number: str, text: str) -> None:
    data = (text % number).encode()
    plain = Decimal(number) if set(number) & set(".e") and "99999999999" not in number else None
    fits = in_bounds(plain) if plain is not None else "e" not in number and len(number.lstrip("-")) <= 400
    try:
        body = Json().decode(data)
    except Invalid:
        assert not fits
    else:
        assert fits
        assert repr(body) == repr(careful(data))
