"""Fixed-width records: places, record types, EBCDIC and packed numbers."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar, Literal

from esb.errors import Invalid
from esb.formats.charset import Encoding
from esb.formats.faults import invalid, shown
from esb.formats.lines import line_chunks, pieces
from esb.formats.places import Place, PlaceOption
from esb.registry import format_
from esb.spec import MapNode, Node, Reader, option

_BAD = "the body is not valid fixed-width text"
_UNWRITABLE = "the body cannot be written as fixed-width text"
#: violations that one error lists
LISTED = 50
#: encodings in which ASCII bytes are ASCII characters
_LIKE_ASCII = frozenset({"utf-8", "ascii", "cp1252", "cp1250", "iso-8859-1", "iso-8859-15"})
#: fields that are cut out of a text
_CUT = frozenset({"text", "raw", "number"})
#: what `str.rstrip` cuts off and a field keeps, or the other way round
_ODD = tuple(bytes([code]) for code in b"\0\t\v\f\r\x1a\x1c\x1d\x1e\x1f")
Cut = Callable[[list[str]], list[dict[str, Any]]]


@format_("fixed")
@dataclass(frozen=True, slots=True)
class Fixed:
    """Fixed-width records as a list of objects, each field by its place.

    A place is `1-10` (text, trailing spaces dropped), `11-18 number 2` (two implied decimals), `19-23 packed 2` (packed decimal),
    `24-30 zoned 2` (sign in the last digit) or `31-40 raw` (spaces kept); blank numbers are null. With several kinds of records,
    `by` says where the record type stands and `records` lists the fields of each; a record then has its type under `record`.
    `encoding: cp273` (EBCDIC, German) with `newline: none` and `length` reads files of hosts.
    """

    content_type: ClassVar[str] = "text/plain"
    media_types: ClassVar[tuple[str, ...]] = ()
    #: what senders call it as well, where a source names this format
    also_accepts: ClassVar[tuple[str, ...]] = ("text/plain",)
    suffixes: ClassVar[tuple[str, ...]] = ()

    fields: Mapping[str, PlaceOption] = option(
        factory=dict, doc="Name and place of every field.", example="{ lot: 1-10, qty: 11-18 number 2 }"
    )
    by: PlaceOption | None = option(default=None, doc="Place of the record type.", example="1-2")
    records: Mapping[str, Mapping[str, PlaceOption]] = option(
        factory=dict,
        doc="Record type → its fields; with `by`.",
        example="{ H: { order: 3-12 }, P: { lot: 3-12, qty: 13-20 number 3 } }",
    )
    length: int = option(default=0, doc="Length of a record; 0: up to its line end.", example=80, minimum=0)
    newline: Literal["crlf", "lf", "none"] = option(
        default="lf",
        doc="What ends a written record; `none`: nothing, also when reading (needs `length`).",
        example="none",
    )
    encoding: Encoding = option(default="utf-8", doc="Encoding of the bytes.", example="cp273")

    def check(self, node: Node, reader: Reader) -> None:
        """Report options that contradict each other."""
        if bool(self.fields) == bool(self.records):
            hint = "one kind of record: `fields: { lot: 1-10 }`; several: `by: 1-2` and `records: { H: {…} }`"
            reader.problem("ESB103", "`fixed` needs either `fields` or `records`", node, hint=hint)
        if bool(self.records) != (self.by is not None):
            reader.problem("ESB103", "`records` and `by` go together", node, hint="`by: 1-2` is where the type stands")
        if self.newline == "none" and not self.length:
            at = (node.get("newline") if isinstance(node, MapNode) else None) or node
            reader.problem("ESB103", "records without line ends need a `length`", at, hint="such as `length: 80`")

    def decode(self, data: bytes) -> list[dict[str, Any]]:
        """The records. Raises Invalid with up to 50 bad fields, each with its record's line."""
        if self._are_cut() and (lines := self._ordinary(data)) is not None:
            with suppress(ValueError):  # the record that is to blame says more about it
                return self._cut(bare=True)(lines)
        records: list[dict[str, Any]] = []
        bad: list[Invalid] = []
        cut = self._cut(bare=False) if self._are_cut() else None
        for index, raw in enumerate(self._split(io.BytesIO(data))):
            try:
                records.append(self._record(raw, index) if cut is None else self._cut_or_record(cut, raw, index))
            except Invalid as error:
                bad.append(error)
                if len(bad) == LISTED:
                    break
        if bad:
            violations = [violation for error in bad for violation in error.violations]
            raise Invalid(bad[0].message, hint=bad[0].hint, violations=violations)
        return records

    def encode(self, body: Any) -> bytes:
        """The records at their full length. Raises Invalid with the pointer of a field that does not fit."""
        items = [body] if isinstance(body, Mapping) else body
        if not isinstance(items, (list, tuple)):
            raise invalid(_UNWRITABLE, f"it is {shown(body)}, not a list of objects")
        end = {"crlf": "\r\n", "lf": "\n", "none": ""}[self.newline].encode(self.encoding)
        return b"".join(self._written(item, index) + end for index, item in enumerate(items))

    def streams(self, path: tuple[str, ...]) -> bool:
        """The body itself is the list."""
        return not path

    def items(self, source: BinaryIO, path: tuple[str, ...]) -> Iterator[Any]:
        """The records one by one. Raises Invalid at the first bad field."""
        del path
        if self._are_cut():
            return self._quick(source)
        return (self._record(raw, index) for index, raw in enumerate(self._split(source)))

    def _quick(self, source: BinaryIO) -> Iterator[dict[str, Any]]:
        """The same where bytes are characters: many lines are cut at a time, those out of the ordinary one by one."""
        index, exact, cut = 0, self._cut(bare=False), self._cut(bare=True)
        for chunk in line_chunks(source, _BAD):
            lines, records = self._ordinary(chunk), None
            if lines is not None:
                with suppress(ValueError):  # the record that is to blame says more about it
                    records = cut(lines)
            if records is not None:
                yield from records
                index += len(records)
                continue
            for raw in _records_in(chunk.split(b"\n")):
                yield self._cut_or_record(exact, raw, index)
                index += 1

    def _ordinary(self, chunk: bytes) -> list[str] | None:
        """The lines as text where nothing but spaces has to be cut off their fields."""
        if b"\r" in chunk and chunk.count(b"\r") == chunk.count(b"\r\n"):
            chunk = chunk.replace(b"\r\n", b"\n")
        if not chunk.isascii() or any(byte in chunk for byte in _ODD):
            return None
        lines = [line for line in chunk.decode("ascii").split("\n") if line and not line.isspace()]
        return None if self.length and max(map(len, lines), default=0) > self.length else lines

    def _split(self, source: BinaryIO) -> Iterator[bytes]:
        if self.newline == "none":
            size = source.seek(0, io.SEEK_END)
            if size % self.length:
                detail = f"{size} bytes are no whole number of records of {self.length}"
                raise invalid(_BAD, detail, hint="the file was cut, or `length` is wrong")
            source.seek(0)
            while record := source.read(self.length):
                yield record
            return
        yield from _records_in(pieces(source, "\n".encode(self.encoding), _BAD))

    def _layout(self, kind: str, index: int, message: str) -> Mapping[str, Place]:
        layout = self.records.get(kind)
        if layout is None:
            known = ", ".join(self.records)
            raise invalid(message, f"record {index + 1} is of type {shown(kind)}", at=(index,), hint=f"known: {known}")
        return layout

    def _record(self, raw: bytes, index: int) -> dict[str, Any]:
        if self.length and len(raw) > self.length:
            raise invalid(_BAD, f"record {index + 1} has {len(raw)} columns instead of {self.length}", at=(index,))
        fields: Mapping[str, Place] = self.fields
        record: dict[str, Any] = {}
        if self.by is not None:
            kind = self.by.read(raw, self.encoding, (index, "record"), f"{_BAD}: record {index + 1}")
            fields = self._layout(str(kind), index, _BAD)
            record["record"] = kind
        for name, place in fields.items():
            record[name] = place.read(raw, self.encoding, (index, name), f"{_BAD}: record {index + 1}")
        return record

    def _are_cut(self) -> bool:
        """Whether a record of ASCII is cut as text."""
        plain = self.by is None and self.encoding in _LIKE_ASCII and self.newline != "none"
        return plain and {place.type for place in self.fields.values()} <= _CUT

    def _cut(self, *, bare: bool) -> Cut:
        """Makes records of ASCII lines; raises ValueError where that takes a closer look. ``bare``: only spaces are cut off."""
        trim = ".rstrip()" if bare else '.rstrip(" \\0")'
        cells, calls = [], {}
        for number, (name, place) in enumerate(self.fields.items()):
            cell = f"line[{place.start:d}:{place.end:d}]"
            if place.type == "text":
                cell += trim
            elif place.type == "number":
                calls[f"n{number}"] = place.quick
                cell = f"n{number}({cell})"
            cells.append(f"{name!r}: {cell}")
        # one expression for the whole layout takes half the time of a loop over its fields; names stand in it as literals
        source = f"lambda lines: [{{{', '.join(cells)}}} for line in lines]"
        made: Cut = eval(compile(source, "<fixed>", "eval"), {"__builtins__": {}, **calls})  # noqa: S307 - made of numbers and literals alone
        return made

    def _cut_or_record(self, cut: Cut, raw: bytes, index: int) -> dict[str, Any]:
        if raw.isascii() and not (self.length and len(raw) > self.length):
            with suppress(ValueError):
                return cut([raw.decode("ascii")])[0]
        return self._record(raw, index)

    def _written(self, item: Any, index: int) -> bytes:
        if not isinstance(item, Mapping):
            raise invalid(_UNWRITABLE, f"record {index + 1} is {shown(item)}, not an object", at=(index,))
        places: dict[str, Place] = dict(self.fields)
        if self.by is not None:
            places = {"record": self.by, **self._layout(str(item.get("record", "")), index, _UNWRITABLE)}
        for name in item:
            if name not in places:
                hint = "give it a place in `fields`, or leave it out of the `map`"
                raise invalid(_UNWRITABLE, f"record {index + 1} has {shown(name)}", at=(index, name), hint=hint)
        end = max((place.end for place in places.values()), default=0)
        line = bytearray(" ".encode(self.encoding) * max(self.length, end))
        for name, place in places.items():
            line[place.start : place.end] = place.write(item.get(name), self.encoding, (index, name), _UNWRITABLE)
        return bytes(line)


def _records_in(lines: Iterable[bytes]) -> Iterator[bytes]:
    for line in lines:
        record = line.rstrip(b"\r\x1a")
        if record.strip():
            yield record
