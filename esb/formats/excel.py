"""Excel workbooks: a sheet as a list of objects, read by calamine and written by XlsxWriter (extra ``excel``)."""

from __future__ import annotations

import importlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, ClassVar

from esb.errors import Invalid
from esb.formats.faults import invalid, shown
from esb.formats.numbers import BOUND, in_bounds
from esb.registry import format_
from esb.spec import option

_BAD = "the body is not a readable Excel workbook"
_UNWRITABLE = "the body cannot be written as an Excel workbook"
#: what PyO3 says where it got no object of Python
_NO_MEMORY = ("pointer is null", "API call failed")
#: a workbook that unpacks to more is refused before it is opened
UNPACKED = 200_000_000
#: whole numbers beyond this are not exact in a spreadsheet (IEEE 754 double)
EXACT = 2**53


@format_("excel")
@dataclass(frozen=True, slots=True)
class Excel:
    """One sheet of an Excel workbook as a list of objects, one for each row, by the names of its header.

    Numbers are the shortest decimal that the cell's binary number stands for (`12.1`; a spreadsheet does not keep the zero of `12.10`,
    and digits beyond the fifteenth are not exact); texts stay texts (`0012`); dates are ISO 8601 texts, empty cells null. Formulas give their stored
    result. Reads xlsx, xlsm, xlsb, xls and ods; writes xlsx, texts as texts, never as formulas. A workbook is read as a whole, in a worker
    process: up to `limits.in_memory` (100 MB), 200 MB when it is unpacked, within `limits.transform_memory` (512 MB) and `limits.transform` (5 s).
    There is no reading it row by row, so let a partner send one of more than about a million cells as CSV. Needs `pip install 'plantbus[excel]'`.
    """

    content_type: ClassVar[str] = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    media_types: ClassVar[tuple[str, ...]] = (
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "application/vnd.ms-excel",
        "application/vnd.oasis.opendocument.spreadsheet",
    )
    suffixes: ClassVar[tuple[str, ...]] = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
    #: also a small one is never read on the loop: its size does not say what it unpacks to
    apart: ClassVar[bool] = True

    sheet: str = option(default="", doc="Name of the sheet; the first one without it.", example="Results")
    header_row: int = option(default=1, doc="Row of the column names.", example=3, minimum=1)
    columns: tuple[str, ...] = option(
        default=(), doc="Columns to write, in this order; else those of the first record.", example="[lot, status]"
    )

    def decode(self, data: bytes) -> list[dict[str, Any]]:
        """The rows. Raises Invalid for a file that is no workbook, a missing sheet or a broken header."""
        _check_size(data)
        calamine = _driver("python_calamine")
        try:
            book = calamine.CalamineWorkbook.from_filelike(io.BytesIO(data))
            name = self.sheet or (book.sheet_names[0] if book.sheet_names else "")
            if name not in book.sheet_names:
                known = ", ".join(book.sheet_names) or "none"
                raise invalid(_BAD, f"it has no sheet {shown(name)}", hint=f"its sheets: {known}")
            rows = book.get_sheet_by_name(name).to_python(skip_empty_area=False)
        except (Invalid, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - calamine raises its own errors and those of the formats below it
            raise invalid(_BAD, str(error) or type(error).__name__) from None
        except BaseException as error:
            if type(error).__name__ != "PanicException":
                raise
            # how a library in Rust dies, past every `except Exception`: of the workbook, or as Python had no memory for an object
            if any(words in str(error) for words in _NO_MEMORY):
                raise MemoryError from None
            raise invalid(_BAD, f"its reader gives up on it: {error}") from None
        return self._records(rows)

    def encode(self, body: Any) -> bytes:
        """The workbook. Raises Invalid for a record with an unknown column, a nested value or an inexact number."""
        records = [body] if isinstance(body, Mapping) else body
        if not isinstance(records, (list, tuple)) or not all(isinstance(record, Mapping) for record in records):
            raise invalid(_UNWRITABLE, f"it is {shown(body)}, not a list of objects")
        names = self.columns or tuple(records[0] if records else ())
        xlsxwriter = _driver("xlsxwriter")
        out = io.BytesIO()
        book = xlsxwriter.Workbook(out, {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False})
        sheet = book.add_worksheet(self.sheet or None)
        for column, name in enumerate(names):
            sheet.write_string(self.header_row - 1, column, name)
        for index, record in enumerate(records):
            if unknown := [name for name in record if name not in names]:
                hint = "name it in `columns`, or leave it out of the `map`"
                detail = f"record {index + 1} has {shown(unknown[0])}, which is no column"
                raise invalid(_UNWRITABLE, detail, at=(index, unknown[0]), hint=hint)
            for column, name in enumerate(names):
                _write(sheet, self.header_row + index, column, record.get(name), (index, name))
        book.close()
        return out.getvalue()

    def _records(self, rows: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
        if len(rows) < self.header_row:
            raise invalid(_BAD, f"it has no row {self.header_row} for the header")
        names = [str(_value(cell, (0, 0)) or "").strip() for cell in rows[self.header_row - 1]]
        for column, name in enumerate(names):
            if name and name in names[:column]:
                raise invalid(_BAD, f"two columns are called {shown(name)}")
        records = []
        for number, row in enumerate(rows[self.header_row :], self.header_row + 1):
            record = {name: _value(cell, (number, name)) for name, cell in zip(names, row, strict=False) if name}
            if any(value is not None for value in record.values()):
                records.append(record)
        return records


def _check_size(data: bytes) -> None:
    if data[:2] != b"PK":
        return
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except zipfile.BadZipFile as error:
        raise invalid(_BAD, str(error)) from None
    if size > UNPACKED:
        raise invalid(_BAD, f"it unpacks to {size} bytes; at most {UNPACKED} are read")


def _driver(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        hint = "install it on the bus: pip install 'plantbus[excel]'"
        raise Invalid(f"Excel files need the Python package {name.replace('_', '-')}", hint=hint) from None


def _value(cell: Any, at: tuple[int, int | str]) -> Any:
    match cell:
        case bool():
            return cell
        case "" | None:
            return None
        case str() | int():
            return cell
        case float():
            number = Decimal(repr(cell))
            if not number.is_finite():
                raise invalid(_BAD, f"row {at[0]}: {at[1]} is no number", at=at)
            return int(number) if number == number.to_integral_value() and abs(number) < EXACT else number
        case datetime():
            return cell.isoformat() if cell.time() != time() else cell.date().isoformat()
        case date() | time():
            return cell.isoformat()
        case timedelta():
            return Decimal(str(cell.total_seconds()))
    raise invalid(_BAD, f"row {at[0]}: {at[1]} holds a {type(cell).__name__}", at=at)


def _write(sheet: Any, row: int, column: int, value: Any, at: tuple[int, str]) -> None:
    match value:
        case None:
            return
        case bool():
            sheet.write_boolean(row, column, value)
        case str():
            if len(value) > 32767:
                raise invalid(_UNWRITABLE, f"a cell holds at most 32767 characters, not {len(value)}", at=at)
            sheet.write_string(row, column, value)
        case int() | Decimal():
            if not in_bounds(value):
                raise invalid(_UNWRITABLE, BOUND, at=at)
            if Decimal(repr(float(value))) != Decimal(value):
                hint = "write it as a text"
                raise invalid(_UNWRITABLE, f"{value} is not exact in a spreadsheet", at=at, hint=hint)
            sheet.write_number(row, column, value)
        case _:
            raise invalid(_UNWRITABLE, f"{shown(value)} does not fit into a cell", at=at)
