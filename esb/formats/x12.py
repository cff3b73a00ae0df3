"""ANSI ASC X12: interchanges, functional groups and transaction sets, with their counts and control numbers checked."""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, BinaryIO, ClassVar, Literal

from esb.formats.charset import Encoding, encode_text, text_pieces
from esb.formats.edi import (
    Faults,
    Loop,
    Marks,
    Segment,
    body_segments,
    cell,
    from_json,
    items_of,
    to_json,
    write_segment,
)
from esb.formats.edi_read import BLANK, CONTENT, PIECE, Kept, Segments
from esb.formats.faults import invalid, shown
from esb.formats.lines import LONGEST
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
#: the lists of a file, one inside of the other
_LISTS = ("interchanges", "groups", "transactions")
#: what ends a transaction that has no trailer
_ENDS = frozenset({"ST", "SE", "GE", "IEA", "ISA"})
_GS = ("functional_id", "sender", "recipient", "date", "time", "control_number", "agency", "version")


@format_("x12")
@dataclass(frozen=True, slots=True)
class X12:
    """ASC X12 as segments of elements; service characters, counts and control numbers are taken care of.

    `{ interchanges: [ { sender, recipient, control_number, …, groups: [ { functional_id: SH, …, transactions: [ { type: "856",
    control_number, segments: [ … ] } ] } ] } ] }`. A segment is `{ tag: LIN, e1: "10", e2: VP }`: `e2` is LIN02, `e2_2` its second
    component. With `loop: HL` the repeating part of a transaction is under `items`. A count or control number that does not match
    refuses the file. A `split` with `each: body.interchanges[].groups[].transactions[]` reads a large one transaction by transaction.
    When written, counts and trailers are made; X12 has no escape, so a text with a service character is refused.
    """

    content_type: ClassVar[str] = "application/edi-x12"
    media_types: ClassVar[tuple[str, ...]] = ("application/edi-x12",)
    #: what senders call it as well, where a source names this format
    also_accepts: ClassVar[tuple[str, ...]] = ("text/plain",)
    suffixes: ClassVar[tuple[str, ...]] = (".x12",)
    #: what a `split` reads piece by piece
    each: ClassVar[str] = "body.interchanges[].groups[].transactions[]"

    loop: str = option(
        default="",
        doc="Tag that begins each item of a transaction, such as `HL` or `PO1`.",
        example="HL",
        aliases=("group",),
    )
    encoding: Encoding = option(default="utf-8", doc="Encoding of the bytes.", example="iso-8859-1")
    faults: Literal["refuse", "report", "mark"] | None = option(
        default=None,
        doc="Counts or control numbers that do not match: `refuse` the file, read it and list them under `faults`, and beside the"
        " transaction, group or interchange that they are of (`report`), or give a transaction with its own in `$error`, for a `split`"
        " with `on_item_error: quarantine` (`mark`). Without it `mark` where such a split of"
        " `body.interchanges[].groups[].transactions[]` is the first step of the route, else `refuse`.",
        example="report",
    )
    envelope: bool = option(
        default=False,
        doc="Give each transaction what its envelope says under `interchange` and `group`, for a `split` whose items need it.",
        example=True,
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
        reading = self._reading(io.BytesIO(data), -1)
        return reading.faults.beside({"interchanges": list(reading.parts(0))})

    def streams(self, path: tuple[str, ...]) -> bool:
        """The list is `body.interchanges`, or one of those inside with all before it, as `body.interchanges[].groups[].transactions[]`."""
        return path == _LISTS[:1] or (bool(path) and path == self._paths()[: len(path)])

    def items(self, source: BinaryIO, path: tuple[str, ...]) -> Iterator[Any]:
        """The parts of the file one by one, each of bounded size. Raises Invalid as :meth:`decode`."""
        level = min(len(path), len(_LISTS)) - 1
        reading = self._reading(source, PIECE, LONGEST, level)
        for part in reading.parts(level):
            if len(path) <= len(_LISTS):
                yield part
            else:
                yield from part["items"]
            reading.faults.found.clear()

    def outlines(self, removed: AbstractSet[tuple[str, ...]]) -> bool:
        """Whether the body without what is at these places is small: without one of its lists, or without all segments."""
        parts = CONTENT if self.loop else CONTENT[:1]
        return _cut_at(removed) < len(_LISTS) or all((*_LISTS, part) in removed for part in parts)

    def outline(self, source: BinaryIO, removed: AbstractSet[tuple[str, ...]]) -> Generator[None, None, dict[str, Any]]:
        """That body; pauses after each transaction. Raises Invalid as :meth:`decode`, and where it is not small."""
        reading = self._reading(source, PIECE, LONGEST, len(_LISTS) - 1)
        kept = Kept(
            _BAD, "it has very many transactions: `remove` them all, `body.interchanges[].groups[].transactions`"
        )
        cut, inside = _cut_at(removed), _Inside()
        for level, part in reading.walk():
            left = part if level < 2 else {name: value for name, value in part.items() if name not in CONTENT}
            kept.add(left if level < cut else {}, reading.faults.size)
            if level < cut:
                inside.add(level, left, cut)
            yield
        return reading.faults.beside({"interchanges": inside.lists[0]} if cut else {})

    def marking(self, path: tuple[str, ...]) -> X12 | None:
        """The same that marks transactions which are wrong for themselves, where nothing else is said."""
        return replace(self, faults="mark") if self.faults is None and path == self._paths()[: len(_LISTS)] else None

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

    def _paths(self) -> tuple[str, ...]:
        """The longest path that can be streamed."""
        return tuple(f"{name}[]" for name in (*_LISTS, *(("items",) if self.loop else ())))

    def _reading(self, source: BinaryIO, piece: int, most: int = 0, level: int = 0) -> _Reading:
        """The file whose parts are still to be read; those at ``level`` have at most so many characters. Raises Invalid."""
        pieces, text = text_pieces(source, self.encoding, _BAD, piece), ""
        for one in pieces:
            text = (text + one).lstrip("\ufeff" + BLANK)
            if len(text) >= ISA_LENGTH:
                break
        marks = self._marks(text)
        open_end = marks.terminator in "\r\n"
        segments = Segments(chain([text], pieces), marks, _BAD, open_end=open_end, most=most)
        loop = Loop(self.loop, SUMMARY) if self.loop else None
        return _Reading(segments, loop, Faults(_BAD, self.faults), level, envelope=self.envelope)

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
class _Inside:
    """Puts the parts of a file into the lists that they belong to; each comes when it is complete."""

    def __init__(self) -> None:
        self.lists: list[list[dict[str, Any]]] = [[] for _ in _LISTS]

    def add(self, level: int, part: dict[str, Any], cut: int = len(_LISTS)) -> dict[str, Any]:
        """``part`` with those that came before it and are inside of it; without them where its list is cut off."""
        if level + 1 < cut:
            faults = part.pop("faults", None)
            part[_LISTS[level + 1]] = self.lists[level + 1]
            self.lists[level + 1] = []
            if faults is not None:
                part["faults"] = faults
        self.lists[level].append(part)
        return part


class _Reading:
    """A file while its parts are read, each of which at ``level`` (0: interchanges, 2: transactions) is held in memory."""

    def __init__(
        self, segments: Segments, loop: Loop | None, faults: Faults, level: int, *, envelope: bool = False
    ) -> None:
        self.faults = faults
        self._segments = segments
        self._loop = loop
        self._level = level
        self._envelope: dict[str, Any] | None = {} if envelope else None

    def parts(self, level: int) -> Iterator[dict[str, Any]]:
        """Each part at a level with all that is inside of it. Raises Invalid."""
        inside = _Inside()
        for at, part in self.walk():
            if at < level:
                continue
            whole = inside.add(at, part)
            if at == level:
                inside.lists[level].clear()
                yield whole

    def walk(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Every transaction, group and interchange when its trailer was read, without what is inside of it. Raises Invalid."""
        while (segment := self._segments.take()) is not None:
            if segment.tag != "ISA":
                raise invalid(_BAD, f"segment {segment.number} ({segment.tag}) stands outside of an interchange")
            yield from self._interchange(segment)

    def _begin(self, level: int) -> None:
        if level == self._level:
            self._segments.begin()

    def _interchange(self, isa: Segment) -> Iterator[tuple[int, dict[str, Any]]]:
        self._begin(0)
        about: dict[str, Any] = {name: isa.get(i).strip() for i, (name, _) in enumerate(_ISA, 1) if isa.get(i).strip()}
        if "standard" not in about:  # ISA11 is the repetition mark itself and was taken for one
            mark = isa.marks.repetition
            about["standard"] = "^" if mark and mark in "".join(isa.fields[10:11]) else "U"
        envelope = {"interchange": about} if self._envelope is not None else {}
        loose: list[dict[str, Any]] = []
        groups, found = 0, self.faults.found
        while (segment := self._segments.take()) is not None:
            if segment.tag == "GS":
                yield from self._group(segment, envelope)
                groups += 1
            elif segment.tag == "IEA":
                seen = len(found)
                self._agree("the interchange", groups, segment, about.get("control_number", ""), "groups")
                break
            elif segment.tag in ("TA1", "TA3", "ISB", "ISE"):
                loose.append(to_json(segment))
            else:
                raise invalid(_BAD, f"segment {segment.number} ({segment.tag}) stands outside of a group")
        else:
            seen = len(found)
            self.faults.add("the interchange has no trailer (IEA)")
        yield 0, self.faults.beside(about | ({"segments": loose} if loose else {}), seen)

    def _group(self, gs: Segment, envelope: Mapping[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
        self._begin(1)
        about: dict[str, Any] = {name: gs.get(index) for index, name in enumerate(_GS, 1) if gs.get(index)}
        envelope = {**envelope, "group": about} if envelope else envelope
        count, found = 0, self.faults.found
        while (segment := self._segments.take()) is not None:
            if segment.tag == "ST":
                yield 2, self._transaction(segment, envelope)
                count += 1
            elif segment.tag == "GE":
                seen = len(found)
                self._agree("the group", count, segment, about.get("control_number", ""), "transactions")
                break
            else:
                raise invalid(_BAD, f"segment {segment.number} ({segment.tag}) stands outside of a transaction")
        else:
            seen = len(found)
            self.faults.add(f"group {shown(gs.get(6))} has no trailer (GE)")
        yield 1, self.faults.beside(dict(about), seen)

    def _transaction(self, st: Segment, envelope: Mapping[str, Any]) -> dict[str, Any]:
        self._begin(2)
        names = ("type", "control_number", "convention")
        about: dict[str, Any] = {name: value for index, name in enumerate(names, 1) if (value := st.get(index))}
        number, seen = about.get("control_number", ""), len(self.faults.found)
        body = self._segments.body(_ENDS, "transaction", number)
        if (end := self._segments.next) is not None and end.tag == "SE":
            self._segments.take()
            self._agree(f"transaction {shown(number)}", len(body) + 2, end, number, "segments", of_item=True)
        else:
            self.faults.add(f"transaction {shown(number)} has no trailer (SE)", of_item=True)
        about.update(envelope)
        if self._loop is None:
            about["segments"] = [to_json(one) for one in body]
        else:
            about.update(self._loop.parts(body))
        return self.faults.beside_item(about, seen)

    def _agree(self, what: str, count: int, trailer: Segment, number: str, noun: str, *, of_item: bool = False) -> None:
        said, ends = trailer.get(1), trailer.get(2)
        if not said.isdigit() or int(said) != count:
            self.faults.add(f"{what} has {count} {noun}, its trailer says {said or 'nothing'}", of_item=of_item)
        if ends.strip() != number.strip():
            detail = f"{what} begins with control number {shown(number)} and ends with {shown(ends)}"
            self.faults.add(detail, of_item=of_item)


def _cut_at(removed: AbstractSet[tuple[str, ...]]) -> int:
    """The level of the outermost list that is removed; beyond all where none is."""
    return next((level for level in range(len(_LISTS)) if _LISTS[: level + 1] in removed), len(_LISTS))
