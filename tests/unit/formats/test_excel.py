"""Excel: rows by their header, exact or refused numbers, texts that stay texts, workbooks that are none."""

from __future__ import annotations

import io
import sys
import types
import zipfile
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
import xlsxwriter

from esb.errors import Invalid
from esb.formats import excel
from esb.formats.excel import Excel


def workbook(*rows: tuple[Any, ...], sheets: tuple[str, ...] = ("One",)) -> bytes:
    out = io.BytesIO()
    with xlsxwriter.Workbook(out, {"in_memory": True}) as book:
        dated = book.add_format({"num_format": "yyyy-mm-dd hh:mm"})
        for name in sheets:
            sheet = book.add_worksheet(name)
            for index, row in enumerate(rows):
                for column, cell in enumerate(row):
                    if isinstance(cell, datetime):
                        sheet.write_datetime(index, column, cell, dated)
                    else:
                        sheet.write(index, column, cell)
    return out.getvalue()


def refused(data: bytes, **options: Any) -> Invalid:
    with pytest.raises(Invalid) as caught:
        Excel(**options).decode(data)
    return caught.value


def test_rows_by_their_header() -> None:
    data = workbook(
        ("lot", "qty", "ok", "at", "note"),
        ("0012", 12.1, True, datetime.fromisoformat("2026-01-02"), None),
        ("0013", 3, False, datetime.fromisoformat("2026-01-02T03:04"), "x"),
    )
    assert Excel().decode(data) == [
        {"lot": "0012", "qty": Decimal("12.1"), "ok": True, "at": "2026-01-02", "note": None},
        {"lot": "0013", "qty": 3, "ok": False, "at": "2026-01-02T03:04:00", "note": "x"},
    ]


def test_what_is_written_is_read() -> None:
    rows = [{"lot": "0012", "qty": Decimal("12.5"), "n": 7, "f": "=1+1", "url": "http://x", "none": None, "ok": True}]
    assert Excel().decode(Excel().encode(rows)) == rows
    assert Excel(sheet="Results", header_row=3).decode(Excel(sheet="Results", header_row=3).encode(rows)) == rows


def test_blank_rows_and_unnamed_columns_are_left_out() -> None:
    assert Excel().decode(workbook(("a", "", "b"), (1, "x", 2), (), (3, "y", 4))) == [
        {"a": 1, "b": 2},
        {"a": 3, "b": 4},
    ]


def test_a_sheet_by_its_name() -> None:
    data = workbook(("a",), (1,), sheets=("One", "Two"))
    assert Excel(sheet="Two").decode(data) == [{"a": 1}]
    error = refused(data, sheet="Three")
    assert "no sheet 'Three'" in error.message
    assert "One, Two" in error.hint


@pytest.mark.parametrize("data", [b"", b"lot;qty\n", b"PK\x03\x04garbage", b"\xd0\xcf\x11\xe0" + b"\0" * 600])
def test_what_is_no_workbook_is_refused(data: bytes) -> None:
    assert "not a readable Excel workbook" in refused(data).message


def test_a_bomb_is_refused_before_it_is_opened() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", b"0" * (excel.UNPACKED + 1))
    assert len(out.getvalue()) < 1_000_000
    assert "unpacks to" in refused(out.getvalue()).message


def test_two_columns_of_one_name_are_refused() -> None:
    assert "two columns are called 'a'" in refused(workbook(("a", "a"), (1, 2))).message


@pytest.mark.parametrize(
    ("rows", "words", "at"),
    [
        ([{"n": 12345678901234567891}], "not exact", "/0/n"),
        ([{"n": Decimal("0.12345678901234567891")}], "not exact", "/0/n"),
        ([{"n": {}}], "does not fit into a cell", "/0/n"),
        ([{"n": 1}, {"m": 1}], "is no column", "/1/m"),
        ("x", "not a list of objects", ""),
        ([{"n": "x" * 32768}], "at most 32767", "/0/n"),
    ],
)
def test_what_cannot_be_written_is_said(rows: Any, words: str, at: str) -> None:
    with pytest.raises(Invalid) as caught:
        Excel().encode(rows)
    assert words in caught.value.message
    assert caught.value.violations[0].pointer == at


def test_no_memory_is_no_fault_of_the_workbook(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker that reads it says what it needed."""

    def without_memory(_: Any) -> None:
        raise MemoryError

    book = types.SimpleNamespace(from_filelike=without_memory)
    monkeypatch.setitem(sys.modules, "python_calamine", types.SimpleNamespace(CalamineWorkbook=book))
    with pytest.raises(MemoryError):
        Excel().decode(workbook(("lot",)))


class PanicException(BaseException):
    """What PyO3 makes of the death of a library in Rust."""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("PyObject pointer is null", MemoryError),
        ("Python API call failed", MemoryError),
        ("index out of bounds: the len is 3", Invalid),
    ],
)
def test_a_panic_of_the_reader_is_the_workbooks_or_the_memorys(
    monkeypatch: pytest.MonkeyPatch, words: str, expected: type[Exception]
) -> None:
    def panics(_: Any) -> None:
        raise PanicException(words)

    book = types.SimpleNamespace(from_filelike=panics)
    monkeypatch.setitem(sys.modules, "python_calamine", types.SimpleNamespace(CalamineWorkbook=book))
    with pytest.raises(expected):
        Excel().decode(workbook(("lot",)))
