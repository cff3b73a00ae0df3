"""Large EDIFACT and X12 files: message by message, and without their messages, as the whole is read."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esb.errors import Invalid
from esb.formats import edi_read, edifact, x12
from esb.formats.edifact import Edifact
from esb.formats.x12 import X12
from esb.steps.remove import without

from .test_streaming import Drip, outcome

DATA = Path(__file__).parents[3] / "examples" / "data"
FILES = sorted(path for name in ("edifact", "x12") for path in (DATA / name).iterdir() if path.suffix != ".md")
SIZES = [1, 7, 100, 1 << 20]
MODES = ["refuse", "report", "mark"]
EDIFACT = [("messages",), ("messages[]",), ("messages[]", "items[]")]
X12_LISTS = ("interchanges[]", "groups[]", "transactions[]", "items[]")
ISA = "ISA*00*          *00*          *ZZ*SENDER         *ZZ*RECEIVER       *260101*1200*U*00401*000000007*0*P*>~"


def codecs(kind: str) -> list[Any]:
    made = (
        [Edifact(), Edifact(loop="LIN", envelope=True)] if kind == "edifact" else [X12(), X12(loop="HL", envelope=True)]
    )
    return [replace(codec, faults=mode) for codec in made for mode in MODES]


def paths(codec: Any) -> list[tuple[str, ...]]:
    found = EDIFACT if isinstance(codec, Edifact) else [("interchanges",), *(X12_LISTS[: n + 1] for n in range(4))]
    return [path for path in found if codec.streams(path)]


def at(body: Any, path: tuple[str, ...]) -> list[Any]:
    """What ``body.a[].b[]`` gives."""
    for name in path:
        body = [one for part in (body if isinstance(body, list) else [body]) for one in part[name.removesuffix("[]")]]
    return body


def run_out(work: Any) -> Any:
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def same(codec: Any, data: bytes, size: int) -> None:
    for path in paths(codec):
        expected = outcome(lambda path=path: at(codec.decode(data), path))
        assert outcome(lambda path=path: codec.items(Drip(data, size), path)) == expected


def removals(codec: Any) -> list[set[tuple[str, ...]]]:
    lists = ("messages",) if isinstance(codec, Edifact) else ("interchanges", "groups", "transactions")
    content = {(*lists, part) for part in edi_read.CONTENT}
    return [{lists[: n + 1]} for n in range(len(lists))] + [
        content,
        content | {(*lists, "type"), ("interchange", "date")},
    ]


def same_outlines(codec: Any, data: bytes, size: int) -> None:
    for removed in removals(codec):
        assert codec.outlines(removed)

        def whole(removed: set[tuple[str, ...]] = removed) -> Any:
            body = codec.decode(data)
            for path in removed:
                body = without(body, path, 0)
            return [body]

        def outline(removed: set[tuple[str, ...]] = removed) -> Any:
            body = run_out(codec.outline(Drip(data, size), removed))
            for path in removed:
                body = without(body, path, 0)
            return [body]

        assert outcome(outline) == outcome(whole)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_items_and_outlines_of_real_files_are_those_of_the_whole(path: Path, size: int) -> None:
    data = path.read_bytes()
    for codec in codecs(path.parent.name):
        same(codec, data, size)
        same_outlines(codec, data, size)


def test_what_can_be_streamed_is_a_list_of_the_file() -> None:
    assert [Edifact().streams(path) for path in EDIFACT] == [True, True, False]
    assert [Edifact(loop="LIN").streams(path) for path in EDIFACT] == [True, True, True]
    wrong = [(), ("interchange",), ("messages", "segments"), ("messages[]", "segments[]"), ("a[]", "messages")]
    assert not any(Edifact(loop="LIN").streams(path) for path in wrong)
    assert [X12().streams(X12_LISTS[:n]) for n in range(5)] == [False, True, True, True, False]
    assert X12(loop="HL").streams(X12_LISTS)
    assert not X12().streams(("interchanges", "groups", "transactions")), "that is no list in a body that was read"


def test_what_is_left_is_small_only_without_lists_or_all_segments() -> None:
    assert not Edifact().outlines({("interchange",), ("messages", "type")})
    assert not Edifact(loop="LIN").outlines({("messages", "segments"), ("messages", "summary")})
    assert Edifact().outlines({("messages", "segments")})
    assert not X12().outlines({("interchanges", "groups", "segments")})
    assert X12().outlines({("interchanges", "groups", "transactions", "segments")})


# -- made files --------------------------------------------------------------------------------------------------------
WORDS = st.text("ab7 :+'?*ä\n", max_size=6)
PARTS = st.lists(st.lists(WORDS, min_size=1, max_size=3), max_size=3)
MESSAGE = st.lists(st.tuples(st.sampled_from(["LIN", "QTY", "FTX", "UNS"]), PARTS), max_size=4)
#: what befalls a file on its way: a place of it (of 1000), and what is cut out or put in there
HARM = st.none() | st.tuples(
    st.integers(0, 1000), st.integers(0, 12), st.sampled_from(["", "'", "?", "~", "UNT+3+1'", "\xff"])
)


def as_json(messages: list[list[tuple[str, list[list[str]]]]], kept: Callable[[str], str] = str) -> list[list[Any]]:
    def segment(tag: str, elements: list[list[str]]) -> dict[str, str]:
        named = {
            f"e{n}" + (f"_{i}" if i > 1 else ""): kept(text)
            for n, parts in enumerate(elements, 1)
            for i, text in enumerate(parts, 1)
        }
        return {"tag": tag, **named}

    return [[segment(*one) for one in message] for message in messages]


def harmed(data: bytes, harm: tuple[int, int, str] | None) -> bytes:
    if harm is None:
        return data
    place = harm[0] * len(data) // 1000
    return data[:place] + harm[2].encode("latin-1") + data[place + harm[1] :]


@given(st.lists(MESSAGE, min_size=1, max_size=4), HARM, st.integers(1, 40), st.sampled_from(codecs("edifact")))
def test_any_edifact_file_whole_or_harmed_is_read_the_same(
    messages: list[Any], harm: tuple[int, int, str] | None, size: int, codec: Any
) -> None:
    about = {"sender": "A", "recipient": "B", "date": "260101", "time": "1200", "reference": "7", "syntax": "UNOY"}
    body = [{"type": "X", "reference": str(n), "segments": one} for n, one in enumerate(as_json(messages))]
    data = harmed(Edifact(newline=False).encode({"interchange": about, "messages": body}), harm)
    same(codec, data, size)
    same_outlines(codec, data, size)


@given(st.lists(MESSAGE, min_size=1, max_size=4), HARM, st.integers(1, 40), st.sampled_from(codecs("x12")))
def test_any_x12_file_whole_or_harmed_is_read_the_same(
    messages: list[Any], harm: tuple[int, int, str] | None, size: int, codec: Any
) -> None:
    def plain(text: str) -> str:
        return text.replace("*", "").replace(":", "")

    made = [
        {"type": "856", "control_number": f"{n:04d}", "segments": one} for n, one in enumerate(as_json(messages, plain))
    ]
    groups = [{"functional_id": "SH", "control_number": str(n), "transactions": made[n : n + 2]} for n in (0, 2)]
    about = {"sender": "A", "recipient": "B", "date": "260101", "time": "1200", "control_number": "7"}
    both = {"interchanges": [about | {"groups": groups}, about | {"control_number": "8", "groups": groups[:1]}]}
    data = harmed(X12(newline=False).encode(both), harm)
    same(codec, data, size)
    same_outlines(codec, data, size)


# -- places ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", SIZES)
def test_a_byte_that_is_no_text_has_its_place_in_the_file(size: int) -> None:
    data = b"\n UNA:+.? '\nUNB+UNOW:3+A+B+260101:1200+7'\nUNH+1+X:D:96A:UN'\nFTX+\xc3\xa4\xc3'"
    for read in (lambda: Edifact().decode(data), lambda: list(Edifact().items(Drip(data, size), ("messages",)))):
        with pytest.raises(Invalid, match=r"byte 66 \(line 5\) is 0xC3, which is not utf-8 text"):
            read()


@pytest.mark.parametrize("size", SIZES)
def test_what_is_wrong_before_a_byte_that_is_no_text_is_said_first(size: int) -> None:
    data = b"UNB+UNOY:3+A+B+260101:1200+7'UNH+1+X:D:96A:UN'UNT+9+1'UNH+2+X'\xff"
    with pytest.raises(Invalid, match="message '1' has 2 segments, its trailer says 9"):
        list(Edifact().items(Drip(data, size), ("messages",)))
    data = data.replace(b"UNT+9", b"UNT+2")
    with pytest.raises(Invalid, match="0xFF"):
        list(Edifact().items(Drip(data, size), ("messages",)))


def test_a_file_of_blanks_is_empty() -> None:
    for data in (b"", b" \r\n" * 5000):
        with pytest.raises(Invalid, match="it is empty"):
            list(Edifact().items(io.BytesIO(data), ("messages",)))
        with pytest.raises(Invalid, match="it is empty"):
            list(X12().items(io.BytesIO(data), X12_LISTS[:3]))


# -- bounds ------------------------------------------------------------------------------------------------------------
UNB, UNZ = b"UNB+UNOC:3+A+B+260101:1200+7'", b"UNZ+2+7'"
PAIR = b"".join(b"UNH+%d+X:D:96A:UN'%sUNT+4+%d'" % (n, b"FTX+%s'" % (b"x" * 30) * 2, n) for n in (1, 2))


def test_one_message_is_bounded_and_so_is_one_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edifact, "LONGEST", 100)
    assert len(list(Edifact().items(Drip(UNB + PAIR + UNZ), ("messages",)))) == 2
    monkeypatch.setattr(edifact, "LONGEST", 60)
    with pytest.raises(Invalid, match="message '1' has more than 60 characters"):
        list(Edifact().items(Drip(UNB + PAIR + UNZ), ("messages",)))
    with pytest.raises(Invalid, match="a segment has more than 60 characters"):
        list(Edifact().items(Drip(UNB + b"x" * 100), ("messages",)))
    assert len(Edifact().decode(UNB + PAIR + UNZ)["messages"]) == 2, "the whole has the bounds of the whole"


def test_the_part_of_an_x12_file_that_is_given_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    made = "".join(f"ST*856*{n:04d}~MSG*{'x' * 60}~MSG*{'x' * 60}~SE*4*{n:04d}~" for n in range(3))
    data = f"{ISA}GS*SH*A*B*20260101*1200*3*X*004010~{made}GE*3*3~IEA*1*000000007~".encode()
    monkeypatch.setattr(x12, "LONGEST", 150)
    assert len(list(X12().items(Drip(data), X12_LISTS[:3]))) == 3
    for path in (X12_LISTS[:2], X12_LISTS[:1]):
        with pytest.raises(Invalid, match="has more than 150 characters"):
            list(X12().items(Drip(data), path))


def test_what_is_left_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edi_read, "LONGEST", 60)
    with pytest.raises(Invalid, match="what is left of it has more than 60 characters") as caught:
        run_out(Edifact().outline(Drip(UNB + PAIR + UNZ), {("messages", "segments")}))
    assert "`remove` them all, `body.messages`" in caught.value.hint
    assert run_out(Edifact().outline(Drip(UNB + PAIR + UNZ), {("messages",)}))["interchange"]["sender"] == "A"
    wrong = PAIR.replace(b"UNT+4", b"UNT+5")
    with pytest.raises(Invalid, match="what is left of it"):
        run_out(Edifact(faults="report").outline(Drip(UNB + wrong + UNZ), {("messages",)}))


# -- faults ------------------------------------------------------------------------------------------------------------
def test_a_message_that_is_wrong_for_itself_is_marked_and_the_whole_refused() -> None:
    wrong = UNB + PAIR.replace(b"UNT+4+2", b"UNT+5+9")
    first, second = Edifact(faults="mark").decode(wrong + UNZ)["messages"]
    assert "$error" not in first
    assert second["$error"] == {
        "pointer": "",
        "message": "message '2' has 4 segments, its trailer says 5; message '2' ends with the reference '9'",
    }
    with pytest.raises(Invalid, match="its trailer says 3"):
        Edifact(faults="mark").decode(wrong + UNZ.replace(b"+2", b"+3"))


def test_groups_are_counted_by_their_heads() -> None:
    group = b"UNG+X+A+B+260101:1200+G1+UN+D:96A'" + PAIR + b"UNE+2+G1'"
    assert len(Edifact().decode(UNB + group + group + UNZ)["messages"]) == 4


def test_messages_have_their_envelope_where_that_is_wanted() -> None:
    [item, _] = Edifact(envelope=True).items(io.BytesIO(UNB + PAIR + UNZ), ("messages",))
    assert (item["interchange"]["sender"], item["interchange"]["reference"]) == ("A", "7")
    codec = X12(envelope=True)
    body = codec.decode((DATA / "x12" / "856_mockedi.edi").read_bytes())
    [one] = at(body, X12_LISTS[:3])
    assert (one["interchange"]["control_number"], one["group"]["functional_id"]) == ("000000003", "SH")
    assert codec.decode(codec.encode(body)) == body
