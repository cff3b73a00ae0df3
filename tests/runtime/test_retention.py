"""What is kept: by state, class and size, with payloads going first, an export before anything goes, and holds that keep."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from esb.config.loader import load_workspace
from esb.errors import Rejected, StoreBusy
from esb.operations import Who
from esb.runtime.housekeeping import Housekeeping
from esb.store.base import AuditEntry, Filter
from esb.store.values import micros
from tests.runtime.conftest import write

WHO = Who("tester", "because")
ROUTES = """
route: holds
criticality: release-blocking
track: { lot: body.lot }
from: { route: {} }
steps: [ { to: { probe: erp } } ]
---
route: readings
track: { lot: body.lot }
from: { route: {} }
steps: [ { to: { probe: mes } } ]
"""
SETTINGS = "criticality: { release-blocking: {} }\nretention: { %s }\n"


async def keep_house(bus: Any, **more: Any) -> list[dict[str, Any]]:
    logs: list[dict[str, Any]] = []
    workspace = bus.supervisor.workspace
    classes = {spec.name: spec.criticality for spec in workspace.routes.values()}
    log: Any = lambda level, event, **fields: logs.append({"event": event, **fields})  # noqa: E731 - all that it does
    house = Housekeeping(bus.store, bus.clock, workspace.settings, log, root=bus.root, classes=classes, **more)
    await house.round()
    await bus.settle()
    bus.whole()
    return logs


async def fill(bus: Any, *lots: str) -> None:
    for lot in lots:
        for route in ("holds", "readings"):
            await bus.send(route, {"lot": lot, "text": "x" * 100})
    await bus.settle()


def left(bus: Any) -> list[tuple[str, str]]:
    return sorted((one.envelope.route, one.envelope.track["lot"]) for one in bus.messages())


def files(retention: str) -> dict[str, str]:
    return {"esb.yaml": SETTINGS % retention, "routes/a.yaml": ROUTES}


def hold(lot: str, action: str = "hold.place") -> tuple[str, str, AuditEntry]:
    return "lot", lot, AuditEntry("mia", action, f"lot={lot}", "complaint 17")


def test_each_class_has_its_own_ages_and_a_hold_beats_all_of_them(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        ages = "done: 1d, dead: 2d, classes: { release-blocking: { done: 10d, dead: forever } }"
        async with start(files(ages)) as bus:
            probe.script["mes"] = [Rejected("never")]
            probe.script["erp"] = [Rejected("never")]
            await fill(bus, "A", "B")  # A is dead on both routes
            assert await bus.store.holds.place(*hold("B"), micros(bus.clock.now()))
            assert not await bus.store.holds.place(*hold("B"), micros(bus.clock.now()))
            assert bus.store.holds.listed()[0]["messages"] == 2
            bus.clock.advance(timedelta(days=3))
            await keep_house(bus)
            assert left(bus) == [("holds", "A"), ("holds", "B"), ("readings", "B")]
            bus.clock.advance(timedelta(days=30))
            await keep_house(bus)
            assert left(bus) == [("holds", "A"), ("holds", "B"), ("readings", "B")]
            assert await bus.store.holds.lift(*hold("B", "hold.lift"), micros(bus.clock.now()))
            await keep_house(bus)
            assert left(bus) == [("holds", "A")]
            assert [entry["action"] for entry in bus.store.audit_entries()][-2:] == ["hold.place", "hold.lift"]

    asyncio.run(scenario())


def test_payloads_go_before_their_messages(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start(files("done: 30d, payload: 7d")) as bus:
            probe.script["erp"] = [Rejected("never")]
            await fill(bus, "A")
            assert await bus.store.holds.place(*hold("C"), micros(bus.clock.now()))
            await fill(bus, "B", "C")
            bus.clock.advance(timedelta(days=8))
            await fill(bus, "D")
            await keep_house(bus)
            stripped = {(one.envelope.route, one.envelope.track["lot"]): one.envelope.content == "removed" for one in bus.messages()}  # fmt: skip
            gone = [place for place, is_gone in stripped.items() if is_gone]
            assert sorted(gone) == [("holds", "B"), ("readings", "A"), ("readings", "B")]
            (one,) = bus.messages(track=(("lot", "B"),), route="holds")
            assert bus.store.payload(one.envelope.seq)[0].payload() == b""
            (answer,) = await bus.operations.replay(Filter(ids=(one.envelope.id,)), WHO)
            assert answer["why"] == "retention has taken its payload away"
            await bus.operations.retry(Filter(route="holds"), WHO)  # the dead one has its payload still
            await bus.settle()
            assert bus.states("holds")[0] == "done"
            bus.clock.advance(timedelta(days=5))
            await keep_house(bus)  # goes on where it stopped
            assert len(bus.messages()) == 8

    asyncio.run(scenario())


def test_what_goes_is_written_to_the_export_first_whole_and_once(start: Any) -> None:
    async def scenario() -> None:
        async with start(files("done: 1d, export: archive")) as bus:
            await fill(bus, *(f"L{n}" for n in range(150)))
            before = {one.envelope.id for one in bus.messages()}
            bus.clock.advance(timedelta(days=2))
            await keep_house(bus)
            assert bus.messages() == []
            (path,) = (bus.root / "archive").iterdir()
            lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
            assert {line["id"] for line in lines} == before
            assert len(lines) == 300
            assert json.loads(base64.b64decode(lines[0]["payload_base64"]))["lot"] == "L0"
            assert lines[0]["trace"][0]["target"] == "probe"
            assert path.stat().st_mode & 0o077 == 0

    asyncio.run(scenario())


def test_what_was_exported_can_be_read_where_files_are_text_unless_they_are_opened_as_bytes(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows: each line feed that is written to a descriptor of text becomes two bytes, also within what is compressed."""
    opening, writing, texts, as_bytes = os.open, os.write, set(), 1 << 28

    def opens(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        fd = opening(path, flags & ~as_bytes, *rest, **more)
        (texts.discard if flags & as_bytes else texts.add)(fd)
        return fd

    def writes(fd: int, data: bytes) -> int:
        if fd not in texts:
            return writing(fd, data)
        writing(fd, bytes(data).replace(b"\n", b"\r\n"))
        return len(data)

    for name, value in (("O_BINARY", as_bytes), ("open", opens), ("write", writes)):
        monkeypatch.setattr(os, name, value, raising=False)

    async def main() -> None:
        async with start(files("done: 1d, export: archive")) as bus:
            await fill(bus, *(f"L{n}" for n in range(150)))
            bus.clock.advance(timedelta(days=2))
            await keep_house(bus)
            (path,) = (bus.root / "archive").iterdir()
            assert len(gzip.decompress(path.read_bytes()).splitlines()) == 300

    asyncio.run(main())


def test_payloads_are_in_the_export_before_they_go(start: Any) -> None:
    async def scenario() -> None:
        async with start(files("done: 30d, payload: 7d, export: archive")) as bus:
            await fill(bus, *(f"L{n}" for n in range(150)))
            assert await bus.store.holds.place(*hold("L7"), micros(bus.clock.now()))
            bus.clock.advance(timedelta(days=8))
            await keep_house(bus)
            assert sum(one.envelope.content == "removed" for one in bus.messages()) == 298
            (path,) = (bus.root / "archive").iterdir()
            lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
            assert len(lines) == len({line["id"] for line in lines}) == 298, "not what is held"
            lots = {json.loads(base64.b64decode(line["payload_base64"]))["lot"] for line in lines}
            assert lots == {f"L{n}" for n in range(150)} - {"L7"}
            await keep_house(bus)
            assert len(gzip.decompress(path.read_bytes()).splitlines()) == 298

    asyncio.run(scenario())


def test_nothing_goes_that_could_not_be_exported(start: Any) -> None:
    async def scenario() -> None:
        async with start(files("done: 1d, export: archive")) as bus:
            await fill(bus, "A")
            (bus.root / "archive").write_text("no folder")
            bus.clock.advance(timedelta(days=2))
            with pytest.raises(OSError, match="archive"):
                await keep_house(bus)
            assert len(bus.messages()) == 2

    asyncio.run(scenario())


def test_a_store_over_its_size_loses_the_oldest_and_then_takes_nothing_new(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start(files("done: 365d, max_size: 2300KB")) as bus:
            probe.script["erp"] = [Rejected("never")] * 200
            for n in range(200):
                await bus.send("readings", {"lot": f"R{n}", "text": "x" * 4000})
            await bus.settle()
            assert await bus.store.holds.place(*hold("R0"), micros(bus.clock.now()))
            await bus.send("readings", {"lot": "R0", "text": "kept"})
            await bus.settle()
            assert bus.store.used_bytes() < 2_300_000
            for n in range(100):
                await bus.send("readings", {"lot": f"S{n}", "text": "x" * 8000})
            await bus.settle()
            bus.clock.advance(timedelta(seconds=1))
            logs = await keep_house(bus)
            assert bus.store.used_bytes() <= 2_300_000
            assert [record["event"] for record in logs] == ["retention.max_size"]
            lots = [one.envelope.track["lot"] for one in bus.messages(route="readings")]
            assert lots[0] == "R0"  # it is held
            assert lots[-1] == "S99"
            assert "R1" not in lots
            for n in range(200):  # dead letters are never removed for room
                await bus.send("holds", {"lot": f"D{n}", "text": "x" * 12000})
            await bus.settle()
            logs = await keep_house(bus)
            assert (logs[-1]["event"], bus.store.full) == ("store.full", True)
            with pytest.raises(StoreBusy):
                await bus.send("readings", {"lot": "T"})
            await bus.operations.discard(Filter(route="holds", limit=10_000), WHO)
            bus.clock.advance(timedelta(seconds=1))
            await keep_house(bus)
            assert not bus.store.full
            await bus.send("readings", {"lot": "T"})

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("max_size: 20", "ESB111"),
        ("classes: { release-blocking: { don: 1d } }", "ESB101"),
        ("classes: { release-blocking: 1d }", "ESB103"),
        ("export: 5", "ESB103"),
        ("done: soon", "ESB104"),
    ],
)
def test_faults_are_reported(tmp_path: Path, text: str, code: str) -> None:
    write(tmp_path, {"esb.yaml": SETTINGS % text})
    _, problems = load_workspace(tmp_path)
    assert [problem.code for problem in problems if problem.severity == "error"] == [code]
