"""CSV as a list of objects: every cell is text unless its column is named in ``numbers``."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from esb.errors import Invalid
from esb.formats.charset import Encoding, decode_text
from esb.formats.csv_write import write_csv
from esb.formats.faults import invalid, shown
from esb.formats.numbers import parse_decimal
from esb.registry import format_
from esb.spec import Kind, ListNode, MapNode, Node, Reader, ScalarNode, option

_BAD = "the body is not valid CSV"
#: violations that one error lists
LISTED = 50

#: what :meth:`Csv.records` tells of a bad row: its line, its cells and what is wrong
OnBad = Callable[[int, Sequence[str], Invalid], None]


class HeaderKind(Kind):
    """``true``, ``false`` or a list of names (a single word would be a slip for ``true``)."""

    label = "`true`, `false` or a list of column names"

    def read(self, node: Node, reader: Reader) -> Any:
        if isinstance(node, ScalarNode) and isinstance(node.value, bool):
            return node.value
        if isinstance(node, ListNode) and all(isinstance(i, ScalarNode) and isinstance(i.value, str) for i in node):
            return tuple(item.value for item in node if isinstance(item, ScalarNode))
        return reader.wrong_type(node, self)

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "string"}}]}


@format_("csv")
@dataclass(frozen=True, slots=True)
class Csv:
    """CSV as a list of objects, one for each row, by the names of the header.

    Cells stay text (`0012`); the function `number()` or the option `numbers` makes decimals of them. A row with too many or
    too few cells, an open quote, a NUL or an undecodable byte is refused with its line. A column without a name in the header
    must be empty and is left out. Written as RFC 4180 has it, quoted where needed.
    """

    content_type: ClassVar[str] = "text/csv"
    media_types: ClassVar[tuple[str, ...]] = ("text/csv", "application/csv")
    suffixes: ClassVar[tuple[str, ...]] = (".csv",)

    delimiter: str = option(
        default=",", doc="Character between two cells.", example="';'", aliases=("separator", "sep")
    )
    quote: str = option(
        default='"', doc="Character around a cell that holds a delimiter; empty: there is none.", example='"\'"'
    )
    encoding: Encoding = option(
        default="utf-8", doc="Encoding of the bytes; a byte order mark is dropped.", example="cp1252"
    )
    header: Annotated[bool | tuple[str, ...], HeaderKind()] = option(
        default=True,
        doc="`true`: the first row names the columns; `false`: they are c1, c2 …; a list names them where the file does not "
        "(an empty name leaves a column out).",
        example="[po, line, batch]",
    )
    decimal: Literal[".", ","] = option(default=".", doc="Decimal mark of numbers, read and written.", example="','")
    numbers: tuple[str, ...] = option(
        default=(), doc="Columns that are exact decimals; an empty cell is null.", example="[Menge]"
    )
    skip_blank: bool = option(
        default=True, doc="Skip lines that hold nothing but spaces and delimiters.", example=False
    )
    trim: bool = option(default=False, doc="Drop spaces around every cell.", example=True)
    columns: tuple[str, ...] = option(
        default=(), doc="Columns to write, in this order; else those of the first record.", example="[lot, status]"
    )
    newline: Literal["crlf", "lf"] = option(default="crlf", doc="Line ends that are written.", example="lf")
    guard_formulas: bool = option(
        default=False,
        doc="Write `'` before texts that a spreadsheet would run as a formula; for files that people open.",
        example=True,
    )

    def check(self, node: Node, reader: Reader) -> None:
        """Report a delimiter or quote that is not one character."""
        if len(self.delimiter) != 1 or self.delimiter in "\r\n\0":
            hint = 'a tab is "\\t" in double quotes' if "t" in self.delimiter else 'for example ";"'
            reader.problem("ESB103", "`delimiter` needs one character", _at(node, "delimiter"), hint=hint)
        if len(self.quote) > 1 or self.quote in ("\r", "\n", "\0", self.delimiter):
            hint = 'leave it out for `"`, or write "" where cells are never quoted'
            reader.problem(
                "ESB103", "`quote` needs one character that is not the delimiter", _at(node, "quote"), hint=hint
            )

    def decode(self, data: bytes) -> list[dict[str, Any]]:
        """The records. Raises Invalid with up to 50 bad rows, each with its line."""
        bad: list[Invalid] = []

        def note(line: int, cells: Sequence[str], error: Invalid) -> None:
            if len(bad) < LISTED:
                bad.append(error)

        records = [record for _, record in self.records(data, note)]
        if bad:
            violations = [violation for error in bad for violation in error.violations]
            raise Invalid(bad[0].message, hint=bad[0].hint, violations=violations[:LISTED])
        return records

    def records(self, data: bytes, on_bad: OnBad | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each record with the line that it starts on, one at a time.

        A bad row goes to ``on_bad`` and is left out; without ``on_bad`` it raises Invalid. What spoils the whole file (its
        encoding, its header) always raises.
        """
        rows = self._rows(self._text(data))
        layout: _Layout | None = None if self.header is True else _Layout.named(self, self.header)
        index = 0
        for line, cells, fault in rows:
            if fault is None and self.skip_blank and not any(cell and not cell.isspace() for cell in cells):
                continue
            if layout is None and fault is None:
                layout = _Layout.from_row(self, line, cells)
                continue
            try:
                if fault is not None or layout is None:
                    raise invalid(_BAD, f"line {line}: {fault}", at=(index,))
                record = layout.record(line, index, cells)
            except Invalid as error:
                if on_bad is None or layout is None:
                    raise
                on_bad(line, cells, error)
            else:
                yield line, record
            index += 1
        if layout is None:
            raise invalid(_BAD, "it is empty", hint="even a file without records needs its header")

    def encode(self, body: Any) -> bytes:
        """The file; an object is one row. Raises Invalid for a record with an unknown column or a nested value."""
        names = self.columns or (self.header if isinstance(self.header, tuple) else ())
        return write_csv(
            body,
            names,
            delimiter=self.delimiter,
            quote=self.quote,
            newline="\n" if self.newline == "lf" else "\r\n",
            header=self.header is True,
            decimal=self.decimal,
            encoding=self.encoding,
            guard=self.guard_formulas,
        )

    def _text(self, data: bytes) -> str:
        text = decode_text(data, self.encoding, _BAD).removeprefix("\ufeff")
        at = text.find("\0")
        if at >= 0:
            detail = f"character {at + 1} (line {text.count(chr(10), 0, at) + 1}) is a NUL"
            raise invalid(_BAD, detail, hint="is it UTF-16? then set `encoding: utf-16`")
        return text

    def _rows(self, text: str) -> Iterator[tuple[int, list[str], str | None]]:
        """First line, cells and fault of every row."""
        reader = csv.reader(
            io.StringIO(text, newline=""),
            delimiter=self.delimiter,
            quotechar=self.quote or None,
            quoting=csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
            skipinitialspace=self.trim,
            strict=True,
        )
        while True:
            line = reader.line_num + 1
            try:
                yield line, next(reader), None
            except StopIteration:
                return
            except csv.Error as error:
                yield line, [], _words(str(error))


def _words(said: str) -> str:
    if said == "unexpected end of data":
        return "a quote is opened here and never closed"
    if "expected after" in said:
        return "something follows the closing quote of a cell; a quote inside of a quoted cell is doubled"
    return said


@dataclass(frozen=True, slots=True)
class _Layout:
    """The columns of one file: from the cells of a row to a record."""

    options: Csv
    names: tuple[str, ...] | None  #: None: as many as the first row has cells
    widths: list[int]  #: of the first row, where there are no names
    unnamed: tuple[int, ...] = ()  #: columns that must be empty
    plain: bool = True  #: nothing to do but zip

    @classmethod
    def named(cls, options: Csv, header: bool | tuple[str, ...]) -> _Layout:
        names = header if isinstance(header, tuple) else None
        plain = not (options.trim or options.numbers) and "" not in (names or ())
        return cls(options, names, [], (), plain)

    @classmethod
    def from_row(cls, options: Csv, line: int, cells: list[str]) -> _Layout:
        names = tuple(cell.strip() for cell in cells)
        for column, name in enumerate(names):
            if name and name in names[:column]:
                detail = f"line {line}: two columns are called {shown(name)} ({names.index(name) + 1} and {column + 1})"
                raise invalid(_BAD, detail, hint="name the columns yourself: `header: [a, b, c]`")
        absent = [name for name in options.numbers if name not in names]
        if absent:
            raise invalid(_BAD, f"line {line}: the header has no column {shown(absent[0])}, which `numbers` names")
        unnamed = tuple(column for column, name in enumerate(names) if not name)
        return cls(options, names, [], unnamed, not (options.trim or options.numbers or unnamed))

    def record(self, line: int, index: int, cells: list[str]) -> dict[str, Any]:
        names = self.names or self._numbered(len(cells))
        if len(cells) != len(names):
            few = "only " if len(cells) < len(names) else ""
            found = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
            detail = f"line {line}: {few}{found} where the header has {len(names)}"
            hint = f"a cell that holds `{self.options.delimiter}` must be quoted" if not few else ""
            raise invalid(_BAD, detail, at=(index,), hint=hint)
        if self.plain:
            return dict(zip(names, cells, strict=True))
        for column in self.unnamed:
            if cells[column].strip():
                detail = f"line {line}: cell {column + 1} is {shown(cells[column])}, but its column has no name"
                raise invalid(_BAD, detail, at=(index,))
        if self.options.trim:
            cells = [cell.strip() for cell in cells]
        record: dict[str, Any] = {name: cell for name, cell in zip(names, cells, strict=True) if name}
        for name in self.options.numbers:
            if name in record:
                record[name] = self._number(record[name], line, (index, name))
        return record

    def _numbered(self, width: int) -> tuple[str, ...]:
        if not self.widths:
            self.widths.append(width)
        return tuple(f"c{number}" for number in range(1, self.widths[0] + 1))

    def _number(self, cell: str, line: int, at: tuple[int, str]) -> Any:
        if not cell.strip():
            return None
        try:
            return parse_decimal(cell, self.options.decimal)
        except ValueError as error:
            raise invalid(_BAD, f"line {line}: {at[1]} {shown(cell)} is {error}", at=at) from None


def _at(node: Node, name: str) -> Node:
    return (node.get(name) if isinstance(node, MapNode) else None) or node
