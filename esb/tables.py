"""Cross-reference tables: CSV files that translate one system's codes into another's."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Self

from esb.errors import ConfigError, InternalFault, Invalid, Position, Problem, Unmapped
from esb.formats.csv import Csv
from esb.formats.faults import shown
from esb.message import EMPTY

#: columns that say for whom and when a row holds; they are no values
SELECTORS = ("site", "valid_from", "valid_to")
#: keys that a hint looks through
_LOOKED_AT = 20_000


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table: its cells by column, and for whom and when it holds (both days included)."""

    line: int
    cells: Mapping[str, str]
    site: str
    start: date
    end: date

    @property
    def always(self) -> bool:
        return self.start == date.min and self.end == date.max

    def holds(self, on: date | None) -> bool:
        return on is None or self.start <= on <= self.end


@dataclass(frozen=True, slots=True)
class CsvTable:
    """A CSV file with a header: the first column is the key, the second the value, unless the file has more than that.

    Optional columns: ``site`` (a row for the plant that asks beats a row without a site), ``valid_from`` and ``valid_to`` (ISO
    dates, both included; empty is open, and a row without ``valid_to`` ends where the next one of its key begins). Keys are compared as text, exactly: ``0012`` is not ``12``.
    """

    name: str
    path: str
    key: str
    values: tuple[str, ...]
    rows: Mapping[str, tuple[Row, ...]]
    by_value: Mapping[tuple[str, str], tuple[Row, ...]]  #: (column, value) to rows, for :meth:`reverse`
    dated: bool = False  #: some of its rows hold for a time only

    @classmethod
    def read(cls, name: str, text: str, path: str, *, key: str = "") -> Self:
        """Read the text of a table; cells are set apart by ``,``, ``;`` or tab. ``key`` names the key column, if not the first.

        Raises ConfigError with every problem of the file, each with its line.
        """
        columns, rows = _Reading(path, text).read(key)
        by_key = _grouped((row.cells[columns[0]], row) for row in rows)
        by_value = _grouped(((column, row.cells[column]), row) for row in rows for column in columns[1:])
        dated = any(row.start > date.min or row.end < date.max for row in rows)
        return cls(name, path, columns[0], columns[1:], by_key, by_value, dated)

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.key, *self.values)

    def find(
        self, value: Any, *, column: str | None = None, site: Mapping[str, Any] = EMPTY, on: datetime | None = None
    ) -> Any:
        """The cell of ``column`` in the row of ``value``; without ``column`` the value, or the whole row where a table has
        more than two value columns.

        ``on`` is taken at its own calendar date; without it validity does not count, and the latest row wins (a message is asked
        for the day of its acceptance: `lookup` and `xref` see to it). Raises Unmapped
        that names table, value and the nearest keys, and InternalFault for a column that the table does not have.
        """
        if column is not None and column not in self.columns:
            raise self._no_column(column)
        text = _text(value, self.name)
        row = _pick(self.rows.get(text, ()), site, on)
        if row is None:
            raise self._unmapped(text, value, site, on)
        if column is not None:
            return row.cells[column]
        return dict(row.cells) if len(self.values) > 2 else row.cells[self.values[0]]

    def reverse(
        self, value: Any, *, column: str | None = None, site: Mapping[str, Any] = EMPTY, on: datetime | None = None
    ) -> str:
        """The key whose ``column`` (the first value column by default) is ``value``.

        Raises Unmapped where there is none, or more than one that holds equally.
        """
        column = column or self.values[0]
        if column not in self.values:
            raise self._no_column(column)
        text = _text(value, self.name)
        rows = self.by_value.get((column, text), ())
        keys = {row.cells[self.key]: row for row in _holding(rows, site, on)}
        if len(keys) == 1:
            return next(iter(keys))
        if keys:
            raise Unmapped(
                f"table {self.name}: {shown(text)} in `{column}` stands for several keys: {_listed(sorted(keys))}",
                hint="a table that is read backwards needs each value once",
            )
        known = {value for name, value in self.by_value if name == column}
        raise Unmapped(
            f"table {self.name}: no row has {shown(text)} in `{column}`{_for(site, on, bool(rows))}",
            hint=_nearest(text, known, self.path),
        )

    def _unmapped(self, text: str, value: Any, site: Mapping[str, Any], on: datetime | None) -> Unmapped:
        what = "null" if value is None else shown(text)
        elsewhere = text in self.rows
        message = f"table {self.name}: no row for {what}{_for(site, on, elsewhere)}"
        return Unmapped(message, hint="" if elsewhere else _nearest(text, self.rows, self.path))

    def _no_column(self, column: str) -> InternalFault:
        close = difflib.get_close_matches(column, self.columns, n=1)
        hint = f"did you mean `{close[0]}`?" if close else "it has: " + ", ".join(self.columns)
        return InternalFault(f"table {self.name} has no column `{column}`", hint=hint)


def _text(value: Any, table: str) -> str:
    """A key as the table writes it."""
    match value:
        case str():
            return value
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case Decimal():
            return format(value, "f")
    raise InternalFault(
        f"table {table}: {shown(value)} cannot be looked up", hint="the expression must give one text or number"
    )


def _site(site: Mapping[str, Any]) -> str:
    return str(site.get("plant") or site.get("id") or "")


def _holding(rows: Sequence[Row], site: Mapping[str, Any], on: datetime | None) -> list[Row]:
    """The rows that hold for ``site`` at ``on``: its own, or those of every site where it has none."""
    day = on.date() if on is not None else None
    place = _site(site)
    fitting = [row for row in rows if row.site in ("", place) and row.holds(day)]
    return [row for row in fitting if row.site] or fitting


def _pick(rows: Sequence[Row], site: Mapping[str, Any], on: datetime | None) -> Row | None:
    if len(rows) == 1 and not rows[0].site and (on is None or rows[0].always):
        return rows[0]
    fitting = _holding(rows, site, on)
    return max(fitting, key=lambda row: row.start) if fitting else None


def _for(site: Mapping[str, Any], on: datetime | None, elsewhere: bool) -> str:
    """Why a row that exists does not count."""
    if not elsewhere:
        return ""
    place = f" for site {_site(site)}" if _site(site) else " without a site"
    return place + (f" on {on.date().isoformat()}" if on is not None else "")


def _nearest(text: str, known: Mapping[str, Any] | set[str], path: str) -> str:
    names = [name for name, _ in zip(known, range(_LOOKED_AT), strict=False)]
    same = [name for name in names if text and name.strip().lstrip("0").lower() == text.strip().lstrip("0").lower()]
    if same:
        return f"the table has {_listed(same)}; keys are compared exactly, with zeros, spaces and case"
    close = difflib.get_close_matches(text, names, n=3, cutoff=0.6)
    if close:
        return f"nearest: {_listed(close)}; else add a row to {path}"
    return f"add a row to {path}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(shown(name) for name in names[:5]) + more


# -- reading -----------------------------------------------------------------------------------------------------------


class _Reading:
    """Reads one file and collects everything that is wrong with it."""

    def __init__(self, path: str, text: str) -> None:
        self._path, self._text = path, text.removeprefix("\ufeff")
        self._problems: list[Problem] = []

    def read(self, key: str) -> tuple[tuple[str, ...], list[Row]]:
        """The columns, the key first, and the rows. Raises ConfigError."""
        found = self._rows(key)
        if self._problems:
            raise ConfigError(sorted(self._problems, key=lambda problem: problem.position.line))
        return found

    def _rows(self, key: str) -> tuple[tuple[str, ...], list[Row]]:
        records = self._records()
        names = tuple(records[0][1]) if records else self._header()
        columns = tuple(name for name in names if name not in SELECTORS)
        if key and key not in columns:
            self._problem(1, f"there is no column `{key}`", "the header has: " + ", ".join(names))
            return columns, []
        columns = (key, *(name for name in columns if name != key)) if key else columns
        if len(columns) < 2:
            if not self._problems:
                hint = "the first row names the columns: a key, and what it stands for (`plant,werks`)"
                self._problem(1, "a table needs two columns", hint)
            return columns, []
        rows = [row for line, record in records if (row := self._row(line, record, columns)) is not None]
        rows = _ended(rows, columns[0])
        self._twice(rows, columns[0])
        return columns, rows

    def _records(self) -> list[tuple[int, dict[str, Any]]]:
        def bad(line: int, cells: Sequence[str], error: Invalid) -> None:
            self._problem(line, _without_line(error), error.hint)

        try:
            return list(Csv(delimiter=self._delimiter()).records(self._text.encode(), bad))
        except Invalid as error:
            detail = error.violations[0].detail
            line = int(detail[5:].split(":")[0]) if detail.startswith("line ") else 1
            self._problem(line, _without_line(error), error.hint)
            return []

    def _header(self) -> tuple[str, ...]:
        """The columns of a table without rows."""
        first = self._first_line()
        return tuple(name.strip().strip('"') for name in first.split(self._delimiter()) if name.strip())

    def _delimiter(self) -> str:
        return max(",;\t", key=self._first_line().count)

    def _first_line(self) -> str:
        return self._text.lstrip("\r\n").split("\n", 1)[0]

    def _row(self, line: int, record: Mapping[str, str], columns: tuple[str, ...]) -> Row | None:
        start = self._date(line, "valid_from", record, date.min)
        end = self._date(line, "valid_to", record, date.max)
        if start is None or end is None:
            return None
        if end < start:
            self._problem(line, f"valid_to {end} is before valid_from {start}", "both days are included")
        return Row(line, {name: record[name] for name in columns}, record.get("site", "").strip(), start, end)

    def _date(self, line: int, column: str, record: Mapping[str, str], default: date) -> date | None:
        text = record.get(column, "").strip()
        try:
            return date.fromisoformat(text) if text else default
        except ValueError:
            self._problem(line, f"{column} {shown(text)} is not a date", "write it like 2026-11-24, or leave it empty")
            return None

    def _twice(self, rows: Sequence[Row], key: str) -> None:
        seen: dict[tuple[str, str], list[Row]] = {}
        for row in rows:
            earlier = seen.setdefault((row.cells[key], row.site), [])
            other = next((one for one in earlier if one.start <= row.end and row.start <= one.end), None)
            if other is not None:
                site = f" for site {row.site}" if row.site else ""
                hint = "keep one of the rows, or give the newer one a valid_from (the older one ends there)"
                related = ((Position(self._path, other.line), "the same key"),)
                self._problem(row.line, f"the key {shown(row.cells[key])} stands twice{site}", hint, related)
            earlier.append(row)

    def _problem(self, line: int, message: str, hint: str = "", related: tuple[tuple[Position, str], ...] = ()) -> None:
        self._problems.append(Problem("ESB304", message, Position(self._path, line), hint=hint, related=related))


def _ended(rows: Sequence[Row], key: str) -> list[Row]:
    """The rows, one without ``valid_to`` ended by the next one of its key that begins later."""
    starts: dict[tuple[str, str], set[date]] = {}
    for row in rows:
        starts.setdefault((row.cells[key], row.site), set()).add(row.start)
    ended = []
    for row in rows:
        later = [start for start in starts[row.cells[key], row.site] if start > row.start]
        closed = row.end < date.max or not later
        ended.append(row if closed else replace(row, end=min(later) - timedelta(days=1)))
    return ended


def _without_line(error: Invalid) -> str:
    detail = error.violations[0].detail
    return detail.partition(": ")[2] if detail.startswith("line ") else detail


def _grouped(pairs: Iterator[tuple[Any, Row]]) -> dict[Any, tuple[Row, ...]]:
    groups: dict[Any, list[Row]] = {}
    for key, row in pairs:
        groups.setdefault(key, []).append(row)
    return {key: tuple(rows) for key, rows in groups.items()}
