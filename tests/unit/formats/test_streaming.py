"""Codecs that give the items of a large payload one by one give what ``decode`` gives, and refuse what it refuses."""

from __future__ import annotations

import io
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esb.errors import Invalid
from esb.formats import json_items, lines, xml_items
from esb.formats.csv import Csv
from esb.formats.fixed import Fixed
from esb.formats.json import Json
from esb.formats.jsonl import JsonLines
from esb.formats.places import Place
from esb.formats.xml import Xml


class Drip(io.BytesIO):
    """Gives few bytes at a time, so that every record lies across an end of what was read."""

    def __init__(self, data: bytes, size: int = 3) -> None:
        super().__init__(data)
        self.size = size

    def read(self, size: int | None = -1) -> bytes:
        return super().read(self.size if size is None or size < 0 else min(size, self.size))

    def read1(self, size: int | None = -1) -> bytes:
        return self.read(size)


def at(body: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        body = body[name]
    return body


SAMPLES = [
    (Csv(), (), b'a,b\n1,x\n2,"y\r\nz"\n\n3,\xc3\xa4\n'),
    (
        Csv(delimiter=";", encoding="cp1252", decimal=",", numbers=("m",)),
        (),
        "lot;m\r\n0012;1,50\r\n0013;\r\nä;2\r\n".encode("cp1252"),
    ),
    (Csv(header=False, trim=True), (), b"\xef\xbb\xbf 1 , 2\r 3,4"),
    (Csv(encoding="utf-16"), (), "a,b\n1,€\n".encode("utf-16")),
    (JsonLines(), (), b'\xef\xbb\xbf{"a": 12.10}\n\n[1, "x\\n"]\r\n"last"'),
    (JsonLines(), (), b""),
    (Json(), (), b'[{"a": "]},[{", "b": [1, {"c": "\\"\\\\"}]}, 12.10 , "x,y", null, [], {}]'),
    (Json(), (), b"\xef\xbb\xbf  [ ]  \n"),
    (Json(), (), b"[1]"),
    (
        Xml(),
        ("r", "i"),
        b'<?xml version="1.0"?><r h="1"><x><i>no</i></x><i n="1">a</i>t<!-- c --><i><b>2</b><b>3</b></i><y/><i/></r>',
    ),
    (Xml(root="drop", always_list=("i",)), ("p", "i"), b"<r><p><i>only</i></p></r>"),
    (
        Xml(namespaces="keep", prefixes={"s": "urn:s"}),
        ("s:r", "s:i"),
        b'<r xmlns="urn:s" xmlns:q="urn:q"><i q:a="1"><q:b/></i><i xmlns:z="urn:z"><z:c/></i></r>',
    ),
    (
        Xml(charset="cp1252"),
        ("r", "i"),
        '<?xml version="1.0" encoding="UTF-8"?><r><i>ä</i><i>€</i></r>'.encode("cp1252"),
    ),
]


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize(("codec", "path", "data"), SAMPLES)
def test_items_are_those_of_the_whole(codec: Any, path: tuple[str, ...], data: bytes, size: int) -> None:
    assert codec.streams(path)
    assert list(codec.items(Drip(data, size), path)) == at(codec.decode(data), path)


@pytest.mark.parametrize("newline", ["lf", "none"])
def test_fixed_records(newline: Any) -> None:
    codec = Fixed(fields={"lot": Place(0, 4), "qty": Place(4, 8, "number")}, length=8, newline=newline)
    data = b"0012  12" + (b"" if newline == "none" else b"\r\n\n") + b"0013   7"
    assert codec.streams(())
    source = io.BytesIO(data) if newline == "none" else Drip(data)
    assert (
        list(codec.items(source, ())) == codec.decode(data) == [{"lot": "0012", "qty": 12}, {"lot": "0013", "qty": 7}]
    )


REFUSED = [
    (Csv(), (), b"a,b\n1,x\n2\n"),
    (Csv(), (), b'a,b\n1,"x\n'),
    (Csv(), (), b"a,b\n1,\xff\n"),
    (Csv(), (), b"a,b\n1,\0\n"),
    (Csv(), (), b""),
    (Csv(), (), b"a,a\n1,2\n"),
    (JsonLines(), (), b'{"a":1}\n{"a":1,"a":2}\n'),
    (JsonLines(), (), b"1\nNaN\n"),
    (Json(), (), b"[1, 2"),
    (Json(), (), b"[1, 2] 3"),
    (Json(), (), b"[1,, 2]"),
    (Json(), (), b"[1, ]"),
    (Json(), (), b"[1, }]"),
    (Json(), (), b'[{"a": 1]'),
    (Json(), (), b'["open'),
    (Json(), (), b""),
    (Json(), (), b'[{"a": 1, "a": 2}]'),
    (Xml(), ("r", "i"), b"<r><i>1</i><i>2</i>"),
    (Xml(), ("r", "i"), b"<r><i>1</i><i>2</r>"),
    (Xml(), ("r", "i"), b'<!DOCTYPE r [<!ENTITY a "x">]><r><i>&a;</i><i/></r>'),
    (Xml(), ("r", "i"), b'<!DOCTYPE r SYSTEM "http://127.0.0.1:1/x"><r><i/><i/></r>'),
    (Xml(), ("r", "i"), b"<r><i>\xff</i><i/></r>"),
    (Xml(), ("r", "i"), b""),
    (Xml(), ("r", "i"), b"<r>" + b"<d>" * 300 + b"</d>" * 300 + b"<i/><i/></r>"),
]


@pytest.mark.parametrize(("codec", "path", "data"), REFUSED)
def test_what_the_whole_refuses_is_refused(codec: Any, path: tuple[str, ...], data: bytes) -> None:
    with pytest.raises(Invalid):
        codec.decode(data)
    with pytest.raises(Invalid):
        list(codec.items(Drip(data, 2), path))


def test_a_single_element_is_no_list_as_in_the_whole() -> None:
    with pytest.raises(Invalid, match="one element, not a list") as caught:
        list(Xml().items(io.BytesIO(b"<r><i/></r>"), ("r", "i")))
    assert "always_list: [i]" in caught.value.hint


@pytest.mark.parametrize(
    "data",
    [
        b"<r><head><x>1</x><x>2</x><x>3</x></head><p><o/><i><a>1</a><b>2</b><c>3</c></i><o/><i><a>4</a></i></p><t><x/><x/></t></r>",
        b"<r><p><i><i>in</i><i>in</i><a>1</a></i><q><i>no</i></q><i>2</i></p></r>",
    ],
)
def test_what_stands_around_is_let_go_and_nothing_of_an_item(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xml_items, "_SWEEP", 0)
    monkeypatch.setattr(xml_items, "_PIECE", 5)
    assert list(Xml().items(io.BytesIO(data), ("r", "p", "i"))) == at(Xml().decode(data), ("r", "p", "i"))


def test_lists_inside_of_lists_are_not_mixed_up() -> None:
    """``body.r.p.i`` of several ``p`` is nothing that an expression could name."""
    with pytest.raises(Invalid, match=r"a second `r\.p`"):
        list(Xml().items(io.BytesIO(b"<r><p><i/><i/></p><p><i/></p></r>"), ("r", "p", "i")))


@pytest.mark.parametrize(
    ("codec", "path", "data", "where"),
    [
        (Csv(), (), b"a\n" + b"x" * 100, lines),
        (JsonLines(), (), b'"' + b"x" * 100 + b'"', lines),
        (Json(), (), b'["' + b"x" * 100 + b'"]', json_items),
        (Xml(), ("r", "i"), b"<r><i>" + b"x" * 100 + b"</i><i/></r>", xml_items),
    ],
)
def test_one_record_is_bounded(
    codec: Any, path: tuple[str, ...], data: bytes, where: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(where, "LONGEST", 50)
    monkeypatch.setattr(xml_items, "_SWEEP", 20)
    with pytest.raises(Invalid, match=r"longer than|more than"):
        list(codec.items(Drip(data), path))


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.text(max_size=8)
    | st.decimals(allow_nan=False, allow_infinity=False, places=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(_VALUES, max_size=5), st.integers(1, 9))
def test_any_list_of_values_comes_back(values: list[Any], size: int) -> None:
    data = Json().encode(values)
    assert list(Json().items(Drip(data, size), ())) == Json().decode(data)
    data = JsonLines().encode(values)
    assert (
        list(JsonLines().items(Drip(data, size), ()))
        == JsonLines().decode(data)
        == [Decimal(value) if isinstance(value, Decimal) else value for value in values]
    )


def outcome(read: Any) -> Any:
    """What is read, or what is wrong with it."""
    try:
        return list(read())
    except Invalid as error:
        return error.message, [(one.pointer, one.detail) for one in error.violations[:1]]


LAYOUT = {"a": Place(0, 2), "n": Place(2, 5, "number", 1), "r": Place(5, 6, "raw"), "z": Place(6, 9)}
TEXTS = {"z": Place(1, 4), "a": Place(0, 2), "beyond": Place(20, 30)}


@given(
    st.lists(st.text(" \0\t\v\r\x1a\x1cab\xe4019.,-", max_size=12), max_size=6),
    st.sampled_from(["\n", "\r\n", "\n\n", "\n \r\n"]),
    st.sampled_from([LAYOUT, TEXTS]),
    st.sampled_from([0, 8]),
)
def test_cutting_many_lines_at_a_time_reads_what_one_by_one_reads(
    rows: list[str], end: str, layout: dict[str, Place], length: int
) -> None:
    data = end.join(rows).encode("iso-8859-1")
    cut = Fixed(fields=layout, length=length, encoding="iso-8859-1")
    # the same characters for the bytes above, and no short cut
    careful = Fixed(fields=layout, length=length, encoding="iso-8859-2")
    assert not careful._are_cut()
    assert cut._are_cut()
    expected = outcome(lambda: careful.items(io.BytesIO(data), ()))
    assert outcome(lambda: cut.items(io.BytesIO(data), ())) == expected
    assert outcome(lambda: cut.items(Drip(data), ())) == expected
    assert outcome(lambda: cut.decode(data)) == outcome(lambda: careful.decode(data))


@pytest.mark.parametrize("odd", "\0\t\v\f\r\x1a\x1c\x1d\x1e\x1f")
def test_only_spaces_and_nul_are_cut_off_a_field(odd: str) -> None:
    (record,) = Fixed(fields={"a": Place(0, 3), "b": Place(3, 5)}).items(io.BytesIO(f"x{odd} y\n".encode()), ())
    assert record == {"a": "x" if odd == "\0" else f"x{odd}", "b": "y"}


@pytest.mark.parametrize("options", [{}, {"skip_blank": False}, {"header": False}, {"header": ("a", "b")}])
@given(st.lists(st.text(' "ab,\u2003', max_size=6), max_size=6), st.sampled_from(["\n", "\r\n", "\r", "\r\r\n"]))
def test_rows_of_any_kind_are_those_of_the_whole(options: dict[str, Any], rows: list[str], end: str) -> None:
    codec, data = Csv(**options), end.join(["x,y", *rows]).encode()
    expected = outcome(lambda: [record for _, record in codec.records(data)])
    assert outcome(lambda: codec.decode(data)) == expected
    assert outcome(lambda: codec.items(io.BytesIO(data), ())) == expected
    assert outcome(lambda: codec.items(Drip(data, 5), ())) == expected
