"""X12: service characters by place, counts and control numbers, loops; every real file there and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from esb.errors import Invalid
from esb.formats.x12 import X12

DATA = Path(__file__).parents[3] / "examples" / "data" / "x12"
FILES = sorted(path for path in DATA.iterdir() if path.suffix != ".md")
FAULTY = {
    "asn856_gozer.txt": "begins with control number '000003438' and ends with '000000049'",
    "x12_interchange_ack.txt": "has 0 groups, its trailer says 1",
}
ISA = b"ISA*00*          *00*          *ZZ*SENDER         *ZZ*RECEIVER       *260101*1200*%s*00501*000000007*0*P*>~"
GS = b"GS*SH*SENDER*RECEIVER*20260101*1200*3*X*005010~"
END = b"GE*1*3~IEA*1*000000007~"


def refused(data: bytes, **options: Any) -> Invalid:
    with pytest.raises(Invalid) as caught:
        X12(**options).decode(data)
    return caught.value


def transaction(segments: bytes, count: int, mark: bytes = b"^", **options: Any) -> Any:
    data = ISA % mark + GS + b"ST*856*0001~" + segments + b"SE*%d*0001~" % count + END
    return X12(**options).decode(data)["interchanges"][0]["groups"][0]["transactions"][0]


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_every_real_file_goes_there_and_back(path: Path) -> None:
    codec = X12(faults="report")
    body = codec.decode(path.read_bytes())
    faults = body.pop("faults", [])
    assert any(FAULTY[path.name] in fault for fault in faults) if path.name in FAULTY else not faults
    for part in [one for interchange in body["interchanges"] for one in scopes(interchange)]:
        part.pop("faults", None)
    assert codec.decode(codec.encode(body)) == body


def scopes(interchange: dict[str, Any]) -> list[dict[str, Any]]:
    groups = interchange["groups"]
    return [interchange, *groups, *(one for group in groups for one in group["transactions"])]


def test_faults_stand_beside_what_they_are_of() -> None:
    original = (DATA / "856_mockedi.edi").read_bytes()
    for cut, where in ((b"SE*24", "transaction '0003' "), (b"GE*1", "the group "), (b"IEA*1", "the interchange ")):
        body = X12(faults="report").decode(original.replace(cut, cut[:-1] + b"9"))
        found = [part["faults"] for part in scopes(body["interchanges"][0]) if "faults" in part]
        assert found == [body["faults"]]
        assert found[0][0].startswith(where)


@pytest.mark.parametrize("name", FAULTY)
def test_a_cut_or_edited_file_is_refused(name: str) -> None:
    assert FAULTY[name] in refused((DATA / name).read_bytes()).message


def test_elements_and_components() -> None:
    found = transaction(b"SV1*HC>99213>25*40*UN*1~", 3)
    assert found["segments"] == [
        {"tag": "SV1", "e1": "HC", "e1_2": "99213", "e1_3": "25", "e2": "40", "e3": "UN", "e4": "1"}
    ]


def test_repeated_elements_where_the_version_has_them() -> None:
    assert transaction(b"DMG*a^b~", 3)["segments"][0]["e1"] == [{"1": "a"}, {"1": "b"}]
    assert transaction(b"DMG*a^b~", 3, mark=b"U")["segments"][0]["e1"] == "a^b"
    assert transaction(b"DMG*a^b~", 3, repetition=False)["segments"][0]["e1"] == "a^b"


def test_a_loop_gathers_the_hierarchical_levels() -> None:
    found = X12(loop="HL").decode((DATA / "856_mockedi.edi").read_bytes())
    one = found["interchanges"][0]["groups"][0]["transactions"][0]
    assert [item["segments"][0].get("e3") for item in one["items"]] == ["S", "O", "I", "I"]
    assert one["summary"] == [{"tag": "CTT", "e1": "4"}]
    assert X12().decode(X12(loop="HL").encode(found)) == X12().decode((DATA / "856_mockedi.edi").read_bytes())


def test_a_line_end_may_end_the_segments() -> None:
    data = (ISA % b"U" + GS + b"ST*856*0001~BSN*00~SE*3*0001~" + END).replace(b"~", b"\n")
    assert X12().decode(data)["interchanges"][0]["control_number"] == "000000007"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it is empty"),
        (b"UNB+UNOA", "begins with"),
        (b"ISA" + b"*" * 110, "elements instead of 16"),
        (ISA % b"U" + GS, "no trailer (GE)"),
        (ISA % b"U" + GS + b"ST*856*0001~", "no trailer (SE)"),
        (ISA % b"U" + GS + b"ST*856*0001~SE*3*0001~" + END, "has 2 segments, its trailer says 3"),
        (ISA % b"U" + GS + b"ST*856*0001~SE*2*0002~" + END, "ends with '0002'"),
        (ISA % b"U" + b"BSN*1~", "outside of a group"),
        (ISA % b"U" + GS + b"BSN*1~" + END, "outside of a transaction"),
        (ISA % b"U" + GS + b"ST*856*0001~SE*2*0001~" + END + b"ST*1", "has no end"),
        (ISA % b"U" + b"IEA*0*000000007~BSN*1~", "outside of an interchange"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, words: str) -> None:
    assert words in refused(data).message


def interchange(**changes: Any) -> Any:
    about = {"sender": "A", "recipient": "B", "date": "260101", "time": "1200", "control_number": "7"}
    group = {"functional_id": "SH", "control_number": "1", "transactions": [{"type": "856", "control_number": "0001"}]}
    return {"interchanges": [about | {"groups": [group]} | changes]}


def test_trailers_and_padding_are_made() -> None:
    data = X12(newline=False).encode(interchange())
    assert data.startswith(
        b"ISA*00*          *00*          *  *A              *  *B              *260101*1200*U*00401*000000007"
    )
    assert data[105:106] == b"~"
    assert data.endswith(b"ST*856*0001~SE*2*0001~GE*1*1~IEA*1*000000007~")


@pytest.mark.parametrize(
    ("body", "words", "at"),
    [
        ({}, "without `interchanges`", ""),
        (interchange(sender=""), "no `sender`", "/interchanges/0/sender"),
        (interchange(sender="A" * 16), "does not fit into 15", "/interchanges/0/sender"),
        (interchange(control_number="x"), "1 to 9 digits", "/interchanges/0/control_number"),
        (interchange(groups=[{}]), "a group needs", "/interchanges/0/groups/0"),
        (interchange(groups="x"), "not a list of objects", "/interchanges/0/groups"),
    ],
)
def test_what_cannot_be_written_is_said(body: Any, words: str, at: str) -> None:
    with pytest.raises(Invalid) as caught:
        X12().encode(body)
    assert words in caught.value.message
    assert caught.value.violations[0].pointer == at


def test_x12_has_no_escape() -> None:
    segments = [{"tag": "MSG", "e1": "5*3"}]
    group = {
        "functional_id": "SH",
        "control_number": "1",
        "transactions": [{"type": "864", "control_number": "1", "segments": segments}],
    }
    with pytest.raises(Invalid, match="service character"):
        X12().encode(interchange(groups=[group]))
