"""Workbooks are read in a worker process, however small they are: what they unpack to is bounded there, and harms nobody."""

from __future__ import annotations

import asyncio
import io
import re
import zipfile
from typing import Any

import pytest
import xlsxwriter

from esb.endpoints.base import Incoming
from esb.errors import Invalid
from esb.formats.excel import Excel

from .test_workers import Start, Working
from .test_workers import working as working  # noqa: PLC0414 - a fixture

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

ROUTES = """
route: sheets
key: body[0].lot
from: { http: { path: /sheets, format: excel } }
steps: [ { filter: "length(body) > `0`" }, { map: { lots: "body[].lot" } }, { respond: {} } ]
---
route: nameless
from: { file: { path: "in/*", every: 1h } }
steps: [ { map: { lots: "body[].lot" } }, { respond: {} } ]
---
route: quick
from: { route: {} }
steps: [ { map: { no: body.no } }, { respond: {} } ]
"""


def workbook(*lots: str) -> bytes:
    out = io.BytesIO()
    with xlsxwriter.Workbook(out, {"in_memory": True}) as book:
        sheet = book.add_worksheet()
        for row, lot in enumerate(("lot", *lots)):
            sheet.write_string(row, 0, lot)
    return out.getvalue()


def inflated(data: bytes, change: Any) -> bytes:
    """The workbook with another first sheet."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, change(content) if name.endswith("sheet1.xml") else content)
    return out.getvalue()


def far(sheet: bytes) -> bytes:
    """One more cell, at the far corner: 17 thousand million cells."""
    cell = b'<row r="1048576"><c r="XFD1048576"><v>1</v></c></row></sheetData>'
    return re.sub(rb'<dimension ref="[^"]*"/>', b'<dimension ref="A1:XFD1048576"/>', sheet).replace(
        b"</sheetData>", cell
    )


def dense(sheet: bytes) -> bytes:
    """Many rows that are one and the same: a small file, and far more values than memory is given."""
    row = b'<row><c t="str"><v>%s</v></c></row>' % (b"x" * 40)
    return sheet.replace(b"</sheetData>", row * 400_000 + b"</sheetData>")


async def send(bus: Working, route: str, data: bytes, **more: Any) -> Any:
    codec = Excel() if route == "sheets" else None
    receipt = await bus.supervisor.routes[route].intake.accept(Incoming(data, codec=codec, **more))
    return await bus.end(route, receipt.message_id)


def test_a_small_workbook_is_read_in_a_worker(working: Start) -> None:
    async def scenario() -> None:
        async with working(ROUTES, "{ transform: 60s }") as bus:
            assert (await send(bus, "sheets", workbook("L1", "L2"))).response == (200, {}, {"lots": ["L1", "L2"]})
            data = workbook("L3")
            assert len(data) < 50_000
            outcome = await send(bus, "nameless", data, meta={"file_name": "a.xlsx"})
            assert outcome.response == (200, {}, {"lots": ["L3"]})
            for stored in bus.messages():
                assert stored.trace[0].get("worker"), stored.trace
            assert [stored.envelope.key for stored in bus.messages()] == ["L1", None]

    asyncio.run(scenario())


@pytest.mark.parametrize("change", [far, dense])
def test_what_a_workbook_unpacks_to_is_bounded_and_the_bus_goes_on(working: Start, change: Any) -> None:
    async def scenario() -> None:
        async with working(ROUTES, "{ transform: 60s, transform_memory: 64MB, workers: 1 }") as bus:
            data = inflated(workbook("L1"), change)
            assert len(data) < 2_000_000
            for refuse in (False, True):
                words = "needs more than 64000000 bytes of memory"
                if refuse:
                    with pytest.raises(Invalid, match=words):
                        await send(bus, "sheets", data, on_invalid="refuse")
                    continue
                outcome = await send(bus, "sheets", data)
                assert outcome.state == "dead"
                assert re.search(words, outcome.error["message"]), outcome.error
            assert (await bus.run("quick", {"no": 1})).response == (200, {}, {"no": 1})

    asyncio.run(scenario())
