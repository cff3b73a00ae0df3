"""`on_item_error: quarantine`: good rows go on, bad rows are reported, and too many of them stop the whole before anything is sent."""

from __future__ import annotations

import asyncio
import csv
import io
from pathlib import Path
from typing import Any

import pytest

from esb import failpoints
from esb.config.loader import load_workspace
from esb.errors import StoreError, Unavailable

from .conftest import ProbeTarget, Start, TestBus, write

CONTRACT = """{
  "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "required": ["PO", "Charge"],
  "properties": { "PO": { "type": "string", "pattern": "^45[0-9]{2}$" }, "Charge": { "type": "string", "minLength": 1 } }
}"""
STEPS = """
retry: { max: 3, backoff: 1s, jitter: none }
steps:
  - split:
      each: body
      key: "join('-', [body.PO, body.Line])"
      on_item_error: quarantine
      max_bad: MOST
      steps:
        - validate: asn-row.v1
        - map: { po: body.PO, lot: body.Charge, qty: "number(body.Menge, 'de-DE')" }
        - to: { probe: bus }
"""
FILE = """
  file:
    path: in/*.csv
    every: 1m
    ready: { stable_for: 0s }
    done: { move: ../archive/ }
    failed: { move: ../rejected/, report: errors.csv }
    format: { csv: { delimiter: ";", encoding: cp1252 } }
"""
GOOD = ["4501;10;L1;1.200,5", "4502;10;L2;3", "4503;20;Größe;7"]
BAD = ["99;10;;1", "4504;10;L4;=zwei"]


def files(source: str, most: str = "50%") -> dict[str, str]:
    route = f"route: r\nfrom: {source}{STEPS.replace('MOST', most)}"
    return {"routes/r.yaml": route, "schemas/asn-row.v1.json": CONTRACT}


def content(*rows: str) -> bytes:
    return "\r\n".join(["PO;Line;Charge;Menge", *rows, ""]).encode("cp1252")


async def drop(bus: TestBus, name: str, *rows: str) -> None:
    """Put a file into the inbox and let the bus take it."""
    inbox = bus.root / "in"
    inbox.mkdir(exist_ok=True)
    (inbox / name).write_bytes(content(*rows))
    source: Any = bus.supervisor.routes["r"].source
    for _ in range(2):  # seen, then stable
        await source.poll_once()
        bus.clock.advance(1)
    await bus.settle()


def rows_of(report: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(report.read_text("cp1252")), delimiter=";"))


def test_good_rows_go_on_and_bad_ones_are_reported_beside_the_rejected_files(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        async with start(files(FILE)) as bus:
            await drop(bus, "asn.csv", GOOD[0], BAD[0], *GOOD[1:], BAD[1])
            assert sorted(body["po"] for body in probe.bodies("bus")) == ["4501", "4502", "4503"]
            assert str(next(body for body in probe.bodies("bus") if body["po"] == "4501")["qty"]) == "1200.5"
            assert (bus.root / "archive/asn.csv").exists()
            report = bus.root / "rejected/asn.csv.errors.csv"
            first, second = rows_of(report)
            assert list(first) == ["PO", "Line", "Charge", "Menge", "row", "code", "pointer", "message"]
            assert (first["PO"], first["row"], first["code"], first["pointer"]) == ("99", "2", "invalid", "/Charge")
            assert "/PO: " in first["message"], "every violation is told"
            assert (second["PO"], second["row"], second["Menge"]) == ("4504", "5", "'=zwei"), (
                "no formula in a spreadsheet"
            )
            assert second["code"] in ("invalid", "internal")
            whole, *rest = bus.messages(route="r")
            assert whole.state == "done"
            told = bus.store.get(whole.envelope.id)
            assert told is not None
            shown = next(step for step in told.trace if step["step"] == "split")
            assert (shown["items"], shown["bad"]) == (5, 2)
            assert [row["row"] for row in shown["report"]] == [2, 5]
            kept = next(one for one in rest if one.envelope.scope == "split/report")
            assert kept.reason == f"2 bad of 5: {report}"
            bus.whole()

    asyncio.run(go())


def test_rows_that_cannot_be_read_are_bad_rows_like_others(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        async with start(files(FILE)) as bus:
            await drop(bus, "asn.csv", GOOD[0], "4502;10;L2", "4503;20;L3;7;more;yet", *GOOD[1:])
            assert sorted(body["po"] for body in probe.bodies("bus")) == ["4501", "4502", "4503"]
            short, long_ = rows_of(bus.root / "rejected/asn.csv.errors.csv")
            assert (short["PO"], short["row"], short["message"]) == (
                "4502", "2", "line 3: only 3 cells where the header has 4",
            )  # fmt: skip
            assert (long_["Menge"], long_["(more)"], long_["row"]) == ("7", "more;yet", "3")
            await drop(bus, "open.csv", GOOD[0], '4502;"10;L2;1')
            assert bus.messages(route="r")[-1].state == "dead", "what swallows the rows behind it spoils the whole"
            bus.whole()

    asyncio.run(go())


def test_too_many_bad_rows_refuse_the_whole_before_anything_is_sent(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        async with start(files(FILE, "1")) as bus:
            await drop(bus, "asn.csv", *GOOD, *BAD)
            assert probe.got == []
            whole, report = bus.messages(route="r")
            assert (whole.state, whole.error.error_class) == ("dead", "invalid")
            assert whole.error.message.startswith("2 of 5 items are bad")
            assert [violation.pointer for violation in whole.error.violations] == ["/3/Charge", "/4/Menge"]
            assert report.state == "done"
            assert (bus.root / "rejected/asn.csv").read_bytes() == content(*GOOD, *BAD), (
                "the file lies beside its report"
            )
            assert [row["row"] for row in rows_of(bus.root / "rejected/asn.csv.errors.csv")] == ["4", "5"]
            await drop(bus, "asn.csv", *GOOD)  # corrected and sent again
            assert len(probe.bodies("bus")) == 3
            bus.whole()

    asyncio.run(go())


def test_other_sources_keep_the_report_in_a_message(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        async with start(files("{ route: {} }\n", "100%")) as bus:
            await bus.send("r", [{"PO": "4501", "Line": "1", "Charge": "a", "Menge": "1"}, {"PO": 1}, {"PO": "4502"}])
            await bus.settle()
            assert len(probe.got) == 1
            kept = next(one for one in bus.messages(route="r") if one.envelope.scope == "split/report")
            assert (kept.state, kept.reason, kept.envelope.parent_id) == (
                "done",
                "2 bad of 3",
                bus.messages()[0].envelope.id,
            )
            envelope, _ = bus.store.payload(kept.envelope.seq)
            assert b'"row":2,"code":' in envelope.body
            assert b'"item":{"PO":1}' in envelope.body

    asyncio.run(go())


def test_a_report_is_not_for_the_fallbacks_of_the_route(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        route = files(FILE)
        route["routes/r.yaml"] += (
            "when_down: { fallback: [ { to: { probe: instead } } ] }\n"
            "on_error: [ { for: any, steps: [ { to: { probe: rescue } } ] } ]\n"
        )
        async with start(route) as bus:
            (bus.root / "rejected").write_text("no folder")
            await drop(bus, "asn.csv", *GOOD, BAD[0])
            for _ in range(6):
                await bus.advance(10)
            assert {got.to for got in probe.got} == {"bus"}
            assert [one.state for one in bus.messages() if one.envelope.scope == "split/report"] == ["dead"]
            bus.whole()

    asyncio.run(go())


def test_a_report_waits_for_its_place_and_outlives_a_restart(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        async with start(files(FILE)) as bus:
            (bus.root / "rejected").write_text("no folder")
            await drop(bus, "asn.csv", *GOOD, BAD[0])
            assert [one.state for one in bus.messages() if one.envelope.scope == "split/report"] == ["waiting"]
            (bus.root / "rejected").unlink()
            clock = bus.clock
        async with start(clock=clock) as bus:
            await bus.advance(60)
            assert len(rows_of(bus.root / "rejected/asn.csv.errors.csv")) == 1
            assert len(probe.got) == 3
            bus.whole()

    asyncio.run(go())


async def pass_time(bus: TestBus) -> None:
    """Some seconds: what the store could not take is tried again."""
    for _ in range(40):
        bus.clock.advance(0.25)
        for _ in range(15):
            await asyncio.sleep(0)


@pytest.mark.parametrize("most", ["100%", "0"])
@pytest.mark.parametrize("fault", ["store.commit_error", "store.after_commit"])
@pytest.mark.parametrize("nth", [2, 3])
def test_a_fault_of_any_commit_sends_each_good_row_once_or_none(
    start: Start, probe: ProbeTarget, monkeypatch: pytest.MonkeyPatch, most: str, fault: str, nth: int
) -> None:
    items = [{"PO": f"450{n}", "Line": "1", "Charge": "a", "Menge": "1"} for n in range(3)]

    async def go() -> None:
        async with start(files("{ route: {} }\n", most)) as bus:
            points = failpoints.Failpoints.read({"ESB_TEST": "1", "ESB_FAILPOINTS": f"{fault}=error@{nth}"})
            monkeypatch.setattr(failpoints, "_PROCESS", points)
            for _ in range(3):
                try:
                    await bus.send("r", [*items, {"PO": "bad"}], source_key="once")
                    break
                except StoreError:
                    await pass_time(bus)
            await pass_time(bus)
            clock = bus.clock
        async with start(clock=clock) as bus:
            await pass_time(bus)
            assert len({got.id for got in probe.got}) == (3 if most == "100%" else 0)
            assert len([one for one in bus.messages() if one.envelope.scope == "split/report"]) == 1
            bus.whole()

    asyncio.run(go())


def test_an_item_that_a_target_refuses_or_that_waits_is_not_set_aside(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        probe.script["bus"] = [Unavailable("down")]
        async with start(files("{ route: {} }\n", "0")) as bus:
            await bus.send("r", [{"PO": "4501", "Line": "1", "Charge": "a", "Menge": "1"}])
            await bus.settle()
            assert bus.states("r") == ["done", "waiting"]
            await bus.reload()
            await bus.advance(5)
            assert bus.states("r") == ["done", "done"]

    asyncio.run(go())


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ("max_bad: 5%", "ESB115"),
        ("on_item_error: quarantine, max_bad: 120%", "ESB106"),
        ("on_item_error: quarantine, max_bad: -1", "ESB106"),
        ("on_item_error: quarantine, max_bad: 0.5", "ESB103"),
        ("on_item_error: quarantine, max_bad: few", "ESB106"),
        ("on_item_error: skip", "ESB105"),
    ],
)
def test_what_makes_no_sense_is_an_error(tmp_path: Path, options: str, code: str) -> None:
    route = f"route: r\nfrom: {{ route: {{}} }}\nsteps: [ {{ split: {{ each: body, steps: [ {{ log: x }} ], {options} }} }} ]\n"
    write(tmp_path, {"routes/r.yaml": route})
    _, problems = load_workspace(tmp_path)
    assert [problem.code for problem in problems] == [code]
