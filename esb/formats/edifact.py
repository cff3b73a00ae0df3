"""UN/EDIFACT (ISO 9735, syntax 1 to 4): interchanges, groups and messages, with their counts and references checked."""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Annotated, Any, BinaryIO, ClassVar, Literal

from esb.formats.charset import encode_text, is_encoding, text_pieces
from esb.formats.edi import Faults, Loop, Marks, Segment, body_segments, cell, items_of, to_json, write_segment
from esb.formats.edi_read import CONTENT, PIECE, Kept, Segments, look, skip_blank
from esb.formats.faults import invalid, shown
from esb.formats.lines import LONGEST
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
#: what ends a message that has no trailer
_ENDS = frozenset({"UNH", "UNT", "UNZ", "UNB", "UNE"})
_MESSAGES = ("messages",)
#: the components of the second element of UNH
_KIND = ("type", "version", "release", "agency", "association")
#: what UNG says, by element and component
_GROUP: Mapping[str, tuple[int, int]] = {
    "type": (1, 1), "sender": (2, 1), "sender_qualifier": (2, 2), "recipient": (3, 1), "recipient_qualifier": (3, 2),
    "date": (4, 1), "time": (4, 2), "reference": (5, 1), "agency": (6, 1), "version": (7, 1), "release": (7, 2),
    "association": (7, 3), "password": (8, 1),
}  # fmt: skip


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
    Functional groups (UNG) stand under `groups: [ { type, reference, sender, … } ]`, and each message says in `group` to which one it belongs.
    A count or a reference of the interchange, a group or a message that does not match refuses the file (it was cut or edited). A `split` with
    `each: body.messages` (with `loop` also `body.messages[].items[]`) reads a large one message by message. When written, counts and
    trailers are made, texts are escaped, and the messages stand in the order of their groups where there are `groups`.
    """

    content_type: ClassVar[str] = "application/edifact"
    media_types: ClassVar[tuple[str, ...]] = ("application/edifact", "application/edi-consent")
    #: what senders call it as well, where a source names this format
    also_accepts: ClassVar[tuple[str, ...]] = ("text/plain",)
    suffixes: ClassVar[tuple[str, ...]] = (".edi", ".edifact")
    #: what a `split` reads piece by piece
    each: ClassVar[str] = "body.messages"

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
    faults: Literal["refuse", "report", "mark"] | None = option(
        default=None,
        doc="Counts, references or trailers that do not match: `refuse` the file, read it and list them under `faults`, those of a"
        " message beside it, too (`report`), or give a message with its own in `$error`, for a `split` with `on_item_error: quarantine`"
        " (`mark`). Without it `mark` where such a split of `body.messages` is the first step of the route, else `refuse`.",
        example="report",
    )
    envelope: bool = option(
        default=False,
        doc="Give each message what its interchange says under `interchange`, for a `split` whose items need it.",
        example=True,
    )
    newline: bool = option(default=True, doc="Write a line end after each segment.", example=False)

    def decode(self, data: bytes) -> dict[str, Any]:
        """The interchange. Raises Invalid with the number of the segment that is wrong."""
        reading = self._reading(io.BytesIO(data), -1)
        messages = list(reading.messages())
        return reading.faults.beside({"interchange": reading.about, **reading.grouped, "messages": messages})

    def streams(self, path: tuple[str, ...]) -> bool:
        """The list is the one of the messages, or with `loop` of all their items (`body.messages[].items[]`)."""
        return path in (_MESSAGES, ("messages[]",)) or (bool(self.loop) and path == ("messages[]", "items[]"))

    def items(self, source: BinaryIO, path: tuple[str, ...]) -> Iterator[Any]:
        """The messages (or their items) one by one, each message of bounded size. Raises Invalid as :meth:`decode`."""
        reading = self._reading(source, PIECE, LONGEST)
        for message in reading.messages():
            if len(path) == 1:
                yield message
            else:
                yield from message["items"]
            reading.faults.found.clear()

    def outlines(self, removed: AbstractSet[tuple[str, ...]]) -> bool:
        """Whether the body without what is at these places is small: without its messages, or without their segments."""
        parts = CONTENT if self.loop else CONTENT[:1]
        return _MESSAGES in removed or all((*_MESSAGES, part) in removed for part in parts)

    def outline(self, source: BinaryIO, removed: AbstractSet[tuple[str, ...]]) -> Generator[None, None, dict[str, Any]]:
        """That body; pauses after each message. Raises Invalid as :meth:`decode`, and where it is not small."""
        reading = self._reading(source, PIECE, LONGEST)
        kept = Kept(_BAD, "it has very many messages: `remove` them all, `body.messages`")
        messages: list[dict[str, Any]] = []
        for message in reading.messages():
            left = {name: value for name, value in message.items() if name not in CONTENT}
            kept.add({} if _MESSAGES in removed else left, reading.faults.size)
            if _MESSAGES not in removed:
                messages.append(left)
            yield
        rest: dict[str, Any] = {"interchange": reading.about, **reading.grouped}
        return reading.faults.beside(rest if _MESSAGES in removed else rest | {"messages": messages})

    def marking(self, path: tuple[str, ...]) -> Edifact | None:
        """The same that marks messages which are wrong for themselves, where nothing else is said."""
        return replace(self, faults="mark") if self.faults is None and path in (_MESSAGES, ("messages[]",)) else None

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
        groups = items_of(body, "groups", (), _UNWRITABLE)
        lines.extend(_in_groups(groups, messages, marks) if groups else _plainly(messages, marks))
        lines.append(write_segment("UNZ", [[[str(len(groups or messages))]], [[reference]]], marks, _UNWRITABLE))
        text = ("\r\n" if self.newline else "").join(lines) + ("\r\n" if self.newline else "")
        encoding = CHARSETS.get(syntax[:4], "utf-8") if self.encoding == "auto" else self.encoding
        return encode_text(text, encoding, _UNWRITABLE)

    def _reading(self, source: BinaryIO, piece: int, most: int = 0) -> _Reading:
        """The interchange whose messages are still to be read; raises Invalid where it is none."""
        at, marks, encoding = self._begin(source)
        source.seek(at)
        segments = Segments(text_pieces(source, encoding, _BAD, piece), marks, _BAD, most=most)
        head = segments.take()
        if head is None or head.tag != "UNB":
            found = "it is empty" if head is None else f"it begins with {head.tag}"
            raise invalid(_BAD, f"{found}; an interchange begins with UNB")
        loop = Loop(self.loop, SUMMARY) if self.loop else None
        return _Reading(head, segments, loop, Faults(_BAD, self.faults), self.envelope)

    def _begin(self, source: BinaryIO) -> tuple[int, Marks, str]:
        """Where the segments begin, the service characters and the encoding."""
        at = skip_blank(source, 0, b"\xef\xbb\xbf\r\n\t ")
        marks = Marks(":", "+", "'", "?", "")
        una = look(source, at, 9).decode("latin-1")
        given = una.startswith("UNA")
        if given:
            if len(una) < 9:
                raise invalid(_BAD, "its service characters (UNA) are cut")
            marks = Marks(una[3], una[4], una[8], una[6].strip(), una[7].strip())
            at += 9
        head = look(source, skip_blank(source, at, b" \t\n\r\x0b\f"), 40).decode("latin-1")
        syntax = head[4:8] if head.startswith("UNB") else ""
        version = head[9:10] if head.startswith("UNB") else ""
        if not given and version >= "4":
            marks = Marks(":", "+", "'", "?", "*")
        elif version < "4":
            marks = Marks(marks.component, marks.element, marks.terminator, marks.release, "")
        return at, marks, CHARSETS.get(syntax, "utf-8") if self.encoding == "auto" else self.encoding


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


class _Reading:
    """An interchange while its messages are read; ``about`` is what its head says."""

    def __init__(self, head: Segment, segments: Segments, loop: Loop | None, faults: Faults, envelope: bool) -> None:
        self.about = _interchange(head)
        self.faults = faults
        self._head = head
        self._segments = segments
        self._loop = loop
        self._envelope = {"interchange": self.about} if envelope else {}
        self._count = 0
        self._heads: list[dict[str, str]] = []
        self._size = 0  #: characters of them
        self._group: str | None = None  #: the reference of the group that is open
        self._before = 0  #: messages before it

    @property
    def grouped(self) -> dict[str, Any]:
        """What the heads of the groups say that were read so far; nothing where there are none."""
        return {"groups": self._heads} if self._heads else {}

    def messages(self) -> Iterator[dict[str, Any]]:
        """Each message when it is complete; then the trailer is checked. Raises Invalid."""
        while (segment := self._segments.take()) is not None:
            match segment.tag:
                case "UNH":
                    yield self._message(segment, self._group or "")
                    self._count += 1
                case "UNG":
                    self._close_group(None)
                    self._open_group(segment)
                case "UNE":
                    self._close_group(segment)
                case "UNZ":
                    self._close_group(None)
                    if (rest := self._segments.next) is not None:
                        hint = "send one interchange per file, or `split` it before"
                        detail = f"segment {rest.number} ({rest.tag}) follows the end of the interchange"
                        raise invalid(_BAD, detail, hint=hint)
                    self._check_trailer(segment)
                    return
                case _:
                    detail = f"segment {segment.number} ({segment.tag}) stands outside of a message"
                    raise invalid(_BAD, detail, at=("messages", self._count))
        self.faults.add("the interchange has no trailer (UNZ)")

    def _message(self, unh: Segment, group: str) -> dict[str, Any]:
        reference, kind = unh.get(1), unh.parts(2) if len(unh.fields) > 1 else []
        about = [("reference", reference), *zip(_KIND, kind, strict=False), ("access", unh.get(3)), ("group", group)]
        message: dict[str, Any] = {name: value for name, value in about if value}
        self._segments.begin()
        body = self._segments.body(_ENDS, "message", reference)
        end, count, seen = self._segments.next, len(body) + 2, len(self.faults.found)
        if end is None or end.tag != "UNT":
            self._wrong(reference, "has no trailer (UNT)")
        else:
            self._segments.take()
            said, ends = end.get(1), end.get(2)
            if not _says(said, count):
                self._wrong(reference, f"has {count} segments, its trailer says {said or 'nothing'}")
            if ends != reference:
                self._wrong(reference, f"ends with the reference {shown(ends)}")
        message.update(self._envelope)
        if self._loop is None:
            message["segments"] = [to_json(one) for one in body]
        else:
            message.update(self._loop.parts(body))
        return self.faults.beside_item(message, seen)

    def _wrong(self, reference: str, what: str) -> None:
        self.faults.add(f"message {shown(reference)} {what}", of_item=True)

    def _open_group(self, ung: Segment) -> None:
        head = {name: value for name, place in _GROUP.items() if (value := ung.get(*place))}
        self._heads.append(head)
        self._size += sum(map(len, head.values())) + 100  # what even an empty one takes
        if self._size > LONGEST:
            raise invalid(_BAD, f"the heads of its groups have more than {LONGEST} characters")
        self._group, self._before = _named(head), self._count

    def _close_group(self, une: Segment | None) -> None:
        """The group that is open ends at its trailer, or without one."""
        group, self._group = self._group, None
        if group is None:
            if une is not None:
                self.faults.add(f"segment {une.number} (UNE) ends a group that has not begun")
            return
        if une is None:
            self.faults.add(f"group {shown(group)} has no trailer (UNE)")
            return
        count, said, ends = self._count - self._before, une.get(1), une.get(2)
        if not _says(said, count):
            self.faults.add(f"group {shown(group)} has {count} messages, its trailer says {said or 'nothing'}")
        if ends != group:
            self.faults.add(f"group {shown(group)} ends with the reference {shown(ends)}")

    def _check_trailer(self, unz: Segment) -> None:
        count, said = len(self._heads) or self._count, unz.get(1)
        if not _says(said, count):
            what = "groups" if self._heads else "messages"
            self.faults.add(f"the interchange has {count} {what}, its trailer says {said or 'nothing'}")
        begins, ends = self._head.get(5), unz.get(2)
        if ends != begins:
            self.faults.add(f"the interchange begins with the reference {shown(begins)} and ends with {shown(ends)}")


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


def _says(said: str, count: int) -> bool:
    """Whether a trailer says this count, with or without zeros before it."""
    return said != "" and said.lstrip("0") == (str(count) if count else "")


def _named(head: Mapping[str, str]) -> str:
    """What messages call a group."""
    return head.get("reference", "") or head.get("type", "")


def _plainly(messages: Sequence[Mapping[str, Any]], marks: Marks) -> Iterator[str]:
    for index, message in enumerate(messages):
        if message.get("group") is not None:
            hint = "take the `groups` of the body along, or `group` out of the messages"
            raise invalid(
                _UNWRITABLE,
                f"message {index + 1} names a group, and there are no `groups`",
                at=("messages", index, "group"),
                hint=hint,
            )
        yield from _written(message, index, marks)


def _in_groups(
    groups: Sequence[Mapping[str, Any]], messages: Sequence[Mapping[str, Any]], marks: Marks
) -> Iterator[str]:
    """Each group with its messages, in their order."""
    heads = [_fields(group, ("groups", number)) for number, group in enumerate(groups)]
    names = [_named(head) for head in heads]
    for number, name in enumerate(names):
        if not name or name in names[:number]:
            what = f"another one is called {shown(name)}, too" if name else "it has no `reference`"
            raise invalid(_UNWRITABLE, f"group {number + 1}: {what}", at=("groups", number, "reference"))
    members: dict[str, list[tuple[int, Mapping[str, Any]]]] = {name: [] for name in names}
    for index, message in enumerate(messages):
        at = ("messages", index, "group")
        name = cell(message.get("group"), at, _UNWRITABLE)
        if name not in members:
            hint = f"groups are called {', '.join(names[:6])}"
            raise invalid(_UNWRITABLE, f"message {index + 1} belongs to no group: {shown(name)}", at=at, hint=hint)
        members[name].append((index, message))
    for head, (name, inside) in zip(heads, members.items(), strict=True):
        elements: list[list[list[str]]] = [[[]] for _ in range(8)]
        for part, (element, _) in _GROUP.items():  # components stand in their order
            elements[element - 1][0].append(head.get(part, ""))
        yield write_segment("UNG", elements, marks, _UNWRITABLE)
        for index, message in inside:
            yield from _written(message, index, marks)
        yield write_segment("UNE", [[[str(len(inside))]], [[name]]], marks, _UNWRITABLE)


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
