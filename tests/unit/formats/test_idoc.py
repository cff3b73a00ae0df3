"""IDocs: XML and flat files give the same body; real IDocs there and back."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from esb.errors import Invalid
from esb.formats import idoc
from esb.formats.idoc import CONTROL, Idoc
from esb.formats.places import Place
from esb.formats.xml import Xml

DATA = Path(__file__).parents[3] / "examples" / "data" / "idoc"
NOT_AN_IDOC = "PRODORDCONF_CREATE_TT_RESPONSE.xml"  # the answer of a function module
FILES = sorted(path for path in DATA.glob("*.xml") if path.name != NOT_AN_IDOC)
SEGMENTS = {
    "E1MARAM": {"MSGFN": Place(0, 3), "MATNR": Place(3, 21)},
    "E1MAKTM": {"SPRAS": Place(0, 1), "MAKTX": Place(1, 41)},
}
BODY: dict[str, Any] = {
    "MATMAS05": {
        "IDOC": {
            "@BEGIN": "1",
            "EDI_DC40": {"@SEGMENT": "1", "TABNAM": "EDI_DC40", "MANDT": "100", "DOCNUM": "0000000000000012", "IDOCTYP": "MATMAS05"},
            "E1MARAM": {
                "@SEGMENT": "1",
                "MSGFN": "005",
                "MATNR": "000000000000004711",
                "E1MAKTM": [
                    {"@SEGMENT": "1", "SPRAS": "D", "MAKTX": "Prüfteil"},
                    {"@SEGMENT": "1", "SPRAS": "E", "MAKTX": "Part"},
                ],
            },
        }
    }
}  # fmt: skip


def flat(**options: Any) -> Idoc:
    return Idoc(**{"segments": SEGMENTS, "write": "flat", "encoding": "cp1252", **options})


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_every_real_idoc_reads_as_its_xml_and_goes_back(path: Path) -> None:
    body = Idoc().decode(path.read_bytes())
    assert body == Xml().decode(path.read_bytes())
    assert Idoc().decode(Idoc().encode(body)) == body


def test_the_control_record_has_524_characters() -> None:
    assert max(place.end for place in CONTROL.values()) == 524


def test_flat_and_xml_give_the_same_body() -> None:
    data = flat().encode(BODY)
    assert [len(line) for line in data.splitlines()] == [524, 1063, 1063, 1063]
    assert flat().decode(data) == BODY
    assert Idoc().decode(Idoc().encode(BODY)) == BODY


def test_a_segment_definition_is_known_by_its_type() -> None:
    data = flat().encode(BODY).replace(b"E1MARAM ".ljust(11), b"E2MARAM009 ")
    assert flat().decode(data) == BODY


def test_several_idocs_are_a_list() -> None:
    two = flat().encode(BODY) * 2
    assert flat().decode(two) == {"MATMAS05": {"IDOC": [BODY["MATMAS05"]["IDOC"]] * 2}}
    assert flat().decode(flat().encode(flat().decode(two))) == flat().decode(two)


def test_a_segment_without_places_keeps_its_text() -> None:
    found = flat(segments={}).decode(flat().encode(BODY))["MATMAS05"]["IDOC"]["E1MARAM"]
    assert found["SDATA"] == "005000000000000004711"
    assert [one["SDATA"] for one in found["E1MAKTM"]] == ["DPrüfteil", "EPart"]
    with pytest.raises(Invalid, match="have no places"):
        flat(segments={}).encode(BODY)


def test_a_segment_can_always_be_a_list() -> None:
    found = flat(always_list=("E1MARAM",)).decode(flat().encode(BODY))["MATMAS05"]["IDOC"]
    assert isinstance(found["E1MARAM"], list)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it is empty"),
        (b"E1MARAM 12", "not with EDI_DC40"),
        (b"<a/>", "no IDOC with a control record"),
        (b"EDI_DC40  100", "types"),
    ],
)
def test_what_is_no_idoc_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(Invalid) as caught:
        Idoc().decode(data)
    assert words in caught.value.message


def test_an_answer_of_a_function_module_is_no_idoc() -> None:
    with pytest.raises(Invalid, match="no IDOC"):
        Idoc().decode((DATA / NOT_AN_IDOC).read_bytes())


def test_a_child_without_its_parent_is_refused() -> None:
    lines = flat().encode(BODY).splitlines(keepends=True)
    with pytest.raises(Invalid, match="has the parent 1, which is not there"):
        flat().decode(lines[0] + lines[2])


def test_a_field_that_does_not_fit_is_refused_with_its_pointer() -> None:
    body = {"MATMAS05": {"IDOC": {"EDI_DC40": {}, "E1MARAM": {"MATNR": "x" * 19}}}}
    with pytest.raises(Invalid) as caught:
        flat().encode(body)
    assert caught.value.violations[0].pointer == "/MATMAS05/IDOC/E1MARAM/MATNR"


class Drip(io.BytesIO):
    """Gives few bytes at a time."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(700 if size is None or size < 0 else min(size, 700))


def several(count: int, **options: Any) -> bytes:
    """A flat file of ``count`` IDocs."""
    one = BODY["MATMAS05"]["IDOC"]
    idocs = [{**one, "EDI_DC40": {**one["EDI_DC40"], "DOCNUM": f"{number:016}"}} for number in range(count)]
    return flat(**options).encode({"MATMAS05": {"IDOC": idocs}})


PATH = ("MATMAS05", "IDOC")


@pytest.mark.parametrize("write", ["flat", "xml"])
def test_many_idocs_are_read_one_by_one(write: Any) -> None:
    codec, data = flat(write=write), several(3, write=write)
    assert codec.streams(PATH)
    assert list(codec.items(Drip(data), PATH)) == codec.decode(data)["MATMAS05"]["IDOC"]


def test_only_the_list_of_idocs_is_read_one_by_one() -> None:
    assert not flat().streams(())
    assert not flat().streams(("MATMAS05", "IDOC", "E1MARAM"))
    assert not flat(always_list=("MATMAS05",)).streams(PATH)


@pytest.mark.parametrize("write", ["flat", "xml"])
def test_one_idoc_is_no_list_unless_it_always_is(write: Any) -> None:
    data = several(1, write=write)
    with pytest.raises(Invalid, match="not a list"):
        list(flat().items(Drip(data), PATH))
    always = flat(always_list=("IDOC",))
    assert list(always.items(Drip(data), PATH)) == always.decode(data)["MATMAS05"]["IDOC"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (several(2).replace(b"MATMAS05", b"DEBMAS06"), "of the type"),
        (several(2).replace(b"000001000000", b"000001000009"), "has the parent"),
        (b"", "empty"),
        (b"E2MARAM009", "not with EDI_DC40"),
    ],
)
def test_what_is_wrong_with_one_of_many_is_said(data: bytes, words: str) -> None:
    with pytest.raises(Invalid) as caught:
        list(flat().items(Drip(data), PATH))
    assert words in str(caught.value.violations[0].detail) + caught.value.message


def test_an_idoc_of_any_size_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idoc, "LONGEST", 2000)
    with pytest.raises(Invalid, match="more than 2000 bytes"):
        list(flat().items(Drip(several(2)), PATH))
