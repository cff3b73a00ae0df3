"""Whatever a body holds, what is written is read back the same."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from esb.formats.csv import Csv
from esb.formats.json import Json
from esb.formats.numbers import MAX_EXPONENT
from esb.formats.xml import Xml
from tests.corpora import batchml_recipe

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
DECIMALS = st.builds(
    lambda sign, digits, exponent: Decimal((sign, digits, exponent)),
    st.integers(0, 1),
    st.lists(st.integers(0, 9), min_size=1, max_size=40).map(tuple),
    st.integers(-MAX_EXPONENT + 50, MAX_EXPONENT - 50),
)
SCALARS = st.none() | st.booleans() | st.integers() | st.integers(-(10**399), 10**399) | DECIMALS | TEXT
BODIES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5))


def same_number(value: Any) -> Any:
    """Decimals without a point or an exponent are whole numbers in JSON, and -0 is 0."""
    if isinstance(value, Decimal):
        return int(value) if str(value).lstrip("-").isdigit() else value
    if isinstance(value, dict):
        return {key: same_number(inner) for key, inner in value.items()}
    return [same_number(inner) for inner in value] if isinstance(value, list) else value


@given(BODIES)
@settings(max_examples=200)
def test_json(body: Any) -> None:
    data = Json().encode(body)
    back = Json().decode(data)
    assert repr(back) == repr(same_number(body))
    assert repr(Json().decode(Json().encode(back))) == repr(back)


@given(BODIES)
@settings(max_examples=100)
def test_json_in_another_encoding(body: Any) -> None:
    for encoding in ("utf-16", "cp1252", "ascii", "utf-8-sig"):
        codec = Json(encoding=encoding)
        assert codec.decode(codec.encode(body)) == body


# -- XML ---------------------------------------------------------------------------------------------------------------

XML_TEXT = st.text(
    st.characters(
        exclude_categories=("Cs",), exclude_characters="".join(map(chr, [*range(9), 11, 12, *range(14, 32)]))
    ).filter(lambda char: char not in "\ufffe\uffff"),
    max_size=20,
)
NAMES = st.from_regex(r"[A-Za-z_ÄÖüß][A-Za-z0-9_.\-ä]{0,8}", fullmatch=True)
#: what decoding gives: text, or an object with attributes, text and children; repeated children in lists of two and more
ELEMENTS = st.recursive(
    XML_TEXT,
    lambda inner: st.builds(
        lambda attributes, children, text: {
            **{f"@{name}": value for name, value in attributes.items()},
            **children,
            **({"#text": text.strip()} if text.strip() else {}),
        },
        st.dictionaries(NAMES, XML_TEXT, max_size=3),
        st.dictionaries(NAMES, inner | st.lists(inner, min_size=2, max_size=3), min_size=1, max_size=4),
        XML_TEXT,
    ),
    max_leaves=12,
)


@given(NAMES, ELEMENTS)
@settings(max_examples=200)
def test_xml(name: str, element: Any) -> None:
    body = {name: element}
    data = Xml().encode(body)
    assert Xml().decode(data) == body
    assert Xml().encode(Xml().decode(data)) == data
    assert etree.fromstring(data).tag == name


@given(NAMES, ELEMENTS)
@settings(max_examples=60)
def test_xml_in_another_encoding(name: str, element: Any) -> None:
    for encoding in ("utf-16", "iso-8859-1", "cp1252", "utf-8-sig"):
        codec = Xml(encoding=encoding)
        assert codec.decode(codec.encode({name: element})) == {name: element}


@given(NAMES, ELEMENTS)
@settings(max_examples=60)
def test_xml_with_namespaces_kept(name: str, element: Any) -> None:
    codec = Xml(namespaces="keep", prefixes={"p": "urn:p"})
    body = {f"p:{name}": {"@xmlns:q": "urn:q", "@q:x": "1", "q:inner": element, "p:again": "2"}}
    assert codec.decode(codec.encode(body)) == body


# -- CSV ---------------------------------------------------------------------------------------------------------------

CELLS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=15)
HEADERS = st.lists(
    st.text(st.characters(exclude_categories=("Cs", "Cc", "Z")), min_size=1, max_size=8).map(str.strip).filter(bool),
    min_size=1,
    max_size=5,
    unique=True,
)


@st.composite
def records(draw: st.DrawFn) -> list[dict[str, str]]:
    names = draw(HEADERS)
    return draw(st.lists(st.fixed_dictionaries(dict.fromkeys(names, CELLS)), min_size=1, max_size=6))


@given(
    records(), st.sampled_from([",", ";", "\t", "|", " "]), st.sampled_from(['"', "'"]), st.sampled_from(["crlf", "lf"])
)
@settings(max_examples=200)
def test_csv(rows: list[dict[str, str]], delimiter: str, quote: str, newline: Any) -> None:
    codec = Csv(delimiter=delimiter, quote=quote, newline=newline, skip_blank=False)
    data = codec.encode(rows)
    assert codec.decode(data) == rows
    assert codec.encode(codec.decode(data)) == data


@given(st.lists(DECIMALS | st.none(), min_size=1, max_size=6), st.sampled_from([".", ","]))
@settings(max_examples=200)
def test_csv_numbers(numbers: list[Decimal | None], mark: Any) -> None:
    codec = Csv(delimiter=";", decimal=mark, numbers=("qty",))
    rows = [{"id": str(index), "qty": number} for index, number in enumerate(numbers)]
    assert codec.decode(codec.encode(rows)) == rows


# -- files of real systems; those of EDIFACT, X12, IDoc and AQDEF have their own tests -----------------------------------
DATA = Path(__file__).parents[3] / "examples" / "data"
DOCUMENTS = sorted(path for path in DATA.rglob("*") if path.suffix.lower() in (".xml", ".qif"))
TABLES = sorted(DATA.rglob("*.csv"))


def test_there_are_real_files() -> None:
    folders = {path.parent.name for path in DOCUMENTS}
    assert folders == {"b2mml", "gs1xml", "idoc", "qif", "soap"}
    assert len(TABLES) >= 4


@pytest.mark.parametrize("namespaces", ["strip", "keep"])
@pytest.mark.parametrize("path", [*DOCUMENTS, None], ids=lambda path: path.name if path else "recipe")
def test_every_real_document(path: Path | None, namespaces: Literal["strip", "keep"]) -> None:
    data = path.read_bytes() if path is not None else batchml_recipe()
    codec = Xml(namespaces=namespaces)
    body = codec.decode(data)
    written = codec.encode(body)
    assert codec.decode(written) == body
    if namespaces == "keep":  # nothing is lost: each element of the one is in the other
        assert tags(written) == tags(data)


def tags(data: bytes) -> list[str]:
    """The elements with their namespaces, whatever their order: repeated siblings stand together once they were read."""
    return sorted(element.tag for element in etree.fromstring(data).iter("*"))


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.name)
def test_every_real_table(path: Path) -> None:
    body = Csv().decode(path.read_bytes())
    assert len(body) == len(path.read_text(encoding="utf-8").splitlines()) - 1
    assert Csv().decode(Csv().encode(body)) == body
