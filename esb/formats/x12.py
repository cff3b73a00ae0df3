"""ANSI ASC X12: interchanges, functional groups and transaction sets, with their counts and control numbers checked."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from esb.formats.charset import Encoding, decode_text, encode_text
from esb.formats.edi import (
    Faults,
    Loop,
    Marks,
    Segment,
    body_segments,
    cell,
    from_json,
    items_of,
    split_segments,
    to_json,
    unterminated,
    write_segment,
)
from esb.formats.faults import invalid, shown
from esb.registry import format_
from esb.spec import option

_BAD = "the body is not valid X12"
_UNWRITABLE = "the body cannot be written as X12"
#: an ISA segment is as long as this, its end mark included; it declares the service characters by their places
ISA_LENGTH = 106
SUMMARY = frozenset({"CTT"})
#: the fields of ISA in their order, with their widths (X12.5)
_ISA = (
    ("authorization_qualifier", 2), ("authorization", 10), ("security_qualifier", 2), ("security", 10),
    ("sender_qualifier", 2), ("sender", 15), ("recipient_qualifier", 2), ("recipient", 15), ("date", 6), ("time", 4),
    ("standard", 1), ("version", 5), ("control_number", 9), ("acknowledge", 1), ("usage", 1),
)  # fmt: skip
_GS = ("functional_id", "sender", "recipient", "date", "time", "control_number", "agency", "version")


@format_("x12")
@dataclass(frozen=True, slots=True)
class X12:
    """ASC X12 as segments of elements; service characters, counts and control numbers are taken care of.

    `{ interchanges: [ { sender, recipient, control_number, …, groups: [ { functional_id: SH, …, transactions: [ { type: "856",
    control_number, segments: [ … ] } ] } ] } ] }`. A segment is `{ tag: LIN, e1: "10", e2: VP }`: `e2` is LIN02, `e2_2` its second
    component. With `loop: HL` the repeating part of a transaction is under `items`. A count or control number that does not match
    refuses the file. When written, counts and trailers are made; X12 has no escape, so a text with a service character is refused.
    """

    content_type: ClassVar[str] = "application/edi-x12"
    media_types: ClassVar[tuple[str, ...]] = ("application/edi-x12",)
    #: what senders call it as well, where a source names this format
    also_accepts: ClassVar[tuple[str, ...]] = ("text/plain",)
    suffixes: ClassVar[tuple[str, ...]] = (".x12",)

    loop: str = option(
        default="",
        doc="Tag that begins each item of a transaction, such as `HL` or `PO1`.",
        example="HL",
        aliases=("group",),
    )
    encoding: Encoding = option(default="utf-8", doc="Encoding of the bytes.", example="iso-8859-1")
    faults: Literal["refuse", "report"] = option(
        default="refuse",
        doc="Counts or control numbers that do not match: `refuse` the file, or read it and list them under `faults`, and "
        "beside the transaction, group or interchange that they are of.",
        example="report",
    )
    newline: bool = option(default=True, doc="Write a line end after each segment.", example=False)
    repetition: bool = option(
        default=True,
        doc="Whether ISA11 separates repeated elements where the version (00402 and later) says so; some senders put "
        "any character there.",
        example=False,
    )

    def decode(self, data: bytes) -> dict[str, Any]:
        """The interchanges of the file. Raises Invalid with the number of the segment that is wrong."""
        text = decode_text(data, self.encoding, _BAD).lstrip("\ufeff\r\n\t ")
        marks = self._marks(text)
        if marks.terminator not in "\r\n" and (cut := unterminated(text, marks, _BAD)) is not None:
            raise cut
        segments = deque(split_segments(text, marks, _BAD))
        loop = Loop(self.loop, SUMMARY) if self.loop else None
        faults = Faults(_BAD, report=self.faults == "report")
        interchanges = []
        while segments:
            segment = segments.popleft()
            if segment.tag != "ISA":
                raise invalid(_BAD, f"segment {segment.number} ({segment.tag}) stands outside of an interchange")
            interchanges.append(_interchange(segment, segments, loop, faults))
        return faults.beside({"interchanges": interchanges})

    def encode(self, body: Any) -> bytes:
        """The interchanges with their trailers. Raises Invalid with the pointer of what does not fit."""
        if not isinstance(body, Mapping) or not body.get("interchanges"):
            hint = "write `map: { interchanges: [ … ] }`"
            raise invalid(_UNWRITABLE, f"it is {shown(body)} without `interchanges`", hint=hint)
        lines: list[str] = []
        for index, interchange in enumerate(items_of(body, "interchanges", (), _UNWRITABLE)):
            lines.extend(self._written(interchange, ("interchanges", index)))
        end = "\n" if self.newline else ""
        return encode_text(end.join(lines) + end, self.encoding, _UNWRITABLE)

    def _marks(self, text: str) -> Marks:
        if not text:
            raise invalid(_BAD, "it is empty")
        if not text.startswith("ISA") or len(text) < ISA_LENGTH:
            raise invalid(
                _BAD, f"it begins with {shown(text[:12])}; an interchange begins with an ISA of 106 characters"
            )
        element, component, terminator = text[3], text[104], text[105]
        fields = text[:105].split(element)
        if len(fields) != 17:
            raise invalid(_BAD, f"ISA has {len(fields) - 1} elements instead of 16", hint="are its fields padded?")
        mark = fields[11]
        repeats = self.repetition and fields[12] >= "00402" and len(mark) == 1 and not mark.isalnum() and mark != " "
        return Marks(component, element, terminator, "", mark if repeats else "")

    def _written(self, body: Mapping[str, Any], at: tuple[str | int, ...]) -> list[str]:
        about = {name: cell(body.get(name), (*at, name), _UNWRITABLE) for name, _ in _ISA}
        defaults = {"authorization_qualifier": "00", "security_qualifier": "00", "standard": "U", "version": "00401"}
        about = {name: value or defaults.get(name, "") for name, value in about.items()}
        about["acknowledge"] = about["acknowledge"] or "0"
        about["usage"] = about["usage"] or "P"
        number = _number(about["control_number"], (*at, "control_number")).zfill(9)
        about["control_number"] = number
        repetition = about["standard"] if about["version"] >= "00402" and not about["standard"].isalnum() else ""
        marks = Marks(">", "*", "~", "", repetition)
        if repetition and repetition in marks.special[:3]:
            raise invalid(_UNWRITABLE, f"{shown(repetition)} is another service character", at=(*at, "standard"))
        lines = [_isa(about, at, marks)]
        groups = items_of(body, "groups", at, _UNWRITABLE)
        for index, segment in enumerate(body.get("segments") or ()):
            tag, elements = from_json(segment, (*at, "segments", index), _UNWRITABLE)
            lines.append(write_segment(tag, elements, marks, _UNWRITABLE))
        for index, group in enumerate(groups):
            lines.extend(_group_lines(group, (*at, "groups", index), marks))
        lines.append(write_segment("IEA", [[[str(len(groups))]], [[number]]], marks, _UNWRITABLE))
        return lines


def _isa(about: Mapping[str, str], at: tuple[str | int, ...], marks: Marks) -> str:
    fields = []
    for name, width in _ISA:
        value = about[name]
        if len(value) > width or any(mark in value for mark in "*>~"):
            raise invalid(_UNWRITABLE, f"`{name}` {shown(value)} does not fit into {width} characters", at=(*at, name))
        if not value and name in ("sender", "recipient", "date", "time"):
            raise invalid(_UNWRITABLE, f"the interchange has no `{name}`", at=(*at, name))
        fields.append(value.ljust(width))
    return marks.element.join(["ISA", *fields, marks.component]) + marks.terminator


def _number(text: str, at: tuple[str | int, ...]) -> str:
    if not text.isdigit() or len(text) > 9:
        raise invalid(_UNWRITABLE, f"the control number {shown(text)} is not 1 to 9 digits", at=at)
    return text


def _group_lines(group: Mapping[str, Any], at: tuple[str | int, ...], marks: Marks) -> list[str]:
    fields = [cell(group.get(name), (*at, name), _UNWRITABLE) for name in _GS]
    fields[6] = fields[6] or "X"
    if not fields[0] or not fields[5]:
        raise invalid(_UNWRITABLE, "a group needs `functional_id` and `control_number`", at=at)
    lines = [write_segment("GS", [[[field]] for field in fields], marks, _UNWRITABLE)]
    transactions = items_of(group, "transactions", at, _UNWRITABLE)
    for index, one in enumerate(transactions):
        where = (*at, "transactions", index)
        kind, number = (cell(one.get(name), (*where, name), _UNWRITABLE) for name in ("type", "control_number"))
        if not kind or not number:
            raise invalid(_UNWRITABLE, "a transaction needs `type` and `control_number`", at=where)
        head = [[[kind]], [[number]], [[cell(one.get("convention"), (*where, "convention"), _UNWRITABLE)]]]
        body = [
            write_segment(tag, elements, marks, _UNWRITABLE) for tag, elements in body_segments(one, where, _UNWRITABLE)
        ]
        trailer = write_segment("SE", [[[str(len(body) + 2)]], [[number]]], marks, _UNWRITABLE)
        lines.extend([write_segment("ST", head, marks, _UNWRITABLE), *body, trailer])
    lines.append(write_segment("GE", [[[str(len(transactions))]], [[fields[5]]]], marks, _UNWRITABLE))
    return lines


# -- reading -----------------------------------------------------------------------------------------------------------
def _interchange(isa: Segment, segments: deque[Segment], loop: Loop | None, faults: Faults) -> dict[str, Any]:
    interchange: dict[str, Any] = {
        name: isa.get(i).strip() for i, (name, _) in enumerate(_ISA, 1) if isa.get(i).strip()
    }
    if "standard" not in interchange:  # ISA11 is the repetition mark itself and was taken for one
        interchange["standard"] = "U" if not isa.elements[10:11] or len(isa.elements[10]) < 2 else "^"
    groups: list[dict[str, Any]] = []
    loose: list[dict[str, Any]] = []
    while segments:
        segment = segments.popleft()
        if segment.tag == "GS":
            groups.append(_group(segment, segments, loop, faults))
        elif segment.tag == "IEA":
            seen = len(faults.found)
            _agree(faults, "the interchange", len(groups), segment, interchange.get("control_number", ""), "groups")
            return faults.beside(interchange | ({"segments": loose} if loose else {}) | {"groups": groups}, seen)
        elif segment.tag in ("TA1", "TA3", "ISB", "ISE"):
            loose.append(to_json(segment))
        else:
            raise invalid(_BAD, f"segment {segment.number} ({segment.tag}) stands outside of a group")
    seen = len(faults.found)
    faults.add("the interchange has no trailer (IEA)")
    return faults.beside(interchange | ({"segments": loose} if loose else {}) | {"groups": groups}, seen)


def _group(gs: Segment, segments: deque[Segment], loop: Loop | None, faults: Faults) -> dict[str, Any]:
    group: dict[str, Any] = {name: gs.get(index) for index, name in enumerate(_GS, 1) if gs.get(index)}
    transactions: list[dict[str, Any]] = []
    while segments:
        segment = segments.popleft()
        if segment.tag == "ST":
            transactions.append(_transaction(segment, segments, loop, faults))
        elif segment.tag == "GE":
            seen = len(faults.found)
            _agree(faults, "the group", len(transactions), segment, group.get("control_number", ""), "transactions")
            return faults.beside(group | {"transactions": transactions}, seen)
        else:
            raise invalid(_BAD, f"segment {segment.number} ({segment.tag}) stands outside of a transaction")
    seen = len(faults.found)
    faults.add(f"group {shown(gs.get(6))} has no trailer (GE)")
    return faults.beside(group | {"transactions": transactions}, seen)


def _transaction(st: Segment, segments: deque[Segment], loop: Loop | None, faults: Faults) -> dict[str, Any]:
    names = ("type", "control_number", "convention")
    about: dict[str, Any] = {name: st.get(index) for index, name in enumerate(names, 1) if st.get(index)}
    body: list[Segment] = []
    while segments and segments[0].tag not in ("ST", "SE", "GE", "IEA", "ISA"):
        body.append(segments.popleft())
    what, seen = f"transaction {shown(st.get(2))}", len(faults.found)
    if segments and segments[0].tag == "SE":
        _agree(faults, what, len(body) + 2, segments.popleft(), st.get(2), "segments")
    else:
        faults.add(f"{what} has no trailer (SE)")
    parts = {"segments": [to_json(one) for one in body]} if loop is None else loop.parts(body)
    return faults.beside(about | parts, seen)


def _agree(faults: Faults, what: str, count: int, trailer: Segment, number: str, noun: str) -> None:
    said, ends = trailer.get(1), trailer.get(2)
    if not said.isdigit() or int(said) != count:
        faults.add(f"{what} has {count} {noun}, its trailer says {said or 'nothing'}")
    if ends.strip() != number.strip():
        faults.add(f"{what} begins with control number {shown(number)} and ends with {shown(ends)}")
