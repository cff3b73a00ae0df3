"""CSV as a list of objects: every cell is text unless its column is named in ``numbers``."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Annotated, Any, BinaryIO, ClassVar, Literal

from esb.errors import Invalid
from esb.formats.charset import Encoding, decode_text
from esb.formats.csv_write import write_csv
from esb.formats.faults import invalid, shown
from esb.formats.lines import text_lines
from esb.formats.numbers import parse_decimal
from esb.registry import format_
from esb.spec import Kind, ListNode, MapNode, Node, Reader, ScalarNode, option

_BAD = "the body is not valid CSV"
#: where a marked row says what is wrong with it
ERROR = "$error"
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
    bad_rows: Literal["refuse", "mark"] | None = option(
        default=None,
        doc="What a row with too few or too many cells, or a number that is none, means: the whole is refused, or (`mark`) the row is"
        " an item with what is wrong in `$error`, for a `split` with `on_item_error: quarantine`. Without it `mark` where such a"
        " split of the `body` is the first step of the route, else `refuse`.",
        example="mark",
    )
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
        text = self._text(data)
        with suppress(Invalid):  # what is wrong is told below, and of every row
            return list(self._quick(io.StringIO(text, newline="")))
        bad: list[Invalid] = []

        def note(line: int, cells: Sequence[str], error: Invalid) -> None:
            if len(bad) < LISTED:
                bad.append(error)

        records = [record for _, record in self._records(io.StringIO(text, newline=""), note)]
        if bad:
            violations = [violation for error in bad for violation in error.violations]
            raise Invalid(bad[0].message, hint=bad[0].hint, violations=violations[:LISTED])
        return records

    def records(self, data: bytes, on_bad: OnBad | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each record with the line that it starts on, one at a time.

        A bad row goes to ``on_bad`` and is left out; without ``on_bad`` it raises Invalid. What spoils the whole file (its
        encoding, its header) always raises.
        """
        return self._records(io.StringIO(self._text(data), newline=""), on_bad)

    def streams(self, path: tuple[str, ...]) -> bool:
        """The body itself is the list."""
        return not path

    def items(self, source: BinaryIO, path: tuple[str, ...]) -> Iterator[Any]:
        """The records one by one. Raises Invalid at the first bad row."""
        del path
        return self._quick(text_lines(source, self.encoding, _BAD))

    def marking(self, path: tuple[str, ...]) -> Csv | None:
        """The same that marks bad rows, where nothing else is said."""
        return replace(self, bad_rows="mark") if self.bad_rows is None and not path else None

    def _quick(self, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
        """The records, up to the first bad row, which is raised."""
        reader = self._reader(lines)
        layout: _Layout | None = None if self.header is True else _Layout.named(self, self.header)
        index, line = 0, 1
        while True:
            fault = None
            # what most rows are is read in one loop; it is left at a row that needs a look
            names, width = (layout.names or (), layout.width) if layout is not None and layout.plain else ((), -1)
            try:
                for cells in reader:
                    if len(cells) != width or not (first := cells[0]) or first.isspace():
                        break
                    line = reader.line_num + 1
                    yield dict(zip(names, cells))  # noqa: B905 - as many as there are names; `strict` would double its time
                    index += 1
                else:
                    break
            except csv.Error as error:
                cells, fault = [], _words(str(error))
            if layout is None and fault is None and not self._is_blank(cells):
                layout = _Layout.from_row(self, line, cells)
            elif fault is not None or not self._is_blank(cells):
                yield self._record(layout, line, index, cells, fault)
                index += 1
            line = reader.line_num + 1
        if layout is None:
            raise _empty()

    def _records(self, lines: Iterable[str], on_bad: OnBad | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
        layout: _Layout | None = None if self.header is True else _Layout.named(self, self.header)
        index = 0
        for line, cells, fault in self._rows(lines):
            if fault is None and self._is_blank(cells):
                continue
            if layout is None and fault is None:
                layout = _Layout.from_row(self, line, cells)
                continue
            try:
                record = self._record(layout, line, index, cells, fault)
            except Invalid as error:
                if on_bad is None or layout is None:
                    raise
                on_bad(line, cells, error)
            else:
                yield line, record
            index += 1
        if layout is None:
            raise _empty()

    def _is_blank(self, cells: list[str]) -> bool:
        return self.skip_blank and not "".join(cells).strip()

    def _record(
        self, layout: _Layout | None, line: int, index: int, cells: list[str], fault: str | None
    ) -> dict[str, Any]:
        """The record of a row, or with ``mark`` what is wrong with it. Raises Invalid."""
        if fault is not None or layout is None:
            raise invalid(_BAD, f"line {line}: {fault}", at=(index,))
        try:
            return layout.record(line, index, cells)
        except Invalid as error:
            if self.bad_rows != "mark":
                raise
            return layout.marked(cells, error)

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

    def _reader(self, lines: Iterable[str]) -> Any:
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quotechar=self.quote or None,
            quoting=csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
            skipinitialspace=self.trim,
            strict=True,
        )

    def _rows(self, lines: Iterable[str]) -> Iterator[tuple[int, list[str], str | None]]:
        """First line, cells and fault of every row."""
        reader = self._reader(lines)
        line = 1
        while True:
            try:
                for cells in reader:
                    yield line, cells, None
                    line = reader.line_num + 1
            except csv.Error as error:
                yield line, [], _words(str(error))
                line = reader.line_num + 1
            else:
                return


def _empty() -> Invalid:
    return invalid(_BAD, "it is empty", hint="even a file without records needs its header")


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

    @property
    def width(self) -> int:
        """Cells that a row must have; -1 where its first row says so."""
        return len(self.names) if self.names is not None else -1

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

    def marked(self, cells: list[str], error: Invalid) -> dict[str, Any]:
        """A row that cannot be read as it stands, with what is wrong."""
        names = self.names or self._numbered(len(cells))
        record: dict[str, Any] = {name: cell for name, cell in zip(names, cells, strict=False) if name}
        if len(cells) > len(names):
            record["(more)"] = self.options.delimiter.join(cells[len(names) :])
        fault = error.violations[0]
        _, _, pointer = fault.pointer.removeprefix("/").partition("/")
        return {**record, ERROR: {"message": fault.detail, "pointer": f"/{pointer}" if pointer else ""}}

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
