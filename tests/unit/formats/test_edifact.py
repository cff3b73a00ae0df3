"""EDIFACT: service characters, escapes, counts and references, loops, character sets; every real file there and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from esb.errors import Invalid
from esb.formats.edifact import Edifact

DATA = Path(__file__).parents[3] / "examples" / "data" / "edifact"
FILES = sorted(path for path in DATA.iterdir() if path.suffix != ".md")
#: real files whose trailers do not match what they hold: file → words of the fault
FAULTY = {
    "ORDERS_D96A_kramp.edi": "no trailer (UNT)",
    "messages_v3_aperak.edi": "has 7 segments, its trailer says 8",
    "order.edi": "no trailer (UNZ)",
    "orders-with-group.edi": "has 18 segments, its trailer says 21",
}
HEAD = b"UNB+UNOC:3+A:14+B:14+260101:1200+7'UNH+1+DESADV:D:96A:UN'"
GROUP = HEAD.replace(b"UNH", b"UNG+X+A+B+260101:1200+G1+UN+D:96A'UNH") + b"UNT+2+1'"


def one(segments: bytes, count: int, **options: Any) -> Any:
    data = HEAD + segments + b"UNT+%d+1'UNZ+1+7'" % count
    return Edifact(**options).decode(data)["messages"][0]


def refused(data: bytes, **options: Any) -> Invalid:
    with pytest.raises(Invalid) as caught:
        Edifact(**options).decode(data)
    return caught.value


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_every_real_file_goes_there_and_back(path: Path) -> None:
    codec = Edifact(faults="report")
    body = codec.decode(path.read_bytes())
    faults = body.pop("faults", [])
    assert any(FAULTY[path.name] in fault for fault in faults) if path.name in FAULTY else not faults
    for message in body["messages"]:
        message.pop("faults", None)
    assert codec.decode(codec.encode(body)) == body


@pytest.mark.parametrize("name", FAULTY)
def test_a_cut_or_edited_file_is_refused(name: str) -> None:
    error = refused((DATA / name).read_bytes())
    assert FAULTY[name] in error.message
    assert "faults: report" in error.hint


def test_a_segment_is_addressed_by_element_and_component() -> None:
    message = one(b"LIN+10++WIDGET-001:VP'QTY+12:120:PCE'", 4)
    assert message["segments"] == [
        {"tag": "LIN", "e1": "10", "e3": "WIDGET-001", "e3_2": "VP"},
        {"tag": "QTY", "e1": "12", "e1_2": "120", "e1_3": "PCE"},
    ]
    assert message["type"] == "DESADV"
    assert message["release"] == "96A"


def test_a_loop_gathers_the_segments_of_each_item() -> None:
    message = one(b"BGM+351+S1+9'LIN+1'QTY+12:1'LIN+2'QTY+12:2'UNS+S'CNT+2:2'", 9, loop="LIN")
    assert [segment["tag"] for segment in message["segments"]] == ["BGM"]
    assert [[segment["tag"] for segment in item["segments"]] for item in message["items"]] == [["LIN", "QTY"]] * 2
    assert [segment["tag"] for segment in message["summary"]] == ["UNS", "CNT"]


def test_loops_are_written_in_the_order_of_the_file() -> None:
    data = (DATA / "DESADV_D96A_mockedi.edi").read_bytes()
    looped, flat = Edifact(loop="LIN"), Edifact()
    assert flat.decode(looped.encode(looped.decode(data))) == flat.decode(data)


def test_released_characters_are_text() -> None:
    message = one(b"FTX+AAI+++it?'s 5?+3 ??:b'", 3)
    assert message["segments"][0] == {"tag": "FTX", "e1": "AAI", "e4": "it's 5+3 ?", "e4_2": "b"}
    assert b"it?'s 5?+3 ??:b'" in Edifact().encode(
        {
            "interchange": {"sender": "A", "recipient": "B", "date": "260101", "time": "1200", "reference": "7"},
            "messages": [message],
        }
    )


def test_own_service_characters_are_read() -> None:
    body = Edifact().decode((DATA / "invoic_d97b_una.edi").read_bytes())
    assert body["interchange"]["sender"] == "005435656"
    assert body["interchange"]["recipient"] == "006415160"  # `?4` is a released digit


def test_the_declared_character_set_is_read() -> None:
    body = Edifact().decode((DATA / "ORDRSP_latin1_mockedi.edi").read_bytes())
    texts = [segment.get("e3_4", "") for segment in body["messages"][0]["segments"] if segment["tag"] == "IMD"]
    assert "Lagerring 6204 gehärtet" in texts


def test_repeated_elements_of_syntax_4() -> None:
    data = b"UNB+UNOC:4+A+B+20260101:1200+7'UNH+1+X:D:96A:UN'AAA+a:b*c'UNT+3+1'UNZ+1+7'"
    body = Edifact().decode(data)
    assert body["messages"][0]["segments"] == [{"tag": "AAA", "e1": [{"1": "a", "2": "b"}, {"1": "c"}]}]
    assert Edifact().decode(Edifact().encode(body)) == body


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it is empty"),
        (b"UNH+1+A:D:96A:UN'", "begins with UNH"),
        (HEAD + b"LIN+1'", "no trailer (UNT)"),
        (HEAD + b"UNT+2+1'UNZ+1+7", "has no end"),
        (HEAD + b"UNT+2+1'UNZ+2+7'", "has 1 messages, its trailer says 2"),
        (HEAD + b"UNT+2+9'UNZ+1+7'", "ends with the reference '9'"),
        (HEAD + b"UNT+2+1'UNZ+1+8'", "ends with '8'"),
        (HEAD + b"<x/>'UNT+3+1'UNZ+1+7'", "no segment tag"),
        (HEAD + b"UNT+2+1'LIN+1'UNZ+1+7'", "stands outside of a message"),
        (HEAD + b"UNT+2+1'UNZ+1+7'UNB+'", "follows the end"),
        (b"UNB+UNOA:1+A+\xff'", "0xFF"),
        (GROUP + b"UNE+2+G1'UNZ+1+7'", "group 'G1' has 1 messages, its trailer says 2"),
        (GROUP + b"UNE'UNZ+1+7'", "group 'G1' has 1 messages, its trailer says nothing"),
        (GROUP + b"UNE+1+G2'UNZ+1+7'", "group 'G1' ends with the reference 'G2'"),
        (GROUP + b"UNZ+1+7'", "group 'G1' has no trailer (UNE)"),
        (GROUP + b"UNG+X+A+B+260101:1200+G2'UNE+0+G2'UNZ+2+7'", "group 'G1' has no trailer (UNE)"),
        (GROUP + b"UNE+1+G1'UNE+1+G1'UNZ+1+7'", "(UNE) ends a group that has not begun"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, words: str) -> None:
    assert words in refused(data).message


def test_the_count_of_a_group_is_its_own() -> None:
    second = (
        GROUP.removeprefix(HEAD[: HEAD.index(b"UNH")]).replace(b"G1", b"G2")
        + b"UNH+2+DESADV:D:96A:UN'UNT+2+2'UNE+2+G2'UNZ+2+7'"
    )
    messages = Edifact().decode(GROUP + b"UNE+1+G1'" + second)["messages"]
    assert [message["group"] for message in messages] == ["G1", "G2", "G2"]


def test_groups_go_there_and_back() -> None:
    data = (DATA / "orders-with-group.edi").read_bytes()
    body = Edifact(faults="report").decode(data)
    assert body["groups"] == [
        {
            "type": "ORDERS", "sender": "5400110000009", "sender_qualifier": "14", "recipient": "5013546107732",
            "recipient_qualifier": "14", "date": "010502", "time": "1237", "reference": "1", "agency": "UN", "version": "D",
            "release": "96A", "association": "EAN008A",
        }
    ]  # fmt: skip
    written = Edifact().encode(body)
    assert b"UNG+ORDERS+5400110000009:14+5013546107732:14+010502:1237+1+UN+D:96A:EAN008A'" in written
    assert written.endswith(b"UNE+1+1'\r\nUNZ+1+2722166169492'\r\n")
    assert Edifact().decode(written)["groups"] == body["groups"]


def test_messages_are_written_in_the_order_of_their_groups() -> None:
    about = {"sender": "A", "recipient": "B", "date": "260101", "time": "1200", "reference": "7"}
    groups = [{"type": "X", "reference": "G1"}, {"type": "X", "reference": "empty"}, {"type": "Y"}]
    messages = [{"type": "Y", "reference": "1", "group": "Y"}, {"type": "X", "reference": "2", "group": "G1"}]
    written = Edifact(newline=False).encode({"interchange": about, "groups": groups, "messages": messages})
    assert written.partition(b"1200+7'")[2] == (
        b"UNG+X++++G1'UNH+2+X:D:96A:UN'UNT+2+2'UNE+1+G1'UNG+X++++empty'UNE+0+empty'"
        b"UNG+Y'UNH+1+Y:D:96A:UN'UNT+2+1'UNE+1+Y'UNZ+3+7'"
    )
    assert [message["group"] for message in Edifact().decode(written)["messages"]] == ["G1", "Y"]


ABOUT = {"sender": "A", "recipient": "B", "date": "260101", "time": "1200", "reference": "7"}
IN_G1 = {"interchange": ABOUT, "messages": [{"type": "X", "group": "G1"}]}


@pytest.mark.parametrize(
    ("body", "words", "at"),
    [
        (IN_G1, "names a group, and there are no `groups`", "/messages/0/group"),
        (IN_G1 | {"groups": [{"reference": "G2"}]}, "message 1 belongs to no group: 'G1'", "/messages/0/group"),
        (IN_G1 | {"groups": [{"sender": "A"}]}, "group 1: it has no `reference`", "/groups/0/reference"),
        (
            IN_G1 | {"groups": [{"reference": "G1"}, {"reference": "G1"}]},
            "group 2: another one is called 'G1', too",
            "/groups/1/reference",
        ),
        ([], "without an `interchange`", ""),
        ({"interchange": {"sender": "A"}, "messages": [{}]}, "no `reference`", "/interchange/reference"),
        ({"interchange": {"reference": "7"}, "messages": []}, "no messages", "/messages"),
        ({"interchange": {"reference": "7"}, "messages": [{"type": "X"}]}, "no `sender`", "/interchange/sender"),
    ],
)
def test_what_cannot_be_written_is_said(body: Any, words: str, at: str) -> None:
    with pytest.raises(Invalid) as caught:
        Edifact().encode(body)
    assert words in caught.value.message
    assert caught.value.violations[0].pointer == at


@pytest.mark.parametrize(
    ("segment", "words"),
    [
        ({"tag": "x!"}, "no segment tag"),
        ({"tag": "LIN", "qty": "1"}, "is no element"),
        ({"tag": "LIN", "e1": {"a": 1}}, "does not fit into an element"),
        ({"tag": "LIN", "e1": True}, "does not fit into an element"),
        ({"tag": "LIN", "e1": [{"x": "1"}]}, "is no component"),
    ],
)
def test_a_wrong_segment_has_a_pointer(segment: Any, words: str) -> None:
    about = {"sender": "A", "recipient": "B", "date": "260101", "time": "1200", "reference": "7"}
    with pytest.raises(Invalid) as caught:
        Edifact().encode({"interchange": about, "messages": [{"type": "X", "segments": [segment]}]})
    assert words in caught.value.message
    assert caught.value.violations[0].pointer.startswith("/messages/0/segments/0")


def test_a_syntax_that_is_none_is_written_in_the_characters_it_was_read_in() -> None:
    data = HEAD.replace(b"UNOC", b"UNOCO").replace(b"+A:", b"+\xc4:") + b"BGM+351'UNT+3+1'UNZ+1+7'"
    body = Edifact().decode(data)
    assert body["interchange"]["sender"] == "Ä"
    assert Edifact().decode(Edifact().encode(body)) == body
