"""SAP IDocs, flat and as XML, as one and the same body."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, ClassVar, Literal

from esb.formats.charset import Encoding
from esb.formats.faults import invalid, shown
from esb.formats.lines import LONGEST, pieces
from esb.formats.places import Place, PlaceOption
from esb.formats.xml import Xml
from esb.registry import format_
from esb.spec import option

_BAD = "the body is not a valid IDoc"
_UNWRITABLE = "the body cannot be written as an IDoc"
#: bytes that show what a file is
_START = 1000


def _row(fields: Iterable[tuple[str, int]]) -> Mapping[str, Place]:
    places, start = {}, 0
    for name, width in fields:
        places[name] = Place(start, start + width)
        start += width
    return places


#: EDI_DC40, the control record of release 4.0 and later: 524 characters
CONTROL = _row((
    ("TABNAM", 10), ("MANDT", 3), ("DOCNUM", 16), ("DOCREL", 4), ("STATUS", 2), ("DIRECT", 1), ("OUTMOD", 1),
    ("EXPRSS", 1), ("TEST", 1), ("IDOCTYP", 30), ("CIMTYP", 30), ("MESTYP", 30), ("MESCOD", 3), ("MESFCT", 3), ("STD", 1),
    ("STDVRS", 6), ("STDMES", 6), ("SNDPOR", 10), ("SNDPRT", 2), ("SNDPFC", 2), ("SNDPRN", 10), ("SNDSAD", 21),
    ("SNDLAD", 70), ("RCVPOR", 10), ("RCVPRT", 2), ("RCVPFC", 2), ("RCVPRN", 10), ("RCVSAD", 21), ("RCVLAD", 70),
    ("CREDAT", 8), ("CRETIM", 6), ("REFINT", 14), ("REFGRP", 14), ("REFMES", 14), ("ARCKEY", 70), ("SERIAL", 20),
))  # fmt: skip
#: EDI_DD40: what stands before the 1000 characters of a segment's own data
DATA = _row((("SEGNAM", 30), ("MANDT", 3), ("DOCNUM", 16), ("SEGNUM", 6), ("PSGNUM", 6), ("HLEVEL", 2)))
SDATA = Place(63, 1063)
_DEFINITION = re.compile(r"E2(\w+?)(\d{3})?")


@dataclass(slots=True)
class _Open:
    """An IDoc while its segments come in; by segment number, so that children find their parent."""

    control: dict[str, Any]
    tree: dict[str, Any]
    by_number: dict[str, dict[str, Any]] = field(default_factory=dict)


@format_("idoc")
@dataclass(frozen=True, slots=True)
class Idoc:
    """An IDoc of SAP: `{ MATMAS05: { IDOC: { EDI_DC40: { DOCNUM: … }, E1MARAM: { MATNR: …, E1MARCM: [ … ] } } } }`.

    XML and flat files (EDI_DC40 and EDI_DD40 records) give the same body, so that one mapping serves both; which of them a file is
    is seen by its first character. A flat file needs `segments`: the fields of each segment by their places in its data, named by
    segment type (`E1MARAM` serves the definition `E2MARAM009`, too); a segment that is not described keeps its text as `SDATA`.
    Texts keep leading zeros and lose trailing spaces; empty fields are left out.
    """

    content_type: ClassVar[str] = "application/xml"
    media_types: ClassVar[tuple[str, ...]] = ("application/x-sap.idoc",)
    #: what senders call it as well, where a source names this format
    also_accepts: ClassVar[tuple[str, ...]] = ("application/xml", "text/xml", "text/plain")
    suffixes: ClassVar[tuple[str, ...]] = (".idoc",)
    #: what a `split` reads piece by piece
    each: ClassVar[str] = "body.TYPE.IDOC"

    segments: Mapping[str, Mapping[str, PlaceOption]] = option(
        factory=dict,
        doc="Segment → its fields by their places (from 1) in the segment's data; for flat files.",
        example="{ E1MARAM: { MSGFN: 1-3, MATNR: 4-21 } }",
    )
    always_list: tuple[str, ...] = option(
        default=(), doc="Segments that are a list even where there is one.", example="[E1MAKTM, E1MARCM]"
    )
    write: Literal["xml", "flat"] = option(default="xml", doc="What is written.", example="flat")
    encoding: Encoding = option(
        default="utf-8", doc="Encoding of a flat file, and of XML that is written.", example="cp1252"
    )

    def decode(self, data: bytes) -> dict[str, Any]:
        """The IDoc, or several of one type. Raises Invalid where it has no control record or a segment has no parent."""
        if _is_xml(data):
            return self._checked(Xml(always_list=self.always_list).decode(data))
        open_ = list(self._idocs(io.BytesIO(data)))
        kinds = {str(one.control.get("IDOCTYP", "")) for one in open_}
        if len(kinds) > 1 or "" in kinds:
            raise invalid(
                _BAD, f"it holds IDocs of the types {', '.join(sorted(kinds))}", hint="send one type per file"
            )
        trees = [one.tree for one in open_]
        return {kinds.pop(): {"IDOC": trees if len(trees) > 1 or "IDOC" in self.always_list else trees[0]}}

    def streams(self, path: tuple[str, ...]) -> bool:
        """The list is the one of the IDocs in a file: `body.MATMAS05.IDOC`."""
        return len(path) == 2 and path[1] == "IDOC" and path[0] not in self.always_list and not path[0].endswith("[]")

    def items(self, source: BinaryIO, path: tuple[str, ...]) -> Iterator[Any]:
        """The IDocs one by one, each of bounded size. Raises Invalid as :meth:`decode`, at the first fault."""
        start = source.read(_START)
        source.seek(0)
        if _is_xml(start):
            for idoc in Xml(always_list=self.always_list).items(source, path):
                yield self._checked({path[0]: {"IDOC": idoc}})[path[0]]["IDOC"]
            return
        count = 0
        for one in self._idocs(source, LONGEST):
            kind = one.control.get("IDOCTYP", "")
            if kind != path[0]:
                hint = f"`each: body.{kind}.IDOC`, one type per file" if kind else "send one type per file"
                raise invalid(_BAD, f"it holds an IDoc of the type {shown(kind)}", hint=hint)
            yield one.tree
            count += 1
        if count == 1 and "IDOC" not in self.always_list:
            hint = "where there may be one, write `always_list: [IDOC]` in the format"
            raise invalid(_BAD, f"`body.{path[0]}.IDOC` is one IDoc, not a list", hint=hint)

    def encode(self, body: Any) -> bytes:
        """The file. Raises Invalid with the pointer of a segment or field that is not described."""
        if self.write == "xml":
            return Xml(encoding=self.encoding).encode(self._checked(body, _UNWRITABLE))
        ((kind, outer),) = self._checked(body, _UNWRITABLE).items()
        idocs = outer["IDOC"] if isinstance(outer["IDOC"], list) else [outer["IDOC"]]
        lines: list[bytes] = []
        for index, idoc in enumerate(idocs):
            at = (kind, "IDOC") if len(idocs) == 1 else (kind, "IDOC", index)
            control = {"TABNAM": "EDI_DC40", "IDOCTYP": kind, **_own(idoc["EDI_DC40"])}
            lines.append(self._record(CONTROL, control, 524, (*at, "EDI_DC40")))
            counter = iter(range(1, 1_000_000))
            lines.extend(self._flat(idoc, control, "000000", 1, counter, at))
        return b"".join(line + "\r\n".encode(self.encoding) for line in lines)

    # -- reading -------------------------------------------------------------------------------------------------------
    def _checked(self, body: Any, message: str = _BAD) -> dict[str, Any]:
        outer = next(iter(body.values())) if isinstance(body, Mapping) and len(body) == 1 else None
        idocs = outer.get("IDOC") if isinstance(outer, Mapping) else None
        for idoc in idocs if isinstance(idocs, list) else [idocs]:
            if not isinstance(idoc, Mapping) or not isinstance(idoc.get("EDI_DC40"), Mapping):
                hint = "such as `{ MATMAS05: { IDOC: { EDI_DC40: {…}, E1MARAM: {…} } } }`"
                raise invalid(message, "there is no IDOC with a control record EDI_DC40", hint=hint)
        assert isinstance(body, dict)
        return body

    def _idocs(self, source: BinaryIO, most: int = 0) -> Iterator[_Open]:
        """The IDocs of a flat file, each when it is whole; with ``most`` each has at most so many bytes."""
        open_: _Open | None = None
        size = 0
        for number, line in self._lines(source):
            if line.startswith("EDI_DC40".encode(self.encoding)):
                if open_ is not None:
                    yield open_
                open_, size = self._begin(line, number), 0
            elif open_ is None:
                raise invalid(_BAD, f"line {number}: it begins with {shown(self._text(line[:30]))}, not with EDI_DC40")
            else:
                size += len(line)
                if most and size > most:
                    raise invalid(_BAD, f"line {number}: its IDoc has more than {most} bytes")
                self._segment(open_, line, number)
        if open_ is None:
            raise invalid(_BAD, "it is empty")
        yield open_

    def _lines(self, source: BinaryIO) -> Iterator[tuple[int, bytes]]:
        for number, line in enumerate(pieces(source, "\n".encode(self.encoding), _BAD), 1):
            record = line.rstrip(b"\r\0\x1a")
            if record.strip():
                yield number, record.removeprefix(b"\xef\xbb\xbf") if number == 1 else record

    def _text(self, raw: bytes) -> str:
        return raw.decode(self.encoding, "replace").strip()

    def _begin(self, line: bytes, number: int) -> _Open:
        control = self._fields(CONTROL, line, number, "EDI_DC40")
        return _Open(control, {"@BEGIN": "1", "EDI_DC40": {"@SEGMENT": "1", **control}})

    def _segment(self, idoc: _Open, line: bytes, number: int) -> None:
        about = self._fields(DATA, line, number, "EDI_DD40")
        name = _segment_name(str(about.get("SEGNAM", "")))
        layout = self._layout(name, str(about.get("SEGNAM", "")))
        data = line[SDATA.start :]
        if layout is None:
            content: dict[str, Any] = {
                "SDATA": SDATA.read(line, self.encoding, (name, "SDATA"), f"{_BAD}: line {number}")
            }
        else:
            content = self._fields(layout, data, number, name)
        segment: dict[str, Any] = {"@SEGMENT": "1", **content}
        above = str(about.get("PSGNUM", "")).lstrip("0")
        parent = idoc.tree if not above else idoc.by_number.get(above)
        if parent is None:
            raise invalid(_BAD, f"line {number}: {name} has the parent {above}, which is not there")
        known = parent.get(name)
        if isinstance(known, list):
            known.append(segment)
        elif known is not None:
            parent[name] = [known, segment]
        else:
            parent[name] = [segment] if name in self.always_list else segment
        idoc.by_number[str(about.get("SEGNUM", "")).lstrip("0")] = segment

    def _layout(self, name: str, definition: str) -> Mapping[str, Place] | None:
        return self.segments.get(definition) or self.segments.get(name)

    def _fields(self, layout: Mapping[str, Place], line: bytes, number: int, name: str) -> dict[str, Any]:
        message = f"{_BAD}: line {number}"
        found = {key: place.read(line, self.encoding, (name, key), message) for key, place in layout.items()}
        return {key: value for key, value in found.items() if value not in ("", None)}

    # -- writing a flat file -------------------------------------------------------------------------------------------
    def _flat(
        self,
        parent: Mapping[str, Any],
        control: Mapping[str, Any],
        above: str,
        level: int,
        counter: Iterator[int],
        at: Any,
    ) -> Iterator[bytes]:
        for name, value in parent.items():
            if name == "EDI_DC40" or name.startswith("@") or not isinstance(value, (dict, list)):
                continue
            for index, segment in enumerate(value if isinstance(value, list) else [value]):
                where = (*at, name, index) if isinstance(value, list) else (*at, name)
                if not isinstance(segment, Mapping):
                    raise invalid(_UNWRITABLE, f"{name} is {shown(segment)}, not a segment", at=where)
                number = f"{next(counter):06d}"
                about = {
                    "SEGNAM": name,
                    "MANDT": control.get("MANDT"),
                    "DOCNUM": control.get("DOCNUM"),
                    "SEGNUM": number,
                }
                head = self._record(DATA, about | {"PSGNUM": above, "HLEVEL": f"{level:02d}"}, 63, where)
                yield head + self._data(name, segment, where)
                yield from self._flat(segment, control, number, level + 1, counter, where)

    def _data(self, name: str, segment: Mapping[str, Any], at: Any) -> bytes:
        own = _own(segment)
        layout = self._layout(_segment_name(name), name)
        if layout is None:
            if set(own) - {"SDATA"}:
                hint = f"describe it: `segments: {{ {name}: {{ FIELD: 1-10 }} }}`"
                raise invalid(_UNWRITABLE, f"the fields of {name} have no places", at=at, hint=hint)
            layout = {"SDATA": Place(0, 1000)}
        return self._record(layout, own, 1000, at)

    def _record(self, layout: Mapping[str, Place], values: Mapping[str, Any], length: int, at: Any) -> bytes:
        line = bytearray(" ".encode(self.encoding) * length)
        for name, value in values.items():
            place = layout.get(name)
            if place is None:
                raise invalid(_UNWRITABLE, f"{shown(name)} has no place", at=(*at, name))
            line[place.start : place.end] = place.write(value, self.encoding, (*at, name), _UNWRITABLE)
        return bytes(line)


def _is_xml(start: bytes) -> bool:
    return start.lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n\0")[:1] == b"<"


def _segment_name(definition: str) -> str:
    """The segment type of a segment definition: ``E2MARAM009`` is ``E1MARAM``."""
    match = _DEFINITION.fullmatch(definition)
    return f"E1{match[1]}" if match else definition


def _own(segment: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a segment without its attributes and children."""
    return {
        name: value
        for name, value in segment.items()
        if not name.startswith("@") and not isinstance(value, (dict, list))
    }
