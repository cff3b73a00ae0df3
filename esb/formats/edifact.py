"""UN/EDIFACT (ISO 9735, syntax 1 to 4): interchanges, groups and messages, with their counts and references checked."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from esb.formats.charset import decode_text, encode_text, is_encoding
from esb.formats.edi import (
    Faults,
    Loop,
    Marks,
    Segment,
    body_segments,
    cell,
    items_of,
    split_segments,
    to_json,
    unterminated,
    write_segment,
)
from esb.formats.faults import invalid, shown
from esb.registry import format_
from esb.spec import Kind, Node, Reader, ScalarNode, option

_BAD = "the body is not valid EDIFACT"
_UNWRITABLE = "the body cannot be written as EDIFACT"
#: character sets of UNB (ISO 9735-1, annex D)
CHARSETS: Mapping[str, str] = {
    "UNOA": "utf-8", "UNOB": "utf-8", "UNOC": "iso-8859-1", "UNOD": "iso-8859-2", "UNOE": "iso-8859-5",
    "UNOF": "iso-8859-7", "UNOG": "iso-8859-3", "UNOH": "iso-8859-4", "UNOI": "iso-8859-6", "UNOJ": "iso-8859-8",
    "UNOK": "iso-8859-9", "UNOW": "utf-8", "UNOX": "iso-2022-jp", "UNOY": "utf-8",
}  # fmt: skip
#: where the summary section of a message begins
SUMMARY = frozenset({"UNS", "CNT"})


class AutoEncodingKind(Kind):
    label = "`auto` or an encoding"

    def read(self, node: Node, reader: Reader) -> Any:
        if isinstance(node, ScalarNode) and isinstance(node.value, str):
            if node.value == "auto" or is_encoding(node.value):
                return node.value.lower()
            return reader.problem(
                "ESB105", f"`{node.value}` is not a known encoding", node, hint="leave it out: `auto`"
            )
        return reader.wrong_type(node, self)

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "examples": ["auto", "iso-8859-1"]}


@format_("edifact")
@dataclass(frozen=True, slots=True)
class Edifact:
    """UN/EDIFACT as segments of elements; service characters, counts and references are taken care of.

    `{ interchange: { sender, recipient, reference, … }, messages: [ { type: DESADV, reference, segments: [ … ] } ] }`. A segment
    is `{ tag: LIN, e1: "10", e3: WIDGET-001, e3_2: VP }`: `e3` is the third element (its first component), `e3_2` its second
    component. With `loop: LIN` the repeating part is under `items`, each with its own `segments`, what follows under `summary`.
    A message count, a segment count or a reference that does not match refuses the interchange (a cut or edited file). When
    written, counts and trailers are made, texts are escaped.
    """

    content_type: ClassVar[str] = "application/edifact"
    media_types: ClassVar[tuple[str, ...]] = ("application/edifact", "application/edi-consent")
    #: what senders call it as well, where a source names this format
    also_accepts: ClassVar[tuple[str, ...]] = ("text/plain",)
    suffixes: ClassVar[tuple[str, ...]] = (".edi", ".edifact")

    loop: str = option(
        default="",
        doc="Tag that begins each item of a message, such as `LIN` or `CPS`.",
        example="LIN",
        aliases=("group",),
    )
    encoding: Annotated[str, AutoEncodingKind()] = option(
        default="auto",
        doc="Encoding of the bytes; `auto`: what the interchange declares (`UNOC` is ISO 8859-1, `UNOA` may be UTF-8).",
        example="iso-8859-1",
    )
    faults: Literal["refuse", "report"] = option(
        default="refuse",
        doc="Counts, references or trailers that do not match: `refuse` the file, or read it and list them under `faults`, "
        "those of a message beside it, too.",
        example="report",
    )
    newline: bool = option(default=True, doc="Write a line end after each segment.", example=False)

    def decode(self, data: bytes) -> dict[str, Any]:
        """The interchange. Raises Invalid with the number of the segment that is wrong."""
        text, marks = self._text(data)
        if (cut := unterminated(text, marks, _BAD)) is not None:
            raise cut
        segments = deque(split_segments(text, marks, _BAD))
        head = segments.popleft() if segments else None
        if head is None or head.tag != "UNB":
            found = "it is empty" if head is None else f"it begins with {head.tag}"
            raise invalid(_BAD, f"{found}; an interchange begins with UNB")
        faults = Faults(_BAD, report=self.faults == "report")
        messages, trailer = _messages(segments, self._loop(), faults)
        _check_trailer(head, trailer, messages, faults)
        return faults.beside({"interchange": _interchange(head), "messages": messages})

    def encode(self, body: Any) -> bytes:
        """The interchange with its trailers. Raises Invalid with the pointer of what does not fit."""
        if not isinstance(body, Mapping) or not isinstance(body.get("interchange"), Mapping):
            hint = "write `map: { interchange: {…}, messages: […] }`"
            raise invalid(_UNWRITABLE, f"it is {shown(body)} without an `interchange`", hint=hint)
        about = _fields(body["interchange"], ("interchange",))
        syntax = about.get("syntax") or "UNOC"
        version = about.get("syntax_version") or "3"
        marks = Marks(":", "+", "'", "?", "*" if version >= "4" else "")
        reference = _needed(about, "reference", "interchange")
        messages = items_of(body, "messages", (), _UNWRITABLE)
        if not messages:
            raise invalid(_UNWRITABLE, "it has no messages", at=("messages",))
        lines = [
            f"UNA:+.?{marks.repetition or ' '}'",
            write_segment("UNB", _unb(about, syntax, version), marks, _UNWRITABLE),
        ]
        for index, message in enumerate(messages):
            lines.extend(_written(message, index, marks))
        lines.append(write_segment("UNZ", [[[str(len(messages))]], [[reference]]], marks, _UNWRITABLE))
        text = ("\r\n" if self.newline else "").join(lines) + ("\r\n" if self.newline else "")
        encoding = CHARSETS.get(syntax[:4], "utf-8") if self.encoding == "auto" else self.encoding
        return encode_text(text, encoding, _UNWRITABLE)

    def _loop(self) -> Loop | None:
        return Loop(self.loop, SUMMARY) if self.loop else None

    def _text(self, data: bytes) -> tuple[str, Marks]:
        start = data.lstrip(b"\xef\xbb\xbf\r\n\t ")
        marks = Marks(":", "+", "'", "?", "")
        given = start.startswith(b"UNA")
        if given:
            if len(start) < 9:
                raise invalid(_BAD, "its service characters (UNA) are cut")
            una = start[3:9].decode("latin-1")
            marks = Marks(una[0], una[1], una[5], una[3].strip(), una[4].strip())
            start = start[9:]
        head = start.lstrip()[:40].decode("latin-1")
        syntax = head[4:8] if head.startswith("UNB") else ""
        version = head[9:10] if head.startswith("UNB") else ""
        if not given and version >= "4":
            marks = Marks(":", "+", "'", "?", "*")
        elif version < "4":
            marks = Marks(marks.component, marks.element, marks.terminator, marks.release, "")
        encoding = CHARSETS.get(syntax, "utf-8") if self.encoding == "auto" else self.encoding
        return decode_text(start, encoding, _BAD), marks


def _interchange(unb: Segment) -> dict[str, Any]:
    about = {
        "syntax": unb.get(1), "syntax_version": unb.get(1, 2),
        "sender": unb.get(2), "sender_qualifier": unb.get(2, 2), "sender_internal": unb.get(2, 3),
        "recipient": unb.get(3), "recipient_qualifier": unb.get(3, 2), "recipient_internal": unb.get(3, 3),
        "date": unb.get(4), "time": unb.get(4, 2), "reference": unb.get(5), "password": unb.get(6),
        "application": unb.get(7), "priority": unb.get(8), "acknowledge": unb.get(9), "agreement": unb.get(10),
        "test": unb.get(11),
    }  # fmt: skip
    return {name: value for name, value in about.items() if value}


def _unb(about: Mapping[str, str], syntax: str, version: str) -> list[list[list[str]]]:
    for name in ("sender", "recipient", "date", "time"):
        _needed(about, name, "interchange")
    sides = [[about.get(side + end, "") for end in ("", "_qualifier", "_internal")] for side in ("sender", "recipient")]
    parts: list[list[str]] = [[syntax, version], *sides, [about["date"], about["time"]]]
    plain = ("reference", "password", "application", "priority", "acknowledge", "agreement", "test")
    return [[part] for part in (*parts, *([about.get(name, "")] for name in plain))]


def _messages(
    segments: deque[Segment], loop: Loop | None, faults: Faults
) -> tuple[list[dict[str, Any]], Segment | None]:
    messages: list[dict[str, Any]] = []
    group: str | None = None
    while segments:
        segment = segments.popleft()
        match segment.tag:
            case "UNH":
                messages.append(_message(segment, segments, loop, group, faults))
            case "UNG":
                group = segment.get(5) or segment.get(1)
            case "UNE":
                group = None
            case "UNZ":
                if segments:
                    rest = segments[0]
                    hint = "send one interchange per file, or `split` it before"
                    detail = f"segment {rest.number} ({rest.tag}) follows the end of the interchange"
                    raise invalid(_BAD, detail, hint=hint)
                return messages, segment
            case _:
                detail = f"segment {segment.number} ({segment.tag}) stands outside of a message"
                raise invalid(_BAD, detail, at=("messages", len(messages)))
    return messages, None


def _message(
    unh: Segment, segments: deque[Segment], loop: Loop | None, group: str | None, faults: Faults
) -> dict[str, Any]:
    about = {
        "reference": unh.get(1), "type": unh.get(2), "version": unh.get(2, 2), "release": unh.get(2, 3),
        "agency": unh.get(2, 4), "association": unh.get(2, 5), "access": unh.get(3), "group": group or "",
    }  # fmt: skip
    message: dict[str, Any] = {name: value for name, value in about.items() if value}
    body: list[Segment] = []
    while segments and segments[0].tag not in ("UNH", "UNT", "UNZ", "UNB", "UNE"):
        body.append(segments.popleft())
    unt = segments.popleft() if segments and segments[0].tag == "UNT" else None
    what, seen = f"message {shown(about['reference'])}", len(faults.found)
    if unt is None:
        faults.add(f"{what} has no trailer (UNT)")
    else:
        if unt.get(1).lstrip("0") != str(len(body) + 2):
            faults.add(f"{what} has {len(body) + 2} segments, its trailer says {unt.get(1) or 'nothing'}")
        if unt.get(2) != about["reference"]:
            faults.add(f"{what} ends with the reference {shown(unt.get(2))}")
    parts = {"segments": [to_json(one) for one in body]} if loop is None else loop.parts(body)
    return faults.beside(message | parts, seen)


def _check_trailer(unb: Segment, unz: Segment | None, messages: Sequence[Mapping[str, Any]], faults: Faults) -> None:
    if unz is None:
        faults.add("the interchange has no trailer (UNZ)")
        return
    groups = {message["group"] for message in messages if "group" in message}
    count, said = len(groups) or len(messages), unz.get(1)
    if said.lstrip("0") != str(count):
        what = "groups" if groups else "messages"
        faults.add(f"the interchange has {count} {what}, its trailer says {said or 'nothing'}")
    if unz.get(2) != unb.get(5):
        faults.add(f"the interchange begins with the reference {shown(unb.get(5))} and ends with {shown(unz.get(2))}")


# -- writing -----------------------------------------------------------------------------------------------------------
def _fields(about: Mapping[str, Any], at: Sequence[str | int]) -> dict[str, str]:
    return {
        name: cell(value, (*at, name), _UNWRITABLE)
        for name, value in about.items()
        if name not in ("segments", "items", "summary")
    }


def _needed(about: Mapping[str, str], name: str, where: str) -> str:
    value = about.get(name, "")
    if not value:
        raise invalid(_UNWRITABLE, f"`{where}` has no `{name}`", at=(where, name))
    return value


def _written(message: Mapping[str, Any], index: int, marks: Marks) -> list[str]:
    at = ("messages", index)
    about = _fields(
        {
            name: message.get(name)
            for name in ("reference", "type", "version", "release", "agency", "association", "access")
        },
        at,
    )
    if not about["type"]:
        raise invalid(_UNWRITABLE, f"message {index + 1} has no `type`", at=(*at, "type"), hint="such as DESADV")
    reference = about["reference"] or str(index + 1)
    kind = [
        about["type"],
        about["version"] or "D",
        about["release"] or "96A",
        about["agency"] or "UN",
        about["association"],
    ]
    lines = [write_segment("UNH", [[[reference]], [kind], [[about["access"]]]], marks, _UNWRITABLE)]
    lines.extend(
        write_segment(tag, elements, marks, _UNWRITABLE) for tag, elements in body_segments(message, at, _UNWRITABLE)
    )
    lines.append(write_segment("UNT", [[[str(len(lines) + 1)]], [[reference]]], marks, _UNWRITABLE))
    return lines
