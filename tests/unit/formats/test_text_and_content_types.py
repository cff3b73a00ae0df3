"""Text, raw bytes, declared encodings, and which codec a content type asks for."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

import esb.formats.csv
import esb.formats.json
import esb.formats.text
import esb.formats.xml
from esb.errors import Invalid, Position
from esb.formats.charset import EncodingKind, is_encoding
from esb.formats.content_types import by_content_type, content_type_of, parse_content_type
from esb.formats.csv import Csv
from esb.formats.json import Json
from esb.formats.text import Raw, Text
from esb.formats.xml import Xml
from esb.registry import Registry, components_of
from esb.spec import MISSING, MapNode, Reader, ScalarNode, options_of, read_options

MODULES = (esb.formats.json, esb.formats.xml, esb.formats.csv, esb.formats.text)
CODECS = (Json, Xml, Csv, Text, Raw)
AT = Position("routes/x.yaml", 1, 1)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry(tuple(component for module in MODULES for component in components_of(module)))


def scalar(value: Any) -> ScalarNode:
    return ScalarNode(AT, value, str(value))


def read(cls: type, **options: Any) -> tuple[Any, list[Any]]:
    reader = Reader(where="format")
    entries = tuple((scalar(name), _node(value)) for name, value in options.items())
    return read_options(cls, MapNode(AT, entries), reader), reader.problems


def _node(value: Any) -> Any:
    if isinstance(value, dict):
        return MapNode(AT, tuple((scalar(key), scalar(inner)) for key, inner in value.items()))
    return scalar(value)


# -- text and bytes ----------------------------------------------------------------------------------------------------


def test_text_is_kept_character_for_character() -> None:
    assert Text().decode(b"\xef\xbb\xbfa\r\nb\x00") == "\ufeffa\r\nb\x00"
    assert Text(encoding="utf-8-sig").decode(b"\xef\xbb\xbfa") == "a"
    assert Text(encoding="cp1252").encode("J\u00f6rg \u20ac") == b"J\xf6rg \x80"


def test_an_undecodable_byte_has_offset_and_line() -> None:
    with pytest.raises(Invalid, match=r"byte 3 \(line 2\) is 0xFF, which is not utf-8 text"):
        Text().decode(b"ab\n\xff")


@pytest.mark.parametrize("data", [b"\x00", b"a\xd8", b"\x00\xd8\x00\x00"])
def test_broken_utf16_is_refused(data: bytes) -> None:
    with pytest.raises(Invalid, match="utf-16"):
        Text(encoding="utf-16-le").decode(data)


@pytest.mark.parametrize("body", [{"a": 1}, ["x"], 5, None, b"x", True])
def test_only_text_is_written_as_text(body: Any) -> None:
    with pytest.raises(Invalid, match="cannot be written as text"):
        Text().encode(body)


def test_a_character_that_the_encoding_lacks_is_refused() -> None:
    with pytest.raises(Invalid, match=r"character 2 is U\+4E2D, which cp1252 cannot write"):
        Text(encoding="cp1252").encode("a\u4e2d")


def test_raw_is_bytes_and_nothing_else() -> None:
    assert Raw().decode(b"\x00\xff") == b"\x00\xff"
    assert Raw().encode(b"\x00\xff") == b"\x00\xff"
    with pytest.raises(Invalid, match="raw bytes"):
        Raw().encode("text")


# -- encodings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["utf-8", "UTF-16", "cp1252", "latin-1", "cp037", "shift_jis"])
def test_known_encodings(name: str) -> None:
    assert is_encoding(name)
    assert EncodingKind().read(scalar(name), Reader()) == name.lower()


@pytest.mark.parametrize("name", ["base64", "rot13", "zlib", "klingon", "", "utf-8\0"])
def test_what_is_no_encoding_of_text_is_a_problem(name: str) -> None:
    reader = Reader(where="encoding")
    assert EncodingKind().read(scalar(name), reader) is MISSING
    assert reader.problems[0].code == "ESB105"


def test_a_slip_in_an_encoding_gets_the_right_word() -> None:
    reader = Reader()
    EncodingKind().read(scalar("cp1253x"), reader)
    assert "cp1252" in reader.problems[0].hint


# -- registration and options ------------------------------------------------------------------------------------------


def test_the_five_codecs_are_registered(registry: Registry) -> None:
    assert set(registry.family("format")) == {"json", "xml", "csv", "text", "raw"}


@pytest.mark.parametrize("cls", CODECS)
def test_a_codec_is_documented_and_frozen(cls: Any) -> None:
    assert cls.__doc__
    assert cls.content_type
    assert all(media_type == media_type.lower() for media_type in cls.media_types)
    assert all(spec.doc.endswith(".") for spec in options_of(cls))
    assert dataclasses.is_dataclass(cls)
    assert cls.__dataclass_params__.frozen
    codec, problems = read(cls)
    assert problems == []
    assert codec == cls()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prefixes": {"1x": "urn:x"}}, "`1x` is not a namespace prefix"),
        ({"prefixes": {"": "urn:x"}}, "`` is not a namespace prefix"),
        ({"prefixes": {"xmlns": "urn:x"}}, "`xmlns` is not a namespace prefix"),
        ({"prefixes": {"a:b": "urn:x"}}, "`a:b` is not a namespace prefix"),
        ({"element": "a b"}, "`a b` is not an element name"),
        ({"namespaces": "drop"}, "`drop` is not one of"),
        ({"charset": "klingon"}, "`klingon` is not a known encoding"),
    ],
)
def test_a_bad_xml_option_is_a_problem(options: dict[str, Any], said: str) -> None:
    codec, problems = read(Xml, **options)
    assert codec is MISSING
    assert said in problems[0].message


# -- content types -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "suffix", "codec"),
    [
        ("application/json", "", Json()),
        ("Application/JSON; charset=UTF-8", "", Json()),
        ("application/json;charset=utf-16", "", Json(encoding="utf-16")),
        ("application/vnd.catena-x+json", "", Json()),
        ("application/problem+json; charset=utf-8", "", Json()),
        ("text/json", "", Json()),
        ("application/xml", "", Xml()),
        ("text/xml; charset=iso-8859-1", "", Xml(charset="iso-8859-1")),
        ("text/xml; charset=utf-8", "", Xml(charset="utf-8")),
        ('application/soap+xml; action="urn:x"', "", Xml()),
        ("text/csv", "", Csv()),
        ('text/csv; header=present; charset="windows-1252"', "", Csv(encoding="windows-1252")),
        ("text/plain", "", Text()),
        ("text/plain; charset=latin1", "", Text(encoding="latin1")),
        ("application/octet-stream", "", Raw()),
        ("application/octet-stream", ".csv", Csv()),
        ("application/octet-stream", ".pdf", Raw()),
        ("", ".json", Json()),
        ("", ".XML", Xml()),
        ("", ".txt", Text()),
        ("application/json", ".xml", Json()),
        ("", "", None),
        ("", ".pdf", None),
        ("application/pdf", "", None),
        ("application/pdf", ".json", None),
        ("multipart/form-data; boundary=x", "", None),
        ("image/svg+zip", "", None),
        ("application/json; charset=klingon", "", None),
        ("text/plain; charset=base64", "", None),
        ("nonsense", "", None),
    ],
)
def test_the_codec_of_a_content_type(registry: Registry, content_type: str, suffix: str, codec: Any) -> None:
    assert by_content_type(registry, content_type, suffix) == codec


def test_a_content_type_is_taken_apart() -> None:
    assert parse_content_type('Text/CSV; Charset="cp1252" ;header') == ("text/csv", {"charset": "cp1252"})


def test_the_content_type_of_what_is_written_names_its_charset() -> None:
    assert content_type_of(Json()) == "application/json"
    assert content_type_of(Csv(encoding="cp1252")) == "text/csv; charset=cp1252"
    assert content_type_of(Raw()) == "application/octet-stream"
